package shim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A visit is one more command in a running job's world, for "ebb job exec". The
// shim starts it on the thread that is in that world, so that it has the job's
// user, mounts, rules and limits, can do no more than the job, and dies with it.
//
//	visit-ID.json      what is asked, renamed into place by the agent
//	visit-ID.begun     it runs, or why it does not
//	visit-ID.ended     its exit code
//	visit-ID.stop      kill it
const visitPrefix = "visit-"

// Visit is what a visitor runs. Files are descriptors of the process PID:
// standard input, output and error; the shim opens its own.
type Visit struct {
	ID       string   `json:"id"` // letters and digits
	Argv     []string `json:"argv"`
	Env      []string `json:"env,omitempty"` // over the job's
	PID      int      `json:"pid"`
	Files    [3]int   `json:"files"`
	Terminal bool     `json:"terminal,omitempty"` // Files[0] is one, and becomes its controlling terminal
}

// visitBegun is DIR/visit-ID.begun.
type visitBegun struct {
	Process int    `json:"process,omitempty"`
	Code    int    `json:"code,omitempty"` // of what the user can mend, as shells say it
	Error   string `json:"error,omitempty"`
}

// visitEnded is DIR/visit-ID.ended.
type visitEnded struct {
	Code int `json:"code"`
}

// ErrNotRunning is returned by [Enter] when there is no living job to enter.
var ErrNotRunning = errors.New("the job's process does not run")

// Visitor is a command that was let in.
type Visitor struct{ dir, id string }

// BadCommand says that a command cannot be started, for a reason that its user
// can mend, with the exit code that shells have for it.
type BadCommand struct {
	Code int
	Msg  string
}

func (b *BadCommand) Error() string { return b.Msg }

// visitLook is how often an agent looks for what the shim has written.
const visitLook = 5 * time.Millisecond

// Enter starts a command in the world of the attempt of a folder; with the ID of
// one that runs there, it finds that, which keeps the files it has. When it
// returns, the shim has opened files of its own: the caller may close its.
func Enter(ctx context.Context, dir string, v Visit) (*Visitor, error) {
	st, err := Look(dir)
	if err != nil {
		return nil, err
	}
	if st.Phase != Running || st.Process == 0 {
		return nil, ErrNotRunning
	}
	w := &Visitor{dir, v.ID}
	if _, err := os.Stat(w.file(".json")); err != nil { // otherwise it was let in before, by this id
		if err := writeJSON(w.file(".json"), v, false); err != nil {
			return nil, err
		}
	}
	var begun visitBegun
	if err := w.await(ctx, ".begun", &begun); err != nil {
		w.Kill()
		return nil, err
	}
	switch {
	case begun.Code != 0:
		w.forget()
		return nil, &BadCommand{begun.Code, begun.Error}
	case begun.Error != "":
		w.forget()
		return nil, errors.New(begun.Error)
	}
	return w, nil
}

// Wait returns the command's exit code, 128+n for signal n.
func (w *Visitor) Wait(ctx context.Context) (int, error) {
	var ended visitEnded
	err := w.await(ctx, ".ended", &ended)
	if err == nil {
		w.forget()
	}
	return ended.Code, err
}

// Kill kills the command and all of its session.
func (w *Visitor) Kill() { _ = writeJSON(w.file(".stop"), struct{}{}, false) }

func (w *Visitor) file(suffix string) string { return path.Join(w.dir, visitPrefix+w.id+suffix) }

// forget removes what was written about the visit.
func (w *Visitor) forget() {
	for _, suffix := range []string{".json", ".begun", ".ended", ".stop"} {
		_ = os.Remove(w.file(suffix))
	}
}

// await reads a file once it is there, as long as the shim lives.
func (w *Visitor) await(ctx context.Context, suffix string, v any) error {
	tick := time.NewTicker(visitLook)
	defer tick.Stop()
	for n := 1; ; n++ {
		b, err := os.ReadFile(w.file(suffix))
		if err == nil {
			return json.Unmarshal(b, v)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if n%20 == 0 {
			st, err := Look(w.dir)
			if err != nil {
				return err
			}
			if st.Phase != Running {
				if b, err := os.ReadFile(w.file(suffix)); err == nil { // written before the shim ended
					return json.Unmarshal(b, v)
				}
				return ErrNotRunning
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// visitors are those that a shim has let in. The lock is held from before a
// process is made until it is known here, so that its end is not missed.
type visitors struct {
	mu  sync.Mutex
	ids map[int]string // by process
}

// visit answers a file of a visit that has come into the folder.
func (a *attempt) visit(name string) {
	id, isStop := strings.CutSuffix(strings.TrimPrefix(name, visitPrefix), ".stop")
	if isStop {
		a.endVisit(id)
		return
	}
	id, isNew := strings.CutSuffix(id, ".json")
	if !isNew {
		return // of our own writing
	}
	w := &Visitor{a.dir, id}
	begun := visitBegun{}
	pid, err := a.admit(w)
	bad := (*badCommand)(nil)
	switch {
	case errors.As(err, &bad):
		begun.Code, begun.Error = bad.code, bad.msg
	case err != nil:
		begun.Error = err.Error()
	default:
		begun.Process = pid
	}
	_ = writeJSON(w.file(".begun"), begun, false) // the agent, told nothing, gives up by itself
}

// admit starts the command of a visit.
func (a *attempt) admit(w *Visitor) (pid int, err error) {
	if a.main == 0 || a.machine.phase != running {
		return 0, errors.New("the job is ending")
	}
	var v Visit
	if err := readJSON(w.file(".json"), &v); err != nil {
		return 0, err
	}
	if len(v.Argv) == 0 {
		return 0, errors.New("no command is named")
	}
	var fds [3]uintptr
	for i, n := range v.Files {
		flags := []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_WRONLY}[i]
		if v.Terminal {
			flags = unix.O_RDWR | unix.O_NOCTTY
		}
		fd, err := unix.Open("/proc/"+strconv.Itoa(v.PID)+"/fd/"+strconv.Itoa(n), flags|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("open standard files: %w", err)
		}
		defer unix.Close(fd)
		fds[i] = uintptr(fd)
	}
	if v.Terminal && a.user != nil {
		if err := unix.Fchown(int(fds[0]), a.user.UID, -1); err != nil {
			return 0, fmt.Errorf("give the terminal to the job's user: %w", err)
		}
	}
	attr := a.attr(fds[:])
	attr.Env = append(over(a.spec.Env, v.Env), marker+"="+a.dir)
	attr.Sys.Setctty = v.Terminal // descriptor 0, being Ctty's zero
	if a.spec.Contained {         // it goes in by our program, which hands its files on
		v.Argv, attr.Sys.Setctty = []string{self, "contain", "enter", a.dir, v.ID}, false
	}
	a.visitors.mu.Lock()
	defer a.visitors.mu.Unlock()
	if err := a.thread.do(func() error { pid, err = a.spawn(v.Argv, attr); return err }); err != nil {
		return 0, err
	}
	if a.visitors.ids == nil {
		a.visitors.ids = map[int]string{}
	}
	a.visitors.ids[pid] = v.ID
	// As the job's own processes: what the kernel kills first is not for a visitor to choose.
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(a.oomScore), 0)
	return pid, nil
}

// left tells whoever waits that a process has ended, if it was a visitor's.
func (a *attempt) left(pid int, ws syscall.WaitStatus) {
	a.visitors.mu.Lock()
	id, ok := a.visitors.ids[pid]
	delete(a.visitors.ids, pid)
	a.visitors.mu.Unlock()
	if !ok {
		return
	}
	code := ws.ExitStatus()
	if ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	w := &Visitor{a.dir, id}
	_ = writeJSON(w.file(".ended"), visitEnded{code}, false)
	_ = os.Remove(w.file(".stop"))
}

// endVisit kills a visitor and its session.
func (a *attempt) endVisit(id string) {
	a.visitors.mu.Lock()
	defer a.visitors.mu.Unlock()
	for pid, has := range a.visitors.ids {
		if has != id {
			continue
		}
		for _, p := range descendants() {
			if session, err := unix.Getsid(p.pid); err == nil && session == pid {
				_ = unix.Kill(p.pid, unix.SIGKILL)
			}
		}
	}
}

// over puts variables over others.
func over(env, more []string) []string {
	out := make([]string, 0, len(env)+len(more)+1)
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		replaced := false
		for _, m := range more {
			replaced = replaced || strings.HasPrefix(m, name+"=")
		}
		if !replaced {
			out = append(out, kv)
		}
	}
	return append(out, more...)
}

// arrivals are the names in a buffer of inotify events.
func arrivals(b []byte) []string {
	var names []string
	for len(b) >= unix.SizeofInotifyEvent {
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if size > len(b) {
			break
		}
		names = append(names, strings.TrimRight(string(b[unix.SizeofInotifyEvent:size]), "\x00"))
		b = b[size:]
	}
	return names
}
