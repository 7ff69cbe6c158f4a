package shim

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// wardenScript waits until nobody holds the other end of its standard input, and
// kills all that it may. First it looks whether it may kill the shim, which is
// outside of its domain: then that does not hold it, and it is of no use.
const wardenScript = `trap "" HUP INT TERM; kill -0 $PPID 2>/dev/null && exit 1; read -r _; kill -KILL -1`

// guard starts the attempt's warden: where neither a user nor a control group of
// the job's own tells what is left of it should the shim be killed, a process in a
// Landlock domain around the job's kills everything in there, in one step of the
// kernel's. A domain cannot be left, whatever a process clears or closes, and what
// is inside cannot reach the warden. It runs on the job's thread before that enters
// its world.
func (a *attempt) guard() error {
	w := a.spec.World
	if a.spec.Users != "" || a.spec.Cgroups.Version != 0 || !w.CanScope() {
		return nil
	}
	if err := w.Scope(); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(p[0])
	// It has the lock too: while it lives, nobody may say that nothing is left.
	_, err = syscall.ForkExec("/bin/sh", []string{"sh", "-c", wardenScript}, &syscall.ProcAttr{
		Dir: "/", Files: []uintptr{uintptr(p[0]), null.Fd(), null.Fd(), a.lock.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		unix.Close(p[1])
		return nil //nolint:nilerr // a machine without a shell runs jobs all the same
	}
	a.warden = os.NewFile(uintptr(p[1]), "warden")
	return nil
}

// dismiss lets the warden kill all that is there, and end. It reports whether
// there was one to do so; its end is seen as that of any child.
func (a *attempt) dismiss() bool {
	if a.warden == nil {
		return false
	}
	a.warden.Close()
	a.warden = nil
	return true
}

// byOutput lists processes that have what a job's output goes through open. A pipe
// would have a number, and that another's pipe may have after a while, or after the
// machine's next start; this has a name in the attempt's own folder.
func byOutput(name string) []int {
	var out []int
	for _, pid := range processes() {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
		fds, _ := os.ReadDir(dir) // another user's, or gone
		for _, fd := range fds {
			if to, err := os.Readlink(dir + fd.Name()); err == nil && to == name {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}
