package bench_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// line is one row of the table.
type line struct{ measure, ours, peer, ratio, goal string }

// TestTable prints the table. It runs under "make bench" only. EBB_BENCH is 1, or
// a regular expression of the parts to measure.
func TestTable(t *testing.T) {
	want := os.Getenv("EBB_BENCH")
	if want == "" {
		t.Skip("run by make bench")
	}
	if want == "1" {
		want = "."
	}
	only := regexp.MustCompile(want)
	s := testkit.Serve(t)
	var table []line
	for _, part := range []struct {
		name    string
		measure func() []line
	}{
		{"memory", func() []line { return []line{memory(t, s)} }},
		{"warm", func() []line { return warm(t, s) }},
		{"cold", func() []line { return cold(t, s) }},
		{"cost", func() []line { return []line{cost(t, s)} }},
		{"mpi", func() []line { return mpi(t, s) }},
		{"boxes", func() []line { return boxes(t) }},
		{"drain2", func() []line { return drain(t, s, 2) }},
		{"drain64", func() []line { return drain(t, s, 64) }},
		{"writes", func() []line { return writes(t) }},
		{"blobs", func() []line { return blobs(t, s) }},
		{"api", func() []line { return api(t) }},
	} {
		if only.MatchString(part.name) {
			t.Logf("measuring %s", part.name)
			table = append(table, part.measure()...)
		}
	}
	print(table)
}

func print(table []line) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tEBB\tPEER OR LIMIT\tRATIO\tGOAL")
	for _, l := range table {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.measure, l.ours, l.peer, l.ratio, l.goal)
	}
	w.Flush()
	fmt.Printf("\n%s/%s, %d CPUs, %s, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
}

// memory reads the resident set of a server that has nothing to do.
func memory(t *testing.T, s *testkit.Server) line {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(kib)[0])
			return line{"server memory, idle", fmt.Sprintf("%.0f MB", float64(n)*1024/1e6), "-", "-", "< 60 MB"}
		}
	}
	t.Fatal("no VmRSS")
	return line{}
}

// cluster makes a cluster and waits until warm of its nodes stand idle.
func cluster(t *testing.T, c *client.Client, name string, warm, most int, idle string) {
	t.Helper()
	want := client.Compute{Location: "westus2", Properties: client.ComputeProperties{
		ComputeType: "AmlCompute",
		Properties: client.AmlCompute{VMSize: "STANDARD_D2_V2", Scale: client.ScaleSettings{
			Min: warm, Max: most, IdleAfter: idle,
		}},
	}}
	if _, _, err := c.Computes().Create(t.Context(), name, want); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, 5*time.Minute, fmt.Sprintf("%d idle nodes of %s", warm, name), func() bool {
		got, err := c.Computes().Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		states := got.Properties.Properties.NodeStates
		return states != nil && states.Idle == warm && got.Properties.ProvisioningState == "Succeeded"
	})
}

func submit(t *testing.T, c *client.Client, compute, name, command string) {
	t.Helper()
	_, err := c.Jobs().Create(t.Context(), name, client.Job{Properties: client.JobProperties{
		JobType: "Command", Command: command, ComputeID: compute,
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, c *client.Client, name string) {
	t.Helper()
	testkit.Until(t, 10*time.Minute, name+" to end", func() bool {
		j, err := c.Jobs().Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		switch j.Properties.Status {
		case "Completed":
			return true
		case "Failed", "Canceled":
			t.Fatalf("%s: %s", name, j.Properties.Status)
		}
		return false
	})
}

// started submits a job whose process writes the time, and returns how long
// after the request was begun that was.
func started(t *testing.T, c *client.Client, compute, name string) time.Duration {
	t.Helper()
	begun := time.Now()
	submit(t, c, compute, name, "date +%s%N")
	await(t, c, name)
	var out bytes.Buffer
	if _, err := c.Jobs().Stream(t.Context(), name, client.StdLog, 0, &out); err != nil {
		t.Fatal(err)
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
	if err != nil {
		t.Fatalf("log of %s: %q", name, out.String())
	}
	return time.Unix(0, ns).Sub(begun)
}

// forked is how long fork and exec of the job's program take, which nothing can
// beat.
func forked(t *testing.T) time.Duration {
	var took []time.Duration
	for range 40 {
		begun := time.Now()
		out, err := exec.Command("/bin/sh", "-c", "date +%s%N").Output()
		if err != nil {
			t.Fatal(err)
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Unix(0, ns).Sub(begun))
	}
	return median(took)
}

// warm takes submit → process running on an idle node.
func warm(t *testing.T, s *testkit.Server) []line {
	c := s.Client()
	cluster(t, c, "warm", 1, 1, "PT1H")
	var took []time.Duration
	for i := range 60 {
		took = append(took, started(t, c, "warm", fmt.Sprintf("warm-%d", i)))
	}
	least := forked(t)
	limit := "fork+exec " + ms(least)
	return []line{
		{"submit → process running, idle node, p50", ms(median(took)), limit, ratio(median(took), least), "< 25 ms"},
		{"  the same, p95", ms(at(took, 0.95)), limit, ratio(at(took, 0.95), least), ""},
	}
}

// cold takes submit → process running from zero nodes.
func cold(t *testing.T, s *testkit.Server) []line {
	c := s.Client()
	cluster(t, c, "cold", 0, 1, "PT1S")
	var took []time.Duration
	for i := range 5 {
		testkit.Until(t, time.Minute, "cold to be at zero", func() bool {
			got, err := c.Computes().Get(t.Context(), "cold")
			return err == nil && got.Properties.Properties.CurrentNodes == 0
		})
		took = append(took, started(t, c, "cold", fmt.Sprintf("cold-%d", i)))
	}
	least := forked(t)
	return []line{{"submit → process running, from zero, p50", ms(median(took)), "fork+exec " + ms(least), ratio(median(took), least), "< 2 s"}}
}

// cost is the CPU time that a job which does nothing takes of each part, two at
// a time. Unlike a rate it hardly changes where others use the machine.
func cost(t *testing.T, s *testkit.Server) line {
	const jobs = 200
	c := s.Client()
	cluster(t, c, "cost", 2, 2, "PT1H")
	// A node's first job finds the machine's Pythons.
	for i := range 4 {
		submit(t, c, "cost", fmt.Sprintf("cost-first-%d", i), "true")
	}
	for i := range 4 {
		await(t, c, fmt.Sprintf("cost-first-%d", i))
	}
	before := spent(t, s)
	for i := range jobs {
		submit(t, c, "cost", fmt.Sprintf("cost-%d", i), "true")
	}
	drained(t, c, "cost", 2)
	after := spent(t, s)
	for i := range jobs {
		await(t, c, fmt.Sprintf("cost-%d", i))
	}
	each := func(name string) float64 { return float64(after[name]-before[name]) / 1e6 / jobs }
	return line{
		"CPU time of a job of true", fmt.Sprintf("%.1f ms", each("server")+each("agents")+each("jobs")),
		fmt.Sprintf("server %.1f, agents %.1f, shims and jobs %.1f", each("server"), each("agents"), each("jobs")), "-", "",
	}
}

// spent is the CPU time of the server, its agents, and what agents started and
// have seen end.
func spent(t *testing.T, s *testkit.Server) map[string]time.Duration {
	own, _ := times(t, s.PID())
	all := map[string]time.Duration{"server": own}
	for _, pid := range s.Agents() {
		own, ended := times(t, pid)
		all["agents"] += own
		all["jobs"] += ended
	}
	return all
}

// times reads how much CPU time a process used, and what it waited for.
func times(t *testing.T, pid int) (own, ended time.Duration) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:])) // from the state on, the third field
	tick := func(field int) time.Duration {
		n, _ := strconv.ParseInt(f[field-3], 10, 64)
		return time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100 everywhere
	}
	return tick(14) + tick(15), tick(16) + tick(17)
}

// drain runs 1,000 jobs that do nothing over a number of slots, beside Slurm and xargs.
func drain(t *testing.T, s *testkit.Server, slots int) []line {
	const jobs = 1000
	c := s.Client()
	name := fmt.Sprintf("drain-%d", slots)
	cluster(t, c, name, slots, slots, "PT1H")
	begun := time.Now()
	work := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range work {
				submit(t, c, name, fmt.Sprintf("%s-%d", name, i), "true")
			}
		})
	}
	for i := range jobs {
		work <- i
	}
	close(work)
	wg.Wait()
	handed := time.Since(begun)
	drained(t, c, name, slots)
	ours := jobs / time.Since(begun).Seconds()
	for i := range jobs {
		await(t, c, fmt.Sprintf("%s-%d", name, i))
	}
	gone(t, c, name) // idle nodes are not to be in the peers' way

	begun = time.Now()
	if err := exec.Command("sh", "-c", fmt.Sprintf("seq %d | xargs -P%d -n1 true", jobs, slots)).Run(); err != nil {
		t.Fatal(err)
	}
	xargs := jobs / time.Since(begun).Seconds()
	rate := func(r float64) string { return fmt.Sprintf("%.0f jobs/s", r) }
	measure := fmt.Sprintf("1,000 jobs of true, %d slots (submitted in %.1f s)", slots, handed.Seconds())
	lines := []line{{measure, rate(ours), "xargs " + rate(xargs), fmt.Sprintf("1 / %.0f", xargs/ours), ""}}
	if theirs, missing := slurm(t, slots, jobs); missing != "" {
		lines = append(lines, line{"  beside Slurm", rate(ours), missing, "-", "≥ 8 × Slurm"})
	} else {
		lines = append(lines, line{"  beside Slurm", rate(ours), fmt.Sprintf("Slurm %.1f jobs/s", theirs), fmt.Sprintf("%.1f ×", ours/theirs), "≥ 8 × Slurm"})
	}
	return lines
}

// drained waits until all nodes of a cluster are idle. It asks seldom: asking is
// no part of what is measured.
func drained(t *testing.T, c *client.Client, name string, nodes int) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		got, err := c.Computes().Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if states := got.Properties.Properties.NodeStates; states != nil && states.Idle == nodes {
			return
		}
	}
}

// gone deletes a cluster and waits until it is.
func gone(t *testing.T, c *client.Client, name string) {
	t.Helper()
	if _, err := c.Computes().Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, 2*time.Minute, name+" to be gone", func() bool {
		_, err := c.Computes().Get(t.Context(), name)
		return err != nil
	})
}

func at(d []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func median(d []time.Duration) time.Duration { return at(d, 0.5) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func ratio(a, b time.Duration) string { return fmt.Sprintf("%.1f ×", float64(a)/float64(b)) }
