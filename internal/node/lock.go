package node

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errRunning says that another agent serves the folder.
var errRunning = errors.New("another agent serves this node")

// takeLock makes this process the node's agent until the file is closed, and
// writes "pid starttime boot" into it. The flock is what proves life; the words
// only say whom to signal.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Whoever looks whether we live holds the lock for a moment.
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if time.Now().After(end) {
			f.Close()
			return nil, errRunning
		}
	}
	words := fmt.Sprintf("%d %s %s\n", os.Getpid(), startTime("self"), bootID())
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(words), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return f, nil
}

// bootID tells one start of the machine from another.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// startTime is field 22 of /proc/PID/stat, in clock ticks since boot: with it a
// pid is never taken for another's.
func startTime(pid string) string {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return "0"
	}
	// The second field is the name in parentheses and may hold anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return "0"
	}
	return fields[19]
}
