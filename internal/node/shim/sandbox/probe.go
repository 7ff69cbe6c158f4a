package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Users reports whether this process may give jobs users and mounts of their own,
// by trying; if not, why, for people.
func Users() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("it does not run as root")
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		v, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		caps, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		if err != nil {
			return fmt.Errorf("read own capabilities: %w", err)
		}
		for _, c := range []uint{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SYS_ADMIN} {
			if caps&(1<<c) == 0 {
				return fmt.Errorf("it is root without all of root's capabilities")
			}
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread dies with the goroutine, and its namespace with it
		done <- unix.Unshare(unix.CLONE_NEWNS)
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("it may not make mount namespaces: %w", err)
	}
	return nil
}
