package data_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/data"
	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

const (
	wsID = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
	guid = "22222222-2222-2222-2222-222222222222"
	host = "127.0.0.1:27443"
)

// keys are made once: an RSA key takes a while.
var keys = sync.OnceValues(func() (*token.Keys, error) {
	dir, err := os.MkdirTemp("", "ebb-keys-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	return token.Open(dir)
})

// who is a token: "user", or the guid of a run.
type who struct{}

func (who) Verify(tok string) (access.Principal, error) {
	if tok == "user" {
		return access.Principal{ID: "oid", Name: "me", Kind: access.Application}, nil
	}
	if armid.IsGUID(tok) {
		return access.Principal{ID: tok, Run: tok, Fence: 7, Kind: access.RunIdentity, Scope: strings.ToLower(wsID)}, nil
	}
	return access.Principal{}, fault.New(fault.Unauthorized, "", "Who is %q?", tok)
}

// maxFile is what a file has at most that comes in one request.
const maxFile = 1 << 20

type world struct {
	*testing.T
	store  *apptest.Store
	blobs  *blob.Store
	router *arm.Router
	now    func() time.Time
	token  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	store := &apptest.Store{}
	now := func() time.Time { return time.Now().UTC() }
	files := data.Store{Blobs: blobs}
	js := &jobs.Service{Store: store, Now: now, NewID: uuid.NewString}
	as := &assets.Service{Store: store, Files: files, Now: now, NewID: uuid.NewString}
	w := &world{T: t, store: store, blobs: blobs, now: now, token: "user",
		router: &arm.Router{Auth: who{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}}
	data.Register(w.router, data.Services{Jobs: js, Assets: as, Blobs: files, Keys: k, Now: now, MaxFile: maxFile})
	key := strings.ToLower(wsID)
	w.commit(row.Put(row.Document{Kind: row.Workspace, ID: key, Body: []byte(`{"resource":{"id":"` + wsID + `","name":"ws","location":"westus","properties":{"workspaceId":"` + guid + `"}}}`)}),
		row.Put(fleet.Cluster{ID: key + "/computes/cpu-cluster", Name: "cpu-cluster", Workspace: key, Max: 4}))
	return w
}

func (w *world) commit(changes ...row.Change) {
	w.Helper()
	if _, err := w.store.Commit(w.Context(), changes...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) send(method, target, contentType string, body io.Reader) *httptest.ResponseRecorder {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), method, strings.ReplaceAll(target, " ", "%20"), body)
	r.Host = host
	r.Header.Set("Authorization", "Bearer "+w.token)
	r.Header.Set("Content-Type", contentType)
	out := httptest.NewRecorder()
	w.router.ServeHTTP(out, r)
	return out
}

// call sends JSON and reads JSON, and wants a status.
func (w *world) call(want int, method, target, body string) map[string]any {
	w.Helper()
	out := w.send(method, strings.ReplaceAll(target, "{WS}", wsID), "application/json-patch+json; charset=utf-8", strings.NewReader(body))
	var v map[string]any
	if out.Body.Len() > 0 {
		if err := json.Unmarshal(out.Body.Bytes(), &v); err != nil {
			w.Fatalf("%s %s: %v in %s", method, target, err, out.Body)
		}
	}
	if out.Code != want {
		w.Fatalf("%s %s = %d %s, want %d", method, target, out.Code, out.Body, want)
	}
	return v
}

// fetch gets a signed address as a client without a token does.
func (w *world) fetch(address, ranged string) *httptest.ResponseRecorder {
	w.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" {
		w.Fatalf("address %q: %v", address, err)
	}
	r := httptest.NewRequestWithContext(w.Context(), "GET", u.RequestURI(), nil)
	r.Host = u.Host
	if ranged != "" {
		r.Header.Set("Range", ranged)
	}
	out := httptest.NewRecorder()
	w.router.ServeHTTP(out, r)
	return out
}

// put does what the blob service does with a signed address.
func (w *world) put(address, content string) {
	w.Helper()
	u, err := url.Parse(address)
	if err != nil {
		w.Fatal(err)
	}
	account := armid.Account(guid)
	if u.Host != host || u.User.Username() != account+".blob.x" {
		w.Errorf("address %s: the client takes it apart as account.blob.suffix", address)
	}
	k, err := keys()
	if err != nil {
		w.Fatal(err)
	}
	container, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if err := k.VerifySAS(account, container, name, "w", u.Query(), w.now()); err != nil {
		w.Errorf("signature of %s: %v", address, err)
	}
	if strings.Contains(u.EscapedPath(), "%") {
		w.Errorf("address %s: SDK v1 would escape it once more", address)
	}
	if _, err := w.blobs.Put(w.Context(), container+"/"+armid.Unalias(name), strings.NewReader(content), blob.Meta{}); err != nil {
		w.Fatal(err)
	}
}

// configuration is what azureml-core 1.61 submits, shortened.
const configuration = `{"script":"train.py","arguments":["--lr",0.1],"target":"cpu-cluster","framework":"Python","communicator":"None","maxRunDurationSeconds":2592000,"nodeCount":1,"priority":null,
 "environment":{"name":"myenv","version":null,"environmentVariables":{"EXAMPLE_ENV_VAR":"EXAMPLE_VALUE"},"python":{"userManagedDependencies":true,"interpreterPath":"python","condaDependencies":{"dependencies":["python=3.8.13",{"pip":["azureml-defaults"]}]}}},"history":{"outputCollection":true}}`

// submit does what Experiment.submit does, in its order.
func (w *world) submit(run string) {
	w.Helper()
	w.call(200, "POST", "/history/v1.0{WS}/experiments/x", "")
	nodes := w.call(200, "POST", "/content/v2.0{WS}/snapshots/getblob", `{"FileNames":["train.py"]}`)["fileNodes"].([]any)
	address := nodes[0].(map[string]any)["blobUri"].(string)
	w.put(address, "print('hello')\n")
	snapshot := uuid.NewString()
	w.call(200, "POST", "/content/v2.0{WS}/snapshots/"+snapshot, `{"ParentSnapshotId":"00000000-0000-0000-0000-000000000000","Tags":null,"Properties":{},
	 "DirTreeNode":{"name":"","timestamp":"2026-11-23T01:20:47.758592","children":{"train.py":{"name":"train.py","timestamp":"t","children":{},"type":"File","hash":"71"}},"type":"Directory","hash":"66"},
	 "FileRevisionList":{"FileNodes":[{"FullName":"train.py","BlobUri":"`+address+`","FileSize":15}]}}`)
	for range 2 { // the client may repeat it
		got := w.call(200, "POST", "/execution/v1.0{WS}/experiments/x/snapshotrun?runId="+run, `{"TargetDetails":null,"Configuration":`+configuration+`,"TelemetryValues":{},"SnapshotId":"`+snapshot+`"}`)
		if got["runId"] != run {
			w.Fatalf("snapshotrun: %v", got)
		}
	}
	w.call(200, "PATCH", "/history/v1.0{WS}/experiments/x/runs/"+run, `{"runId":"`+run+`","properties":{"ContentSnapshotId":"`+snapshot+`"}}`)
}

func (w *world) status(run string, to queue.State, change func(*queue.Status)) string {
	w.Helper()
	id := w.call(200, "GET", "/history/v1.0{WS}/runs/"+run, "")["runUuid"].(string)
	rec, err := w.store.Get(w.Context(), row.Key{Kind: row.RunStatus, ID: id})
	if err != nil {
		w.Fatal(err)
	}
	st := rec.Row.(queue.Status)
	st.State = to
	if change != nil {
		change(&st)
	}
	w.commit(row.Put(st))
	return id
}

func (w *world) log(run string, attempt int, name, text string) {
	w.Helper()
	key := fmt.Sprintf("logs-%s/%s/%04d/%s", guid, run, attempt, name)
	var size int64
	if info, err := w.blobs.Stat(w.Context(), key); err == nil {
		size = info.Size
	}
	if _, err := w.blobs.Append(w.Context(), key, size, []byte(text)); err != nil {
		w.Fatal(err)
	}
}

// TestRunHasTheKeysTheClientIndexes holds the required keys of sdk-v1.md,
// section 4, step 8, and section 5.
func TestRunHasTheKeysTheClientIndexes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	run := w.call(200, "GET", "/history/v1.0{WS}/experiments/x/runs/x_1", "")
	for key, want := range map[string]any{
		"runId": "x_1", "status": "Queued", "rootRunId": "x_1", "runNumber": 1.0, "dataContainerId": "dcid.x_1", "target": "cpu-cluster", "displayName": "x_1",
		"scriptName": "train.py", "runType": "azureml.scriptrun",
		"cancelUri": "https://" + host + "/execution/v1.0" + wsID + "/experiments/x/runId/x_1/cancel",
	} {
		if run[key] != want {
			t.Errorf("%s = %v, want %v", key, run[key], want)
		}
	}
	for _, key := range []string{"experimentId", "createdUtc", "runUuid", "tags", "properties", "runDefinition", "queueingInfo", "createdBy"} {
		if run[key] == nil {
			t.Errorf("%s is missing or null", key)
		}
	}
	if run["createdBy"].(map[string]any)["userName"] != "me" || run["queueingInfo"].(map[string]any)["message"] == "" {
		t.Errorf("createdBy %v, queueingInfo %v", run["createdBy"], run["queueingInfo"])
	}
	details := w.call(200, "GET", "/history/v1.0{WS}/experiments/x/runs/x_1/details", "")
	for _, key := range []string{"runId", "target", "status", "startTimeUtc", "endTimeUtc", "properties", "inputDatasets", "outputDatasets", "services", "runDefinition", "logFiles", "error"} {
		if _, ok := details[key]; !ok {
			t.Errorf("details lack %s", key)
		}
	}
	if files, ok := details["logFiles"].(map[string]any); !ok || len(files) != 0 {
		t.Errorf("logFiles = %v, want an empty object", details["logFiles"])
	}
	id := run["experimentId"].(string)
	for _, at := range []string{"/experimentids/" + id + "/runs/x_1", "/EXPERIMENTS/X/runs/X_1", "/runs/x_1", "/experimentids/" + id + "/runs/x_1/details"} {
		if got := w.call(200, "GET", "/history/v1.0{WS}"+at, ""); got["runId"] != "x_1" {
			t.Errorf("%s: %v", at, got["runId"])
		}
	}
	if e := w.call(200, "GET", "/history/v1.0{WS}/experimentids/"+id, ""); e["name"] != "x" || e["archivedTime"] != nil {
		t.Errorf("experiment: %v", e)
	}
	w.call(404, "GET", "/history/v1.0{WS}/experiments/x/runs/none", "")
	w.call(404, "GET", "/history/v1.0{WS}/experiments/y", "")
	w.call(200, "POST", "/history/v1.0{WS}/experiments/y", "")
	w.call(404, "GET", "/history/v1.0{WS}/experiments/y/runs/x_1", "")
}

func TestListingsAreLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	w.submit("x_2")
	for target, c := range map[string]struct {
		method, body string
		want         int
	}{
		"/history/v1.0{WS}/experiments/x/runs:query":                                       {"POST", `{"filter":"(ParentRunId eq null)","orderby":"StartTimeUtc desc","top":500}`, 2},
		"/history/v1.0{WS}/experiments:query":                                              {"POST", `{"viewType":"ActiveOnly"}`, 1},
		"/history/v1.0{WS}/experiments/x/runs/x_1/children?$top=500":                       {"GET", "", 0},
		"/history/v1.0{WS}/computes/cpu-cluster/runs?$top=500":                             {"GET", "", 2},
		"/history/v1.0{WS}/computes/other/runs?$top=500":                                   {"GET", "", 0},
		"/environment/v1.0{WS}/environments/":                                              {"GET", "", 1}, // the runs' own
		"/artifact/v2.0{WS}/artifacts/ExperimentRun/dcid.x_1":                              {"GET", "", 0},
		"/artifact/v2.0{WS}/artifacts/prefix/contentinfo/ExperimentRun/dcid.x_1/user_logs": {"GET", "", 0},
		"/datastore/v1.0{WS}/datastores":                                                   {"GET", "", 1},
	} {
		got := w.call(200, c.method, target, c.body)
		if list, ok := got["value"].([]any); !ok || len(list) != c.want {
			t.Errorf("%s: value %v, want %d", target, got["value"], c.want)
		}
		if _, bad := got["nextLink"]; bad {
			t.Errorf("%s: nextLink must not be there on the last page: the client follows null", target)
		}
	}
	first := w.call(200, "POST", "/history/v1.0{WS}/experiments/x/runs:query", `{"top":1}`)
	next, _ := first["continuationToken"].(string)
	more, err := json.Marshal(map[string]any{"top": 1, "continuationToken": next})
	if err != nil {
		t.Fatal(err)
	}
	second := w.call(200, "POST", "/history/v1.0{WS}/experiments/x/runs:query", string(more))
	if next == "" || second["continuationToken"] != nil || second["value"].([]any)[0].(map[string]any)["runId"] != "x_1" {
		t.Errorf("second page: %v", second)
	}
	w.call(400, "POST", "/history/v1.0{WS}/experiments/x/runs:query", `{"filter":"nonsense"}`)
	w.call(400, "POST", "/history/v1.0{WS}/experiments/x/runs:query", `{"top":-1}`)
}

func TestARunPastItsTimeLimitSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	w.status("x_1", queue.Canceled, func(s *queue.Status) {
		s.Failure = queue.Failure{Code: "JobTimeout", Message: "It ran longer than its limit of 2s."}
		s.Ended = w.now()
	})
	d := w.call(200, "GET", "/history/v1.0{WS}/experiments/x/runs/x_1/details", "")
	if got := fmt.Sprint(d["warnings"]); got != "[map[message:It ran longer than its limit of 2s. source:service]]" {
		t.Errorf("warnings: %s", got)
	}
}

func TestFailedRunSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	w.status("x_1", queue.Failed, func(s *queue.Status) {
		s.Failure = queue.Failure{Code: "UserError", ExitCode: 3, Message: "ValueError: no"}
		s.Ended = w.now()
		s.Notes = []string{"No GPU here."}
	})
	d := w.call(200, "GET", "/history/v1.0{WS}/experiments/x/runs/x_1/details", "")
	if got := fmt.Sprint(d["warnings"]); got != "[map[message:No GPU here. source:node]]" {
		t.Errorf("warnings: %s", got)
	}
	e := d["error"].(map[string]any)["error"].(map[string]any)
	if e["code"] != "UserError" || !strings.Contains(e["message"].(string), "exit code 3") || !strings.Contains(e["message"].(string), "ValueError: no") {
		t.Errorf("error: %v", e)
	}
	if _, ok := e["details"].([]any); !ok {
		t.Error("details must be a list: the client's own error fails on null")
	}
	if d["endTimeUtc"] == nil || d["status"] != "Failed" {
		t.Errorf("details: %v", d)
	}
}

func TestCancelAndTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	w.call(200, "PATCH", "/history/v1.0{WS}/experiments/x/runs/x_1", `{"runId":"x_1","tags":{"q":"1","k":null}}`)
	if got := w.call(200, "DELETE", "/history/v1.0{WS}/experiments/x/runs/x_1/tags", `["q"]`)["tags"]; len(got.(map[string]any)) != 1 {
		t.Errorf("tags: %v", got)
	}
	w.call(400, "PATCH", "/history/v1.0{WS}/experiments/x/runs/x_1", `{"runId":"other"}`)
	w.call(200, "POST", "/execution/v1.0{WS}/experiments/x/runId/x_1/cancel", "")
	w.call(200, "GET", "/history/v1.0{WS}/experiments/x/runs/x_1/metricsingest/wait", "")
	if got := w.call(200, "GET", "/history/v1.0{WS}/runs/x_1", "")["status"]; got != "CancelRequested" {
		t.Errorf("status %v", got)
	}
}

func TestInteractiveRunAndMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(200, "POST", "/history/v1.0{WS}/experiments/x", "")
	run := uuid.NewString()
	at := "/history/v1.0{WS}/experiments/x/runs/" + run
	got := w.call(200, "PATCH", at, `{"runId":"`+run+`","name":"run_1","runTypeV2":{"orchestrator":"External","traits":["unspecified"]},"properties":{},"target":"local"}`)
	if got["status"] != "NotStarted" || got["cancelUri"] != nil || got["target"] != "local" || got["name"] != "run_1" {
		t.Errorf("new run: %v", got)
	}
	w.call(200, "POST", at+"/events", `{"timestamp":"2026-11-23T01:38:47.554624Z","name":"Microsoft.MachineLearning.Run.Start","data":{"RunId":"`+run+`","StartTime":"2026-11-23T01:38:47.554624Z"}}`)
	if got := w.call(200, "POST", "/metric/v2.0{WS}/runs/"+run+"/batch", `{"values":[{"name":"m","columns":{"m":"double"},"value":[{"metricId":"a","createdUtc":"2026-11-23T01:38:47.652746Z","data":{"m":1.0}}],"properties":{"uxMetricType":"azureml.v1.scalar"}}],"reportErrors":true}`); got["errors"] == nil {
		t.Errorf("batch: %v", got)
	}
	list := w.call(200, "POST", "/metric/v2.0{WS}/runs/"+run+"/list", `{}`)
	if m := list["value"].([]any)[0].(map[string]any); m["metricKey"].(map[string]any)["name"] != "m" || m["columns"].(map[string]any)["m"] != "double" || list["continuationToken"] != nil {
		t.Errorf("list: %v", list)
	}
	full := w.call(200, "POST", "/metric/v2.0{WS}/runs/"+run+"/full", `{"metricName":"m"}`)
	if full["name"] != "m" || full["dataContainerId"] != "dcid."+run || full["properties"].(map[string]any)["uxMetricType"] != "azureml.v1.scalar" || len(full["value"].([]any)) != 1 {
		t.Errorf("full: %v", full)
	}
	w.call(404, "POST", "/metric/v2.0{WS}/runs/"+run+"/full", `{"metricName":"none"}`)
	w.call(200, "POST", at+"/events", `{"name":"Microsoft.MachineLearning.Run.Completed","data":{"RunId":"`+run+`"}}`)
	if got := w.call(200, "GET", at, ""); got["status"] != "Completed" || got["startTimeUtc"] == nil || got["endTimeUtc"] == nil {
		t.Errorf("ended run: %v", got)
	}
	batch := w.call(200, "PATCH", "/history/v1.0{WS}/experiments/x/batch/runs", `{"runs":[{"runId":"kid","parentRunId":"`+run+`"},{"runId":"a/b"}]}`)
	if len(batch["runs"].(map[string]any)) != 1 || len(batch["errors"].(map[string]any)) != 1 {
		t.Errorf("batch of runs: %v", batch)
	}
	if kids := w.call(200, "GET", at+"/children", "")["value"].([]any); len(kids) != 1 {
		t.Errorf("children: %v", kids)
	}
}

func TestUploadAndDownload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	made := w.call(200, "POST", "/artifact/v2.0{WS}/artifacts/batch/metadata/ExperimentRun/dcid.x_1", `{"paths":[{"path":"outputs/a b.txt"}]}`)
	info := made["artifactContentInformation"].(map[string]any)["outputs/a b.txt"].(map[string]any)
	if a := made["artifacts"].(map[string]any)["outputs/a b.txt"].(map[string]any); a["artifactId"] != "ExperimentRun/dcid.x_1/outputs/a b.txt" || a["container"] != "dcid.x_1" {
		t.Errorf("artifact: %v", a)
	}
	if len(made["errors"].(map[string]any)) != 0 {
		t.Errorf("errors: %v", made["errors"])
	}
	w.put(info["contentUri"].(string), "artifact!")
	list := w.call(200, "GET", "/artifact/v2.0{WS}/artifacts/ExperimentRun/dcid.x_1", "")["value"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["path"] != "outputs/a b.txt" {
		t.Errorf("list: %v", list)
	}
	if got := w.call(200, "GET", "/artifact/v2.0{WS}/artifacts/contentinfo/ExperimentRun/dcid.x_1/outputs/a b.txt", ""); got["contentUri"] == "" || got["origin"] != "ExperimentRun" {
		t.Errorf("contentinfo: %v", got)
	}
	if out := w.send("GET", "/artifact/v2.0"+wsID+"/artifacts/content/ExperimentRun/dcid.x_1/outputs/a b.txt", "", nil); out.Body.String() != "artifact!" {
		t.Errorf("content: %d %s", out.Code, out.Body)
	}
	again := w.call(200, "POST", "/artifact/v2.0{WS}/artifacts/batch/metadata/ExperimentRun/dcid.x_1", `{"paths":[{"path":"outputs/a b.txt"}]}`)
	if len(again["errors"].(map[string]any)) != 1 {
		t.Errorf("uploaded twice: %v", again)
	}
	w.call(404, "GET", "/artifact/v2.0{WS}/artifacts/contentinfo/ExperimentRun/dcid.x_1/none", "")
	w.call(404, "GET", "/artifact/v2.0{WS}/artifacts/ExperimentRun/dcid.none", "")
	w.call(400, "POST", "/artifact/v2.0{WS}/artifacts/batch/metadata/ExperimentRun/dcid.x_1", `{"paths":[{"path":"../a"}]}`)
}

// TestFilesAreWholeOrRefused sends files of a run in one request, with their length
// said before and without.
func TestFilesAreWholeOrRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	for way, method := range map[string]string{
		"/artifact/v2.0" + wsID + "/artifacts/content/ExperimentRun/dcid.x_1/":                "POST",
		"/mlflow/v2.0" + wsID + "/api/2.0/mlflow-artifacts/artifacts/0/x_1/artifacts/mlflow/": "PUT",
	} {
		for name, c := range map[string]struct {
			size    int
			chunked bool
			want    int
		}{
			"the largest":           {maxFile, false, 200},
			"the largest in chunks": {maxFile, true, 200},
			"too large":             {maxFile + 1, false, 413},
			"too large, in chunks":  {maxFile + 1, true, 413},
		} {
			var body io.Reader = strings.NewReader(strings.Repeat("x", c.size))
			if c.chunked {
				body = io.MultiReader(body) // which nobody knows the length of
			}
			if out := w.send(method, way+name, "application/octet-stream", body); out.Code != c.want {
				t.Errorf("%s%s is answered %d %.300s, want %d", way, name, out.Code, out.Body, c.want)
			}
		}
	}
}

func TestZipRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	snapshot := w.call(200, "GET", "/history/v1.0{WS}/runs/x_1", "")["properties"].(map[string]any)["ContentSnapshotId"].(string)
	address := w.call(200, "POST", "/content/v2.0{WS}/snapshots/"+snapshot+"/zip", "")["zipSasUri"].(string)
	out := w.fetch(address, "")
	z, err := zip.NewReader(bytes.NewReader(out.Body.Bytes()), int64(out.Body.Len()))
	if err != nil || len(z.File) != 1 || z.File[0].Name != "train.py" {
		t.Fatalf("zip: %d, %v", out.Code, err)
	}
	if out := w.fetch(strings.Replace(address, snapshot, uuid.NewString(), 1), ""); out.Code != 403 {
		t.Errorf("another snapshot with this signature: %d", out.Code)
	}
	if got := w.call(200, "GET", "/content/v1.0{WS}/snapshots/latest/metadata", ""); got["id"] != "00000000-0000-0000-0000-000000000000" || got["root"] == nil {
		t.Errorf("latest: %v", got)
	}
	meta := w.call(200, "GET", "/content/v1.0{WS}/snapshots/"+snapshot+"/metadata", "")
	if meta["root"].(map[string]any)["children"].(map[string]any)["train.py"] == nil {
		t.Errorf("metadata: %v", meta)
	}
	w.call(404, "POST", "/content/v2.0{WS}/snapshots/"+uuid.NewString()+"/zip", "")
}

func TestStartRunTakesAZip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	f, err := z.Create("train.py")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write([]byte("print(1)\n")) // into memory
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	send := func(parts map[string]string) *httptest.ResponseRecorder {
		var b bytes.Buffer
		form := multipart.NewWriter(&b)
		for name, text := range parts {
			p, err := form.CreateFormFile(name, name)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(p, text) // into memory
		}
		if err := form.Close(); err != nil {
			t.Fatal(err)
		}
		return w.send("POST", "/execution/v1.0"+wsID+"/experiments/x/startrun?runId=z_1", form.FormDataContentType(), &b)
	}
	good := map[string]string{"runDefinitionFile": `{"Configuration":` + configuration + `}`, "projectZipFile": archive.String()}
	for range 2 { // again: the same run
		if out := send(good); out.Code != 200 || !strings.Contains(out.Body.String(), "z_1") {
			t.Fatalf("startrun: %d %s", out.Code, out.Body)
		}
	}
	if n := len(w.store.Rows(row.Snapshot)); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	for name, parts := range map[string]map[string]string{
		"no archive":    {"runDefinitionFile": `{}`},
		"no definition": {"projectZipFile": archive.String()},
		"not a zip":     {"runDefinitionFile": `{"Configuration":` + configuration + `}`, "projectZipFile": "hello"},
	} {
		if out := send(parts); out.Code != 400 {
			t.Errorf("%s: %d %s", name, out.Code, out.Body)
		}
	}
}

func TestEnvironmentsByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := `{"Name":"regenv","python":{"userManagedDependencies":true},"EnvironmentVariables":{"FROM_ENV":"1"},"Docker":{"baseImage":"i"},"Spark":{},"InferencingStackVersion":null,"r":null}`
	env := w.call(200, "PUT", "/environment/v1.0{WS}/environments/regenv", body)
	if env["name"] != "regenv" || env["version"] != "1" || env["docker"] == nil || env["environmentVariables"] == nil {
		t.Errorf("registered: %v", env)
	}
	for _, at := range []string{"/regenv", "/regenv/versions/1"} {
		if got := w.call(200, "GET", "/environment/v1.0{WS}/environments"+at, ""); got["version"] != "1" {
			t.Errorf("%s: %v", at, got)
		}
	}
	w.call(404, "GET", "/environment/v1.0{WS}/environments/none", "")
	w.call(200, "POST", "/execution/v1.0{WS}/experiments/x/snapshotrun?runId=r", `{"Configuration":{"script":"a.py","target":"cpu-cluster","environment":{"name":"regenv","version":"1"}}}`)
	var task queue.Task
	if err := json.Unmarshal(w.store.Rows(row.Task)[0].(row.Document).Body, &task); err != nil || task.Variables["FROM_ENV"] != "1" {
		t.Errorf("task: %+v, %v", task, err)
	}
	w.call(404, "POST", "/execution/v1.0{WS}/experiments/x/snapshotrun?runId=r2", `{"Configuration":{"script":"a.py","target":"cpu-cluster","environment":{"name":"none"}}}`)
}

func TestDefaultDatastore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	section := w.call(200, "GET", "/datastore/v1.0{WS}/default", "")["azureStorageSection"].(map[string]any)
	account := armid.Account(guid)
	if section["accountName"] != account || section["endpoint"] != "x@"+host || section["containerName"] != "azureml-blobstore-"+guid {
		t.Errorf("section: %v", section)
	}
	q, err := url.ParseQuery(section["sasToken"].(string))
	if err != nil {
		t.Fatal(err)
	}
	k, _ := keys()
	if err := k.VerifySAS(account, "azureml-blobstore-"+guid, "any", "w", q, w.now()); err != nil {
		t.Errorf("credential: %v", err)
	}
	if err := k.VerifySAS(account, "logs-"+guid, "any", "r", q, w.now()); err == nil {
		t.Error("the credential opens another container")
	}
}

func TestRunTokenIsRenewedForItselfOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	w.submit("x_2")
	at := "/history/v1.0{WS}/experiments/x/runs/"
	w.call(403, "GET", at+"x_1/token", "")
	w.token = w.call(200, "GET", at+"x_1", "")["runUuid"].(string)
	got := w.call(200, "GET", at+"x_1/token", "")
	k, _ := keys()
	g, err := k.VerifyRun(got["token"].(string), w.now())
	if err != nil || g.Run != w.token || g.Fence != 7 || g.Workspace != strings.ToLower(wsID) || got["expiryTimeUtc"] == nil {
		t.Errorf("grant %+v, %v", g, err)
	}
	w.call(200, "PATCH", at+"x_1_child", `{"runId":"x_1_child","parentRunId":"x_1"}`)
	child := w.call(200, "GET", at+"x_1_child/token", "")
	if g, err := k.VerifyRun(child["token"].(string), w.now()); err != nil || g.Run != w.token || g.Fence != 7 {
		t.Errorf("grant for a child %+v, %v; it must end with the attempt that asks", g, err)
	}
	w.call(403, "GET", at+"x_2/token", "")
	w.call(403, "PATCH", at+"x_2", `{"tags":{"a":"b"}}`)
	w.call(403, "POST", "/artifact/v2.0{WS}/artifacts/batch/metadata/ExperimentRun/dcid.x_2", `{"paths":[{"path":"a"}]}`)
	w.call(200, "POST", "/artifact/v2.0{WS}/artifacts/batch/metadata/ExperimentRun/dcid.x_1", `{"paths":[{"path":"a"}]}`)
	w.call(403, "POST", "/execution/v1.0{WS}/experiments/x/snapshotrun?runId=r", `{"Configuration":`+configuration+`}`)
	w.call(404, "GET", strings.Replace("/history/v1.0{WS}/experiments/x", "{WS}", strings.Replace(wsID, "/ws", "/other", 1), 1), "")
}

func TestWhatIsNotBuiltSaysItsName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for target, name := range map[string]string{
		"/hyperdrive/v1.0/subscriptions%2F0%2FresourceGroups%2Frg%2Fproviders%2FM%2Fworkspaces%2Fws%2Fexperiments%2Fx/runs": "HyperDrive",
		"/jasmine/v1.0{WS}/experiment/x/parent_run":             "AutoML",
		"/modelmanagement/v1.0{WS}/models":                      "Model",
		"/modelmanagement/v1.0{WS}/services/s":                  "Web services",
		"/modelmanagement/v1.0{WS}/assets":                      "Model management",
		"/modelmanagement/v2/x":                                 "Model management",
		"/datastore/v1.0{WS}/datastores":                        "Registering",
		"/datastore/v1.0{WS}/default/x":                         "Registering",
		"/dataset/v1.0{WS}/datasets":                            "Datasets",
		"/credential/v2.0{WS}/secrets:getbatch":                 "secrets",
		"/execution/v1.0{WS}/experiments/x/localrun?runId=r":    "local",
		"/content/v2.0{WS}/snapshots/uri/" + guid:               "Git",
		"/environment/v2.0{WS}/environments/e/versions/1/image": "images",
		"/metric/v1.0{WS}/x":                                    "Metrics",
	} {
		e := w.call(400, "POST", target, "{}")["error"].(map[string]any)
		if e["code"] != "NotImplemented" || !strings.Contains(e["message"].(string), name) || e["details"] == nil {
			t.Errorf("%s: %v", target, e)
		}
	}
}

// TestModelManagementSaysItInItsOwnWords checks the places where the clients of models
// look: HttpOperationError takes the message, WebserviceException the details.
func TestModelManagementSaysItInItsOwnWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, target := range []string{"/modelmanagement/v1.0{WS}/models", "/modelmanagement/v1.0{WS}/models/m:1"} {
		b := w.call(400, "GET", target, "")
		detail := b["details"].([]any)[0].(map[string]any)
		if b["code"] != "NotImplemented" || b["statusCode"] != 400.0 || b["message"] != "NotImplemented: Models are not part of Ebb yet." || detail["message"] != "Models are not part of Ebb yet." {
			t.Errorf("%s: %v", target, b)
		}
	}
}

func TestBadRequestsGet4xx(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit("x_1")
	for target, bodies := range map[string][]string{
		"POST /execution/v1.0{WS}/experiments/x/snapshotrun?runId=r":   {"", "{", "[]", "null", `{"Configuration":null}`, `{"Configuration":[]}`, `{"Configuration":{"script":5}}`, `{"Configuration":{"script":"a","target":"nope"}}`, `{"Configuration":{"script":"a","target":"cpu-cluster","nodeCount":2000}}`, `{"Configuration":{"script":"a","target":"cpu-cluster","nodeCount":1e99}}`},
		"POST /execution/v1.0{WS}/experiments/a b/snapshotrun?runId=r": {`{"Configuration":` + configuration + `}`},
		"POST /execution/v1.0{WS}/experiments/x/snapshotrun?runId=a/b": {`{"Configuration":` + configuration + `}`},
		"POST /content/v2.0{WS}/snapshots/" + guid:                     {"", "{}", `{"DirTreeNode":5}`, `{"DirTreeNode":{"children":{"..":{"type":"File"}}}}`, `{"DirTreeNode":{"children":{"a":{"type":"File"}}},"FileRevisionList":{"FileNodes":[{"FullName":"a","BlobUri":"::","FileSize":1}]}}`, strings.Repeat(`{"DirTreeNode":`, 10000), `{"DirTreeNode":{"children":{"a":{"type":"File"},"a":{"type":"File"}}}}`},
		"POST /content/v2.0{WS}/snapshots/getblob":                     {"", `{"FileNames":"a"}`},
		"PATCH /history/v1.0{WS}/experiments/x/runs/x_1":               {"", "[]", `{"tags":5}`, `{"tags":{"` + strings.Repeat("k", 101) + `":"v"}}`},
		"DELETE /history/v1.0{WS}/experiments/x/runs/x_1/tags":         {"", "{}"},
		"POST /history/v1.0{WS}/experiments/x/runs/x_1/events":         {"", "[]"},
		"POST /metric/v2.0{WS}/runs/x_1/batch":                         {"", "[]", `{"values":[{"name":""}]}`},
		"POST /metric/v2.0{WS}/runs/x_1/full":                          {"", `{"metricName":"m","startTime":"x"}`},
		"PUT /environment/v1.0{WS}/environments/e":                     {"", "[]", "null"},
		"GET /ebb/v1{WS}/jobs/x_1/log?offset=-1":                       {""},
		"GET /ebb/v1{WS}/jobs/x_1/log?wait=NaN":                        {""},
		"GET /ebb/v1{WS}/jobs/none/log":                                {""},
	} {
		method, at, _ := strings.Cut(target, " ")
		for _, body := range bodies {
			out := w.send(method, strings.ReplaceAll(at, "{WS}", wsID), "application/json", strings.NewReader(body))
			var e arm.Envelope
			if err := json.Unmarshal(out.Body.Bytes(), &e); out.Code < 400 || out.Code > 499 || err != nil || e.Error.Code == "" || e.Error.Message == "" || e.Error.Details == nil {
				t.Errorf("%s %.60s: %d %s", target, body, out.Code, out.Body)
			}
		}
	}
	if n := len(w.store.Rows(row.Run)); n != 1 {
		t.Errorf("%d runs, want the one", n)
	}
}
