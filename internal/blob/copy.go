package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The file by whose lock a backup keeps blobs where they are. It is shared by
// processes: a backup is made beside the server.
const holdFile = "hold"

// unheld waits until no backup keeps blobs in their places, and keeps one from
// beginning to until release is called, which should be soon.
func (s *Store) unheld(ctx context.Context) (release func(), err error) {
	f, err := s.root.OpenFile(holdFile, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, f, syscall.LOCK_SH); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) // what was just forked has the file too
		_ = f.Close()
	}, nil
}

func await(ctx context.Context, f *os.File, how int) error {
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return err
	}
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
	}
}

// Copy is a copy of a store's blobs in the making, beside whoever has it open.
type Copy struct {
	From, To string           // folders of stores
	Say      func(done Total) // told now and then; default: nobody
	total    Total
	have     map[string]stamp // by path: what was copied
}

// Total counts what was copied.
type Total struct {
	Files int
	Bytes int64
}

// stamp tells one content of a file from another: a file only grows, or is
// replaced by another one.
type stamp struct {
	inode uint64
	size  int64
	time  time.Time
}

// Hold keeps blobs from being deleted and renamed, until release is called. They
// may be written meanwhile: what is there at Hold is copied by the next Round.
func (c *Copy) Hold(ctx context.Context) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.From, holdFile), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, f, syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// Round copies what is new since the round before, and removes what is no more.
// What comes and goes while it looks may be in the copy or not.
func (c *Copy) Round(ctx context.Context) (Total, error) {
	seen := map[string]stamp{}
	root := filepath.Join(c.From, blobs)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != root {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.From, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(c.To, rel), 0o700)
		}
		if err := errors.Join(ctx.Err(), c.file(rel, seen)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("copy %s: %w", rel, err)
		}
		return nil
	})
	if err != nil {
		return c.total, err
	}
	for rel, old := range c.have {
		if _, ok := seen[rel]; ok {
			continue
		}
		// A folder that changes while it is read may hide one that is there.
		if err := c.file(rel, seen); err == nil {
			continue
		}
		if err := os.Remove(filepath.Join(c.To, rel)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return c.total, err
		}
		c.total.Files, c.total.Bytes = c.total.Files-1, c.total.Bytes-old.size
	}
	c.have = seen
	return c.total, nil
}

// file copies one file, unless it is there as it is.
func (c *Copy) file(rel string, seen map[string]stamp) error {
	in, err := os.Open(filepath.Join(c.From, rel))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	now := stamp{fi.Sys().(*syscall.Stat_t).Ino, fi.Size(), fi.ModTime()}
	old, had := c.have[rel]
	if had && old == now {
		seen[rel] = now
		return nil
	}
	to := filepath.Join(c.To, rel)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	// What is appended from here on is the next round's.
	_, err = io.CopyN(out, in, now.size)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(to, now.time, now.time); err != nil { // a blob's age is its file's
		return err
	}
	seen[rel] = now
	if !had {
		c.total.Files++
	}
	c.total.Bytes += now.size - old.size
	if c.Say != nil {
		c.Say(c.total)
	}
	return nil
}
