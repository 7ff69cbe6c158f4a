package pool_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// Looking at what has changed is as good as looking at everything, at every
// moment of a history.
func TestWhatIsNotDirtyNeedsNoLook(t *testing.T) {
	t.Parallel()
	var decided, spared [2]int // where the room has no limit, and where it has
	for seed := range uint64(2500) {
		h := history{dealt: deal(seed), now: start}
		for i := range 5 {
			h.cluster(fmt.Sprintf("more%d", i))
		}
		switch seed % 3 {
		case 0:
			h.facts.Capacity = pool.Capacity{}
		case 1:
			h.facts.Capacity = pool.Capacity{VCPUs: 4 + 4*h.rnd.IntN(30), MemoryGiB: float64(h.rnd.IntN(3) * 100)}
		}
		for step := range 8 {
			if err := h.decide(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			h.happen()
		}
		limited := 0
		if seed%3 == 1 {
			limited = 1
		}
		decided[limited], spared[limited] = decided[limited]+h.decided, spared[limited]+h.spared
	}
	for limited := range decided {
		if spared[limited]*3 < decided[limited] {
			t.Errorf("of %d looks at a cluster only %d were spared (limited: %d): the histories prove little", decided[limited], spared[limited], limited)
		}
	}
	t.Logf("of %d looks %d were spared", decided, spared)
}

// history is a case that goes on.
type history struct {
	dealt
	now             time.Time
	dirt            pool.Dirt
	made            int
	decided, spared int
}

// decide compares the two ways to look, and records what comes of it.
func (h *history) decide() error {
	all, some := h.facts, h.facts
	all.Dirty = nil
	some.Dirty, some.Looks = h.dirt.Look(h.v, h.now), h.dirt.Looks()
	want, got := pool.Decide(h.v, all, h.now), pool.Decide(h.v, some, h.now)
	h.dirt.Decided(h.v, got)
	for name, pair := range map[string][2]any{
		"actions": {got.Actions, want.Actions}, "changes": {got.Changes, want.Changes},
		"fence": {got.Fence, want.Fence}, "recheck": {h.dirt.Next(), want.Recheck},
	} {
		if g, w := fmt.Sprint(pair[0]), fmt.Sprint(pair[1]); g != w {
			return fmt.Errorf("looking at %d of %d clusters, %s are\n%s\nwant\n%s", len(got.Looked), len(want.Looked), name, g, w)
		}
	}
	h.decided, h.spared = h.decided+len(want.Looked), h.spared+len(want.Looked)-len(got.Looked)
	h.facts.Fence = max(h.facts.Fence, got.Fence)
	if h.rnd.IntN(10) == 0 { // the disk is full: what was seen is seen again
		h.dirt.All()
		return nil
	}
	h.facts.Seen = nil
	h.v = h.v.Apply(got.Changes...)
	return nil
}

// happen changes something, in rows or beside them, and lets time pass.
func (h *history) happen() {
	waits := []time.Duration{0, 0, time.Millisecond, time.Second, 20 * time.Second, time.Minute, 10 * time.Minute}
	if h.now = h.now.Add(waits[h.rnd.IntN(len(waits))]); h.rnd.IntN(3) == 0 {
		if next := h.dirt.Next(); next.After(h.now) {
			h.now = next
		}
	}
	clusters := slices.Collect(h.v.Clusters())
	if len(clusters) == 0 || h.rnd.IntN(9) == 0 {
		h.made++
		h.cluster(fmt.Sprintf("new%d", h.made))
		return
	}
	c := clusters[h.rnd.IntN(len(clusters))]
	nodes := h.v.NodesOf(c.ID)
	switch h.rnd.IntN(9) {
	case 0:
		r := h.run(c)
		r.Submitted = h.now
		h.v = h.v.Apply(queued(r)...)
	case 1:
		for r := range h.v.RunsOf(c.ID) {
			r.Cancel, r.CancelWhy = true, "somebody wants it so"
			h.v = h.v.Apply(row.Put(r))
			break
		}
	case 2:
		c.Max = h.rnd.IntN(9)
		c.Min, c.Generation = h.rnd.IntN(c.Max+1), c.Generation+1
		o := operation.Operation{ID: fmt.Sprint("o", c.Generation, c.Name), Target: c.ID, Generation: c.Generation, Started: h.now}
		h.v = h.v.Apply(put(c, o)...)
	case 3:
		c.Deleting, c.Generation = true, c.Generation+1
		h.v = h.v.Apply(row.Put(c))
	case 4:
		if h.rnd.IntN(3) == 0 { // it goes at once, and its runs are orphans
			h.v = h.v.Apply(row.Drop(c.Key()))
		}
	case 5:
		for _, n := range nodes {
			if h.rnd.IntN(2) == 0 {
				h.facts.Away = maps.Clone(h.facts.Away)
				// Whose agent goes makes nothing possible that was not; who comes is heard.
				if h.facts.Away[n.ID] = !h.facts.Away[n.ID]; !h.facts.Away[n.ID] {
					h.facts.Seen = append(h.facts.Seen, pool.Event{Kind: pool.Heard, Node: n.ID})
				}
			}
		}
	case 6:
		h.facts.Hold = []string{"", "the network is down"}[h.rnd.IntN(2)]
		h.facts.Blind = h.rnd.IntN(4) == 0
		if h.rnd.IntN(10) == 0 {
			h.facts.Capacity = pool.Capacity{VCPUs: 4 * h.rnd.IntN(12)}
		}
		h.dirt.All()
	case 7:
		if c.Instance {
			c.Off, c.Switched, c.Generation = !c.Off, h.now, c.Generation+1
			h.v = h.v.Apply(row.Put(c))
		}
	case 8:
		for _, n := range nodes {
			h.live(n)
		}
	}
}

// live lets a node do something, as agents and engines do.
func (h *history) live(n fleet.Node) {
	e := pool.Event{Node: n.ID, Why: "it was seen", Full: h.rnd.IntN(2) == 0}
	switch {
	case n.State == fleet.Launching:
		e.Kind = []pool.EventKind{pool.Heard, pool.Heard, pool.LaunchFailed}[h.rnd.IntN(3)]
	case n.State == fleet.Removing:
		e.Kind = pool.Removed
	case n.State == fleet.Draining:
		e.Kind, e.Report = pool.Reported, pool.Report{Revision: n.Revision, Empty: true}
	case n.Attempt != "":
		a, _ := h.v.Attempt(n.Attempt)
		phase := []queue.Phase{queue.InPreparing, queue.InRunning, queue.InFinalizing, queue.Ended}[h.rnd.IntN(4)]
		p := pool.Progress{Attempt: a.ID, Fence: a.Fence, Phase: phase}
		if phase.Rank() >= queue.InFinalizing.Rank() {
			p.Exit = queue.Exit{Cause: queue.ByExit, Code: h.rnd.IntN(2), Ended: h.now}
		}
		e.Kind, e.Report = pool.Reported, pool.Report{Revision: n.Revision, Attempts: []pool.Progress{p}}
	default:
		e.Kind = []pool.EventKind{pool.Heard, pool.Silent, pool.Dead}[h.rnd.IntN(3)]
	}
	h.facts.Seen = append(h.facts.Seen, e)
}
