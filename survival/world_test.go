package survival_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// seed is EBB_SEED, or a new one; it is printed, so that a failure replays as
// far as the machine lets it.
func seed(t *testing.T) (*rand.Rand, uint64) {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("EBB_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("EBB_SEED: %v", err)
		}
	}
	t.Logf("seed %d (EBB_SEED=%d replays it)", n, n)
	return rand.New(rand.NewPCG(n, n)), n
}

// world is a server, a client of it, and the shortest way to say things.
type world struct {
	*testkit.Server
	t *testing.T
	c *client.Client
}

func newWorld(t *testing.T, opts ...testkit.Option) *world {
	t.Helper()
	s := testkit.Serve(t, opts...)
	return &world{Server: s, t: t, c: s.Client()}
}

// patience bounds every wait of these tests. On a busy machine it is long, and
// nothing waits for it when all is well.
const patience = 60 * time.Second

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	testkit.Until(w.t, patience, what, ok)
}

func compute(lowest, highest int, idle string) client.Compute {
	return client.Compute{Location: "westus2", Properties: client.ComputeProperties{ComputeType: "AmlCompute", Properties: client.AmlCompute{
		VMSize: "STANDARD_DS2_V2", Scale: client.ScaleSettings{Min: lowest, Max: highest, IdleAfter: idle},
	}}}
}

// cluster makes a cluster and waits until it takes jobs.
func (w *world) cluster(name string, lowest, highest int, idle string) {
	w.t.Helper()
	_, op, err := w.c.Computes().Create(w.t.Context(), name, compute(lowest, highest, idle))
	if err == nil {
		err = op.Wait(w.t.Context())
	}
	if err != nil {
		w.t.Fatalf("create cluster %s: %v", name, err)
	}
}

func (w *world) resize(name string, lowest, highest int) {
	w.t.Helper()
	_, op, err := w.c.Computes().Update(w.t.Context(), name, map[string]any{"properties": map[string]any{"properties": map[string]any{
		"scaleSettings": map[string]any{"minNodeCount": lowest, "maxNodeCount": highest, "nodeIdleTimeBeforeScaleDown": "PT2S"},
	}}})
	if err == nil {
		err = op.Wait(w.t.Context())
	}
	if err != nil {
		w.t.Fatalf("resize cluster %s: %v", name, err)
	}
}

func (w *world) get(name string) client.AmlCompute {
	w.t.Helper()
	got, err := w.c.Computes().Get(w.t.Context(), name)
	if err != nil {
		w.t.Fatalf("get cluster %s: %v", name, err)
	}
	return got.Properties.Properties
}

func (w *world) spec(cluster, command string) client.Job {
	return client.Job{Properties: client.JobProperties{
		JobType: "Command", Command: command, ComputeID: w.c.File().Workspace() + "/computes/" + cluster,
	}}
}

func (w *world) submit(cluster, name, command string) {
	w.t.Helper()
	if _, err := w.c.Jobs().Create(w.t.Context(), name, w.spec(cluster, command)); err != nil {
		w.t.Fatalf("submit %s: %v", name, err)
	}
}

func (w *world) job(name string) client.Job {
	w.t.Helper()
	got, err := w.c.Jobs().Get(w.t.Context(), name)
	if err != nil {
		w.t.Fatalf("get job %s: %v", name, err)
	}
	return got
}

func (w *world) status(name string) string {
	w.t.Helper()
	return w.job(name).Properties.Status
}

func (w *world) awaitStatus(name, status string) {
	w.t.Helper()
	w.until(name+" is "+status, func() bool {
		j := w.job(name)
		if j.Final() && j.Properties.Status != status {
			w.t.Fatalf("%s is %s (%+v), want %s; its log:\n%s", name, j.Properties.Status, j.Properties.Error, status, w.log(name))
		}
		return j.Properties.Status == status
	})
}

// log returns the whole log of a job, once the job is over.
func (w *world) log(name string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
	defer cancel()
	var text bytes.Buffer
	if _, err := w.c.Jobs().Stream(ctx, name, client.StdLog, 0, &text); err != nil {
		w.t.Fatalf("read the log of %s: %v; so far: %q", name, err, text.String())
	}
	return text.String()
}

// soFar returns the log of a job as it is now.
func (w *world) soFar(name string) string {
	w.t.Helper()
	a, err := w.c.Do(w.t.Context(), "GET", "/ebb/v1"+w.c.File().Workspace()+"/jobs/"+name+"/log?name="+client.StdLog+"&offset=0&wait=0", nil, nil)
	if err != nil {
		w.t.Fatalf("read the log of %s: %v", name, err)
	}
	return string(a.Body)
}

func (w *world) awaitLog(name, words string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%q in the log of %s", words, name), func() bool { return strings.Contains(w.soFar(name), words) })
}

// nothingLeft waits until only the server itself is alive of all that it started.
func (w *world) nothingLeft() {
	w.t.Helper()
	self := w.PID()
	var left map[int]string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("still there: %v", left)
		}
	}()
	testkit.Until(w.t, 30*time.Second, "no process of the data folder but the server", func() bool {
		left = w.Processes()
		delete(left, self)
		return len(left) == 0
	})
}

// pause waits for a moment that the test chose at random, not for something to
// have happened.
func pause(d time.Duration) { <-time.After(d) }
