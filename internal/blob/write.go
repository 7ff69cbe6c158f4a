package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Write is what [Store.Replace] writes beside the content.
type Write struct {
	Meta Meta
	// May says whether it may be written, in view of the blob that is there (nil:
	// none). Nobody else writes the blob between this and the writing, and an error
	// leaves it as it was. It must not call the store. Default: it may.
	May func(old *Info) error
	// Sum returns the MD5 to be kept, once all content has been read. Default: Meta's.
	Sum func() []byte
}

// Piece is a part of a blob's content.
type Piece struct {
	Key    string
	Off, N int64
	ETag   string // which its blob must have; empty: any
}

// Put writes a blob, in place of any that was there: readers see the old one or
// the new one, whole.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, m Meta) (Info, error) {
	return s.Replace(ctx, key, r, Write{Meta: m})
}

// Create writes a blob where none is; [fault.Conflict] if there is one. Of many
// at once, one succeeds.
func (s *Store) Create(ctx context.Context, key string, r io.Reader, m Meta) (Info, error) {
	return s.Replace(ctx, key, r, Write{Meta: m, May: func(old *Info) error {
		if old != nil {
			return fault.New(fault.Conflict, key, "there is a blob of this name already")
		}
		return nil
	}})
}

// Replace is Put under a condition.
func (s *Store) Replace(ctx context.Context, key string, r io.Reader, w Write) (Info, error) {
	return s.write(ctx, key, w, func(f *os.File, h *header) error {
		buf := buffers.Get().(*[]byte)
		defer buffers.Put(buf)
		n, err := fill(ctx, *buf, r)
		if errors.Is(err, io.EOF) { // all of it: one write does
			if w.Sum != nil {
				h.MD5 = w.Sum()
			}
			h.Tail.base = int64(n)
			line, err := h.line(0)
			if err != nil {
				return err
			}
			_, err = f.Write(append(line, (*buf)[:n]...))
			return err
		}
		if err != nil {
			return err
		}
		// What is known at the end only gets room at the beginning.
		if w.Sum != nil {
			h.MD5 = make([]byte, 16)
		}
		line, err := h.line(0)
		if err != nil {
			return err
		}
		if _, err := f.Write(line); err != nil {
			return err
		}
		for !errors.Is(err, io.EOF) {
			h.Tail.base += int64(n)
			if _, werr := f.Write((*buf)[:n]); werr != nil {
				return werr
			}
			if n, err = fill(ctx, *buf, r); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		if _, err := f.Write((*buf)[:n]); err != nil {
			return err
		}
		h.Tail.base += int64(n)
		if w.Sum != nil {
			h.MD5 = w.Sum()
		}
		if line, err = h.line(len(line)); err == nil {
			_, err = f.WriteAt(line, 0)
		}
		return err
	})
}

// Concat writes a blob that is made of parts of others, which the kernel copies.
// [fault.Conflict] if one of them is not there, or too short.
func (s *Store) Concat(ctx context.Context, key string, pieces []Piece, w Write) (Info, error) {
	return s.write(ctx, key, w, func(f *os.File, h *header) error {
		for _, p := range pieces {
			h.Tail.base += p.N
		}
		line, err := h.line(0)
		if err != nil {
			return err
		}
		if _, err := f.Write(line); err != nil {
			return err
		}
		for _, p := range pieces {
			if err := errors.Join(ctx.Err(), s.copyPiece(f, p)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) copyPiece(to *os.File, p Piece) error {
	gone := fault.New(fault.Conflict, p.Key, "it was written while it was read")
	from, info, start, err := s.open(p.Key, os.O_RDONLY)
	if errors.Is(err, fault.NotFound) {
		return gone
	}
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	if info.Size < p.Off+p.N || p.ETag != "" && p.ETag != info.ETag {
		return gone
	}
	if _, err := from.Seek(start+p.Off, io.SeekStart); err != nil {
		return err
	}
	_, err = to.ReadFrom(io.LimitReader(from, p.N))
	return err
}

// buffers hold the content of a small blob whole, and carry that of others.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// fill reads until buf is full, or to the end of r: then it returns [io.EOF].
func fill(ctx context.Context, buf []byte, r io.Reader) (n int, err error) {
	for n < len(buf) && err == nil {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		var got int
		got, err = r.Read(buf[n:])
		n += got
	}
	return n, err
}

// write makes a file of a header and what content writes, and gives it the
// blob's name. content notes in the header how much it wrote.
func (s *Store) write(_ context.Context, key string, w Write, content func(f *os.File, h *header) error) (_ Info, err error) {
	path, err := pathOf(key)
	if err != nil {
		return Info{}, err
	}
	tmp := staging + "/" + rand.Text()
	f, err := s.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Info{}, full(fmt.Errorf("put %s: %w", key, err))
	}
	placed := false
	defer func() {
		_ = f.Close() // its bytes are synced, or it is thrown away
		if !placed {
			_ = s.root.Remove(tmp)
		}
	}()
	h := header{Tail: &tail{life: s.life}, Meta: w.Meta, Stamp: newStamp(), Created: time.Now().Unix()}
	// A reader's error is its own (the client left, the MD5 does not match); ours is wrapped.
	err = content(f, &h)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return Info{}, full(fmt.Errorf("put %s: %w", key, err))
	}
	st, err := f.Stat()
	if err != nil {
		return Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	info := h.info(key, h.Tail.base, st.ModTime())
	err = s.settle(path, func() error {
		defer s.lock(key)()
		if err := s.closed(key); err != nil {
			return err
		}
		if w.May != nil {
			if err := s.ask(key, w.May); err != nil {
				return err
			}
		}
		if err := s.root.Rename(tmp, path); err != nil {
			return err
		}
		placed = true
		_ = s.root.Remove(overlay(path)) // one that stays is of another stamp, and counts no more
		return nil
	})
	if err != nil {
		return Info{}, full(fmt.Errorf("put %s: %w", key, err))
	}
	return info, nil
}

// lock keeps others from writing a blob, until what it returns is called.
func (s *Store) lock(key string) (unlock func()) {
	l := &s.locks[hash(s.seed, key)%uint64(len(s.locks))]
	l.Lock()
	s.names.RLock()
	return func() {
		s.names.RUnlock()
		l.Unlock()
	}
}

// ask asks may of the blob that is there.
func (s *Store) ask(key string, may func(old *Info) error) error {
	f, _, info, _, err := s.openHeld(key, os.O_RDONLY)
	if errors.Is(err, fault.NotFound) {
		return may(nil)
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), may(&info))
}

// Amend changes what is said of a blob, and not its content. Nobody else writes
// the blob meanwhile; an error of change leaves it as it was.
func (s *Store) Amend(_ context.Context, key string, change func(old Info) (Meta, error)) (Info, error) {
	path, err := pathOf(key)
	if err != nil {
		return Info{}, err
	}
	defer s.lock(key)()
	f, base, old, _, err := s.openHeld(key, os.O_RDONLY)
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = f.Close() }() // only read
	meta, err := change(old)
	if err != nil {
		return Info{}, err
	}
	line, err := header{Meta: meta, Stamp: newStamp(), Of: base.Stamp, Created: base.Created}.line(0)
	if err != nil {
		return Info{}, err
	}
	if err := s.amend(path, line); err != nil {
		return Info{}, full(fmt.Errorf("amend %s: %w", key, err))
	}
	now, _, info, _, err := s.openHeld(key, os.O_RDONLY)
	if err != nil {
		return Info{}, err
	}
	return info, now.Close()
}

// amend puts a header beside a blob's file.
func (s *Store) amend(path string, line []byte) (err error) {
	tmp := staging + "/" + rand.Text()
	f, err := s.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close() // synced, or thrown away
		if err != nil {
			_ = s.root.Remove(tmp)
		}
	}()
	if _, err := f.Write(line); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := s.root.Rename(tmp, overlay(path)); err != nil {
		return err
	}
	return s.syncDir(path[:strings.LastIndexByte(path, '/')])
}

// Delete removes a blob; [fault.NotFound] if there is none.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.DeleteIf(ctx, key, nil)
}

// DeleteIf is Delete under a condition, as [Write] has it.
func (s *Store) DeleteIf(ctx context.Context, key string, may func(old *Info) error) error {
	path, err := pathOf(key)
	if err != nil {
		return err
	}
	release, err := s.unheld(ctx)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	err = s.unlink(key, path, may)
	release()
	if err != nil {
		return err
	}
	if err := s.prune(path); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// prune makes it last that path is gone, and removes the folders above it that
// have nothing else.
func (s *Store) prune(path string) error {
	parent := path[:strings.LastIndexByte(path, '/')]
	if err := s.syncDir(parent); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for parent != blobs && s.root.Remove(parent) == nil { // it refuses one that is not empty
		parent = parent[:strings.LastIndexByte(parent, '/')]
	}
	return nil
}

func (s *Store) unlink(key, path string, may func(old *Info) error) error {
	defer s.lock(key)()
	if may != nil {
		err := s.ask(key, func(old *Info) error {
			if old == nil {
				return missing(key, fs.ErrNotExist)
			}
			return may(old)
		})
		if err != nil {
			return err
		}
	}
	if err := s.root.Remove(path); err != nil {
		return missing(key, err)
	}
	_ = s.root.Remove(overlay(path)) // as in write
	return nil
}

// Append writes data at offset, which must be the blob's size; a blob that is
// not there has size 0. [fault.Conflict] if it has another: the size that is
// returned says where to go on. All of it is on disk, whatever crashed before; it may
// have more than was acknowledged, as it was sent.
func (s *Store) Append(ctx context.Context, key string, offset int64, data []byte) (size int64, err error) {
	size, err = s.extend(key, offset, data, nil)
	if !errors.Is(err, fault.NotFound) {
		return size, err
	}
	if offset != 0 {
		return 0, fault.New(fault.Conflict, key, "it has 0 bytes, and this would go to %d", offset)
	}
	info, err := s.Create(ctx, key, bytes.NewReader(data), Meta{})
	if errors.Is(err, fault.Conflict) { // somebody was quicker
		return s.extend(key, offset, data, nil)
	}
	return info.Size, err
}

// Extend writes data at the end of a blob, under a condition as [Write] has it.
func (s *Store) Extend(ctx context.Context, key string, data []byte, may func(old *Info) error) (Info, error) {
	if _, err := s.extend(key, -1, data, may); err != nil {
		return Info{}, err
	}
	return s.Stat(ctx, key)
}
