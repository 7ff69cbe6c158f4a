package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// holder is what an agent wrote into its lock. It tells whom to signal, never
// who lives.
type holder struct {
	pid   int
	start string // field 22 of /proc/PID/stat: with it a reused pid is known
	boot  string
}

func readHolder(path string) (holder, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return holder{}, err
	}
	var h holder
	if _, err := fmt.Sscan(string(b), &h.pid, &h.start, &h.boot); err != nil {
		return holder{}, nil // not written yet
	}
	return h, nil
}

// signal sends s to the very process that wrote the lock and reports whether it
// was there. The pidfd is opened before the check, so the pid cannot be reused
// in between.
func (h holder) signal(s unix.Signal) bool {
	if h.boot != bootID() {
		return false
	}
	fd, err := unix.PidfdOpen(h.pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if startTime(h.pid) != h.start {
		return false
	}
	return unix.PidfdSendSignal(fd, s, nil, 0) == nil
}

func startTime(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the name in parentheses and may hold anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

// held reports whether somebody holds the lock at path. The look takes a shared
// lock for a moment; agents try theirs more than once.
func held(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// lockFile takes the lock at path, made if missing. It is held until the file
// is closed.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockFolder takes the lock of a folder that exists, and still does once it is taken.
func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	now, err := os.Stat(dir)
	if err == nil {
		var mine fs.FileInfo
		if mine, err = f.Stat(); err == nil && !os.SameFile(now, mine) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func await(ctx context.Context, f *os.File) error {
	look := time.NewTicker(tick)
	defer look.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bootID tells one start of the machine from another.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// sinceBoot is a clock that no one can set and that counts sleep.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
