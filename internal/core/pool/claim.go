package pool

import (
	"container/heap"
	"fmt"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

// claim is a run that asks for nodes which are to be launched.
type claim struct {
	s   *site
	run *queue.Run
}

// claims goes through what the runs of one cluster ask for, beyond the nodes that
// are there and up to those that may be launched.
type claims struct {
	s           *site
	i           int // of the next
	supply, may int
	run         *queue.Run
	nodes       int
}

// next goes to the next run that asks for nodes; false: there is none.
func (c *claims) next() bool {
	for c.may > 0 && c.i < len(c.s.ask) {
		a := c.s.ask[c.i]
		c.i++
		use := min(a.nodes, c.supply)
		c.supply -= use
		c.run, c.nodes = a.run, min(a.nodes-use, c.may)
		if c.may -= c.nodes; c.nodes > 0 {
			return true
		}
	}
	return false
}

// byTurn is a heap of claims, of which the one served first is first.
type byTurn []*claims

func (h byTurn) Len() int           { return len(h) }
func (h byTurn) Less(i, j int) bool { return queue.Order(h[i].run, h[j].run) < 0 }
func (h byTurn) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byTurn) Push(x any)        { *h = append(*h, x.(*claims)) }
func (h *byTurn) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// size decides how many nodes each cluster launches: first what min asks for, in
// order of id, then what runs ask for, in the order in which they are served.
// Where room is short, the first run that cannot get all of it holds the rest:
// it alone, or two that hold a part each would wait for each other.
func (t *turn) size() {
	var all byTurn
	for _, s := range t.order {
		s.share, s.block = share{}, s.held
		may := t.mayLaunch(s)
		s.short = s.s.Full
		own := min(may, max(0, s.c.Min-s.staying()-s.keepable()))
		s.share.lack = t.grant(s, own)
		c := claims{s: s, supply: s.staying() - s.busy() + s.share.lack + s.keepable(), may: may - own}
		if c.next() {
			all = append(all, &c)
		}
	}
	t.head = t.fullHead()
	if t.room.limited {
		t.meet(all)
	} else {
		for _, c := range all {
			for ok := true; ok; ok = c.next() {
				t.claim(c)
			}
		}
	}
	for _, s := range t.order {
		t.settleShare(s)
	}
}

// meet serves claims in order while there is room. Once there is none for a node of
// any size, all that is left lacks what it asks for.
func (t *turn) meet(all byTurn) {
	cpus, memory := t.room.cpus, t.room.memory // what a node of any size takes some of
	for _, c := range all {
		cpus = cpus && c.s.c.Size.VCPUs > 0
		memory = memory && c.s.c.Size.MemoryGiB > 0
	}
	spent := func() bool { return cpus && t.room.left.VCPUs <= 0 || memory && t.room.left.MemoryGiB <= 0 }
	heap.Init(&all)
	for len(all) > 0 && (t.head == nil || !spent()) {
		t.claim(all[0])
		if all[0].next() {
			heap.Fix(&all, 0)
		} else {
			heap.Pop(&all)
		}
	}
	for _, c := range all {
		for ok := true; ok; ok = c.next() {
			t.claim(c)
		}
	}
}

// claim gives a run what room there is for it.
func (t *turn) claim(c *claims) {
	s := c.s
	if t.head != nil && s != t.head.s && s.s.Full {
		s.share.miss, s.block = 0, "the engine has no room for more nodes, and runs of another cluster come first"
		return
	}
	got := t.grant(s, c.nodes)
	if s.share.lack += got; got < c.nodes {
		s.short = true
		if t.head == nil {
			t.head = &claim{s, c.run}
		}
	}
}

// settleShare brings about what a cluster got. One that stands as it was left, and
// gets what it got then, needs no look.
func (t *turn) settleShare(s *site) {
	s.share.due, s.share.reason = t.due(s), s.block
	if s.still {
		if s.share == s.was {
			return
		}
		t.wake(s)
	}
	if s.block = s.share.reason; s.share.miss > 0 {
		s.block = t.noRoom(s)
	}
	t.keepSome(s, min(s.keepable(), max(0, s.share.due-s.staying())))
	t.launch(s)
}

// fullHead is what waits first in the clusters that an engine of unknown size has
// turned away.
func (t *turn) fullHead() *claim {
	var head *claim
	for _, s := range t.order {
		if s.s.Full && len(s.ask) > 0 && (head == nil || queue.Order(s.ask[0].run, head.run) < 0) {
			head = &claim{s, s.ask[0].run}
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
		if queue.Order(a.run, t.head.run) >= 0 {
			break
		}
		n += a.nodes
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
		s.share.miss, s.block = n-got, ""
	}
	t.room.take(s.c.Size, n)
	return got
}

func (t *turn) noRoom(s *site) string {
	n := s.share.miss
	return fmt.Sprintf("there is no room for %s of %s (%s) beside the other nodes: this site has %s",
		nodes(n), s.c.Size.Name, t.room.describe(s.c.Size, n), t.room.total())
}
