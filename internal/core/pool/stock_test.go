package pool_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// What a restored state believes, held against what there is.
func TestStock(t *testing.T) {
	t.Parallel()
	gang := run(1, 2)
	tests := map[string]struct {
		view  *pool.View
		held  []pool.Held
		want  []string // actions, in order
		nodes string   // whose rows are left
		runs  string   // r1's state after, as the view has it; empty: it is over
	}{
		"a node and its job that both know stay": {
			view: view(put(cluster("cpu", 0, 4)), placed(run(1, 1), queue.InRunning, 0, 0)),
			held: []pool.Held{{Node: "cpu-0", Attempts: []string{"r1.1"}}}, nodes: "cpu-0", runs: "Running",
		},
		"an idle node stays": {
			view: view(put(cluster("cpu", 0, 4), node(0, fleet.Idle, 0))), held: []pool.Held{{Node: "cpu-0"}}, nodes: "cpu-0",
		},
		"a node that is gone goes, and its run is not tried again": {
			view: view(put(cluster("cpu", 0, 4)), placed(run(1, 1), queue.InRunning, 0, 0)),
			want: []string{"forget cpu-0", "end r1.1"},
		},
		"a node that is done with its job stays, and the run is not tried again": {
			view: view(put(cluster("cpu", 0, 4)), placed(run(1, 1), queue.InRunning, 0, 0)), held: []pool.Held{{Node: "cpu-0"}},
			want: []string{"end r1.1"}, nodes: "cpu-0",
		},
		"a node with a job that nobody knows is let alone": {
			view: view(put(cluster("cpu", 0, 4), node(0, fleet.Idle, 0))), held: []pool.Held{{Node: "cpu-0", Attempts: []string{"x.1"}}},
			want: []string{"forget cpu-0"},
		},
		"so is one with its job and another": {
			view: view(put(cluster("cpu", 0, 4)), placed(run(1, 1), queue.InRunning, 0, 0)), held: []pool.Held{{Node: "cpu-0", Attempts: []string{"r1.1", "x.1"}}},
			want: []string{"forget cpu-0", "end r1.1"},
		},
		"a run that waits and runs on a node that nobody knows is not started": {
			view: view(put(cluster("cpu", 0, 4)), queued(run(1, 1))), held: []pool.Held{{Node: "cpu-9", Attempts: []string{"r1.1"}}},
			want: []string{"end r1.1"},
		},
		"nor one that was tried again since": {
			view: view(put(cluster("cpu", 0, 4)), placed(run(1, 1), queue.InRunning, 0, 0)), held: []pool.Held{{Node: "cpu-0"}, {Node: "cpu-9", Attempts: []string{"r1.2"}}},
			want: []string{"end r1.1"}, nodes: "cpu-0",
		},
		"a job goes on where nobody can tell what its node holds": {
			view: view(put(cluster("cpu", 0, 4)), placed(run(1, 1), queue.InRunning, 0, 0)), held: []pool.Held{{Node: "cpu-0", Unknown: true}},
			nodes: "cpu-0", runs: "Running",
		},
		"an idle node of which nobody can tell what it holds is let alone": {
			view: view(put(cluster("cpu", 0, 4), node(0, fleet.Idle, 0))), held: []pool.Held{{Node: "cpu-0", Unknown: true}},
			want: []string{"forget cpu-0"},
		},
		"a run that waits, of which there is no trace, waits": {
			view: view(put(cluster("cpu", 0, 4)), queued(run(1, 1))), held: []pool.Held{{Node: "cpu-9", Attempts: []string{"r2.1"}}}, runs: "Queued",
		},
		"a gang that lost a member ends in the ordinary way": {
			view: view(put(cluster("cpu", 0, 4)), placed(gang, queue.InRunning, 0, 0, 1)), held: []pool.Held{{Node: "cpu-0", Attempts: []string{"r1.1"}}, {Node: "cpu-1"}},
			nodes: "cpu-0 cpu-1", runs: "Running",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pool.Stock(tt.view, tt.held, start)
			if got := says(p); !slices.Equal(got, tt.want) {
				t.Errorf("it says %q, want %q", got, tt.want)
			}
			v := tt.view.Apply(p.Changes...)
			var nodes []string
			for _, n := range v.NodesOf(cpu) {
				nodes = append(nodes, n.ID)
			}
			if got := strings.Join(nodes, " "); got != tt.nodes {
				t.Errorf("the nodes are %q, want %q", got, tt.nodes)
			}
			rs, _ := v.RunStatus("r1")
			if string(rs.State) != tt.runs {
				t.Errorf("the run is %q, want %q", rs.State, tt.runs)
			}
			if s, ok := last[queue.Status](p); ok && s.State == queue.Failed && s.Failure.Code != pool.LostByRestore {
				t.Errorf("it failed by %+v", s.Failure)
			}
			if again := pool.Stock(v, tt.held, start); tt.runs != "Running" && len(again.Changes) > 0 {
				t.Errorf("stock taken twice says more: %q", says(again))
			}
		})
	}
}

// The rest of a gang is stopped, and the run ends: it is never requeued.
func TestAGangInDoubtIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	v := view(put(cluster("cpu", 0, 4)), placed(run(1, 2), queue.InRunning, 0, 0, 1))
	v = v.Apply(pool.Stock(v, []pool.Held{{Node: "cpu-0", Attempts: []string{"r1.1"}}, {Node: "cpu-1"}}, start).Changes...)
	p := pool.Decide(v, pool.Facts{}, start)
	if got := says(p); !slices.Contains(got, "stop r1.1") {
		t.Fatalf("it says %q, want that the rest stops", got)
	}
	v = v.Apply(p.Changes...)
	exit := queue.Exit{Cause: queue.ByNodeLoss, Code: 143, Ended: start}
	p = pool.Decide(v, pool.Facts{Seen: []pool.Event{{Kind: pool.Reported, Node: "cpu-0", Report: pool.Report{
		Attempts: []pool.Progress{{Attempt: "r1.1", Fence: 7, Phase: queue.Ended, Exit: exit}},
	}}}}, start)
	s, ok := last[queue.Status](p)
	if !ok || s.State != queue.Failed || s.Failure.Code != pool.LostByRestore {
		t.Errorf("the run is %+v, want it failed by the restore; %q", s, says(p))
	}
}

// In another epoch the same numbers make other names.
func TestNamesOfAnEpoch(t *testing.T) {
	t.Parallel()
	v := view(put(cluster("cpu", 1, 4), node(0, fleet.Idle, 0)), queued(run(1, 1)), queued(run(2, 1)))
	was, is := pool.Decide(v, pool.Facts{}, start), pool.Decide(v, pool.Facts{Epoch: 36}, start)
	a, _ := last[queue.Attempt](was)
	b, _ := last[queue.Attempt](is)
	if a.ID != "r1.1" || b.ID != "r1.10-1" || b.N != 1 {
		t.Errorf("attempts %s and %s (%d), want r1.1 and r1.10-1", a.ID, b.ID, b.N)
	}
	for p, want := range map[*pool.Plan]string{&was: "launch cpu-1", &is: "launch cpu-10-1"} {
		if got := says(*p); !slices.Contains(got, want) {
			t.Errorf("it says %q, want %q among it", got, want)
		}
	}
}

// What is quarantined takes room.
func TestWhatIsTakenCounts(t *testing.T) {
	t.Parallel()
	v := view(put(cluster("cpu", 0, 4)), queued(run(1, 1)))
	f := pool.Facts{Capacity: pool.Capacity{VCPUs: 8, MemoryGiB: 64}}
	if got := says(pool.Decide(v, f, start)); !slices.Contains(got, "launch cpu-0") {
		t.Fatalf("with room it says %q", got)
	}
	f.Taken = fleet.Size{VCPUs: 6, MemoryGiB: 14}
	if got := says(pool.Decide(v, f, start)); slices.Contains(got, "launch cpu-0") {
		t.Errorf("without room it says %q", got)
	}
}
