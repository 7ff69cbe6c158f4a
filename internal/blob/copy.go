package blob

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ebb-compute/ebb/internal/fault"
)

// The file by whose lock a backup keeps blobs where they are. It is shared by
// processes: a backup is made beside the server. The server makes it, so that it is
// the server's, whoever makes backups.
const holdFile = "hold"

const (
	holdLimit   = 2 * time.Minute // of a backup's hold
	unheldLimit = 3 * time.Minute // of a wait for its end: one that was stopped does not let go
)

// makeHold makes the file.
func (s *Store) makeHold() error {
	f, err := s.root.OpenFile(holdFile, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// unheld waits until no backup keeps blobs in their places, and keeps one from
// beginning to until release is called, which should be soon.
func (s *Store) unheld(ctx context.Context) (release func(), err error) {
	f, err := s.root.Open(holdFile)
	if err != nil {
		return nil, err
	}
	if err := s.awaitShared(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) // what was just forked has the file too
		_ = f.Close()
	}, nil
}

// awaitShared takes the lock that the store's users share. Of those who wait one
// looks, now and then, and the others wait for that one.
func (s *Store) awaitShared(ctx context.Context, f *os.File) error {
	err := try(f, syscall.LOCK_SH)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(s.patience, unheldLimit), fault.New(fault.Unavailable, "",
		"a backup is being made, and for longer than it should be: what is there is not deleted or moved meanwhile. Try again, or end the \"ebb backup\" that hangs."))
	defer cancel()
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return await(ctx, f, syscall.LOCK_SH, 100*time.Millisecond)
}

func try(f *os.File, how int) error { return syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB) }

// await tries every 2 ms to take a lock, and ever more seldom, up to a pause.
func await(ctx context.Context, f *os.File, how int, longest time.Duration) error {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, longest) {
		if err := try(f, how); !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Copy is a copy of a store's blobs in the making, beside whoever has it open.
type Copy struct {
	From, To string           // folders of stores
	Say      func(done Total) // told now and then; default: nobody
	Limit    time.Duration    // of a hold; default: two minutes
	total    Total
	have     map[string]copied // by path
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

// copied is what was copied of a file.
type copied struct {
	stamp
	sum [sha256.Size]byte
}

// Sums returns the SHA-256 of every file of the copy, by path below its folder.
func (c *Copy) Sums() iter.Seq2[string, [sha256.Size]byte] {
	return func(yield func(string, [sha256.Size]byte) bool) {
		for rel, f := range c.have {
			if !yield(rel, f.sum) {
				return
			}
		}
	}
}

// Hold keeps blobs from being deleted and renamed, until release is called. They
// may be written meanwhile: what is there at Hold is copied by the next Round. A
// hold ends by itself at its limit, also where the disk that is copied to hangs:
// then the context has ended too, and release says so.
func (c *Copy) Hold(ctx context.Context) (_ context.Context, release func() error, err error) {
	f, err := os.Open(filepath.Join(c.From, holdFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fault.New(fault.Conflict, c.From, "No server of this version has had these blobs yet, and one of before does not wait for backups. Start the server with this version once; or stop it, and copy the folder with another program.")
	}
	if err != nil {
		return nil, nil, err
	}
	if err := await(ctx, f, syscall.LOCK_EX, 2*time.Millisecond); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	limit := cmp.Or(c.Limit, holdLimit)
	late := fault.New(fault.Unavailable, c.To, "What came while blobs were copied was not copied within %v, and deletes do not wait longer. Is the disk of %s slow, or does it hang? Try again when less is written.", limit, c.To)
	held, cancel := context.WithTimeoutCause(ctx, limit, late)
	stop := context.AfterFunc(held, func() { _ = f.Close() })
	return held, func() error {
		defer cancel()
		if !stop() {
			return context.Cause(held)
		}
		return f.Close()
	}, nil
}

// Round copies what is new since the round before, and removes what is no more.
// What comes and goes while it looks may be in the copy or not.
func (c *Copy) Round(ctx context.Context) (Total, error) {
	seen := map[string]copied{}
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
		err := c.file(rel, seen)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return c.total, fmt.Errorf("copy %s: %w", rel, err)
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
func (c *Copy) file(rel string, seen map[string]copied) error {
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
	if had && old.stamp == now {
		seen[rel] = old
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
	sum := sha256.New()
	_, err = io.CopyN(io.MultiWriter(out, sum), in, now.size)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(to, now.time, now.time); err != nil { // a blob's age is its file's
		return err
	}
	seen[rel] = copied{now, [sha256.Size]byte(sum.Sum(nil))}
	if !had {
		c.total.Files++
	}
	c.total.Bytes += now.size - old.size
	if c.Say != nil {
		c.Say(c.total)
	}
	return nil
}
