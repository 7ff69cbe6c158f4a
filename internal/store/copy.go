package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

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

// Snapshot is a store's rows as of one commit, whatever is committed later.
type Snapshot struct {
	from string
	db   *sql.DB
	conn *sql.Conn // in a transaction
}

// Snap takes a snapshot of the store in dir, which is quick. A server may have it
// open, and goes on writing; its log grows until the snapshot is closed.
func Snap(ctx context.Context, dir string) (_ *Snapshot, err error) {
	s := &Snapshot{from: filepath.Join(dir, "ebb.db")}
	if _, err := os.Stat(s.from); err != nil {
		return nil, fmt.Errorf("copy the database: %w", err)
	}
	if s.db, err = open(s.from, 1); err != nil {
		return nil, err
	}
	if s.conn, err = s.db.Conn(ctx); err == nil {
		// A transaction begins with its first look. It is not ended with ctx, which is
		// that of the look.
		for _, look := range []string{"BEGIN", "SELECT count(*) FROM sqlite_schema"} {
			if err == nil {
				_, err = s.conn.ExecContext(ctx, look)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at %s: %w", s.from, explain(err)), s.Close())
	}
	return s, nil
}

// Close ends the snapshot.
func (s *Snapshot) Close() error {
	var err error
	if s.conn != nil {
		_, err = s.conn.ExecContext(context.Background(), "ROLLBACK")
		err = errors.Join(err, s.conn.Close())
	}
	return errors.Join(err, s.db.Close())
}

// Copy writes the rows into a folder.
func (s *Snapshot) Copy(ctx context.Context, to string) error {
	file := filepath.Join(to, "ebb.db")
	if err := keepPrivate(file); err != nil {
		return err
	}
	err := s.conn.Raw(func(conn any) error {
		at := url.URL{Scheme: "file", OmitHost: true, Path: file}
		b, err := conn.(interface {
			NewBackup(to string) (*sqlite.Backup, error)
		}).NewBackup(at.String())
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			if err = ctx.Err(); err == nil {
				more, err = b.Step(1000) // pages
			}
		}
		return errors.Join(err, b.Finish())
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", s.from, explain(err))
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
