package pool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// EventKind says what was seen of a node.
type EventKind string

// What may be seen of a node.
const (
	Heard        EventKind = "heard"         // its agent is connected
	Reported     EventKind = "reported"      // its agent said what it has
	Silent       EventKind = "silent"        // not heard for too long, or never
	Dead         EventKind = "dead"          // the engine proves it
	LaunchFailed EventKind = "launch failed" // the engine did not start it
	Removed      EventKind = "removed"       // the engine proves that nothing of it is left
)

// Event is one thing seen of one node.
type Event struct {
	Kind      EventKind
	Node      string
	Why       string // one sentence without a full stop
	Permanent bool   // with LaunchFailed: asking again cannot help
	Full      bool   // with LaunchFailed: there was no room
	Report    Report // with Reported
}

// Report is what an agent says, as far as deciding needs it.
type Report struct {
	Revision int64 // of what it was asked
	Empty    bool
	Attempts []Progress
	Warnings []string // what its agent said in its hello
	Address  string   // the same
	Engine   string   // the same
}

// Progress is how far an attempt has come on one node.
type Progress struct {
	Attempt string
	Fence   int64
	Phase   queue.Phase
	Detail  string
	Image   string
	Exit    queue.Exit // zero until finalizing
	Age     time.Duration
}

// fold takes one event into the turn. Events about what is no longer so, or
// about nodes that nobody knows, change nothing.
func (t *turn) fold(e Event) {
	n, ok := t.v.Node(e.Node)
	if !ok {
		return
	}
	s := t.site(n.Cluster)
	if s == nil {
		return
	}
	i := t.find(s, e.Node, -1)
	if i < 0 {
		return
	}
	switch e.Kind {
	case Heard:
		t.heard(s, i)
	case Reported:
		t.reported(s, i, e.Report)
	case Silent:
		t.silent(s, i, e.Why)
	case Dead:
		t.dead(s, i, e)
	case LaunchFailed:
		if s.nodes[i].State == fleet.Launching {
			t.dead(s, i, e)
		}
	case Removed:
		t.removed(s, i)
	default:
		panic("pool: unknown event " + string(e.Kind))
	}
}

func (t *turn) heard(s *site, i int) {
	n := s.nodes[i]
	switch n.State {
	case fleet.Launching:
		t.move(s, i, fleet.Idle, "")
		s.calm()
		t.act(Action{Verb: Join, Cluster: s.c.ID, Node: n.ID, Why: "its agent said hello"})
	case fleet.Unusable:
		to := fleet.Idle
		if n.Attempt != "" {
			to = fleet.Busy
		}
		t.move(s, i, to, "")
		t.act(Action{Verb: Return, Cluster: s.c.ID, Node: n.ID, Why: "its agent is heard again"})
	}
}

func (t *turn) silent(s *site, i int, why string) {
	n := s.nodes[i]
	switch n.State {
	case fleet.Idle, fleet.Busy, fleet.Draining:
	case fleet.Launching:
		s.failed(t.now, Event{Why: why})
	default:
		return
	}
	t.move(s, i, fleet.Unusable, why)
	t.act(Action{Verb: Suspect, Cluster: s.c.ID, Node: n.ID, Attempt: n.Attempt, Why: why})
}

// dead starts the removal of a node. What it ran ends only once the engine has
// removed it: an agent that died proves nothing about its shims.
func (t *turn) dead(s *site, i int, e Event) {
	switch s.nodes[i].State {
	case fleet.Removing, fleet.Gone:
		return
	case fleet.Launching:
		s.failed(t.now, e)
	}
	t.remove(s, i, e.Why)
}

func (t *turn) remove(s *site, i int, why string) {
	t.move(s, i, fleet.Removing, why)
	t.act(Action{Verb: Remove, Cluster: s.c.ID, Node: s.nodes[i].ID, Why: why})
}

// failed counts a launch that failed. Those of one back-off count as one, so
// that ten nodes that fail together do not wait as long as ten in a row.
func (s *site) failed(now time.Time, e Event) {
	if now.Before(s.s.RetryAt) {
		return
	}
	s.s.Full = e.Full
	s.s.Failures++
	wait := launchRetryMax
	if s.s.Failures < 7 { // 2^6 s is over the greatest
		wait = min(launchRetryMin<<(s.s.Failures-1), launchRetryMax)
	}
	s.s.RetryAt = now.Add(wait)
	if e.Permanent || s.s.Failures >= errorsAfter {
		s.s.Errors = []fleet.Problem{{Code: "NodeLaunchFailed", Message: fmt.Sprintf(
			"A node of cluster %q could not be started: %s. It is tried again every minute at most.", s.c.Name, e.Why)}}
	}
}

// calm forgets the launches that failed.
func (s *site) calm() { s.s.Failures, s.s.RetryAt, s.s.Full, s.s.Errors = 0, time.Time{}, false, nil }

// removed ends a node, and its share of what it ran.
func (t *turn) removed(s *site, i int) {
	n := s.nodes[i]
	if n.State != fleet.Removing {
		return
	}
	if a, ok := t.attempt(n.Attempt); ok {
		if m := memberOf(a, n.ID); m >= 0 && a.Members[m].Phase != queue.Ended {
			a.Members = slices.Clone(a.Members)
			a.Members[m].Phase = queue.Ended
			if a.Members[m].Exit.Cause == "" {
				a.Members[m].Exit = queue.Exit{Cause: queue.ByNodeLoss, Message: "Node " + n.ID + " was lost: " + n.Why + "."}
			}
			a.Phase = least(a)
			t.saveAttempt(a)
		}
	}
	t.move(s, i, fleet.Gone, n.Why)
	t.act(Action{Verb: Forget, Cluster: s.c.ID, Node: n.ID, Why: "the engine has removed it"})
}

func (t *turn) reported(s *site, i int, r Report) {
	if n := &s.nodes[i]; !slices.Equal(n.Warnings, r.Warnings) || n.Address != r.Address || n.Engine != r.Engine {
		n.Warnings, n.Address, n.Engine = r.Warnings, r.Address, r.Engine
		t.save(s, i)
	}
	t.heard(s, i)
	n := s.nodes[i]
	for _, p := range r.Attempts {
		t.progress(s, s.nodes[i], p)
	}
	// An older Empty is about an order that has been taken back since.
	if r.Empty && n.State == fleet.Draining && r.Revision == n.Revision {
		t.remove(s, i, cmp.Or(n.Why, "it is empty"))
	}
}

// progress takes what a node says of an attempt. Phases only go forward.
func (t *turn) progress(s *site, n fleet.Node, p Progress) {
	a, ok := t.attempt(p.Attempt)
	if !ok || a.Fence != p.Fence {
		return
	}
	m := memberOf(a, n.ID)
	if m < 0 {
		return
	}
	if p.Phase == queue.InPreparing && p.Detail != "" {
		t.detail(a.Run, p.Detail)
	}
	if rs, ok := t.status(a.Run); ok && p.Image != "" && p.Image != rs.Image && !rs.State.Final() {
		rs.Image = p.Image
		t.run(rs, rs.State, rs.Why)
	}
	if p.Phase.Rank() <= a.Members[m].Phase.Rank() {
		return
	}
	a.Members = slices.Clone(a.Members)
	a.Members[m].Phase = p.Phase
	if p.Phase.Rank() >= queue.InFinalizing.Rank() {
		a.Members[m].Exit = exitOf(p, n.ID)
	}
	if a.Started.IsZero() && (p.Age > 0 || p.Phase == queue.InRunning) {
		a.Started = t.now.Add(-p.Age)
		if a.Started.Before(a.Placed) {
			a.Started = a.Placed
		}
	}
	held := Holds(a)
	a.Phase = least(a)
	t.saveAttempt(a)
	switch {
	case held && !Holds(a):
		t.tell(s, a)
	case held && p.Phase == queue.Prepared:
		ready := 0
		for _, m := range a.Members {
			if m.Phase.Rank() >= queue.Prepared.Rank() {
				ready++
			}
		}
		t.detail(a.Run, fmt.Sprintf("%d of its %d nodes are prepared; all start at once", ready, len(a.Members)))
	}
}

// Holds reports whether members of a that are prepared wait for the others. An
// attempt is let go once for all, in the same commit as the last one's word.
func Holds(a queue.Attempt) bool {
	return len(a.Members) > 1 && a.Phase.Rank() < queue.Prepared.Rank()
}

// exitOf returns how a member ended. A node that says it ended but not how has
// lost the record.
func exitOf(p Progress, node string) queue.Exit {
	if p.Exit.Cause == "" && p.Phase == queue.Ended {
		return queue.Exit{Cause: queue.ByNodeLoss, Message: "Node " + node + " has no record of how the run ended."}
	}
	return p.Exit
}

func (t *turn) detail(run, why string) {
	if rs, ok := t.status(run); ok && rs.Why != why && (rs.State == queue.Starting || rs.State == queue.Preparing) {
		t.run(rs, rs.State, why)
	}
}

func memberOf(a queue.Attempt, node string) int {
	return slices.IndexFunc(a.Members, func(m queue.Member) bool { return m.Node == node })
}

// least is the phase of the member that is furthest behind. An attempt is not
// Ended by it alone: that is settle's to say, in the same turn.
func least(a queue.Attempt) queue.Phase {
	p := queue.InFinalizing
	for _, m := range a.Members {
		if m.Phase.Rank() < p.Rank() {
			p = m.Phase
		}
	}
	return p
}
