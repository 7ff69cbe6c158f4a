package survival_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestContainersOfTheKilled kills servers, agents and shims of a job in a container.
// Who holds it not does no harm; with who does, it ends and leaves nothing on the
// engine, though nobody of Ebb is left to see to that; and the job runs again.
func TestContainersOfTheKilled(t *testing.T) {
	t.Parallel()
	d := testkit.StartDocker(t)
	w := newWorld(t, testkit.Contain(d))
	label := "ebb.installation=" + w.c.File().TenantID
	t.Cleanup(func() { // its network is shared by its nodes, which cleanup kills
		if left := d.Left(t, label); len(left) > 0 && !t.Failed() {
			t.Errorf("on the engine is left: %v", left)
		}
	})
	w.cluster("boxes", 0, 1, "PT600S")
	_, err := w.c.Do(t.Context(), "PUT", w.c.File().Workspace()+"/environments/debian/versions/1", map[string]any{"properties": map[string]any{"image": d.Image}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	job := w.spec("boxes", `cat /proc/sys/kernel/random/uuid; test -e /run/ebb/ebb && echo up; trap "" TERM; sleep 600; echo over`)
	job.Properties.EnvironmentID = "azureml:debian:1"
	submit := func(name string) {
		if _, err := w.c.Jobs().Create(t.Context(), name, job); err != nil {
			t.Fatal(err)
		}
		w.awaitLog(name, "up")
	}

	submit("held")
	before := containers(d.Left(t, label))
	w.Kill()
	for node, pid := range w.Agents() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill the agent of %s: %v", node, err)
		}
	}
	w.Start()
	if after := containers(d.Left(t, label)); len(after) != 1 || after[0] != before[0] || len(w.Shims()) != 1 {
		t.Errorf("after the death of server and agent there is %v, before %v", after, before)
	}
	cancel(w, "held")
	w.awaitStatus("held", "Canceled")

	submit("lost")
	w.Kill()
	for _, pids := range []map[string]int{w.Agents(), w.Shims()} {
		for name, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatalf("kill of %s: %v", name, err)
			}
		}
	}
	w.until("the end of the container without anybody", func() bool { return len(containers(d.Left(t, label))) == 0 })
	w.Start()
	w.until("another attempt", func() bool { return strings.Count(w.soFar("lost"), "up\n") == 2 })
	cancel(w, "lost")
	w.awaitStatus("lost", "Canceled")
	if held, _ := filepath.Glob(filepath.Join(w.Dir, "nodes/*/attempts/*/container.json")); len(held) > 0 {
		t.Errorf("containers are still held: %v", held)
	}

	op, err := w.c.Computes().Delete(t.Context(), "boxes")
	if err == nil {
		err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	w.until("an engine without anything of ours", func() bool { return len(d.Left(t, label)) == 0 })
	if _, err := os.Stat(filepath.Join(w.Dir, "nodes")); err != nil {
		t.Error(err)
	}
}

func cancel(w *world, name string) {
	w.t.Helper()
	if _, err := w.c.Jobs().Cancel(w.t.Context(), name); err != nil {
		w.t.Fatalf("cancel %s: %v", name, err)
	}
}

// containers are those of what is on an engine.
func containers(left []string) (out []string) {
	for _, l := range left {
		if strings.HasPrefix(l, "container ") {
			out = append(out, l)
		}
	}
	return out
}
