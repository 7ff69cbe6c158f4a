package cli_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

const jobFile = `
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
command: echo "$GREETING from a file"
environment_variables: {GREETING: hello}
compute: azureml:cpu
experiment_name: files
`

const clusterFile = `
$schema: https://azuremlschemas.azureedge.net/latest/amlCompute.schema.json
name: filed
type: amlcompute
size: Standard_DS2_v2
min_instances: 0
max_instances: 3
idle_time_before_scale_down: 90
`

// What a person does, in order, against the real server.
func TestADayAtTheCommandLine(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"job.yml": jobFile, "cluster.yml": clusterFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stdout string // contained
		stderr string // contained
	}{
		{"nothing is there", []string{"status"}, 0, "No clusters yet", ""},
		{"a cluster", []string{"compute", "create", "--name", "cpu", "--size", "Standard_DS3_v2", "--max-instances", "2"}, 0, "Succeeded", "Creating cluster cpu"},
		{"the same again", []string{"compute", "create", "--name", "cpu", "--size", "Standard_DS3_v2", "--max-instances", "2"}, 0, "Succeeded", ""},
		{"another size", []string{"compute", "create", "--name", "cpu", "--size", "Standard_DS2_v2", "--max-instances", "2"}, 1, "", "vmSize"},
		{"a size that is none", []string{"compute", "create", "--name", "odd", "--size", "Standard_DS3_v3"}, 1, "", "STANDARD_DS3_V2"},
		{"more than there may be", []string{"compute", "create", "--name", "odd", "--min-instances", "3", "--max-instances", "1"}, 1, "", "min"},
		{"a cluster from a file", []string{"compute", "create", "-f", filepath.Join(dir, "cluster.yml"), "--no-wait"}, 0, "", ""},
		{"its table", []string{"compute", "list"}, 0, "filed", ""},
		{"its names", []string{"compute", "list", "--query", "sort([].name)", "-o", "json"}, 0, "[\n  \"cpu\",\n  \"filed\"\n]", ""},
		{"one field", []string{"compute", "show", "filed", "--query", "idle_time_before_scale_down", "-o", "tsv"}, 0, "90\n", ""},
		{"as YAML", []string{"compute", "show", "filed", "-o", "yaml"}, 0, "max_instances: 3\n", ""},
		{"a resize", []string{"compute", "update", "--name", "filed", "--min-instances", "0", "--max-instances", "5"}, 0, "max_instances", ""},
		{"down to zero again is no change", []string{"compute", "update", "--name", "filed", "--min-instances", "0"}, 0, "Succeeded", ""},
		{"a cluster that is not there", []string{"compute", "show", "nope"}, 3, "", "there are: cpu, filed"},
		{"a job", []string{"job", "create", "--name", "first", "--compute", "cpu", "--command", "echo one; sleep 0.2; echo two"}, 0, "first", ""},
		{"its log", []string{"job", "stream", "first"}, 0, "one\ntwo\n", ""},
		{"the same job again", []string{"job", "create", "--name", "first", "--compute", "cpu", "--command", "echo one; sleep 0.2; echo two"}, 0, "Completed", "was submitted before"},
		{"another job of that name", []string{"job", "create", "--name", "first", "--compute", "cpu", "--command", "echo three"}, 1, "", "choose another name"},
		{"a job from a file", []string{"job", "create", "-f", filepath.Join(dir, "job.yml"), "--name", "filed-1", "--stream"}, 0, "hello from a file\n", ""},
		{"a job that fails", []string{"job", "create", "--name", "bad", "--compute", "cpu", "--command", "echo why; exit 3", "--stream"}, 1, "why\n", "code 3"},
		{"a job for no cluster", []string{"job", "create", "--compute", "nope", "--command", "ls"}, 3, "", "there are: cpu, filed"},
		{"data", []string{"data", "create", "-n", "digits", "-t", "uri_file", "-p", filepath.Join(dir, "job.yml")}, 0, "digits", ""},
		{"a job that reads the newest of it", []string{"job", "create", "--name", "reads", "--compute", "cpu", "--command", "cat ${{inputs.d}}", "--set", "inputs.d.type=uri_file", "inputs.d.path=azureml:digits@latest", "--tags", "kind=io", "--save-as", filepath.Join(dir, "saved.yml"), "--stream"}, 0, "$GREETING", ""},
		{"jobs by a tag", []string{"job", "list", "--tag", "kind=io", "--query", "[].name", "-o", "tsv"}, 0, "reads\n", ""},
		{"jobs by a tag that none has", []string{"job", "list", "--tag", "kind=other"}, 0, "", "No such jobs."},
		{"computes of a kind", []string{"compute", "list", "--type", "amlcompute", "-r", "1", "--query", "[].name", "-o", "tsv"}, 0, "cpu\n", ""},
		{"computes of another kind", []string{"compute", "list", "--type", "computeinstance"}, 0, "", "No computes of the kind computeinstance."},
		{"which version that was", []string{"job", "show", "reads", "--query", "inputs.d.path", "-o", "tsv"}, 0, "azureml:digits:1\n", ""},
		{"data that is not there", []string{"job", "create", "--compute", "cpu", "--command", "ls", "--set", "inputs.d.path=azureml:digit@latest"}, 3, "", "no data named digit; there are: digits"},
		{"an environment that is not there", []string{"job", "create", "--compute", "cpu", "--command", "ls", "--environment", "azureml:sk@latest"}, 3, "", "no environment named sk; there is none yet"},
		{"jobs as lines", []string{"job", "list", "--query", "sort([].name)", "-o", "tsv"}, 0, "bad\nfiled-1\nfirst\nreads\n", ""},
		{"failed ones", []string{"job", "list", "--status", "failed", "--query", "[].name", "-o", "tsv"}, 0, "bad\n", ""},
		{"a long job", []string{"job", "create", "--name", "long", "--compute", "cpu", "--command", "sleep 100"}, 0, "long", ""},
		{"who runs it", []string{"compute", "nodes", "--name", "cpu", "-o", "json"}, 0, "node_state", ""},
		{"its end", []string{"job", "cancel", "long"}, 0, "", "Cancelling long"},
		{"its end again", []string{"job", "cancel", "long"}, 0, "", "long is over (Canceled): there was nothing to cancel."},
		{"what became of it", []string{"job", "show", "long", "--query", "status", "-o", "tsv"}, 0, "Canceled\n", ""},
		{"completion of clusters", []string{"__complete", "compute", "show", "f"}, 0, "filed\n", ""},
		{"completion of jobs", []string{"__complete", "job", "stream", "fir"}, 0, "first\n", ""},
		{"completion for a shell", []string{"completion", "bash"}, 0, "__start_ebb", ""},
		{"the end of a cluster", []string{"compute", "delete", "--name", "filed", "--yes"}, 0, "", ""},
		{"everything at a glance", []string{"status"}, 0, "3 completed, 1 failed, 1 canceled", ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		r := s.Ebb(ctx, c.args...)
		cancel()
		if r.Code != c.code || !strings.Contains(r.Stdout, c.stdout) || !strings.Contains(r.Stderr, c.stderr) {
			t.Errorf("%s: ebb %s: exit %d, want %d with %q and %q\nstdout: %s\nstderr: %s",
				c.name, strings.Join(c.args, " "), r.Code, c.code, c.stdout, c.stderr, r.Stdout, r.Stderr)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "saved.yml")); err != nil || !strings.Contains(string(b), "path: azureml:digits:1\n") {
		t.Errorf("the saved job: %v\n%s", err, b)
	}
}

// A server that is killed and comes back is no failure of the command line: a
// cluster, a job and a log that were asked for while it was away are there.
func TestCommandsRideOutARestart(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	must(t, s, "compute", "create", "--name", "cpu", "--max-instances", "2")
	must(t, s, "job", "create", "--name", "slow", "--compute", "cpu", "--command", "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.25; done")
	testkit.Until(t, 30*time.Second, "the job writes", func() bool {
		return s.Ebb(t.Context(), "job", "show", "slow", "--query", "status", "-o", "tsv").Stdout == "Running\n"
	})
	results := map[string]chan testkit.Result{}
	begin := func(name string, args ...string) {
		ended := make(chan testkit.Result, 1)
		results[name] = ended
		go func() { ended <- s.Ebb(t.Context(), args...) }()
	}
	begin("a log", "job", "stream", "slow")
	testkit.Until(t, 10*time.Second, "the log is being read", func() bool { return len(s.Processes()) > 3 })
	s.Kill()
	begin("a job", "job", "create", "--name", "while-away", "--compute", "cpu", "--command", "echo made", "--stream")
	begin("a cluster", "compute", "create", "--name", "while-away", "--max-instances", "1")
	if r := s.Ebb(t.Context(), "job", "list", "--patience", "100ms"); r.Code != 1 || !strings.Contains(r.Stderr, "no answer") {
		t.Errorf("without patience: exit %d, %s", r.Code, r.Stderr)
	}
	s.Start()
	want := map[string]string{
		"a log":     "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\nline 8\n",
		"a job":     "made\n",
		"a cluster": "Succeeded",
	}
	for name, words := range want {
		r := <-results[name]
		if r.Code != 0 || !strings.Contains(r.Stdout, words) {
			t.Errorf("%s: exit %d\nstdout: %s\nstderr: %s", name, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// pruned is the answer of "ebb prune -o json".
type pruned []struct {
	Kind    string `json:"kind"`
	Removed int    `json:"removed"`
	Bytes   int    `json:"bytes"`
}

func prune(t *testing.T, s *testkit.Server, args ...string) pruned {
	t.Helper()
	var p pruned
	if err := json.Unmarshal([]byte(must(t, s, append(append([]string{"prune"}, args...), "-o", "json")...)), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPruneRemovesWhatIsOverAndNothingElse(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	must(t, s, "compute", "create", "--name", "cpu", "--max-instances", "2")
	must(t, s, "job", "create", "--name", "ended", "--compute", "cpu", "--command", "echo something to keep", "--stream")
	must(t, s, "job", "create", "--name", "runs", "--compute", "cpu", "--command", "echo still here; sleep 300")
	testkit.Until(t, 30*time.Second, "the second job writes", func() bool {
		found, _ := filepath.Glob(filepath.Join(s.Dir, "nodes/*/attempts/*/log/user_logs/std_log.txt"))
		return len(found) > 0 && s.Ebb(t.Context(), "job", "show", "runs", "--query", "status", "-o", "tsv").Stdout == "Running\n"
	})
	for name, text := range map[string]string{"abc/bin/python": "0123456789", "abc.json": "{}"} {
		path := filepath.Join(s.Dir, "cache/envs", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p := prune(t, s, "--older-than", "1d"); len(p) < 3 {
		t.Errorf("nothing is a day old, but: %+v", p)
	} else {
		for _, one := range p {
			if one.Removed != 0 {
				t.Errorf("nothing is a day old, but: %+v", p)
			}
		}
	}
	if p := prune(t, s, "logs", "envs", "--older-than", "0s", "--dry-run"); p[0].Removed != 1 || p[0].Bytes != len("something to keep\n") || p[1].Removed != 1 || p[1].Bytes != 10 {
		t.Errorf("dry run: %+v", p)
	}
	if log := must(t, s, "job", "stream", "ended"); log != "something to keep\n" {
		t.Errorf("a dry run removed it: %q", log)
	}
	if p := prune(t, s, "logs", "envs", "--older-than", "0s"); p[0].Removed != 1 || p[1].Removed != 1 {
		t.Errorf("prune: %+v", p)
	}
	if log := must(t, s, "job", "stream", "ended"); !strings.HasPrefix(log, "[ebb] this log was pruned on 20") || strings.Count(log, "\n") != 1 {
		t.Errorf("a log that was pruned: %q", log)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "cache/envs/abc")); err == nil {
		t.Error("the environment is still there")
	}
	must(t, s, "job", "cancel", "runs")
	if r := s.Ebb(t.Context(), "job", "stream", "runs"); !strings.Contains(r.Stdout, "still here\n") {
		t.Errorf("the log of a job that went on: %q", r.Stdout)
	}
	if r := s.Ebb(t.Context(), "prune"); r.Code != 2 || !strings.Contains(r.Stderr, "--older-than 30d") {
		t.Errorf("prune of what? exit %d, %s", r.Code, r.Stderr)
	}
}

// The administrator's pages: open, from loopback, and for the owner's token alone.
func TestHealthMetricsAndProfiles(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	must(t, s, "compute", "create", "--name", "cpu", "--max-instances", "1")
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the test's own server
	get := func(path string) (int, string) {
		res, err := web.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	if status, body := get("/ebb/v1/admin/health"); status != 200 || !strings.Contains(body, `"status":"ok"`) || !strings.Contains(body, `"version"`) {
		t.Errorf("health: %d %s", status, body)
	}
	status, body := get("/metrics")
	for _, line := range []string{
		"ebb_clusters 1\n", `ebb_nodes{state="idle"} 0` + "\n", `ebb_runs{state="Queued"} 0` + "\n", "ebb_store_commits_total ", "go_goroutines ", "ebb_build_info{",
		`ebb_http_request_duration_seconds_count{route="GET /ebb/v1/admin/health",status="200"} 1` + "\n",
	} {
		if status != 200 || !strings.Contains(body, line) {
			t.Errorf("metrics: %d, without %q", status, line)
		}
	}
	for _, path := range []string{"/debug/pprof", "/debug/pprof/heap"} {
		if status, _ := get(path); status != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", path, status)
		}
	}
	a, err := s.Client().Do(t.Context(), http.MethodGet, "/debug/pprof/goroutine?debug=1", nil, nil)
	if err != nil || !strings.Contains(string(a.Body), "goroutine profile") {
		t.Errorf("goroutines: %v, %.100s", err, a.Body)
	}
	if _, err := s.Client().Prune(t.Context(), client.Prune{Kinds: []string{"jobs"}}); err == nil || !strings.Contains(err.Error(), "InvalidKind") {
		t.Errorf("prune of jobs: %v", err)
	}
}
