package control_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/control"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/store/storetest"
)

// bench is a machine over a model, with an engine that has every node alive.
type bench struct {
	t     *testing.T
	m     *control.Machine
	store *storetest.Model
	now   time.Time
	done  []control.Effect
}

// newBench has n idle nodes from an earlier life, of which the first has been
// silent for hours, as far as the rows can tell.
func newBench(t *testing.T, n int) *bench {
	b := &bench{t: t, store: storetest.NewModel(), now: noon, m: control.New(control.Config{Installation: installation, Term: 2})}
	changes := []row.Change{row.Put(fleet.Cluster{ID: "c", Name: "c", Prefix: "c", Min: n, Max: n + 1, IdleAfter: time.Hour, Generation: 1})}
	for i := range n {
		changes = append(changes, row.Put(fleet.Node{
			ID: fmt.Sprintf("c-%d", i), Cluster: "c", Number: int64(i), State: fleet.Idle, Since: noon.Add(-5 * time.Hour), IdleSince: noon, Revision: 1,
		}))
	}
	if _, err := b.store.Commit(context.Background(), changes...); err != nil {
		t.Fatal(err)
	}
	b.turn()
	return b
}

// turn lets the machine look, and does what it says until it is content.
func (b *bench) turn() {
	for range 20 {
		effects := b.m.Turn(b.now, b.store.View())
		if len(effects) == 0 {
			return
		}
		for _, e := range effects {
			b.done = append(b.done, e)
			switch e := e.(type) {
			case control.Commit:
				_, err := b.store.Commit(context.Background(), e.Changes...)
				b.m.Committed(b.now, b.store.View(), err)
			case control.List:
				var all []engine.Seen
				for n := range b.store.View().Nodes() {
					all = append(all, engine.Seen{Node: n.ID, Alive: true})
				}
				b.m.Listed(b.now, all, nil)
			case control.Measure:
				b.m.Measured(b.now, engine.Capacity{Oversubscribe: true}, nil)
			}
		}
	}
	b.t.Fatal("the machine is never content")
}

// pass lets time go by, second by second, with these nodes' agents connected.
func (b *bench) pass(d time.Duration, beating ...int64) {
	for range int(d / time.Second) {
		b.now = b.now.Add(time.Second)
		for _, s := range beating {
			b.m.Beat(b.now, s)
		}
		b.turn()
	}
}

func (b *bench) connect(session int64, node int) {
	b.m.Connected(b.now, session, nodeproto.Hello{Version: nodeproto.Version, Node: fmt.Sprintf("c-%d", node), Installation: installation})
	b.turn()
}

func (b *bench) states() map[fleet.NodeState]int {
	out := map[fleet.NodeState]int{}
	for n := range b.store.View().Nodes() {
		out[n.State]++
	}
	return out
}

func TestSilenceCountsOnlyWhileWatched(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.pass(control.SilentAfter - time.Second)
	if got := b.states(); got[fleet.Idle] != 1 {
		t.Fatalf("%v before the window of this life was over, want 1 idle", got)
	}
	b.now = b.now.Add(time.Hour) // nobody called the machine for an hour
	b.turn()
	b.pass(control.SilentAfter - time.Second)
	if got := b.states(); got[fleet.Idle] != 1 {
		t.Fatalf("%v after a stall, want 1 idle: the window opens anew", got)
	}
	b.pass(3 * time.Second)
	if got := b.states(); got[fleet.Removing] != 1 || got[fleet.Launching] != 1 {
		t.Errorf("%v after the window, want the silent one removed and another launched", got)
	}
}

func TestConnectedNodeIsNotSilent(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.connect(1, 0)
	b.pass(5*control.SilentAfter, 1)
	if got := b.states(); got[fleet.Idle] != 1 || len(got) != 1 {
		t.Fatalf("%v while the agent is heard, want 1 idle", got)
	}
	b.pass(control.SilentAfter + 2*time.Second) // the connection stands, and nothing comes
	if got := b.states(); got[fleet.Idle] != 0 {
		t.Errorf("%v after the connection fell silent, want none idle", got)
	}
}

func TestManySilentNodesAreNotReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, 6)
	var alive []int64
	for n := range 4 {
		b.connect(int64(n+1), n)
		alive = append(alive, int64(n+1))
	}
	b.pass(2*control.SilentAfter, alive...) // two of six say nothing
	if got := b.states(); got[fleet.Idle] != 4 || got[fleet.Unusable] != 2 {
		t.Fatalf("%v, want 4 idle and 2 unusable that wait", got)
	}
	s, _ := b.store.View().ClusterStatus("c")
	b.connect(9, 4)
	b.pass(3*time.Second, append(alive, 9)...) // one of six is no pattern any more
	if got := b.states(); got[fleet.Idle] != 5 || got[fleet.Removing] != 1 {
		t.Errorf("%v after one is heard again, want 5 idle and the other replaced (status before: %+v)", got, s)
	}
}

func TestNodeThatNeverSaysHelloIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	if _, err := b.store.Commit(context.Background(), row.Put(fleet.Cluster{ID: "c", Name: "c", Prefix: "c", Min: 1, Max: 1, Generation: 2})); err != nil {
		t.Fatal(err)
	}
	b.turn()
	b.m.Launched(b.now, "c-0", nil)
	b.pass(control.HelloWithin - time.Second)
	if got := b.states(); got[fleet.Launching] != 1 {
		t.Fatalf("%v, want 1 launching", got)
	}
	b.pass(3 * time.Second)
	if got := b.states(); got[fleet.Removing] != 1 {
		t.Fatalf("%v, want it removed", got)
	}
	b.m.Removed(b.now, "c-0", nil)
	b.pass(3 * time.Second)
	if _, ok := b.store.View().Node("c-1"); !ok {
		t.Errorf("%v, want a successor", b.states())
	}
}

func TestEventsAreInOrderWithThoseOfOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.pass(control.SilentAfter + 3*time.Second) // the node is given up, which is an event
	found := 0
	for _, e := range b.done {
		commit, ok := e.(control.Commit)
		if !ok {
			continue
		}
		for _, c := range commit.Changes {
			d, ok := c.Put.(row.Document)
			if !ok {
				continue
			}
			found++
			if before, after := row.SortTime(d.Created.Add(-time.Nanosecond)), row.SortTime(d.Created.Add(time.Nanosecond)); d.Sort <= before || d.Sort >= after {
				t.Errorf("event of %s has the place %q, want it between %q and %q", d.Created, d.Sort, before, after)
			}
		}
	}
	if found == 0 {
		t.Error("no event was written")
	}
}

func TestWarningsOfNodesComeToTheirRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	gpu := "STANDARD_NC6 has 1 GPUs; the node runs with the 0 that this machine has."
	apart := "This node cannot give jobs users of their own: they are kept apart by Landlock alone."
	long := strings.Repeat("ö", 400)
	hello := func(session int64, node string, isolation string, warnings ...string) {
		b.m.Connected(b.now, session, nodeproto.Hello{
			Version: nodeproto.Version, Node: node, Installation: installation, Isolation: isolation, Warnings: warnings,
		})
		b.turn()
	}
	hello(1, "c-0", "landlock", gpu, "two\n lines", long)
	hello(2, "c-1", "landlock", gpu, apart)
	n0, _ := b.store.View().Node("c-0")
	n1, _ := b.store.View().Node("c-1")
	if w := n0.Warnings; len(w) != 4 || !strings.Contains(w[0], "Landlock alone") || w[1] != gpu || w[2] != "two lines" ||
		len(w[3]) > 500 || !utf8.ValidString(w[3]) || !strings.HasSuffix(w[3], "ö…") {
		t.Errorf("warnings of c-0: %q", w)
	}
	if w := n1.Warnings; !slices.Equal(w, []string{gpu, apart}) {
		t.Errorf("warnings of c-1: %q, want isolation said once, by its own words", w)
	}

	run := queue.Run{ID: "r", Cluster: "c", Nodes: 2, Submitted: b.now}
	if _, err := b.store.Commit(context.Background(), row.Put(run), row.Put(queue.Status{ID: "r", State: queue.Queued})); err != nil {
		t.Fatal(err)
	}
	b.turn()
	rs, _ := b.store.View().RunStatus("r")
	if rs.State != queue.Starting || len(rs.Notes) != 5 || !slices.Contains(rs.Notes, gpu) || !slices.Contains(rs.Notes, apart) {
		t.Errorf("%s with notes %q, want Starting with the 5 sentences of both nodes, each once", rs.State, rs.Notes)
	}

	hello(3, "c-0", "user+landlock") // its agent came back with more rights
	if n, _ := b.store.View().Node("c-0"); len(n.Warnings) != 0 {
		t.Errorf("warnings of c-0 after another hello: %q, want none", n.Warnings)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	var many []string
	for i := range 50 {
		many = append(many, fmt.Sprintf("Number %d.", i))
	}
	b.m.Connected(b.now, 1, nodeproto.Hello{Version: nodeproto.Version, Node: "c-0", Installation: installation, Isolation: "none", Warnings: many})
	b.turn()
	if n, _ := b.store.View().Node("c-0"); len(n.Warnings) != 10 || !strings.Contains(n.Warnings[0], "keep jobs apart") {
		t.Errorf("%d warnings: %q", len(n.Warnings), n.Warnings)
	}
}
