package survival_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
)

// counting is a command that prints its process and numbered lines until the
// file that it makes in its own folder is gone, or n lines are out.
func counting(n int) string {
	return `echo "begin $$"; for i in $(seq ` + strconv.Itoa(n) + `); do echo "line $i"; sleep 0.05; done; echo "end $$"`
}

// wantCounted checks the whole log of counting: each line once, in order, from
// one process.
func (w *world) wantCounted(name string, n int) {
	w.t.Helper()
	got := w.log(name)
	_, pid, _ := strings.Cut(firstLine(got), " ")
	var want strings.Builder
	fmt.Fprintf(&want, "begin %s\n", pid)
	for i := range n {
		fmt.Fprintf(&want, "line %d\n", i+1)
	}
	fmt.Fprintf(&want, "end %s\n", pid)
	if pid == "" || got != want.String() {
		w.t.Errorf("the log of %s is not that of one whole run:\n%s", name, got)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()

	t.Run("a job goes on through a clean stop and is found again", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 0, 1, "PT30S")
		w.submit("cpu", "counter", counting(60))
		w.awaitLog("counter", "line 3\n")
		w.Stop()
		if got := len(w.Shims()); got != 1 {
			t.Errorf("%d shims live while no server does, want 1", got)
		}
		w.Start()
		w.awaitStatus("counter", "Completed")
		w.wantCounted("counter", 60)
		w.quiet()
	})

	t.Run("a job that ends while no server is there is complete", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 0, 1, "PT30S")
		w.submit("cpu", "counter", counting(15))
		w.awaitLog("counter", "begin")
		w.Stop()
		w.until("the job's shim to end", func() bool { return len(w.Shims()) == 0 })
		w.Start()
		w.awaitStatus("counter", "Completed")
		w.wantCounted("counter", 15)
	})

	t.Run("a second server on the same data says so and ends at once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		began := time.Now()
		r := w.Ebb(ctx, "serve", "--data", w.Dir, "--listen", "127.0.0.1:0")
		if r.Code == 0 || strings.Contains(r.Stdout, "ready") || !strings.Contains(r.Stderr, strconv.Itoa(w.PID())) {
			t.Errorf("a second server: code %d, %q, %q; want a refusal that names process %d", r.Code, r.Stdout, r.Stderr, w.PID())
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took the second server %v to say so", took)
		}
		if _, err := w.c.Workspace(t.Context()); err != nil {
			t.Errorf("the first server after the second: %v", err)
		}
	})

	t.Run("everything is there after a restart, and nodes find it at another port", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 1, 2, "PT30S")
		w.cluster("other", 0, 3, "PT77S")
		w.submit("cpu", "done", "echo hello")
		w.awaitStatus("done", "Completed")
		w.submit("cpu", "running", counting(80))
		w.awaitLog("running", "line 2\n")
		runs := w.c.File().Workspace() + "/experiments/Default/runs/done"
		w.do("PATCH", "/history/v1.0"+runs, map[string]any{"tags": map[string]string{"colour": "red"}})
		metric := "/metric/v2.0" + w.c.File().Workspace() + "/runs/done"
		w.do("POST", metric+"/batch", map[string]any{"values": []any{map[string]any{
			"name": "accuracy", "columns": map[string]string{"accuracy": "Double"}, "properties": map[string]any{"uxMetricType": "azureml.v1.scalar"},
			"value": []any{map[string]any{"metricId": "b2b7ab5a-1f40-4a0f-a2f4-0d3a7f5f1f11", "createdUtc": "2026-01-02T03:04:05Z", "step": 0, "data": map[string]any{"accuracy": 0.97}}},
		}}})
		before, agents := w.everything(metric), w.Agents()

		w.Move()
		w.Stop()
		w.Start()
		w.c = w.Client() // at its new address
		if after := w.everything(metric); after != before {
			t.Errorf("after the restart:\n%s\nbefore:\n%s", after, before)
		}
		if !strings.Contains(before, "0.97") || !strings.Contains(before, "red") || !strings.Contains(before, "other 0 3 PT77S") {
			t.Errorf("what was put in is not there: %s", before)
		}
		w.awaitStatus("running", "Completed")
		w.wantCounted("running", 80)
		w.submit("cpu", "next", "echo next")
		w.awaitStatus("next", "Completed")
		for node, pid := range agents {
			if w.Agents()[node] != pid {
				t.Errorf("node %s did not come through the restart: %v, before %v", node, w.Agents(), agents)
			}
		}
	})
}

// do makes one call and fails the test if it is refused.
func (w *world) do(method, path string, body any) string {
	w.t.Helper()
	a, err := w.c.Do(w.t.Context(), method, path, body, nil)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return string(a.Body)
}

// everything is what a client sees of clusters, jobs that are over, tags and metrics.
func (w *world) everything(metric string) string {
	w.t.Helper()
	var all strings.Builder
	clusters, err := client.Collect(w.c.Computes().All(w.t.Context()))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range clusters {
		s := c.Properties.Properties.Scale
		fmt.Fprintln(&all, c.ID, c.Name, s.Min, s.Max, s.IdleAfter, c.Properties.CreatedOn, c.Properties.ProvisioningState)
	}
	jobs, err := client.Collect(w.c.Jobs().All(w.t.Context()))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, j := range jobs {
		fmt.Fprintln(&all, j.ID, j.Properties.Command, j.Properties.Status, j.Properties.Tags, j.System.CreatedAt)
	}
	fmt.Fprintln(&all, w.log("done"), w.do("POST", metric+"/full", map[string]any{"metricName": "accuracy"}))
	return all.String()
}
