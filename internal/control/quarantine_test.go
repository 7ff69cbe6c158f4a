package control_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-compute/ebb/internal/control"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/engine/sim"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/store/storetest"
)

const epoch = 28_000_000

// restoredSite is a loop over a state that was restored: it believes that c-0 runs
// r1.1 and that r2 waits. The engine has c-0 with that, c-1, which r2 runs on, and
// another installation's node.
func restoredSite(t *testing.T, ctx context.Context) *site {
	s := &site{t: t, ctx: ctx, store: &locked{model: storetest.NewModel()}}
	s.engine = &sim.Engine{Has: engine.Capacity{Oversubscribe: true}}
	for _, spec := range []engine.Spec{
		{Node: "c-0", Cluster: "c", Installation: installation}, {Node: "c-1", Cluster: "c", Installation: installation}, {Node: "x-0", Installation: "other", Epoch: epoch},
	} {
		if err := s.engine.Launch(ctx, spec); err != nil {
			t.Fatal(err)
		}
	}
	s.engine.Hold("c-0", "r1.1")
	s.engine.Hold("c-1", "r2.1")
	s.engine.Started = func(spec engine.Spec) { s.agents.Go(func() { s.agent(spec) }) }
	_, err := s.store.Commit(ctx,
		row.Put(fleet.Cluster{ID: "c", Name: "c", Prefix: "c", Max: 4, IdleAfter: time.Hour, Generation: 1}),
		row.Put(fleet.Node{ID: "c-0", Cluster: "c", State: fleet.Busy, Attempt: "r1.1", Revision: 3}),
		row.Put(queue.Attempt{ID: "r1.1", Run: "r1", N: 1, Cluster: "c", Fence: 7, Phase: queue.InRunning, Members: []queue.Member{{Node: "c-0", Phase: queue.InRunning}}}),
		row.Put(queue.Status{ID: "r1", State: queue.Running, Attempts: 1}), row.Put(queue.Run{ID: "r1", Cluster: "c", Nodes: 1}),
		row.Put(queue.Status{ID: "r2", State: queue.Queued}), row.Put(queue.Run{ID: "r2", Cluster: "c", Nodes: 1}),
	)
	if err != nil {
		t.Fatal(err)
	}
	s.loop = &control.Loop{
		Store: s.store, Engine: s.engine, Now: time.Now, Installation: installation, Term: epoch + 1, Epoch: epoch, Restored: true,
		Token: func(node string) string { return "token-of-" + node }, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	return s
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := restoredSite(t, ctx)
		for _, node := range []string{"c-0", "c-1"} {
			if !s.loop.Aside(node) {
				t.Errorf("%s is answered before anybody has looked", node)
			}
		}
		var loop site
		loop.agents.Go(func() { s.loop.Run(ctx) })
		defer func() { stop(); loop.agents.Wait(); s.agents.Wait() }()
		time.Sleep(time.Second)
		synctest.Wait()

		var names []string
		for _, q := range s.loop.Quarantine() {
			names = append(names, q.Node)
			t.Logf("%+v", q)
		}
		if fmt.Sprint(names) != "[c-1 x-0]" || s.loop.Aside("c-0") || !s.loop.Aside("c-1") {
			t.Fatalf("quarantined are %v, want c-1 and x-0", names)
		}
		hello := func(node string) error {
			_, err := s.loop.Connect(ctx, nodeproto.Hello{Version: nodeproto.Version, Node: node, Installation: installation})
			return err
		}
		if err := hello("c-1"); !errors.Is(err, fault.Forbidden) {
			t.Errorf("a quarantined node says hello: %v, want that it may come again", err)
		}
		if err := hello("c-0"); err != nil {
			t.Errorf("a known node says hello: %v", err)
		}
		if got := s.store.state("r2"); got != queue.Failed {
			t.Errorf("r2 is %s, want it not to run beside its own attempt", got)
		}
		if got := s.store.state("r1"); got != queue.Running {
			t.Errorf("r1 is %s, want it to go on", got)
		}
		if d, err := s.store.model.Get(ctx, control.StockKey); err != nil || control.StockOf(d.Row.(row.Document)) != epoch {
			t.Errorf("that stock was taken is not on record: %v, %v", d, err)
		}

		time.Sleep(time.Minute) // the engine is listed again and again
		synctest.Wait()
		if all, err := s.engine.List(ctx); err != nil || len(all) != 3 {
			t.Errorf("the engine has %v, %v; want all three", all, err)
		}
		if err := s.loop.End(ctx, "c-0"); !errors.Is(err, fault.NotFound) {
			t.Errorf("a node that is not quarantined is ended: %v", err)
		}
		if err := s.loop.End(ctx, "c-1"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if q := s.loop.Quarantine(); len(q) != 1 || q[0].Node != "x-0" {
			t.Errorf("left in quarantine: %v", q)
		}
	})
}

// A job has ended when all it left is there. What was sent before the restore is not.
func TestAnEndBeforeTheRestoreIsNone(t *testing.T) {
	t.Parallel()
	older, same := int64(0), int64(epoch)
	for name, tt := range map[string]struct {
		epoch *int64
		want  queue.State
	}{
		"delivered to the state before": {&older, queue.Finalizing},
		"delivered to this one":         {&same, queue.Completed},
		"an older agent cannot tell":    {nil, queue.Completed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				s := restoredSite(t, ctx)
				var loop site
				loop.agents.Go(func() { s.loop.Run(ctx) })
				defer func() { stop(); loop.agents.Wait(); s.agents.Wait() }()
				time.Sleep(time.Second)
				synctest.Wait()
				ended := nodeproto.Progress{Attempt: "r1.1", Fence: 7, Phase: queue.Ended, Exit: &queue.Exit{Cause: queue.ByExit}, Epoch: tt.epoch}
				c, err := s.loop.Connect(ctx, nodeproto.Hello{
					Version: nodeproto.Version, Node: "c-0", Installation: installation, Report: nodeproto.Report{Attempts: []nodeproto.Progress{ended}},
				})
				if err != nil {
					t.Fatal(err)
				}
				if d := <-c.Desired(); d.Epoch != epoch {
					t.Errorf("the agent is told of epoch %d, want %d", d.Epoch, epoch)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if got := s.store.state("r1"); got != tt.want {
					t.Errorf("the run is %s, want %s", got, tt.want)
				}
			})
		})
	}
}
