package pool_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// TestPromises tries the same 3,000 cases on every run.
func TestPromises(t *testing.T) {
	t.Parallel()
	var total tally
	for seed := range uint64(3000) {
		checkPromises(t, seed, &total)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for _, v := range []pool.Verb{pool.Launch, pool.Drain, pool.Keep, pool.Start, pool.Stop, pool.Requeue, pool.End, pool.Remove, pool.Suspect, pool.Return, pool.Forget, pool.Join, pool.Delete} {
		if total.verbs[v] < 10 {
			t.Errorf("%s happened %d times in all cases: they prove nothing about it", v, total.verbs[v])
		}
	}
	if total.passed < 10 {
		t.Errorf("only %d runs passed a head", total.passed)
	}
	if total.released < 10 {
		t.Errorf("only %d gangs were let go", total.released)
	}
	t.Logf("%v, %d passed a head, %d gangs let go", total.verbs, total.passed, total.released)
}

// FuzzDecide hunts for a broken promise; go test alone runs only its seeds.
func FuzzDecide(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { checkPromises(t, seed, &tally{}) })
}

type tally struct {
	verbs  map[pool.Verb]int
	passed int

	released int // gangs
}

// dealt is one case: what is, and what was seen.
type dealt struct {
	rnd   *rand.Rand
	v     *pool.View
	facts pool.Facts
	runs  int
}

// deal makes a case of everything that may be at once.
func deal(seed uint64) dealt {
	d := dealt{rnd: rand.New(rand.NewPCG(seed, 5)), v: pool.New()}
	if d.rnd.IntN(3) == 0 {
		d.facts.Capacity = pool.Capacity{VCPUs: 4 * d.rnd.IntN(12), MemoryGiB: float64(d.rnd.IntN(4) * 40)}
	}
	d.facts.Blind = d.rnd.IntN(20) == 0
	if d.rnd.IntN(10) == 0 {
		d.facts.Hold = "the network is down"
	}
	d.facts.Away = map[string]bool{}
	for i := range 1 + d.rnd.IntN(3) {
		d.cluster(fmt.Sprintf("c%d", i))
	}
	if seed%4 == 0 {
		d.tight("tight")
	}
	if seed%3 == 0 {
		d.instance("ci")
	}
	return d
}

// instance adds a compute instance, on or off, with a node from before it was
// last switched, or after.
func (d *dealt) instance(name string) {
	c := cluster(name, 1, 1)
	c.Instance, c.Off, c.Switched, c.Deleting = true, d.rnd.IntN(3) == 0, d.ago(time.Hour), d.rnd.IntN(12) == 0
	c.IdleAfter = time.Duration(d.rnd.IntN(3)) * 10 * time.Minute
	s := fleet.Status{ID: c.ID, Launched: 100}
	if d.rnd.IntN(4) == 0 {
		s.Slept = d.ago(time.Hour)
	}
	d.v = d.v.Apply(put(c, s)...)
	states := []fleet.NodeState{fleet.Launching, fleet.Idle, fleet.Idle, fleet.Draining, fleet.Unusable, fleet.Removing, fleet.Preempted}
	switch d.rnd.IntN(3) {
	case 0:
		n := d.node(c, 0, states[d.rnd.IntN(len(states))])
		d.v = d.v.Apply(row.Put(n))
		d.see(n)
	case 1:
		d.busy(c, 0)
	}
	for range d.rnd.IntN(3) {
		d.v = d.v.Apply(queued(d.run(c))...)
	}
}

// tight adds a cluster that is as large as it may be, with a gang that waits and
// small runs behind it.
func (d *dealt) tight(name string) {
	busy, idle := 1+d.rnd.IntN(4), 1+d.rnd.IntN(2)
	c := cluster(name, 0, busy+idle)
	d.v = d.v.Apply(put(c, fleet.Status{ID: c.ID, Launched: 100})...)
	var number int64
	for range idle {
		n := d.node(c, number, fleet.Idle)
		d.v = d.v.Apply(row.Put(n))
		number++
	}
	for range busy {
		d.runs++
		r := queue.Run{ID: fmt.Sprintf("r%d", d.runs), Cluster: c.ID, Nodes: 1, Submitted: d.ago(time.Minute), TimeLimit: time.Duration(d.rnd.IntN(90)) * time.Minute}
		n := d.node(c, number, fleet.Busy)
		number++
		n.Attempt = r.ID + ".1"
		a := queue.Attempt{ID: n.Attempt, Run: r.ID, N: 1, Cluster: c.ID, Fence: int64(100 + d.runs), Phase: queue.InRunning,
			Members: []queue.Member{{Node: n.ID, Phase: queue.InRunning}}, Started: d.ago(10 * time.Minute)}
		d.v = d.v.Apply(put(n, a, queue.Status{ID: r.ID, State: queue.Running, Attempts: 1, Started: a.Started}, r)...)
	}
	gang := d.run(c)
	gang.Nodes, gang.Priority, gang.Cancel = idle+1+d.rnd.IntN(busy), 2, false
	d.v = d.v.Apply(queued(gang)...)
	for range d.rnd.IntN(5) {
		d.v = d.v.Apply(queued(d.run(c))...)
	}
}

func (d *dealt) ago(most time.Duration) time.Time {
	return start.Add(-time.Duration(d.rnd.Int64N(int64(most))))
}

func (d *dealt) cluster(name string) {
	c := cluster(name, 0, d.rnd.IntN(9))
	c.Min = d.rnd.IntN(c.Max + 1)
	if d.rnd.IntN(3) > 0 {
		c.Min = 0
	}
	c.IdleAfter = time.Duration(d.rnd.IntN(180)) * time.Second
	c.Deleting = d.rnd.IntN(12) == 0
	s := fleet.Status{ID: c.ID, Launched: 100, Provisioning: operation.Succeeded, Allocation: fleet.Steady}
	if d.rnd.IntN(8) == 0 {
		s.Failures, s.RetryAt, s.Full = 1+d.rnd.IntN(9), start.Add(time.Duration(d.rnd.IntN(9)-4)*time.Second), d.rnd.IntN(2) == 0
	}
	d.v = d.v.Apply(put(c, s)...)
	var number int64
	states := []fleet.NodeState{fleet.Launching, fleet.Idle, fleet.Idle, fleet.Idle, fleet.Draining, fleet.Unusable, fleet.Removing, fleet.Preempted}
	for range d.rnd.IntN(c.Max + 2) { // one too many: max was lowered
		if d.rnd.IntN(2) == 0 {
			n := d.node(c, number, states[d.rnd.IntN(len(states))])
			d.v = d.v.Apply(row.Put(n))
			number++
			d.see(n)
			continue
		}
		number = d.busy(c, number)
		if number > int64(c.Max) {
			break
		}
	}
	if d.rnd.IntN(3) == 0 && number > 0 { // as large as it may be: the head can only wait for others
		c.Max, c.Min = int(number), min(c.Min, int(number))
		d.v = d.v.Apply(row.Put(c))
	}
	for range d.rnd.IntN(7) {
		r := d.run(c)
		d.v = d.v.Apply(queued(r)...)
	}
}

func (d *dealt) node(c fleet.Cluster, number int64, state fleet.NodeState) fleet.Node {
	n := fleet.Node{
		ID: fmt.Sprintf("%s-%d", c.Prefix, number), Cluster: c.ID, Number: number, State: state,
		Since: d.ago(20 * time.Minute), Revision: 1 + d.rnd.Int64N(5), Created: start,
	}
	if c.Instance {
		n.Created = d.ago(time.Hour) // before it was switched, or after
	}
	if state == fleet.Idle {
		n.IdleSince = n.Since
	}
	if d.rnd.IntN(6) == 0 {
		d.facts.Away[n.ID] = true
	}
	return n
}

func (d *dealt) run(c fleet.Cluster) queue.Run {
	d.runs++
	r := queue.Run{
		ID: fmt.Sprintf("r%d", d.runs), Cluster: c.ID, Nodes: d.rnd.IntN(4), Priority: d.rnd.IntN(2),
		Submitted: d.ago(10 * time.Second), Cancel: d.rnd.IntN(10) == 0,
	}
	if r.Nodes > 1 && d.rnd.IntN(2) == 0 {
		r.Leaders = 1 + d.rnd.IntN(r.Nodes-1)
	}
	if d.rnd.IntN(2) == 0 {
		r.TimeLimit = time.Duration(1+d.rnd.IntN(30)) * time.Minute
	}
	return r
}

// busy adds a run with its nodes and returns the next number.
func (d *dealt) busy(c fleet.Cluster, number int64) int64 {
	r := d.run(c)
	phases := []queue.Phase{queue.Placed, queue.InPreparing, queue.Prepared, queue.InRunning, queue.InRunning, queue.InFinalizing}
	if r.Nodes > 1 && d.rnd.IntN(3) == 0 { // a gang that is being prepared
		phases = []queue.Phase{queue.InPreparing, queue.Prepared, queue.Prepared}
	}
	a := queue.Attempt{ID: r.ID + ".1", Run: r.ID, N: 1, Cluster: c.ID, Fence: int64(100 + d.runs), Placed: d.ago(20 * time.Minute), Phase: queue.InFinalizing}
	for range max(1, r.Nodes) {
		n := d.node(c, number, []fleet.NodeState{fleet.Busy, fleet.Busy, fleet.Busy, fleet.Unusable, fleet.Removing}[d.rnd.IntN(5)])
		number++
		n.Attempt = a.ID
		m := queue.Member{Node: n.ID, Phase: phases[d.rnd.IntN(len(phases))]}
		if m.Phase == queue.InFinalizing {
			m.Exit = queue.Exit{Cause: queue.ByExit, Code: d.rnd.IntN(2), Ended: start}
		}
		if m.Phase.Rank() < a.Phase.Rank() {
			a.Phase = m.Phase
		}
		if m.Phase.Rank() >= queue.InRunning.Rank() {
			a.Started = a.Placed
		}
		a.Members = append(a.Members, m)
		d.v = d.v.Apply(row.Put(n))
		d.see(n)
		if m.Phase.Rank() < queue.Prepared.Rank() && d.rnd.IntN(2) == 0 {
			p := pool.Progress{Attempt: a.ID, Fence: a.Fence, Phase: queue.Prepared}
			d.facts.Seen = append(d.facts.Seen, pool.Event{Kind: pool.Reported, Node: n.ID, Report: pool.Report{Attempts: []pool.Progress{p}}})
		}
		if d.rnd.IntN(4) == 0 {
			p := pool.Progress{Attempt: a.ID, Fence: a.Fence, Phase: queue.Ended, Exit: queue.Exit{Cause: queue.ByExit, Code: d.rnd.IntN(2)}}
			d.facts.Seen = append(d.facts.Seen, pool.Event{Kind: pool.Reported, Node: n.ID, Report: pool.Report{Attempts: []pool.Progress{p}}})
		}
	}
	state := map[queue.Phase]queue.State{
		queue.Placed: queue.Starting, queue.InPreparing: queue.Preparing, queue.Prepared: queue.Preparing, queue.InRunning: queue.Running, queue.InFinalizing: queue.Finalizing,
	}[a.Phase]
	d.v = d.v.Apply(put(a, queue.Status{ID: r.ID, State: state, Attempts: 1, Started: a.Started}, r)...)
	return number
}

func (d *dealt) see(n fleet.Node) {
	kinds := []pool.EventKind{pool.Heard, pool.Silent, pool.Dead, pool.LaunchFailed, pool.Removed, pool.Reported}
	if d.rnd.IntN(4) == 0 {
		d.facts.Seen = append(d.facts.Seen, pool.Event{
			Kind: kinds[d.rnd.IntN(len(kinds))], Node: n.ID, Why: "it was seen", Report: pool.Report{Revision: d.rnd.Int64N(6), Empty: d.rnd.IntN(2) == 0},
		})
	}
}

// checkPromises holds what must never break, whatever comes in.
func checkPromises(t *testing.T, seed uint64, total *tally) {
	t.Helper()
	d := deal(seed)
	before := d.v.Digest()
	seen := slices.Clone(d.facts.Seen)
	p, again := pool.Decide(d.v, d.facts, start), pool.Decide(d.v, d.facts, start)
	if fmt.Sprint(p) != fmt.Sprint(again) {
		t.Errorf("not the same plan twice:\n%v\n%v", p, again)
	}
	if d.v.Digest() != before || fmt.Sprint(seen) != fmt.Sprint(d.facts.Seen) {
		t.Error("Decide changed its input")
	}
	if total.verbs == nil {
		total.verbs = map[pool.Verb]int{}
	}
	for _, a := range p.Actions {
		total.verbs[a.Verb]++
		if a.Why == "" || a.Why[len(a.Why)-1] == '.' {
			t.Errorf("%s: why is %q, want a sentence without a full stop", a, a.Why)
		}
	}
	next := d.v.Apply(p.Changes...)
	for c := range d.v.Clusters() {
		d.checkSize(t, c, p, next)
		d.checkOrder(t, c, p, next, total)
	}
	d.checkNodes(t, p, next)
	d.checkGangs(t, next, total)
	d.checkRoom(t, p, next)
	// Looking again at once wants nothing but what new events bring.
	quiet := d.facts
	quiet.Seen = nil
	full := false // a cluster that was turned away and wants nothing more lets others go on: in the next turn
	for c := range d.v.Clusters() {
		s, _ := d.v.ClusterStatus(c.ID)
		full = full || s.Full
	}
	for _, a := range pool.Decide(next, quiet, start).Actions {
		if full {
			break
		}
		if a.Verb == pool.Launch || a.Verb == pool.Drain || a.Verb == pool.Keep {
			t.Errorf("the next turn wants %s though nothing happened", a)
		}
	}
}

// checkSize: min to max, and never both ways at once.
func (d *dealt) checkSize(t *testing.T, c fleet.Cluster, p pool.Plan, next *pool.View) {
	t.Helper()
	n, was := next.NodeCount(c.ID), d.v.NodeCount(c.ID)
	if n > max(c.Max, was) {
		t.Errorf("%s has %d nodes of %d", c.Name, n, c.Max)
	}
	count := map[pool.Verb]int{}
	for _, a := range p.Actions {
		if a.Cluster == c.ID {
			count[a.Verb]++
		}
	}
	if count[pool.Launch] > 0 && count[pool.Drain] > 0 {
		t.Errorf("%s launches and drains at once", c.Name)
	}
	if is, _ := next.ClusterStatus(c.ID); count[pool.Launch] > 0 && fleet.Off(c, is) {
		t.Errorf("%s launches while it is off", c.Name)
	}
	if count[pool.Launch] > 0 && n > c.Max {
		t.Errorf("%s launches past its maximum", c.Name)
	}
	s, _ := next.ClusterStatus(c.ID)
	staying, moving := 0, false
	for _, x := range next.NodesOf(c.ID) {
		switch x.State {
		case fleet.Idle, fleet.Busy, fleet.Unusable:
			staying++
			moving = moving || fleet.Leaves(c, s, x)
			if x.State == fleet.Idle && fleet.Leaves(c, s, x) {
				t.Errorf("%s is idle, and its cluster is off", x.ID)
			}
		case fleet.Launching:
			staying, moving = staying+1, true
		default:
			moving = true
		}
	}
	free := !d.facts.Blind && s.RetryAt.Compare(start) <= 0 && d.facts.Capacity == (pool.Capacity{})
	if free && !fleet.Off(c, s) && staying < min(c.Min, c.Max-(n-staying)) {
		t.Errorf("%s has %d nodes, at least %d are wanted", c.Name, staying, c.Min)
	}
	if _, there := next.Cluster(c.ID); there {
		if resizing := moving || n != s.Target; resizing != (s.Allocation == fleet.Resizing) {
			t.Errorf("%s is %s with %d nodes of %d, moving %v", c.Name, s.Allocation, n, s.Target, moving)
		}
		if (s.Why == "") != (s.Allocation == fleet.Steady) || s.Observed != c.Generation {
			t.Errorf("%s: status %+v", c.Name, s)
		}
	}
}

// checkNodes: nothing that works is taken away, and gangs are whole.
func (d *dealt) checkNodes(t *testing.T, p pool.Plan, next *pool.View) {
	t.Helper()
	for n := range d.v.Nodes() {
		x, ok := next.Node(n.ID)
		if n.State == fleet.Busy && ok && x.State == fleet.Draining && x.Attempt != "" {
			t.Errorf("%s is drained while it is busy", n.ID)
		}
	}
	holds := map[string]int{}
	for n := range next.Nodes() {
		if n.Attempt != "" {
			holds[n.Attempt]++
		}
		if n.State == fleet.Busy && n.Attempt == "" || n.State == fleet.Idle && n.Attempt != "" || n.State == fleet.Gone {
			t.Errorf("%s is %s with attempt %q", n.ID, n.State, n.Attempt)
		}
		if was, ok := d.v.Node(n.ID); ok && n.Revision == was.Revision && (n.Attempt != was.Attempt || (n.State == fleet.Draining) != (was.State == fleet.Draining) && n.State != fleet.Removing && n.State != fleet.Unusable && was.State != fleet.Unusable) {
			t.Errorf("%s changed what its agent is asked for without a new revision: %+v, %+v", n.ID, was, n)
		}
	}
	for _, a := range p.Actions {
		if a.Verb != pool.Start {
			continue
		}
		r, _ := next.Run(a.Run)
		if holds[a.Attempt] != max(1, r.Nodes) {
			t.Errorf("%s holds %d of %d nodes", a.Attempt, holds[a.Attempt], r.Nodes)
		}
		try, _ := next.Attempt(a.Attempt)
		for _, m := range try.Members {
			if d.facts.Away[m.Node] {
				t.Errorf("%s starts on %s, whose agent is away", a.Attempt, m.Node)
			}
		}
	}
}

// checkGangs: whoever is let go is told so.
func (d *dealt) checkGangs(t *testing.T, next *pool.View, total *tally) {
	t.Helper()
	for a := range d.v.Attempts() {
		is, live := next.Attempt(a.ID)
		if !live || !pool.Holds(a) || pool.Holds(is) {
			continue
		}
		total.released++
		for _, m := range is.Members {
			was, _ := d.v.Node(m.Node)
			if n, ok := next.Node(m.Node); ok && m.Phase != queue.Ended && n.Revision <= was.Revision {
				t.Errorf("%s holds %s, which may start, at the revision it had before", m.Node, a.ID)
			}
		}
	}
}

// checkOrder: nobody overtakes the head unless it ends before the head's known
// start, and what can start does.
func (d *dealt) checkOrder(t *testing.T, c fleet.Cluster, p pool.Plan, next *pool.View, total *tally) {
	t.Helper()
	if c.Deleting {
		return
	}
	started := map[string]bool{}
	for _, a := range p.Actions {
		if a.Verb == pool.Start {
			started[a.Run] = true
		}
	}
	var head *queue.Run
	for r := range next.RunsOf(c.ID) {
		s, _ := next.RunStatus(r.ID)
		switch {
		case started[r.ID] && head != nil:
			total.passed++
			if known, ok := d.knownStart(c, *head, next, started); !ok || r.TimeLimit == 0 || start.Add(r.TimeLimit).After(known) {
				t.Errorf("%s (limit %v) passes %s, which starts at %v (known: %v)", r.ID, r.TimeLimit, head.ID, known, ok)
			}
		case s.State == queue.Queued && head == nil && r.Nodes <= c.Max && d.facts.Capacity == (pool.Capacity{}):
			head = &r
			free := 0
			for _, n := range next.NodesOf(c.ID) {
				if n.State == fleet.Idle && !d.facts.Away[n.ID] {
					free++
				}
			}
			if max(1, r.Nodes) <= free {
				t.Errorf("%s waits for %d nodes while %d are free", r.ID, r.Nodes, free)
			}
		}
	}
}

// knownStart works out, in its own way, when the head starts at the latest.
func (d *dealt) knownStart(c fleet.Cluster, head queue.Run, next *pool.View, started map[string]bool) (time.Time, bool) {
	free := 0
	var ends []time.Time
	for _, n := range next.NodesOf(c.ID) {
		a, busy := next.Attempt(n.Attempt)
		r, _ := next.Run(a.Run)
		switch {
		case n.State == fleet.Launching:
			return time.Time{}, false
		case n.State == fleet.Idle, busy && started[a.Run] && queue.Before(head, r): // those that pass are to be back in time
			free++
		case n.State == fleet.Busy && r.TimeLimit > 0 && !a.Started.IsZero():
			ends = append(ends, a.Started.Add(r.TimeLimit))
		}
	}
	missing := head.Nodes - free
	slices.SortFunc(ends, time.Time.Compare)
	if missing < 1 || missing > len(ends) {
		return time.Time{}, false
	}
	return ends[missing-1], true
}

// checkRoom: what is launched fits, beside all that is not gone.
func (d *dealt) checkRoom(t *testing.T, p pool.Plan, next *pool.View) {
	t.Helper()
	launched := slices.ContainsFunc(p.Actions, func(a pool.Action) bool { return a.Verb == pool.Launch })
	if !launched {
		return
	}
	if d.facts.Blind {
		t.Error("something is launched before the engine said what it has")
	}
	cpus, memory := 0, 0.0
	for n := range next.Nodes() {
		c, _ := next.Cluster(n.Cluster)
		cpus += c.Size.VCPUs
		memory += c.Size.MemoryGiB
	}
	has := d.facts.Capacity
	if has.VCPUs > 0 && cpus > has.VCPUs || has.MemoryGiB > 0 && memory > has.MemoryGiB {
		t.Errorf("nodes take %d vCPUs and %g GiB of %+v", cpus, memory, has)
	}
}

// A turn in which one run is new, where much waits: in one cluster of which no node
// is free, and in a thousand for which there is no room.
func BenchmarkDecideOneNewRun(b *testing.B) {
	short := pool.Facts{Capacity: pool.Capacity{VCPUs: 400, MemoryGiB: 1600}}
	for name, c := range map[string]struct {
		facts           pool.Facts
		clusters, nodes int // that may be, of each
		busy, runs      int // of each
	}{
		"one cluster, 10 nodes, 100,000 runs":                 {pool.Facts{}, 1, 10, 10, 100_000},
		"one cluster, 10,000 nodes, 100,000 runs":             {pool.Facts{}, 1, 10_000, 10_000, 100_000},
		"100 clusters of 100 nodes, 100,000 runs":             {pool.Facts{}, 100, 100, 100, 1000},
		"1,000 clusters of which 100 have room, 100,000 runs": {short, 1000, 100, 0, 100},
	} {
		b.Run(name, func(b *testing.B) {
			v := pool.New()
			for i := range c.clusters {
				v = v.Apply(rows(crowd(c.nodes, c.busy, c.runs), fmt.Sprint("cpu", i))...)
			}
			var d pool.Dirt
			now, f := start.Add(time.Hour), c.facts
			turn := func() pool.Plan {
				now = now.Add(time.Microsecond)
				f.Dirty, f.Looks = d.Look(v, now), d.Looks()
				p := pool.Decide(v, f, now)
				d.Decided(v, p)
				v = v.Apply(p.Changes...)
				f.Fence = max(f.Fence, p.Fence)
				return p
			}
			for len(turn().Changes) > 0 {
			}
			for i := 0; b.Loop(); i++ {
				r := queue.Run{ID: fmt.Sprint("new", i), Cluster: cluster(fmt.Sprint("cpu", i%c.clusters), 0, 1).ID, Nodes: 1, Submitted: now}
				v = v.Apply(queued(r)...)
				if p := turn(); len(p.Looked) != 1 {
					b.Fatalf("looked at %d clusters", len(p.Looked))
				}
			}
		})
	}
}

// The same turn over ten times as much may take about ten times as long.
func BenchmarkDecide(b *testing.B) {
	for _, size := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("%d nodes and %d runs in one cluster", size, size*10), func(b *testing.B) {
			v := crowd(size, size, size*10)
			for b.Loop() {
				pool.Decide(v, pool.Facts{}, start)
			}
		})
	}
}

// rows are those of a view, as of another cluster: to be put into another view.
func rows(v *pool.View, name string) []row.Change {
	to := cluster(name, 0, 0)
	var out []row.Change
	for c := range v.Clusters() {
		s, _ := v.ClusterStatus(c.ID)
		c.ID, c.Name, c.Prefix, s.ID = to.ID, to.Name, to.Prefix, to.ID
		out = append(out, put(c, s)...)
	}
	for n := range v.Nodes() {
		n.ID, n.Cluster, n.Attempt = name+n.ID, to.ID, name+n.Attempt
		out = append(out, row.Put(n))
	}
	for r := range v.RunsOf(cpu) {
		s, _ := v.RunStatus(r.ID)
		if a, ok := v.AttemptOf(r.ID); ok {
			a.ID, a.Run, a.Cluster, a.Members = name+a.ID, name+a.Run, to.ID, slices.Clone(a.Members)
			for i := range a.Members {
				a.Members[i].Node = name + a.Members[i].Node
			}
			out = append(out, row.Put(a))
		}
		r.ID, r.Cluster, s.ID = name+r.ID, to.ID, name+s.ID
		out = append(out, put(s, r)...)
	}
	return out
}

// crowd is one cluster with so many runs, of which as many run as are busy.
func crowd(most, busy, runs int) *pool.View {
	changes := put(cluster("cpu", 0, most))
	for i := range runs {
		r := run(i, 1)
		if i < busy {
			changes = append(changes, placed(r, queue.InRunning, time.Minute, int64(i))...)
		} else {
			changes = append(changes, queued(r)...)
		}
	}
	v := pool.New().Apply(changes...)
	return v.Apply(pool.Decide(v, pool.Facts{}, start).Changes...) // told once
}
