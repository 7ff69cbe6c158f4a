package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/shim/cgroup"
	"github.com/ebb-compute/ebb/internal/node/shim/uids"
)

// start makes the attempt's user, control group, world and log, and then its
// process. What takes long goes on at the same time: entering a control group
// (version 1) waits for all CPUs, so a thread enters while we do the rest.
func (a *attempt) start() error {
	t := newThread()
	a.thread = t
	entered := make(chan error, 1)
	go func() { entered <- a.enterGroup(t.tid) }()
	err := a.prepare()
	if err == nil {
		err = t.do(a.guard)
	}
	if err == nil {
		err = t.do(a.spec.World.Enter)
	}
	if err = errors.Join(<-entered, err); err != nil {
		return err
	}
	// A sweep needs these should we die; after a power cut nobody does.
	h := held{Users: a.spec.Users, Output: a.log.name}
	if a.user != nil {
		h.UID = a.user.UID
	}
	if a.group != nil {
		h.Groups = a.group.Dirs()
	}
	if err := writeHeld(a.lock, h); err != nil {
		return err
	}
	if err := t.do(a.fork); err != nil {
		return err
	}
	// From here on the machine may take the job rather than us; the job itself was
	// forked before, with what the node gave.
	if score, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		a.oomScore = string(score)
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	a.held = h
	if !a.spec.Contained {
		a.began()
	}
	return nil
}

// began says that the job's process is there.
func (a *attempt) began() {
	a.held.Process, a.held.Started = a.main, now()
	// On a full disk the job goes on without: it runs, so nothing may say that it
	// could not be started, or it would be started a second time beside this one.
	_ = writeHeld(a.lock, a.held)
	_, _ = unix.Write(wordFD, []byte{1}) // the agent may be gone: that is all the same to us
}

// prepare makes the log, and the user if there is to be one.
func (a *attempt) prepare() (err error) {
	at := ""
	if a.spec.Users == "" && a.spec.Cgroups.Version == 0 {
		at = path.Join(a.dir, outputName)
	}
	if a.log, err = openLog(path.Join(a.dir, "log", a.spec.Log), at); err != nil {
		return err
	}
	if a.log.name != "" {
		// A pipe may be opened as /dev/stdout whatever Landlock says, and so may this.
		a.spec.World.Write = append(slices.Clip(a.spec.World.Write), "/proc/self/fd/"+strconv.Itoa(a.log.w))
	}
	if a.spec.Ranks != nil {
		if err := makeLogs(path.Join(a.dir, "log"), a.spec.Ranks.Logs); err != nil {
			return err
		}
	}
	if a.spec.Users == "" {
		return nil
	}
	if a.user, err = uids.Take(a.spec.Users, a.dir); err != nil {
		return err
	}
	for _, own := range a.spec.Own {
		if err := give(own, a.user.UID); err != nil {
			return fmt.Errorf("give files to the job's user: %w", err)
		}
	}
	if err := a.log.give(a.user.UID); err != nil {
		return fmt.Errorf("give log to the job's user: %w", err)
	}
	if a.spec.Ranks == nil {
		return nil
	}
	return giveLogs(path.Join(a.dir, "log"), a.spec.Ranks.Logs, a.user.UID)
}

// enterGroup makes the attempt's group and puts a thread into it, for good: what
// the thread starts is in it.
func (a *attempt) enterGroup(tid int) (err error) {
	lim := a.spec.Limits
	if lim.PIDs > 0 && a.spec.Users != "" && a.spec.Cgroups.Version != 2 {
		// Each group that a thread enters makes it wait for all CPUs. A user that is
		// the job's alone can be counted without one.
		n := unix.Rlimit{Cur: uint64(lim.PIDs), Max: uint64(lim.PIDs)}
		if err := unix.Setrlimit(unix.RLIMIT_NPROC, &n); err != nil {
			return fmt.Errorf("limit processes: %w", err)
		}
		lim.PIDs = 0
	}
	if a.spec.Cgroups.Version == 0 {
		return nil
	}
	name := sha256.Sum256([]byte(a.dir))
	if a.group, err = cgroup.Make(a.spec.Cgroups, hex.EncodeToString(name[:8]), lim); err != nil {
		return err
	}
	return a.group.Enter(tid)
}

// thread is an OS thread that is spoiled for anything but one job: it is in the
// job's world and control group, so that one fork is enough. It lives as long as
// the job, since the kernel kills the process (PDEATHSIG) when the thread that
// forked it dies.
type thread struct {
	tid  int
	work chan func() error
	done chan error
}

func newThread() *thread {
	t := &thread{work: make(chan func() error), done: make(chan error)}
	tid := make(chan int)
	go func() {
		runtime.LockOSThread() // never unlocked: it ends with this goroutine
		if unix.Gettid() == os.Getpid() {
			// The main thread cannot end. While it is held here, another is found.
			defer runtime.UnlockOSThread()
			*t = *newThread()
			tid <- t.tid
			return
		}
		tid <- unix.Gettid()
		for f := range t.work {
			t.done <- f()
		}
	}()
	t.tid = <-tid
	return t
}

// end lets the thread end, and with it what it had of the world and of the group.
func (t *thread) end() { close(t.work) }

func (t *thread) do(f func() error) error {
	t.work <- f
	return <-t.done
}

// fork starts the user's process. It runs on the thread that is in the world.
func (a *attempt) fork() error {
	in, err := input(a.spec.Input)
	if err != nil {
		return err
	}
	defer in.Close()
	attr := a.attr([]uintptr{in.Fd(), uintptr(a.log.w), uintptr(a.log.w)})
	attr.Env = append(a.spec.Env, marker+"="+a.dir)
	if a.spec.Contained {
		word, err := a.contain(attr)
		if err != nil {
			return err
		}
		defer word.Close()
	}
	if a.main, err = a.spawn(a.spec.Argv, attr); err != nil {
		return err
	}
	a.log.started()
	return nil
}

// attr is how every process of the job is started, but for its environment.
func (a *attempt) attr(files []uintptr) *syscall.ProcAttr {
	attr := &syscall.ProcAttr{
		Dir:   a.spec.Dir,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if a.user != nil && !a.spec.Contained {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(a.user.UID), Gid: uint32(a.user.UID)}
	}
	if a.group != nil {
		if fd, ok := a.group.FD(); ok {
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
		}
	}
	return attr
}

// spawn starts a program of the job. It runs on the thread that is in the world.
func (a *attempt) spawn(argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	// Whoever started our node may have blocked signals (Slurm blocks SIGTERM).
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return 0, fmt.Errorf("unblock signals: %w", err)
	}
	program, err := lookPath(argv[0], attr.Env)
	if err != nil {
		return 0, err
	}
	if pid, err = syscall.ForkExec(program, argv, attr); err != nil {
		return 0, explain(a.spec, program, err)
	}
	return pid, nil
}

// give makes a user the owner of a tree. Nobody else can change it meanwhile: no
// process of the job runs yet.
func give(root string, uid int) error {
	return walk(root, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, uid, uid)
	})
}
