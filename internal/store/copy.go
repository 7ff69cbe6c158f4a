package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ebb-compute/ebb/internal/fault"
)

// selectEpoch reads the installation's epoch. Who was never restored has no row.
const selectEpoch = "SELECT coalesce((SELECT value FROM site WHERE name = 'epoch'), 0)"

// revsOfEpoch is by how much revisions are higher than their epoch, which grows by
// one a second at least: nobody commits so fast.
const revsOfEpoch = 1 << 20

// Lock keeps servers from opening the store in dir, until release is called. A
// server that has it open is named in the [fault.Conflict].
func Lock(dir string) (release func() error, err error) {
	f, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// Copy writes the rows of the store in dir, as of one commit, into a folder. A
// server may have it open, and goes on writing.
func Copy(ctx context.Context, dir, to string) error {
	from := filepath.Join(dir, "ebb.db")
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	db, err := open(from, 1)
	if err != nil {
		return err
	}
	file := filepath.Join(to, "ebb.db")
	if err := keepPrivate(file); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", file)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, explain(err))
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// LastTerm reads the term of the last opening of the store in dir. It changes
// nothing, and asks for no lock.
func LastTerm(ctx context.Context, dir string) (term int64, err error) {
	file := filepath.Join(dir, "ebb.db")
	if _, err := os.Stat(file); err != nil {
		return 0, err
	}
	db, err := open(file, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRowContext(ctx, "SELECT value FROM site WHERE name = 'term'").Scan(&term); err != nil {
		return 0, fmt.Errorf("look at %s: %w", file, explain(err))
	}
	return term, nil
}

// Restored begins an epoch in a copy that is to take the place of a newer state. It
// must be higher than any term that there was: the terms of this epoch are above
// it, and so are the fences that are made of them. Nobody has the copy open.
func Restored(ctx context.Context, dir string, epoch int64) (err error) {
	db, err := open(filepath.Join(dir, "ebb.db"), 1, "synchronous(FULL)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return explain(err)
	}
	if verdict != "ok" {
		return fault.New(fault.Unavailable, dir, "the copy of the database is damaged: %s", verdict)
	}
	for _, set := range []struct {
		name  string
		value int64
	}{{"epoch", epoch}, {"term", epoch}, {"rev", epoch * revsOfEpoch}} { // rows' ETags are made of revisions
		_, err := db.ExecContext(ctx, "INSERT INTO site VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)", set.name, set.value)
		if err != nil {
			return explain(err)
		}
	}
	return nil
}
