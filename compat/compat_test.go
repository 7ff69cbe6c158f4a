package compat_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// patience is how long one script may take: SDK v1 polls every 5 s.
const patience = 5 * time.Minute

// python returns the interpreter of the venv with SDK v1, made once.
func python(t testing.TB) string {
	t.Helper()
	return ready(t, "venv", "v1")
}

// ready returns what scripts/setup prints once it has made a client's packages
// ready: the python of a venv, or the folder with node_modules. Without them the
// test is skipped, or fails where CI asks for every real part.
func ready(t testing.TB, what, name string) string {
	t.Helper()
	made.Lock()
	once := made.by[what+name]
	if once == nil {
		once = sync.OnceValues(func() (string, error) {
			cmd := exec.Command(filepath.Join(testkit.Root(), "scripts", "setup"), what, name)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			return strings.TrimSpace(string(out)), err
		})
		made.by[what+name] = once
	}
	made.Unlock()
	path, err := once()
	if err != nil {
		testkit.RealPart(t, "Microsoft's client (%s %s): %v", what, name, err)
	}
	return path
}

var made = struct {
	sync.Mutex
	by map[string]func() (string, error)
}{by: map[string]func() (string, error){}}

// seats bounds how many scripts run at once: each is a server, its nodes and a
// Python that imports the SDK.
var seats = make(chan struct{}, 4)

// user is somebody with a folder of their own and a client file of a server.
type user struct {
	t   *testing.T
	s   *testkit.Server
	dir string
}

// newUser makes a folder with a config.json, as "ebb config write" leaves it.
func newUser(t *testing.T, s *testkit.Server) *user {
	t.Helper()
	u := &user{t, s, t.TempDir()}
	if r := s.Run(t.Context(), u.dir, testkit.Binary(t), "config", "write"); r.Code != 0 {
		t.Fatalf("ebb config write: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	return u
}

// run runs a script under "ebb exec".
func (u *user) run(file string, args ...string) testkit.Result {
	u.t.Helper()
	command := append([]string{python(u.t), file}, args...)
	if filepath.Ext(file) == ".sh" {
		command = append([]string{"sh", file}, args...)
	}
	return u.do(file, append([]string{testkit.Binary(u.t), "exec", "--"}, command...)...)
}

// do runs a command and fails the test unless it ends well.
func (u *user) do(what string, command ...string) testkit.Result {
	u.t.Helper()
	seats <- struct{}{}
	defer func() { <-seats }()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	r := u.s.Run(ctx, u.dir, command[0], command[1:]...)
	if r.Code != 0 {
		u.t.Fatalf("%s: exit %d\n%s\n%s", filepath.Base(what), r.Code, r.Stdout, r.Stderr)
	}
	return r
}

// during runs a script under "ebb exec", and does something once the script has
// left the file "running" in the user's folder.
func (u *user) during(file string, something func()) {
	u.t.Helper()
	u.meanwhile(something, python(u.t), file)
}

// meanwhile is during for any command; its last word is the script.
func (u *user) meanwhile(something func(), command ...string) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	ended := make(chan testkit.Result, 1)
	go func() { ended <- u.s.Exec(ctx, u.dir, command...) }()
	var r testkit.Result
	over := false
	testkit.Until(u.t, patience, "the script has a job running", func() bool {
		select {
		case r = <-ended:
			over = true
		default:
		}
		_, err := os.Stat(filepath.Join(u.dir, "running"))
		return over || err == nil
	})
	if !over {
		something()
		r = <-ended
	}
	if r.Code != 0 || over {
		u.t.Fatalf("%s: exit %d\n%s\n%s", filepath.Base(command[len(command)-1]), r.Code, r.Stdout, r.Stderr)
	}
}

func path(parts ...string) string {
	return filepath.Join(append([]string{testkit.Root(), "compat"}, parts...)...)
}

func scripts(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(path(folder, "[0-9]*.*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", folder, err)
	}
	slices.Sort(files)
	return files
}

// TestPage runs every code block of the page, each against a fresh server.
func TestPage(t *testing.T) {
	t.Parallel()
	for _, file := range scripts(t, "page") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			newUser(t, testkit.Serve(t, testkit.OnPath())).run(file)
		})
	}
}

// TestSDKv1 runs what SDK v1 can do beyond the page.
func TestSDKv1(t *testing.T) {
	t.Parallel()
	for _, file := range scripts(t, "sdkv1") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			newUser(t, testkit.Serve(t)).run(file)
		})
	}
}

// TestCustomCloud runs scripts without "ebb exec": the client is told of a cloud
// by its metadata, and comes by the server's own name.
func TestCustomCloud(t *testing.T) {
	t.Parallel()
	for _, file := range []string{path("page", "02_create.py"), path("sdkv1", "04_submit.py"), path("sdkv1", "12_workspace.py")} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			u := newUser(t, testkit.Serve(t, testkit.OnPath()))
			u.do(file, "sh", "-ec", `eval "$(ebb env --custom-cloud)"; exec "$0" "$1"`, python(t), file)
		})
	}
}

// TestInside runs jobs that use the SDK themselves: one server, so that their
// environment is made once.
func TestInside(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t, testkit.Env("PIP_COMPILE=0")) // half the time
	t.Run("01_context.py", func(t *testing.T) {
		newUser(t, s).run(path("inside", "01_context.py"))
	})
	t.Run("02_restart.py", func(t *testing.T) {
		u := newUser(t, s)
		u.during(path("inside", "02_restart.py"), func() {
			s.Kill()
			s.Start()
			if err := os.WriteFile(filepath.Join(u.dir, "restarted"), nil, 0o600); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestSnapshots submits the same folder before and after restarts: what has
// travelled once is neither lost nor sent again.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	u := newUser(t, s)
	var sizes []int64
	for _, step := range []string{"first", "second", "third"} {
		u.run(path("restart", "01_snapshots.py"), step)
		if step == "first" {
			s.Stop()
		} else {
			s.Kill()
		}
		sizes = append(sizes, size(t, filepath.Join(s.Dir, "blobs")))
		s.Start()
	}
	if sizes[0] < 70<<20 {
		t.Errorf("the first snapshot left %d bytes; the file alone has 70 MiB", sizes[0])
	}
	for i, more := range []int64{sizes[1] - sizes[0], sizes[2] - sizes[1]} {
		if more > 1<<20 {
			t.Errorf("submit %d sent %d bytes; one small file had changed, or none", i+2, more)
		}
	}
}

func size(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestNodeLoss kills the node under a job whose log is being streamed.
func TestNodeLoss(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	newUser(t, s).during(path("restart", "02_node_loss.py"), func() {
		for _, pids := range []map[string]int{s.Agents(), s.Shims()} {
			if len(pids) != 1 {
				t.Errorf("one node with one job has %v", pids)
			}
			for _, pid := range pids {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Errorf("kill %d: %v", pid, err)
				}
			}
		}
	})
}
