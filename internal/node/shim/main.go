package shim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/shim/cgroup"
	"github.com/ebb-compute/ebb/internal/node/shim/uids"
)

// defaultGrace is what a stop that names no grace gives.
const defaultGrace = 10 * time.Second

// Main is `ebb shim DIR`: it runs the attempt of a folder and returns the exit
// status of the shim itself, not of the job. DIR/lock must come as descriptor 3,
// locked, from [Start].
func Main(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: ebb shim DIR")
		return 2
	}
	if err := run(args[0]); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		return 1
	}
	return 0
}

// attempt is a shim's whole state.
type attempt struct {
	dir     string
	lock    *os.File
	spec    Spec
	machine Machine
	user    *uids.Lease   // nil: none
	group   *cgroup.Group // nil: none
	warden  *os.File      // closed, it kills; nil: none
	log     *logFile
	main    int // pid of the user's process
	events  chan Event
	timeout <-chan time.Time
	grace   <-chan time.Time
	again   <-chan time.Time // while killing
	killed  time.Time        // last looked through, while killing
	failure string           // why there never was a process

	thread   *thread // in the job's world
	held     held    // of the lock
	oomScore string  // of the job's processes
	visits   chan string
	visitors visitors
}

// run does the whole work of a shim. An error means that no record was written.
func run(dir string) error {
	unix.CloseOnExec(lockFD)
	unix.CloseOnExec(wordFD)
	lock := os.NewFile(lockFD, "lock") // open until we die
	if lock == nil || !sameFile(lock, path.Join(dir, "lock")) {
		return errors.New("the lock is not handed on: shims are started by agents")
	}
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer lock.Close()
	writePID(lock, os.Getpid())
	if _, ok, err := lookRecord(dir); ok || err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	syscall.Umask(0o022)
	a := &attempt{dir: dir, lock: lock, events: make(chan Event, 16), visits: make(chan string)}
	if err := json.NewDecoder(os.Stdin).Decode(&a.spec); err != nil {
		return fmt.Errorf("read spec: %w", err) // our agent died before it had said all
	}
	if a.spec.Grace <= 0 {
		a.spec.Grace = defaultGrace
	}
	a.machine.TimeLimit = a.spec.TimeLimit
	if err := a.watchSignals(); err != nil {
		return err
	}
	err := a.live()
	lock.Close()
	unix.Close(wordFD)
	// Nobody waits for this: our thread leaves the group only after its mounts are
	// down, which takes the kernel ten milliseconds, and seconds when it is busy.
	if a.group != nil {
		_ = a.group.Remove()
	}
	return err
}

// live runs the attempt to its record.
func (a *attempt) live() error {
	if w, ok := a.wish(); ok { // stopped before it began
		a.machine.Exit = queue.Exit{Cause: w.Cause, Code: 128 + int(unix.SIGTERM), Ended: now()}
		a.failure = "The job was stopped before its process was started."
		return a.finish()
	}
	if err := a.start(); err != nil {
		a.machine.Exit = queue.Exit{Cause: queue.ByNodeLoss, Code: 128 + int(unix.SIGKILL), Ended: now()}
		a.failure = "The node could not start the job: " + err.Error() + "."
		var bad *badCommand
		if errors.As(err, &bad) {
			a.machine.Exit.Cause, a.machine.Exit.Code = queue.BySetup, bad.code
			a.failure = bad.Error()
		}
		return a.finish()
	}
	done := a.do(a.machine.Step(Event{Started: true, At: now()}))
	go a.reap()
	for !done {
		select {
		case e := <-a.events:
			if e.Began {
				a.began()
			}
			done = a.do(a.machine.Step(e))
		case <-a.timeout:
			done = a.do(a.machine.Step(Event{Timeout: true, Grace: a.spec.Grace}))
		case <-a.grace:
			done = a.do(a.machine.Step(Event{Overdue: true}))
		case <-a.again:
			done = a.do(a.machine.Step(Event{Reaped: true}))
		case name := <-a.visits:
			a.visit(name)
		}
	}
	return a.finish()
}

// do carries effects out, and reports whether the attempt is over.
func (a *attempt) do(effects []Effect) (over bool) {
	for _, e := range effects {
		switch e.Verb {
		case ArmTimeout:
			a.timeout = time.After(e.In)
		case ArmGrace:
			a.grace = time.After(e.In)
		case Terminate:
			a.terminate()
		case Kill:
			a.kill()
		case Finish:
			over = true
		default:
			panic("shim: unknown verb " + e.Verb)
		}
	}
	return over
}

// askWithin bounds how long the grace waits until all that is there has been asked
// to end: a fork bomb may grow as fast as it is looked through.
const askWithin = time.Second

// terminate asks everything that descends from us to end.
func (a *attempt) terminate() {
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		signalDescendants(unix.SIGTERM)
	}()
	select {
	case <-asked:
	case <-time.After(askWithin):
	}
}

// killEvery bounds how often what descends from us is looked through while it
// dies: every death asks for another look, and a fork bomb is many deaths.
const killEvery = 20 * time.Millisecond

// kill ends everything that descends from us. It is called until nothing does.
func (a *attempt) kill() {
	// Looking through /proc is dear: it leaves entries for our threads in the
	// kernel's caches, over which those threads trip each other when they end.
	if childless() {
		return // reap says so too
	}
	if a.dismiss() {
		a.again = time.After(200 * time.Millisecond) // should it be dead
		return
	}
	if wait := killEvery - time.Since(a.killed); wait > 0 {
		a.again = time.After(wait)
		return
	}
	if a.group != nil {
		a.group.Close()
		a.group.Kill()
	}
	if a.user != nil {
		killUser(a.user.UID)
	}
	signalDescendants(unix.SIGKILL)
	a.killed = time.Now()
	a.again = time.After(200 * time.Millisecond) // should one have slipped through
}

// reap waits for everything that descends from us, until nothing does.
func (a *attempt) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD: nobody is left who could have children
			a.events <- Event{Empty: true, At: now()}
			return
		case pid == a.main && (ws.Exited() || ws.Signaled()):
			code := ws.ExitStatus()
			if ws.Signaled() {
				code = 128 + int(ws.Signal())
			}
			a.events <- Event{Exited: true, Code: code, At: now()}
		default:
			a.left(pid, ws)
			a.events <- Event{Reaped: true}
		}
	}
}

// watchSignals tells of stop.json and of visits, and of SIGTERM: the machine goes
// down. The other signals that end programs by default are for our job, not for us.
func (a *attempt) watchSignals() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch for a stop: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, a.dir, unix.IN_MOVED_TO); err != nil {
		return fmt.Errorf("watch for a stop: %w", err)
	}
	go func() {
		var buf [4096]byte
		for {
			n, err := unix.Read(fd, buf[:])
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
			if w, ok := a.wish(); ok {
				a.events <- Event{Stop: w.Cause, Grace: w.Grace}
			}
			for _, name := range arrivals(buf[:max(n, 0)]) {
				if strings.HasPrefix(name, visitPrefix) {
					a.visits <- name
				}
			}
		}
	}()
	sig := make(chan os.Signal, 4)
	signal.Notify(sig, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		for s := range sig {
			if s == syscall.SIGTERM {
				a.events <- Event{Stop: queue.ByNodeLoss, Grace: a.spec.Grace}
			}
		}
	}()
	return nil
}

func (a *attempt) wish() (stopWish, bool) {
	var w stopWish
	err := readJSON(path.Join(a.dir, "stop.json"), &w)
	return w, err == nil && w.Cause != ""
}

// finish writes the record: what it says is gone is gone, and what it says is
// there is on disk.
func (a *attempt) finish() error {
	within := a.settle()
	oom := a.release() + within
	e := a.machine.Exit
	log, words := a.blame(&e)
	if e.Message = words; words == "" {
		e.Message = a.message(e, oom, log)
	}
	rec := Record{Exit: e, Logs: logSizes(a.dir)}
	return writeJSON(path.Join(a.dir, "exit.json"), rec, true)
}

// release gives back what the attempt had of the machine, and reports how many
// of its processes had been killed for want of memory.
func (a *attempt) release() (oom int) {
	if a.log != nil {
		a.log.close(a.lastWords())
	}
	if a.group != nil {
		oom = a.group.OOMKills()
	}
	if a.thread != nil {
		a.thread.end()
	}
	a.dismiss()
	if a.user != nil {
		_ = a.user.Close()
	}
	return oom
}

// lastWords end the log of a job that was stopped by its time limit: whoever reads
// it sees no process that failed, only one that says no more.
func (a *attempt) lastWords() string {
	if a.machine.Exit.Cause != queue.ByTimeout {
		return ""
	}
	return fmt.Sprintf("The job ran longer than its time limit of %s and was stopped.", a.spec.TimeLimit)
}

// message says for people how it ended; empty where there is nothing to say.
func (a *attempt) message(e queue.Exit, oom int, log string) string {
	if a.failure != "" {
		return a.failure
	}
	var head string
	who, it := "The job's process", "It"
	if e.Process != "" {
		who = fmt.Sprintf("%s%s on node %s", strings.ToUpper(e.Process[:1]), e.Process[1:], a.spec.Ranks.Node)
		it = who
	}
	switch {
	case e.Cause == queue.ByTimeout:
		return a.lastWords()
	case e.Cause != queue.ByExit || e.Code == 0:
		return ""
	case oom > 0:
		head = fmt.Sprintf("The job hit the memory limit of %s: the kernel killed %s of it. %s ended with %s.",
			a.memoryWords(), plural(oom, "process", "processes"), it, codeWords(e.Code))
	default:
		head = fmt.Sprintf("%s ended with %s.", who, codeWords(e.Code))
	}
	if last := tail(path.Join(a.dir, "log", log)); last != "" {
		words := log
		if log == a.spec.Log {
			words = cmp.Or(a.spec.LogWords, log)
		}
		head += " The last lines of " + words + ":\n" + last
	}
	return head
}

func (a *attempt) memoryWords() string {
	if a.spec.MemoryWords != "" {
		return a.spec.MemoryWords
	}
	return fmt.Sprintf("%.1f GiB", float64(a.spec.Limits.Memory)/(1<<30))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func codeWords(code int) string {
	if s := syscall.Signal(code - 128); code > 128 && unix.SignalName(s) != "" {
		return fmt.Sprintf("code %d (signal %d, %s)", code, int(s), unix.SignalName(s))
	}
	return fmt.Sprintf("code %d", code)
}

func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && os.SameFile(a, b)
}

func now() time.Time { return time.Now().UTC() }

// badCommand is a start that the user can mend.
type badCommand struct {
	code int // as shells say it: 127 there is none, 126 it cannot be run
	msg  string
}

func (b *badCommand) Error() string { return b.msg }

// explain says why a program could not be started, from inside its world.
func explain(spec Spec, program string, err error) error {
	if st, serr := os.Stat(spec.Dir); serr != nil || !st.IsDir() {
		return fmt.Errorf("enter the working folder %s: %w", spec.Dir, err)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		if _, serr := os.Stat(program); serr == nil {
			return &badCommand{127, fmt.Sprintf("%s cannot be started: the interpreter that its first line names does not exist.", program)}
		}
		return &badCommand{127, fmt.Sprintf("%s cannot be started: there is no such file.", program)}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return &badCommand{126, fmt.Sprintf("%s cannot be started: it is not executable for the job's user.", program)}
	case errors.Is(err, unix.ENOEXEC):
		return &badCommand{126, fmt.Sprintf("%s cannot be started: this machine cannot run files of its format (no #! line?).", program)}
	case errors.Is(err, unix.EINVAL):
		return &badCommand{126, fmt.Sprintf("%s cannot be started: its arguments or environment variables have a zero byte.", program)}
	case errors.Is(err, unix.E2BIG):
		return &badCommand{126, fmt.Sprintf("%s cannot be started: its arguments and environment variables are too long.", program)}
	}
	return fmt.Errorf("start %s: %w", program, err)
}

// lookPath finds a program as execvp does, in the job's PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var list string
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			list = p
		}
	}
	for dir := range strings.SplitSeq(list, ":") {
		full := path.Join(dir, name)
		if st, err := os.Stat(full); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", &badCommand{127, fmt.Sprintf("%s cannot be started: there is no such program in PATH (%s).", name, list)}
}
