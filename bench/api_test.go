package bench_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// How much the server of [api] holds.
const (
	manyClusters = 1000
	manyJobs     = 100_000
)

// api takes how long ARM's reads last with many clusters and jobs, beside a
// request that reads one row, and then mixed requests at a fixed rate.
func api(t *testing.T) []line {
	// Nodes of a size that this machine has not got are not started: the jobs wait.
	s := testkit.Serve(t, testkit.Config("log_level: warn\nlocal:\n  oversubscribe: false\n"))
	c := s.Client()
	ws := c.File().Workspace()
	put := func(name string) error {
		_, _, err := c.Computes().Create(t.Context(), name, client.Compute{Location: "westus2", Properties: client.ComputeProperties{
			ComputeType: "AmlCompute",
			Properties:  client.AmlCompute{VMSize: "STANDARD_M128S", Scale: client.ScaleSettings{Max: 1}},
		}})
		return err
	}
	begun := time.Now()
	each(t, manyClusters, func(i int) error { return put(fmt.Sprintf("many-%d", i)) })
	queue := func(i int) error {
		_, err := c.Jobs().Create(t.Context(), fmt.Sprintf("wait-%d", i), client.Job{Properties: client.JobProperties{
			JobType: "Command", Command: "true", ComputeID: fmt.Sprintf("many-%d", i%manyClusters),
		}})
		return err
	}
	each(t, manyJobs, queue)
	t.Logf("%d clusters and %d jobs were made in %v", manyClusters, manyJobs, time.Since(begun))
	table := []line{{
		fmt.Sprintf("server memory, %d clusters and %d waiting jobs", manyClusters, manyJobs),
		fmt.Sprintf("%.0f MB", float64(testkit.Memory(s.PID()))/1e6), "-", "-", "≤ 1 GiB",
	}}

	get := func(path string) func() error {
		return func() error { _, err := c.Do(t.Context(), http.MethodGet, path, nil, nil); return err }
	}
	anyCluster := func() error { return get(fmt.Sprintf("%s/computes/many-%d", ws, rand.IntN(manyClusters)))() }
	anyJob := func() error { return get(fmt.Sprintf("%s/jobs/wait-%d", ws, rand.IntN(manyJobs)))() }
	least := reads(t, get("/ebb/v1/admin/health"))
	for _, what := range []struct {
		name string
		call func() error
	}{
		{"GET of a cluster", anyCluster}, {"GET of a job", anyJob},
		{"list of clusters, first page", get(ws + "/computes")}, {"list of jobs, first page", get(ws + "/jobs")},
	} {
		before, _ := times(t, s.PID())
		took := reads(t, what.call)
		after, _ := times(t, s.PID())
		table = append(table, line{
			fmt.Sprintf("%s, p50 / p99 of 4 callers", what.name), ms(median(took)) + " / " + ms(at(took, 0.99)),
			"a read of one row " + ms(median(least)), ratio(median(took), median(least)), "",
		}, line{"  server's CPU time of one", ms((after - before) / time.Duration(len(took))), "-", "-", ""})
	}
	write := func() error {
		_, err := c.Do(t.Context(), http.MethodPatch, fmt.Sprintf("%s/computes/many-%d", ws, rand.IntN(manyClusters)),
			map[string]any{"tags": map[string]string{"seen": time.Now().Format(time.RFC3339Nano)}}, nil)
		return err
	}
	lists := []func() error{get(ws + "/computes"), get(ws + "/jobs")}
	return append(table, mixed(t, func(i int) (string, error) {
		switch n := i % 100; {
		case n < 80 && n%2 == 0:
			return "get", anyCluster()
		case n < 80:
			return "get", anyJob()
		case n < 95:
			return "list", lists[n%2]()
		}
		return "write", write()
	})...)
}

// each calls f for every number below n, sixteen at a time.
func each(t *testing.T, n int, f func(int) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n && !t.Failed(); i = int(next.Add(1) - 1) {
				if err := f(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// reads is how long a call takes, of four callers at once.
func reads(t *testing.T, call func() error) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 250 {
				begun := time.Now()
				if err := call(); err != nil {
					t.Error(err)
					return
				}
				d := time.Since(begun)
				mu.Lock()
				took = append(took, d)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return took
}

// mixed sends 500 requests a second for a minute, whether or not the earlier ones
// are answered, as RELIABILITY's first bar asks.
func mixed(t *testing.T, call func(i int) (kind string, err error)) []line {
	const rate, during = 500, time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	var mu sync.Mutex
	took, failed := map[string][]time.Duration{}, map[string]int{}
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	sent := 0
	for begun := time.Now(); ctx.Err() == nil; {
		for due := int(time.Since(begun).Seconds() * rate); sent < due; sent++ {
			wg.Add(1)
			go func(i int) {
				defer wg.Done()
				at := time.Now()
				kind, err := call(i)
				mu.Lock()
				defer mu.Unlock()
				took[kind] = append(took[kind], time.Since(at))
				if err != nil {
					failed[strings.SplitN(err.Error(), "\n", 2)[0]]++
				}
			}(sent)
		}
		<-tick.C
	}
	wg.Wait()
	errors := 0
	for text, n := range failed {
		errors += n
		t.Logf("%d times: %s", n, text)
	}
	p99 := func(kind string) string { return ms(at(took[kind], 0.99)) }
	return []line{
		{fmt.Sprintf("%d mixed requests at %d a second: errors", sent, rate), fmt.Sprint(errors), "-", "-", "0"},
		{"  GET p99 / list p99 / write p99", p99("get") + " / " + p99("list") + " / " + p99("write"), "-", "-", "GET ≤ 100 ms, write ≤ 1 s"},
	}
}
