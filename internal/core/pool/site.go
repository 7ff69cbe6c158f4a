package pool

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// site is one cluster during a turn.
type site struct {
	c      fleet.Cluster
	old    fleet.Status
	s      fleet.Status
	nodes  []fleet.Node // by number; Gone ones stay until the end of the turn
	has    census       // of nodes
	ends   []end        // of what its nodes do, where it is known
	back   []*queue.Run // runs that wait again since this turn
	ask    []ask        // queued runs that did not start, first served first; no more than can get nodes
	most   int          // nodes that the engine can ever hold of it
	wanted int          // nodes that are right, between min and max
	share  share
	short  bool   // it cannot have all the nodes that its runs ask for
	held   string // why silent nodes stay; empty: they do not
	block  string // why no more can be launched; empty: nothing is in the way
	queue  []waiter
	gone   bool      // dropped in this turn
	again  time.Time // when to look again; zero: only when something changes

	// Not looked at: it is as the last look left it, and its nodes are not here.
	still   bool
	leaving int   // how many draining nodes it could keep
	was     share // what it got then
}

// share is what a cluster gets of the room beside the others. While it stays the
// same, a cluster in which nothing has changed needs no look.
type share struct {
	lack   int    // nodes to launch
	miss   int    // nodes of the last run for which there was no room; 0: there was for all
	due    int    // nodes it is to have now
	reason string // why it may launch none, beside miss
}

// end is when what a node does is over at the latest.
type end struct {
	node    int
	attempt string
	at      time.Time
}

// ask is one queued run that waits for nodes.
type ask struct {
	run   *queue.Run
	nodes int
}

// census counts nodes by what they are.
type census struct {
	launching, idle, busy, draining int
	lost, held                      int // unusable, without an attempt and with one
	out                             int // preempted or being removed
}

func (c *census) count(n *fleet.Node, by int) {
	switch n.State {
	case fleet.Launching:
		c.launching += by
	case fleet.Idle:
		c.idle += by
	case fleet.Busy:
		c.busy += by
	case fleet.Draining:
		c.draining += by
	case fleet.Unusable:
		if n.Attempt == "" {
			c.lost += by
		} else {
			c.held += by
		}
	case fleet.Gone:
	default:
		c.out += by
	}
}

// site returns the working copy of a cluster, or nil where there is none.
func (t *turn) site(id string) *site {
	if s, ok := t.sites[id]; ok {
		return s
	}
	c, ok := t.v.clusters.Get(id)
	if !ok {
		return nil
	}
	s := &site{c: *c}
	s.old, _ = t.v.ClusterStatus(id)
	s.s = s.old
	s.s.ID = id
	t.load(s)
	t.sites[id] = s
	return s
}

func (t *turn) load(s *site) {
	s.nodes, s.has = t.v.NodesOf(s.c.ID), census{}
	for i := range s.nodes {
		s.has.count(&s.nodes[i], 1)
	}
}

// compete adds the clusters that compete with those that are looked at, as they were
// left, and puts all in order.
func (t *turn) compete() {
	if t.f.Dirty != nil {
		if t.room.limited {
			for c := range t.v.ordered.All() {
				t.rival(c.ID)
			}
		} else {
			for id := range t.v.TurnedAway() { // some of them are gone
				if _, ok := t.v.clusters.Get(id); ok {
					t.rival(id)
				}
			}
		}
	}
	for _, s := range t.sites {
		t.order = append(t.order, s)
	}
	slices.SortFunc(t.order, func(a, b *site) int { return cmp.Compare(a.c.ID, b.c.ID) })
}

func (t *turn) rival(id string) {
	if _, ok := t.sites[id]; ok {
		return
	}
	left := t.f.Looks[id].left
	if left == nil {
		t.site(id)
		return
	}
	s := *left
	t.sites[id] = &s
}

// leave keeps what a look came to. If it changes a row of the cluster, that is one
// more reason to look again.
func (t *turn) leave(s *site) {
	t.plan.Recheck = sooner(t.plan.Recheck, s.again)
	left := *s
	left.still, left.leaving, left.was = true, s.leavers(), s.share
	left.nodes, left.ends, left.queue, left.back, left.again = nil, nil, nil, nil, time.Time{}
	t.plan.Looked[s.c.ID] = Look{Again: s.again, left: &left}
}

// wake looks at a cluster after all: nothing of its own has changed, so that this
// comes to what it came to before, but its share of the room is another.
func (t *turn) wake(s *site) {
	s.still, s.ask = false, nil
	t.load(s)
	t.settle(s)
	t.retire(s)
	t.tend(s)
}

// find returns the index of a node, or -1. It is looked for at i first.
func (t *turn) find(s *site, id string, i int) int {
	if i >= 0 && i < len(s.nodes) && s.nodes[i].ID == id {
		return i
	}
	n, ok := t.v.nodes.Get(id)
	if !ok || n.Cluster != s.c.ID {
		return -1
	}
	i = sort.Search(len(s.nodes), func(i int) bool { return byNumber(&s.nodes[i], n) >= 0 })
	if i < len(s.nodes) && s.nodes[i].ID == id {
		return i
	}
	return -1
}

// off reports whether the cluster runs no nodes.
func (s *site) off() bool { return fleet.Off(s.c, s.s) }

// leaves reports whether node i is there and not to stay, whatever it does.
func (s *site) leaves(i int) bool {
	return i >= 0 && s.nodes[i].State != fleet.Gone && fleet.Leaves(s.c, s.s, s.nodes[i])
}

// leavers is how many draining nodes could be kept.
func (s *site) leavers() int {
	if s.still {
		return s.leaving
	}
	n := 0
	for i := range s.nodes {
		if s.has.draining == 0 {
			break
		}
		if s.nodes[i].State == fleet.Draining && !s.leaves(i) {
			n++
		}
	}
	return n
}

// idle returns the idle nodes, longest idle first.
func (s *site) idle() []int {
	if s.has.idle == 0 {
		return nil
	}
	var out []int
	for i := range s.nodes {
		if s.nodes[i].State == fleet.Idle {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b int) int {
		return cmp.Or(s.nodes[a].IdleSince.Compare(s.nodes[b].IdleSince), cmp.Compare(s.nodes[a].Number, s.nodes[b].Number))
	})
	return out
}

// staying counts the nodes that are not on their way out.
func (s *site) staying() int {
	return s.has.launching + s.has.idle + s.has.busy + s.has.lost + s.has.held
}

// present counts the nodes that are not gone: they take room until they are.
func (s *site) present() int { return s.staying() + s.has.draining + s.has.out }

func (s *site) launching() int { return s.has.launching }

func (s *site) busy() int { return s.has.busy + s.has.held }

// coming reports whether a node may soon take work.
func (s *site) coming() bool { return s.has.launching+s.has.idle > 0 }
