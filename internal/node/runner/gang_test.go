package runner_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/runner"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// share is the order for a member of a gang.
func share(command, run string, s gang.Spread, hosts []gang.Host, member int) nodeproto.Order {
	o := order(command)
	o.Attempt, o.Member = run+".1", member
	p := s.Plan(run, hosts, member)
	o.Gang, o.LogName = &p, p.Processes[0].Log
	return o
}

// alone is the only node of a job.
var alone = []gang.Host{{Node: "node-a"}}

func rankLog(dir string, n int) string {
	b, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("log/user_logs/std_log_process_%d.txt", n)))
	return string(b)
}

// worlds runs a test with all isolation that the machine has, and with less.
func worlds(t *testing.T, f func(t *testing.T, r *runner.Runner, data string)) {
	t.Helper()
	for name, less := range map[string]func(*runner.Config){
		"all isolation": func(*runner.Config) {},
		"no users":      func(c *runner.Config) { c.NoUsers = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := data(t)
			f(t, newRunner(t, d, less), d)
		})
	}
}

func TestEachProcessHasItsVariablesAndItsLog(t *testing.T) {
	t.Parallel()
	worlds(t, func(t *testing.T, r *runner.Runner, data string) {
		o := share(`echo "rank $RANK of $WORLD_SIZE, local $LOCAL_RANK"; echo again > /dev/stdout; echo err >&2; ls train.py`,
			uuid.NewString(), gang.Spread{Kind: gang.PyTorch, PerNode: 3}, alone, 0)
		dir := begin(t, r, data, o)
		rec, _ := finish(t, dir)
		if rec.Exit.Cause != queue.ByExit || rec.Exit.Code != 0 {
			t.Fatalf("ended by %+v", rec.Exit)
		}
		for n := range 3 {
			want := fmt.Sprintf("rank %d of 3, local %d\nagain\nerr\ntrain.py\n", n, n)
			if got := rankLog(dir, n); got != want {
				t.Errorf("the log of rank %d is %q, want %q", n, got, want)
			}
		}
	})
}

func TestTheFirstProcessThatFailsIsNamed(t *testing.T) {
	t.Parallel()
	worlds(t, func(t *testing.T, r *runner.Runner, data string) {
		o := share(`if [ $RANK = 1 ]; then echo enough of it; exit 5; fi; trap 'echo asked; exit 1' TERM; while :; do sleep 0.01; done`,
			uuid.NewString(), gang.Spread{Kind: gang.PyTorch, PerNode: 3}, alone, 0)
		rec, _ := finish(t, begin(t, r, data, o))
		e := rec.Exit
		if e.Cause != queue.ByExit || e.Code != 5 || e.Process != "rank 1" {
			t.Errorf("ended by %+v", e)
		}
		for _, word := range []string{"Rank 1 on node node-a", "code 5", "std_log_process_1.txt", "enough of it"} {
			if !strings.Contains(e.Message, word) {
				t.Errorf("%q does not say %q", e.Message, word)
			}
		}
	})
}

func TestWhatServesEndsWithWhatLeads(t *testing.T) {
	t.Parallel()
	worlds(t, func(t *testing.T, r *runner.Runner, data string) {
		o := share(`case "$TF_CONFIG" in *'"type":"ps"'*) exec sleep 600;; esac; echo "$TF_CONFIG"`,
			uuid.NewString(), gang.Spread{Kind: gang.TensorFlow, Servers: 1}, alone, 0)
		dir := begin(t, r, data, o)
		rec, _ := finish(t, dir)
		if rec.Exit.Code != 0 || !strings.Contains(rankLog(dir, 0), `"type":"worker"`) {
			t.Errorf("ended by %+v; the worker said %q", rec.Exit, rankLog(dir, 0))
		}
	})
}

func TestAStopReachesAllProcesses(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	o := share(`trap 'sleep 0.5; echo asked; exit 0' TERM; echo up; while :; do sleep 0.01; done`,
		uuid.NewString(), gang.Spread{Kind: gang.PyTorch, PerNode: 2}, alone, 0)
	dir := begin(t, r, d, o)
	for n := range 2 {
		until(t, "the rank to be up", func() bool { return rankLog(dir, n) == "up\n" })
	}
	if err := shim.Stop(dir, queue.ByCancel, 10_000_000_000); err != nil {
		t.Fatal(err)
	}
	rec, _ := finish(t, dir)
	if rec.Exit.Cause != queue.ByCancel || rec.Exit.Process != "" || strings.Count(rankLog(dir, 0), "asked\n") != 1 || strings.Count(rankLog(dir, 1), "asked\n") != 1 {
		t.Errorf("ended by %+v, with %q and %q", rec.Exit, rankLog(dir, 0), rankLog(dir, 1))
	}
}

// Two members meet before either starts anything, and know each other by name.
func TestNodesOfAJobReachEachOther(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	needUsers(t, r)
	hosts := []gang.Host{{Node: "node-a", Address: "127.77.220.1"}, {Node: "node-b", Address: "127.77.220.2"}}
	run := uuid.NewString()
	var dirs []string
	for m := range hosts {
		dirs = append(dirs, begin(t, r, d, share(`hostname; getent hosts node-a node-b`, run, gang.Spread{}, hosts, m)))
	}
	for m, dir := range dirs {
		rec, _ := finish(t, dir)
		got := strings.Fields(rankLog(dir, m))
		want := []string{hosts[m].Node, "127.77.220.1", "node-a", "127.77.220.2", "node-b"}
		if rec.Exit.Code != 0 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("member %d ended by %+v and said %v, want %v", m, rec.Exit, got, want)
		}
		b, _ := os.ReadFile(filepath.Join(dir, "log/system_logs/links.txt"))
		if other := hosts[1-m].Node; !strings.Contains(string(b), "reaches "+other) {
			t.Errorf("member %d says of its links %q", m, b)
		}
	}
}

func TestWithoutMPIItIsSaidWhatToInstall(t *testing.T) {
	t.Parallel()
	d := data(t)
	o := share(`true`, uuid.NewString(), gang.Spread{Kind: gang.MPI, PerNode: 2}, alone, 0)
	o.Task.Variables = map[string]string{"PATH": "/nowhere"}
	rec, _ := finish(t, begin(t, newRunner(t, d), d, o))
	if rec.Exit.Cause != queue.BySetup || !strings.Contains(rec.Exit.Message, "openmpi-bin") {
		t.Errorf("ended by %+v", rec.Exit)
	}
}

// A job writes the file that says who failed, and must not make of it what it likes.
func TestALieAboutWhoFailedChangesLittle(t *testing.T) {
	t.Parallel()
	d := data(t)
	secret := filepath.Join(d, "secret.txt")
	if err := os.WriteFile(secret, []byte("the secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := share(`rm -f $EBB_LAUNCH/failed.json; ln -s `+secret+` $EBB_LAUNCH/failed.json; kill -9 $PPID`,
		uuid.NewString(), gang.Spread{Kind: gang.PyTorch, PerNode: 1}, []gang.Host{{Node: "a"}}, 0)
	rec, _ := finish(t, begin(t, newRunner(t, d), d, o))
	if rec.Exit.Cause != queue.ByExit || strings.Contains(rec.Exit.Message, "the secret") {
		t.Errorf("ended by %+v", rec.Exit)
	}
}

func TestRealMPIRunStartsTheRanks(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mpirun"); err != nil {
		testkit.RealPart(t, "mpirun (scripts/setup mpi): %v", err)
	}
	worlds(t, func(t *testing.T, r *runner.Runner, data string) {
		o := share(`echo $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE; ls train.py; [ $OMPI_COMM_WORLD_RANK != 2 ] || exit 4; sleep 600`,
			uuid.NewString(), gang.Spread{Kind: gang.MPI, PerNode: 3}, alone, 0)
		dir := begin(t, r, data, o)
		rec, _ := finish(t, dir)
		if rec.Exit.Code != 4 || rec.Exit.Process != "rank 2" {
			t.Errorf("ended by %+v", rec.Exit)
		}
		if got := rankLog(dir, 2); got != "2 of 3\ntrain.py\n" {
			t.Errorf("the log of rank 2 is %q", got)
		}
	})
}

// A rank that takes more memory than its node has is named too.
func TestARankThatIsTooLargeIsNamed(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	needUsers(t, r)
	if strings.Contains(fmt.Sprint(r.Warnings()), "not enforced") {
		t.Skipf("no limits here: %v", r.Warnings())
	}
	o := share(`[ $RANK = 1 ] || sleep 600; exec python3 -c "x = bytearray(600 << 20); print(len(x))"`,
		uuid.NewString(), gang.Spread{Kind: gang.PyTorch, PerNode: 2}, alone, 0)
	o.MemoryGiB = 0.25
	rec, _ := finish(t, begin(t, r, d, o))
	if e := rec.Exit; e.Code != 137 || e.Process != "rank 1" || !strings.Contains(e.Message, "memory limit") || !strings.Contains(e.Message, "Rank 1 on node node-a") {
		t.Errorf("ended by %+v", e)
	}
}
