package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/shim/cgroup"
	"github.com/ebb-compute/ebb/internal/node/shim/uids"
)

// start makes the attempt's user, control group and log, and then its process.
func (a *attempt) start() error {
	var err error
	if a.log, err = openLog(filepath.Join(a.dir, "log", filepath.FromSlash(a.spec.Log))); err != nil {
		return err
	}
	if a.spec.Users != "" {
		if a.user, err = uids.Take(a.spec.Users, a.dir); err != nil {
			return err
		}
		for _, path := range a.spec.Own {
			if err := give(path, a.user.UID); err != nil {
				return fmt.Errorf("give files to the job's user: %w", err)
			}
		}
		if err := a.log.give(a.user.UID); err != nil {
			return fmt.Errorf("give log to the job's user: %w", err)
		}
	}
	if a.spec.Cgroups.Version != 0 {
		name := sha256.Sum256([]byte(a.dir))
		if a.group, err = cgroup.Make(a.spec.Cgroups, hex.EncodeToString(name[:8]), a.spec.Limits); err != nil {
			return err
		}
	}
	// A sweep needs these should we die; after a power cut nobody does.
	s := started{}
	if a.user != nil {
		s.UID = a.user.UID
	}
	if a.group != nil {
		s.Groups = a.group.Dirs()
	}
	if err := writeJSON(filepath.Join(a.dir, "started.json"), s, false); err != nil {
		return err
	}
	if err := a.fork(); err != nil {
		return err
	}
	// From here on the machine may take the job rather than us; the job itself was
	// forked before, with what the node gave.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	s.Process, s.Started = a.main, now()
	return writeJSON(filepath.Join(a.dir, "started.json"), s, false)
}

// fork starts the user's process from an OS thread that is in the job's world
// already, so that one fork is enough. The thread lives as long as we do, since
// the kernel kills the process (PDEATHSIG) when the thread that forked it dies.
func (a *attempt) fork() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is spoiled for anything else
		err := a.forkHere()
		done <- err
		select {}
	}()
	return <-done
}

func (a *attempt) forkHere() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Dir:   a.spec.Dir,
		Env:   append(a.spec.Env, marker+"="+a.dir),
		Files: []uintptr{null.Fd(), uintptr(a.log.w), uintptr(a.log.w)},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if a.user != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(a.user.UID), Gid: uint32(a.user.UID)}
	}
	if a.group != nil {
		if fd, ok := a.group.FD(); ok {
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
		}
	}
	tid := unix.Gettid()
	if a.group != nil {
		leave, err := a.group.Enter(tid)
		if err != nil {
			return err
		}
		// We must not be in the group that we kill, nor keep it from being removed.
		defer leave()
	}
	// Whoever started our node may have blocked signals (Slurm blocks SIGTERM).
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return fmt.Errorf("unblock signals: %w", err)
	}
	if err := a.spec.World.Enter(); err != nil {
		return err
	}
	program, err := lookPath(a.spec.Argv[0], a.spec.Env)
	if err != nil {
		return err
	}
	if a.main, err = syscall.ForkExec(program, a.spec.Argv, attr); err != nil {
		return explain(a.spec, program, err)
	}
	a.log.started()
	return nil
}

// give makes a user the owner of a tree. Nobody else can change it meanwhile: no
// process of the job runs yet.
func give(root string, uid int) error {
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
}
