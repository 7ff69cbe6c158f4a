// Package testkit boots real servers for tests: the built binary, on a port and in
// a folder of its own, with everything it started gone when the test ends.
// Start at [Serve].
package testkit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
)

// Root is the project's root folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Binary returns the path of the built ebb: EBB_BIN, or one built once for this
// test program.
func Binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("EBB_BIN"); bin != "" {
		return bin
	}
	bin, err := built()
	if err != nil {
		t.Fatalf("build ebb: %v", err)
	}
	return bin
}

var built = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(Root(), ".cache", "bin", "ebb")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/ebb")
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return bin, nil
})

// Server is a running server and its data folder.
type Server struct {
	Dir        string // its data folder
	URL        string // https://127.0.0.1:PORT
	ClientFile string

	t      testing.TB
	bin    string
	env    []string
	listen string
	onPath bool
	docker *Docker // nil: jobs are processes
	cmd    *exec.Cmd
	log    *os.File
	ended  chan struct{}
}

// Option changes how a server is booted.
type Option func(*Server)

// Env adds variables to the server's environment.
func Env(vars ...string) Option { return func(s *Server) { s.env = append(s.env, vars...) } }

// Config writes text to the data folder's ebb.yaml before the first start.
func Config(text string) Option {
	return func(s *Server) {
		if err := os.WriteFile(filepath.Join(s.Dir, "ebb.yaml"), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// OnPath puts ebb on the PATH of what runs against the server, and names the
// first subscription and group in SUBSCRIPTION and GROUP.
func OnPath() Option { return func(s *Server) { s.onPath = true } }

// Serve boots a server that lives as long as the test. Its jobs are processes of the
// machine, unless it is told to [Contain] them.
func Serve(t testing.TB, opts ...Option) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebb-test-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dir: dir, ClientFile: filepath.Join(dir, "client.json"), t: t, bin: Binary(t)}
	s.Move()
	for _, o := range opts {
		o(s)
	}
	if s.log, err = os.Create(filepath.Join(dir, "server.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cleanup)
	s.Start()
	return s
}

// Start starts the server again after [Server.Stop] or [Server.Kill], where it was.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.TryStart(); err != nil {
		s.t.Fatal(err)
	}
}

// TryStart is Start for those who expect that it may fail.
func (s *Server) TryStart() error {
	cmd := exec.Command(s.bin, "serve", "--data", s.Dir, "--listen", s.listen)
	cmd.Env = append(append(os.Environ(), "EBB_CLIENT=", "EBB_DATA=", "EBB_CONTAINER=never"), s.env...)
	cmd.Stderr = s.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	lines := bufio.NewReader(out)
	ready := make(chan string, 1)
	go func() {
		line, _ := lines.ReadString('\n')
		ready <- line
		_, _ = io.Copy(io.Discard, lines)
		_ = cmd.Wait()
		close(ended)
	}()
	select {
	case line := <-ready:
		url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
		if !ok {
			<-ended
			return fmt.Errorf("the server did not get ready: %q\n%s", line, s.LogTail(20))
		}
		s.cmd, s.ended, s.URL = cmd, ended, url
		return nil
	case <-time.After(60 * time.Second):
		_ = cmd.Process.Kill()
		return fmt.Errorf("the server was not ready after 60 s\n%s", s.LogTail(20))
	}
}

// Stop asks the server to end and waits until it has.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server as a crash does.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
		s.t.Errorf("the server did not end within 30 s of %v", sig)
	}
	s.cmd = nil
}

// PID is the server's process id; 0 when it does not run.
func (s *Server) PID() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// LogTail returns the last n lines of the server's log.
func (s *Server) LogTail(n int) string {
	text, _ := os.ReadFile(filepath.Join(s.Dir, "server.log"))
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Client returns a client of the server, as its first credential.
func (s *Server) Client() *client.Client {
	s.t.Helper()
	f, err := client.Load(s.ClientFile)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := client.New(f, client.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Ebb runs the command line against the server.
func (s *Server) Ebb(ctx context.Context, args ...string) Result {
	s.t.Helper()
	return s.Run(ctx, "", s.bin, args...)
}

// Exec runs a client under "ebb exec" in folder dir.
func (s *Server) Exec(ctx context.Context, dir string, command ...string) Result {
	s.t.Helper()
	return s.Run(ctx, dir, s.bin, append([]string{"exec", "--"}, command...)...)
}

// Run runs a program in folder dir with EBB_CLIENT set and a home of its own.
func (s *Server) Run(ctx context.Context, dir, program string, args ...string) Result {
	s.t.Helper()
	home := filepath.Join(s.Dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "EBB_CLIENT="+s.ClientFile, "HOME="+home)
	if s.onPath {
		c := s.Client().File()
		cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(s.bin)+":"+os.Getenv("PATH"), "SUBSCRIPTION="+c.SubscriptionID, "GROUP="+c.ResourceGroup)
	}
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("run %s: %v\n%s", program, err, errs.String())
	}
	return Result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// Processes returns the ids of every process whose command line names the
// server's data folder: the server, its nodes and shims. What jobs start is
// found by working folder too.
func (s *Server) Processes() map[int]string {
	found := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(line) == 0 {
			continue
		}
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		root, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "mountinfo"))
		if bytes.Contains(line, []byte(s.Dir)) || strings.HasPrefix(cwd, s.Dir) || bytes.Contains(root, []byte(s.Dir)) {
			found[pid] = strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// cleanup ends the server and everything that outlives it, and shows the log of
// a failed test.
func (s *Server) cleanup() {
	s.end(syscall.SIGKILL)
	for range 20 {
		left := s.Processes()
		if len(left) == 0 {
			break
		}
		for pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if s.docker != nil {
		if err := s.docker.forget(s.Client().File().TenantID); err != nil {
			s.t.Errorf("remove what is left on the engine: %v", err)
		}
	}
	if s.t.Failed() {
		s.t.Logf("server's log:\n%s", s.LogTail(60))
		if os.Getenv("EBB_TEST_KEEP") != "" {
			s.t.Logf("kept %s", s.Dir)
			return
		}
	}
	_ = s.log.Close()
	_ = os.RemoveAll(s.Dir)
}

// Until waits until ok, looking every few milliseconds, and fails the test with
// what it waited for when it takes longer than limit.
func Until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", limit, what)
		}
		<-tick.C
	}
}

// RealPart says that a real part is missing: a failure where CI is true, else a skip.
func RealPart(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: "+format, args...)
	}
	t.Skipf("missing: "+format, args...)
}
