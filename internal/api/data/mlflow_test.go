package data_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

const ml = "/mlflow/v2.0{WS}/api/2.0/mlflow"

// tracked submits a run on a cluster and returns its guid.
func tracked(w *world, run string) string {
	w.submit(run)
	return w.status(run, queue.Running, func(*queue.Status) {})
}

// One run, one row: what MLflow tells of a job is what SDK v1 reads of it, and
// the other way round.
func TestMLflowAndRunHistoryAreOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tracked(w, "job_1")
	w.call(200, "POST", ml+"/runs/log-batch", `{"run_id":"job_1","metrics":[{"key":"loss","value":0.5,"timestamp":1700000000000,"step":"0"},{"key":"loss","value":"NaN","timestamp":1700000001000,"step":1}],
		"params":[{"key":"depth","value":"3"}],"tags":[{"key":"from","value":"mlflow"},{"key":"mlflow.runName","value":"named"}]}`)
	w.call(200, "POST", "/metric/v2.0{WS}/runs/job_1/batch", `{"values":[{"name":"acc","columns":{"acc":"double"},"value":[{"metricId":"m1","createdUtc":"2026-01-01T00:00:00Z","data":{"acc":0.75}}]}]}`)
	full := w.call(200, "POST", "/metric/v2.0{WS}/runs/job_1/full", `{"metricName":"loss"}`)
	if got := fmt.Sprint(full["value"].([]any)[0].(map[string]any)["data"], len(full["value"].([]any))); got != "map[loss:0.5] 2" {
		t.Errorf("SDK v1 reads %s", got)
	}
	run := w.call(200, "GET", "/history/v1.0{WS}/runs/job_1", "")
	if run["displayName"] != "named" || run["tags"].(map[string]any)["from"] != "mlflow" {
		t.Errorf("run history shows %v and %v", run["displayName"], run["tags"])
	}
	got := w.call(200, "GET", ml+"/runs/get?run_id=job_1", "")["run"].(map[string]any)
	metrics := map[string]any{}
	for _, m := range got["data"].(map[string]any)["metrics"].([]any) {
		metrics[m.(map[string]any)["key"].(string)] = m.(map[string]any)["value"]
	}
	if fmt.Sprint(metrics) != "map[acc:0.75 loss:NaN]" || got["info"].(map[string]any)["status"] != "RUNNING" {
		t.Errorf("MLflow reads %v of a run that is %v", metrics, got["info"])
	}
}

// A job's process does not end its run; hiding it archives it.
func TestMLflowDoesNotEndAJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tracked(w, "job_1")
	w.call(200, "POST", ml+"/runs/update", `{"run_id":"job_1","status":"FINISHED","end_time":1700000000000}`)
	if got := w.call(200, "GET", "/history/v1.0{WS}/runs/job_1", "")["status"]; got != "Running" {
		t.Errorf("the job is %v", got)
	}
	w.call(200, "POST", ml+"/runs/delete", `{"run_id":"job_1"}`)
	if got := w.call(200, "GET", "/history/v1.0{WS}/runs/job_1", "")["hidden"]; got != true {
		t.Errorf("hidden is %v", got)
	}
	w.call(404, "POST", ml+"/runs/delete", `{"run_id":"never-made"}`)
}

// The token of a job writes its own run and makes children, and nothing else.
func TestMLflowKeepsAJobToItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	guid := tracked(w, "job_1")
	tracked(w, "job_2")
	w.token = guid
	w.call(200, "POST", ml+"/runs/log-metric", `{"run_id":"job_1","key":"a","value":1,"timestamp":1,"step":0}`)
	for path, body := range map[string]string{
		"/runs/log-metric":    `{"run_id":"job_2","key":"a","value":1,"timestamp":1,"step":0}`,
		"/runs/log-parameter": `{"run_id":"job_2","key":"a","value":"1"}`,
		"/runs/delete":        `{"run_id":"job_2"}`,
		"/runs/update":        `{"run_id":"job_2","status":"FAILED"}`,
		"/experiments/create": `{"name":"new"}`,
		"/runs/log-model":     `{"run_id":"job_2","model_json":"{}"}`,
	} {
		if got := w.call(403, "POST", ml+path, body)["error_code"]; got != "PERMISSION_DENIED" {
			t.Errorf("%s: %v", path, got)
		}
	}
	exp := w.call(200, "GET", "/history/v1.0{WS}/runs/job_1", "")["experimentId"]
	made := w.call(200, "POST", ml+"/runs/create", fmt.Sprintf(`{"experiment_id":%q,"tags":[]}`, exp))["run"].(map[string]any)
	id := made["info"].(map[string]any)["run_id"].(string)
	if got := w.call(200, "GET", "/history/v1.0{WS}/runs/"+id, "")["parentRunId"]; got != "job_1" {
		t.Errorf("the parent is %v", got)
	}
	w.call(200, "POST", ml+"/runs/log-metric", `{"run_id":"`+id+`","key":"a","value":1,"timestamp":1,"step":0}`)
}

// Many that log at once lose nothing, and none is told to try again.
func TestMLflowTakesManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tracked(w, "job_1")
	var wg sync.WaitGroup
	codes := make([]int, 40)
	for i := range codes {
		wg.Go(func() {
			body := fmt.Sprintf(`{"run_id":"job_1","metrics":[{"key":"m","value":%d,"timestamp":%d,"step":%d}],"params":[{"key":"p%d","value":"v"}]}`, i, 1700000000000+i, i, i)
			codes[i] = w.send("POST", strings.ReplaceAll(ml, "{WS}", wsID)+"/runs/log-batch", "application/json", strings.NewReader(body)).Code
		})
	}
	wg.Wait()
	for i, c := range codes {
		if c != 200 {
			t.Errorf("writer %d got %d", i, c)
		}
	}
	data := w.call(200, "GET", ml+"/runs/get?run_id=job_1", "")["run"].(map[string]any)["data"].(map[string]any)
	if len(data["params"].([]any)) != 40 || data["metrics"].([]any)[0].(map[string]any)["value"] != 39.0 {
		t.Errorf("%d params, last metric %v", len(data["params"].([]any)), data["metrics"])
	}
	if got := w.call(200, "GET", ml+"/metrics/get-history?run_id=job_1&metric_key=m", "")["metrics"].([]any); len(got) != 40 {
		t.Errorf("%d values", len(got))
	}
}

func TestMLflowLosesNoModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tracked(w, "job_1")
	const models = 40
	var wg sync.WaitGroup
	for i := range models {
		wg.Go(func() {
			body := fmt.Sprintf(`{"run_id":"job_1","model_json":"{\"model_uuid\":%d}"}`, i)
			if out := w.send("POST", strings.ReplaceAll(ml, "{WS}", wsID)+"/runs/log-model", "application/json", strings.NewReader(body)); out.Code != 200 {
				t.Errorf("model %d: %d %s", i, out.Code, out.Body)
			}
		})
	}
	wg.Wait()
	tags, _ := w.call(200, "GET", "/history/v1.0{WS}/runs/job_1", "")["tags"].(map[string]any)
	var list []any
	text, _ := tags["mlflow.log-model.history"].(string)
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != models {
		t.Errorf("%d models are noted, %v", len(list), err)
	}
}

// The last value is that of the highest step, in whatever order they come.
func TestMLflowLastValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tracked(w, "job_1")
	for _, m := range []string{`"value":1,"timestamp":2000,"step":5`, `"value":2,"timestamp":3000,"step":4`, `"value":3,"timestamp":1000,"step":5`, `"value":4,"timestamp":2500,"step":5`} {
		w.call(200, "POST", ml+"/runs/log-metric", `{"run_id":"job_1","key":"m",`+m+`}`)
	}
	data := w.call(200, "GET", ml+"/runs/get?run_id=job_1", "")["run"].(map[string]any)["data"].(map[string]any)
	if got := data["metrics"].([]any)[0].(map[string]any)["value"]; got != 4.0 {
		t.Errorf("the last value is %v", got)
	}
}

func TestMLflowRefusesInItsOwnWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tracked(w, "job_1")
	w.call(200, "POST", ml+"/runs/log-parameter", `{"run_id":"job_1","key":"a","value":"1"}`)
	for what, c := range map[string]struct {
		status             int
		method, path, body string
		code               string
	}{
		"a run that is not there":         {404, "GET", "/runs/get?run_id=no", "", "RESOURCE_DOES_NOT_EXIST"},
		"an experiment that is not there": {404, "GET", "/experiments/get?experiment_id=no", "", "RESOURCE_DOES_NOT_EXIST"},
		"the default one, not made yet":   {404, "GET", "/experiments/get?experiment_id=0", "", "RESOURCE_DOES_NOT_EXIST"},
		"a param with another value":      {400, "POST", "/runs/log-parameter", `{"run_id":"job_1","key":"a","value":"2"}`, "INVALID_PARAMETER_VALUE"},
		"a param twice in one request":    {400, "POST", "/runs/log-batch", `{"run_id":"job_1","params":[{"key":"b","value":"1"},{"key":"b","value":"2"}]}`, "INVALID_PARAMETER_VALUE"},
		"a value that is no number":       {400, "POST", "/runs/log-metric", `{"run_id":"job_1","key":"m","value":"high"}`, "INVALID_PARAMETER_VALUE"},
		"a metric without a name":         {400, "POST", "/runs/log-metric", `{"run_id":"job_1","value":1}`, "INVALID_PARAMETER_VALUE"},
		"a status that there is not":      {400, "POST", "/runs/update", `{"run_id":"job_1","status":"DONE"}`, "INVALID_PARAMETER_VALUE"},
		"a new name for no run":           {404, "POST", "/runs/update", `{"run_id":"no","run_name":"x"}`, "RESOURCE_DOES_NOT_EXIST"},
		"a tag that is not there":         {404, "POST", "/runs/delete-tag", `{"run_id":"job_1","key":"no"}`, "RESOURCE_DOES_NOT_EXIST"},
		"a filter that says nothing":      {400, "POST", "/runs/search", `{"experiment_ids":["0"],"filter":"metrics."}`, "INVALID_PARAMETER_VALUE"},
		"a page that was not given":       {400, "POST", "/runs/search", `{"experiment_ids":["0"],"order_by":["status"],"page_token":"x"}`, "INVALID_PARAMETER_VALUE"},
		"a name that no experiment has":   {400, "POST", "/experiments/create", `{"name":"a/b"}`, "INVALID_PARAMETER_VALUE"},
		"a body that is no JSON":          {400, "POST", "/runs/create", `{`, "INVALID_PARAMETER_VALUE"},
		"a step that is no number":        {400, "POST", "/runs/log-metric", `{"run_id":"job_1","key":"m","value":1,"step":"x"}`, "INVALID_PARAMETER_VALUE"},
		"registered models":               {404, "POST", "/registered-models/create", `{"name":"m"}`, "ENDPOINT_NOT_FOUND"},
		"a model that is no JSON":         {400, "POST", "/runs/log-model", `{"run_id":"job_1","model_json":"{"}`, "INVALID_PARAMETER_VALUE"},
	} {
		got := w.call(c.status, c.method, ml+c.path, c.body)
		if e, ok := got["error"].(map[string]any); got["error_code"] != c.code || got["message"] == "" || !ok || e["code"] == "" {
			t.Errorf("%s: %v, want the code %s", what, got, c.code)
		}
	}
}

// A logged-at-once run that MLflow makes: it starts and ends when it says.
func TestMLflowRunsOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.call(200, "POST", ml+"/runs/create", `{"experiment_id":"0","run_name":"mine","start_time":1700000000000}`)["run"].(map[string]any)
	info := made["info"].(map[string]any)
	id := info["run_id"].(string)
	if info["status"] != "RUNNING" || info["start_time"] != 1700000000000.0 || info["run_name"] != "mine" {
		t.Errorf("made: %v", info)
	}
	if want := "azureml://" + host + "/mlflow/v2.0" + wsID + "/experiments/Default/runs/" + id + "/artifacts"; info["artifact_uri"] != want {
		t.Errorf("artifacts go to %v, want %s", info["artifact_uri"], want)
	}
	plain := w.call(200, "GET", "/mlflow/v1.0{WS}/api/2.0/mlflow/runs/get?run_id="+id, "")["run"].(map[string]any)["info"].(map[string]any)
	if uri, _ := plain["artifact_uri"].(string); !strings.HasPrefix(uri, "mlflow-artifacts:/") {
		t.Errorf("MLflow alone is sent to %v", plain["artifact_uri"])
	}
	w.call(200, "POST", ml+"/runs/update", `{"run_id":"`+id+`","status":"FINISHED","end_time":"1700000005000"}`)
	run := w.call(200, "GET", "/history/v1.0{WS}/runs/"+id, "")
	if end, _ := run["endTimeUtc"].(string); run["status"] != "Completed" || !strings.HasPrefix(end, time.UnixMilli(1700000005000).UTC().Format("2006-01-02T15:04:05")) {
		t.Errorf("run history: %v, ended %v", run["status"], run["endTimeUtc"])
	}
	put := "/mlflow/v1.0{WS}/api/2.0/mlflow-artifacts/artifacts/e/" + id + "/artifacts/a b/c.txt"
	if out := w.send("PUT", strings.ReplaceAll(put, "{WS}", wsID), "text/plain", strings.NewReader("text")); out.Code != 200 {
		t.Fatalf("%d %s", out.Code, out.Body)
	}
	if out := w.send("GET", strings.ReplaceAll(put, "{WS}", wsID), "", nil); out.Code != 200 || out.Body.String() != "text" {
		t.Errorf("%d %s", out.Code, out.Body)
	}
	list := w.call(200, "GET", "/mlflow/v1.0{WS}/api/2.0/mlflow-artifacts/artifacts?path=e/"+id+"/artifacts", "")["files"]
	if fmt.Sprint(list) != "[map[is_dir:true path:a b]]" {
		t.Errorf("files: %v", list)
	}
	for _, path := range []string{"e/" + id + "/artifacts/..%2f..%2fx", "e/" + id + "/artifacts/%2e%2e/%2e%2e/x", "e/no-run/artifacts/x"} {
		out := w.send("PUT", strings.ReplaceAll("/mlflow/v1.0{WS}/api/2.0/mlflow-artifacts/artifacts/", "{WS}", wsID)+path, "text/plain", strings.NewReader("x"))
		if out.Code/100 != 4 {
			t.Errorf("PUT %s: %d", path, out.Code)
		}
	}
}

// A model is its run's: who may write the run may write the model, and its
// files are nobody else's.
func TestMLflowLoggedModels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	guid, other := tracked(w, "job_1"), tracked(w, "job_2")
	w.token = guid
	made := w.call(200, "POST", ml+"/logged-models", `{"source_run_id":"job_1","name":"m","params":[{"key":"a","value":"1"}]}`)["model"].(map[string]any)["info"].(map[string]any)
	id := made["model_id"].(string)
	if want := "azureml://" + host + "/mlflow/v2.0" + wsID + "/experiments/x/runs/" + id + "/artifacts"; made["artifact_uri"] != want || made["status"] != "LOGGED_MODEL_PENDING" {
		t.Errorf("made %v, want its files at %s", made, want)
	}
	files := "/history/v1.0{WS}/experiments/x/runs/" + id + "/artifacts"
	w.call(200, "POST", files+"/batch/metadata", `{"paths":[{"path":"MLmodel"}]}`)
	if got := w.call(200, "GET", files, "")["value"].([]any); len(got) != 1 {
		t.Errorf("files %v", got)
	}
	if got := w.call(200, "GET", "/history/v1.0{WS}/experiments/x/runs/job_1/artifacts", "")["value"].([]any); len(got) != 0 {
		t.Errorf("files of the run %v", got)
	}
	w.call(200, "POST", ml+"/runs/log-metric", `{"run_id":"job_1","model_id":"`+id+`","key":"acc","value":0.5,"timestamp":1,"step":0}`)
	w.call(200, "PATCH", ml+"/logged-models/"+id, `{"status":"LOGGED_MODEL_READY"}`)
	w.call(200, "PATCH", ml+"/logged-models/"+id+"/tags", `{"tags":[{"key":"t","value":"v"}]}`)
	w.call(200, "POST", ml+"/runs/outputs", `{"run_id":"job_1","models":[{"model_id":"`+id+`","step":0}]}`)
	exp := made["experiment_id"].(string)
	found := w.call(200, "POST", ml+"/logged-models/search", `{"experiment_ids":["`+exp+`"],"filter":"source_run_id = 'job_1' AND metrics.acc > 0.4 AND tags.t = 'v'","order_by":[{"field_name":"creation_time","ascending":false}]}`)["models"].([]any)
	if len(found) != 1 || found[0].(map[string]any)["info"].(map[string]any)["status"] != "LOGGED_MODEL_READY" {
		t.Errorf("found %v", found)
	}
	w.token = other
	w.call(403, "PATCH", ml+"/logged-models/"+id, `{"status":"LOGGED_MODEL_UPLOAD_FAILED"}`)
	w.call(403, "POST", ml+"/logged-models", `{"source_run_id":"job_1","name":"m"}`)
	w.call(403, "POST", files+"/batch/metadata", `{"paths":[{"path":"evil"}]}`)
	w.token = "user"
	w.call(200, "DELETE", ml+"/logged-models/"+id, "")
	w.call(404, "GET", ml+"/logged-models/"+id, "")
	w.call(404, "GET", files, "")
}

// Bodies that nobody means are refused, and never break anything.
func TestMLflowTakesAnything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tracked(w, "job_1")
	keys := []string{"run_id", "run_uuid", "experiment_id", "experiment_ids", "name", "new_name", "run_name", "status", "start_time", "end_time", "tags", "params", "metrics", "key", "value",
		"timestamp", "step", "filter", "run_view_type", "max_results", "order_by", "page_token", "model_json", "source_run_id", "model_id", "models", "datasets"}
	vals := []string{`"job_1"`, `null`, `0`, `-1`, `1e300`, `"x"`, `""`, `[]`, `{}`, `["job_1"]`, `[{"key":"a","value":1}]`, `[{"key":"a"}]`, `[null]`, `true`, `"NaN"`, `9223372036854775807`, `"\u0000"`, `"Default"`, `["0"]`}
	ops := []string{"/experiments/create", "/experiments/search", "/experiments/delete", "/experiments/set-experiment-tag", "/runs/create", "/runs/update", "/runs/delete", "/runs/search", "/runs/log-metric",
		"/runs/log-parameter", "/runs/log-batch", "/runs/set-tag", "/runs/delete-tag", "/runs/log-model", "/logged-models/search", "/logged-models", "/logged-models/m-1/params", "/runs/log-inputs", "/runs/outputs", "/nothing"}
	r := rand.New(rand.NewPCG(4, 31))
	for range 3000 {
		var fields []string
		for range r.IntN(6) {
			fields = append(fields, fmt.Sprintf("%q:%s", keys[r.IntN(len(keys))], vals[r.IntN(len(vals))]))
		}
		body, op := "{"+strings.Join(fields, ",")+"}", ops[r.IntN(len(ops))]
		out := w.send("POST", strings.ReplaceAll(ml, "{WS}", wsID)+op, "application/json", strings.NewReader(body))
		if out.Code >= 500 || out.Code >= 400 && !strings.Contains(out.Body.String(), `"error_code"`) {
			t.Fatalf("%s %s: %d %s", op, body, out.Code, out.Body)
		}
	}
}
