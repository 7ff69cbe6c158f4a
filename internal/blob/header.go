package blob

import (
	"bytes"
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
	"time"

	"github.com/ebb-compute/ebb/internal/fault"
)

// A blob's file begins with magic, a line of JSON, and then its bytes.
const (
	magic     = "ebb blob 1 "
	maxHeader = 64 << 10 // bytes
)

type header struct {
	Tail *tail `json:"tail,omitempty"` // first, so that it lies in the first sector
	Meta
	Stamp   string `json:"stamp"`             // random, new with each write: the ETag is made of it and the size
	Created int64  `json:"created,omitempty"` // seconds since 1970; 0: not known
	Of      string `json:"of,omitempty"`      // of a header that lies beside a file: that file's stamp
}

func newStamp() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func hash(seed maphash.Seed, key string) uint64 { return maphash.String(seed, key) }

// line is how a header is written: in length bytes, or as many as it needs. Text
// that is no UTF-8 is written as near to it as it comes.
func (h header) line(length int) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("write header: %w", err)
	}
	if len(body) > maxHeader-len(magic)-1 {
		return nil, fault.New(fault.TooLarge, "metadata", "The metadata of a blob may have %d bytes; this has %d.", maxHeader, len(body))
	}
	line := slices.Concat([]byte(magic), body, []byte("\n"))
	if length > 0 && len(line) != length {
		return nil, fmt.Errorf("write header: it has %d bytes where %d are", len(line), length)
	}
	return line, nil
}

func (h header) info(key string, size int64, modified time.Time) Info {
	etag := "0x" + strings.ToUpper(h.Stamp+strconv.FormatInt(size, 16))
	info := Info{
		Key: key, Size: size, Modified: modified.UTC(), Created: time.Unix(h.Created, 0).UTC(), Meta: h.Meta,
		ETag: etag, Written: etag,
	}
	if h.Created == 0 {
		info.Created = info.Modified
	}
	return info
}

// open opens a blob's file and reads its header; start is where its bytes begin.
func (s *Store) open(key string, flag int) (_ *os.File, _ Info, start int64, err error) {
	f, h, info, start, err := s.openHeld(key, flag)
	if err == nil && s.foreign(h) && h.Tail.n > 0 {
		// Its next append settles it, and must not do so while the tail is read.
		defer s.lock(key)()
		if err := f.Close(); err != nil {
			return nil, Info{}, 0, fmt.Errorf("open %s: %w", key, err)
		}
		f, _, info, start, err = s.openHeld(key, flag)
	}
	return f, info, start, err
}

// openHeld is open for who keeps others from writing the blob.
func (s *Store) openHeld(key string, flag int) (_ *os.File, h header, info Info, start int64, err error) {
	path, err := pathOf(key)
	if err != nil {
		return nil, header{}, Info{}, 0, err
	}
	f, err := s.root.OpenFile(path, flag, 0)
	if err != nil {
		return nil, header{}, Info{}, 0, missing(key, err)
	}
	h, n, err := readHeader(f)
	if err == nil {
		if info, err = s.described(key, path, f, h, int64(n)); err == nil {
			return f, h, info, int64(n), nil
		}
	}
	return nil, header{}, Info{}, 0, errors.Join(fmt.Errorf("open %s: %w", key, err), f.Close())
}

// overlay is where a later header of a blob's file lies: what is said of a blob
// changes without a copy of its content.
func overlay(path string) string { return path[:len(path)-len(fileEnd)] + overlayEnd }

// described is what is known of a blob: by its file's header, or by a later one.
func (s *Store) described(key, path string, f *os.File, h header, start int64) (Info, error) {
	at, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	size, err := s.sound(f, h, start, at.Size()-start)
	if err != nil {
		return Info{}, err
	}
	base := h.info(key, size, at.ModTime())
	over, err := s.root.Open(overlay(path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
		return base, nil
	}
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = over.Close() }() // only read
	later, _, err := readHeader(over)
	if err != nil {
		return Info{}, err
	}
	if later.Of != h.Stamp {
		return base, nil
	}
	st, err := over.Stat()
	if err != nil {
		return Info{}, err
	}
	info := later.info(key, size, at.ModTime())
	if later := st.ModTime().UTC(); later.After(info.Modified) {
		info.Modified = later
	}
	info.Created, info.Written = base.Created, base.Written
	return info, nil
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
		if !whole || !ours || json.Unmarshal(body, &h) != nil || !h.Tail.lies(line) {
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
