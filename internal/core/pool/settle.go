package pool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// settle looks at every attempt on the nodes of a cluster: which are to stop,
// and which are over.
func (t *turn) settle(s *site) {
	var seen map[string]time.Time // when gangs end, which are met once for each node
	for i := range s.nodes {
		id := s.nodes[i].Attempt
		if id == "" {
			continue
		}
		at, ok := seen[id]
		if !ok {
			a, ok := t.attempt(id)
			if !ok || a.Phase == queue.Ended {
				t.free(s, i)
				continue
			}
			at = t.settleOne(s, a, i)
			if len(a.Members) > 1 {
				if seen == nil {
					seen = map[string]time.Time{}
				}
				seen[id] = at
			}
		}
		if !at.IsZero() {
			s.ends = append(s.ends, end{i, id, at})
		}
	}
}

// settleOne looks at an attempt that node i of s has, and says when it is over at
// the latest; zero: nobody knows.
func (t *turn) settleOne(s *site, a queue.Attempt, i int) (at time.Time) {
	r, ok := t.v.runs.Get(a.Run)
	rs, live := t.statusOf(a.Run)
	if !ok || !live { // its run is gone: nothing waits for the end
		r, rs = &queue.Run{ID: a.Run, Cancel: true}, &queue.Status{ID: a.Run, State: queue.Canceled}
	}
	if r.TimeLimit > 0 && !a.Started.IsZero() {
		at = a.Started.Add(r.TimeLimit)
	}
	if r.Cancel || s.off() || slices.ContainsFunc(a.Members, func(m queue.Member) bool { return s.leaves(t.find(s, m.Node, i)) }) {
		ends := *r
		ends.CancelWhy, ends.Cancel = cancelWhy(r, &s.c), true
		r = &ends
	}
	if !slices.ContainsFunc(a.Members, func(m queue.Member) bool { return m.Phase != queue.Ended }) {
		t.end(s, a, r, *rs)
		return at
	}
	if cause, why := t.stopCause(s, a, r); stronger(cause, a.Stop) {
		if a.StopAt.IsZero() {
			a.StopAt = t.now
		}
		a.Stop = cause
		t.saveAttempt(a)
		t.tell(s, a)
		t.act(Action{Verb: Stop, Cluster: s.c.ID, Run: a.Run, Attempt: a.ID, Why: why})
	}
	t.follow(a, rs)
	return at
}

// shown is the state of a run whose attempt is in a phase.
func shown(p queue.Phase) queue.State {
	switch p {
	case queue.Placed:
		return queue.Starting
	case queue.InPreparing, queue.Prepared:
		return queue.Preparing
	case queue.InRunning:
		return queue.Running
	}
	return queue.Finalizing
}

// follow makes the run's status say what its attempt does.
func (t *turn) follow(a queue.Attempt, was *queue.Status) {
	to := shown(a.Phase)
	started := was.Started.IsZero() && !a.Started.IsZero()
	if to == was.State && !started || was.State.Final() {
		return
	}
	rs := *was
	why := rs.Why
	if to != queue.Starting && to != queue.Preparing {
		why = ""
	}
	if started {
		rs.Started = a.Started
	}
	t.run(rs, to, why)
}

// stopCause says why an attempt is to stop now; empty: it is not.
func (t *turn) stopCause(s *site, a queue.Attempt, r *queue.Run) (cause queue.Cause, why string) {
	if r.Cancel {
		return queue.ByCancel, "cancelled: " + strings.TrimSuffix(r.CancelWhy, ".")
	}
	running := a.Phase.Rank() < queue.InFinalizing.Rank()
	if running && r.TimeLimit > 0 && !a.Started.IsZero() {
		end := a.Started.Add(r.TimeLimit)
		if !t.now.Before(end) {
			return queue.ByTimeout, fmt.Sprintf("it ran longer than its limit of %v", r.TimeLimit)
		}
		s.recheck(end)
	}
	for _, m := range a.Members {
		c := m.Exit.Cause
		if c == "" || c == queue.ByExit && m.Exit.Code == 0 {
			continue
		}
		if stronger(c, cause) {
			cause, why = c, fmt.Sprintf("its member on %s ended by %s, and a gang ends as a whole", m.Node, c)
		}
	}
	if cause == "" && ledWell(a, r) {
		return queue.ByExit, "its first processes ended well, and the others serve them"
	}
	return cause, why
}

// ledWell reports whether the members that lead have all ended well.
func ledWell(a queue.Attempt, r *queue.Run) bool {
	if r.Leaders <= 0 || r.Leaders >= len(a.Members) {
		return false
	}
	return !slices.ContainsFunc(a.Members[:r.Leaders], func(m queue.Member) bool {
		return m.Exit.Cause != queue.ByExit || m.Exit.Code != 0
	})
}

// tell raises the revision of every node that still has a member of a.
func (t *turn) tell(s *site, a queue.Attempt) {
	for _, m := range a.Members {
		if i := t.find(s, m.Node, 0); i >= 0 && m.Phase != queue.Ended && s.nodes[i].State != fleet.Gone {
			s.nodes[i].Revision++
			t.save(s, i)
		}
	}
}

// free takes the attempt off a node.
func (t *turn) free(s *site, i int) {
	n := &s.nodes[i]
	s.has.count(n, -1)
	n.Attempt = ""
	s.has.count(n, 1)
	n.Revision++
	if n.State == fleet.Busy {
		t.move(s, i, fleet.Idle, "")
		return
	}
	t.save(s, i)
}

// end closes an attempt whose members have all ended, and its run with it,
// unless it is to run again.
func (t *turn) end(s *site, a queue.Attempt, r *queue.Run, rs queue.Status) {
	cause, by := causeOf(a, r)
	a.Phase = queue.Ended
	t.saveAttempt(a)
	for _, m := range a.Members {
		if i := t.find(s, m.Node, 0); i >= 0 && s.nodes[i].Attempt == a.ID {
			t.free(s, i)
		}
	}
	if rs.State.Final() {
		return
	}
	if rs.Started.IsZero() {
		rs.Started = a.Started
	}
	most := cmp.Or(r.MaxAttempts, 3)
	lost := cause == queue.ByNodeLoss || cause == queue.ByPreemption
	if lost && a.Doubt == "" && rs.Attempts < most {
		why := fmt.Sprintf("%s It waits to run again (attempt %d of %d).", by.Exit.Message, rs.Attempts+1, most)
		t.run(rs, queue.Queued, why)
		s.back = append(s.back, r)
		t.act(Action{Verb: Requeue, Cluster: s.c.ID, Run: r.ID, Attempt: a.ID, Why: "ended by " + string(cause) + ", and may run again"})
		return
	}
	to, f := verdict(cause, by, r, rs)
	if lost && a.Doubt != "" {
		f.Code, f.Message = LostByRestore, a.Doubt
	}
	rs.Failure = f
	t.run(rs, to, "")
	why := cmp.Or(f.Code, "its processes ended well")
	t.act(Action{Verb: End, Cluster: s.c.ID, Run: r.ID, Attempt: a.ID, Why: why})
}

// verdict turns the cause of an end into what the user sees.
func verdict(cause queue.Cause, by queue.Member, r *queue.Run, rs queue.Status) (queue.State, queue.Failure) {
	f := queue.Failure{Message: by.Exit.Message, ExitCode: by.Exit.Code, Node: by.Node}
	switch cause {
	case "":
		return queue.Completed, queue.Failure{}
	case queue.ByCancel:
		return queue.Canceled, queue.Failure{Code: "Canceled", Message: r.CancelWhy}
	case queue.ByTimeout: // Azure cancels what ran too long (mfe.json, CommandJobLimits)
		return queue.Canceled, queue.Failure{Code: "JobTimeout",
			Message: fmt.Sprintf("The run was stopped because it ran longer than its limit of %v.", r.TimeLimit)}
	case queue.ByExit:
		f.Code = "UserError"
		f.Message = cmp.Or(f.Message, fmt.Sprintf("The process on node %s exited with code %d.", by.Node, by.Exit.Code))
	case queue.BySetup:
		f.Code = "UserError"
		f.Message = cmp.Or(f.Message, "The run's code or environment could not be made.")
	default:
		f.Code = "NodeLost"
		f.ExitCode = 0
		f.Message = fmt.Sprintf("%s The run was tried %d times.", cmp.Or(f.Message, "A node was lost."), rs.Attempts)
	}
	return queue.Failed, f
}

// causeOf chooses one cause for the whole gang, and the member that shows it.
// Empty: every process ended by itself with code 0.
func causeOf(a queue.Attempt, r *queue.Run) (queue.Cause, queue.Member) {
	best, by := queue.Cause(""), queue.Member{}
	switch {
	case r.Cancel:
		best = queue.ByCancel
	case a.Stop == queue.ByCancel, a.Stop == queue.ByTimeout:
		best = a.Stop
	}
	for i, m := range a.Members {
		c := m.Exit.Cause
		if c == "" || excused(a, r, i) {
			continue
		}
		// Of several that ended by themselves the first counts, and before it one
		// that knows which process it was.
		named, was := m.Exit.Process != "", by.Exit.Process != ""
		first := c == best && by.Node != "" && (named && !was || named == was && m.Exit.Ended.Before(by.Exit.Ended))
		if stronger(c, best) || first || by.Node == "" && c == best {
			best, by = c, m
		}
	}
	if best == "" && a.Stop != "" && a.Stop != queue.ByExit {
		best = a.Stop // all it left is the order to stop
	}
	return best, by
}

// excused reports whether the end of member i says nothing about its run: it
// ended well, or for want of what others took from it.
func excused(a queue.Attempt, r *queue.Run, i int) bool {
	exit, gang := a.Members[i].Exit, len(a.Members) > 1
	if gang && i >= r.Leaders && ledWell(a, r) && (exit.Cause == queue.ByExit || exit.Cause == queue.ByNodeLoss) {
		return true
	}
	if exit.Cause != queue.ByExit || exit.Code == 0 {
		return exit.Cause == queue.ByExit
	}
	// A gang that lost a node fails on the others too, often before anybody knows
	// why: that is not for its user to mend.
	lostNode := func(m queue.Member) bool {
		return m.Exit.Cause == queue.ByNodeLoss || m.Exit.Cause == queue.ByPreemption
	}
	if gang && slices.ContainsFunc(a.Members, lostNode) {
		return true
	}
	killed := exit.Code == 128+15 || exit.Code == 128+9 // SIGTERM, SIGKILL: what a stop sends
	return killed && (a.Stop == queue.ByNodeLoss || a.Stop == queue.ByPreemption)
}

// causes from the one that wins to the weakest.
var causes = []queue.Cause{queue.ByCancel, queue.ByTimeout, queue.ByExit, queue.BySetup, queue.ByPreemption, queue.ByNodeLoss}

// stronger reports whether cause a wins over b; empty is the weakest of all.
func stronger(a, b queue.Cause) bool {
	if a == "" || a == b {
		return false
	}
	return b == "" || slices.Index(causes, a) < slices.Index(causes, b)
}

func cancelWhy(r *queue.Run, c *fleet.Cluster) string {
	if r.CancelWhy != "" {
		return r.CancelWhy
	}
	switch {
	case c.Deleting:
		return fmt.Sprintf("The compute %q was deleted.", c.Name)
	case c.Instance && !r.Cancel:
		return fmt.Sprintf("The compute instance %q was stopped or restarted.", c.Name)
	}
	return "The run was cancelled by its user."
}

// retire starts the removal of nodes that are of no more use, and makes the
// cluster no larger than it may be.
func (t *turn) retire(s *site) {
	for i := range s.nodes {
		n := s.nodes[i]
		switch n.State {
		case fleet.Preempted:
			t.remove(s, i, cmp.Or(n.Why, "the engine took it away"))
		case fleet.Unusable:
			t.retireSilent(s, i)
		case fleet.Launching:
			if s.leaves(i) { // it has never had work
				t.remove(s, i, s.whyLeave())
			}
		case fleet.Idle:
			if s.leaves(i) {
				t.drain(s, i, s.whyLeave())
			}
		}
	}
	t.trim(s)
}

func (s *site) whyLeave() string {
	switch {
	case s.c.Deleting:
		return "the cluster is being deleted"
	case s.c.Off:
		return "the instance is being stopped"
	case s.off():
		return "the instance stood idle, and went off"
	}
	return "the instance restarts"
}

// retireSilent gives up a silent node. One that holds a run waits: its engine
// has not said that it is dead, so the run may be well. The engine's Remove is
// the proof that lets the run start again.
func (t *turn) retireSilent(s *site, i int) {
	n := s.nodes[i]
	until := n.Since
	stopped := false
	if a, ok := t.attempt(n.Attempt); ok {
		until = n.Since.Add(abandonAfter)
		if a.Stop == queue.ByCancel || a.Stop == queue.ByTimeout {
			until, stopped = a.StopAt.Add(6*Grace), true
		}
	}
	switch {
	case t.f.Hold != "" && !stopped:
		s.held = t.f.Hold
	case t.now.Before(until):
		s.recheck(until)
	default:
		t.remove(s, i, cmp.Or(n.Why, "it is silent"))
	}
}

// trim takes away what is over max: idle nodes first, of these the ones that can
// take no work, then the newest that are still starting. A busy one is left until
// it is free.
func (t *turn) trim(s *site) {
	over := s.staying() - s.c.Max
	if over <= 0 || s.c.Deleting {
		return
	}
	why := fmt.Sprintf("the cluster may have %s at most", nodes(s.c.Max))
	idle := s.idle()
	slices.SortStableFunc(idle, func(a, b int) int {
		switch away := t.f.Away; {
		case away[s.nodes[a].ID] == away[s.nodes[b].ID]:
			return 0
		case away[s.nodes[a].ID]:
			return -1
		}
		return 1
	})
	for _, i := range idle {
		if over == 0 {
			return
		}
		t.drain(s, i, why)
		over--
	}
	for i := len(s.nodes) - 1; i >= 0 && over > 0; i-- {
		if s.nodes[i].State == fleet.Launching {
			t.remove(s, i, why)
			over--
		}
	}
}

func (t *turn) drain(s *site, i int, why string) {
	s.nodes[i].Revision++
	t.move(s, i, fleet.Draining, why)
	t.act(Action{Verb: Drain, Cluster: s.c.ID, Node: s.nodes[i].ID, Why: why})
}
