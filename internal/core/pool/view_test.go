package pool_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

var viewEpoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// rebuild makes a view from rows alone, in an order that means nothing.
func rebuild(rows map[row.Key]row.Row) *pool.View {
	var all []row.Change
	for _, r := range rows {
		all = append(all, row.Put(r))
	}
	return pool.New().Apply(all...)
}

// A few ids, so that changes meet; and every kind, hot or not.
func drawChange(t *rapid.T, rows map[row.Key]row.Row) []row.Change {
	n := rapid.IntRange(0, 5).Draw(t, "n")
	cluster := fmt.Sprint("/c", rapid.IntRange(0, 2).Draw(t, "cluster"))
	run := fmt.Sprint("run", n)
	moment := viewEpoch.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "s")) * time.Second)
	wish := queue.Run{ID: run, Cluster: cluster, Priority: rapid.IntRange(0, 1).Draw(t, "priority"), Submitted: moment}
	switch rapid.IntRange(0, 8).Draw(t, "verb") {
	case 0:
		return []row.Change{row.Put(fleet.Cluster{ID: cluster, Max: n})}
	case 1:
		return []row.Change{row.Put(fleet.Status{ID: cluster, Target: n, Errors: []fleet.Problem{{Code: "x"}}})}
	case 2:
		return []row.Change{row.Put(fleet.Node{ID: fmt.Sprint("node", n), Cluster: cluster, Number: int64(5 - n), State: fleet.Idle})}
	case 3: // submitted: in either order
		both := []row.Change{row.Put(wish), row.Put(queue.Status{ID: run, State: queue.Queued, Since: moment})}
		if rapid.Bool().Draw(t, "status first") {
			slices.Reverse(both)
		}
		return both
	case 4: // the wish again: cancelled, or moved in the queue, perhaps after its end
		return []row.Change{row.Put(wish)}
	case 5: // a move of a run that is there; ended runs stay ended (queue.CanMove)
		if s, ok := rows[row.Key{Kind: row.RunStatus, ID: run}].(queue.Status); ok && !s.State.Final() {
			s.State = rapid.SampledFrom([]queue.State{queue.Starting, queue.Running, queue.Completed, queue.Failed}).Draw(t, "state")
			return []row.Change{row.Put(s)}
		}
		return nil
	case 6:
		phase := rapid.SampledFrom([]queue.Phase{queue.Placed, queue.InRunning, queue.Ended}).Draw(t, "phase")
		return []row.Change{row.Put(queue.Attempt{ID: fmt.Sprint(run, ".", n%2), N: n % 2, Run: run, Phase: phase})}
	case 7:
		state := rapid.SampledFrom([]operation.State{operation.InProgress, operation.Succeeded}).Draw(t, "op")
		return []row.Change{row.Put(operation.Operation{ID: fmt.Sprint("op", n), Status: state, Started: moment})}
	}
	kind := rapid.SampledFrom([]row.Kind{row.Cluster, row.ClusterStatus, row.Node, row.Run, row.RunStatus, row.Attempt, row.Operation, row.Job}).Draw(t, "kind")
	ids := map[row.Kind]string{
		row.Cluster: cluster, row.ClusterStatus: cluster, row.Node: fmt.Sprint("node", n), row.Run: run, row.RunStatus: run,
		row.Attempt: fmt.Sprint(run, ".", n%2), row.Operation: fmt.Sprint("op", n),
	}
	return []row.Change{row.Drop(row.Key{Kind: kind, ID: ids[kind]})}
}

// What the store counts on when it opens: the rows alone make the same view that
// folding their history made. And no view changes once it is handed out.
func TestFoldingAnyHistoryEqualsRebuildingFromItsRows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := pool.New()
		rows := map[row.Key]row.Row{}
		digests := map[*pool.View]string{v: v.Digest()}
		for range rapid.IntRange(1, 60).Draw(t, "commits") {
			var commit []row.Change
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				some := drawChange(t, rows)
				commit = append(commit, some...)
				for _, c := range some {
					if c.Put == nil {
						delete(rows, c.Drop)
					} else {
						rows[c.Put.Key()] = c.Put
					}
				}
			}
			v = v.Apply(commit...)
			digests[v] = v.Digest()
			if diff := pool.Differ(v, rebuild(rows)); diff != "" {
				t.Fatalf("after %+v: folded against rebuilt: %s", commit, diff)
			}
		}
		for old, digest := range digests {
			if old.Digest() != digest {
				t.Fatal("a view changed after it was handed out")
			}
		}
	})
}

func TestAViewHoldsWhatIsLive(t *testing.T) {
	t.Parallel()
	run := func(id string, priority int, second int) queue.Run {
		return queue.Run{ID: id, Cluster: "/c", Priority: priority, Submitted: viewEpoch.Add(time.Duration(second) * time.Second)}
	}
	status := func(id string, s queue.State) row.Change { return row.Put(queue.Status{ID: id, State: s}) }
	base := pool.New().Apply(
		row.Put(run("late", 0, 9)), row.Put(run("early", 0, 1)), row.Put(run("vip", 5, 10)),
		status("late", queue.Queued), status("early", queue.Queued), status("vip", queue.Queued),
		row.Put(fleet.Cluster{ID: "/c"}),
		row.Put(fleet.Node{ID: "n-10", Cluster: "/c", Number: 10}), row.Put(fleet.Node{ID: "n-9", Cluster: "/c", Number: 9}),
		row.Put(queue.Attempt{ID: "early.1", Run: "early", N: 1, Phase: queue.Ended}),
		row.Put(queue.Attempt{ID: "early.2", Run: "early", N: 2, Phase: queue.Placed}),
	)
	order := func(v *pool.View) string {
		var ids []string
		for r := range v.RunsOf("/c") {
			ids = append(ids, r.ID)
		}
		return fmt.Sprint(ids)
	}
	for name, tt := range map[string]struct {
		got  func() string
		want string
	}{
		"runs are in serving order":                        {func() string { return order(base) }, "[vip early late]"},
		"nodes are by number":                              {func() string { return fmt.Sprintf("%s %d", base.NodesOf("/c")[0].ID, base.NodeCount("/c")) }, "n-9 2"},
		"a run leaves with its final status":               {func() string { return order(base.Apply(status("vip", queue.Failed))) }, "[early late]"},
		"a cancelled wish keeps its place":                 {func() string { r := run("early", 0, 1); r.Cancel = true; return order(base.Apply(row.Put(r))) }, "[vip early late]"},
		"a new priority moves a run":                       {func() string { return order(base.Apply(row.Put(run("late", 9, 9)))) }, "[late vip early]"},
		"a run without a status does not enter":            {func() string { return order(base.Apply(row.Put(run("x", 0, 0)))) }, "[vip early late]"},
		"a wish after the end does not bring a run back":   {func() string { return order(base.Apply(status("vip", queue.Failed)).Apply(row.Put(run("vip", 5, 10)))) }, "[early late]"},
		"a run put and ended in one commit does not enter": {func() string { return order(base.Apply(row.Put(run("x", 0, 0)), status("x", queue.Failed))) }, "[vip early late]"},
		"a run put and dropped in one commit is gone": {func() string {
			return order(base.Apply(row.Put(run("vip", 5, 10)), row.Drop(row.Key{Kind: row.Run, ID: "vip"})))
		}, "[early late]"},
		"the live attempt is found by its run": {func() string { a, ok := base.AttemptOf("early"); return fmt.Sprintf("%s %v", a.ID, ok) }, "early.2 true"},
		"an ended attempt is not":              {func() string { _, ok := base.Attempt("early.1"); return fmt.Sprint(ok) }, "false"},
		"a dropped cluster is gone": {func() string {
			_, ok := base.Apply(row.Drop(row.Key{Kind: row.Cluster, ID: "/c"})).Cluster("/c")
			return fmt.Sprint(ok)
		}, "false"},
		"an operation leaves when it is final": {func() string {
			v := base.Apply(row.Put(operation.Operation{ID: "o", Status: operation.InProgress}))
			w := v.Apply(row.Put(operation.Operation{ID: "o", Status: operation.Succeeded}))
			return fmt.Sprint(len(slices.Collect(v.Operations())), len(slices.Collect(w.Operations())))
		}, "1 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.got(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A commit among 100,000 runs may not cost what 100,000 runs cost.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var all []row.Change
			for i := range n {
				r := queue.Run{ID: fmt.Sprintf("%032x", i*7919), Cluster: fmt.Sprint("/c", i%2), Submitted: viewEpoch.Add(time.Duration(i*7919%n) * time.Second)}
				all = append(all, row.Put(r), row.Put(queue.Status{ID: r.ID, State: queue.Queued}))
			}
			v := pool.New().Apply(all...)
			i := 0
			for b.Loop() {
				r := queue.Run{ID: fmt.Sprint("new", i%100), Cluster: "/c1", Submitted: viewEpoch.Add(time.Duration(i*7919%n) * time.Second)}
				w := v.Apply(row.Put(r), row.Put(queue.Status{ID: r.ID, State: queue.Queued}))
				v = w.Apply(row.Put(queue.Status{ID: r.ID, State: queue.Completed}))
				i++
			}
		})
	}
}
