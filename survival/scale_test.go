package survival_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
)

// watch looks at a cluster all the time until the test ends or stop is called,
// and holds every look to what is always true of a cluster.
func (w *world) watch(name string, highest int) (stop func() seen) {
	w.t.Helper()
	s := seen{states: map[string]bool{}}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(3 * time.Millisecond):
			}
			if n := len(w.Agents()); n > highest {
				w.t.Errorf("%d agents of at most %d nodes are alive", n, highest)
			}
			got, err := w.c.Computes().Get(w.t.Context(), name)
			if client.IsNotFound(err) {
				continue
			}
			if err != nil {
				if w.t.Context().Err() == nil {
					w.t.Errorf("look at %s: %v", name, err)
				}
				return
			}
			s.look(w, got.Properties, highest)
		}
	})
	end := sync.OnceFunc(func() { close(done); wg.Wait() })
	w.t.Cleanup(end)
	return func() seen { end(); return s }
}

// seen is what a watch has seen.
type seen struct {
	looks, most int
	states      map[string]bool
}

func (s *seen) look(w *world, p client.ComputeProperties, highest int) {
	c, n := p.Properties, p.Properties.NodeStates
	sum := n.Idle + n.Running + n.Preparing + n.Unusable + n.Leaving + n.Preempted
	what := fmt.Sprintf("%s, %s, %d of %d nodes, %+v", p.ProvisioningState, c.AllocationState, c.CurrentNodes, c.TargetNodes, *n)
	if sum != c.CurrentNodes {
		w.t.Errorf("the states do not add up to the number of nodes: %s", what)
	}
	if c.CurrentNodes > highest || c.TargetNodes > highest || p.ProvisioningState == "Succeeded" && c.TargetNodes < c.Scale.Min {
		w.t.Errorf("a cluster of %d to %d nodes is %s", c.Scale.Min, highest, what)
	}
	if c.AllocationState == "Steady" && (c.CurrentNodes != c.TargetNodes || n.Preparing+n.Leaving > 0) {
		w.t.Errorf("a cluster that is on its way says that it is %s", what)
	}
	s.looks++
	s.most = max(s.most, c.CurrentNodes)
	s.states[c.AllocationState] = true
	for state, count := range map[string]int{"idle": n.Idle, "running": n.Running, "preparing": n.Preparing, "leaving": n.Leaving} {
		if count > 0 {
			s.states[state] = true
		}
	}
}

// ended is when a job was over, by the server's clock, which is this machine's.
func (w *world) ended(name string) time.Time {
	w.t.Helper()
	text := w.job(name).Properties.End
	if text == "" {
		d, err := w.c.Jobs().Details(w.t.Context(), name)
		if err != nil {
			w.t.Fatal(err)
		}
		text = d.End
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		w.t.Fatalf("the end of %s: %v", name, err)
	}
	return at
}

func TestScale(t *testing.T) {
	t.Parallel()
	t.Run("a cluster rises from zero at a submit, never past max, and ebbs to zero after the idle time", riseAndEbb)
	t.Run("work that arrives at the last moment keeps the node, or gets another", lastMoment)
	t.Run("a cluster of fixed size keeps its nodes", fixedSize)
	t.Run("a cluster is resized under its jobs", resized)
	t.Run("a cluster that is deleted takes its jobs with it", deletedUnderJobs)
}

func riseAndEbb(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cluster("cpu", 0, 3, "PT2S")
	stop := w.watch("cpu", 3)
	submitted := time.Now()
	for i := range 6 {
		w.submit("cpu", fmt.Sprintf("job%d", i), "echo begin; sleep 0.7; echo end")
	}
	w.until("the cluster to rise", func() bool { return w.get("cpu").TargetNodes == 3 })
	w.until("three nodes", func() bool { return w.get("cpu").CurrentNodes == 3 })
	var last time.Time
	for i := range 6 {
		name := fmt.Sprintf("job%d", i)
		w.awaitStatus(name, "Completed")
		if got := w.log(name); got != "begin\nend\n" {
			t.Errorf("the log of %s: %q", name, got)
		}
		if end := w.ended(name); end.After(last) {
			last = end
		}
	}
	w.until("all to be gone", func() bool { return w.get("cpu").CurrentNodes == 0 })
	if at := time.Now(); at.Before(last.Add(2 * time.Second)) {
		t.Errorf("the last node left %v after the last job, before the idle time of 2 s", at.Sub(last))
	}
	t.Logf("zero to zero in %v", time.Since(submitted))
	w.settled("cpu", 0)
	s := stop()
	if s.most != 3 || !s.states["Resizing"] || !s.states["running"] || !s.states["preparing"] {
		t.Errorf("%d looks saw at most %d nodes, and %v", s.looks, s.most, slices.Sorted(maps.Keys(s.states)))
	}
	w.nothingLeft()
}

func lastMoment(t *testing.T) {
	t.Parallel()
	random, _ := seed(t)
	w := newWorld(t)
	w.cluster("cpu", 0, 1, "PT1S")
	w.watch("cpu", 1)
	nodes := map[string]bool{}
	for i := range 12 {
		name := fmt.Sprintf("job%d", i)
		w.submit("cpu", name, "echo begin; echo end")
		w.awaitStatus(name, "Completed")
		if got := w.log(name); got != "begin\nend\n" {
			t.Errorf("the log of %s: %q", name, got)
		}
		for node := range w.Agents() {
			nodes[node] = true
		}
		// A submit takes its time on a busy disk: begin well before the node is
		// due to leave, or a little after.
		due := w.ended(name).Add(time.Second)
		pause(time.Until(due) + time.Duration(random.IntN(160)-140)*time.Millisecond)
	}
	t.Logf("12 jobs, %d nodes", len(nodes))
	w.quiet()
}

func fixedSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cluster("cpu", 2, 2, "PT1S")
	w.settled("cpu", 2)
	agents := w.Agents()
	w.watch("cpu", 2)
	for i := range 3 {
		w.submit("cpu", fmt.Sprintf("job%d", i), "sleep 0.3")
	}
	for i := range 3 {
		w.awaitStatus(fmt.Sprintf("job%d", i), "Completed")
	}
	over := time.Now().Add(2500 * time.Millisecond) // well beyond the idle time
	w.until("the idle time to be over", func() bool {
		if n := w.get("cpu").CurrentNodes; n != 2 {
			t.Fatalf("%d nodes, want 2 for ever", n)
		}
		return time.Now().After(over)
	})
	if now := w.Agents(); !maps.Equal(now, agents) {
		t.Errorf("its nodes are %v, and were %v", now, agents)
	}
}

func resized(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cluster("cpu", 0, 1, "PT2S")
	w.watch("cpu", 3)
	for i := range 3 {
		w.submit("cpu", fmt.Sprintf("job%d", i), counting(60))
	}
	w.awaitLog("job0", "line 1\n")
	if n := w.get("cpu").CurrentNodes; n != 1 {
		t.Errorf("%d nodes, want 1", n)
	}
	w.resize("cpu", 0, 3)
	w.awaitLog("job1", "line 1\n")
	w.awaitLog("job2", "line 1\n")
	w.resize("cpu", 0, 1)
	if c := w.get("cpu"); c.NodeStates.Running < 2 || c.AllocationState != "Resizing" && c.CurrentNodes != c.TargetNodes {
		t.Errorf("busy nodes went with the resize: %+v %+v", c, *c.NodeStates)
	}
	for i := range 3 {
		w.awaitStatus(fmt.Sprintf("job%d", i), "Completed")
		w.wantCounted(fmt.Sprintf("job%d", i), 60)
	}
	w.until("the cluster to fall to its new maximum", func() bool { return w.get("cpu").CurrentNodes <= 1 })
	w.settled("cpu", 0)
	w.resize("cpu", 2, 3)
	w.settled("cpu", 2)
	w.resize("cpu", 0, 3)
	w.settled("cpu", 0)
	w.nothingLeft()
}

func deletedUnderJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cluster("cpu", 0, 1, "PT2S")
	for i := range 3 {
		w.submit("cpu", fmt.Sprintf("job%d", i), `trap "" TERM; echo begin; setsid sleep 600 & sleep 600`)
	}
	w.awaitLog("job0", "begin\n")
	op, err := w.c.Computes().Delete(t.Context(), "cpu")
	if err == nil {
		err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatalf("delete: %v", err)
	}
	if _, err := w.c.Computes().Get(t.Context(), "cpu"); !client.IsNotFound(err) {
		t.Errorf("the cluster after its end: %v, want not found", err)
	}
	for i := range 3 {
		name := fmt.Sprintf("job%d", i)
		w.awaitStatus(name, "Canceled")
		if got := strings.Count(w.log(name), "begin"); got > 1 || got == 1 && i > 0 {
			t.Errorf("%s began %d times", name, got)
		}
	}
	w.nothingLeft()
	w.quiet()
}
