// Package rank runs one process of several, in the world of its job: it keeps the
// process's log, brings it signals, and says how it failed. "ebb rank" is what
// mpirun starts for each; package launch starts the others itself.
//
// A machine starts many of them, so this package imports nothing that comes late
// (see package early). Start at [Main] and [Start].
package rank

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/gang"
)

// Variable names the folder that holds, as the job sees it:
//
//	launch.json   the [Spec]
//	notes         a pipe into which ranks that fail write their [Failure]
//	failed.json   the first [Failure] of the member, for its shim
//	alive         locked by each rank that lives
//	rsh           "ebb rsh" as one word
const Variable = "EBB_LAUNCH"

// Spec is what the processes of a member have in common.
type Spec struct {
	gang.Plan
	Attempt string   `json:"attempt"`
	Exe     string   `json:"exe"`               // this program
	Argv    []string `json:"argv"`              // the user's
	Dir     string   `json:"dir"`               // working folder
	Logs    string   `json:"logs"`              // folder of the logs
	Agent   string   `json:"agent"`             // socket of the node's agent, for "ebb rsh"
	Names   bool     `json:"names,omitempty"`   // hosts have names here, not addresses alone
	Forward bool     `json:"forward,omitempty"` // only the first process is told to end: it tells the others
	Shared  string   `json:"shared,omitempty"`  // folder for shared memory that is this node's alone; empty: /dev/shm is
}

// Failure is how a process failed, or what kept all of them from starting.
type Failure struct {
	Rank    int       `json:"rank"`
	Code    int       `json:"code"`
	At      time.Time `json:"at"`
	Message string    `json:"message,omitempty"` // instead of its log's end
	Setup   bool      `json:"setup,omitempty"`   // nothing was started, and its user can mend it
	Link    bool      `json:"link,omitempty"`    // nothing was started: a node cannot reach another
}

// Load reads the Spec of a folder.
func Load(folder string) (Spec, error) {
	var s Spec
	if folder == "" {
		return s, fmt.Errorf("%s is not set: this is started by nodes", Variable)
	}
	b, err := os.ReadFile(path.Join(folder, "launch.json"))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read launch.json: %w", err)
	}
	return s, nil
}

// Running is a process that was started.
type Running struct {
	gang.Process
	process *os.Process
	pipe    *os.File
	copied  chan struct{}
}

// Start starts one of a Spec's processes, with env below its own variables.
func Start(s Spec, p gang.Process, env []string) (*Running, error) {
	log, err := os.OpenFile(path.Join(s.Logs, p.Log), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		log.Close()
		return nil, err
	}
	defer w.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	for name, value := range p.Variables {
		env = append(env, name+"="+value) // the last one counts
	}
	run := &Running{Process: p, pipe: r, copied: make(chan struct{})}
	run.process, err = os.StartProcess(s.Argv[0], s.Argv, &os.ProcAttr{Dir: s.Dir, Env: once(env), Files: []*os.File{null, w, w}})
	if err != nil {
		log.Close()
		r.Close()
		return nil, err
	}
	// As a shim does: with the file itself a "> /dev/stdout" would cut it off.
	go func() {
		defer close(run.copied)
		defer log.Close()
		_, _ = io.Copy(log, r)
	}()
	return run, nil
}

// once leaves of several values of a variable the last.
func once(env []string) []string {
	at := map[string]int{}
	var out []string
	for _, kv := range env {
		name := kv
		for i := range len(kv) {
			if kv[i] == '=' {
				name = kv[:i]
				break
			}
		}
		if i, ok := at[name]; ok {
			out[i] = kv
			continue
		}
		at[name] = len(out)
		out = append(out, kv)
	}
	return out
}

// Signal brings a signal to the process.
func (r *Running) Signal(s os.Signal) { _ = r.process.Signal(s) }

// afterEnd is how long output is still taken from what a process left behind.
const afterEnd = 200 * time.Millisecond

// Wait returns the process's exit code, 128+n for signal n.
func (r *Running) Wait() int {
	code := 1
	if st, err := r.process.Wait(); err == nil {
		code = st.ExitCode()
		if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
	}
	_ = r.pipe.SetReadDeadline(time.Now().Add(afterEnd))
	<-r.copied
	r.pipe.Close()
	return code
}

// NotStarted is the Failure of a process that could not be started.
func NotStarted(n int, argv []string, err error) Failure {
	code := 126
	if errors.Is(err, unix.ENOENT) {
		code = 127
	}
	return Failure{Rank: n, Code: code, At: time.Now().UTC(), Message: fmt.Sprintf("Rank %d could not be started: %s: %v.", n, argv[0], err)}
}

// Main is "ebb rank": it runs the process whose rank the launcher of MPI says.
func Main() int {
	folder := os.Getenv(Variable)
	s, err := Load(folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ebb rank:", err)
		return 126
	}
	n, err := number()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ebb rank:", err)
		return 126
	}
	i := slices.IndexFunc(s.Processes, func(p gang.Process) bool { return p.Rank == n })
	if i < 0 {
		fmt.Fprintf(os.Stderr, "ebb rank: rank %d is none of this node's\n", n)
		return 126
	}
	// Whoever signals a rank signals all of its process group, or of the job: the
	// process has heard of it too, and must not hear of it twice.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCONT)
	if alive, err := os.OpenFile(path.Join(folder, "alive"), os.O_RDONLY|os.O_CREATE, 0o600); err == nil {
		defer alive.Close()
		_ = unix.Flock(int(alive.Fd()), unix.LOCK_SH)
	}
	run, err := Start(s, s.Processes[i], append(s.transports(), os.Environ()...))
	if err != nil {
		f := NotStarted(n, s.Argv, err)
		note(folder, f)
		fmt.Fprintln(os.Stderr, f.Message)
		return f.Code
	}
	ended := make(chan int, 1)
	go func() { ended <- run.Wait() }()
	asked := false // to end: what follows is no failure of its own
	for {
		select {
		case sig := <-signals:
			asked = asked || sig == unix.SIGTERM || sig == unix.SIGINT
		case code := <-ended:
			if code != 0 && !asked {
				note(folder, Failure{Rank: n, Code: code, At: time.Now().UTC()})
			}
			return code
		}
	}
}

// transports keep MPI's libraries from shared memory that processes of other nodes
// on this machine do not share: what belongs to another user, or lies in another
// folder. Open MPI does not hand them on, so each rank has them by itself.
func (s Spec) transports() []string {
	var out []string
	if s.Shared != "" {
		out = append(out, "OMPI_MCA_btl_vader_backing_directory="+s.Shared)
	}
	if len(s.Hosts) > 1 && s.Loopback() {
		out = append(out, "UCX_TLS=self,tcp", "UCX_NET_DEVICES=lo")
	}
	return out
}

// Loopback reports whether all nodes of the job are on this machine.
func (s Spec) Loopback() bool {
	for _, h := range s.Hosts {
		if h.Address != "" && (len(h.Address) < 4 || h.Address[:4] != "127.") {
			return false
		}
	}
	return true
}

// number is the rank that Open MPI, PMIx or Hydra gave.
func number() (int, error) {
	for _, name := range []string{"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"} {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n, nil
		}
	}
	return 0, errors.New("the launcher of MPI gave no rank")
}

// note tells package launch of a failure. A line this short is written whole.
func note(folder string, f Failure) {
	b, err := json.Marshal(f)
	if err != nil {
		return
	}
	w, err := os.OpenFile(path.Join(folder, "notes"), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return // nobody listens any more
	}
	defer w.Close()
	_, _ = w.Write(append(b, '\n'))
}
