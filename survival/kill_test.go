package survival_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebb-compute/ebb/client"
)

// killed is how many servers TestKill kills, and how often each.
const killedServers, killedTimes = 4, 20

// TestKill kills servers at random moments while clients write to them and jobs
// run on their nodes. What a client was told must be true for ever after.
func TestKill(t *testing.T) {
	t.Parallel()
	_, n := seed(t)
	var kills atomic.Int64
	var all sync.WaitGroup // not t.Parallel: all at once, however few processors there are
	for i := range uint64(killedServers) {
		all.Go(func() {
			t.Run(fmt.Sprint(i), func(t *testing.T) { kills.Add(int64(killOne(t, n+i))) })
		})
	}
	all.Wait()
	if kills.Load() < 50 {
		t.Errorf("%d kills, want 50 at least", kills.Load())
	}
}

// acked is what the server has acknowledged. Every part has one writer.
type acked struct {
	mu       sync.Mutex
	jobs     map[string]string // name: the log that it must leave, with "PID" for its process
	canceled map[string]bool
	tags     map[string]map[string]string // of jobs
	clusters map[string]client.Compute    // absent: deleted
	deleted  map[string]bool
	ops      []*client.Operation
}

func (a *acked) op(op *client.Operation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ops = append(a.ops, op)
}

func killOne(t *testing.T, seed uint64) (kills int) {
	w := newWorld(t)
	w.cluster("main", 0, 3, "PT2S")
	a := &acked{jobs: map[string]string{}, canceled: map[string]bool{}, tags: map[string]map[string]string{},
		clusters: map[string]client.Compute{}, deleted: map[string]bool{}}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load errgroup.Group
	load.Go(func() error { return submitShort(ctx, w, a, seed) })
	load.Go(func() error { return submitLong(w, a) })
	load.Go(func() error { return tagJobs(ctx, w, a) })
	for i := range 2 {
		load.Go(func() error { return churnClusters(ctx, w, a, i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}

	random := rand.New(rand.NewPCG(seed, 99))
	for kills < killedTimes {
		// Clients that wait for a server take up to a second to come back: half of
		// the kills let them, half hit them on their way.
		longest := 250
		if random.IntN(2) == 0 {
			longest = 1800
		}
		pause(time.Duration(random.IntN(longest)) * time.Millisecond)
		w.Kill()
		kills++
		if random.IntN(4) == 0 {
			if err := w.Flash(time.Duration(random.IntN(120)) * time.Millisecond); err != nil {
				t.Fatal(err)
			}
			kills++
		}
		w.Start()
	}
	stop()
	if err := load.Wait(); err != nil {
		t.Fatalf("a client was let down: %v", err)
	}
	t.Logf("%d kills, %d jobs, %d canceled, %d tagged, %d clusters, %d deleted, %d operations",
		kills, len(a.jobs), len(a.canceled), len(a.tags), len(a.clusters), len(a.deleted), len(a.ops))
	a.verify(w)
	return kills
}

// submitShort submits jobs until ctx ends, and cancels some.
func submitShort(ctx context.Context, w *world, a *acked, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 7))
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("short%d", i)
		command, log := `echo "begin `+name+` $$"; echo "end `+name+` $$"`, "begin "+name+" PID\nend "+name+" PID\n"
		cancel := i%9 == 8
		if cancel {
			command = `echo "begin ` + name + ` $$"; sleep 600`
		}
		spec := w.spec("main", command)
		if i%5 >= 3 { // a gang, whose first process's log is the job's
			spec.Properties.Resources = &client.JobResources{InstanceCount: i%5 - 1}
		}
		if _, err := w.c.Jobs().Create(w.t.Context(), name, spec); err != nil {
			return fmt.Errorf("submit %s: %w", name, err)
		}
		if cancel {
			pause(time.Duration(random.IntN(800)) * time.Millisecond)
			op, err := w.c.Jobs().Cancel(w.t.Context(), name)
			if err != nil {
				return fmt.Errorf("cancel %s: %w", name, err)
			}
			a.op(op)
		}
		a.mu.Lock()
		if a.jobs[name] = log; cancel {
			a.canceled[name] = true
		}
		a.mu.Unlock()
		pause(time.Duration(random.IntN(300)) * time.Millisecond)
	}
	return nil
}

// submitLong submits jobs that outlive many servers.
func submitLong(w *world, a *acked) error {
	for i := range 2 {
		name := fmt.Sprintf("long%d", i)
		var log strings.Builder
		fmt.Fprintf(&log, "begin %s PID\n", name)
		for n := range 80 {
			fmt.Fprintf(&log, "line %d PID\n", n+1)
		}
		fmt.Fprintf(&log, "end %s PID\n", name)
		command := `echo "begin ` + name + ` $$"; for i in $(seq 80); do echo "line $i $$"; sleep 0.1; done; echo "end ` + name + ` $$"`
		if _, err := w.c.Jobs().Create(w.t.Context(), name, w.spec("main", command)); err != nil {
			return fmt.Errorf("submit %s: %w", name, err)
		}
		a.mu.Lock()
		a.jobs[name] = log.String()
		a.mu.Unlock()
	}
	return nil
}

// tagJobs gives jobs tags, again and again.
func tagJobs(ctx context.Context, w *world, a *acked) error {
	for i := 0; ctx.Err() == nil; i++ {
		pause(5 * time.Millisecond)
		name := fmt.Sprintf("long%d", i%2)
		a.mu.Lock()
		_, known := a.jobs[name]
		a.mu.Unlock()
		if !known {
			continue
		}
		key, value := fmt.Sprintf("tag%d", i%7), fmt.Sprint(i)
		path := "/history/v1.0" + w.c.File().Workspace() + "/experiments/Default/runs/" + name
		if _, err := w.c.Do(w.t.Context(), "PATCH", path, map[string]any{"tags": map[string]string{key: value}}, nil); err != nil {
			return fmt.Errorf("tag %s: %w", name, err)
		}
		a.mu.Lock()
		if a.tags[name] == nil {
			a.tags[name] = map[string]string{}
		}
		a.tags[name][key] = value
		a.mu.Unlock()
	}
	return nil
}

// churnClusters makes, changes and deletes clusters of its own.
func churnClusters(ctx context.Context, w *world, a *acked, who int, random *rand.Rand) error {
	var mine []string
	for i := 0; ctx.Err() == nil; i++ {
		pause(time.Duration(random.IntN(20)) * time.Millisecond)
		var err error
		switch r := random.IntN(10); {
		case i%12 == 11:
			err = a.deleteUnder(w, fmt.Sprintf("under-%d-x%dx", who, i), random)
		case len(mine) < 2 || r < 2 && len(mine) < 6:
			name := fmt.Sprintf("churn-%d-x%dx", who, i)
			err = a.create(w, name, i)
			mine = append(mine, name)
		case r < 3:
			k := random.IntN(len(mine))
			err = a.remove(w, mine[k])
			mine = append(mine[:k], mine[k+1:]...)
		default:
			err = a.patch(w, mine[random.IntN(len(mine))], i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *acked) create(w *world, name string, i int) error {
	want := compute(0, 1+i%5, "PT30S")
	want.Tags = map[string]string{"made": fmt.Sprint(i)}
	_, op, err := w.c.Computes().Create(w.t.Context(), name, want)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	a.op(op)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clusters[name] = want
	return nil
}

// deleteUnder deletes a cluster under a job that may wait, start or run.
func (a *acked) deleteUnder(w *world, name string, random *rand.Rand) error {
	if err := a.create(w, name, 0); err != nil {
		return err
	}
	job := w.spec(name, `echo "begin `+name+` $$"; sleep 600`)
	if _, err := w.c.Jobs().Create(w.t.Context(), name, job); err != nil {
		return fmt.Errorf("submit %s: %w", name, err)
	}
	a.mu.Lock()
	a.jobs[name], a.canceled[name] = "", true
	a.mu.Unlock()
	pause(time.Duration(random.IntN(600)) * time.Millisecond)
	return a.remove(w, name)
}

func (a *acked) patch(w *world, name string, i int) error {
	most := 1 + i%7
	_, op, err := w.c.Computes().Update(w.t.Context(), name, map[string]any{
		"tags":       map[string]string{"patched": fmt.Sprint(i)},
		"properties": map[string]any{"properties": map[string]any{"scaleSettings": map[string]any{"maxNodeCount": most}}},
	})
	if err != nil {
		return fmt.Errorf("change %s: %w", name, err)
	}
	a.op(op)
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.clusters[name]
	c.Properties.Properties.Scale.Max = most
	c.Tags = maps.Clone(c.Tags) // a patch is merged in
	c.Tags["patched"] = fmt.Sprint(i)
	a.clusters[name] = c
	return nil
}

func (a *acked) remove(w *world, name string) error {
	op, err := w.c.Computes().Delete(w.t.Context(), name)
	if err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	a.op(op)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.clusters, name)
	a.deleted[name] = true
	return nil
}

// verify holds the server to all that it acknowledged.
func (a *acked) verify(w *world) {
	w.t.Helper()
	a.verifyJobs(w)
	a.verifyOperations(w)
	a.verifyClusters(w)

	for _, name := range append([]string{"main"}, sorted(a.clusters)...) {
		op, err := w.c.Computes().Delete(w.t.Context(), name)
		if err == nil {
			err = op.Wait(w.t.Context())
		}
		if err != nil {
			w.t.Fatalf("delete %s: %v", name, err)
		}
	}
	w.nothingLeft()
	w.quiet()
}

func (a *acked) verifyJobs(w *world) {
	w.t.Helper()
	listed := map[string]int{}
	for j, err := range w.c.Jobs().All(w.t.Context()) {
		if err != nil {
			w.t.Fatalf("list jobs: %v", err)
		}
		listed[j.Name]++
	}
	for _, name := range sorted(a.jobs) {
		got := w.log(name)
		j := w.job(name)
		if listed[name] != 1 {
			w.t.Errorf("job %s was acknowledged and is listed %d times", name, listed[name])
		}
		if a.canceled[name] {
			if j.Properties.Status != "Canceled" || strings.Count(got, "begin") > 1 || strings.Contains(got, "end") {
				w.t.Errorf("job %s was cancelled and is %s; its log:\n%s", name, j.Properties.Status, got)
			}
			continue
		}
		if j.Properties.Status != "Completed" {
			w.t.Errorf("job %s is %s (%+v), want Completed", name, j.Properties.Status, j.Properties.Error)
		}
		_, pid, _ := strings.Cut(firstLine(got), name+" ")
		if want := strings.ReplaceAll(a.jobs[name], "PID", pid); pid == "" || got != want {
			w.t.Errorf("job %s did not run once in one process; its log:\n%s", name, got)
		}
		for key, value := range a.tags[name] {
			if j.Properties.Tags[key] != value {
				w.t.Errorf("job %s: tag %s is %q, want %q", name, key, j.Properties.Tags[key], value)
			}
		}
		delete(listed, name)
	}
	for name := range listed {
		if _, ours := a.jobs[name]; !ours {
			w.t.Errorf("job %s is listed and nobody submitted it", name)
		}
	}
}

func (a *acked) verifyOperations(w *world) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	var all errgroup.Group
	all.SetLimit(16)
	for _, op := range a.ops {
		all.Go(func() error {
			err := op.Wait(ctx)
			if e, ok := errors.AsType[*client.Error](err); ok && e.Status == 0 {
				return nil // it has ended, if not well: a later one took its place
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		w.t.Errorf("an operation did not end: %v", err)
	}
}

func (a *acked) verifyClusters(w *world) {
	w.t.Helper()
	list, err := client.Collect(w.c.Computes().All(w.t.Context()))
	if err != nil {
		w.t.Fatalf("list clusters: %v", err)
	}
	got := map[string]client.Compute{}
	for _, c := range list {
		got[c.Name] = c
	}
	for _, name := range sorted(a.clusters) {
		want, have := a.clusters[name], got[name]
		if have.Name == "" || have.Properties.Properties.Scale != want.Properties.Properties.Scale || !maps.Equal(have.Tags, want.Tags) ||
			have.Properties.ProvisioningState != "Succeeded" {
			w.t.Errorf("cluster %s is %s %+v %v, want %+v %v", name, have.Properties.ProvisioningState,
				have.Properties.Properties.Scale, have.Tags, want.Properties.Properties.Scale, want.Tags)
		}
	}
	for name := range a.deleted {
		if _, there := got[name]; there {
			w.t.Errorf("cluster %s was deleted, and its operation ended, and is still there", name)
		}
	}
}

// quiet fails the test if the server's log tells of a bug of its own.
func (w *world) quiet() {
	w.t.Helper()
	for line := range strings.Lines(w.LogTail(1 << 30)) {
		if strings.Contains(line, "panic") || strings.Contains(line, "level=ERROR") {
			w.t.Errorf("the server's log: %s", line)
		}
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
