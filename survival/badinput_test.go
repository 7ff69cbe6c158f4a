package survival_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
)

// refusal is how the server must say no.
type refusal struct {
	status int
	code   string
	words  string // in the message or its details; empty: any
}

// refused sends a request and checks that it is refused, in Azure's words. What
// is JSON goes through the client, the rest as it is.
func (s *scene) refused(t *testing.T, method, target, body string, want refusal) {
	t.Helper()
	s.add(0, method, target, body)
	r := s.goods[len(s.goods)-1].raw
	s.goods = s.goods[:len(s.goods)-1]
	var e *client.Error
	if json.Valid(r.body) || len(r.body) == 0 {
		var in any
		if len(r.body) > 0 {
			in = json.RawMessage(r.body)
		}
		_, err := s.c.Do(t.Context(), method, r.target, in, nil)
		if !errors.As(err, &e) {
			t.Fatalf("%s %s: %v, want %d %s", method, r.target, err, want.status, want.code)
		}
	} else {
		a, err := newLine(t, s.c.File()).send(r)
		if err != nil {
			t.Fatalf("%s %s: %v", method, r.target, err)
		}
		if why := s.wrong(r, a, nil); why != "" {
			t.Errorf("%s: %s", why, a.body)
		}
		var in struct{ Error client.Error }
		if err := json.Unmarshal(a.body, &in); err != nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		e = &in.Error
		e.Status = a.status
	}
	all := e.Error()
	if e.Status != want.status || e.Code != want.code || e.Message == "" || !strings.Contains(all, want.words) {
		t.Errorf("%s %s %.300s\n= %d %s %q, want %d %s with %q", method, r.target, r.body, e.Status, e.Code, all, want.status, want.code, want.words)
	}
}

// clusterBody is a good body with one thing in it replaced.
func clusterBody(old, now string) string {
	const body = `{"location":"westus2","properties":{"computeType":"AmlCompute","properties":{"vmSize":"STANDARD_DS2_V2","scaleSettings":{"minNodeCount":0,"maxNodeCount":2}}}}`
	return strings.Replace(body, old, now, 1)
}

func jobBody(old, now string) string {
	const body = `{"properties":{"jobType":"Command","command":"true","computeId":"{WS}/computes/cpu-ax"}}`
	return strings.Replace(body, old, now, 1)
}

// badRequests are what a user gets wrong, and what an attacker tries.
var badRequests = map[string]struct {
	method, target, body string
	want                 refusal
}{
	"an unknown size, with the list of those there are": {"PUT", "{WS}/computes/bad", clusterBody("DS2_V2", "BANANA"), refusal{400, "InvalidPropertyValue", "STANDARD_DS2_V2"}},
	"more nodes at least than at most":                  {"PUT", "{WS}/computes/bad", clusterBody(`"minNodeCount":0`, `"minNodeCount":3`), refusal{400, "InvalidPropertyValue", "greater than or equal"}},
	"a negative number of nodes":                        {"PUT", "{WS}/computes/bad", clusterBody(`"minNodeCount":0`, `"minNodeCount":-1`), refusal{400, "InvalidPropertyValue", "minNodeCount"}},
	"half a node":                                       {"PUT", "{WS}/computes/bad", clusterBody(`"maxNodeCount":2`, `"maxNodeCount":1.5`), refusal{400, "InvalidPropertyValue", "maxNodeCount"}},
	"nodes without end":                                 {"PUT", "{WS}/computes/bad", clusterBody(`"maxNodeCount":2`, `"maxNodeCount":1e999`), refusal{400, "InvalidPropertyValue", "maxNodeCount"}},
	"no maximum":                                        {"PUT", "{WS}/computes/bad", clusterBody(`,"maxNodeCount":2`, ""), refusal{400, "InvalidPropertyValue", "maxNodeCount"}},
	"no scale settings":                                 {"PUT", "{WS}/computes/bad", clusterBody(`,"scaleSettings":{"minNodeCount":0,"maxNodeCount":2}`, ""), refusal{400, "InvalidPropertyValue", ""}},
	"an idle time that is none":                         {"PUT", "{WS}/computes/bad", clusterBody(`"minNodeCount":0`, `"nodeIdleTimeBeforeScaleDown":"soon"`), refusal{400, "InvalidPropertyValue", "soon"}},
	"a name that begins with a digit":                   {"PUT", "{WS}/computes/1bad", clusterBody("", ""), refusal{400, "InvalidResourceName", "1bad"}},
	"a name that is too short":                          {"PUT", "{WS}/computes/ab", clusterBody("", ""), refusal{400, "InvalidResourceName", "ab"}},
	"a name that is too long":                           {"PUT", "{WS}/computes/" + strings.Repeat("a", 33), clusterBody("", ""), refusal{400, "InvalidResourceName", ""}},
	"a name that ends with a dash":                      {"PUT", "{WS}/computes/bad-", clusterBody("", ""), refusal{400, "InvalidResourceName", "bad-"}},
	"a name with a slash in it":                         {"PUT", "{WS}/computes/ba%2Fd", clusterBody("", ""), refusal{404, "InvalidResourceType", ""}},
	"a name with a dot in it":                           {"PUT", "{WS}/computes/ba.d", clusterBody("", ""), refusal{400, "InvalidResourceName", ""}},
	"a reserved name":                                   {"PUT", "{WS}/computes/amlcompute", clusterBody("", ""), refusal{400, "InvalidResourceName", "amlcompute"}},
	"another reserved name":                             {"PUT", "{WS}/computes/local", clusterBody("", ""), refusal{400, "InvalidResourceName", "local"}},
	"a region that is none":                             {"PUT", "{WS}/computes/bad", clusterBody("westus2", "atlantis"), refusal{400, "LocationNotAvailableForResourceType", "atlantis"}},
	"a kind of compute that is not made":                {"PUT", "{WS}/computes/bad", clusterBody("AmlCompute", "Kubernetes"), refusal{400, "NotImplemented", "Kubernetes"}},
	"a priority that is none":                           {"PUT", "{WS}/computes/bad", clusterBody(`"vmSize"`, `"vmPriority":"High","vmSize"`), refusal{400, "InvalidPropertyValue", "High"}},
	"another size for a cluster":                        {"PUT", "{WS}/computes/cpu-ax", clusterBody("DS2_V2", "DS3_V2"), refusal{400, "PropertyChangeNotAllowed", ""}},
	"a patch of no cluster":                             {"PATCH", "{WS}/computes/none", `{"tags":{}}`, refusal{404, "ResourceNotFound", "none"}},
	"a patch to min above max":                          {"PATCH", "{WS}/computes/cpu-ax", `{"properties":{"properties":{"scaleSettings":{"minNodeCount":9,"maxNodeCount":2}}}}`, refusal{400, "InvalidPropertyValue", ""}},
	"an unknown cluster":                                {"GET", "{WS}/computes/none", "", refusal{404, "ResourceNotFound", "none"}},
	"nodes of an unknown cluster":                       {"POST", "{WS}/computes/none/listNodes", "", refusal{404, "ResourceNotFound", "none"}},
	"an unknown workspace":                              {"GET", "{WS}2/computes", "", refusal{404, "ResourceNotFound", "main2"}},
	"an unknown resource group":                         {"GET", "{SUB}/resourceGroups/none", "", refusal{404, "ResourceGroupNotFound", "none"}},
	"an unknown subscription":                           {"GET", "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups", "", refusal{404, "SubscriptionNotFound", ""}},
	"JSON that ends too early":                          {"PUT", "{WS}/computes/bad", `{"location":`, refusal{400, "InvalidRequestContent", ""}},
	"JSON with a trailing comma":                        {"PUT", "{WS}/computes/bad", `{"location":"westus2",}`, refusal{400, "InvalidRequestContent", ""}},
	"two documents":                                     {"PUT", "{WS}/computes/bad", clusterBody("", "") + "{}", refusal{400, "InvalidRequestContent", ""}},
	"JSON that is not UTF-8":                            {"PUT", "{WS}/computes/bad", clusterBody("westus2", "west\xff"), refusal{400, "InvalidRequestContent", "UTF-8"}},
	"JSON that nests too deep":                          {"PUT", "{WS}/computes/bad", clusterBody(`"westus2"`, strings.Repeat("[", 10000)+strings.Repeat("]", 10000)), refusal{400, "InvalidRequestContent", "deeper"}},
	"a list for an object":                              {"PUT", "{WS}/computes/bad", "[]", refusal{400, "InvalidRequestContent", ""}},
	"nothing for an object":                             {"PUT", "{WS}/computes/bad", "", refusal{400, "InvalidRequestContent", "empty"}},
	"a huge body":                                       {"PUT", "{WS}/computes/bad", clusterBody("westus2", strings.Repeat("w", 5<<20)), refusal{413, "RequestContentTooLarge", ""}},
	"a huge job":                                        {"PUT", "{WS}/jobs/bad", jobBody("true", strings.Repeat("t", 5<<20)), refusal{413, "RequestContentTooLarge", ""}},
	"a job on an unknown cluster":                       {"PUT", "{WS}/jobs/bad", jobBody("cpu-ax", "none"), refusal{400, "ComputeNotFound", "none"}},
	"a job on no cluster":                               {"PUT", "{WS}/jobs/bad", jobBody(`,"computeId":"{WS}/computes/cpu-ax"`, ""), refusal{400, "ComputeNotFound", ""}},
	"a job without a command":                           {"PUT", "{WS}/jobs/bad", jobBody("true", ""), refusal{400, "InvalidPropertyValue", "command"}},
	"a job of a kind that is not made":                  {"PUT", "{WS}/jobs/bad", jobBody(`"Command"`, `"Sweep","trial":{"command":"c","environmentId":"e"},"objective":{"goal":"Minimize","primaryMetric":"m"},"samplingAlgorithm":{"samplingAlgorithmType":"Random"},"searchSpace":{}`), refusal{400, "NotImplemented", "Sweep"}},
	"a job with a timeout that is none":                 {"PUT", "{WS}/jobs/bad", jobBody(`"command"`, `"limits":{"jobLimitsType":"Command","timeout":"1h"},"command"`), refusal{400, "InvalidPropertyValue", "1h"}},
	"a job with an input it lacks":                      {"PUT", "{WS}/jobs/bad", jobBody("true", "echo ${{inputs.none}}"), refusal{400, "InvalidPropertyValue", "inputs.none"}},
	"a job with a name that climbs":                     {"PUT", "{WS}/jobs/..%2F..%2Fbad", jobBody("", ""), refusal{400, "InvalidRequestUri", ""}},
	"a job with a name of blanks":                       {"PUT", "{WS}/jobs/b%20d", jobBody("", ""), refusal{400, "InvalidPropertyValue", ""}},
	"a job by a name that is taken":                     {"PUT", "{WS}/jobs/done-a", jobBody("true", "false"), refusal{409, "Conflict", "done-a"}},
	"a cancel of no job":                                {"POST", "{WS}/jobs/none/cancel", "", refusal{404, "RunNotFound", "none"}},
	"the log of no job":                                 {"GET", "/ebb/v1{WS}/jobs/none/log?name=user_logs/std_log.txt&offset=0", "", refusal{404, "RunNotFound", "none"}},
	"an artifact that climbs":                           {"POST", "/artifact/v2.0{WS}/artifacts/batch/metadata/ExperimentRun/dcid.done-a", `{"paths":[{"path":"../../../a"}]}`, refusal{400, "InvalidArtifactPath", ""}},
	"a run of no experiment":                            {"GET", "/history/v1.0{WS}/experiments/none/runs/none", "", refusal{404, "RunNotFound", "none"}},
	"a filter that is none":                             {"POST", "/history/v1.0{WS}/experiments/Default/runs:query", `{"filter":"(((("}`, refusal{400, "InvalidFilter", "(((("}},
	"a method that there is not":                        {"POST", "{WS}/computes/cpu-ax", "{}", refusal{405, "MethodNotAllowed", ""}},
	"a place that there is not":                         {"GET", "/nowhere", "", refusal{404, "NotFound", "/nowhere"}},
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newScene(w, "a")
	s.settled()
	before := s.state()
	for _, name := range sorted(badRequests) {
		c := badRequests[name]
		t.Run(name, func(t *testing.T) { s.refused(t, c.method, c.target, c.body, c.want) })
	}
	t.Run("a log's name that climbs reads nothing", func(t *testing.T) {
		for _, name := range []string{"../../../../../keys/accounts.key", "../0001/user_logs/std_log.txt", "/etc/passwd", "..%2f..%2fx"} {
			a, err := w.c.Do(t.Context(), "GET", "/ebb/v1"+w.c.File().Workspace()+"/jobs/done-a/log?offset=0&name="+name, nil, nil)
			if err == nil && len(a.Body) > 0 {
				t.Errorf("%s: %q", name, a.Body)
			}
		}
	})
	t.Run("hostile names in snapshots", func(t *testing.T) { s.hostileNames(t) })
	t.Run("tokens that are not good", func(t *testing.T) { s.badTokens(t) })
	s.unchanged(before)
	w.quiet()
}

// settled waits until the job that has begun to write is known to run, and until the
// cluster has its node and no other: one that was idle for its time leaves, and is
// listed until it has.
func (s *scene) settled() {
	s.t.Helper()
	s.awaitStatus("runs-"+s.n, "Running")
	s.until("one node to be left, which works", func() bool {
		got := s.get("cpu-" + s.n + "x")
		return got.AllocationState == "Steady" && got.CurrentNodes == 1 && got.NodeStates.Running == 1
	})
}

// unchanged checks that all is as it was. What was made or taken away stays so; a
// node that has been silent on a busy machine is heard again.
func (s *scene) unchanged(before string) {
	s.t.Helper()
	after := s.state()
	for end := time.Now().Add(patience); after != before; after = s.state() {
		if time.Now().After(end) {
			s.t.Errorf("something changed: it is\n%s\nand was\n%s", after, before)
			return
		}
		pause(100 * time.Millisecond)
	}
}

// state is all that a client can list.
func (s *scene) state() string {
	s.t.Helper()
	var all strings.Builder
	for _, at := range []string{"{WS}/computes", "{WS}/jobs", "{WS}/computes/cpu-{N}x/listNodes", "/history/v1.0{WS}/experiments", "/environment/v1.0{WS}/environments/",
		"/artifact/v2.0{WS}/artifacts/ExperimentRun/dcid.done-{N}", "/content/v1.0{WS}/snapshots/latest/metadata"} {
		method := "GET"
		if strings.HasSuffix(at, "listNodes") {
			method = "POST"
		}
		s.add(200, method, at, "")
		all.WriteString(s.do(method, s.goods[len(s.goods)-1].target, nil) + "\n")
		s.goods = s.goods[:len(s.goods)-1]
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "ebb.db") { // SQLite's own come and go
			fmt.Fprintln(&all, e.Name())
		}
	}
	return all.String()
}

// hostileNames tries to have a snapshot laid out where it does not belong.
func (s *scene) hostileNames(t *testing.T) {
	outside := filepath.Join(os.TempDir(), "ebb-escaped-"+filepath.Base(s.Dir))
	up := strings.Repeat("../", 20) + strings.TrimPrefix(outside, "/")
	for i, name := range []string{"..", ".", "", "../x", up, outside, `..\x`, `C:\x`, "a/b", "a\x00b", "a\nb", strings.Repeat("n", 300), "\ufffd"} {
		text, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"ParentSnapshotId":"00000000-0000-0000-0000-000000000000","DirTreeNode":{"name":"","type":"Directory","hash":"6","children":{%[1]s:{"name":%[1]s,"type":"File","hash":"7","children":{}}}},
		 "FileRevisionList":{"FileNodes":[{"FullName":%[1]s,"BlobUri":%[2]q,"FileSize":9}]}}`, text, s.blobURI(t))
		s.refused(t, "POST", fmt.Sprintf("/content/v2.0{WS}/snapshots/6f9619ff-8b86-d011-b42d-0000000000%02x", i), body, refusal{400, "InvalidSnapshot", ""})
	}
	for _, kind := range []string{"SymbolicLink", "Device", ""} {
		body := fmt.Sprintf(`{"DirTreeNode":{"name":"","type":"Directory","children":{"a":{"name":"a","type":%q,"children":{}}}},"FileRevisionList":{"FileNodes":[]}}`, kind)
		s.refused(t, "POST", "/content/v2.0{WS}/snapshots/6f9619ff-8b86-d011-b42d-0000000000ff", body, refusal{400, "InvalidSnapshot", ""})
	}
	if _, err := os.Lstat(outside); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there: %v", outside, err)
	}
}

// blobURI is the address of the blob that the scene has uploaded.
func (s *scene) blobURI(t *testing.T) string {
	t.Helper()
	for _, g := range s.goods {
		if g.method == "PUT" && strings.HasPrefix(g.target, "/snapshots-") && !strings.Contains(g.target, "comp=") {
			return s.c.File().URL + g.target
		}
	}
	t.Fatal("the scene has uploaded nothing")
	return ""
}

// badTokens tries every forged token on every kind of route.
func (s *scene) badTokens(t *testing.T) {
	codes := map[string]string{"an expired one": "ExpiredAuthenticationToken", "another tenant's": "InvalidAuthenticationTokenTenant", "another audience's": "InvalidAuthenticationTokenAudience"}
	l := newLine(t, s.c.File())
	forged := newForger(t, s.Dir, s.token).all()
	for _, name := range sorted(forged) {
		for _, g := range s.goods {
			if g.get("Authorization") != "Bearer "+s.token || strings.HasPrefix(g.target, "/ebb/nodes/") || g.method == "HEAD" {
				continue
			}
			r := g.clone()
			r.set("Authorization", "Bearer "+forged[name])
			a, err := l.send(r)
			if err != nil {
				t.Fatalf("%s with %s: %v", g.name, name, err)
			}
			var got struct{ Error client.Error }
			if err := json.Unmarshal(a.body, &got); err != nil {
				t.Fatalf("%s with %s: %d %s", g.name, name, a.status, a.body)
			}
			want := codes[name]
			if want == "" {
				want = "InvalidAuthenticationToken"
			}
			if a.status != 401 || got.Error.Code != want || a.header.Get("Www-Authenticate") == "" {
				t.Errorf("%s with %s: %d %s, want 401 %s", g.name, name, a.status, a.body, want)
			}
		}
	}
}
