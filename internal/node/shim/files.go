package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// held is the second line of DIR/lock: what a sweep must know if the shim dies.
// A file of its own would cost an inode or two a job.
type held struct {
	Users   string    `json:"users,omitempty"`   // the spec's
	UID     int       `json:"uid,omitempty"`     // the job's own user; 0: none
	Groups  []string  `json:"groups,omitempty"`  // control group folders
	Output  string    `json:"output,omitempty"`  // what its output goes through, as /proc names it; empty: nothing tells
	Process int       `json:"process,omitempty"` // 0: not started yet
	Started time.Time `json:"started,omitzero"`
}

func openLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(path.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// unlock closes a file that was locked here alone. A process that was just forked
// has the file too until its exec, and would hold the lock.
func unlock(f *os.File) {
	_ = flock(f, unix.LOCK_UN)
	_ = f.Close()
}

// lock is what DIR/lock says.
type lock struct {
	taken bool // a living shim, or who starts or sweeps one, has it
	empty bool // or not there: no shim ever had it
	pid   int  // of the shim that has it, or had
	held
}

// readLock reads DIR/lock. What it holds is looked at after whether it is held:
// what the dead have written is whole.
func readLock(dir string) (lock, error) {
	f, err := os.Open(path.Join(dir, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return lock{empty: true}, nil
	}
	if err != nil {
		return lock{}, err
	}
	defer unlock(f)
	l := lock{taken: flock(f, unix.LOCK_SH|unix.LOCK_NB) != nil}
	b, err := io.ReadAll(f)
	if err != nil {
		return lock{}, fmt.Errorf("read lock: %w", err)
	}
	l.empty = len(b) == 0
	first, second, _ := bytes.Cut(b, []byte("\n"))
	l.pid, _ = strconv.Atoi(string(bytes.TrimSpace(first)))
	// While it is being written it may be read in part, and after a power cut it may
	// be anything; then nothing is left of what it was about.
	if json.Unmarshal(second, &l.held) != nil {
		l.held = held{}
	}
	return l, nil
}

// The first line has a fixed width, so that writing it twice is as writing it once.
func pidLine(pid int) []byte { return fmt.Appendf(nil, "%-10d\n", pid) }

func writePID(f *os.File, pid int) { _, _ = f.WriteAt(pidLine(pid), 0) }

// writeHeld says what the shim whose lock it is has made. It is called with more
// each time, so that nothing of before is left behind it.
func writeHeld(f *os.File, h held) error {
	b, err := json.Marshal(h)
	if err == nil {
		_, err = f.WriteAt(append(append(pidLine(os.Getpid()), b...), '\n'), 0)
	}
	if err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

func readJSON(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

// writeJSON writes v to file, whole, and durable if asked.
func writeJSON(file string, v any, durable bool) error {
	tmp, err := writeTemp(file, v, durable)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if durable {
		return syncFile(path.Dir(file))
	}
	return nil
}

func writeTemp(file string, v any, durable bool) (name string, err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", file, err)
	}
	f, err := os.CreateTemp(path.Dir(file), "."+path.Base(file)+".*")
	if err != nil {
		return "", fmt.Errorf("write %s: %w", file, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = cerr
		}
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", file, err)
		}
	}()
	if _, err = f.Write(append(b, '\n')); err == nil && durable {
		err = f.Sync()
	}
	return f.Name(), err
}

// syncFile makes a file's content, or a folder's names, durable.
func syncFile(file string) error {
	d, err := os.Open(file)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// What follows stands in for path/filepath, which package early tells of.

// localName reports whether a name with slashes stays below a folder.
func localName(name string) bool { return fs.ValidPath(name) && name != "." }

func absolute(dir string) (string, error) {
	if path.IsAbs(dir) {
		return path.Clean(dir), nil
	}
	wd, err := os.Getwd()
	return path.Join(wd, dir), err
}

// walk calls f for root and all below, a folder before what is in it, and once
// more with an error for one that cannot be read. Links are not followed. It ends
// at f's first error.
func walk(root string, f func(name string, d fs.DirEntry, err error) error) error {
	info, err := os.Lstat(root)
	if err != nil {
		return f(root, nil, err)
	}
	return walkFrom(root, fs.FileInfoToDirEntry(info), f)
}

func walkFrom(name string, d fs.DirEntry, f func(string, fs.DirEntry, error) error) error {
	if err := f(name, d, nil); err != nil || !d.IsDir() {
		return err
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		if err := f(name, d, err); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := walkFrom(path.Join(name, e.Name()), e, f); err != nil {
			return err
		}
	}
	return nil
}
