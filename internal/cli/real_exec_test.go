package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// started returns the server with a cluster "cpu" and a job that runs until
// work/stop is made by somebody inside it.
func started(t *testing.T, job string) *testkit.Server {
	t.Helper()
	s := testkit.Serve(t)
	must(t, s, "compute", "create", "--name", "cpu", "--max-instances", "1")
	must(t, s, "job", "create", "--name", job, "--compute", "cpu", "--env", "COLOUR=blue",
		"--command", "id -u > me; pwd > here; echo $$ > pid; touch ready; while [ ! -e stop ]; do sleep 0.05; done")
	testkit.Until(t, 30*time.Second, "the job has begun", func() bool {
		return s.Ebb(t.Context(), "job", "exec", job, "--", "test", "-e", "ready").Code == 0
	})
	return s
}

func must(t *testing.T, s *testkit.Server, args ...string) string {
	t.Helper()
	r := s.Ebb(t.Context(), args...)
	if r.Code != 0 {
		t.Fatalf("ebb %s: exit %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// visit makes "ebb job exec" a process of its own, to be stopped and fed.
func visit(t *testing.T, s *testkit.Server, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	out := &bytes.Buffer{}
	cmd := exec.Command(testkit.Binary(t), append([]string{"job", "exec"}, args...)...)
	cmd.Env = append(os.Environ(), "EBB_CLIENT="+s.ClientFile, "TERM=vt100")
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

func TestACommandInAJob(t *testing.T) {
	t.Parallel()
	s := started(t, "night")
	for name, c := range map[string]struct {
		args   []string
		code   int
		stdout string // contained
		stderr string // contained
	}{
		"it has the job's user":        {[]string{"night", "--", "sh", "-c", `test "$(id -u)" = "$(cat me)" && echo same`}, 0, "same\n", ""},
		"it has the job's folder":      {[]string{"night", "--", "sh", "-c", `test "$(pwd)" = "$(cat here)" && echo same`}, 0, "same\n", ""},
		"it has the job's environment": {[]string{"night", "--", "sh", "-c", "echo $COLOUR $AZUREML_RUN_ID"}, 0, "blue night\n", ""},
		"output and errors are apart":  {[]string{"night", "--", "sh", "-c", "echo out; echo err >&2"}, 0, "out\n", "err\n"},
		"its exit code is ours":        {[]string{"night", "--", "sh", "-c", "exit 7"}, 7, "", ""},
		"so is the signal it died of":  {[]string{"night", "--", "sh", "-c", "kill -TERM $$"}, 143, "", ""},
		"a program that is not there":  {[]string{"night", "--", "no-such-program"}, 127, "", "no such program in PATH"},
		"a file that cannot be run":    {[]string{"night", "--", "/etc/passwd"}, 126, "", "not executable"},
		"without -i its input is over": {[]string{"night", "--", "cat"}, 0, "", ""},
		"it has a terminal if asked":   {[]string{"night", "-t", "--", "sh", "-c", "test -t 0 && test -t 1 && stty size && tty"}, 0, "24 80\r\n/dev/pts/", ""},
		"it cannot write to the system": {[]string{"night", "--", "sh", "-c", "touch /etc/ebb-was-here 2>/dev/null || echo refused"}, 0,
			"refused\n", ""},
		"it cannot see the server's data": {[]string{"night", "--", "cat", filepath.Join(s.Dir, "client.json")}, 1, "", "cat:"},
		"no such job":                     {[]string{"day", "--", "ls"}, 3, "", `"day" was not found`},
		"no command":                      {[]string{"night"}, 2, "", "ebb job exec NAME -- ls"},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.Ebb(t.Context(), append([]string{"job", "exec"}, c.args...)...)
			if r.Code != c.code || !strings.Contains(r.Stdout, c.stdout) || !strings.Contains(r.Stderr, c.stderr) {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", r.Code, c.code, r.Stdout, r.Stderr)
			}
		})
	}
	if _, err := os.Stat("/etc/ebb-was-here"); err == nil {
		t.Error("it wrote to the system")
	}
	// More than any pipe holds goes through, both ways, unharmed.
	big := strings.Repeat("0123456789abcdef\n", 64<<10)
	cmd, out := visit(t, s, "night", "-i", "--", "cat")
	cmd.Stdin = strings.NewReader(big)
	if err := cmd.Run(); err != nil || out.String() != big {
		t.Errorf("cat: %v; %d bytes came back of %d", err, out.Len(), len(big))
	}
	// Ctrl-C at the terminal is the command's.
	cmd, out = visit(t, s, "night", "-it", "--", "sh", "-c", "trap 'echo caught; exit 5' INT; : > trapped; while :; do sleep 0.05; done")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, 10*time.Second, "the command has set its trap", func() bool {
		return s.Ebb(t.Context(), "job", "exec", "night", "--", "test", "-e", "trapped").Code == 0
	})
	if _, err := in.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 || !strings.Contains(out.String(), "caught") {
		t.Errorf("Ctrl-C: exit %d, %q", code, out.String())
	}
}

// pidIn asks for a process of the job by a number that only its command line has.
func pidIn(t *testing.T, s *testkit.Server, mark string) int {
	t.Helper()
	pid := 0
	testkit.Until(t, 10*time.Second, "sleep "+mark+" runs", func() bool {
		paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range paths {
			if text, err := os.ReadFile(p); err == nil && string(text) == "sleep\x00"+mark+"\x00" {
				pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(p)))
				return true
			}
		}
		return false
	})
	return pid
}

// Whoever leaves takes the command along; so does the job when it ends.
func TestACommandEndsWithItsUserAndWithItsJob(t *testing.T) {
	t.Parallel()
	s := started(t, "evening")
	mark := func(n int) string { return fmt.Sprintf("%d.%d", 100000+os.Getpid(), n) } // ours alone on this machine
	for n, sig := range map[int]syscall.Signal{1: syscall.SIGKILL, 2: syscall.SIGINT} {
		cmd, _ := visit(t, s, "evening", "--", "sleep", mark(n))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := pidIn(t, s, mark(n))
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); sig == syscall.SIGINT && code != 130 {
			t.Errorf("Ctrl-C: exit %d, want 130", code)
		}
		testkit.Until(t, 10*time.Second, "the command is dead", func() bool { return !testkit.Alive(pid) })
	}
	cmd, out := visit(t, s, "evening", "--", "sleep", mark(3))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, s, mark(3))
	must(t, s, "job", "exec", "evening", "--", "touch", "stop")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if r := s.Ebb(ctx, "job", "stream", "evening"); r.Code != 0 {
		t.Errorf("the job: exit %d\n%s", r.Code, r.Stderr)
	}
	_ = cmd.Wait()
	if testkit.Alive(pid) {
		t.Error("the command outlived its job")
	}
	if code := cmd.ProcessState.ExitCode(); code == 0 {
		t.Errorf("the command of a job that ended: exit %d, %s", code, out)
	}
	r := s.Ebb(t.Context(), "job", "exec", "evening", "--", "ls")
	if r.Code != 1 || !strings.Contains(r.Stderr, `"evening" is Completed`) {
		t.Errorf("a job that is over: exit %d, %s", r.Code, r.Stderr)
	}
}
