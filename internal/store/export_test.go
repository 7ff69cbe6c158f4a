package store

import (
	"context"
	"path/filepath"
)

// LimitPages makes the disk look full: the file may not grow past so many pages,
// or past what it has. Zero takes the limit away again.
func (s *Store) LimitPages(n int64) error {
	_, err := s.submit(context.Background(), &request{do: func(w *writer) error {
		w.limit = n
		w.disconnect()
		return nil
	}})
	return err
}

// MakeBefore makes a database as it was before a version of the layout, and runs
// more on it.
func MakeBefore(ctx context.Context, dir string, version int64, more string) error {
	db, err := open(filepath.Join(dir, "ebb.db"), 1)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	p, err := provider(db)
	if err != nil {
		return err
	}
	if _, err := p.UpTo(ctx, version-1); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, more)
	return err
}
