package survival_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// fakeGPUs makes a nvidia-smi that lists GPUs by these ids.
func fakeGPUs(t *testing.T, ids ...string) string {
	t.Helper()
	var rows strings.Builder
	for i, id := range ids {
		fmt.Fprintf(&rows, "%d, %s, 16384\n", i, id)
	}
	path := filepath.Join(t.TempDir(), "nvidia-smi")
	if err := os.WriteFile(path, []byte("#!/bin/sh\ncat <<'E'\n"+rows.String()+"E\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *world) gpuCluster(name string, most int) {
	w.t.Helper()
	c := compute(0, most, "PT1H")
	c.Properties.Properties.VMSize = "STANDARD_NC6S_V3" // one GPU
	_, op, err := w.c.Computes().Create(w.t.Context(), name, c)
	if err == nil {
		err = op.Wait(w.t.Context())
	}
	if err != nil {
		w.t.Fatalf("create cluster %s: %v", name, err)
	}
}

const showGPU = `echo "gpu=$CUDA_VISIBLE_DEVICES"`

// TestGPUs: they are given to nodes exclusively and never oversubscribed.
func TestGPUs(t *testing.T) {
	t.Parallel()
	t.Run("each node has its own, and a third job waits and says why", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, testkit.Config("local:\n  gpu: required\n  nvidia_smi: "+fakeGPUs(t, "GPU-aaaa", "GPU-bbbb")+"\n"))
		w.gpuCluster("gpu", 3)
		for _, name := range []string{"one", "two"} {
			w.submit("gpu", name, showGPU+"; while ! [ -e /tmp/never ]; do sleep 1; done")
		}
		w.awaitLog("one", "gpu=")
		w.awaitLog("two", "gpu=")
		got := map[string]bool{strings.TrimSpace(w.soFar("one")): true, strings.TrimSpace(w.soFar("two")): true}
		if !got["gpu=GPU-aaaa"] || !got["gpu=GPU-bbbb"] {
			t.Errorf("the jobs see %v, want one of GPU-aaaa and GPU-bbbb each", got)
		}

		w.submit("gpu", "three", showGPU)
		var why string
		w.until("the third job to say that it waits for a GPU", func() bool {
			why = w.job("three").Properties.Why
			return strings.Contains(why, "GPU")
		})
		t.Logf("the third job says: %s", why)
		if got := w.status("three"); got != "Queued" {
			t.Errorf("the third job is %s, want Queued", got)
		}
		if _, err := w.c.Jobs().Cancel(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		w.awaitStatus("three", "Completed")
		if log := strings.TrimSpace(w.log("three")); log != "gpu=GPU-aaaa" && log != "gpu=GPU-bbbb" {
			t.Errorf("the third job saw %q", log)
		}
	})
	t.Run("without any they run without, or wait where they are required", func(t *testing.T) {
		t.Parallel()
		none := "  nvidia_smi: /nonexistent/nvidia-smi\n"
		lax := newWorld(t, testkit.Config("local:\n"+none))
		lax.gpuCluster("gpu", 1)
		lax.submit("gpu", "runs", showGPU)
		lax.awaitStatus("runs", "Completed")
		if log := strings.TrimSpace(lax.log("runs")); log != "gpu=" {
			t.Errorf("the job saw %q, want no GPU", log)
		}
		strict := newWorld(t, testkit.Config("local:\n  gpu: required\n"+none))
		strict.gpuCluster("gpu", 1)
		strict.submit("gpu", "waits", showGPU)
		var j client.Job
		strict.until("the job to say that it waits for a GPU", func() bool {
			j = strict.job("waits")
			return strings.Contains(j.Properties.Why, "GPU")
		})
		if j.Properties.Status != "Queued" {
			t.Errorf("the job is %s, want Queued", j.Properties.Status)
		}
	})
}
