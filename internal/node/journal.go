package node

import (
	"encoding/json"
	"errors"
	"fmt"
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
type journal struct{ dir string }

// entry is attempts/{attempt}/journal.json.
type entry struct {
	Attempt string    `json:"attempt"`
	Fence   int64     `json:"fence"`
	Member  int       `json:"member"`
	At      time.Time `json:"at"` // when it was journalled, by the node's clock
}

// ending is attempts/{attempt}/end.json.
type ending struct {
	Exit      queue.Exit `json:"exit"`
	Delivered bool       `json:"delivered"`
}

func (j journal) path(attempt string) string { return filepath.Join(j.dir, "attempts", attempt) }

// add makes the attempt's folder with its entry in it, or returns
// fs.ErrExist if there is one. The folder is made aside and renamed without
// replacing, so that there is never one without an entry, and never a second.
func (j journal) add(e entry) error {
	parent := filepath.Join(j.dir, "attempts")
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o711); err != nil { // the job's own user passes through to its folders
		return err
	}
	if err := writeJSON(filepath.Join(tmp, "journal.json"), e); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, j.path(e.Attempt), unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("journal %s: %w", e.Attempt, err)
	}
	return syncDir(parent)
}

func (j journal) end(attempt string, e ending) error {
	return writeJSON(filepath.Join(j.path(attempt), "end.json"), e)
}

// drop removes the attempt's folder; first out of the journal, then for good.
func (j journal) drop(attempt string) error {
	gone := filepath.Join(j.dir, "attempts", ".gone-"+attempt)
	if err := shim.Forget(gone); err != nil {
		return err
	}
	if err := os.Rename(j.path(attempt), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := syncDir(filepath.Join(j.dir, "attempts")); err != nil {
		return err
	}
	return shim.Forget(gone)
}

func (j journal) save(m Memory) error { return writeJSON(filepath.Join(j.dir, "memory.json"), m) }

// read returns what the journal holds, shims not yet looked at, and clears away
// what was half made or half removed.
func (j journal) read() (Memory, []entry, map[string]ending, error) {
	var m Memory
	if err := readJSON(filepath.Join(j.dir, "memory.json"), &m); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
