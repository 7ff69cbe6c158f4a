package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

// attemptName is what an attempt's id may look like: it becomes a folder's name.
var attemptName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

// journal is the node's folder as a record of what was ever started here. Only
// add, end and drop may be called beside others.
type journal struct {
	dir   string
	last  kept             // written last
	slot  int              // where it is
	taken map[string]entry // what the next one will hold
}

// slotSize is room for one kept memory, bytes: some hundred attempts.
const slotSize = 32 << 10

// kept is a memory in one of the two slots of the file "memory", which are
// written in turn: where a write was cut short the other still holds what was
// true before. In place it costs one sync, and a node does it twice a job. The
// attempts are in it so that they need no sync of their own.
type kept struct {
	Memory
	Taken []entry `json:"taken,omitempty"` // what is not dropped
	Seq   int64   `json:"seq"`
	Sum   uint32  `json:"sum"` // CRC-32 of the line with a zero here
}

// entry is an attempt that was taken: it may have been started from its folder.
type entry struct {
	Attempt   string `json:"attempt"`
	Fence     int64  `json:"fence"`
	Member    int    `json:"member,omitempty"`
	Delivered bool   `json:"delivered,omitempty"`
	Epoch     int64  `json:"epoch,omitempty"` // of the server that it was delivered to
}

// ending is attempts/{attempt}/end.json: an end of which no shim left a record.
type ending struct {
	Exit queue.Exit `json:"exit"`
}

func (j *journal) path(attempt string) string { return filepath.Join(j.dir, "attempts", attempt) }

// take writes down, with the next save, that an attempt is the node's.
func (j *journal) take(e entry) {
	if j.taken == nil {
		j.taken = map[string]entry{}
	}
	j.taken[e.Attempt] = e
}

// add makes the folder of an attempt that was taken and saved, or returns
// fs.ErrExist if there is one: whoever made it may have started something there.
// A power cut may take it, and then leaves nothing that runs.
func (j *journal) add(attempt string) error {
	// Others only pass through: the job's own user, to its folders.
	if err := os.Mkdir(j.path(attempt), 0o711); err != nil {
		return fmt.Errorf("journal %s: %w", attempt, err)
	}
	return nil
}

func (j *journal) end(attempt string, e ending) error {
	return writeJSON(filepath.Join(j.path(attempt), "end.json"), e)
}

// delivered marks an attempt as the server's, with the next save. Until then a
// death may take the mark: then it is delivered again, which changes nothing.
func (j *journal) delivered(attempt string, epoch int64) {
	if e, ok := j.taken[attempt]; ok {
		e.Delivered, e.Epoch = true, epoch
		j.taken[attempt] = e
	}
}

// forget leaves an attempt that was dropped out of the next save.
func (j *journal) forget(attempt string) { delete(j.taken, attempt) }

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

// save writes the memory, and all that is taken, into the slot that does not hold
// the last one.
func (j *journal) save(m Memory) error {
	k := kept{Memory: m, Seq: j.last.Seq + 1}
	for _, id := range slices.Sorted(maps.Keys(j.taken)) {
		k.Taken = append(k.Taken, j.taken[id])
	}
	line, err := encodeKept(k)
	if err != nil {
		return err
	}
	if len(line) > slotSize {
		return fmt.Errorf("save the memory: %d attempts are too many", len(k.Taken))
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
	j.last, j.slot = k, 1-j.slot
	return nil
}

// encodeKept makes a line of k. What was longer before is left behind its end.
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
	return append(b, '\n'), nil
}

// recall reads the memory, or makes its file.
func (j *journal) recall() error {
	path := filepath.Join(j.dir, "memory")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		line, err := encodeKept(kept{})
		if err != nil {
			return err
		}
		b = make([]byte, 2*slotSize) // so that no save has to ask for room
		copy(b, line)
		copy(b[slotSize:], line)
		return writeFile(path, b)
	}
	if err != nil {
		return err
	}
	found := false
	for i := range 2 {
		k, ok := decodeKept(b, i)
		if ok && (!found || k.Seq > j.last.Seq) {
			found, j.last, j.slot = true, k, i
		}
	}
	if !found {
		return fmt.Errorf("read %s: neither slot is whole", path)
	}
	for _, e := range j.last.Taken {
		j.take(e)
	}
	return nil
}

// decodeKept reads a slot of the file, if it is whole.
func decodeKept(b []byte, slot int) (k kept, ok bool) {
	if len(b) < (slot+1)*slotSize {
		return k, false
	}
	line, _, _ := bytes.Cut(b[slot*slotSize:(slot+1)*slotSize], []byte("\n"))
	if json.Unmarshal(line, &k) != nil {
		return k, false
	}
	again, err := encodeKept(k)
	return k, err == nil && bytes.Equal(again, append(line, '\n'))
}

// read returns what the journal holds, shims not yet looked at, and clears away
// what was half removed.
func (j *journal) read() (Memory, []entry, map[string]ending, error) {
	if err := j.recall(); err != nil {
		return Memory{}, nil, nil, err
	}
	m := j.last.Memory
	parent := filepath.Join(j.dir, "attempts")
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return m, nil, nil, err
	}
	found, err := os.ReadDir(parent)
	if err != nil {
		return m, nil, nil, err
	}
	there := map[string]bool{}
	for _, d := range found {
		there[d.Name()] = true
		// What is not taken was dropped, and came back in a power cut.
		if _, ok := j.taken[d.Name()]; ok {
			continue
		}
		if err := shim.Forget(filepath.Join(parent, d.Name())); err != nil {
			return m, nil, nil, fmt.Errorf("clear away %s: %w", d.Name(), err)
		}
	}
	var entries []entry
	ends := map[string]ending{}
	for _, id := range slices.Sorted(maps.Keys(j.taken)) {
		e := j.taken[id]
		if !there[id] {
			if e.Fence <= m.Floor { // it was dropped
				j.forget(id)
				continue
			}
			// Whoever took it died before it made the folder, or a power cut took that.
			if err := j.add(id); err != nil {
				return m, nil, nil, err
			}
		}
		entries = append(entries, e)
		var end ending
		err := readJSON(filepath.Join(j.path(id), "end.json"), &end)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return m, nil, nil, fmt.Errorf("record of attempt %s cannot be read: %w", id, err)
		}
		ends[id] = end
	}
	return m, entries, ends, nil
}
