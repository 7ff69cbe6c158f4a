// Package enginetest is the contract of [engine.Driver], as tests. Every engine
// passes it; a bug found in one becomes a promise of all.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Harness says how to reach one engine in a test.
type Harness struct {
	// Open returns an empty engine with room for any number of nodes.
	Open func(t *testing.T) engine.Driver
	// Full returns an empty engine with room for two nodes of [Size]. Nil where
	// the engine sets no limit.
	Full func(t *testing.T) engine.Driver
	// Reopen returns a second handle to the same engine, as after a restart of
	// the server. Nil where the engine keeps nothing.
	Reopen func(t *testing.T, d engine.Driver) engine.Driver
	// Kill lets a node die as hardware does, without the engine's doing.
	Kill func(t *testing.T, d engine.Driver, node string)
}

// Installation is whose nodes the tests start.
const Installation = "0a6f3f0c-0000-4000-8000-000000000001"

// Size is what the tests' nodes are.
var Size = fleet.Size{Name: "STANDARD_DS1_V2", Family: "standardDSv2Family", VCPUs: 1, MemoryGiB: 3.5}

// settleWithin is how long an engine may take to notice a death, or to finish
// what it does beside a call.
const settleWithin = 20 * time.Second

// Spec returns what starts the tests' node id.
func Spec(id string) engine.Spec {
	return engine.Spec{Node: id, Cluster: "contract", Size: Size, Installation: Installation, Token: "token-of-" + id}
}

// Run checks every promise an engine makes.
func Run(t *testing.T, h Harness) {
	tests := []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"an empty engine lists nothing", empty},
		{"a launched node is listed alive at once", launchThenList},
		{"a list tells whose a node is", whose},
		{"launching twice makes one node", launchTwice},
		{"launching at once makes one node", launchAtOnce},
		{"different nodes launch at once", launchMany},
		{"a removed node is not listed", removeThenList},
		{"removing an unknown node is no error", removeUnknown},
		{"removing twice is no error", removeTwice},
		{"removing at once is no error", removeAtOnce},
		{"a removed node may be asked for again", launchAgain},
		{"launching and removing at once leaves nothing after one more remove", launchAndRemove},
		{"a cancelled call starts nothing", cancelled},
		{"a full engine says exhausted", full},
		{"a full engine still knows its own", fullButHeld},
		{"room is free again after a removal", roomAgain},
		{"nodes outlive the handle", reopen},
		{"a new handle can remove what an old one launched", reopenRemove},
		{"a dead node is listed dead until it is removed", deadNode},
		{"a dead node does not harm the others", deadBesides},
		{"capacity does not change with use", capacity},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.test(t, h)
		})
	}
}

func open(t *testing.T, h Harness, nodes ...string) engine.Driver {
	t.Helper()
	d := h.Open(t)
	tidy(t, d)
	for _, id := range nodes {
		must(t, d.Launch(t.Context(), Spec(id)))
	}
	return d
}

// tidy removes whatever a test leaves, so that no engine keeps processes.
func tidy(t *testing.T, d engine.Driver) {
	t.Cleanup(func() {
		ctx := context.Background() // the test's own is over
		all, err := d.List(ctx)
		if err != nil {
			t.Errorf("list at the end: %v", err)
		}
		for _, n := range all {
			if err := d.Remove(ctx, n.Node); err != nil {
				t.Errorf("remove %s at the end: %v", n.Node, err)
			}
		}
	})
}

func empty(t *testing.T, h Harness) { wantNodes(t, open(t, h)) }

func launchThenList(t *testing.T, h Harness) {
	wantNodes(t, open(t, h, "a-0"), "a-0")
}

// whose: also what another installation, or another epoch of ours, left.
func whose(t *testing.T, h Harness) {
	d := open(t, h)
	ours, older := Spec("a-0"), Spec("b-0")
	older.Installation, older.Epoch, older.Cluster = "another", 41, "b"
	must(t, d.Launch(t.Context(), ours))
	must(t, d.Launch(t.Context(), older))
	all, err := d.List(t.Context())
	must(t, err)
	for _, n := range all {
		want := map[string]engine.Spec{"a-0": ours, "b-0": older}[n.Node]
		if n.Installation != want.Installation || n.Epoch != want.Epoch || n.Cluster != want.Cluster || n.Size != want.Size || len(n.Attempts) > 0 {
			t.Errorf("listed %+v, want it as it was launched: %+v", n, want)
		}
	}
	if len(all) != 2 {
		t.Errorf("%d nodes are listed, want both", len(all))
	}
}

func launchTwice(t *testing.T, h Harness) {
	wantNodes(t, open(t, h, "a-0", "a-0"), "a-0")
}

func launchAtOnce(t *testing.T, h Harness) {
	d := open(t, h)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := d.Launch(t.Context(), Spec("a-0")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantNodes(t, d, "a-0")
	must(t, d.Remove(t.Context(), "a-0"))
	wantNodes(t, d)
}

func launchMany(t *testing.T, h Harness) {
	d := open(t, h)
	var wg sync.WaitGroup
	var ids []string
	for i := range 4 {
		id := fmt.Sprintf("a-%d", i)
		ids = append(ids, id)
		wg.Go(func() {
			if err := d.Launch(t.Context(), Spec(id)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantNodes(t, d, ids...)
}

func removeThenList(t *testing.T, h Harness) {
	d := open(t, h, "a-0", "a-1")
	must(t, d.Remove(t.Context(), "a-0"))
	wantNodes(t, d, "a-1")
}

func removeUnknown(t *testing.T, h Harness) {
	must(t, open(t, h).Remove(t.Context(), "never-0"))
}

func removeTwice(t *testing.T, h Harness) {
	d := open(t, h, "a-0")
	must(t, d.Remove(t.Context(), "a-0"))
	must(t, d.Remove(t.Context(), "a-0"))
	wantNodes(t, d)
}

func removeAtOnce(t *testing.T, h Harness) {
	d := open(t, h, "a-0")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := d.Remove(t.Context(), "a-0"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantNodes(t, d)
}

func launchAgain(t *testing.T, h Harness) {
	d := open(t, h, "a-0")
	must(t, d.Remove(t.Context(), "a-0"))
	must(t, d.Launch(t.Context(), Spec("a-0")))
	wantNodes(t, d, "a-0")
}

func launchAndRemove(t *testing.T, h Harness) {
	d := open(t, h)
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.Launch(t.Context(), Spec("a-0")) }) // either may win; what counts is the end
	wg.Go(func() { _ = d.Remove(t.Context(), "a-0") })
	wg.Wait()
	must(t, d.Remove(t.Context(), "a-0"))
	wantNodes(t, d)
}

func cancelled(t *testing.T, h Harness) {
	d := open(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Launch(ctx, Spec("a-0")); !errors.Is(err, context.Canceled) {
		t.Fatalf("launch: %v, want %v", err, context.Canceled)
	}
	wantNodes(t, d)
}

func openFull(t *testing.T, h Harness) engine.Driver {
	t.Helper()
	if h.Full == nil {
		t.Skip("this engine sets no limit")
	}
	d := h.Full(t)
	tidy(t, d)
	must(t, d.Launch(t.Context(), Spec("a-0")))
	must(t, d.Launch(t.Context(), Spec("a-1")))
	return d
}

func full(t *testing.T, h Harness) {
	d := openFull(t, h)
	if err := d.Launch(t.Context(), Spec("a-2")); !errors.Is(err, fault.Exhausted) {
		t.Fatalf("third launch: %v, want %v", err, fault.Exhausted)
	}
	wantNodes(t, d, "a-0", "a-1")
}

func fullButHeld(t *testing.T, h Harness) {
	d := openFull(t, h)
	must(t, d.Launch(t.Context(), Spec("a-1")))
	wantNodes(t, d, "a-0", "a-1")
}

func roomAgain(t *testing.T, h Harness) {
	d := openFull(t, h)
	must(t, d.Remove(t.Context(), "a-0"))
	must(t, d.Launch(t.Context(), Spec("a-2")))
	wantNodes(t, d, "a-1", "a-2")
}

func reopen(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("this engine keeps nothing")
	}
	d := open(t, h, "a-0")
	again := h.Reopen(t, d)
	wantNodes(t, again, "a-0")
	must(t, again.Launch(t.Context(), Spec("a-0")))
	wantNodes(t, again, "a-0")
}

func reopenRemove(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("this engine keeps nothing")
	}
	d := open(t, h, "a-0")
	again := h.Reopen(t, d)
	must(t, again.Remove(t.Context(), "a-0"))
	wantNodes(t, again)
	wantNodes(t, d)
}

func deadNode(t *testing.T, h Harness) {
	if h.Kill == nil {
		t.Skip("nodes of this engine cannot be killed from outside")
	}
	d := open(t, h, "a-0")
	h.Kill(t, d, "a-0")
	waitDead(t, d, "a-0")
	must(t, d.Remove(t.Context(), "a-0"))
	wantNodes(t, d)
}

func deadBesides(t *testing.T, h Harness) {
	if h.Kill == nil {
		t.Skip("nodes of this engine cannot be killed from outside")
	}
	d := open(t, h, "a-0", "a-1")
	h.Kill(t, d, "a-0")
	waitDead(t, d, "a-0")
	must(t, d.Remove(t.Context(), "a-0"))
	wantNodes(t, d, "a-1")
}

func capacity(t *testing.T, h Harness) {
	d := open(t, h)
	before, err := d.Capacity(t.Context())
	must(t, err)
	must(t, d.Launch(t.Context(), Spec("a-0")))
	after, err := d.Capacity(t.Context())
	must(t, err)
	if before != after {
		t.Fatalf("capacity %+v with a node, want %+v as without: it is what there is in all", after, before)
	}
}

// waitDead waits until a node is listed and dead.
func waitDead(t *testing.T, d engine.Driver, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleWithin)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := d.List(ctx)
		must(t, err)
		i := slices.IndexFunc(all, func(n engine.Seen) bool { return n.Node == id })
		if i < 0 {
			t.Fatalf("the dead node %s is not listed: %+v", id, all)
		}
		if !all[i].Alive {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("node %s is still listed alive %v after its death", id, settleWithin)
		case <-tick.C:
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantNodes checks that exactly these nodes are listed, all alive.
func wantNodes(t *testing.T, d engine.Driver, want ...string) {
	t.Helper()
	all, err := d.List(t.Context())
	must(t, err)
	var got []string
	for _, n := range all {
		if !n.Alive {
			t.Errorf("node %s is listed dead (%s), want alive", n.Node, n.Why)
		}
		got = append(got, n.Node)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("nodes %v, want %v", got, want)
	}
}
