package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/engine/enginetest"
	"github.com/ebb-compute/ebb/internal/engine/local"
	"github.com/ebb-compute/ebb/internal/fault"
)

// TestMain lets the test binary be the agent: "fake-agent [stubborn|failing] DIR".
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "fake-agent" {
		os.Exit(fakeAgent(os.Args[2:len(os.Args)-1], os.Args[len(os.Args)-1]))
	}
	os.Exit(m.Run())
}

// fakeAgent does what an engine sees of an agent: it takes the lock, says who it
// is, and ends when told.
func fakeAgent(how []string, dir string) int {
	if len(how) > 0 && how[0] == "failing" {
		fmt.Fprintln(os.Stderr, "out of luck")
		return 3
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 1
	}
	for range time.Tick(time.Millisecond) { // whoever looks holds it for a moment
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			break
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "removing")); err == nil {
		return 1
	}
	stat, _ := os.ReadFile("/proc/self/stat")
	start := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	fmt.Fprintf(lock, "%d %s %s", os.Getpid(), start, boot)
	for {
		<-ended
		if len(how) == 0 || how[0] != "stubborn" {
			return 0
		}
	}
}

// attempts remembers which attempts an engine was told to end.
type attempts struct {
	mu    sync.Mutex
	ended []string
	err   error
}

func (a *attempts) end(_ context.Context, dir string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = append(a.ended, filepath.Base(dir))
	return a.err
}

func open(t *testing.T, how ...string) (*local.Engine, *attempts) {
	t.Helper()
	dir := t.TempDir()
	a := &attempts{}
	e := &local.Engine{
		Dir: filepath.Join(dir, "nodes"), Server: filepath.Join(dir, "server.json"), Cache: filepath.Join(dir, "cache"),
		Exe: append([]string{"/proc/self/exe", "fake-agent"}, how...), EndAttempt: a.end, NvidiaSMI: filepath.Join(dir, "nvidia-smi"),
	}
	t.Cleanup(func() {
		a.mu.Lock()
		a.err = nil
		a.mu.Unlock()
		all, err := e.List(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, n := range all {
			if err := e.Remove(context.Background(), n.Node); err != nil {
				t.Error(err)
			}
		}
	})
	return e, a
}

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T) engine.Driver { e, _ := open(t); return e },
		Full: func(t *testing.T) engine.Driver {
			e, _ := open(t)
			e.NoOversubscribe = true
			e.Machine = func() (int, float64, error) {
				return 2 * enginetest.Size.VCPUs, 2 * enginetest.Size.MemoryGiB, nil
			}
			return e
		},
		Reopen: func(_ *testing.T, d engine.Driver) engine.Driver {
			e := d.(*local.Engine)
			return &local.Engine{Dir: e.Dir, Server: e.Server, Cache: e.Cache, Exe: e.Exe, EndAttempt: e.EndAttempt, NvidiaSMI: e.NvidiaSMI}
		},
		Kill: func(t *testing.T, d engine.Driver, node string) { kill(t, d.(*local.Engine), node) },
	})
}

// agentOf returns the pid in a node's lock.
func agentOf(t *testing.T, e *local.Engine, node string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(e.Dir, node, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(b))[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func kill(t *testing.T, e *local.Engine, node string) {
	t.Helper()
	if err := syscall.Kill(agentOf(t, e, node), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// nodeJSON reads what the agent is told.
func nodeJSON(t *testing.T, e *local.Engine, node string) (v struct {
	Node, Token, Server, Cache string
	GPUs, Warnings, Readable   []string
	Networks                   []string
	Address                    string
}) {
	t.Helper()
	path := filepath.Join(e.Dir, node, "node.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("node.json has mode %v (%v), want 0600: the token is in it", fi.Mode(), err)
	}
	return v
}

func TestAgentIsToldWhatItNeeds(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	e.Readable, e.Networks = []string{"/data"}, []string{"10.0.0.0/8"}
	if err := e.Launch(t.Context(), enginetest.Spec("a-0")); err != nil {
		t.Fatal(err)
	}
	got := nodeJSON(t, e, "a-0")
	if len(got.Networks) != 1 || got.Networks[0] != "10.0.0.0/8" {
		t.Errorf("node.json lets inputs come from %q, want 10.0.0.0/8", got.Networks)
	}
	if len(got.Readable) != 1 || got.Readable[0] != "/data" {
		t.Errorf("node.json lets jobs read %q, want /data", got.Readable)
	}
	if got.Node != "a-0" || got.Token != "token-of-a-0" || got.Server != e.Server || got.Cache != e.Cache {
		t.Fatalf("node.json = %+v, want the node, its token, and where server and cache are", got)
	}
	if sid, err := unix.Getsid(agentOf(t, e, "a-0")); err != nil || sid != agentOf(t, e, "a-0") {
		t.Fatalf("agent's session = %d (%v), want one of its own: it outlives the server's terminal", sid, err)
	}
}

func TestAgentThatFailsAtOnceIsAnErrorWithItsLastWords(t *testing.T) {
	t.Parallel()
	e, _ := open(t, "failing")
	err := e.Launch(t.Context(), enginetest.Spec("a-0"))
	if err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Fatalf("Launch = %v, want an error with the agent's last words", err)
	}
}

func TestRemoveKillsAnAgentThatWillNotEnd(t *testing.T) {
	t.Parallel()
	e, _ := open(t, "stubborn")
	if err := e.Launch(t.Context(), enginetest.Spec("a-0")); err != nil {
		t.Fatal(err)
	}
	pid := agentOf(t, e, "a-0")
	if err := e.Remove(t.Context(), "a-0"); err != nil {
		t.Fatal(err)
	}
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Fatalf("process %d lives after Remove: %s", pid, stat)
	}
}

func TestRemoveEndsEveryAttemptBeforeTheFolderGoes(t *testing.T) {
	t.Parallel()
	e, a := open(t)
	if err := e.Launch(t.Context(), enginetest.Spec("a-0")); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(e.Dir, "a-0", "attempts", "r.1", "work", "outputs")
	for _, d := range []string{locked, filepath.Join(e.Dir, "a-0", "attempts", ".new-half")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	a.err = errors.New("it will not die")
	if err := e.Remove(t.Context(), "a-0"); err == nil {
		t.Fatal("Remove = nil while an attempt lives, want an error")
	}
	if _, err := os.Stat(locked); err != nil {
		t.Fatalf("the folder went before the attempt was dead: %v", err)
	}
	if err := e.Launch(t.Context(), enginetest.Spec("a-0")); !errors.Is(err, fault.Conflict) {
		t.Fatalf("Launch while being removed = %v, want %v", err, fault.Conflict)
	}
	a.err = nil
	if err := e.Remove(t.Context(), "a-0"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(a.ended, " "); got != "r.1 r.1" {
		t.Fatalf("attempts ended: %q, want r.1 at both tries", got)
	}
	if left, _ := os.ReadDir(e.Dir); len(left) != 1 { // the machine's lock
		t.Fatalf("left behind: %v", left)
	}
}

func TestNeverSignalsAProcessThatOnlyHasThePid(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	if err := e.Launch(t.Context(), enginetest.Spec("a-0")); err != nil {
		t.Fatal(err)
	}
	kill(t, e, "a-0")
	// The lock now names us: by pid we live, by start time we are another.
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	words := fmt.Sprintf("%d 1 %s", os.Getpid(), boot)
	if err := os.WriteFile(filepath.Join(e.Dir, "a-0", "lock"), []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), "a-0"); err != nil {
		t.Fatal(err)
	}
}

func TestADeadNodeStaysDead(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	if err := e.Launch(t.Context(), enginetest.Spec("a-0")); err != nil {
		t.Fatal(err)
	}
	kill(t, e, "a-0")
	for alive := true; alive; {
		all, err := e.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		alive = all[0].Alive
	}
	if err := e.Launch(t.Context(), enginetest.Spec("a-0")); err != nil {
		t.Fatal(err)
	}
	if all, _ := e.List(t.Context()); all[0].Alive || all[0].Why == "" {
		t.Fatalf("List = %+v, want the node dead, with the reason", all)
	}
}

func TestAFolderOfAnEarlierBootIsDead(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	dir := filepath.Join(e.Dir, "a-0")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte(`{"node":"a-0","boot":"another"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := e.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Alive {
		t.Fatalf("List = %+v, %v, want a-0 dead", all, err)
	}
}

// withGPUs puts a fake nvidia-smi where the engine looks.
func withGPUs(t *testing.T, e *local.Engine, n int) {
	t.Helper()
	script := "#!/bin/sh\n"
	for i := range n {
		script += fmt.Sprintf("echo '%d, GPU-%d, 40960'\n", i, i)
	}
	if err := os.WriteFile(e.NvidiaSMI, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func gpuSpec(node string, gpus int) engine.Spec {
	s := enginetest.Spec(node)
	s.Size = fleet.Size{Name: "STANDARD_NC6", VCPUs: 6, MemoryGiB: 56, GPUs: gpus}
	return s
}

func TestGPUsAreGivenToOneNodeAtATime(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	withGPUs(t, e, 2)
	c, err := e.Capacity(t.Context())
	if err != nil || c.GPUs != 2 {
		t.Fatalf("Capacity = %+v, %v, want 2 GPUs", c, err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	launched, refused := []string{}, 0
	for i := range 4 {
		wg.Go(func() {
			id := fmt.Sprintf("g-%d", i)
			err := e.Launch(t.Context(), gpuSpec(id, 1))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				launched = append(launched, id)
			case errors.Is(err, fault.Exhausted):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(launched) != 2 || refused != 2 {
		t.Fatalf("launched %v, refused %d; want 2 and 2", launched, refused)
	}
	a, b := nodeJSON(t, e, launched[0]).GPUs, nodeJSON(t, e, launched[1]).GPUs
	if len(a) != 1 || len(b) != 1 || a[0] == b[0] {
		t.Fatalf("GPUs %v and %v, want one each, different", a, b)
	}
	if err := e.Remove(t.Context(), launched[0]); err != nil {
		t.Fatal(err)
	}
	if err := e.Launch(t.Context(), gpuSpec("g-9", 1)); err != nil {
		t.Fatal(err)
	}
	if got := nodeJSON(t, e, "g-9").GPUs; got[0] != a[0] {
		t.Fatalf("GPUs %v, want the freed %v", got, a)
	}
}

// Each node has an address of its own, and one that leaves gives it back.
func TestNodesHaveAddressesOfTheirOwn(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	launch := func(node string) string {
		if err := e.Launch(t.Context(), gpuSpec(node, 0)); err != nil {
			t.Fatal(err)
		}
		return nodeJSON(t, e, node).Address
	}
	a, b := launch("n1"), launch("n2")
	if a != "127.77.0.1" || b != "127.77.0.2" {
		t.Errorf("n1 has %s and n2 %s", a, b)
	}
	if err := e.Remove(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if c, d := launch("n3"), launch("n4"); c != a || d != "127.77.0.3" {
		t.Errorf("n3 has %s and n4 %s", c, d)
	}
}

func TestGPUSizesOnAMachineWithout(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	if err := e.Launch(t.Context(), gpuSpec("g-0", 2)); err != nil {
		t.Fatal(err)
	}
	got := nodeJSON(t, e, "g-0")
	if len(got.GPUs) != 0 || !strings.Contains(strings.Join(got.Warnings, " "), "2 GPUs") {
		t.Fatalf("node.json = %+v, want no GPUs and a warning", got)
	}
	e.GPURequired = true
	if err := e.Launch(t.Context(), gpuSpec("g-1", 2)); !errors.Is(err, fault.Exhausted) {
		t.Fatalf("Launch with local.gpu required = %v, want %v", err, fault.Exhausted)
	}
	if all, _ := e.List(t.Context()); len(all) != 1 {
		t.Fatalf("List = %+v, want only g-0: a refused launch leaves nothing", all)
	}
}

// What one node has cannot be read: it is listed as that, and the others as ever.
func TestANodeThatCannotBeReadDoesNotHideTheOthers(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	for _, n := range []string{"n-0", "n-1"} {
		if err := e.Launch(t.Context(), engine.Spec{Node: n, Cluster: "c", Installation: "i"}); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(e.Dir, n, "attempts", "r-"+n+".1"), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	broken := filepath.Join(e.Dir, "n-0", "attempts")
	if err := os.Rename(broken, broken+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, nil, 0o600); err != nil { // also root cannot list it
		t.Fatal(err)
	}
	all, err := e.List(t.Context())
	// Until it can be read again the node cannot be removed.
	if err := errors.Join(os.Remove(broken), os.Rename(broken+".away", broken)); err != nil {
		t.Fatal(err)
	}
	if err != nil || len(all) != 2 {
		t.Fatalf("List = %+v, %v, want both", all, err)
	}
	for _, s := range all {
		if want := s.Node == "n-0"; s.Unknown != want || (len(s.Attempts) == 0) != want {
			t.Errorf("%s holds %q, unknown: %v", s.Node, s.Attempts, s.Unknown)
		}
	}
}

func TestADriverThatDoesNotAnswerIsNotAMachineWithoutGPUs(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	if err := os.WriteFile(e.NvidiaSMI, []byte("#!/bin/sh\nexit 9\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := e.Launch(t.Context(), gpuSpec("g-0", 1)); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("Launch = %v, want %v", err, fault.Unavailable)
	}
}

func TestLargerThanTheMachine(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	e.Machine = func() (int, float64, error) { return 2, 4, nil }
	s := enginetest.Spec("a-0")
	s.Size.VCPUs = 64
	if err := e.Launch(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if w := nodeJSON(t, e, "a-0").Warnings; len(w) != 1 {
		t.Fatalf("warnings %q, want one on the missing vCPUs", w)
	}
	e.NoOversubscribe = true
	s.Node = "a-1"
	if err := e.Launch(t.Context(), s); !errors.Is(err, fault.Invalid) {
		t.Fatalf("Launch with local.oversubscribe off = %v, want %v", err, fault.Invalid)
	}
}

func TestHostileNodeIDs(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	for _, id := range []string{"", ".", "..", "../x", "a/b", ".lock", "a\x00"} {
		if err := e.Launch(t.Context(), enginetest.Spec(id)); !errors.Is(err, fault.Invalid) {
			t.Errorf("Launch(%q) = %v, want %v", id, err, fault.Invalid)
		}
		if err := e.Remove(t.Context(), id); err != nil {
			t.Errorf("Remove(%q) = %v, want nil", id, err)
		}
	}
}
