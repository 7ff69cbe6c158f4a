package pool_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

var start = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const cpu = "/workspaces/w/computes/cpu"

// cluster returns a cluster whose id ends in its name.
func cluster(name string, least, most int) fleet.Cluster {
	return fleet.Cluster{
		ID: "/workspaces/w/computes/" + name, Name: name, Prefix: name, Workspace: "/workspaces/w",
		Size: fleet.Size{Name: "STANDARD_DS3_V2", VCPUs: 4, MemoryGiB: 14}, Min: least, Max: most,
		IdleAfter: 2 * time.Minute, Generation: 1,
	}
}

// node returns a node of cluster cpu that has been in its state for so long.
func node(n int64, state fleet.NodeState, ago time.Duration) fleet.Node {
	x := fleet.Node{
		ID: fmt.Sprintf("cpu-%d", n), Cluster: cpu, Number: n, State: state, Since: start.Add(-ago), Revision: 1,
	}
	if state == fleet.Idle {
		x.IdleSince = x.Since
	}
	return x
}

// run returns a run of cluster cpu that was submitted as the n-th.
func run(n, nodes int) queue.Run {
	id := fmt.Sprintf("r%d", n)
	return queue.Run{
		ID: id, Name: id, Document: id, Cluster: cpu, Nodes: nodes, Submitted: start.Add(time.Duration(n-1000) * time.Second),
	}
}

// queued returns the changes that put a run into the queue.
func queued(r queue.Run) []row.Change {
	return []row.Change{row.Put(queue.Status{ID: r.ID, Document: r.ID, State: queue.Queued}), row.Put(r)}
}

// placed returns the changes that let a run have nodes since so long.
func placed(r queue.Run, phase queue.Phase, ago time.Duration, nodes ...int64) []row.Change {
	state := map[queue.Phase]queue.State{
		queue.Placed: queue.Starting, queue.InPreparing: queue.Preparing, queue.InRunning: queue.Running, queue.InFinalizing: queue.Finalizing,
	}[phase]
	a := queue.Attempt{ID: r.ID + ".1", Run: r.ID, N: 1, Cluster: r.Cluster, Fence: 7, Phase: phase, Placed: start.Add(-ago)}
	s := queue.Status{ID: r.ID, Document: r.ID, State: state, Attempts: 1}
	if phase.Rank() >= queue.InRunning.Rank() {
		a.Started = start.Add(-ago)
		s.Started = a.Started
	}
	var out []row.Change
	for _, n := range nodes {
		x := node(n, fleet.Busy, ago)
		x.Attempt = a.ID
		a.Members = append(a.Members, queue.Member{Node: x.ID, Phase: phase})
		out = append(out, row.Put(x))
	}
	return append(out, row.Put(a), row.Put(s), row.Put(r))
}

func put(rows ...row.Row) []row.Change {
	var out []row.Change
	for _, r := range rows {
		out = append(out, row.Put(r))
	}
	return out
}

// says returns a plan's actions as words: verb and subject.
func says(p pool.Plan) []string {
	var out []string
	for _, a := range p.Actions {
		out = append(out, strings.SplitN(a.String(), "  #", 2)[0])
	}
	return out
}

func TestDecide(t *testing.T) {
	t.Parallel()
	limit := func(r queue.Run, d time.Duration) queue.Run { r.TimeLimit = d; return r }
	cancel := func(r queue.Run) queue.Run { r.Cancel = true; return r }
	deleting := func(c fleet.Cluster) fleet.Cluster { c.Deleting = true; c.Generation++; return c }
	status := func(f func(*fleet.Status)) fleet.Status {
		s := fleet.Status{ID: cpu, Observed: 1, Provisioning: operation.Succeeded, Allocation: fleet.Steady}
		f(&s)
		return s
	}
	small := pool.Capacity{VCPUs: 8, MemoryGiB: 64}
	tests := map[string]struct {
		has   [][]row.Change
		facts pool.Facts
		want  []string
	}{
		"an empty queue keeps an empty cluster empty": {
			has: [][]row.Change{put(cluster("cpu", 0, 4))},
		},
		"the minimum is kept warm": {
			has:  [][]row.Change{put(cluster("cpu", 2, 4))},
			want: []string{"launch cpu-0", "launch cpu-1"},
		},
		"a queue raises the cluster at once": {
			has:  [][]row.Change{put(cluster("cpu", 0, 4)), queued(run(1, 1)), queued(run(2, 2))},
			want: []string{"launch cpu-0", "launch cpu-1", "launch cpu-2"},
		},
		"a cluster never grows past its maximum": {
			has:  [][]row.Change{put(cluster("cpu", 0, 2)), queued(run(1, 1)), queued(run(2, 1)), queued(run(3, 1))},
			want: []string{"launch cpu-0", "launch cpu-1"},
		},
		"nodes that are leaving count until they are gone": {
			has:  [][]row.Change{put(cluster("cpu", 0, 2), node(0, fleet.Removing, 0)), queued(run(1, 1)), queued(run(2, 1))},
			want: []string{"launch cpu-1"}, // the second waits for room
		},
		"a free node is given to who came first": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1), node(0, fleet.Idle, 0)), queued(run(2, 1)), queued(run(1, 1))},
			want: []string{"start r1.1"},
		},
		"a gang starts whole or not at all": {
			has:  [][]row.Change{put(cluster("cpu", 0, 2), node(0, fleet.Idle, 0)), queued(run(1, 2))},
			want: []string{"launch cpu-1"},
		},
		"the head holds idle nodes against smaller ones": {
			has: [][]row.Change{
				put(cluster("cpu", 0, 2), node(0, fleet.Idle, 0)), placed(run(1, 1), queue.InRunning, time.Minute, 1),
				queued(run(2, 2)), queued(run(3, 1)),
			},
		},
		"a short run passes when it ends before the head's known start": {
			has: [][]row.Change{
				put(cluster("cpu", 0, 2), node(0, fleet.Idle, 0)), placed(limit(run(1, 1), time.Hour), queue.InRunning, time.Minute, 1),
				queued(run(2, 2)), queued(limit(run(3, 1), 10*time.Minute)),
			},
			want: []string{"start r3.1"},
		},
		"a run that might end too late does not pass": {
			has: [][]row.Change{
				put(cluster("cpu", 0, 2), node(0, fleet.Idle, 0)), placed(limit(run(1, 1), time.Hour), queue.InRunning, time.Minute, 1),
				queued(run(2, 2)), queued(limit(run(3, 1), time.Hour)),
			},
		},
		"nobody passes while nodes for the head may come any moment": {
			has: [][]row.Change{
				put(cluster("cpu", 0, 3), node(0, fleet.Idle, 0), node(2, fleet.Launching, 0)), placed(limit(run(1, 1), time.Hour), queue.InRunning, time.Minute, 1),
				queued(run(2, 2)), queued(limit(run(3, 1), time.Minute)),
			},
		},
		"a run too large for the cluster holds up nobody": {
			has:  [][]row.Change{put(cluster("cpu", 0, 2), node(0, fleet.Idle, 0)), queued(run(1, 3)), queued(run(2, 1))},
			want: []string{"start r2.1"},
		},
		"a node whose agent is away gets no work": {
			has:   [][]row.Change{put(cluster("cpu", 0, 1), node(0, fleet.Idle, 0)), queued(run(1, 1))},
			facts: pool.Facts{Away: map[string]bool{"cpu-0": true}},
		},
		"an idle node leaves after its time, the longest idle first": {
			has:  [][]row.Change{put(cluster("cpu", 1, 4), node(0, fleet.Idle, 3*time.Minute), node(1, fleet.Idle, 4*time.Minute), node(2, fleet.Idle, time.Minute))},
			want: []string{"drain cpu-1", "drain cpu-0"},
		},
		"a busy node is never drained": {
			has: [][]row.Change{put(cluster("cpu", 0, 1)), placed(run(1, 1), queue.InRunning, time.Hour, 0)},
		},
		"a drain is taken back when work arrives": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1), node(0, fleet.Draining, 0)), queued(run(1, 1))},
			want: []string{"keep cpu-0", "start r1.1"},
		},
		"a smaller maximum drains idle nodes at once": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1), node(0, fleet.Idle, 0), node(1, fleet.Idle, time.Second))},
			want: []string{"drain cpu-1"},
		},
		"a smaller maximum takes starting nodes next, and no busy ones": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1), node(3, fleet.Launching, 0)), placed(run(1, 2), queue.InRunning, 0, 0, 1)},
			want: []string{"remove cpu-3"},
		},
		"an empty report at the node's revision ends a drain": {
			has:   [][]row.Change{put(cluster("cpu", 0, 1), node(0, fleet.Draining, 0))},
			facts: pool.Facts{Seen: []pool.Event{{Kind: pool.Reported, Node: "cpu-0", Report: pool.Report{Revision: 1, Empty: true}}}},
			want:  []string{"remove cpu-0"},
		},
		"an older empty report ends nothing": {
			has:   [][]row.Change{put(cluster("cpu", 0, 1), node(0, fleet.Draining, 0))},
			facts: pool.Facts{Seen: []pool.Event{{Kind: pool.Reported, Node: "cpu-0", Report: pool.Report{Revision: 0, Empty: true}}}},
		},
		"a failed launch is not repeated before its time": {
			has: [][]row.Change{put(cluster("cpu", 1, 1), status(func(s *fleet.Status) { s.Failures, s.RetryAt = 1, start.Add(time.Second) }))},
		},
		"nothing is launched before the engine said what it has": {
			has:   [][]row.Change{put(cluster("cpu", 1, 1))},
			facts: pool.Facts{Blind: true},
		},
		"a dead node's run waits until the engine has removed it": {
			has:   [][]row.Change{put(cluster("cpu", 0, 2)), placed(run(1, 1), queue.InRunning, 0, 0)},
			facts: pool.Facts{Seen: []pool.Event{{Kind: pool.Dead, Node: "cpu-0", Why: "it died"}}},
			want:  []string{"remove cpu-0"},
		},
		"a removed node's run is queued again, and another node is launched": {
			has: [][]row.Change{
				put(cluster("cpu", 0, 1)), placed(run(1, 1), queue.InRunning, 0, 0),
				func() []row.Change { n := node(0, fleet.Removing, 0); n.Attempt = "r1.1"; return put(n) }(),
			},
			facts: pool.Facts{Seen: []pool.Event{{Kind: pool.Removed, Node: "cpu-0"}}},
			want:  []string{"forget cpu-0", "requeue r1.1", "launch cpu-1"},
		},
		"a silent node is suspected, and its run goes on": {
			has:   [][]row.Change{put(cluster("cpu", 0, 1)), placed(run(1, 1), queue.InRunning, 0, 0)},
			facts: pool.Facts{Seen: []pool.Event{{Kind: pool.Silent, Node: "cpu-0", Why: "it was not heard"}}},
			want:  []string{"suspect r1.1"},
		},
		"a silent node without work is replaced": {
			has:   [][]row.Change{put(cluster("cpu", 1, 2), node(0, fleet.Idle, 0))},
			facts: pool.Facts{Seen: []pool.Event{{Kind: pool.Silent, Node: "cpu-0", Why: "it was not heard"}}},
			want:  []string{"suspect cpu-0", "remove cpu-0", "launch cpu-1"},
		},
		"many silent nodes at once are not replaced": {
			has:   [][]row.Change{put(cluster("cpu", 1, 2), node(0, fleet.Unusable, 0))},
			facts: pool.Facts{Hold: "the network is down"},
		},
		"a silent node that holds a run is given up after 15 minutes": {
			has: [][]row.Change{put(cluster("cpu", 0, 2)), placed(run(1, 1), queue.InRunning, time.Hour, 0),
				func() []row.Change { n := node(0, fleet.Unusable, 16*time.Minute); n.Attempt = "r1.1"; return put(n) }()},
			want: []string{"remove cpu-0"},
		},
		"a cancelled run that waits ends at once": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1)), queued(cancel(run(1, 1)))},
			want: []string{"end r1"},
		},
		"a cancelled run ends however many wait before it": {
			has: func() [][]row.Change {
				all := [][]row.Change{put(cluster("cpu", 0, 1)), placed(run(0, 1), queue.InRunning, 0, 0)}
				for i := range 1500 {
					r := run(i+1, 1)
					r.Cancel = i == 1400
					all = append(all, queued(r))
				}
				return all
			}(),
			want: []string{"end r1401"},
		},
		"a cancelled run that runs is told to stop": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1)), placed(cancel(run(1, 1)), queue.InRunning, 0, 0)},
			want: []string{"stop r1.1"},
		},
		"a run over its time limit is told to stop": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1)), placed(limit(run(1, 1), time.Minute), queue.InRunning, time.Minute, 0)},
			want: []string{"stop r1.1"},
		},
		"a time limit does not count what came before the first process": {
			has: [][]row.Change{put(cluster("cpu", 0, 1)), placed(limit(run(1, 1), time.Minute), queue.InPreparing, time.Hour, 0)},
		},
		"a cluster that is deleted stops its runs and drains its nodes": {
			has: [][]row.Change{
				put(deleting(cluster("cpu", 0, 3)), node(1, fleet.Idle, 0), node(2, fleet.Launching, 0)),
				placed(run(1, 1), queue.InRunning, 0, 0), queued(run(2, 1)),
			},
			want: []string{"stop r1.1", "drain cpu-1", "remove cpu-2", "end r2"},
		},
		"a cluster that is deleted and empty is gone, and so is its operation": {
			has: [][]row.Change{put(deleting(cluster("cpu", 0, 3)),
				operation.Operation{ID: "op", Target: cpu, Generation: 2, Status: operation.InProgress})},
			want: []string{"delete " + cpu, "finish op"},
		},
		"an operation is over once its generation is taken in": {
			has: [][]row.Change{put(cluster("cpu", 0, 3),
				operation.Operation{ID: "op", Target: cpu, Generation: 1, Status: operation.InProgress})},
			want: []string{"finish op"},
		},
		"an operation on something else is somebody else's": {
			has: [][]row.Change{put(operation.Operation{ID: "op", Target: "/workspaces/w", Generation: 1, Status: operation.InProgress})},
		},
		"nodes of an engine that does not oversubscribe fit into it": {
			has:   [][]row.Change{put(cluster("cpu", 0, 4)), queued(run(1, 1)), queued(run(2, 1)), queued(run(3, 1))},
			facts: pool.Facts{Capacity: small},
			want:  []string{"launch cpu-0", "launch cpu-1"},
		},
		"nodes of an engine that oversubscribes need not fit": {
			has:   [][]row.Change{put(cluster("cpu", 3, 4))},
			facts: pool.Facts{Capacity: pool.Capacity{VCPUs: 1, MemoryGiB: 1, Oversubscribe: true}},
			want:  []string{"launch cpu-0", "launch cpu-1", "launch cpu-2"},
		},
		"a run of a cluster that is gone ends": {
			has:  [][]row.Change{queued(run(1, 1))},
			want: []string{"end r1"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := view(tc.has...)
			p := pool.Decide(v, tc.facts, start)
			if got := says(p); !slices.Equal(got, tc.want) {
				t.Errorf("Decide: %q, want %q\n%s", got, tc.want, strings.Join(v.Lines(), "\n"))
			}
		})
	}
}

func view(has ...[]row.Change) *pool.View {
	v := pool.New()
	for _, c := range has {
		v = v.Apply(c...)
	}
	return v
}

// One cause is chosen for the whole gang.
func TestOneCauseForAGang(t *testing.T) {
	t.Parallel()
	exit := func(c queue.Cause, code int) queue.Exit { return queue.Exit{Cause: c, Code: code, Ended: start} }
	tests := map[string]struct {
		stop     queue.Cause
		cancel   bool
		attempts int
		leaders  int
		exits    []queue.Exit
		want     queue.State
		code     string
		exit     int
	}{
		"all well":                               {exits: []queue.Exit{exit(queue.ByExit, 0), exit(queue.ByExit, 0)}, want: queue.Completed},
		"one bad exit fails the run":             {exits: []queue.Exit{exit(queue.ByExit, 0), exit(queue.ByExit, 3)}, want: queue.Failed, code: "UserError", exit: 3},
		"a lost node explains the others' exits": {exits: []queue.Exit{exit(queue.ByNodeLoss, 0), exit(queue.ByExit, 3)}, stop: queue.ByExit, want: queue.Queued},
		"a named process tells more than mpirun": {exits: []queue.Exit{exit(queue.ByExit, 1), {Cause: queue.ByExit, Code: 4, Process: "rank 2", Ended: start.Add(time.Second)}}, stop: queue.ByExit, want: queue.Failed, code: "UserError", exit: 4},
		"the first of two named ones counts":     {exits: []queue.Exit{{Cause: queue.ByExit, Code: 5, Process: "rank 0", Ended: start.Add(time.Second)}, {Cause: queue.ByExit, Code: 4, Process: "rank 2", Ended: start}}, stop: queue.ByExit, want: queue.Failed, code: "UserError", exit: 4},
		"one that serves may be killed":          {leaders: 1, exits: []queue.Exit{exit(queue.ByExit, 0), exit(queue.ByExit, 137)}, stop: queue.ByExit, want: queue.Completed},
		"one that serves may be lost at the end": {leaders: 1, exits: []queue.Exit{exit(queue.ByExit, 0), exit(queue.ByNodeLoss, 0)}, stop: queue.ByExit, want: queue.Completed},
		"one that serves must not fail":          {leaders: 1, exits: []queue.Exit{exit(queue.ByExit, 143), exit(queue.ByExit, 2)}, stop: queue.ByExit, want: queue.Failed, code: "UserError", exit: 143},
		"a good exit does not hide a lost node":  {exits: []queue.Exit{exit(queue.ByNodeLoss, 0), exit(queue.ByExit, 0)}, want: queue.Queued},
		"a lost node's gang may run again":       {exits: []queue.Exit{exit(queue.ByNodeLoss, 0), exit(queue.ByNodeLoss, 143)}, stop: queue.ByNodeLoss, want: queue.Queued},
		"what the stop killed did not fail":      {exits: []queue.Exit{exit(queue.ByNodeLoss, 0), exit(queue.ByExit, 143)}, stop: queue.ByNodeLoss, want: queue.Queued},
		"the third lost node is the last":        {exits: []queue.Exit{exit(queue.ByNodeLoss, 0), exit(queue.ByExit, 0)}, attempts: 3, want: queue.Failed, code: "NodeLost"},
		"an environment that cannot be made":     {exits: []queue.Exit{exit(queue.BySetup, 0), exit(queue.BySetup, 0)}, want: queue.Failed, code: "UserError"},
		"cancel wins over a bad exit":            {exits: []queue.Exit{exit(queue.ByExit, 3), exit(queue.ByCancel, 0)}, cancel: true, want: queue.Canceled, code: "Canceled"},
		"cancel wins over the time limit":        {exits: []queue.Exit{exit(queue.ByTimeout, 0), exit(queue.ByTimeout, 0)}, stop: queue.ByTimeout, cancel: true, want: queue.Canceled, code: "Canceled"},
		"the time limit wins over a killed exit": {exits: []queue.Exit{exit(queue.ByExit, 143), exit(queue.ByTimeout, 0)}, stop: queue.ByTimeout, want: queue.Canceled, code: "JobTimeout"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(1, 2)
			r.Cancel, r.Leaders = tc.cancel, tc.leaders
			v := view(put(cluster("cpu", 0, 2)), placed(r, queue.InRunning, 0, 0, 1))
			a, _ := v.Attempt("r1.1")
			a.Stop = tc.stop
			s, _ := v.RunStatus("r1")
			s.Attempts = max(1, tc.attempts)
			v = v.Apply(put(a, s)...)
			var seen []pool.Event
			for i, e := range tc.exits {
				seen = append(seen, pool.Event{Kind: pool.Reported, Node: fmt.Sprintf("cpu-%d", i), Report: pool.Report{
					Attempts: []pool.Progress{{Attempt: "r1.1", Fence: 7, Phase: queue.Ended, Exit: e}},
				}})
			}
			p := pool.Decide(v, pool.Facts{Seen: seen, Away: map[string]bool{"cpu-0": true, "cpu-1": true}}, start)
			got, ok := last[queue.Status](p)
			if !ok || got.State != tc.want || got.Failure.Code != tc.code || got.Failure.ExitCode != tc.exit {
				t.Errorf("status %+v, want %s, code %q, exit %d", got, tc.want, tc.code, tc.exit)
			}
			if tc.want.Final() != !got.Ended.IsZero() {
				t.Errorf("ended at %v in state %s", got.Ended, got.State)
			}
			if tc.want == queue.Failed && got.Failure.Message == "" {
				t.Error("no message for the user")
			}
		})
	}
}

// last returns the last row of a type that a plan writes.
func last[T row.Row](p pool.Plan) (T, bool) {
	var out T
	found := false
	for _, c := range p.Changes {
		if r, ok := c.Put.(T); ok {
			out, found = r, true
		}
	}
	return out, found
}

func TestWhyRunsWait(t *testing.T) {
	t.Parallel()
	gpu := cluster("cpu", 0, 4)
	gpu.Size = fleet.Size{Name: "STANDARD_NC6", VCPUs: 6, MemoryGiB: 56, GPUs: 1}
	tests := map[string]struct {
		has   [][]row.Change
		facts pool.Facts
		want  string
	}{
		"too many nodes for the cluster": {
			has:  [][]row.Change{put(cluster("cpu", 0, 2)), queued(run(1, 3))},
			want: `It needs 3 nodes, and cluster "cpu" may have 2 at most. Raise the cluster's maximum to 3 or more, or ask for fewer nodes.`,
		},
		"too large for the site": {
			has:   [][]row.Change{put(cluster("cpu", 0, 4)), queued(run(1, 3))},
			facts: pool.Facts{Capacity: pool.Capacity{VCPUs: 8}},
			want:  `It needs 3 nodes of STANDARD_DS3_V2 (12 vCPUs in all), and this site has 8 vCPUs, of which other clusters keep what their minimum asks for. Choose a smaller size, lower a minimum, or let the site oversubscribe.`,
		},
		"GPUs that are not there": {
			has:   [][]row.Change{put(gpu), queued(run(1, 1))},
			facts: pool.Facts{Capacity: pool.Capacity{GPURequired: true, Oversubscribe: true}},
			want:  `It needs 1 node of STANDARD_NC6 with 1 GPUs in all, and this site has 0. Choose another size, or fewer nodes.`,
		},
		"nodes are starting": {
			has:  [][]row.Change{put(cluster("cpu", 0, 4)), queued(run(1, 1))},
			want: `It waits for 1 node of cluster "cpu" to start.`,
		},
		"all nodes are busy": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1)), placed(run(1, 1), queue.InRunning, 0, 0), queued(run(2, 1))},
			want: `It needs 1 node at once, and cluster "cpu" may have 1 node at most, which other runs use. Raise its maximum to start sooner.`,
		},
		"others come first": {
			has:  [][]row.Change{put(cluster("cpu", 0, 1)), placed(run(1, 1), queue.InRunning, 0, 0), queued(run(2, 1)), queued(run(3, 1))},
			want: `Other runs come first, and cluster "cpu" may have 1 node at most. Raise its maximum to start sooner.`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pool.Decide(view(tc.has...), tc.facts, start)
			got, _ := last[queue.Status](p)
			if got.Why != tc.want {
				t.Errorf("why %q\nwant %q", got.Why, tc.want)
			}
		})
	}
}

func TestFailedLaunchesBackOff(t *testing.T) {
	t.Parallel()
	v := view(put(cluster("cpu", 1, 1)))
	now := start
	var waits []time.Duration
	for i := range 9 {
		p := pool.Decide(v, pool.Facts{}, now)
		v = v.Apply(p.Changes...)
		id := fmt.Sprintf("cpu-%d", i)
		if _, ok := v.Node(id); !ok {
			t.Fatalf("turn %d launched nothing: %v", i, p.Actions)
		}
		p = pool.Decide(v, pool.Facts{Seen: []pool.Event{{Kind: pool.LaunchFailed, Node: id, Why: "no room", Full: true}}}, now)
		v = v.Apply(p.Changes...)
		v = v.Apply(pool.Decide(v, pool.Facts{Seen: []pool.Event{{Kind: pool.Removed, Node: id}}}, now).Changes...)
		s, _ := v.ClusterStatus(cpu)
		waits = append(waits, s.RetryAt.Sub(now))
		if has := len(s.Errors) > 0; has != (i >= 2) {
			t.Errorf("after %d failures errors are %v", i+1, s.Errors)
		}
		now = s.RetryAt
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
}

// A fence is above what the caller knows and above those of the same plan,
// whatever the time is.
func TestFencesOnlyRise(t *testing.T) {
	t.Parallel()
	v := view(put(cluster("cpu", 0, 3), node(0, fleet.Idle, 0), node(1, fleet.Idle, 0), node(2, fleet.Idle, 0)), queued(run(1, 1)), queued(run(2, 1)))
	p := pool.Decide(v, pool.Facts{Fence: 1 << 62}, start)
	a := v.Apply(p.Changes...)
	one, _ := a.Attempt("r1.1")
	two, _ := a.Attempt("r2.1")
	if one.Fence <= 1<<62 || two.Fence <= one.Fence || p.Fence != two.Fence {
		t.Errorf("fences %d and %d, plan says %d", one.Fence, two.Fence, p.Fence)
	}
	again := pool.Decide(a.Apply(queued(run(3, 1))...), pool.Facts{Fence: p.Fence}, start.Add(-time.Hour))
	if f, _ := last[queue.Attempt](again); f.Fence <= two.Fence {
		t.Errorf("an hour before: fence %d, want above %d", f.Fence, two.Fence)
	}
}

// TestANodeIsNoOlderThanItsInstance: the clock may be read just before the wish.
func TestANodeIsNoOlderThanItsInstance(t *testing.T) {
	t.Parallel()
	c := cluster("ci", 1, 1)
	c.Instance, c.Switched = true, start.Add(time.Millisecond)
	v := pool.New().Apply(row.Put(c))
	first := pool.Decide(v, pool.Facts{}, start)
	if len(first.Actions) != 1 || first.Actions[0].Verb != pool.Launch {
		t.Fatalf("actions %v", first.Actions)
	}
	if again := pool.Decide(v.Apply(first.Changes...), pool.Facts{}, start.Add(time.Second)); len(again.Actions) != 0 {
		t.Errorf("the new node is taken for an old one: %v", again.Actions)
	}
}
