// Package blob keeps bytes under names, in a folder: code, artifacts, logs.
//
// A name is "container/path" and may be anything that Azure allows: a segment
// longer than a file name, "..", a name that is also the beginning of another.
// path.go turns names into paths so that no two meet and none leaves the folder;
// os.Root holds the rest. Each file begins with one line of JSON (type, MD5,
// metadata, ETag), so that what is known of a blob and its bytes appear at once.
//
// What a call has acknowledged is on disk.
package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
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
	ETag     string    // without quotes; another one whenever the content is
	Modified time.Time // UTC
	Meta     Meta
}

// Store is a folder of blobs. Its methods may be called from any goroutine. Only
// one process may have a folder open; the store's lock sees to that.
type Store struct {
	root  *os.Root
	dir   string
	seed  maphash.Seed
	locks [64]sync.Mutex // of appends, by key
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
	s := &Store{root: root, dir: dir, seed: maphash.MakeSeed()}
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
	return s.syncDir(".")
}

// Close closes the folder.
func (s *Store) Close() error { return s.root.Close() }

// Put writes a blob, in place of any that was there: readers see the old one or
// the new one, whole.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, m Meta) (Info, error) {
	return s.write(ctx, key, r, m, s.root.Rename)
}

// Create writes a blob where none is; [fault.Conflict] if there is one. Of many
// at once, one succeeds.
func (s *Store) Create(ctx context.Context, key string, r io.Reader, m Meta) (Info, error) {
	return s.write(ctx, key, r, m, func(tmp, path string) error {
		err := s.root.Link(tmp, path) // unlike a rename, it does not replace
		if errors.Is(err, fs.ErrExist) {
			return fault.New(fault.Conflict, key, "there is a blob of this name already")
		}
		return err
	})
}

func (s *Store) write(ctx context.Context, key string, r io.Reader, m Meta, place func(tmp, path string) error) (_ Info, err error) {
	path, err := pathOf(key)
	if err != nil {
		return Info{}, err
	}
	tmp := staging + "/" + rand.Text()
	f, err := s.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Info{}, full(fmt.Errorf("put %s: %w", key, err))
	}
	defer func() {
		_ = f.Close()          // its bytes are synced, or it is thrown away
		_ = s.root.Remove(tmp) // a rename has taken it away already, a link has not
	}()
	h := header{Meta: m, Stamp: newStamp()}
	line, err := h.line()
	if err != nil {
		return Info{}, err
	}
	if _, err := f.Write(line); err != nil {
		return Info{}, full(fmt.Errorf("put %s: %w", key, err))
	}
	// A reader's error is its own (the client left, the MD5 does not match); ours is wrapped.
	if err := copyTo(ctx, f, r); err != nil {
		return Info{}, full(fmt.Errorf("put %s: %w", key, err))
	}
	if err := f.Sync(); err != nil {
		return Info{}, full(fmt.Errorf("put %s: %w", key, err))
	}
	info, err := h.info(key, f, len(line))
	if err != nil {
		return Info{}, err
	}
	if err := s.settle(path, func() error { return place(tmp, path) }); err != nil {
		return Info{}, full(fmt.Errorf("put %s: %w", key, err))
	}
	return info, nil
}

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

// copyTo copies until the end of r or of ctx.
func copyTo(ctx context.Context, w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}))
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Get reads n bytes of a blob from off on; n < 0: to its end. The reader stays
// on the content as it was when it was opened.
func (s *Store) Get(_ context.Context, key string, off, n int64) (io.ReadCloser, Info, error) {
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

// Delete removes a blob; [fault.NotFound] if there is none.
func (s *Store) Delete(_ context.Context, key string) error {
	path, err := pathOf(key)
	if err != nil {
		return err
	}
	if err := s.root.Remove(path); err != nil {
		return missing(key, err)
	}
	parent := path[:strings.LastIndexByte(path, '/')]
	if err := s.syncDir(parent); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	for parent != blobs && s.root.Remove(parent) == nil { // it refuses one that is not empty
		parent = parent[:strings.LastIndexByte(parent, '/')]
	}
	return nil
}

// Append writes data at offset, which must be the blob's size; a blob that is
// not there has size 0. [fault.Conflict] if it has another: the size that is
// returned says where to go on. What a crash left behind the last acknowledged
// byte is part of the size.
func (s *Store) Append(ctx context.Context, key string, offset int64, data []byte) (size int64, err error) {
	lock := &s.locks[maphash.String(s.seed, key)%uint64(len(s.locks))]
	lock.Lock()
	defer lock.Unlock()
	f, info, start, err := s.open(key, os.O_RDWR)
	if errors.Is(err, fault.NotFound) {
		if offset != 0 {
			return 0, fault.New(fault.Conflict, key, "it has 0 bytes, and this would go to %d", offset)
		}
		info, err := s.Create(ctx, key, bytes.NewReader(data), Meta{})
		return info.Size, err
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // synced, or failed already
	if offset != info.Size {
		return info.Size, fault.New(fault.Conflict, key, "it has %d bytes, and this would go to %d", info.Size, offset)
	}
	if len(data) == 0 {
		return info.Size, nil
	}
	if _, err = f.WriteAt(data, start+offset); err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Truncate(start + offset) // if it fails: a longer blob, which the next call is told of
		return info.Size, full(fmt.Errorf("append to %s: %w", key, err))
	}
	return info.Size + int64(len(data)), nil
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

// open opens a blob's file and reads its header; start is where its bytes begin.
func (s *Store) open(key string, flag int) (_ *os.File, _ Info, start int64, err error) {
	path, err := pathOf(key)
	if err != nil {
		return nil, Info{}, 0, err
	}
	f, err := s.root.OpenFile(path, flag, 0)
	if err != nil {
		return nil, Info{}, 0, missing(key, err)
	}
	h, n, err := readHeader(f)
	if err == nil {
		var info Info
		if info, err = h.info(key, f, n); err == nil {
			return f, info, int64(n), nil
		}
	}
	return nil, Info{}, 0, errors.Join(fmt.Errorf("open %s: %w", key, err), f.Close())
}

// A blob's file begins with magic, a line of JSON, and then its bytes.
const (
	magic     = "ebb blob 1 "
	maxHeader = 64 << 10 // bytes
)

type header struct {
	Meta
	Stamp string `json:"stamp"` // random, new with each Put: the ETag is made of it and the size
}

func newStamp() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (h header) line() ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("write header: %w", err)
	}
	if len(body) > maxHeader-len(magic)-1 {
		return nil, fault.New(fault.TooLarge, "metadata", "The metadata of a blob may have %d bytes; this has %d.", maxHeader, len(body))
	}
	return slices.Concat([]byte(magic), body, []byte("\n")), nil
}

func (h header) info(key string, f *os.File, start int) (Info, error) {
	st, err := f.Stat()
	if err != nil {
		return Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	size := st.Size() - int64(start)
	return Info{
		Key: key, Size: size, Modified: st.ModTime().UTC(), Meta: h.Meta,
		ETag: "0x" + strings.ToUpper(h.Stamp+strconv.FormatInt(size, 16)),
	}, nil
}

func readHeader(f io.ReaderAt) (h header, n int, err error) {
	for size := 512; ; size = maxHeader {
		buf := make([]byte, size)
		got, err := f.ReadAt(buf, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return header{}, 0, err
		}
		line, _, whole := bytes.Cut(buf[:got], []byte("\n"))
		if !whole && got == size && size < maxHeader {
			continue
		}
		body, ours := bytes.CutPrefix(line, []byte(magic))
		if !whole || !ours || json.Unmarshal(body, &h) != nil {
			return header{}, 0, fault.New(fault.Unavailable, "", "the file of this blob is damaged: it does not begin as blobs do; restore it from a backup")
		}
		return h, len(line) + 1, nil
	}
}

func missing(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
		return fault.New(fault.NotFound, key, "there is no such blob")
	}
	return fmt.Errorf("open %s: %w", key, err)
}

// full makes a disk that takes no more a [fault.Unavailable].
func full(err error) error {
	if errors.Is(err, errNoSpace) || errors.Is(err, errQuota) || errors.Is(err, errIO) {
		return fmt.Errorf("%w (%w)", fault.New(fault.Unavailable, "", "the disk is full or does not take writes; they are accepted again when it does"), err)
	}
	return err
}
