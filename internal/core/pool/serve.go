package pool

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// line is one queue being served.
type line struct {
	free    []int // nodes that may take work now, the best first
	reserve int   // how many draining nodes may still be kept; those that are away make way
	head    bool  // somebody waits who must not be delayed
	start   time.Time
	known   bool // start is known
	demand  int  // nodes that waiting runs ask for
	told    int
}

// serve goes through the queue in order and starts what can start.
func (t *turn) serve(s *site) {
	t.cancelWaiting(s)
	l := line{free: t.candidates(s), reserve: max(0, s.c.Max-s.staying()+t.away(s))}
	s.most = t.most(s)
	for r := range t.waiting(s) {
		enough := l.head && l.demand >= s.c.Max-s.busy()
		closed := enough && (len(l.free) == 0 || !l.known) && l.told >= explainMost
		if closed && !s.c.Deleting {
			break // the rest can only wait, or end
		}
		rs, ok := t.statusOf(r.ID)
		if !ok || rs.State != queue.Queued {
			continue
		}
		if s.c.Deleting {
			t.cancel(s.c.ID, r, *rs, cancelWhy(r, &s.c))
			continue
		}
		need := max(1, r.Nodes)
		if why := t.never(s, need, s.most); why != "" {
			s.wait(&l, r, rs, why)
			continue
		}
		free := l.takeable(s)
		if need <= free && (!l.head || l.mayPass(r, t.now)) {
			t.start(s, r, *rs, l.take(need, s))
			continue
		}
		if !l.head {
			l.head = true
			l.start, l.known = t.headStart(s, need, free)
		}
		if !enough {
			s.ask = append(s.ask, ask{run: r, nodes: need})
		}
		l.demand += need
		s.wait(&l, r, rs, "")
	}
	t.trim(s) // what was kept has the place of what is away
	s.wanted = min(max(s.c.Min, s.busy()+l.demand), s.c.Max)
	if s.off() {
		s.wanted = 0
	}
}

// waiting yields what the view has in the queue of s, and what has come back to it
// in this turn, in serving order.
func (t *turn) waiting(s *site) iter.Seq[*queue.Run] {
	l, _ := t.v.waiting.Get(s.c.ID)
	if len(s.back) == 0 {
		return l.All()
	}
	for _, r := range s.back {
		l = l.With(r, queue.Order)
	}
	return l.All()
}

// wait notes a run that stays in the queue, and the reason if it is its own.
func (s *site) wait(l *line, r *queue.Run, rs *queue.Status, why string) {
	if l.told < explainMost {
		l.told++
		s.queue = append(s.queue, waiter{run: r, told: rs.Why, why: why})
	}
}

// candidates returns the nodes that may take work: idle ones, the latest idle
// first so that the others can leave, then draining ones, which are kept by it.
func (t *turn) candidates(s *site) []int {
	var free, leaving []int
	if s.off() {
		return nil
	}
	idle := s.idle()
	slices.Reverse(idle)
	for _, i := range idle {
		if !t.f.Away[s.nodes[i].ID] {
			free = append(free, i)
		}
	}
	for i := range s.nodes {
		if s.has.draining == 0 {
			break
		}
		if s.nodes[i].State == fleet.Draining && !s.leaves(i) && !t.f.Away[s.nodes[i].ID] {
			leaving = append(leaving, i)
		}
	}
	return append(free, leaving...)
}

// away counts the idle nodes that can take nothing, since their agents are away.
func (t *turn) away(s *site) int {
	n := 0
	for i := range s.nodes {
		if s.has.idle == 0 {
			break
		}
		if s.nodes[i].State == fleet.Idle && t.f.Away[s.nodes[i].ID] {
			n++
		}
	}
	return n
}

// takeable is how many of the free nodes may be taken without going over max.
func (l *line) takeable(s *site) int {
	n := 0
	for _, i := range l.free {
		if s.nodes[i].State == fleet.Idle {
			n++
		}
	}
	return n + min(len(l.free)-n, l.reserve)
}

func (l *line) take(n int, s *site) []int {
	picked := l.free[:n]
	l.free = l.free[n:]
	for _, i := range picked {
		if s.nodes[i].State == fleet.Draining {
			l.reserve--
		}
	}
	return picked
}

// mayPass reports whether r may take nodes that are held for the head: only if
// it ends before the head can start. An unknown run time is infinite.
func (l *line) mayPass(r *queue.Run, now time.Time) bool {
	return l.known && r.TimeLimit > 0 && !now.Add(r.TimeLimit+setupSlack).After(l.start)
}

// headStart is when the first of the queue starts at the latest, from the time
// limits of what runs. While nodes may still come it can be any moment.
func (t *turn) headStart(s *site, need, free int) (at time.Time, known bool) {
	coming := max(0, s.c.Max-s.staying()) + s.launching() + t.away(s)
	missing := need - free - coming
	if missing <= 0 || coming > 0 {
		return time.Time{}, false
	}
	var ends []time.Time
	for _, e := range s.ends {
		if n := &s.nodes[e.node]; n.State == fleet.Busy && n.Attempt == e.attempt {
			ends = append(ends, e.at)
		}
	}
	if len(ends) < missing {
		return time.Time{}, false
	}
	slices.SortFunc(ends, time.Time.Compare)
	return ends[missing-1], true
}

// start gives a run its nodes, all of them.
func (t *turn) start(s *site, r *queue.Run, rs queue.Status, nodes []int) {
	rs.Attempts++
	a := queue.Attempt{
		ID: r.ID + "." + t.f.unique(rs.Attempts), Run: r.ID, N: rs.Attempts, Cluster: s.c.ID,
		Fence: t.nextFence(), Phase: queue.Placed, Placed: t.now,
	}
	rs.Notes = s.notes(nodes)
	slices.Sort(nodes) // by number: people look for rank 0 on the first
	for _, i := range nodes {
		if s.nodes[i].State == fleet.Draining {
			t.keep(s, i, "a run needs it")
		}
		s.nodes[i].Attempt = a.ID
		s.nodes[i].Revision++
		t.move(s, i, fleet.Busy, "")
		a.Members = append(a.Members, queue.Member{Node: s.nodes[i].ID, Phase: queue.Placed})
	}
	t.saveAttempt(a)
	t.run(rs, queue.Starting, "")
	t.act(Action{Verb: Start, Cluster: s.c.ID, Node: a.Members[0].Node, Run: r.ID, Attempt: a.ID,
		Why: startWhy(len(nodes))})
}

// maxNotes bounds what is kept of the warnings of a run's nodes.
const maxNotes = 10

// notes is what nodes warn of, each sentence once.
func (s *site) notes(nodes []int) []string {
	var out []string
	for _, i := range nodes {
		for _, w := range s.nodes[i].Warnings {
			if len(out) < maxNotes && !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

func startWhy(n int) string {
	if n == 1 {
		return "it is next, and a node is free"
	}
	return fmt.Sprintf("it is next, and all %d nodes are free", n)
}

func (t *turn) keep(s *site, i int, why string) {
	s.nodes[i].Revision++
	t.move(s, i, fleet.Idle, "")
	t.act(Action{Verb: Keep, Cluster: s.c.ID, Node: s.nodes[i].ID, Why: why})
}

// nextFence is higher than every fence before it. Attempts that ended are not in
// the view, and no clock is sure never to go back: what was given out before is the
// caller's to know.
func (t *turn) nextFence() int64 {
	t.plan.Fence = max(t.plan.Fence, t.f.Fence) + 1
	return t.plan.Fence
}

// cancel ends a run that has no nodes.
func (t *turn) cancel(cluster string, r *queue.Run, rs queue.Status, why string) {
	rs.Failure = queue.Failure{Code: "Canceled", Message: why}
	t.run(rs, queue.Canceled, "")
	t.act(Action{Verb: End, Cluster: cluster, Run: r.ID, Why: "cancelled while it waited"})
}

// cancelWaiting ends the runs of a cluster that are to end and have no nodes.
func (t *turn) cancelWaiting(s *site) {
	if t.ends == nil {
		t.ends = map[string][]*queue.Run{}
		for _, r := range t.v.cancelled.All() {
			t.ends[r.Cluster] = append(t.ends[r.Cluster], r)
		}
	}
	runs := t.ends[s.c.ID]
	slices.SortFunc(runs, func(a, b *queue.Run) int { return cmp.Compare(a.ID, b.ID) })
	for _, r := range runs {
		if rs, ok := t.status(r.ID); ok && rs.State == queue.Queued {
			t.cancel(s.c.ID, r, rs, cancelWhy(r, &s.c))
		}
	}
}

// orphans ends the runs of clusters that no longer exist.
func (t *turn) orphans() {
	var ids []string
	if t.f.Dirty != nil {
		ids = slices.Clone(t.f.Dirty)
	} else {
		for id := range t.v.Queues() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		if _, ok := t.v.Cluster(id); ok || id == "" {
			continue
		}
		for r := range t.v.RunsOf(id) {
			if rs, ok := t.status(r.ID); ok && !rs.State.Final() {
				t.cancel(id, &r, rs, "The compute of the run does not exist any more.")
			}
		}
	}
}
