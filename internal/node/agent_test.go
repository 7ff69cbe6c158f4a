package node_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/node/runner"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// give orders attempts, all at once.
func give(wanted ...nodeproto.Wanted) func(*nodeproto.Desired) {
	return func(d *nodeproto.Desired) { d.Attempts = wanted }
}

// exited ends a fake shim as a process does that exits by itself.
func exited(f *shimmed, dir string) {
	f.end(dir, shim.State{Phase: shim.Ended, Record: shim.Record{Exit: queue.Exit{Cause: queue.ByExit}}})
}

func TestAnAttemptFromOrderToForgetting(t *testing.T) {
	t.Parallel()
	s, f := newSite(t), newShims()
	s.order.Task = queue.Task{Run: "r", Code: "/ws/snapshots/1", Script: "train.py"}
	s.code = map[string]string{"train.py": "print", "outputs/old.txt": "came with the code"}
	m := newMachine(t, s, f, &prepared{words: "building\n"})
	s.want(give(wanted("r.1", 1)))
	m.awaitPhase("r.1", queue.InRunning)
	if b, err := os.ReadFile(filepath.Join(m.attempt("r.1"), "work", "train.py")); err != nil || string(b) != "print" {
		t.Fatalf("code = %q, %v", b, err)
	}
	m.print("r.1", "one\n")
	await(t, "the log's first line is there while the job runs", func() bool { return s.logOf("r.1 user_logs/std_log.txt") == "one\n" })
	m.print("r.1", strings.Repeat("x", 3<<20))
	outputs := filepath.Join(m.attempt("r.1"), "work", "outputs")
	if err := os.MkdirAll(filepath.Join(outputs, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model 1.pkl", "deep/é.txt"} {
		if err := os.WriteFile(filepath.Join(outputs, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exited(f, m.attempt("r.1"))
	if exit := m.awaitPhase("r.1", queue.Ended); exit == nil || exit.Cause != queue.ByExit {
		t.Fatalf("exit = %+v", exit)
	}
	// Ended says that everything is delivered.
	if got, want := s.logOf("r.1 user_logs/std_log.txt"), "one\n"+strings.Repeat("x", 3<<20); got != want {
		t.Fatalf("log has %d bytes, want %d", len(got), len(want))
	}
	if got := s.logOf("r.1 azureml-logs/20_image_build_log.txt"); got != "building\n" {
		t.Fatalf("build log = %q", got)
	}
	for path, want := range map[string]string{"outputs/model 1.pkl": "model 1.pkl", "outputs/deep/é.txt": "deep/é.txt", "outputs/old.txt": "came with the code"} {
		if got := s.artifacts[path]; got != want {
			t.Errorf("artifact %s = %q, want %q (%v)", path, got, want, s.artifacts)
		}
	}
	s.want(give())
	await(t, "the attempt is forgotten", func() bool { p, _ := s.phase("r.1"); return p == "" })
	if _, err := os.Stat(m.attempt("r.1")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("its folder: %v, want it gone", err)
	}
	if f.starts["r.1"] != 1 {
		t.Fatalf("started %d times", f.starts["r.1"])
	}
}

// blind are shims whose end cannot be read, some times.
type blind struct {
	*shimmed
	times atomic.Int32
}

func (b *blind) Look(dir string) (shim.State, error) {
	st, err := b.shimmed.Look(dir)
	if st.Phase == shim.Ended && b.times.Add(-1) >= 0 {
		return shim.State{}, errors.New("input/output error")
	}
	return st, err
}

// TestHowAProcessEndedIsAskedForUntilItIsKnown: named outputs become assets only
// where the process ended well, and a look that failed says nothing of that.
func TestHowAProcessEndedIsAskedForUntilItIsKnown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		blind int32
		over  bool
		want  string
	}{
		"once":                                {1, false, "[done=true]"},
		"for ever, of another node's attempt": {1 << 30, true, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := newSite(t), &blind{shimmed: newShims()}
			m := newMachine(t, s, f, &prepared{})
			s.want(give(wanted("r.1", 1)))
			m.awaitPhase("r.1", queue.InRunning)
			made := filepath.Join(m.attempt("r.1"), runner.Outputs, "model")
			if err := os.MkdirAll(made, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(made, "a"), []byte("weights"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.over = tt.over
			s.mu.Unlock()
			f.times.Store(tt.blind)
			exited(f.shimmed, m.attempt("r.1"))
			m.awaitPhase("r.1", queue.Ended)
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := fmt.Sprint(s.settled); got != tt.want || !tt.over && s.kept["outputs.model/a"] != "weights" {
				t.Errorf("the outputs %v were settled with %s, want %s", s.kept, got, tt.want)
			}
		})
	}
}

func TestDeliveryRidesOutAServerThatMoves(t *testing.T) {
	t.Parallel()
	s, f := newSite(t), newShims()
	m := newMachine(t, s, f, &prepared{})
	s.want(give(wanted("r.1", 1)))
	m.awaitPhase("r.1", queue.InRunning)
	var want strings.Builder
	for i := range 6 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		m.print("r.1", line)
		if i%2 == 0 {
			s.down()
		} else {
			s.up()
			await(t, "the log so far", func() bool { return s.logOf("r.1 user_logs/std_log.txt") == want.String() })
		}
	}
	s.down()
	m.print("r.1", "last\n")
	exited(f, m.attempt("r.1"))
	s.up()
	m.awaitPhase("r.1", queue.Ended)
	if got := s.logOf("r.1 user_logs/std_log.txt"); got != want.String()+"last\n" {
		t.Fatalf("log = %q", got)
	}
}

func TestANewAgentTakesUpWhatRuns(t *testing.T) {
	t.Parallel()
	s, f := newSite(t), newShims()
	m := newMachine(t, s, f, &prepared{})
	s.want(give(wanted("r.1", 1)))
	m.awaitPhase("r.1", queue.InRunning)
	big := strings.Repeat("0123456789abcde\n", 1000)
	m.print("r.1", big)
	await(t, "the log is there", func() bool { return s.logOf("r.1 user_logs/std_log.txt") == big })
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	if f.living() != 1 {
		t.Fatal("the shim ended with the agent")
	}
	m.print("r.1", "while nobody looked\n")
	m.start()
	await(t, "the log goes on", func() bool { return s.logOf("r.1 user_logs/std_log.txt") == big+"while nobody looked\n" })
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	exited(f, m.attempt("r.1")) // it ends between two agents
	m.start()
	if exit := m.awaitPhase("r.1", queue.Ended); exit.Cause != queue.ByExit {
		t.Fatalf("exit = %+v", exit)
	}
	if f.starts["r.1"] != 1 {
		t.Fatalf("started %d times", f.starts["r.1"])
	}
}

func TestAnAttemptWhoseAgentDiedBeforeItsShimIsNeverStarted(t *testing.T) {
	t.Parallel()
	s, f := newSite(t), newShims()
	hold := make(chan struct{})
	p := &prepared{hold: hold}
	m := newMachine(t, s, f, p)
	s.want(give(wanted("r.1", 1)))
	m.awaitPhase("r.1", queue.InPreparing)
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	close(hold)
	m.start()
	if exit := m.awaitPhase("r.1", queue.Ended); exit.Cause != queue.ByNodeLoss {
		t.Fatalf("exit = %+v, want %s", exit, queue.ByNodeLoss)
	}
	if f.starts["r.1"] != 0 {
		t.Fatal("it was started")
	}
}

func TestADeadShimIsNodeLoss(t *testing.T) {
	t.Parallel()
	s, f := newSite(t), newShims()
	m := newMachine(t, s, f, &prepared{})
	s.want(give(wanted("r.1", 1)))
	m.awaitPhase("r.1", queue.InRunning)
	if err := f.Kill(m.attempt("r.1")); err != nil {
		t.Fatal(err)
	}
	if exit := m.awaitPhase("r.1", queue.Ended); exit.Cause != queue.ByNodeLoss {
		t.Fatalf("exit = %+v, want %s", exit, queue.ByNodeLoss)
	}
}

func TestSetupThatFailsIsTheUsers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prep *prepared
		code map[string]string
		want queue.Cause
		says string
	}{
		"a requirement that does not exist": {&prepared{fail: fault.New(fault.Invalid, "", "No such package: nope.")}, nil, queue.BySetup, "No such package: nope."},
		"a snapshot that leads outside":     {&prepared{}, map[string]string{"../../evil": "x"}, queue.BySetup, "leads outside"},
		"a node that cannot":                {&prepared{fail: errors.New("disk is broken")}, nil, queue.ByNodeLoss, "disk is broken"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if c.code != nil {
				s.order.Task.Code, s.code = "/ws/snapshots/1", c.code
			}
			m := newMachine(t, s, newShims(), c.prep)
			s.want(give(wanted("r.1", 1)))
			if exit := m.awaitPhase("r.1", queue.Ended); exit.Cause != c.want || !strings.Contains(exit.Message, c.says) {
				t.Fatalf("exit = %+v, want %s saying %q", exit, c.want, c.says)
			}
		})
	}
}

func TestStops(t *testing.T) {
	t.Parallel()
	for name, prep := range map[string]*prepared{"while it runs": {}, "while it is prepared": {hold: make(chan struct{})}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			m := newMachine(t, s, newShims(), prep)
			s.want(give(wanted("r.1", 1)))
			at := queue.InRunning
			if prep.hold != nil {
				at = queue.InPreparing
			}
			m.awaitPhase("r.1", at)
			s.want(give(stop("r.1", 1, queue.ByCancel)))
			if exit := m.awaitPhase("r.1", queue.Ended); exit.Cause != queue.ByCancel {
				t.Fatalf("exit = %+v, want %s", exit, queue.ByCancel)
			}
		})
	}
}

func TestAnAttemptThatTheServerCallsOverIsStopped(t *testing.T) {
	t.Parallel()
	s, f := newSite(t), newShims()
	m := newMachine(t, s, f, &prepared{})
	s.want(give(wanted("r.1", 1)))
	m.awaitPhase("r.1", queue.InRunning)
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	m.print("r.1", "nobody wants this\n")
	m.awaitPhase("r.1", queue.Ended)
	if f.living() != 0 {
		t.Fatal("its shim lives")
	}
}

func TestANodeThatIsNotKnownStopsEverything(t *testing.T) {
	t.Parallel()
	s, f := newSite(t), newShims()
	m := newMachine(t, s, f, &prepared{})
	s.want(give(wanted("r.1", 1)))
	m.awaitPhase("r.1", queue.InRunning)
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	s.down()
	s.up()
	await(t, "everything is stopped", func() bool { return f.living() == 0 })
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestADrainedNodeSaysEmpty(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	newMachine(t, s, newShims(), &prepared{})
	s.want(func(d *nodeproto.Desired) { d.Drain = true })
	await(t, "empty is said", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.report.Empty && s.report.Revision == s.desired.Revision
	})
}

func TestHostileOutputsAreContained(t *testing.T) {
	t.Parallel()
	s, f := newSite(t), newShims()
	m := newMachine(t, s, f, &prepared{})
	secret := filepath.Join(s.dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.want(give(wanted("r.1", 1)))
	m.awaitPhase("r.1", queue.InRunning)
	out := filepath.Join(m.attempt("r.1"), "work", "outputs")
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"away": secret, "up": "../../../../../../secret", "loop": ".", "near": "good.txt", "root": "/"} {
		if err := os.Symlink(target, filepath.Join(out, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"good.txt", "new\nline", "back\\slash", "bad\xff", "..."} {
		if err := os.WriteFile(filepath.Join(out, name), []byte("fine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exited(f, m.attempt("r.1"))
	m.awaitPhase("r.1", queue.Ended)
	for path, body := range s.artifacts {
		if body != "fine" || strings.ContainsAny(path, "\n\\\xff") {
			t.Errorf("artifact %q = %q", path, body)
		}
	}
	for _, path := range []string{"outputs/good.txt", "outputs/near", "outputs/..."} {
		if s.artifacts[path] != "fine" {
			t.Errorf("artifact %s is missing: %v", path, s.artifacts)
		}
	}
}

func TestUntarContainsHostileArchives(t *testing.T) {
	t.Parallel()
	type entry = tar.Header
	tests := map[string][]entry{
		"a path that climbs":               {{Name: "../x", Typeflag: tar.TypeReg}},
		"a path that climbs later":         {{Name: "a/../../x", Typeflag: tar.TypeReg}},
		"an absolute path":                 {{Name: "/x", Typeflag: tar.TypeReg}},
		"a symbolic link":                  {{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/"}},
		"a hard link":                      {{Name: "x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"a device":                         {{Name: "x", Typeflag: tar.TypeChar}},
		"a pipe":                           {{Name: "x", Typeflag: tar.TypeFifo}},
		"the same file twice":              {{Name: "x", Typeflag: tar.TypeReg}, {Name: "x", Typeflag: tar.TypeReg}},
		"more files than are allowed":      {{Name: "1", Typeflag: tar.TypeReg}, {Name: "2", Typeflag: tar.TypeReg}, {Name: "3", Typeflag: tar.TypeReg}, {Name: "4", Typeflag: tar.TypeReg}},
		"a file that says it is very long": {{Name: "x", Typeflag: tar.TypeReg, Size: 1 << 40}},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, e := range entries {
				if err := w.WriteHeader(&e); err != nil {
					t.Fatal(err)
				}
			}
			w.Flush()
			parent := t.TempDir()
			dir := filepath.Join(parent, "a", "b")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := node.Untar(&b, dir, 3, 1<<20); err == nil {
				t.Fatal("Untar = nil, want an error")
			}
			if found, _ := filepath.Glob(filepath.Join(parent, "*")); len(found) != 1 {
				t.Fatalf("written outside: %v", found)
			}
		})
	}
}

func TestAnAttemptIsJournalledOnce(t *testing.T) {
	t.Parallel()
	first, second := node.JournalTwice(t.TempDir())
	if first != nil || !errors.Is(second, fs.ErrExist) {
		t.Fatalf("journal = %v, then %v; want nil, then %v", first, second, fs.ErrExist)
	}
}

func TestOneAgentServesAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := node.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if second, err := node.Lock(dir); err == nil {
		second.Close()
		t.Fatal("a second agent took the lock")
	}
	var pid int
	var start, boot string
	if b, err := os.ReadFile(lock.Name()); err != nil {
		t.Fatal(err)
	} else if n, _ := fmt.Sscan(string(b), &pid, &start, &boot); n != 3 || pid != os.Getpid() {
		t.Fatalf("lock says %q, want pid, start time and boot id", b)
	}
}

// TestAJobCannotKeepItsFolder: without root a folder that a job made without
// write permission is in the way of its removal, and a node that never is empty
// never leaves.
func TestAJobCannotKeepItsFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	done := make(chan error)
	go func() {
		if os.Geteuid() == 0 { // for this thread alone, which ends with the goroutine
			const nobody = 65534
			runtime.LockOSThread()
			err := errors.Join(os.Chown(filepath.Dir(dir), nobody, nobody), os.Chown(dir, nobody, nobody), unix.Setfsuid(nobody))
			if err != nil {
				done <- err
				return
			}
		}
		done <- node.JournalDrop(dir, func(folder string) error {
			closed := filepath.Join(folder, "work", "closed")
			if err := os.MkdirAll(filepath.Join(closed, "inner"), 0o755); err != nil {
				return err
			}
			return os.Chmod(closed, 0o100)
		})
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "attempts")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
