package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

// lockFD is where a shim finds its lock: the open file is handed on by [Start],
// so that there is no moment between the two at which nobody holds it.
const lockFD = 3

// goFD is where it reads one byte once its spec is on disk: it gets ready while
// the disk turns, and starts nothing if its agent dies before. It answers with a
// byte once the job's process is there, so that its agent need not look for it.
const goFD = 4

// begunWithin is how long Start waits for that answer. Who gets none looks.
const begunWithin = time.Second

// started is DIR/started.json: what a sweep must know if the shim dies.
type started struct {
	UID     int       `json:"uid,omitempty"`     // the job's own user; 0: none
	Groups  []string  `json:"groups,omitempty"`  // control group folders
	Process int       `json:"process,omitempty"` // 0: not started yet
	Started time.Time `json:"started,omitzero"`
}

// stopWish is DIR/stop.json.
type stopWish struct {
	Cause queue.Cause   `json:"cause"`
	Grace time.Duration `json:"grace"`
}

// Start makes DIR/spec.json durable and then starts a shim for it, detached, in
// a session of its own. When it returns nil the shim holds its lock, or has ended
// already; its process is there but where that takes longer than begunWithin. It
// returns [ErrStarted] if the folder has a spec already, from whichever agent:
// then look. DIR and DIR/work may exist before.
func Start(dir string, spec Spec) error {
	if len(spec.Argv) == 0 || !filepath.IsLocal(filepath.FromSlash(spec.Log)) {
		return fmt.Errorf("start in %s: a spec needs a command and a log name below log/, has %q", dir, spec.Log)
	}
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
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
	path := filepath.Join(dir, "spec.json")
	if err := createOnce(path, spec); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("start in %s: %w", dir, ErrStarted)
		}
		return err
	}
	ready, err := spawn(dir, lock)
	if err != nil {
		// Nothing ran and we hold the lock: the folder may be used again.
		_ = os.Remove(path)
		return fmt.Errorf("start shim: %w", err)
	}
	defer ready.Close()
	if err := errors.Join(syncFile(path), syncFile(dir)); err != nil {
		return fmt.Errorf("make spec durable: %w", err) // the shim ends with no byte, having run nothing
	}
	// A shim that has ended already, as one that was stopped before, reads nothing.
	if _, err := ready.Write([]byte{1}); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("let shim go: %w", err)
	}
	_ = ready.SetReadDeadline(time.Now().Add(begunWithin))
	_, _ = ready.Read(make([]byte, 1)) // or it ended, or takes its time: whoever looks will see
	return nil
}

// spawn starts a shim that waits for a byte.
func spawn(dir string, lock *os.File) (ready *os.File, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	out, err := os.OpenFile(filepath.Join(dir, "shim.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	ours, its, err := pair()
	if err != nil {
		return nil, err
	}
	defer its.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{"ebb", "shim", abs}, &os.ProcAttr{
		Dir: "/",
		// A shim keeps nothing of our environment: a job must not find it there.
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOTRACEBACK=single"},
		Files: []*os.File{null, out, out, lock, its},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		ours.Close()
		return nil, err
	}
	writePID(lock, p.Pid)
	go func() { _, _ = p.Wait() }() // ends with the shim; reaps it while we live
	return ours, nil
}

// pair makes the two ends of a connection between agent and shim.
func pair() (ours, its *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	_ = unix.SetNonblock(fds[0], true) // ours may wait with a deadline
	return os.NewFile(uintptr(fds[0]), "shim"), os.NewFile(uintptr(fds[1]), "agent"), nil
}

// Look says what is known of a folder. It changes nothing.
func Look(dir string) (State, error) {
	if st, ok, err := lookRecord(dir); ok || err != nil {
		return st, err
	}
	if _, err := os.Stat(filepath.Join(dir, "spec.json")); errors.Is(err, fs.ErrNotExist) {
		return State{Phase: None}, nil
	} else if err != nil {
		return State{}, err
	}
	held, pid, err := lockState(dir)
	if err != nil {
		return State{}, err
	}
	var s started
	_ = readJSON(filepath.Join(dir, "started.json"), &s)
	if held {
		return State{Phase: Running, PID: pid, Process: s.Process, Started: s.Started}, nil
	}
	// The record is written before the lock is let go: look once more.
	if st, ok, err := lookRecord(dir); ok || err != nil {
		return st, err
	}
	return State{Phase: Died, Process: s.Process, Started: s.Started}, nil
}

func lookRecord(dir string) (State, bool, error) {
	var rec Record
	switch err := readJSON(filepath.Join(dir, "exit.json"), &rec); {
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
	for {
		st, err := Look(dir)
		if err != nil || st.Phase != Running {
			return st, err
		}
		if err := waitShim(ctx, dir); err != nil {
			return st, err
		}
	}
}

// waitShim returns when the lock's holder has died, or ctx is done.
func waitShim(ctx context.Context, dir string) error {
	held, pid, err := lockState(dir)
	if err != nil || !held {
		return err
	}
	if pid > 0 {
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err == nil {
			// The pid is the holder's only if the lock is held, by the same pid,
			// after the pidfd was opened: then that process cannot be another.
			if held, again, err := lockState(dir); err != nil || !held || again != pid {
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
			lock.Close()
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
	path := filepath.Join(dir, "stop.json")
	var old stopWish
	if err := readJSON(path, &old); err == nil && !stronger(cause, old.Cause) && grace >= old.Grace {
		return nil
	} else if err == nil {
		if !stronger(cause, old.Cause) {
			cause = old.Cause
		}
		grace = min(grace, old.Grace)
	}
	return writeJSON(path, stopWish{Cause: cause, Grace: grace}, false)
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

// --- files ---

func openLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
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

// lockState reports whether the lock is held, and the pid its holder wrote.
func lockState(dir string) (held bool, pid int, err error) {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return false, 0, nil
	}
	var b [32]byte
	n, _ := f.ReadAt(b[:], 0)
	pid, _ = strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return true, pid, nil
}

func writePID(f *os.File, pid int) {
	// Fixed width, so that writing it twice is as writing it once.
	_, _ = f.WriteAt(fmt.Appendf(nil, "%-10d\n", pid), 0)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// createOnce writes v to path, whole, unless path exists. It is not durable yet.
func createOnce(path string, v any) error {
	tmp, err := writeTemp(path, v, false)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return nil
}

// writeJSON writes v to path, whole, and durable if asked.
func writeJSON(path string, v any, durable bool) error {
	tmp, err := writeTemp(path, v, durable)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if durable {
		return syncFile(filepath.Dir(path))
	}
	return nil
}

func writeTemp(path string, v any, durable bool) (name string, err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = cerr
		}
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = f.Write(append(b, '\n')); err == nil && durable {
		err = f.Sync()
	}
	return f.Name(), err
}

// syncFile makes a file's content, or a folder's names, durable.
func syncFile(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
