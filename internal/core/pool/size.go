package pool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// Capacity is what an engine has in all, in use or not. engine.Capacity says it
// in the same words; core knows no engine.
type Capacity struct {
	VCPUs         int     // count; 0: no limit
	MemoryGiB     float64 // GiB; 0: no limit
	GPUs          int     // count
	Oversubscribe bool    // VCPUs and MemoryGiB set no limit
	GPURequired   bool    // nodes of sizes with GPUs need them
}

// room is what is left of the capacity. Fields may go below zero: somebody holds more than there is.
type room struct {
	limited, cpus, memory, gpus bool // which of them set a limit
	all, left                   Capacity
}

func newRoom(c Capacity) room {
	r := room{all: c, left: c}
	r.cpus = !c.Oversubscribe && c.VCPUs > 0
	r.memory = !c.Oversubscribe && c.MemoryGiB > 0
	r.gpus = c.GPURequired
	r.limited = r.cpus || r.memory || r.gpus
	return r
}

// takeAll takes every node that is not gone.
func (r *room) takeAll(sites []*site) {
	for _, s := range sites {
		r.take(s.c.Size, s.present())
	}
}

func (r *room) take(z fleet.Size, n int) {
	r.left.VCPUs -= n * z.VCPUs
	r.left.MemoryGiB -= float64(n) * z.MemoryGiB
	r.left.GPUs -= n * z.GPUs
}

// fits is how many more nodes of a size there is room for, at most n.
func (r *room) fits(z fleet.Size, n int) int {
	c := r.left
	if r.cpus && z.VCPUs > 0 {
		n = min(n, c.VCPUs/z.VCPUs)
	}
	if r.memory && z.MemoryGiB > 0 {
		n = min(n, int(c.MemoryGiB/z.MemoryGiB))
	}
	if r.gpus && z.GPUs > 0 {
		n = min(n, c.GPUs/z.GPUs)
	}
	return max(0, n)
}

// most is how many nodes of a cluster the engine can ever hold beside what other
// clusters keep at all times.
func (t *turn) most(s *site) int {
	if !t.room.limited {
		return s.c.Max
	}
	r := t.room
	r.left = r.all
	for _, o := range t.order {
		if o != s && !o.off() {
			r.take(o.c.Size, o.c.Min)
		}
	}
	return r.fits(s.c.Size, s.c.Max)
}

// claim is a run that asks for nodes which are to be launched.
type claim struct {
	s *site
	a ask
}

// size decides how many nodes each cluster launches: first what min asks for, in
// order of id, then what runs ask for, in the order in which they are served.
// Where room is short, the first run that cannot get all of it holds the rest:
// it alone, or two that hold a part each would wait for each other.
func (t *turn) size() {
	var claims []claim
	for _, s := range t.order {
		may := t.mayLaunch(s)
		s.short = s.s.Full
		own := min(may, max(0, s.c.Min-s.staying()-s.keepable()))
		s.lack = t.grant(s, own)
		supply := s.staying() - s.busy() + s.lack + s.keepable()
		may -= own
		for _, a := range s.ask {
			use := min(a.nodes, supply)
			supply -= use
			a.nodes = min(a.nodes-use, may)
			may -= a.nodes
			if a.nodes > 0 {
				claims = append(claims, claim{s, a})
			}
		}
	}
	if t.room.limited {
		slices.SortStableFunc(claims, func(a, b claim) int {
			switch {
			case queue.Before(a.a.run, b.a.run):
				return -1
			case queue.Before(b.a.run, a.a.run):
				return 1
			}
			return 0
		})
	}
	t.head = t.fullHead()
	for i, c := range claims {
		if t.head != nil && c.s != t.head.s && c.s.s.Full {
			c.s.block = "the engine has no room for more nodes, and runs of another cluster come first"
			continue
		}
		got := t.grant(c.s, c.a.nodes)
		if c.s.lack += got; got < c.a.nodes {
			c.s.short = true
			if t.head == nil {
				t.head = &claims[i]
			}
		}
	}
	for _, s := range t.order {
		t.keepSome(s, min(s.keepable(), max(0, t.due(s)-s.staying())))
		t.launch(s)
	}
}

// fullHead is what waits first in the clusters that an engine of unknown size has
// turned away.
func (t *turn) fullHead() *claim {
	var head *claim
	for _, s := range t.order {
		if s.s.Full && len(s.ask) > 0 && (head == nil || queue.Before(s.ask[0].run, head.a.run)) {
			head = &claim{s, s.ask[0]}
		}
	}
	return head
}

// due is how many nodes a cluster is to have now: what it wants, unless it is short
// and a run of another cluster comes first. Then all that it has no better use for
// makes room: it keeps what works, and what runs that come earlier still wait for.
func (t *turn) due(s *site) int {
	if t.head == nil || t.head.s == s || !s.short {
		return s.wanted
	}
	n := s.busy()
	for _, a := range s.ask {
		if queue.Before(a.run, t.head.a.run) {
			n += a.nodes
		}
	}
	return min(s.wanted, max(n, s.c.Min))
}

// grant takes room for up to n nodes, and holds what is missing.
func (t *turn) grant(s *site, n int) int {
	if !t.room.limited || n == 0 {
		return n
	}
	got := t.room.fits(s.c.Size, n)
	if got < n {
		s.block = fmt.Sprintf("there is no room for %s of %s (%s) beside the other nodes: this site has %s",
			nodes(n-got), s.c.Size.Name, t.room.describe(s.c.Size, n-got), t.room.total())
	}
	t.room.take(s.c.Size, n)
	return got
}

// describe says what n nodes take of what sets a limit.
func (r *room) describe(z fleet.Size, n int) string {
	return r.words(n*z.VCPUs, float64(n)*z.MemoryGiB, n*z.GPUs)
}

func (r *room) total() string { return r.words(r.all.VCPUs, r.all.MemoryGiB, r.all.GPUs) }

func (r *room) words(cpus int, memory float64, gpus int) string {
	var parts []string
	if r.cpus {
		parts = append(parts, fmt.Sprintf("%d vCPUs", cpus))
	}
	if r.memory {
		parts = append(parts, fmt.Sprintf("%.4g GiB", memory))
	}
	if r.gpus {
		parts = append(parts, fmt.Sprintf("%d GPUs", gpus))
	}
	if n := len(parts); n > 1 {
		return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
	return strings.Join(parts, "")
}

// keepable is how many draining nodes are wanted after all.
func (s *site) keepable() int {
	n := 0
	for i := range s.nodes {
		if s.nodes[i].State == fleet.Draining && !s.leaves(i) {
			n++
		}
	}
	return max(0, min(n, s.wanted-s.staying()))
}

func (t *turn) keepSome(s *site, n int) {
	for i := range s.nodes {
		if n > 0 && s.nodes[i].State == fleet.Draining && !s.leaves(i) {
			t.keep(s, i, "work arrived")
			n--
		}
	}
}

// mayLaunch says how many nodes may be launched now, beside draining ones that are kept.
func (t *turn) mayLaunch(s *site) int {
	lack := s.wanted - s.staying() - s.keepable()
	if lack <= 0 {
		return 0
	}
	switch {
	case t.f.Blind:
		s.block = "the engine has not said yet what it has"
		return 0
	case t.now.Before(s.s.RetryAt):
		t.recheck(s, s.s.RetryAt)
		s.block = "the last launch of a node failed, and is tried again"
		return 0
	}
	return min(lack, max(0, s.c.Max-s.present()))
}

func (s *site) launching() int {
	n := 0
	for i := range s.nodes {
		if s.nodes[i].State == fleet.Launching {
			n++
		}
	}
	return n
}

func (s *site) busy() int {
	n := 0
	for i := range s.nodes {
		if st := s.nodes[i].State; st == fleet.Busy || st == fleet.Unusable && s.nodes[i].Attempt != "" {
			n++
		}
	}
	return n
}

func (t *turn) launch(s *site) {
	if s.lack == 0 {
		return
	}
	why := fmt.Sprintf("jobs wait, and %d of %d nodes are wanted", s.wanted, s.c.Max)
	if s.c.Instance {
		why = "the instance is on"
	} else if len(s.ask) == 0 {
		why = fmt.Sprintf("at least %d nodes are wanted", s.c.Min)
	}
	created := t.now
	if created.Before(s.c.Switched) { // the clock was read before the wish was: it is no node from before
		created = s.c.Switched
	}
	for range s.lack {
		number := s.nextNumber()
		s.s.Launched = number + 1
		n := fleet.Node{
			ID: fmt.Sprintf("%s-%d", s.c.Prefix, number), Cluster: s.c.ID, Number: number,
			State: fleet.Launching, Since: t.now, Revision: 1, Why: why, Created: created,
		}
		s.nodes = append(s.nodes, n)
		s.byID = nil
		t.put(n)
		t.act(Action{Verb: Launch, Cluster: s.c.ID, Node: n.ID, Why: why})
	}
}

// nextNumber is above that of every node there ever was.
func (s *site) nextNumber() int64 {
	n := s.s.Launched
	if len(s.nodes) > 0 {
		n = max(n, s.nodes[len(s.nodes)-1].Number+1) // by number
	}
	return n
}

// shrink drains what stands idle too long and is not wanted. Nodes that wait for
// the head of the queue are wanted: holding pauses the idle timer.
func (t *turn) shrink(s *site) {
	wanted := t.due(s)
	if wanted < s.wanted { // its room is needed: what still comes is no reason to let go of more
		wanted = max(wanted, s.busy()+s.launching())
	}
	surplus := s.staying() - wanted
	if surplus <= 0 || s.c.Deleting || s.lack > 0 {
		return
	}
	for _, i := range s.idle() {
		if surplus == 0 {
			return
		}
		due := s.nodes[i].IdleSince.Add(s.c.IdleAfter)
		if t.now.Before(due) {
			t.recheck(s, due)
			return // the rest idled for less
		}
		t.drain(s, i, fmt.Sprintf("idle for %v", t.now.Sub(s.nodes[i].IdleSince).Truncate(time.Second)))
		surplus--
	}
}

// sleep switches an instance off that stood idle for as long as it may, unless a run
// waits for its agent to come back.
func (t *turn) sleep(s *site) {
	if s.c.IdleAfter <= 0 || s.off() || len(s.ask) > 0 {
		return
	}
	for _, i := range s.idle() {
		due := s.nodes[i].IdleSince.Add(s.c.IdleAfter)
		if t.now.Before(due) {
			t.recheck(s, due)
			return
		}
		s.s.Slept, s.wanted = t.now, 0
		t.drain(s, i, s.whyLeave())
	}
}

// never says why a run can never start here as things are; empty: it can.
func (t *turn) never(s *site, need, most int) string {
	c := s.c
	switch {
	case s.off():
		return fmt.Sprintf("The compute instance %q is stopped. Start it, or submit the run to another compute.", c.Name)
	case need > c.Max:
		return fmt.Sprintf("It needs %s, and cluster %q may have %d at most. Raise the cluster's maximum to %d or more, or ask for fewer nodes.",
			nodes(need), c.Name, c.Max, need)
	case need > most && t.room.gpus && c.Size.GPUs*need > t.room.all.GPUs:
		return fmt.Sprintf("It needs %s of %s with %d GPUs in all, and this site has %d. Choose another size, or fewer nodes.",
			nodes(need), c.Size.Name, c.Size.GPUs*need, t.room.all.GPUs)
	case need > most:
		return fmt.Sprintf("It needs %s of %s (%s in all), and this site has %s, of which other clusters keep what their minimum asks for. Choose a smaller size, lower a minimum, or let the site oversubscribe.",
			nodes(need), c.Size.Name, t.room.describe(c.Size, need), t.room.total())
	}
	return ""
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// waiter is a run in the queue that may have to be told why.
type waiter struct {
	run    queue.Run
	status queue.Status
	why    string // never starts as things are; empty: it may
}

// explain writes why runs wait. The sentences hold no number that changes with
// every turn: a queue of thousands is written once.
func (t *turn) explain(s *site) {
	head, told := true, 0
	others := ""
	for _, w := range s.queue {
		why := w.why
		first := head && why == ""
		switch {
		case why != "":
		case head:
			why, head = s.whyWait(w.run, true), false
		default:
			if others == "" { // the same for all of them
				others = s.whyWait(w.run, false)
			}
			why = others
		}
		if why == w.status.Why || told == explainMost {
			continue
		}
		if ready := w.run.Submitted.Add(explainAfter); !first && w.why == "" && t.now.Before(ready) {
			t.recheck(s, ready) // most are served before anybody asks
			continue
		}
		told++
		rs, _ := t.status(w.run.ID)
		t.run(rs, rs.State, why)
	}
}

func (s *site) whyWait(r queue.Run, head bool) string {
	c := s.c
	most := fmt.Sprintf("cluster %q may have %s at most", c.Name, nodes(c.Max))
	switch {
	case !head:
		return fmt.Sprintf("Other runs come first, and %s. Raise its maximum to start sooner.", most)
	case s.block != "":
		return fmt.Sprintf("It waits for %s of cluster %q: %s.", nodes(max(1, r.Nodes)), c.Name, s.block)
	case s.coming():
		return fmt.Sprintf("It waits for %s of cluster %q to start.", nodes(max(1, r.Nodes)), c.Name)
	}
	return fmt.Sprintf("It needs %s at once, and %s, which other runs use. Raise its maximum to start sooner.", nodes(max(1, r.Nodes)), most)
}

func (s *site) coming() bool {
	return slices.ContainsFunc(s.nodes, func(n fleet.Node) bool { return n.State == fleet.Launching || n.State == fleet.Idle })
}
