package pool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// Facts is what was observed and is not stored.
type Facts struct {
	// Seen is what happened since the last plan that was committed, in order.
	// Every one may be repeated without harm.
	Seen []Event
	// Away are nodes whose agent is not connected: they get no work, but they
	// are still there. Nil: none.
	Away map[string]bool
	// Hold says why silent nodes are not replaced now; empty: they are.
	Hold string
	// Capacity is what the engine has in all.
	Capacity Capacity
	// Blind: Capacity is not known yet, so nothing is launched.
	Blind bool
	// Fence is not below any that was ever given out ([queue.FenceBefore]).
	Fence int64
	// Dirty are the clusters to look at beside those of Seen; nil: all. [Dirt] knows
	// them. Those that compete for what the engine has are looked at in any case: all
	// where Capacity sets a limit, else those that the engine has turned away.
	Dirty []string
}

// Verb says what an [Action] does.
type Verb string

// What a plan may hold.
const (
	Launch  Verb = "launch"  // a node is asked of the engine
	Keep    Verb = "keep"    // a draining node stays
	Drain   Verb = "drain"   // a node takes nothing new and leaves when empty
	Join    Verb = "join"    // a new node is ready
	Suspect Verb = "suspect" // a node is silent
	Return  Verb = "return"  // a silent node is heard again
	Remove  Verb = "remove"  // the engine makes a node go
	Forget  Verb = "forget"  // a node is gone; its row is dropped
	Start   Verb = "start"   // a run gets nodes
	Stop    Verb = "stop"    // an attempt is told to end
	Requeue Verb = "requeue" // a run whose nodes were lost waits again
	End     Verb = "end"     // a run is over
	Delete  Verb = "delete"  // a cluster is gone
	Finish  Verb = "finish"  // an operation is over
)

// Action is one decision. What it writes is in the plan's Changes.
type Action struct {
	Verb    Verb
	Cluster string // lower-case ARM id; empty: none
	Node    string // id
	Run     string // id of the run, or of the operation for [Finish]
	Attempt string
	Why     string // one sentence without a full stop
}

func (a Action) String() string {
	return fmt.Sprintf("%s %s  # %s", a.Verb, cmp.Or(a.Attempt, a.Node, a.Run, a.Cluster), a.Why)
}

// Plan is what is to be recorded, whole or not at all, before anything is done
// about it, and when to ask again.
type Plan struct {
	Actions []Action
	Changes []row.Change
	Recheck time.Time // zero: only when something changes
	// Looked has every cluster that was looked at, with its share of Recheck.
	Looked map[string]time.Time
	Fence  int64 // the highest that was given out; 0: none was
}

// Grace is how long a process has between SIGTERM and SIGKILL when it is stopped.
const Grace = 5 * time.Second

// Times that no client sees and no configuration changes.
const (
	launchRetryMin = time.Second
	launchRetryMax = time.Minute
	// errorsAfter is how many failures in a row make a launch problem worth an
	// entry in the cluster's errors: SDK v1 gives up waiting at the first one.
	errorsAfter = 3
	// abandonAfter is how long a node that holds a run may be silent while the
	// engine says it lives: the lease that nodes cut off for good outlive.
	abandonAfter = 15 * time.Minute
	// setupSlack is added to the time limit of a run that wants to pass: limits
	// count from the first process, not from the moment of starting.
	setupSlack = 2 * time.Minute
	// explainAfter is how long a run that is not next waits before it is told why.
	explainAfter = time.Second
	// explainMost bounds the sentences written for one cluster's queue in a turn.
	explainMost = 1000
)

// turn is one call of Decide: the view, and what it changes so far.
type turn struct {
	v    *View
	f    Facts
	now  time.Time
	plan Plan

	sites  map[string]*site
	order  []*site // in order of id
	room   room
	head   *claim          // the first of all that lack room; nil: none does
	writes map[row.Key]int // index into plan.Changes
	runs   map[string]queue.Status
	tries  map[string]queue.Attempt
}

// site is one cluster during a turn.
type site struct {
	c      fleet.Cluster
	old    fleet.Status
	s      fleet.Status
	nodes  []fleet.Node // by number; Gone ones stay until the end of the turn
	byID   map[string]int
	ask    []ask  // queued runs that did not start, first served first
	lack   int    // nodes to launch
	short  bool   // it cannot have all the nodes that its runs ask for
	wanted int    // nodes that are right, between min and max
	block  string // why no more can be launched; empty: nothing is in the way
	queue  []waiter
	gone   bool // dropped in this turn
}

// ask is one queued run that waits for nodes.
type ask struct {
	run   queue.Run
	nodes int
}

// Decide compares what is with what is wanted. It changes neither v nor f, and
// gives the same plan for the same input.
func Decide(v *View, f Facts, now time.Time) Plan {
	t := &turn{
		v: v, f: f, now: now, sites: map[string]*site{}, writes: map[row.Key]int{},
		runs: map[string]queue.Status{}, tries: map[string]queue.Attempt{},
	}
	t.plan.Looked = map[string]time.Time{}
	t.room = newRoom(f.Capacity)
	t.pick()
	for _, e := range f.Seen {
		t.fold(e)
	}
	t.sortSites()
	if t.room.limited {
		t.room.takeAll(t.order)
	}
	for _, s := range t.order {
		t.settle(s)
		t.retire(s)
		if s.c.Instance { // the others count with what it keeps, so it goes first
			t.serve(s)
			t.sleep(s)
		}
	}
	for _, s := range t.order {
		if !s.c.Instance {
			t.serve(s)
		}
	}
	t.size()
	for _, s := range t.order {
		t.shrink(s)
		t.explain(s)
		t.report(s)
	}
	t.orphans()
	t.operations()
	return t.plan
}

// pick chooses the clusters to look at.
func (t *turn) pick() {
	for _, id := range t.f.Dirty {
		if t.site(id) == nil {
			t.plan.Looked[id] = time.Time{} // it is gone, and its runs are looked at
		}
	}
	if t.f.Dirty != nil && !t.room.limited {
		for id := range t.v.TurnedAway() {
			t.site(id)
		}
		return
	}
	for c := range t.v.Clusters() {
		t.site(c.ID)
	}
}

// site returns the working copy of a cluster, or nil where there is none.
func (t *turn) site(id string) *site {
	if s, ok := t.sites[id]; ok {
		return s
	}
	c, ok := t.v.Cluster(id)
	if !ok {
		return nil
	}
	s := &site{c: c, nodes: slices.Clone(t.v.NodesOf(id))}
	s.old, _ = t.v.ClusterStatus(id)
	s.s = s.old
	s.s.ID = id
	t.sites[id] = s
	t.plan.Looked[id] = time.Time{}
	return s
}

func (t *turn) sortSites() {
	for _, s := range t.sites {
		t.order = append(t.order, s)
	}
	slices.SortFunc(t.order, func(a, b *site) int { return cmp.Compare(a.c.ID, b.c.ID) })
}

// find returns the index of a node, or -1.
func (s *site) find(id string) int {
	if s.byID == nil {
		s.byID = make(map[string]int, len(s.nodes))
		for i := range s.nodes {
			s.byID[s.nodes[i].ID] = i
		}
	}
	if i, ok := s.byID[id]; ok {
		return i
	}
	return -1
}

// put records that r is to be written; the last of several wins.
func (t *turn) put(r row.Row) { t.write(r.Key(), row.Put(r)) }

func (t *turn) drop(k row.Key) { t.write(k, row.Drop(k)) }

func (t *turn) write(k row.Key, c row.Change) {
	if i, ok := t.writes[k]; ok {
		t.plan.Changes[i] = c
		return
	}
	t.writes[k] = len(t.plan.Changes)
	t.plan.Changes = append(t.plan.Changes, c)
}

func (t *turn) act(a Action) { t.plan.Actions = append(t.plan.Actions, a) }

// recheck asks to look at s again at a time that lies ahead.
func (t *turn) recheck(s *site, at time.Time) {
	t.plan.Recheck = sooner(t.plan.Recheck, at)
	t.plan.Looked[s.c.ID] = sooner(t.plan.Looked[s.c.ID], at)
}

// sooner returns the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// move takes node i of s to a state. A move that the table lacks is our bug.
func (t *turn) move(s *site, i int, to fleet.NodeState, why string) {
	n := &s.nodes[i]
	if !fleet.CanMove(n.State, to) {
		panic(fmt.Sprintf("pool: node %s may not go from %s to %s (%s)", n.ID, n.State, to, why))
	}
	n.State, n.Since, n.Why = to, t.now, why
	n.IdleSince = time.Time{}
	if to == fleet.Idle {
		n.IdleSince = t.now
	}
	t.save(s, i)
}

// save records node i of s as it now is. Gone nodes are dropped.
func (t *turn) save(s *site, i int) {
	n := s.nodes[i]
	if n.State == fleet.Gone {
		t.drop(n.Key())
		return
	}
	t.put(n)
}

// status returns what became of a run so far.
func (t *turn) status(run string) (queue.Status, bool) {
	if s, ok := t.runs[run]; ok {
		return s, true
	}
	return t.v.RunStatus(run)
}

// run takes a run to a state. A move that the table lacks is our bug.
func (t *turn) run(s queue.Status, to queue.State, why string) {
	if s.State != to {
		if !queue.CanMove(s.State, to) {
			panic(fmt.Sprintf("pool: run %s may not go from %s to %s (%s)", s.ID, s.State, to, why))
		}
		s.State, s.Since = to, t.now
	}
	s.Why = why
	if to.Final() {
		s.Ended = t.now
	}
	t.runs[s.ID] = s
	t.put(s)
}

// attempt returns an attempt as it now is.
func (t *turn) attempt(id string) (queue.Attempt, bool) {
	if a, ok := t.tries[id]; ok {
		return a, true
	}
	return t.v.Attempt(id)
}

func (t *turn) saveAttempt(a queue.Attempt) {
	t.tries[a.ID] = a
	t.put(a)
}

// operations ends those whose wish has been taken in, or whose target is gone. Those
// of an instance last until it is what was asked for.
func (t *turn) operations() {
	for o := range t.v.Operations() {
		c, ok := t.v.Cluster(o.Target)
		s := t.sites[o.Target]
		switch {
		case !ok && !isCompute(o.Target): // somebody else's
			continue
		case !ok, s != nil && s.gone:
			t.finish(o, operation.Succeeded, "the compute is gone")
		case c.Deleting && o.Generation >= c.Generation: // the delete itself
		case s == nil || s.s.Observed < o.Generation:
		case s.s.Provisioning == operation.Failed:
			o.Code, o.Message = s.s.Errors[0].Code, s.s.Errors[0].Message
			t.finish(o, operation.Failed, "the instance cannot start")
		case s.s.Provisioning == operation.Succeeded || !c.Instance:
			t.finish(o, operation.Succeeded, "the change is taken in")
		}
	}
}

func (t *turn) finish(o operation.Operation, as operation.State, why string) {
	o.Status, o.Ended = as, t.now
	t.put(o)
	t.act(Action{Verb: Finish, Cluster: o.Target, Run: o.ID, Why: why})
}
