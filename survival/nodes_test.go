package survival_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// only returns the one pid of a map.
func (w *world) only(what string, of func() map[string]int) (name string, pid int) {
	w.t.Helper()
	w.until("one "+what, func() bool { return len(of()) == 1 })
	for name, pid = range of() {
	}
	return name, pid
}

func (w *world) killProcess(pid int) {
	w.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		w.t.Fatal(err)
	}
}

// twice is a command that waits the first time it is tried, and ends the second:
// what tells them apart is the number that the job is given.
const waiting = `echo "begin $$"; sleep 600; echo "end $$"`

func TestNodes(t *testing.T) {
	t.Parallel()

	t.Run("an agent that is killed takes its job with it, and the job runs again on another node", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 0, 1, "PT30S")
		w.submit("cpu", "job", counting(40))
		w.awaitLog("job", "line 5\n")
		node, agent := w.only("agent", w.Agents)
		_, shim := w.only("shim", w.Shims)
		w.killProcess(agent)
		w.awaitLog("job", "[ebb] attempt 2\nbegin")
		if testkit.Alive(shim) {
			t.Errorf("the first attempt's shim %d lives beside the second attempt", shim)
		}
		if other, _ := w.only("agent", w.Agents); other == node {
			t.Errorf("node %s came back from the dead", node)
		}
		w.awaitStatus("job", "Completed")
		w.wantSecondWhole("job", 40)
		w.settled("cpu", 1)
	})

	t.Run("a node that is killed whole is replaced, and its job runs again as the same run", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 0, 1, "PT30S")
		w.submit("cpu", "job", counting(40))
		w.awaitLog("job", "line 5\n")
		node, agent := w.only("agent", w.Agents)
		_, shim := w.only("shim", w.Shims)
		for _, pid := range append([]int{agent, shim}, testkit.Below(shim)...) {
			w.killProcess(pid)
		}
		w.awaitStatus("job", "Completed")
		w.wantSecondWhole("job", 40)
		if other, _ := w.only("agent", w.Agents); other == node {
			t.Errorf("node %s came back from the dead", node)
		}
		w.settled("cpu", 1)
	})

	t.Run("a shim that is killed costs the attempt and not the node", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 0, 1, "PT30S")
		w.submit("cpu", "job", counting(40))
		w.awaitLog("job", "line 5\n")
		node, _ := w.only("agent", w.Agents)
		_, shim := w.only("shim", w.Shims)
		below := testkit.Below(shim)
		w.killProcess(shim)
		w.awaitLog("job", "[ebb] attempt 2\nbegin")
		for _, pid := range below {
			if testkit.Alive(pid) {
				t.Errorf("process %d of the first attempt lives beside the second", pid)
			}
		}
		w.awaitStatus("job", "Completed")
		w.wantSecondWhole("job", 40)
		if same, _ := w.only("agent", w.Agents); same != node {
			t.Errorf("node %s was given up for %s, and its agent was well", node, same)
		}
	})

	t.Run("a job that loses every node has failed after the third attempt", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 0, 1, "PT30S")
		w.submit("cpu", "doomed", waiting)
		for n := range 3 {
			w.until("the next attempt to begin", func() bool { return strings.Count(w.soFar("doomed"), "begin") == n+1 })
			_, agent := w.only("agent", w.Agents)
			_, shim := w.only("shim", w.Shims)
			for _, pid := range append([]int{agent, shim}, testkit.Below(shim)...) {
				w.killProcess(pid)
			}
		}
		w.awaitStatus("doomed", "Failed")
		j := w.job("doomed")
		if j.Properties.Error == nil || j.Properties.Error.Code != "NodeLost" || !strings.Contains(j.Properties.Error.Message, "3 times") {
			t.Errorf("its error is %+v, want NodeLost after 3 times", j.Properties.Error)
		}
		log := w.log("doomed")
		if strings.Count(log, "begin") != 3 || !strings.Contains(log, "[ebb] attempt 2\n") || !strings.Contains(log, "[ebb] attempt 3\n") || strings.Contains(log, "attempt 4") {
			t.Errorf("its log:\n%s", log)
		}
		w.submit("cpu", "next", "echo well") // the cluster is none the worse
		w.awaitStatus("next", "Completed")
	})

	t.Run("an idle node that is killed is replaced where the minimum asks for it", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 1, 1, "PT2S")
		node, agent := w.only("agent", w.Agents)
		w.settled("cpu", 1)
		w.killProcess(agent)
		w.until("another node", func() bool {
			agents := w.Agents()
			_, old := agents[node]
			return len(agents) == 1 && !old
		})
		w.settled("cpu", 1)
	})

	t.Run("nodes that die while no server is there are found dead by the next", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.cluster("cpu", 0, 1, "PT30S")
		w.submit("cpu", "job", counting(40))
		w.awaitLog("job", "line 5\n")
		_, agent := w.only("agent", w.Agents)
		_, shim := w.only("shim", w.Shims)
		w.Kill()
		for _, pid := range append([]int{agent, shim}, testkit.Below(shim)...) {
			w.killProcess(pid)
		}
		w.Start()
		w.awaitStatus("job", "Completed")
		w.wantSecondWhole("job", 40)
	})
}

// wantSecondWhole checks a log of two attempts: the first broke off, the second
// is whole, and a line stands between them.
func (w *world) wantSecondWhole(name string, n int) {
	w.t.Helper()
	first, second, two := strings.Cut(w.log(name), "[ebb] attempt 2\n")
	if !two || !strings.HasPrefix(first, "begin ") || strings.Contains(first, "end") || strings.Contains(second, "[ebb]") ||
		strings.Count(second, "begin ") != 1 || strings.Count(second, "\nend ") != 1 || strings.Count(second, "line ") != n {
		w.t.Errorf("the log of %s is not a broken attempt and a whole one:\n%s[ebb] attempt 2\n%s", name, first, second)
	}
}

// settled waits until a cluster has n nodes, all idle, and says so.
func (w *world) settled(cluster string, n int) {
	w.t.Helper()
	w.until("the cluster to be steady", func() bool {
		c := w.get(cluster)
		return c.AllocationState == "Steady" && c.CurrentNodes == n && c.NodeStates.Idle == n && len(c.Errors) == 0
	})
}
