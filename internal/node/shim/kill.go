package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proc is a process and who was its parent when it was seen.
type proc struct{ pid, parent int }

// descendants lists all that descend from this process now. Sessions and process
// groups do not matter: whatever loses its parent becomes the subreaper's child.
func descendants() []proc {
	self := os.Getpid()
	var out []proc
	seen := map[int]bool{self: true}
	todo := []int{self}
	for len(todo) > 0 {
		parent := todo[0]
		todo = todo[1:]
		for _, pid := range children(parent) {
			if !seen[pid] {
				seen[pid] = true
				out = append(out, proc{pid, parent})
				todo = append(todo, pid)
			}
		}
	}
	return out
}

// childless reports whether nothing descends from this process: whatever does is
// a child of it, or of one that is. It takes no child's end from who waits for it.
func childless() bool {
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return errors.Is(err, unix.ECHILD)
}

// children reads the children of all of a process's threads, from the kernel's
// lists, or where it has none (no CONFIG_PROC_CHILDREN) by looking at everybody.
func children(pid int) []int {
	base := "/proc/" + strconv.Itoa(pid) + "/task/"
	threads, err := os.ReadDir(base)
	if err != nil {
		return nil
	}
	var out []int
	for _, t := range threads {
		b, err := os.ReadFile(base + t.Name() + "/children")
		if errors.Is(err, os.ErrNotExist) {
			if _, serr := os.Stat(base + t.Name()); serr == nil {
				return childrenByParent(pid)
			}
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

func childrenByParent(parent int) []int {
	var out []int
	for _, pid := range processes() {
		if _, p := stat(pid); p == parent {
			out = append(out, pid)
		}
	}
	return out
}

func processes() []int {
	entries, _ := os.ReadDir("/proc")
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// stat reads a process's state and parent; parent -1: there is no such process.
func stat(pid int) (state byte, parent int) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, -1
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // the name may hold anything
	if len(f) < 2 {
		return 0, -1
	}
	parent, err = strconv.Atoi(string(f[1]))
	if err != nil {
		return 0, -1
	}
	return f[0][0], parent
}

// signalDescendants sends sig to all descendants, and reports how many it saw.
// A pid that came to belong to another process meanwhile is not signalled: the
// pidfd pins the process before its parent is looked at again.
func signalDescendants(sig unix.Signal) int {
	self := os.Getpid()
	all := descendants()
	for _, p := range all {
		fd, err := unix.PidfdOpen(p.pid, 0)
		if errors.Is(err, unix.ENOSYS) {
			_ = unix.Kill(p.pid, sig)
			continue
		}
		if err != nil {
			continue
		}
		if _, parent := stat(p.pid); parent == p.parent || parent == self {
			_ = unix.PidfdSendSignal(fd, sig, nil, 0)
		}
		unix.Close(fd)
	}
	return len(all)
}

// killUser sends SIGKILL to all processes of a user that is the job's alone, in
// one step of the kernel's: nothing can fork past it, and a bomb of thousands
// costs no more than one. A thread of ours becomes that user for the call, so
// that the kernel lets it reach nobody else, and ends with it.
func killUser(uid int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is of no more use
		if unix.Gettid() == os.Getpid() {
			killUser(uid) // the main thread cannot end, and stays who it is
			return
		}
		u := uintptr(uid)
		// Not unix.Setresuid, which changes all threads.
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, u, u, u); errno == 0 {
			_ = unix.Kill(-1, unix.SIGKILL) // never ourselves: kill(2)
		}
	}()
	<-done
}

// byEnvironment lists processes that were started with the variable.
func byEnvironment(variable string) []int {
	var out []int
	for _, pid := range processes() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err == nil && slices.Contains(strings.Split(string(b), "\x00"), variable) {
			out = append(out, pid)
		}
	}
	return out
}

// sweepPatience is how long killAll waits for one round of killed processes: one
// that waits for a disk may take long to die, and must not be reported dead.
const sweepPatience = 10 * time.Second

// killAll kills what find finds until it finds nothing. For processes that are
// not our descendants.
func killAll(find func() []int) error {
	end := time.Now().Add(sweepPatience)
	for {
		var fds []unix.PollFd
		var pids []int
		for _, pid := range find() {
			if state, parent := stat(pid); parent < 0 || state == 'Z' || state == 'X' || pid == os.Getpid() {
				continue
			}
			fd, err := unix.PidfdOpen(pid, 0)
			if errors.Is(err, unix.ESRCH) {
				continue
			}
			if err != nil {
				return fmt.Errorf("open process %d: %w", pid, err)
			}
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			pids = append(pids, pid)
		}
		if len(fds) == 0 {
			return nil
		}
		// Found again after it was pinned, it is what we pinned, and not a stranger
		// that came by the pid in between.
		again := find()
		for i, p := range fds {
			if slices.Contains(again, pids[i]) {
				_ = unix.PidfdSendSignal(int(p.Fd), unix.SIGKILL, nil, 0)
			}
		}
		for _, p := range fds {
			left := max(0, int(time.Until(end).Milliseconds()))
			_, _ = unix.Poll([]unix.PollFd{p}, left)
			unix.Close(int(p.Fd))
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d processes do not die", len(fds))
		}
	}
}
