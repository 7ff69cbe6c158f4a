package node_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

// TestMain lets the test binary be an agent and the shims that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "node":
			os.Exit(node.Main(os.Args[2:]))
		case "shim":
			os.Exit(shim.Main(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// process is an agent that is a process of its own, as on a real node.
type process struct {
	machine
	cmd *exec.Cmd
}

func newProcess(t *testing.T, s *site) *process {
	p := &process{machine: machine{t: t, site: s, dir: filepath.Join(s.dir, "nodes", "n-0")}}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("nodes/n-0/node.json", node.Config{
		Node: "n-0", Installation: "i", Token: "secret", Server: filepath.Join(s.dir, "server.json"), Cache: filepath.Join(s.dir, "cache"),
		Readable: s.readable,
	})
	p.begin()
	t.Cleanup(func() {
		p.kill()
		dirs, _ := filepath.Glob(filepath.Join(p.dir, "attempts", "*"))
		for _, dir := range dirs {
			if err := node.EndAttempt(context.Background(), dir); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

func (p *process) begin() {
	p.t.Helper()
	p.cmd = exec.Command("/proc/self/exe", "node", p.dir)
	p.cmd.Stdout, p.cmd.Stderr = p.t.Output(), p.t.Output()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// command orders attempts to run sh with these words.
func command(s *site, words string) {
	s.order.Task = queue.Task{Run: "r", Name: "run", Command: words, Environment: queue.Environment{UserManaged: true, Interpreter: "python3"}}
	s.order.Variables = map[string]string{"AZUREML_RUN_ID": "run"}
	s.order.LogName = "user_logs/std_log.txt"
	s.order.Number = 1
}

func TestARealJobRunsAndIsDelivered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	command(s, `echo "I am $AZUREML_RUN_ID"; mkdir outputs; echo weights > outputs/model; exit 3`)
	p := newProcess(t, s)
	s.want(give(wanted("r.1", 1)))
	exit := p.awaitPhase("r.1", queue.Ended)
	if exit.Cause != queue.ByExit || exit.Code != 3 {
		t.Fatalf("exit = %+v, want code 3 by itself", exit)
	}
	if got := s.logOf("r.1 user_logs/std_log.txt"); got != "I am run\n" {
		t.Fatalf("log = %q", got)
	}
	if got := s.artifacts["outputs/model"]; got != "weights\n" {
		t.Fatalf("artifacts = %v", s.artifacts)
	}
}

func TestARealJobReadsWhatTheNodeMayShow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, name := range []string{"shown", "closed"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "data"), []byte("rows\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if name == "shown" {
			s.readable = []string{dir}
			command(s, "cat "+dir+"/data")
		} else {
			s.order.Task.Command += "; ! cat " + dir + "/data"
		}
	}
	p := newProcess(t, s)
	s.want(give(wanted("r.1", 1)))
	exit := p.awaitPhase("r.1", queue.Ended)
	if got := s.logOf("r.1 user_logs/std_log.txt"); exit.Code != 0 || !strings.HasPrefix(got, "rows\n") || strings.Count(got, "rows") != 1 {
		t.Fatalf("exit %+v, log %q: want what is readable, and no more", exit, got)
	}
}

func TestARealJobOutlivesAKilledAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	command(s, `echo begun; while [ ! -e go ]; do sleep 0.02; done; echo done`)
	p := newProcess(t, s)
	s.want(give(wanted("r.1", 1)))
	p.awaitPhase("r.1", queue.InRunning)
	await(t, "the first line", func() bool { return s.logOf("r.1 user_logs/std_log.txt") == "begun\n" })
	p.kill()
	if err := os.WriteFile(filepath.Join(p.attempt("r.1"), "work", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.begin()
	if exit := p.awaitPhase("r.1", queue.Ended); exit.Cause != queue.ByExit || exit.Code != 0 {
		t.Fatalf("exit = %+v, want 0 by itself", exit)
	}
	if got := s.logOf("r.1 user_logs/std_log.txt"); got != "begun\ndone\n" {
		t.Fatalf("log = %q, want begun once", got)
	}
}

func TestARealJobIsStoppedWithAllThatDescendsFromIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	command(s, `setsid sh -c 'sleep 1000' & echo begun; sleep 1000`)
	p := newProcess(t, s)
	s.want(give(wanted("r.1", 1)))
	await(t, "the first line", func() bool { return strings.Contains(s.logOf("r.1 user_logs/std_log.txt"), "begun") })
	s.want(give(stop("r.1", 1, queue.ByCancel)))
	if exit := p.awaitPhase("r.1", queue.Ended); exit.Cause != queue.ByCancel {
		t.Fatalf("exit = %+v, want %s", exit, queue.ByCancel)
	}
}

func TestAnAgentEndsOnSIGTERMAndItsJobGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	command(s, `echo begun; sleep 1000`)
	p := newProcess(t, s)
	s.want(give(wanted("r.1", 1)))
	p.awaitPhase("r.1", queue.InRunning)
	begun := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("the agent ended with %v, want 0", err)
	}
	p.cmd = nil
	t.Logf("ended within %v", time.Since(begun))
	st, err := shim.Look(p.attempt("r.1"))
	if err != nil || st.Phase != shim.Running {
		t.Fatalf("shim = %+v, %v, want it running", st, err)
	}
	if err := node.EndAttempt(t.Context(), p.attempt("r.1")); err != nil {
		t.Fatal(err)
	}
	if st, err := shim.Look(p.attempt("r.1")); err != nil || st.Phase != shim.Ended {
		t.Fatalf("shim after EndAttempt = %+v, %v, want it ended", st, err)
	}
}
