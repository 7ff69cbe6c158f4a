package blob

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/ebb-compute/ebb/internal/fault"
)

// tail says how much of a blob's file is its content. It lies in the header, in
// the file's first sector, and is written over before each append: one sync makes
// both last. When the power goes before that, the disk has the old tail or the new
// one, and any part of the data; either tells where the content ends. All before
// that was synced, and nothing behind it was acknowledged.
type tail struct {
	life string // of the process that wrote it
	base int64  // bytes that were there, and synced, when this was written
	n    int64  // bytes that were then appended
	sum  uint32 // CRC of those
}

// tailFormat gives every tail the same length, as it is written in place.
const tailFormat = "%12.12s-%016x-%016x-%08x"

// MarshalText implements encoding.TextMarshaler.
func (t tail) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, tailFormat, t.life, t.base, t.n, t.sum), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *tail) UnmarshalText(text []byte) error {
	const life = 12 // of a stamp
	if len(text) < life {
		return errors.New("the tail is too short")
	}
	t.life = string(text[:life])
	_, err := fmt.Sscanf(string(text[life:]), tailFormat[len("%12.12s"):], &t.base, &t.n, &t.sum)
	return err
}

// lies reports whether a header's line has the tail where it is written over.
func (t *tail) lies(line []byte) bool {
	if t == nil {
		return true
	}
	text, err := t.MarshalText()
	return err == nil && int64(len(line)) > tailAt && bytes.HasPrefix(line[tailAt:], text)
}

func (t tail) end() int64 { return t.base + t.n }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// foreign reports whether another life of the server was the last to append to a
// blob: what it appended it may not have synced.
func (s *Store) foreign(h header) bool { return h.Tail != nil && h.Tail.life != s.life }

// sound returns how many bytes of content a file has that has have bytes behind
// its header of start bytes.
func (s *Store) sound(f io.ReaderAt, h header, start, have int64) (int64, error) {
	if !s.foreign(h) {
		return have, nil
	}
	t := *h.Tail
	if t.n == 0 || have < t.end() {
		return min(have, t.base), nil
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(f, start+t.base, t.n)); err != nil {
		return 0, err
	}
	if sum.Sum32() != t.sum {
		return t.base, nil
	}
	return t.end(), nil
}

// file is what an append needs of a file.
type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
}

// extend writes data at offset; -1: wherever the end is. Every size that it returns
// is on disk.
func (s *Store) extend(key string, offset int64, data []byte, may func(old *Info) error) (size int64, err error) {
	defer s.lock(key)()
	opened, h, info, start, err := s.openHeld(key, os.O_RDWR)
	if err != nil {
		return 0, err
	}
	defer func() { _ = opened.Close() }() // synced, or failed already
	a := appending{f: opened, head: h, start: start, size: info.Size, life: s.life}
	if s.disk != nil {
		a.f = s.disk(opened)
	}
	settled := h.Tail != nil && !s.foreign(h)
	if settled && info.Size > h.Tail.end() { // an append failed, and could not be taken back
		settled, a.size, info.Size = false, h.Tail.end(), h.Tail.end()
	}
	if !settled {
		if err := a.settle(); err != nil {
			return 0, full(fmt.Errorf("append to %s: %w", key, err))
		}
	}
	if may != nil {
		if err := may(&info); err != nil {
			return a.size, err
		}
	}
	if offset >= 0 && offset != a.size {
		return a.size, fault.New(fault.Conflict, key, "it has %d bytes, and this would go to %d", a.size, offset)
	}
	if len(data) == 0 {
		return a.size, nil
	}
	if err := a.write(data); err != nil {
		return a.size, full(fmt.Errorf("append to %s: %w", key, err))
	}
	return a.size, nil
}

// appending is a blob's file to which something is appended.
type appending struct {
	f     file
	head  header
	start int64  // where the content begins
	size  int64  // of the content; synced
	life  string // ours
}

// settle makes what another life has left the blob's content for good.
func (a *appending) settle() error {
	if err := errors.Join(a.mark(nil), a.f.Truncate(a.start+a.size)); err != nil {
		return err
	}
	return a.f.Sync()
}

// write appends.
func (a *appending) write(data []byte) error {
	err := a.mark(data)
	if err == nil {
		_, err = a.f.WriteAt(data, a.start+a.size)
	}
	if err == nil {
		err = a.f.Sync()
	}
	if err != nil {
		// Either will do; where both fail, readers see more than is sure.
		_, _ = a.mark(nil), a.f.Truncate(a.start+a.size)
		return err
	}
	a.size += int64(len(data))
	return nil
}

// tailAt is where the tail lies in a file: the header begins with it.
const tailAt = int64(len(magic + `{"tail":"`))

// mark writes the tail: data is about to be appended. Blobs of before there were
// tails have no room for one. The rest of the header stays byte for byte: another
// version, or another encoder, may have written it.
func (a *appending) mark(data []byte) error {
	if a.head.Tail == nil {
		return nil
	}
	a.head.Tail = &tail{life: a.life, base: a.size, n: int64(len(data)), sum: crc32.Checksum(data, castagnoli)}
	text, err := a.head.Tail.MarshalText()
	if err != nil {
		return err
	}
	_, err = a.f.WriteAt(text, tailAt)
	return err
}
