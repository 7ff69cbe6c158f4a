package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Check says what is wrong with a key that no blob may have.
func Check(key string) error {
	_, err := pathOf(key)
	return err
}

// Move gives a blob another name, in place of any blob that has it; [fault.NotFound]
// if there is none. It is under one of the two names at any moment, a crash
// included, and keeps its ETag.
func (s *Store) Move(ctx context.Context, from, to string) error {
	old, err := pathOf(from)
	if err != nil {
		return err
	}
	path, err := pathOf(to)
	if err != nil {
		return err
	}
	if old == path {
		return nil
	}
	err = s.rename(ctx, to, old, path, s.renameFile)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(from, err)
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", from, err)
	}
	return nil
}

// MoveAll gives every blob below one prefix the same name below another; both end
// in "/". Where nothing is below the other yet, they all appear at once. Elsewhere
// they go one by one, in place of those of the same name, and after a crash the
// next call moves the rest. No blobs is no error.
func (s *Store) MoveAll(ctx context.Context, from, to string) error {
	keys, err := s.keys(ctx, from)
	if err != nil || len(keys) == 0 || from == to {
		return err
	}
	for _, key := range keys {
		if err := Check(to + key[len(from):]); err != nil {
			return err
		}
	}
	err = s.rename(ctx, to, folderOf(from), folderOf(to), s.root.Rename)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist): // another call has moved them
		return nil
	case !occupied(err):
		return fmt.Errorf("move %s: %w", from, err)
	}
	for _, key := range keys {
		if err := s.Move(ctx, key, to+key[len(from):]); err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
	}
	return nil
}

// occupied reports whether a folder was not renamed because there is one already.
func occupied(err error) bool {
	return errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY)
}

// keys returns those that begin with a prefix, in order.
func (s *Store) keys(ctx context.Context, prefix string) (keys []string, err error) {
	w := walk{s: s, prefix: prefix, found: func(key string) (bool, error) {
		keys = append(keys, key)
		return true, ctx.Err()
	}}
	if _, err := w.dir(blobs, ""); err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return keys, nil
}

// folderOf returns where the blobs below a prefix lie, which ends in "/".
func folderOf(prefix string) string {
	var b strings.Builder
	b.WriteString(blobs)
	for segment := range strings.SplitSeq(strings.TrimSuffix(prefix, "/"), "/") {
		encodeSegment(&b, segment, folderEnd)
	}
	return b.String()
}

// rename gives what lies at a path another one, which is that of key, makes that
// last, and prunes what is left above the old one. Nobody writes a blob meanwhile.
func (s *Store) rename(ctx context.Context, key, old, path string, rename func(old, path string) error) error {
	found := false
	err := s.settle(path, func() error {
		release, err := s.unheld(ctx) // first: whoever waits for a backup keeps nobody from writing
		if err != nil {
			return err
		}
		defer release()
		s.names.Lock()
		defer s.names.Unlock()
		_, err = s.root.Lstat(old)
		if found = !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir); !found {
			return nil
		}
		if err := s.closed(key); err != nil {
			return err
		}
		return errors.Join(err, rename(old, path))
	})
	switch {
	case err != nil:
		return full(err)
	case !found:
		return fs.ErrNotExist
	}
	return s.prune(old)
}

// renameFile takes along what is said of a blob later than its file. It goes first:
// beside the wrong file it counts for nothing, and the next call finds it in place.
func (s *Store) renameFile(old, path string) error {
	said := s.root.Rename(overlay(old), overlay(path))
	if said != nil && !errors.Is(said, fs.ErrNotExist) {
		return said
	}
	if err := s.root.Rename(old, path); err != nil {
		return err
	}
	if said != nil && !s.later(path) {
		_ = s.root.Remove(overlay(path)) // as in write
	}
	return nil
}

// later reports whether the header that lies beside a file is said of it.
func (s *Store) later(path string) bool {
	read := func(path string) (header, error) {
		f, err := s.root.Open(path)
		if err != nil {
			return header{}, err
		}
		defer func() { _ = f.Close() }() // only read
		h, _, err := readHeader(f)
		return h, err
	}
	file, err := read(path)
	if err != nil {
		return false
	}
	said, err := read(overlay(path))
	return err == nil && said.Of == file.Stamp
}
