package compat_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// trainOnAzure stands where README.md names demo/demo.py "or yours": anybody's
// script. The demo itself, which installs packages, is make demo's.
const trainOnAzure = `
from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
ws = Workspace.from_config()
cpu = ComputeTarget.create(ws, "cpu-cluster", AmlCompute.provisioning_configuration(vm_size="Standard_DS3_v2", max_nodes=4))
cpu.wait_for_completion(show_output=True)
import os
os.makedirs("src", exist_ok=True)
# SDK v1 prints nothing of a job that is over before its first look
open("src/train.py", "w").write("import time; print('trained', flush=True); time.sleep(6)")
env = Environment("plain")
env.python.user_managed_dependencies = True
run = Experiment(ws, "readme").submit(ScriptRunConfig("src", script="train.py", compute_target=cpu, environment=env))
run.wait_for_completion(show_output=True)
assert run.get_status() == "Completed", run.get_status()
`

// TestREADME runs the commands of README.md, line by line and in their order,
// as somebody with an empty home and a built binary.
func TestREADME(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(t)
	ran := 0
	for _, block := range strings.Split(string(text), "\n```sh\n")[1:] {
		code, _, _ := strings.Cut(block, "\n```")
		for line := range strings.Lines(code) {
			r.line(strings.TrimSpace(line))
			ran++
		}
	}
	if ran != 8 {
		t.Errorf("%d lines were run; README.md had 8", ran)
	}
	if !strings.Contains(r.out.String(), "trained") || !strings.Contains(r.out.String(), "hello\n") {
		t.Errorf("the jobs' own words are not in what was printed:\n%s", r.out.String())
	}
}

// reader follows README.md.
type reader struct {
	t    *testing.T
	dir  string
	env  []string
	out  *output
	back []*exec.Cmd
}

// output may be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func newReader(t *testing.T) *reader {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebb-readme-")
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, dir: dir, out: &output{}}
	t.Cleanup(r.cleanup)
	for _, d := range []string{"home", "bin", "demo"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(testkit.Binary(t), filepath.Join(dir, "bin", "ebb")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "demo", "demo.py"), []byte(trainOnAzure), 0o600); err != nil {
		t.Fatal(err)
	}
	r.env = append(os.Environ(), "HOME="+filepath.Join(dir, "home"), "EBB_DATA="+filepath.Join(dir, "data"), "EBB_CLIENT=", "EBB_LISTEN=127.0.0.1:0")
	return r
}

// line does what one line says. Three are not run to their end: the build
// is done, the server stays, and who watches leaves with Ctrl-C.
func (r *reader) line(line string) {
	r.t.Helper()
	command, _, _ := strings.Cut(line, "  #")
	command = strings.TrimSpace(command)
	server, stays := strings.CutSuffix(command, "&")
	switch {
	case command == "make build":
		r.run("make -n -C " + testkit.Root() + " build")
	case stays:
		cmd := r.start(server)
		r.back = append(r.back, cmd)
		testkit.Until(r.t, time.Minute, "ready", func() bool { return strings.Contains(r.out.String(), "ready https://127.0.0.1:") })
	case strings.Contains(command, "--watch"):
		cmd := r.start(command)
		testkit.Until(r.t, time.Minute, "the status is shown", func() bool { return strings.Contains(r.out.String(), "jobs waiting or running") })
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("%s: %v\n%s", command, err, r.out.String())
		}
	default: // the user's python is one that has the SDK
		command = strings.ReplaceAll(command, `"$(scripts/setup sdk-v1)"`, python(r.t)) // it prints that path
		r.run("PATH=" + filepath.Dir(python(r.t)) + ":$PATH; " + command)
	}
}

func (r *reader) start(command string) *exec.Cmd {
	r.t.Helper()
	cmd := exec.Command("sh", "-ec", "exec "+command)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.dir, r.env, r.out, r.out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	return cmd
}

func (r *reader) run(command string) {
	r.t.Helper()
	seats <- struct{}{}
	defer func() { <-seats }()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", command)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.dir, r.env, r.out, r.out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("%s: %v\n%s", command, err, r.out.String())
	}
}

// cleanup ends the server and, by the command lines that name the folder, all
// that outlives it.
func (r *reader) cleanup() {
	for _, cmd := range r.back {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	s := testkit.Server{Dir: r.dir}
	testkit.Until(r.t, 30*time.Second, "everything has ended", func() bool {
		left := s.Processes()
		for pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
	if err := os.RemoveAll(r.dir); err != nil && !os.IsNotExist(err) {
		r.t.Errorf("remove %s: %v", r.dir, err)
	}
}
