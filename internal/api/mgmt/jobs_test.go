package mgmt_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/mgmt"
	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

const jobsWS = "/subscriptions/0/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/Main"

// anybody takes every token for the same application.
type anybody struct{}

func (anybody) Verify(string) (access.Principal, error) {
	return access.Principal{ID: "oid", Name: "me", Kind: access.Application}, nil
}

type jobWorld struct {
	*testing.T
	store  *apptest.Store
	router *arm.Router
	assets *assets.Service
}

func newJobWorld(t *testing.T) *jobWorld {
	t.Helper()
	now := func() time.Time { return time.Now().UTC() }
	w := &jobWorld{T: t, store: &apptest.Store{}, router: &arm.Router{Auth: anybody{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}}
	w.assets = &assets.Service{Store: w.store, Now: now, NewID: uuid.NewString}
	mgmt.RegisterJobs(w.router, mgmt.JobServices{Jobs: &jobs.Service{Store: w.store, Now: now, NewID: uuid.NewString}, Assets: w.assets})
	key := strings.ToLower(jobsWS)
	w.commit(row.Put(row.Document{Kind: row.Workspace, ID: key, Body: []byte(`{"resource":{"id":"` + jobsWS + `","name":"Main","location":"westus2","properties":{"workspaceId":"22222222-2222-2222-2222-222222222222"}}}`)}),
		row.Put(fleet.Cluster{ID: key + "/computes/cpu", Name: "cpu", Workspace: key, Max: 2}))
	return w
}

func (w *jobWorld) commit(changes ...row.Change) {
	w.Helper()
	if _, err := w.store.Commit(w.Context(), changes...); err != nil {
		w.Fatal(err)
	}
}

func (w *jobWorld) call(want int, method, path, body string) map[string]any {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), method, jobsWS+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer x")
	r.Host = "127.0.0.1:8443"
	out := httptest.NewRecorder()
	w.router.ServeHTTP(out, r)
	if out.Code != want {
		w.Fatalf("%s %s = %d %s, want %d", method, path, out.Code, out.Body, want)
	}
	v := map[string]any{}
	if out.Body.Len() > 0 {
		if err := json.Unmarshal(out.Body.Bytes(), &v); err != nil {
			w.Fatal(err)
		}
	}
	return v
}

const commandJob = `{"properties":{"jobType":"Command","command":"echo hi","computeId":"cpu","limits":{"jobLimitsType":"Command","timeout":"PT1H"},"tags":{"a":"1"},"unknownToEbb":{"kept":true}}}`

func TestJobIsInTheShapeOfJobBase(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	made := w.call(201, "PUT", "/jobs/j1?api-version=2024-04-01", commandJob)
	got := w.call(200, "GET", "/JOBS/J1?api-version=2024-04-01", "")
	for key, want := range map[string]any{"id": jobsWS + "/jobs/j1", "name": "j1", "type": "Microsoft.MachineLearningServices/workspaces/jobs"} {
		if got[key] != want || made[key] != want {
			t.Errorf("%s = %v, at its making %v, want %v", key, got[key], made[key], want)
		}
	}
	props := got["properties"].(map[string]any)
	for key, want := range map[string]any{
		"jobType": "Command", "status": "Queued", "command": "echo hi", "computeId": jobsWS + "/computes/cpu", "experimentName": "Default", "displayName": "j1",
		"isArchived": false, "codeId": nil, "environmentId": nil,
	} {
		if v, there := props[key]; !there || v != want {
			t.Errorf("properties.%s = %v, want %v", key, v, want)
		}
	}
	if props["limits"].(map[string]any)["timeout"] != "PT1H" || props["tags"].(map[string]any)["a"] != "1" || props["unknownToEbb"].(map[string]any)["kept"] != true {
		t.Errorf("properties: %v", props)
	}
	for _, s := range []string{"Tracking", "Studio"} {
		if e, _ := props["services"].(map[string]any)[s].(map[string]any)["endpoint"].(string); e == "" {
			t.Errorf("service %s has no endpoint", s)
		}
	}
	if sys := got["systemData"].(map[string]any); sys["createdBy"] != "me" || sys["createdByType"] != "Application" || sys["createdAt"] == "" {
		t.Errorf("systemData: %v", sys)
	}
}

func TestPutJobAgain(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	w.call(201, "PUT", "/jobs/j1", commandJob)
	w.call(200, "PUT", "/jobs/j1", commandJob)
	w.call(200, "PUT", "/jobs/j1", strings.Replace(commandJob, `"cpu"`, `"`+jobsWS+`/computes/CPU"`, 1))
	w.call(409, "PUT", "/jobs/j1", strings.Replace(commandJob, "echo hi", "echo ho", 1))
	tagged := w.call(200, "PUT", "/jobs/j1", strings.Replace(commandJob, `"a":"1"`, `"a":"2"`, 1))
	if tagged["properties"].(map[string]any)["tags"].(map[string]any)["a"] != "2" {
		t.Errorf("tags: %v", tagged)
	}
	if n := len(w.store.Rows(row.Run)); n != 1 {
		t.Errorf("%d runs, want 1", n)
	}
}

func TestPutJobRefuses(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	for name, c := range map[string]struct{ path, body, code string }{
		"no body":                   {"/jobs/j", "", "InvalidRequestContent"},
		"no properties":             {"/jobs/j", "{}", "InvalidRequestContent"},
		"properties that are text":  {"/jobs/j", `{"properties":"x"}`, "InvalidRequestContent"},
		"a sweep":                   {"/jobs/j", `{"properties":{"jobType":"Sweep"}}`, "NotImplemented"},
		"a bad name":                {"/jobs/-j", commandJob, "InvalidPropertyValue"},
		"an unknown compute":        {"/jobs/j", strings.Replace(commandJob, `"cpu"`, `"nope"`, 1), "ComputeNotFound"},
		"more nodes than there are": {"/jobs/j", strings.Replace(commandJob, `"tags"`, `"resources":{"instanceCount":2000},"tags"`, 1), "InvalidPropertyValue"},
		"no processes":              {"/jobs/j", strings.Replace(commandJob, `"tags"`, `"distribution":{"distributionType":"Mpi","processCountPerInstance":0},"tags"`, 1), "InvalidPropertyValue"},
		"a distribution of Ray":     {"/jobs/j", strings.Replace(commandJob, `"tags"`, `"distribution":{"distributionType":"Ray"},"tags"`, 1), "NotImplemented"},
		"an unknown environment":    {"/jobs/j", strings.Replace(commandJob, `"tags"`, `"environmentId":"azureml:e:1","tags"`, 1), "EnvironmentNotFound"},
	} {
		status := 400
		if c.code == "EnvironmentNotFound" {
			status = 404
		}
		e := w.call(status, "PUT", c.path, c.body)["error"].(map[string]any)
		if e["code"] != c.code || e["details"] == nil {
			t.Errorf("%s: %v, want %s", name, e, c.code)
		}
	}
	if n := len(w.store.Rows(row.Job)); n != 0 {
		t.Errorf("%d jobs were made", n)
	}
}

// TestOneProcessIsTaken puts what a job is anyway, twice, and reads it as it was put.
func TestOneProcessIsTaken(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	for path, distribution := range map[string]string{
		"/jobs/m": `{"distributionType":"Mpi","processCountPerInstance":1}`,
		"/jobs/p": `{"distributionType":"PyTorch","processCountPerInstance":null}`,
	} {
		body := strings.Replace(commandJob, `"tags"`, `"distribution":`+distribution+`,"tags"`, 1)
		w.call(201, "PUT", path, body)
		w.call(200, "PUT", path, body)
		got, err := json.Marshal(w.call(200, "GET", path, "")["properties"].(map[string]any)["distribution"])
		if err != nil || string(got) != distribution {
			t.Errorf("%s has the distribution %s, %v; want %s", path, got, err, distribution)
		}
	}
}

func TestJobWithRegisteredEnvironment(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	place := assets.Place{ID: jobsWS, GUID: "22222222-2222-2222-2222-222222222222"}
	if _, err := w.assets.Register(t.Context(), access.Principal{}, place, "e", "", map[string]any{"python": map[string]any{"condaDependencies": map[string]any{"dependencies": []any{"python=3.10", map[string]any{"pip": []any{"six"}}}}}}); err != nil {
		t.Fatal(err)
	}
	w.call(201, "PUT", "/jobs/j", strings.Replace(commandJob, `"tags"`, `"environmentId":"`+jobsWS+`/environments/e/versions/1","tags"`, 1))
	var task queue.Task
	if err := json.Unmarshal(w.store.Rows(row.Task)[0].(row.Document).Body, &task); err != nil || task.Environment.Python != "3.10" || len(task.Environment.Pip) != 1 {
		t.Errorf("task: %+v, %v", task, err)
	}
}

func TestJobSaysWhichVersionOfItsEnvironmentRan(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	place := assets.Place{ID: jobsWS, GUID: "22222222-2222-2222-2222-222222222222"}
	for _, pip := range []string{"six", "numpy"} {
		if _, err := w.assets.Register(t.Context(), access.Principal{}, place, "e", "", map[string]any{"python": map[string]any{"condaDependencies": map[string]any{"dependencies": []any{map[string]any{"pip": []any{pip}}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	for i, id := range []string{"azureml:e@latest", "azureml:e", "azureml:E:2", jobsWS + "/environments/e/versions/2"} {
		path := fmt.Sprintf("/jobs/j%d", i)
		w.call(201, "PUT", path, strings.Replace(commandJob, `"tags"`, `"EnvironmentID":"`+id+`","tags"`, 1))
		props, _ := w.call(200, "GET", path, "")["properties"].(map[string]any)
		if got, want := props["environmentId"], jobsWS+"/environments/e/versions/2"; got != want || props["EnvironmentID"] != nil {
			t.Errorf("%s: environmentId is %v, want %v; %v", id, got, want, props["EnvironmentID"])
		}
	}
}

func TestJobList(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	for _, id := range []string{"j1", "j2", "j3"} {
		w.call(201, "PUT", "/jobs/"+id, strings.Replace(commandJob, `"1"`, `"`+id+`"`, 1))
	}
	w.call(200, "PUT", "/jobs/j3", strings.Replace(strings.Replace(commandJob, `"1"`, `"j3"`, 1), `"tags"`, `"isArchived":true,"tags"`, 1))
	for query, want := range map[string]int{"": 2, "?listViewType=All": 3, "?listViewType=ArchivedOnly": 1, "?tag=a=j1": 1, "?tag=a": 2, "?jobType=Command": 2, "?jobType=Sweep": 0} {
		got := w.call(200, "GET", "/jobs"+query, "")
		if _, there := got["nextLink"]; there || len(got["value"].([]any)) != want {
			t.Errorf("%q: %d jobs, nextLink %v; want %d", query, len(got["value"].([]any)), there, want)
		}
	}
}

func TestCancelAndDeleteJob(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	w.call(201, "PUT", "/jobs/j", commandJob)
	w.call(409, "DELETE", "/jobs/j", "")
	w.call(202, "POST", "/jobs/j/cancel", "")
	w.call(202, "GET", "/jobs/j/cancel", "")
	if got := w.call(200, "GET", "/jobs/j", "")["properties"].(map[string]any)["status"]; got != "CancelRequested" {
		t.Errorf("status %v", got)
	}
	st := w.store.Rows(row.RunStatus)[0].(queue.Status)
	st.State, st.Failure = queue.Failed, queue.Failure{Code: "UserError", Message: "no", ExitCode: 2}
	w.commit(row.Put(st))
	props := w.call(200, "GET", "/jobs/j", "")["properties"].(map[string]any)
	if props["exitCode"] != 2.0 || props["error"].(map[string]any)["message"] != "no" {
		t.Errorf("properties: %v", props)
	}
	w.call(200, "GET", "/jobs/j/cancel", "")
	w.call(200, "POST", "/jobs/j/cancel", "")
	w.call(200, "DELETE", "/jobs/j", "")
	w.call(204, "DELETE", "/jobs/j", "")
	w.call(404, "GET", "/jobs/j", "")
	w.call(404, "POST", "/jobs/j/cancel", "")
}

// Why a job waits is said where SDK v2 shows it, and only while it does.
func TestJobShowsWhyItWaits(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	w.call(201, "PUT", "/jobs/j1", commandJob)
	st, _ := w.store.Rows(row.RunStatus)[0].(queue.Status)
	for state, want := range map[queue.State]any{queue.Queued: "No node is free.", queue.Running: nil, queue.Completed: nil} {
		st.State, st.Why = state, "No node is free."
		w.commit(row.Put(st))
		if got := at(w.call(200, "GET", "/jobs/j1", ""), "properties.properties"); got.(dict)["ebb.waits"] != want {
			t.Errorf("%s: %v, want %v", state, got, want)
		}
	}
	st.State = queue.Running
	w.commit(row.Put(st))
	w.call(200, "PUT", "/jobs/j1", strings.Replace(commandJob, `"tags"`, `"properties":{"mine":"1","ebb.waits":"No node is free."},"tags"`, 1))
	if got := at(w.call(200, "GET", "/jobs/j1", ""), "properties.properties").(dict); got["ebb.waits"] != nil || got["mine"] != "1" {
		t.Errorf("sent back: %v", got)
	}
}

func TestJobShowsWhatItsNodesDoWithout(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	w.call(201, "PUT", "/jobs/j1?api-version=2024-04-01", commandJob)
	st, _ := w.store.Rows(row.RunStatus)[0].(queue.Status)
	st.Notes = []string{"No GPU.", "Landlock alone."}
	w.commit(row.Put(st))
	read := func() map[string]any {
		return w.call(200, "GET", "/jobs/j1?api-version=2024-04-01", "")["properties"].(map[string]any)
	}
	props := read()
	if got := props["properties"].(map[string]any)["ebb.notes"]; got != "No GPU.\nLandlock alone." {
		t.Errorf("ebb.notes = %q", got)
	}

	// What was read and is sent back does not become the user's own.
	w.call(200, "PUT", "/jobs/j1?api-version=2024-04-01", strings.Replace(commandJob, `"tags"`, `"properties":{"mine":"1","ebb.notes":"No GPU."},"tags"`, 1))
	st.Notes = nil
	w.commit(row.Put(st))
	after := read()["properties"].(map[string]any)
	if got, there := after["ebb.notes"]; there || after["mine"] != "1" {
		t.Errorf("ebb.notes = %q without notes, mine = %v", got, after["mine"])
	}
}

// A job that was read and is sent back unchanged is the same job.
func TestAJobPutBackAsReadIsTheSame(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	w.call(201, "PUT", "/jobs/bare", `{"properties":{"jobType":"Command","command":"echo hi","computeId":"cpu"}}`)
	read, err := json.Marshal(w.call(200, "GET", "/jobs/bare", ""))
	if err != nil {
		t.Fatal(err)
	}
	w.call(200, "PUT", "/jobs/bare", string(read))
}

// What SDK v1 calls a communicator, ARM's clients see as a distribution.
func TestJobsOfSDKv1HaveADistribution(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	service := &jobs.Service{Store: w.store, Now: func() time.Time { return time.Now().UTC() }, NewID: uuid.NewString}
	me := access.Principal{ID: "oid", Name: "me", Kind: access.Application}
	ws, err := service.Workspace(t.Context(), me, jobsWS)
	if err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string]string{
		`"communicator":"IntelMpi","mpi":{"processCountPerNode":3}`:                                `{"distributionType":"Mpi","processCountPerInstance":3}`,
		`"communicator":"Nccl","pytorch":{"processCount":4}`:                                       `{"distributionType":"PyTorch","processCountPerInstance":2}`,
		`"communicator":"ParameterServer","tensorflow":{"workerCount":2,"parameterServerCount":1}`: `{"distributionType":"TensorFlow","parameterServerCount":1,"workerCount":2}`,
		`"communicator":"None"`: `null`,
	} {
		in, err := jobs.FromRunConfiguration(json.RawMessage(`{"script":"a.py","target":"cpu","nodeCount":2,` + config + `}`))
		if err != nil {
			t.Fatal(err)
		}
		in.Name = "v1" + uuid.NewString()
		if _, _, err := service.Submit(t.Context(), me, ws, in); err != nil {
			t.Fatal(err)
		}
		props := w.call(200, "GET", "/jobs/"+in.Name, "")["properties"].(map[string]any)
		if got, _ := json.Marshal(props["distribution"]); string(got) != want {
			t.Errorf("%s is shown as %s, want %s", config, got, want)
		}
		if n := props["resources"].(map[string]any)["instanceCount"]; n != 2.0 {
			t.Errorf("%s: %v nodes are shown", config, n)
		}
	}
}
