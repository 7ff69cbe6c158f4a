// Package inside is "ebb inside": process 1 of a job's container. It is the only
// program of ours in there, a file shown by node/container, whatever the image
// has: it starts the job's command and those of visitors, hands signals on, waits
// for all that loses its parent, and carries connections to Ebb's server, which it
// answers for on the container's own loopback, out over a socket. So a container
// needs no way to its host, and the host no open port.
//
// It does what it is told over its first connection ("control") and ends, with all
// that runs there, when that is cut: what holds the container is dead then.
//
// It is begun by node/shim/early and imports, as a shim, nothing that comes late.
package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Where things are in the container.
const (
	Program = "/run/ebb/ebb" // this binary
	Folder  = "/run/ebb/job" // of the attempt, with what follows
	Socket  = "sock"         // where connections are taken: one that is made says first what it is
	Output  = "out"          // a pipe: standard output and error of the job
)

// First bytes of a connection to [Socket].
const (
	Control = 'c' // the first of all; an [Order] comes, then [Word]s in both directions
	Relay   = 'r' // bytes for the server
	Visit   = 'v' // then a visitor's id and a new line; an [Entry] comes, with three files
)

// Order is what is to be run.
type Order struct {
	Argv []string `json:"argv"` // Argv[0] without a slash is looked up in PATH
	Env  []string `json:"env"`  // over the image's
	Dir  string   `json:"dir"`
	Port int      `json:"port,omitempty"` // on loopback, relayed to the server; 0: none
}

// Word is one thing said on the control connection.
type Word struct {
	// From the container.
	Began  bool   `json:"began,omitempty"`  // the job's process runs
	Failed string `json:"failed,omitempty"` // it does not, or a visitor's: why, with Code as shells say it
	Code   int    `json:"code,omitempty"`
	Ended  bool   `json:"ended,omitempty"`  // it ended with Code, and all else with it
	Killed int    `json:"killed,omitempty"` // with Ended: processes killed for want of memory
	Visit  string `json:"visit,omitempty"`  // what Code and Failed are about; empty: the job

	// To the container.
	End   bool   `json:"end,omitempty"`   // SIGTERM to all
	Enter string `json:"enter,omitempty"` // a visitor waits: fetch it
	Leave string `json:"leave,omitempty"` // kill that visitor
}

// Entry is what a visitor runs.
type Entry struct {
	Argv     []string `json:"argv"`
	Env      []string `json:"env,omitempty"`      // over the job's
	Terminal bool     `json:"terminal,omitempty"` // its files are one, which becomes its controlling terminal
}

// process1 is the state of it all.
type process1 struct {
	order   Order
	control *os.File
	out     *os.File

	mu       sync.Mutex
	main     int
	visitors map[int]string // by process
	encoder  *json.Encoder
}

// broken is the code of a container in which nothing could be begun, as engines have it.
const broken = 125

// Main is "ebb inside".
func Main() int {
	p := &process1{visitors: map[int]string{}}
	code, err := p.run()
	if err != nil && p.encoder == nil {
		fmt.Fprintln(os.Stderr, "ebb inside:", err)
		return broken
	}
	if err != nil {
		p.say(Word{Failed: "The container's first process cannot begin: " + err.Error() + ".", Code: broken})
		return broken
	}
	return code
}

func (p *process1) run() (int, error) {
	syscall.Umask(0o022)
	var err error
	if p.control, err = dial(string(Control)); err != nil {
		return 0, err
	}
	p.encoder = json.NewEncoder(p.control)
	words := json.NewDecoder(p.control)
	if err := words.Decode(&p.order); err != nil {
		return 0, fmt.Errorf("read the order: %w", err)
	}
	p.order.Env = over(os.Environ(), p.order.Env)
	if p.out, err = os.OpenFile(path.Join(Folder, Output), os.O_WRONLY, 0); err != nil {
		return 0, err
	}
	go p.listen(words)
	p.forwardSignals()
	if p.order.Port != 0 {
		if err := relay(p.order.Port); err != nil {
			return 0, err
		}
	}
	pid, bad := p.spawn(p.order.Argv, p.order.Env, [3]*os.File{nil, p.out, p.out}, false, "")
	if bad != nil {
		p.say(Word{Failed: bad.Error(), Code: bad.code})
		return bad.code, nil
	}
	p.out.Close() // the job's alone now
	p.say(Word{Began: true})
	code := p.reap(pid)
	p.say(Word{Ended: true, Code: code, Killed: killed()})
	return code, nil
}

func (p *process1) say(w Word) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.encoder.Encode(w) // cut, it ends us by listen
}

// listen does what is asked until the connection is cut.
func (p *process1) listen(words *json.Decoder) {
	for {
		var w Word
		if words.Decode(&w) != nil {
			_ = unix.Kill(-1, unix.SIGKILL)
			os.Exit(128 + int(unix.SIGKILL)) // the kernel takes what is left
		}
		switch {
		case w.End:
			_ = unix.Kill(-1, unix.SIGTERM)
		case w.Enter != "":
			go p.enter(w.Enter)
		case w.Leave != "":
			p.leave(w.Leave)
		}
	}
}

// forwardSignals hands on what the engine sends to process 1.
func (p *process1) forwardSignals() {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	go func() {
		for s := range c {
			_ = unix.Kill(-1, s.(syscall.Signal))
		}
	}()
}

// reap waits for all processes until the job's has ended. What is left then the
// kernel kills with us: nothing can fork past that.
func (p *process1) reap(job int) (code int) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD: somebody else has waited for it, which nobody can
			return broken
		case pid == job:
			return codeOf(ws)
		default:
			p.mu.Lock() // spawn holds it until it has said whose the process is
			id, ok := p.visitors[pid]
			delete(p.visitors, pid)
			p.mu.Unlock()
			if ok {
				p.say(Word{Visit: id, Ended: true, Code: codeOf(ws)})
			}
		}
	}
}

func codeOf(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// badCommand says why a program could not be started, with the code that shells
// have for it.
type badCommand struct {
	code int
	msg  string
}

func (b *badCommand) Error() string { return b.msg }

// spawn starts a program; visitor is whose it is, empty: the job's.
func (p *process1) spawn(argv, env []string, files [3]*os.File, terminal bool, visitor string) (pid int, bad *badCommand) {
	if len(argv) == 0 {
		return 0, &badCommand{127, "No command is named."}
	}
	program, bad := lookPath(argv[0], env)
	if bad != nil {
		return 0, bad
	}
	attr := &syscall.ProcAttr{Dir: p.order.Dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: terminal}}
	for _, f := range files {
		if f == nil {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				return 0, &badCommand{126, "The container has no /dev/null: " + err.Error() + "."}
			}
			defer null.Close()
			f = null
		}
		attr.Files = append(attr.Files, f.Fd())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pid, err := syscall.ForkExec(program, argv, attr)
	if err != nil {
		return 0, explain(p.order.Dir, program, err)
	}
	if visitor != "" {
		p.visitors[pid] = visitor
	}
	return pid, nil
}

// explain says why a program could not be started.
func explain(dir, program string, err error) *badCommand {
	if _, serr := os.Stat(dir); serr != nil {
		return &badCommand{126, fmt.Sprintf("The working folder %s cannot be entered: %v.", dir, serr)}
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		if _, serr := os.Stat(program); serr == nil {
			return &badCommand{127, program + " cannot be started: the interpreter or loader that it needs is not in the image."}
		}
		if program == "/bin/sh" {
			return &badCommand{127, "The image has no /bin/sh, and jobs' commands are run by one: use an image that has it."}
		}
		return &badCommand{127, program + " cannot be started: there is no such file in the image."}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return &badCommand{126, program + " cannot be started: it is not executable for the job's user."}
	case errors.Is(err, unix.ENOEXEC):
		return &badCommand{126, program + " cannot be started: this machine cannot run files of its format. Is the image for another architecture?"}
	case errors.Is(err, unix.EINVAL):
		return &badCommand{126, program + " cannot be started: its arguments or environment variables have a zero byte."}
	case errors.Is(err, unix.E2BIG):
		return &badCommand{126, program + " cannot be started: its arguments and environment variables are too long."}
	}
	return &badCommand{126, fmt.Sprintf("%s cannot be started: %v.", program, err)}
}

// lookPath finds a program as execvp does, in the job's PATH. An image with a
// python3 alone has a python.
func lookPath(name string, env []string) (string, *badCommand) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var list string
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			list = p
		}
	}
	names := []string{name}
	if name == "python" {
		names = append(names, "python3")
	}
	for _, name := range names {
		for dir := range strings.SplitSeq(list, ":") {
			full := path.Join(dir, name)
			if st, err := os.Stat(full); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return full, nil
			}
		}
	}
	return "", &badCommand{127, fmt.Sprintf("%s cannot be started: the image has no such program in PATH (%s).", name, list)}
}

// over puts variables over others.
func over(env, more []string) []string {
	set := map[string]bool{}
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		set[name] = true
	}
	var out []string
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); !set[name] {
			out = append(out, kv)
		}
	}
	return append(out, more...)
}

// killed is how many of the container's processes the kernel killed at its limit
// of memory, as version 1 and 2 of its control groups say.
func killed() int {
	n := 0
	for _, file := range []string{"/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events"} {
		b, _ := os.ReadFile(file)
		for line := range strings.Lines(string(b)) {
			var k int
			if _, err := fmt.Sscanf(line, "oom_kill %d", &k); err == nil {
				n = max(n, k)
			}
		}
	}
	return n
}
