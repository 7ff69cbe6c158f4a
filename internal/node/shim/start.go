package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

// lockFD is where a shim finds its lock: the open file is handed on by [Start],
// so that there is no moment between the two at which nobody holds it.
const lockFD = 3

// wordFD is where it tells its agent, so that that need not look: it writes a byte
// once the job's process is there, and closes it once the record is. Its own end
// may take long: the kernel takes its time over mounts and watches.
const wordFD = 4

// words are where shims that we started say so, by folder, while they live.
var words sync.Map

// begunWithin is how long Start waits for that byte. Who gets none looks.
const begunWithin = time.Second

// stopWish is DIR/stop.json.
type stopWish struct {
	Cause queue.Cause   `json:"cause"`
	Grace time.Duration `json:"grace"`
}

// Start starts a shim for a spec, detached, in a session of its own. When it
// returns nil the shim holds its lock, or has ended already; its process is there
// but where that takes longer than begunWithin. It returns [ErrStarted] if a shim
// was started in the folder before, by whichever agent: then look. DIR and
// DIR/work may exist before.
//
// A power cut may take all trace of it, since nothing is synced; then there is no
// shim either. That an attempt is not started anew in its folder is the caller's
// to remember, on disk, before it calls Start.
func Start(dir string, spec Spec) error {
	if len(spec.Argv) == 0 || !localName(spec.Log) {
		return fmt.Errorf("start in %s: a spec needs a command and a log name below log/, has %q", dir, spec.Log)
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	if err := os.MkdirAll(path.Join(dir, "log"), 0o700); err != nil {
		return fmt.Errorf("make attempt folder: %w", err)
	}
	lock, err := openLock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", dir, ErrStarted)
	}
	if fi, err := lock.Stat(); err != nil || fi.Size() > 0 {
		return errors.Join(err, fmt.Errorf("start in %s: %w", dir, ErrStarted))
	}
	order, word, err := spawn(dir, lock)
	if err != nil {
		return fmt.Errorf("start shim: %w", err) // the lock is empty: the folder may be used again
	}
	// A shim that does not get all of it ends, having run nothing; whoever looks will
	// see that, and all else that a missing answer may mean.
	_, _ = order.Write(b)
	order.Close()
	_ = word.SetReadDeadline(time.Now().Add(begunWithin))
	_, _ = word.Read(make([]byte, 1))
	return nil
}

// spawn starts a shim. Its standard input is where it reads its spec, which
// nobody else needs, and which holds tokens.
func spawn(dir string, lock *os.File) (order, word *os.File, err error) {
	out, err := complaints(dir)
	if err != nil {
		return nil, nil, err
	}
	if out != os.Stderr {
		defer out.Close()
	}
	abs, err := absolute(dir)
	if err != nil {
		return nil, nil, err
	}
	in, order, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	word, its, err := os.Pipe()
	if err != nil {
		order.Close()
		return nil, nil, err
	}
	defer its.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{"ebb", "shim", abs}, &os.ProcAttr{
		Dir: "/",
		// A shim keeps nothing of our environment: a job must not find it there. It has
		// little to do, and threads that wait for more of it cost a tenth of its time.
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOTRACEBACK=single", "GOMAXPROCS=1"},
		Files: []*os.File{in, out, out, lock, its},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		order.Close()
		word.Close()
		return nil, nil, err
	}
	writePID(lock, p.Pid)
	words.Store(dir, word)
	go func() { // ends with the shim; reaps it while we live
		_, _ = p.Wait()
		words.CompareAndDelete(dir, word)
		word.Close()
	}()
	return order, word, nil
}

// complaints is where a shim says what its record cannot: beside what we say, if
// that is a file, else in DIR/shim.log.
func complaints(dir string) (*os.File, error) {
	if fi, err := os.Stderr.Stat(); err == nil && fi.Mode().IsRegular() {
		return os.Stderr, nil
	}
	return os.OpenFile(path.Join(dir, "shim.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// Look says what is known of a folder. It changes nothing.
func Look(dir string) (State, error) {
	if st, ok, err := lookRecord(dir); ok || err != nil {
		return st, err
	}
	l, err := readLock(dir)
	if err != nil {
		return State{}, err
	}
	switch {
	case l.taken:
		return State{Phase: Running, PID: l.pid, Process: l.Process, Started: l.Started}, nil
	case l.empty:
		return State{Phase: None}, nil
	}
	// The record is written before the lock is let go: look once more.
	if st, ok, err := lookRecord(dir); ok || err != nil {
		return st, err
	}
	return State{Phase: Died, Process: l.Process, Started: l.Started}, nil
}

func lookRecord(dir string) (State, bool, error) {
	var rec Record
	switch err := readJSON(path.Join(dir, "exit.json"), &rec); {
	case err == nil:
		return State{Phase: Ended, Record: rec, Started: rec.Exit.Started}, true, nil
	case errors.Is(err, fs.ErrNotExist):
		return State{}, false, nil
	default:
		return State{}, false, err
	}
}

// Wait blocks until the folder's shim has ended or ctx is done, and says what
// was left. It does not poll.
func Wait(ctx context.Context, dir string) (State, error) {
	heard := false
	for {
		st, err := Look(dir)
		if err != nil || st.Phase != Running {
			return st, err
		}
		if word, ok := words.Load(dir); ok && !heard {
			heard, err = true, waitWord(ctx, word.(*os.File))
		} else {
			err = waitShim(ctx, dir)
		}
		if err != nil {
			return st, err
		}
	}
}

// waitWord returns when a shim has closed its end, or ctx is done. It may be
// mistaken: whoever calls looks again.
func waitWord(ctx context.Context, word *os.File) error {
	_ = word.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = word.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		if _, err := word.Read(make([]byte, 1)); err != nil {
			return ctx.Err()
		}
	}
}

// waitShim returns when the lock's holder has died, or ctx is done.
func waitShim(ctx context.Context, dir string) error {
	l, err := readLock(dir)
	if err != nil || !l.taken {
		return err
	}
	if l.pid > 0 {
		fd, err := unix.PidfdOpen(l.pid, unix.PIDFD_NONBLOCK)
		if err == nil {
			// The pid is the holder's only if the lock is held, by the same pid,
			// after the pidfd was opened: then that process cannot be another.
			if again, err := readLock(dir); err != nil || !again.taken || again.pid != l.pid {
				unix.Close(fd)
				return err
			}
			return waitPidfd(ctx, fd)
		}
	}
	return waitFlock(ctx, dir)
}

func waitPidfd(ctx context.Context, fd int) error {
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// waitFlock is for kernels without pidfd polling. Its goroutine stays until the
// shim ends if ctx is done first.
func waitFlock(ctx context.Context, dir string) error {
	done := make(chan error, 1)
	go func() {
		lock, err := openLock(dir)
		if err == nil {
			err = flock(lock, unix.LOCK_SH)
			unlock(lock)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop asks the folder's shim to end its job: SIGTERM, then after grace SIGKILL.
// Asking again does nothing unless the cause is a stronger one (the first words
// of [queue.Cause]) or the grace is shorter. It does not wait.
func Stop(dir string, cause queue.Cause, grace time.Duration) error {
	file := path.Join(dir, "stop.json")
	var old stopWish
	if err := readJSON(file, &old); err == nil && !stronger(cause, old.Cause) && grace >= old.Grace {
		return nil
	} else if err == nil {
		if !stronger(cause, old.Cause) {
			cause = old.Cause
		}
		grace = min(grace, old.Grace)
	}
	return writeJSON(file, stopWish{Cause: cause, Grace: grace}, false)
}

var strength = []queue.Cause{queue.ByCancel, queue.ByTimeout, queue.ByExit, queue.BySetup, queue.ByPreemption, queue.ByNodeLoss}

// stronger reports whether a wins over b.
func stronger(a, b queue.Cause) bool {
	for _, c := range strength {
		if c == a || c == b {
			return a != b && c == a
		}
	}
	return false
}
