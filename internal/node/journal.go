package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

// attemptName is what an attempt's id may look like: it becomes a folder's name.
var attemptName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

// journal is the node's folder as a record of what was ever started here.
type journal struct {
	dir  string
	seq  int64 // of the memory written last
	slot int   // where it is
}

// slotSize is room for one kept memory, bytes.
const slotSize = 512

// kept is a memory in one of the two slots of the file "memory", which are
// written in turn: where a write was cut short the other still holds what was
// true before. In place it costs one sync, and a node does it twice a job.
type kept struct {
	Memory
	Seq int64  `json:"seq"`
	Sum uint32 `json:"sum"` // CRC-32 of the line with a zero here
}

// entry is attempts/{attempt}/journal.json.
type entry struct {
	Attempt string    `json:"attempt"`
	Fence   int64     `json:"fence"`
	Member  int       `json:"member"`
	At      time.Time `json:"at"` // when it was journalled, by the node's clock
}

// ending is attempts/{attempt}/end.json: an end of which no shim left a record.
type ending struct {
	Exit queue.Exit `json:"exit"`
}

func (j *journal) path(attempt string) string { return filepath.Join(j.dir, "attempts", attempt) }

// add makes the attempt's folder with its entry in it, or returns
// fs.ErrExist if there is one. The folder is made aside and renamed without
// replacing, so that there is never one without an entry, and never a second.
func (j *journal) add(e entry) error {
	parent := filepath.Join(j.dir, "attempts")
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o711); err != nil { // the job's own user passes through to its folders
		return err
	}
	if err := createJSON(filepath.Join(tmp, "journal.json"), e); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, j.path(e.Attempt), unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("journal %s: %w", e.Attempt, err)
	}
	return syncDir(parent)
}

func (j *journal) end(attempt string, e ending) error {
	return writeJSON(filepath.Join(j.path(attempt), "end.json"), e)
}

// delivered marks an attempt as the server's. A power cut may take the mark: then
// it is delivered again, which changes nothing.
func (j *journal) delivered(attempt string) error {
	f, err := os.Create(filepath.Join(j.path(attempt), "delivered"))
	if err != nil {
		return err
	}
	return f.Close()
}

// drop removes the attempt's folder; first out of the journal, then for good. A
// power cut may bring some of it back: nothing is ever started from there, so it
// is ended and dropped again.
func (j *journal) drop(attempt string) error {
	gone := filepath.Join(j.dir, "attempts", ".gone-"+attempt)
	if err := shim.Forget(gone); err != nil {
		return err
	}
	if err := os.Rename(j.path(attempt), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return shim.Forget(gone)
}

// save writes the memory into the slot that does not hold the last one.
func (j *journal) save(m Memory) error {
	line, err := encodeKept(kept{Memory: m, Seq: j.seq + 1})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(j.dir, "memory"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(line, int64(1-j.slot)*slotSize); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("sync the memory: %w", err)
	}
	j.seq, j.slot = j.seq+1, 1-j.slot
	return nil
}

func encodeKept(k kept) ([]byte, error) {
	k.Sum = 0
	b, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("encode the memory: %w", err)
	}
	k.Sum = crc32.ChecksumIEEE(b)
	if b, err = json.Marshal(k); err != nil {
		return nil, fmt.Errorf("encode the memory: %w", err)
	}
	line := bytes.Repeat([]byte{' '}, slotSize)
	line[slotSize-1] = '\n'
	copy(line, b)
	return line, nil
}

// recall reads the memory, or makes its file.
func (j *journal) recall() (Memory, error) {
	path := filepath.Join(j.dir, "memory")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var empty []byte
		for range 2 {
			line, err := encodeKept(kept{})
			if err != nil {
				return Memory{}, err
			}
			empty = append(empty, line...)
		}
		return Memory{}, writeFile(path, empty)
	}
	if err != nil {
		return Memory{}, err
	}
	found := false
	var last kept
	for i := range 2 {
		var k kept
		if len(b) < (i+1)*slotSize || json.Unmarshal(b[i*slotSize:(i+1)*slotSize], &k) != nil {
			continue
		}
		line, err := encodeKept(k)
		if err != nil || !bytes.Equal(line, b[i*slotSize:(i+1)*slotSize]) {
			continue
		}
		if !found || k.Seq > last.Seq {
			found, last, j.slot = true, k, i
		}
	}
	if !found {
		return Memory{}, fmt.Errorf("read %s: neither slot is whole", path)
	}
	j.seq = last.Seq
	return last.Memory, nil
}

// read returns what the journal holds, shims not yet looked at, and clears away
// what was half made or half removed.
func (j *journal) read() (Memory, []entry, map[string]ending, error) {
	m, err := j.recall()
	if err != nil {
		return m, nil, nil, err
	}
	parent := filepath.Join(j.dir, "attempts")
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return m, nil, nil, err
	}
	found, err := os.ReadDir(parent)
	if err != nil {
		return m, nil, nil, err
	}
	var entries []entry
	ends := map[string]ending{}
	for _, d := range found {
		dir := filepath.Join(parent, d.Name())
		if strings.HasPrefix(d.Name(), ".") {
			if err := shim.Forget(dir); err != nil {
				return m, nil, nil, fmt.Errorf("clear away %s: %w", dir, err)
			}
			continue
		}
		var e entry
		if err := readJSON(filepath.Join(dir, "journal.json"), &e); err != nil || e.Attempt != d.Name() {
			return m, nil, nil, fmt.Errorf("journal of attempt %s cannot be read: %w", d.Name(), errors.Join(err, fs.ErrInvalid))
		}
		entries = append(entries, e)
		b, err := os.ReadFile(filepath.Join(dir, "end.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var end ending
		if err == nil {
			err = json.Unmarshal(b, &end)
		}
		if err != nil {
			return m, nil, nil, fmt.Errorf("record of attempt %s cannot be read: %w", d.Name(), err)
		}
		ends[e.Attempt] = end
	}
	return m, entries, ends, nil
}
