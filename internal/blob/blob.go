// Package blob keeps bytes under names, in a folder: code, artifacts, logs.
//
// A name is "container/path" and may be anything that Azure allows: a segment
// longer than a file name, "..", a name that is also the beginning of another.
// path.go turns names into paths so that no two meet and none leaves the folder;
// os.Root holds the rest. Each file begins with one line of JSON (type, MD5,
// metadata, ETag), so that what is known of a blob and its bytes appear at once; a
// change to that alone lies in a file beside it.
//
// What a call has acknowledged is on disk. tail.go sees to it that an append which a
// crash cut off leaves nothing else behind it.
package blob

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Meta is what a blob's writer says of it.
type Meta struct {
	ContentType string            `json:"contentType,omitempty"`
	MD5         []byte            `json:"md5,omitempty"` // of the content, 16 bytes, as its writer gave it; may be nil
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// Info is what is known of a blob.
type Info struct {
	Key      string
	Size     int64     // bytes
	ETag     string    // without quotes; another one whenever the content is, or what is said of it
	Written  string    // as ETag, but another one only when the content is
	Modified time.Time // UTC
	Created  time.Time // UTC, to the second: when it was last written whole
	Meta     Meta
}

// Store is a folder of blobs. Its methods may be called from any goroutine. Only
// one process may have a folder open; the store's lock sees to that.
type Store struct {
	root  *os.Root
	dir   string
	seed  maphash.Seed
	locks [1024]sync.Mutex // of writes, by key
	names sync.RWMutex     // held to give blobs other names, shared to write any
	life  string           // of this opening: appends are marked with it

	looking  chan struct{} // held by whoever looks for the end of a backup's hold
	patience time.Duration // of those who wait for it; 0: as is said there

	retired map[string]bool // by name; guarded by names

	disk func(*os.File) file // in the way of appends, in tests; nil: nothing is
}

// The folders in a store's own: blobs by name, and files that are not yet blobs.
const (
	blobs   = "blobs"
	staging = "tmp"
)

// Open opens the store in dir, making it if there is none.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	s := &Store{root: root, dir: dir, seed: maphash.MakeSeed(), life: newStamp(), looking: make(chan struct{}, 1)}
	if err := s.tidy(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), root.Close())
	}
	return s, nil
}

// tidy throws away what a crash left half written.
func (s *Store) tidy() error {
	if err := s.root.RemoveAll(staging); err != nil {
		return err
	}
	for _, d := range []string{staging, blobs} {
		if err := s.root.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := s.makeHold(); err != nil {
		return err
	}
	return s.syncDir(".")
}

// Close closes the folder.
func (s *Store) Close() error { return s.root.Close() }

// settle makes the folders above path and runs place until it succeeds: a folder
// may be pruned by a delete just when something is put into it.
func (s *Store) settle(path string, place func() error) error {
	parent := path[:strings.LastIndexByte(path, '/')]
	for try := 0; ; try++ {
		err := place()
		switch {
		case err == nil:
			if err := s.syncDir(parent); !errors.Is(err, fs.ErrNotExist) { // deleted and pruned already
				return err
			}
			return nil
		case !errors.Is(err, fs.ErrNotExist) || try == 10:
			return err
		}
		if err := s.mkdirs(parent); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

func (s *Store) mkdirs(path string) error {
	for i := range len(path) {
		if path[i] != '/' && i != len(path)-1 {
			continue
		}
		d := path[:i]
		if i == len(path)-1 {
			d = path
		}
		switch err := s.root.Mkdir(d, 0o700); {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return err
		}
		above := "."
		if j := strings.LastIndexByte(d, '/'); j >= 0 {
			above = d[:j]
		}
		if err := s.syncDir(above); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) syncDir(path string) error {
	d, err := s.root.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get reads n bytes of a blob from off on; n < 0: to its end. The reader stays
// on the content as it was when it was opened.
func (s *Store) Get(_ context.Context, key string, off, n int64) (Content, Info, error) {
	f, info, start, err := s.open(key, os.O_RDONLY)
	if err != nil {
		return nil, Info{}, err
	}
	off = max(0, min(off, info.Size))
	if n < 0 || n > info.Size-off {
		n = info.Size - off
	}
	return &section{io.NewSectionReader(f, start+off, n), f}, info, nil
}

// Content reads a part of a blob.
type Content interface {
	io.ReadSeekCloser
	io.ReaderAt
}

type section struct {
	*io.SectionReader
	f *os.File
}

func (s *section) Close() error { return s.f.Close() }

// Stat says what is known of a blob; [fault.NotFound] if there is none.
func (s *Store) Stat(_ context.Context, key string) (Info, error) {
	f, info, _, err := s.open(key, os.O_RDONLY)
	if err != nil {
		return Info{}, err
	}
	return info, f.Close()
}

// List returns blobs whose keys begin with prefix and come after after, in byte
// order of keys, at most limit (0: 1000).
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]Info, error) {
	if limit <= 0 {
		limit = 1000
	}
	var out []Info
	w := walk{s: s, prefix: prefix, after: after, found: func(key string) (bool, error) {
		info, err := s.Stat(ctx, key)
		if errors.Is(err, fault.NotFound) { // deleted meanwhile
			return true, nil
		}
		if err != nil {
			return false, err
		}
		out = append(out, info)
		return len(out) < limit, ctx.Err()
	}}
	if _, err := w.dir(blobs, ""); err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return out, nil
}

// walk goes through the folders that may hold matching keys.
type walk struct {
	s             *Store
	prefix, after string
	found         func(key string) (more bool, err error)
}

func (w *walk) dir(path, base string) (more bool, err error) {
	d, err := w.s.root.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // pruned meanwhile
	}
	if err != nil {
		return false, err
	}
	names, err := d.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // pruned after it was opened
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return false, err
	}
	type entry struct {
		key, name string
		folder    bool
	}
	var entries []entry
	for _, name := range names {
		piece, kind, ok := decodeName(name)
		if !ok {
			continue // not ours: a stranger's file is no reason to show nothing
		}
		e := entry{base + piece, name, kind != fileEnd}
		if kind == folderEnd {
			e.key += "/"
		}
		switch {
		case !e.folder && (!strings.HasPrefix(e.key, w.prefix) || e.key <= w.after):
		case e.folder && !strings.HasPrefix(e.key, w.prefix) && !strings.HasPrefix(w.prefix, e.key):
		case e.folder && e.key <= w.after && !strings.HasPrefix(w.after, e.key): // all that is in it comes before
		default:
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range entries {
		if e.folder {
			more, err = w.dir(path+"/"+e.name, e.key)
		} else {
			more, err = w.found(e.key)
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}
