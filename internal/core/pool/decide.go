package pool

import (
	"cmp"
	"fmt"
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
	// Taken is what nodes take of Capacity that are in no row.
	Taken fleet.Size
	// Epoch is the installation's: 0, or since an older state was restored a number
	// that no other restore has. What is named in it is named as in no other.
	Epoch int64
	// Fence is not below any that was ever given out ([queue.FenceBefore]).
	Fence int64
	// Dirty are the clusters to look at beside those of Seen; nil: all. [Dirt] knows them.
	Dirty []string
	// Looks are the last looks at clusters. They stand for those that are not dirty
	// and compete for what the engine has: all where Capacity sets a limit, else those
	// that the engine has turned away. One without is looked at.
	Looks map[string]Look
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
	Recheck time.Time       // zero: only when something changes
	Looked  map[string]Look // of every cluster that was looked at
	Fence   int64           // the highest that was given out; 0: none was
}

// Look is what came of looking at a cluster; zero: it is gone.
type Look struct {
	Again time.Time // when to look again, its share of Recheck; zero: only when something changes
	left  *site     // as it was left; without its nodes
}

func (l Look) String() string {
	if l.left == nil {
		return "gone"
	}
	return fmt.Sprintf("again at %v, %+v", l.Again, l.left.share)
}

// Grace is how long a process has between SIGTERM and SIGKILL when it is stopped.
const Grace = 5 * time.Second

// GangGrace is the same for a process whose gang has ended without it.
const GangGrace = time.Second

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

	sites   map[string]*site
	order   []*site // in order of id
	room    room
	beside  room            // what all keep at all times has been taken from it
	counted bool            // beside is right
	head    *claim          // the first of all that lack room; nil: none does
	writes  map[row.Key]int // index into plan.Changes
	runs    map[string]*queue.Status
	tries   map[string]queue.Attempt
	ends    map[string][]*queue.Run // cancelled runs by cluster; nil: not yet asked for
}

// Decide compares what is with what is wanted. It changes neither v nor f, and
// gives the same plan for the same input.
func Decide(v *View, f Facts, now time.Time) Plan {
	t := &turn{
		v: v, f: f, now: now, sites: map[string]*site{}, writes: map[row.Key]int{},
		runs: map[string]*queue.Status{}, tries: map[string]queue.Attempt{},
	}
	t.plan.Looked = map[string]Look{}
	t.room = newRoom(f.Capacity)
	t.room.take(f.Taken, 1)
	t.pick()
	for _, e := range f.Seen {
		t.fold(e)
	}
	t.compete()
	if t.room.limited {
		t.room.takeAll(t.order)
	}
	for _, s := range t.order {
		if !s.still {
			t.settle(s)
			t.retire(s)
		}
		if s.c.Instance { // the others count with what it keeps, so it goes first
			t.tend(s)
		}
	}
	for _, s := range t.order {
		if !s.c.Instance {
			t.tend(s)
		}
	}
	t.size()
	for _, s := range t.order {
		if !s.still {
			t.shrink(s)
			t.explain(s)
			t.report(s)
			t.leave(s)
		}
	}
	t.orphans()
	t.operations()
	return t.plan
}

// pick chooses the clusters to look at.
func (t *turn) pick() {
	for _, id := range t.f.Dirty {
		if t.site(id) == nil {
			t.plan.Looked[id] = Look{} // it is gone, and its runs are looked at
		}
	}
	if t.f.Dirty == nil {
		for c := range t.v.ordered.All() {
			t.site(c.ID)
		}
	}
}

// tend serves the queue of s. One that stands as it was left has been served, unless
// the others leave it another share of the room.
func (t *turn) tend(s *site) {
	switch {
	case !s.still:
	case t.most(s) == s.most:
		return
	default:
		t.wake(s)
		return
	}
	t.serve(s)
	if s.c.Instance {
		t.sleep(s)
	}
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
func (s *site) recheck(at time.Time) {
	s.again = sooner(s.again, at)
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
	s.has.count(n, -1)
	defer s.has.count(n, 1)
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
	return value(t.statusOf(run))
}

// statusOf is [turn.status] without a copy, for reading.
func (t *turn) statusOf(run string) (*queue.Status, bool) {
	if s, ok := t.runs[run]; ok {
		return s, true
	}
	return t.v.runStatus.Get(run)
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
	t.runs[s.ID] = &s
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
		case s == nil || s.still || s.s.Observed < o.Generation:
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
