package pool

import (
	"maps"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/cow"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// Dirt knows which clusters the next [Decide] has to look at, so that one changed
// row does not cost a look at all of them: those whose rows have changed since the
// last one, and those whose time has come. Decide gives the same plan for them as
// for all. The zero Dirt is all.
type Dirt struct {
	seen  *View           // of the last Decide; nil: look at all
	looks map[string]Look // the last one at each cluster
}

// All makes the next look one at everything: what all clusters depend on is new.
func (d *Dirt) All() { d.seen = nil }

// Look returns what Facts.Dirty is to be: nil for all, and never nil for none.
func (d *Dirt) Look(v *View, now time.Time) []string {
	if d.seen == nil {
		return nil
	}
	dirty := v.since(d.seen)
	for id, l := range d.looks {
		if !l.Again.IsZero() && !now.Before(l.Again) {
			dirty[id] = true
		}
	}
	return append([]string{}, slices.Sorted(maps.Keys(dirty))...)
}

// Looks returns what Facts.Looks is to be, until Decided is called.
func (d *Dirt) Looks() map[string]Look { return d.looks }

// Decided takes in what was looked at. A plan that came to nothing calls for All.
func (d *Dirt) Decided(v *View, p Plan) {
	if d.seen == nil {
		d.looks = map[string]Look{}
	}
	d.seen = v
	for id, l := range p.Looked {
		if l == (Look{}) { // it is gone
			delete(d.looks, id)
		} else {
			d.looks[id] = l
		}
	}
}

// Next is when to look again though nothing changes; zero: never.
func (d *Dirt) Next() (next time.Time) {
	for _, l := range d.looks {
		next = sooner(next, l.Again)
	}
	return next
}

// since returns the clusters that have rows which are not what they were in old.
func (v *View) since(old *View) map[string]bool {
	dirty := map[string]bool{}
	changed(v.clusters, old.clusters, func(id string, _ *fleet.Cluster) { dirty[id] = true })
	changed(v.statuses, old.statuses, func(id string, _ *fleet.Status) { dirty[id] = true })
	changed(v.nodes, old.nodes, func(_ string, n *fleet.Node) { dirty[n.Cluster] = true })
	changed(v.runs, old.runs, func(_ string, r *queue.Run) { dirty[r.Cluster] = true })
	changed(v.attempts, old.attempts, func(_ string, a *queue.Attempt) { dirty[a.Cluster] = true })
	changed(v.operations, old.operations, func(_ string, o *operation.Operation) { dirty[o.Target] = true })
	changed(v.runStatus, old.runStatus, func(id string, _ *queue.Status) {
		for _, w := range []*View{old, v} {
			if r, ok := w.runs.Get(id); ok {
				dirty[r.Cluster] = true
			}
		}
	})
	return dirty
}

// changed gives f what differs between two maps: what was, and what is.
func changed[T any](now, old cow.Map[*T], f func(id string, v *T)) {
	for id := range now.Unlike(old, func(a, b *T) bool { return a == b }) {
		for _, m := range []cow.Map[*T]{old, now} {
			if v, ok := m.Get(id); ok {
				f(id, v)
			}
		}
	}
}
