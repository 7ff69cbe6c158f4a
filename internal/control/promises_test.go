package control_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

func cameEvent(d nodeproto.Desired) node.Event { return node.Came{Desired: d} }

// status reads a run's status as a user does.
func (w *world) status(run string) queue.Status {
	rec, err := w.store.Get(context.Background(), row.Key{Kind: row.RunStatus, ID: run})
	if err != nil {
		w.fail("the status of acknowledged run %s is lost: %v", run, err)
		return queue.Status{}
	}
	return rec.Row.(queue.Status)
}

// committed checks every change that reached the disk against what was there.
// view is what the plan was made from; nil for a user's wish.
func (w *world) committed(view *pool.View, changes []row.Change) {
	for _, c := range changes {
		k := c.Drop
		if c.Put != nil {
			k = c.Put.Key()
		}
		was, had := w.last[k]
		switch r := c.Put.(type) {
		case fleet.Node:
			w.checkNode(view, r, was, had)
		case queue.Status:
			w.checkRun(r, was, had)
		case queue.Attempt:
			w.checkAttempt(r, had)
		}
		if c.Put == nil {
			if n, ok := was.(fleet.Node); ok && n.State != fleet.Removing {
				w.fail("node %s is forgotten while it is %s", n.ID, n.State)
			}
			delete(w.last, k)
			continue
		}
		w.last[k] = c.Put
	}
	if view != nil {
		w.checkCounts(view)
	}
}

// checkDirt holds that a plan is what it were if everything had been looked at.
func (w *world) checkDirt(v *pool.View, f pool.Facts, now time.Time, p pool.Plan, next time.Time) {
	f.Dirty = nil
	want := pool.Decide(v, f, now)
	if got, want := fmt.Sprint(p.Actions, p.Changes, next), fmt.Sprint(want.Actions, want.Changes, want.Recheck); got != want {
		w.fail("looking at what changed plans\n%s\nlooking at all\n%s", got, want)
	}
}

func (w *world) checkNode(view *pool.View, n fleet.Node, was row.Row, had bool) {
	if !had {
		if n.State != fleet.Launching {
			w.fail("node %s begins as %s", n.ID, n.State)
		}
		return
	}
	old := was.(fleet.Node)
	if n.Revision < old.Revision {
		w.fail("revision of node %s goes from %d to %d", n.ID, old.Revision, n.Revision)
	}
	if n.State == fleet.Draining && old.State == fleet.Idle {
		c, ok := view.Cluster(n.Cluster)
		over := view.NodeCount(n.Cluster) > c.Max
		if ok && !c.Deleting && !over && n.Since.Sub(old.IdleSince) < c.IdleAfter {
			w.fail("node %s is drained after idling %v of %v", n.ID, n.Since.Sub(old.IdleSince), c.IdleAfter)
		}
	}
	if n.State == fleet.Draining && n.Attempt != "" {
		w.fail("node %s is drained while it holds %s", n.ID, n.Attempt)
	}
	if old.State == fleet.Busy && n.State == fleet.Busy && n.Attempt != old.Attempt && runOf(n.Attempt) == runOf(old.Attempt) && n.Attempt < old.Attempt {
		w.fail("node %s goes back from %s to %s", n.ID, old.Attempt, n.Attempt)
	}
}

func (w *world) checkRun(s queue.Status, was row.Row, had bool) {
	if !had {
		return
	}
	old := was.(queue.Status)
	if old.State.Final() {
		w.fail("run %s is %s and becomes %s", s.ID, old.State, s.State)
	}
	if s.Attempts < old.Attempts || s.Attempts > 3 {
		w.fail("run %s has %d attempts after %d", s.ID, s.Attempts, old.Attempts)
	}
	if s.State == queue.Queued && old.State != queue.Queued {
		w.stats.requeued++
	}
}

func (w *world) checkAttempt(a queue.Attempt, had bool) {
	if had {
		return
	}
	if a.Fence <= w.fence {
		w.fail("attempt %s has fence %d, not above %d", a.ID, a.Fence, w.fence)
	}
	w.fence = a.Fence
	if j := w.runs[a.Run]; len(a.Members) != j.run.Nodes {
		w.fail("attempt %s has %d of %d nodes", a.ID, len(a.Members), j.run.Nodes)
	}
}

// checkCounts: a plan never takes a cluster past the max it was made with.
func (w *world) checkCounts(view *pool.View) {
	now := w.store.View()
	for c := range view.Clusters() {
		if n := now.NodeCount(c.ID); n > max(c.Max, view.NodeCount(c.ID)) {
			w.fail("cluster %s has %d nodes, at most %d are allowed", c.Name, n, c.Max)
		}
	}
}

// unrest names what is not yet as it must be in the end.
func (w *world) unrest() []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	v := w.store.View()
	if w.server == nil {
		add("the server is down")
	}
	for id := range w.runs {
		if rec, err := w.store.Get(context.Background(), row.Key{Kind: row.RunStatus, ID: id}); err == nil {
			s := rec.Row.(queue.Status)
			if s.State.Final() {
				continue
			}
			if c, ok := v.Cluster(w.runs[id].run.Cluster); ok && !s.State.Final() && s.State == queue.Queued && w.runs[id].run.Nodes > w.most(c) {
				continue // waits for its user
			}
			add("run %s is %s (%s)", id, s.State, s.Why)
		}
	}
	for o := range v.Operations() {
		add("operation %s is not over", o.ID)
	}
	for c := range v.Clusters() {
		s, _ := v.ClusterStatus(c.ID)
		want := min(c.Min, w.room())
		switch n := v.NodeCount(c.ID); {
		case c.Deleting:
			add("cluster %s is still there", c.Name)
		case n > max(want, c.Min) || n < want && w.plenty():
			add("cluster %s has %d nodes, want %d (%s)", c.Name, n, want, s.Why)
		}
		for _, n := range v.NodesOf(c.ID) {
			if n.State != fleet.Idle && w.plenty() {
				add("node %s is %s (%s)", n.ID, n.State, n.Why)
			}
		}
	}
	all, err := w.engine.List(context.Background())
	for _, n := range all {
		if _, ok := v.Node(n.Node); !ok {
			add("node %s is the engine's and nobody's", n.Node)
		}
	}
	if err != nil {
		add("list: %v", err)
	}
	return out
}

// most is how many nodes a cluster can ever have beside what others keep.
func (w *world) most(c fleet.Cluster) int {
	others := 0
	for o := range w.store.View().Clusters() {
		if o.ID != c.ID {
			others += o.Min
		}
	}
	m := min(c.Max, w.room()-others)
	if !w.engine.Has.Oversubscribe {
		m = min(m, w.engine.Has.VCPUs/c.Size.VCPUs-others)
	}
	return m
}

func (w *world) room() int {
	if w.engine.Room > 0 {
		return w.engine.Room
	}
	return 1 << 20
}

// plenty reports whether the engine can hold every cluster's min besides one
// another; otherwise clusters wait for each other for good.
func (w *world) plenty() bool {
	total := 0
	for c := range w.store.View().Clusters() {
		total += c.Min
	}
	return total <= w.room() && (w.engine.Has.Oversubscribe || total*4 <= w.engine.Has.VCPUs)
}

// checkEnd checks what must hold once all is at rest.
func (w *world) checkEnd() {
	if len(w.failed) > 0 {
		return
	}
	for _, u := range w.unrest() {
		w.fail("in the end %s", u)
	}
	for id, j := range w.runs {
		w.checkOutcome(id, j)
	}
	for id := range w.deleted {
		for _, kind := range []row.Kind{row.Cluster, row.ClusterStatus, row.Compute} {
			if _, err := w.store.Get(context.Background(), row.Key{Kind: kind, ID: id}); err == nil {
				w.fail("the %s of deleted %s is still there", kind, id)
			}
		}
	}
	page, err := w.store.List(context.Background(), row.Query{Kind: row.Operation})
	if err != nil {
		w.fail("list operations: %v", err)
	}
	for _, rec := range page.Records {
		if o := rec.Row.(operation.Operation); o.Status != operation.Succeeded {
			w.fail("operation %s ends %s", o.ID, o.Status)
		}
	}
	if diff := pool.Differ(w.store.View(), w.store.Rebuild()); diff != "" {
		w.fail("the view is not what the rows say: %s", diff)
	}
	for id, m := range w.machines {
		for attempt, f := range m.disk {
			if f.alive {
				w.fail("process of %s still runs on %s", attempt, id)
			}
		}
	}
}

// checkOutcome compares what a run's user is told with what its processes did.
func (w *world) checkOutcome(id string, j *job) {
	s := w.status(id)
	exits := w.exits[fmt.Sprintf("%s.%d", id, s.Attempts)]
	switch s.State {
	case queue.Completed:
		w.stats.completed++
		if j.run.Nodes > 1 {
			w.stats.gangs++
		}
		if j.run.Leaders > 0 {
			w.stats.led++
			well := func(e queue.Exit) bool { return e.Cause == queue.ByExit && e.Code == 0 }
			exits = slices.DeleteFunc(slices.Clone(exits), func(e queue.Exit) bool { return !well(e) }) // the others are as the stop left them
		}
		if least := cmp.Or(j.run.Leaders, j.run.Nodes); len(exits) < least {
			w.fail("run %s is Completed after %d of %d exits", id, len(exits), least)
		}
		for _, e := range exits {
			if e.Cause != queue.ByExit || e.Code != 0 {
				w.fail("run %s is Completed after %+v", id, e)
			}
		}
		if s.Started.IsZero() {
			w.fail("run %s is Completed and never started", id)
		}
	case queue.Failed:
		if s.Failure.Code == "UserError" && j.code == 0 && !j.badSetup {
			w.fail("run %s is Failed by its user, who did nothing wrong: %+v", id, s.Failure)
		}
		broke, ok := w.broke[fmt.Sprintf("%s.%d", id, s.Attempts)]
		if took := s.Ended.Sub(broke); ok && !w.faults && took > 2*time.Second {
			w.fail("run %s ends %v after its first process failed", id, took)
		}
		if s.Failure.Code == "NodeLost" && s.Attempts < 3 {
			w.fail("run %s is given up after %d attempts", id, s.Attempts)
		}
	case queue.Canceled:
		w.stats.cancelled++
		if j.cancelled.IsZero() && !w.deleted[j.run.Cluster] && s.Failure.Code != "JobTimeout" {
			w.fail("run %s is Canceled, and nobody asked for it: %+v", id, s.Failure)
		}
	}
	if !j.cancelled.IsZero() {
		if s.State != queue.Canceled && s.Ended.After(j.cancelled) { // one that was decided before cannot be taken back
			w.fail("run %s was cancelled and is %s", id, s.State)
		} else if took := s.Ended.Sub(j.cancelled); !w.faults && took > 10*time.Second {
			w.fail("cancelling %s took %v", id, took)
		}
	}
	if s.State.Final() && (s.Ended.IsZero() || s.Why != "") {
		w.fail("run %s ended without a time, or still waits for %q", id, s.Why)
	}
}
