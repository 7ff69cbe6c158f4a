package control_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-compute/ebb/internal/control"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/engine/sim"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/store"
	"github.com/ebb-compute/ebb/internal/store/storetest"
)

var _ control.Store = (*store.Store)(nil)

// locked is the model for several goroutines.
type locked struct {
	mu      sync.Mutex
	model   *storetest.Model
	commits int
}

func (l *locked) View() *pool.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.model.View()
}

func (l *locked) Changed() <-chan struct{} { return l.model.Changed() }

func (l *locked) Commit(ctx context.Context, changes ...row.Change) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits++
	return l.model.Commit(ctx, changes...)
}

func (l *locked) state(run string) queue.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	rec, err := l.model.Get(context.Background(), row.Key{Kind: row.RunStatus, ID: run})
	if err != nil {
		return ""
	}
	return rec.Row.(queue.Status).State
}

// site is a loop with its engine, whose nodes end every run at once.
type site struct {
	t      *testing.T
	ctx    context.Context
	store  *locked
	engine *sim.Engine
	loop   *control.Loop
	agents sync.WaitGroup
}

func newSite(t *testing.T, ctx context.Context) *site {
	s := &site{t: t, ctx: ctx, store: &locked{model: storetest.NewModel()}}
	s.engine = &sim.Engine{Delay: 50 * time.Millisecond, Has: engine.Capacity{Oversubscribe: true}}
	s.engine.Started = func(spec engine.Spec) { s.agents.Go(func() { s.agent(spec) }) }
	s.loop = &control.Loop{
		Gather: time.Millisecond, // on a bubble's clock a turn takes no time
		Store:  s.store, Engine: s.engine, Now: time.Now, Installation: installation, Term: 1,
		Token: func(node string) string { return "token-of-" + node },
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	return s
}

// agent does what it is told, in no time.
func (s *site) agent(spec engine.Spec) {
	if spec.Token != "token-of-"+spec.Node || spec.Installation != installation {
		s.t.Errorf("node %s was launched with token %q for %q", spec.Node, spec.Token, spec.Installation)
	}
	session, err := s.loop.Connect(s.ctx, nodeproto.Hello{Version: nodeproto.Version, Node: spec.Node, Installation: installation})
	if err != nil {
		s.t.Errorf("connect %s: %v", spec.Node, err)
		return
	}
	defer session.Close()
	beat := time.NewTicker(10 * time.Second)
	defer beat.Stop()
	for {
		select {
		case d, ok := <-session.Desired():
			if !ok {
				return
			}
			r := nodeproto.Report{Term: d.Term, Revision: d.Revision, Empty: d.Drain}
			for _, w := range d.Attempts {
				exit := queue.Exit{Cause: queue.ByExit}
				r.Attempts = append(r.Attempts, nodeproto.Progress{Attempt: w.Attempt, Fence: w.Fence, Phase: queue.Ended, Exit: &exit, StartedAgo: 1})
			}
			session.Report(r)
		case <-beat.C:
			session.Alive()
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *site) commit(changes ...row.Change) {
	if _, err := s.store.Commit(s.ctx, changes...); err != nil {
		s.t.Error(err)
	}
}

func (s *site) cluster(least, most int) {
	s.commit(row.Put(fleet.Cluster{
		ID: "/w/computes/c", Name: "c", Prefix: "c", Size: fleet.Size{VCPUs: 4}, Min: least, Max: most, IdleAfter: 10 * time.Minute, Generation: 1,
	}))
}

func (s *site) submit(n int) {
	r := queue.Run{ID: fmt.Sprintf("run%04d", n), Cluster: "/w/computes/c", Nodes: 1, Submitted: time.Now()}
	s.commit(row.Create(r), row.Create(queue.Status{ID: r.ID, State: queue.Queued}))
}

// inBubble runs a site on synctest's clock.
func inBubble(t *testing.T, f func(s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := newSite(t, ctx)
		var wg sync.WaitGroup
		wg.Go(func() { s.loop.Run(ctx) })
		f(s)
		stop()
		wg.Wait()
		s.agents.Wait()
	})
}

func TestLoopRisesAndEbbs(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *site) {
		s.cluster(0, 3)
		s.submit(1)
		s.submit(2)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := s.store.View().NodeCount("/w/computes/c"); n != 2 {
			s.t.Errorf("%d nodes after a second, want 2", n)
		}
		for _, id := range []string{"run0001", "run0002"} {
			if got := s.store.state(id); got != queue.Completed {
				s.t.Errorf("%s is %s, want %s", id, got, queue.Completed)
			}
		}
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if n := s.store.View().NodeCount("/w/computes/c"); n != 2 {
			s.t.Errorf("%d nodes before the idle time, want 2", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := s.store.View().NodeCount("/w/computes/c"); n != 0 {
			s.t.Errorf("%d nodes after the idle time, want 0", n)
		}
		if all, err := s.engine.List(s.ctx); err != nil || len(all) != 0 {
			s.t.Errorf("the engine still has %v (%v)", all, err)
		}
	})
}

// A thousand tiny runs share commits: what has arrived is one turn.
func TestTinyRunsShareCommits(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *site) {
		s.cluster(64, 64)
		time.Sleep(time.Second)
		s.store.mu.Lock()
		s.store.commits = 0
		s.store.mu.Unlock()
		for n := range 1000 {
			s.submit(n)
		}
		began := time.Now()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for n := range 1000 {
			if got := s.store.state(fmt.Sprintf("run%04d", n)); got != queue.Completed {
				s.t.Fatalf("run %d is %s %v after it was submitted", n, got, time.Since(began))
			}
		}
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		if ours := s.store.commits - 1000; ours > 100 {
			s.t.Errorf("control made %d commits for 1,000 runs on 64 nodes, want at most 100", ours)
		}
	})
}

func TestDeadNodeIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *site) {
		s.cluster(1, 1)
		time.Sleep(time.Second)
		s.engine.Kill("c-0", "the power went out")
		time.Sleep(7 * time.Second) // the engine is asked every 5 s
		synctest.Wait()
		if _, ok := s.store.View().Node("c-0"); ok {
			s.t.Error("the dead node is still there")
		}
		n, ok := s.store.View().Node("c-1")
		if !ok || n.State != fleet.Idle {
			s.t.Errorf("its successor is %+v, want idle", n)
		}
	})
}

func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		hello nodeproto.Hello
		want  fault.Kind
	}{
		"a node that nobody knows":   {nodeproto.Hello{Version: nodeproto.Version, Node: "x-9", Installation: installation}, fault.NotFound},
		"another installation's":     {nodeproto.Hello{Version: nodeproto.Version, Node: "c-0", Installation: "other"}, fault.Forbidden},
		"a version of another world": {nodeproto.Hello{Version: 99, Node: "c-0", Installation: installation}, fault.Unsupported},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *site) {
				s.cluster(1, 1)
				time.Sleep(time.Second)
				if _, err := s.loop.Connect(s.ctx, tc.hello); !errors.Is(err, tc.want) {
					s.t.Errorf("connect: %v, want %v", err, tc.want)
				}
			})
		})
	}
}

func TestNewerConnectionSupersedes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *site) {
		s.cluster(1, 1)
		time.Sleep(time.Second)
		hello := nodeproto.Hello{Version: nodeproto.Version, Node: "c-0", Installation: installation}
		first, err := s.loop.Connect(s.ctx, hello)
		if err != nil {
			s.t.Fatal(err)
		}
		second, err := s.loop.Connect(s.ctx, hello)
		if err != nil {
			s.t.Fatal(err)
		}
		<-first.Desired() // its first order
		if d, ok := <-first.Desired(); ok {
			s.t.Errorf("the older connection got %+v, want it closed", d)
		}
		if d, ok := <-second.Desired(); !ok || d.Term != 1 {
			s.t.Errorf("the newer connection got %+v, %v", d, ok)
		}
		second.Close()
		second.Close()
	})
}

func TestConnectBeforeRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, t.Context())
	if _, err := s.loop.Connect(t.Context(), nodeproto.Hello{}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("connect: %v, want %v", err, fault.Unavailable)
	}
}
