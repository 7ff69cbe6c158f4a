package data

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// mlflow adds MLflow's tracking API. azureml-mlflow asks below v2.0 whatever the
// version of MLflow; there artifacts have the scheme that it knows. MLflow alone
// has no such scheme: below v1.0, which is what the workspace's tracking URI
// says, they go through this server as MLflow's own server has it.
func (h *server) mlflow(reg arm.Registrar) {
	for _, version := range []string{"v1.0", "v2.0"} {
		root := "/mlflow/" + version + workspace
		for _, api := range []string{root + "/api/2.0/mlflow", root + "/api/2.0/preview/mlflow"} {
			for pattern, f := range map[string]mlHandler{
				"POST /experiments/create":             h.mlCreateExperiment,
				"POST /experiments/search":             h.mlSearchExperiments,
				"GET /experiments/search":              h.mlSearchExperiments,
				"GET /experiments/list":                h.mlSearchExperiments,
				"GET /experiments/get":                 h.mlGetExperiment,
				"GET /experiments/get-by-name":         h.mlGetExperiment,
				"POST /experiments/delete":             h.mlArchive(true),
				"POST /experiments/restore":            h.mlArchive(false),
				"POST /experiments/update":             h.mlRename,
				"POST /experiments/set-experiment-tag": h.mlTagExperiment,
				"POST /runs/create":                    h.mlCreateRun,
				"GET /runs/get":                        h.mlGetRun,
				"POST /runs/update":                    h.mlUpdateRun,
				"POST /runs/delete":                    h.mlHide(true),
				"POST /runs/restore":                   h.mlHide(false),
				"POST /runs/search":                    h.mlSearchRuns,
				"POST /runs/log-metric":                h.mlLogMetric,
				"POST /runs/log-parameter":             h.mlLogParam,
				"POST /runs/log-batch":                 h.mlLogBatch,
				"POST /runs/log-batch-async":           h.mlLogBatch,
				"POST /runs/set-tag":                   h.mlSetTag,
				"POST /runs/delete-tag":                h.mlDeleteTag,
				"POST /runs/log-model":                 h.mlLogModel,
				"GET /metrics/get-history":             h.mlHistory,
				"GET /artifacts/list":                  h.mlListArtifacts,
				"POST /logged-models/search":           mlNoModels,
			} {
				method, path, _ := strings.Cut(pattern, " ")
				reg.Handle(method+" "+api+path, h.ml(f))
			}
		}
		h.mlArtifacts(reg, root)
		reg.Handle(root+"/{below...}", h.ml(mlUnknown))
	}
}

// mlRequest is a call of MLflow's: what a GET has in its query is in the same
// fields as what a POST has in its body.
type mlRequest struct {
	*request
	ID         string     `json:"run_id"`
	UUID       string     `json:"run_uuid"` // older clients
	Experiment string     `json:"experiment_id"`
	Name       string     `json:"name"`
	NewName    string     `json:"new_name"`
	RunName    string     `json:"run_name"`
	Status     string     `json:"status"`
	Start      mlInt      `json:"start_time"`
	End        mlInt      `json:"end_time"`
	Tags       []mlPair   `json:"tags"`
	Params     []mlPair   `json:"params"`
	Metrics    []mlMetric `json:"metrics"`
	Key        string     `json:"key"`
	Value      any        `json:"value"`
	At         mlInt      `json:"timestamp"`
	Step       mlInt      `json:"step"`
	IDs        []string   `json:"experiment_ids"`
	Filter     string     `json:"filter"`
	View       any        `json:"run_view_type"`
	ViewType   any        `json:"view_type"`
	Max        mlInt      `json:"max_results"`
	Orders     []string   `json:"order_by"`
	Page       string     `json:"page_token"`
	Path       string     `json:"path"`
	ModelJSON  string     `json:"model_json"`
}

type mlPair struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

type mlMetric struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
	At    mlInt  `json:"timestamp"`
	Step  mlInt  `json:"step"`
}

// mlInt is a number that protobuf's JSON may write as text.
type mlInt int64

// UnmarshalJSON implements [json.Unmarshaler].
func (n *mlInt) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "null" || text == "" {
		return nil
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(text, 64)
		if ferr != nil || f != float64(int64(f)) {
			return fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "", "%.40q is no whole number.", text)
		}
		v = int64(f)
	}
	*n = mlInt(v)
	return nil
}

// time is the moment that n counts the ms to; zero where it is not said.
func (n mlInt) time() time.Time {
	const farthest = 253402300799999 // ms, the end of year 9999
	if n <= 0 || n > farthest {
		return time.Time{}
	}
	return time.UnixMilli(int64(n)).UTC()
}

type mlHandler func(w http.ResponseWriter, r *mlRequest) (any, error)

// ml reads a call and answers it in MLflow's words: an error has its code at the
// top, where MLflow looks, beside ARM's envelope.
func (h *server) ml(f mlHandler) arm.Handler {
	return h.in(func(w http.ResponseWriter, r *request) (int, any, error) {
		in := &mlRequest{request: r}
		err := in.read()
		var out any
		if err == nil {
			out, err = f(w, in)
		}
		if k := fault.KindOf(err); err != nil && k != fault.Internal && k != fault.Unavailable {
			status, body := arm.ErrorOf(err)
			w.Header().Set("x-ms-error-code", body.Error.Code)
			return status, object{"error_code": mlCode(err), "message": body.Error.Message, "error": body.Error}, nil
		}
		return http.StatusOK, out, err
	})
}

func mlCode(err error) string {
	e, _ := errors.AsType[*fault.Error](err)
	switch {
	case e != nil && e.Code == "ENDPOINT_NOT_FOUND":
		return e.Code
	case errors.Is(err, fault.NotFound):
		return "RESOURCE_DOES_NOT_EXIST"
	case e != nil && e.Code == "RESOURCE_ALREADY_EXISTS":
		return e.Code
	case errors.Is(err, fault.Forbidden):
		return "PERMISSION_DENIED"
	case errors.Is(err, fault.Unsupported):
		return "NOT_IMPLEMENTED"
	}
	return "INVALID_PARAMETER_VALUE"
}

func (r *mlRequest) read() error {
	if r.Method != http.MethodGet {
		return readLarge(r.request, r)
	}
	q := r.URL.Query()
	for _, to := range []struct {
		name string
		to   *string
	}{{"run_id", &r.ID}, {"run_uuid", &r.UUID}, {"experiment_id", &r.Experiment}, {"experiment_name", &r.Name}, {"metric_key", &r.Key},
		{"filter", &r.Filter}, {"page_token", &r.Page}, {"path", &r.Path}} {
		*to.to = q.Get(to.name)
	}
	r.View, r.Orders = q.Get("view_type"), q["order_by"]
	return r.Max.UnmarshalJSON([]byte(q.Get("max_results")))
}

func (r *mlRequest) run() string {
	if r.ID != "" {
		return r.ID
	}
	return r.UUID
}

func (r *mlRequest) view() jobs.View {
	v := r.View
	if v == nil || v == "" {
		v = r.ViewType
	}
	switch strings.ToUpper(strings.TrimSpace(toText(v))) {
	case "ALL", "3":
		return jobs.All
	case "DELETED_ONLY", "2":
		return jobs.ArchivedOnly
	}
	return jobs.ActiveOnly
}

// toText writes a JSON scalar as MLflow's clients would.
func toText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

func pairs(list []mlPair) map[string]string {
	out := make(map[string]string, len(list))
	for _, p := range list {
		out[p.Key] = toText(p.Value)
	}
	return out
}

func pairList(m map[string]string) []object {
	out := make([]object, 0, len(m))
	for k, v := range m {
		out = append(out, object{"key": k, "value": v})
	}
	return out
}

func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// defaultExperiment is the id that MLflow takes when nobody names an experiment.
const defaultExperiment = "0"

// experiment finds the experiment that a call is about.
func (h *server) mlExperiment(r *mlRequest) (jobs.Experiment, error) {
	switch {
	case r.Name != "":
		return h.Jobs.Experiment(r.Context(), r.w, r.Name)
	case r.Experiment == defaultExperiment:
		return h.Jobs.CreateExperiment(r.Context(), arm.Caller(r.Context()), r.w, "Default")
	}
	return h.Jobs.ExperimentByID(r.Context(), r.w, r.Experiment)
}

func mlExperimentDTO(e jobs.Experiment) object {
	stage := "active"
	if !e.Archived.IsZero() {
		stage = "deleted"
	}
	return object{"experiment_id": e.ID, "name": e.Name, "artifact_location": "", "lifecycle_stage": stage,
		"creation_time": millis(e.Created), "last_update_time": millis(e.Created), "tags": pairList(e.Tags)}
}

func (h *server) mlGetExperiment(_ http.ResponseWriter, r *mlRequest) (any, error) {
	e, err := h.mlExperiment(r)
	return object{"experiment": mlExperimentDTO(e)}, err
}

// mlCreateExperiment makes an experiment. One that exists is a conflict, as
// MLflow has it.
func (h *server) mlCreateExperiment(_ http.ResponseWriter, r *mlRequest) (any, error) {
	p := arm.Caller(r.Context())
	if e, err := h.Jobs.Experiment(r.Context(), r.w, r.Name); err == nil {
		return nil, fault.Coded(fault.Invalid, "RESOURCE_ALREADY_EXISTS", r.Name, "The experiment %q exists; its id is %s.", e.Name, e.ID)
	}
	e, err := h.Jobs.CreateExperiment(r.Context(), p, r.w, r.Name)
	if err == nil && len(r.Tags) > 0 {
		e, err = h.Jobs.UpdateExperiment(r.Context(), p, r.w, e.ID, jobs.ExperimentChange{Tags: pairs(r.Tags)})
	}
	return object{"experiment_id": e.ID}, err
}

func (h *server) mlSearchExperiments(_ http.ResponseWriter, r *mlRequest) (any, error) {
	list, next, err := h.Jobs.SearchExperiments(r.Context(), r.w, jobs.Search{Filter: r.Filter, Orders: r.Orders, View: r.view(), Top: int(min(r.Max, 1000)), After: r.Page})
	if err != nil {
		return nil, err
	}
	out := make([]object, len(list))
	for i, e := range list {
		out[i] = mlExperimentDTO(e)
	}
	return object{"experiments": out, "next_page_token": nullable(next)}, nil
}

func (h *server) mlArchive(archive bool) mlHandler {
	return func(_ http.ResponseWriter, r *mlRequest) (any, error) {
		e, err := h.mlExperiment(r)
		if err == nil {
			_, err = h.Jobs.UpdateExperiment(r.Context(), arm.Caller(r.Context()), r.w, e.ID, jobs.ExperimentChange{Archive: &archive})
		}
		return object{}, err
	}
}

func (h *server) mlRename(_ http.ResponseWriter, r *mlRequest) (any, error) {
	e, err := h.Jobs.ExperimentByID(r.Context(), r.w, r.Experiment)
	if err != nil || r.NewName == "" || r.NewName == e.Name {
		return object{}, err
	}
	return nil, fault.New(fault.Unsupported, "new_name", "The feature \"renaming experiments\" is not built: runs are found by their experiment's name. Use a tag or the description.")
}

func (h *server) mlTagExperiment(_ http.ResponseWriter, r *mlRequest) (any, error) {
	e, err := h.mlExperiment(r)
	if err == nil {
		_, err = h.Jobs.UpdateExperiment(r.Context(), arm.Caller(r.Context()), r.w, e.ID, jobs.ExperimentChange{Tags: map[string]string{r.Key: toText(r.Value)}})
	}
	return object{}, err
}

// mlInfo is what MLflow knows of a run without its data.
func (r *mlRequest) mlInfo(j *jobs.Job) object {
	t := jobs.Tracked{Job: j}
	stage := "active"
	if j.Archived {
		stage = "deleted"
	}
	return object{"run_id": j.Name, "run_uuid": j.Name, "experiment_id": j.ExperimentID, "run_name": j.DisplayName, "user_id": j.Creator.Name,
		"status": jobs.TrackedState(j.Status.State), "start_time": t.StartedOr().UnixMilli(), "end_time": millis(j.Status.Ended),
		"artifact_uri": r.artifactURI(j), "lifecycle_stage": stage}
}

func (r *mlRequest) mlRun(t jobs.Tracked) object {
	metrics := make([]object, 0, len(t.Metrics))
	for name, p := range t.Metrics {
		metrics = append(metrics, pointDTO(name, p))
	}
	return object{"info": r.mlInfo(t.Job), "data": object{"metrics": metrics, "params": pairList(t.Params), "tags": pairList(t.AllTags())},
		"inputs": object{"dataset_inputs": []any{}}}
}

func pointDTO(name string, p jobs.Point) object {
	return object{"key": name, "value": jobs.Number(p.Value), "timestamp": p.At.UnixMilli(), "step": p.Step}
}

func (h *server) mlCreateRun(_ http.ResponseWriter, r *mlRequest) (any, error) {
	e, err := h.mlExperiment(r)
	if err != nil {
		return nil, err
	}
	j, err := h.Jobs.Begin(r.Context(), arm.Caller(r.Context()), r.w, jobs.Start{ExperimentID: e.ID, DisplayName: r.RunName, Began: r.Start.time(), Tags: pairs(r.Tags)})
	if err != nil {
		return nil, err
	}
	return object{"run": r.mlRun(jobs.Tracked{Job: j})}, nil
}

func (h *server) mlGetRun(_ http.ResponseWriter, r *mlRequest) (any, error) {
	t, err := h.Jobs.Tracked(r.Context(), arm.Caller(r.Context()), r.w, r.run())
	if err != nil {
		return nil, err
	}
	return object{"run": r.mlRun(t)}, nil
}

var mlStates = map[string]queue.State{
	"RUNNING": queue.Running, "SCHEDULED": queue.NotStarted, "FINISHED": queue.Completed, "FAILED": queue.Failed, "KILLED": queue.Canceled,
	"1": queue.Running, "2": queue.NotStarted, "3": queue.Completed, "4": queue.Failed, "5": queue.Canceled,
}

func (h *server) mlUpdateRun(_ http.ResponseWriter, r *mlRequest) (any, error) {
	p := arm.Caller(r.Context())
	if r.RunName != "" {
		if _, err := h.Jobs.Patch(r.Context(), p, r.w, r.run(), jobs.Patch{DisplayName: &r.RunName}); err != nil {
			return nil, err
		}
	}
	to, known := mlStates[strings.ToUpper(r.Status)]
	if !known && r.Status != "" {
		return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "status", "The status %.40q is not one of MLflow's.", r.Status)
	}
	var j *jobs.Job
	var err error
	if known {
		j, err = h.Jobs.Finish(r.Context(), p, r.w, r.run(), to, r.End.time())
	} else {
		j, err = h.Jobs.Get(r.Context(), p, r.w, r.run())
	}
	if err != nil {
		return nil, err
	}
	return object{"run_info": r.mlInfo(j)}, nil
}

// exists keeps a run from being made by what is meant to change one.
func (h *server) mlExists(r *mlRequest) error {
	_, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, r.run())
	return err
}

func (h *server) mlHide(hidden bool) mlHandler {
	return func(_ http.ResponseWriter, r *mlRequest) (any, error) {
		if err := h.mlExists(r); err != nil {
			return nil, err
		}
		_, err := h.Jobs.Patch(r.Context(), arm.Caller(r.Context()), r.w, r.run(), jobs.Patch{Hidden: &hidden})
		return object{}, err
	}
}

func (h *server) mlSearchRuns(_ http.ResponseWriter, r *mlRequest) (any, error) {
	ids := make([]string, 0, len(r.IDs))
	for _, id := range r.IDs {
		if id == defaultExperiment {
			e, err := h.Jobs.Experiment(r.Context(), r.w, "Default")
			if errors.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			id = e.ID
		}
		ids = append(ids, id)
	}
	list, next, err := h.Jobs.Search(r.Context(), r.w, jobs.Search{Experiments: ids, Filter: r.Filter, Orders: r.Orders, View: r.view(), Top: int(min(r.Max, 1000)), After: r.Page})
	if err != nil {
		return nil, err
	}
	out := make([]object, len(list))
	for i, t := range list {
		out[i] = r.mlRun(t)
	}
	return object{"runs": out, "next_page_token": nullable(next)}, nil
}

func (h *server) mlTrack(r *mlRequest, l jobs.Log) (any, error) {
	return object{}, h.Jobs.Track(r.Context(), arm.Caller(r.Context()), r.w, r.run(), l)
}

func (h *server) named(in []mlMetric) ([]jobs.Named, error) {
	out := make([]jobs.Named, len(in))
	for i, m := range in {
		v, ok := jobs.ParseNumber(m.Value)
		if !ok {
			return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "value", "The metric %.80q has a value that is no number.", m.Key)
		}
		at := m.At.time()
		if at.IsZero() {
			at = h.Now().UTC().Truncate(time.Millisecond)
		}
		out[i] = jobs.Named{Name: m.Key, Point: jobs.Point{Value: v, Step: int64(m.Step), At: at}}
	}
	return out, nil
}

func (h *server) mlLogMetric(_ http.ResponseWriter, r *mlRequest) (any, error) {
	named, err := h.named([]mlMetric{{r.Key, r.Value, r.At, r.Step}})
	if err != nil {
		return nil, err
	}
	return h.mlTrack(r, jobs.Log{Metrics: named})
}

func (h *server) mlLogParam(_ http.ResponseWriter, r *mlRequest) (any, error) {
	return h.mlTrack(r, jobs.Log{Params: map[string]string{r.Key: toText(r.Value)}})
}

// mlLogBatch answers when all is kept, so there is nothing to wait for: without
// a batch_tracking_id the client does not.
func (h *server) mlLogBatch(_ http.ResponseWriter, r *mlRequest) (any, error) {
	named, err := h.named(r.Metrics)
	if err != nil {
		return nil, err
	}
	seen := map[string]string{}
	for _, p := range r.Params {
		if was, twice := seen[p.Key]; twice && was != toText(p.Value) {
			return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "params", "The param %.80q is in the request twice, with two values.", p.Key)
		}
		seen[p.Key] = toText(p.Value)
	}
	return h.mlTrack(r, jobs.Log{Metrics: named, Params: seen, Tags: pairs(r.Tags)})
}

func (h *server) mlSetTag(_ http.ResponseWriter, r *mlRequest) (any, error) {
	return h.mlTrack(r, jobs.Log{Tags: map[string]string{r.Key: toText(r.Value)}})
}

func (h *server) mlDeleteTag(_ http.ResponseWriter, r *mlRequest) (any, error) {
	j, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, r.run())
	if err != nil {
		return nil, err
	}
	if _, there := j.Tags[r.Key]; !there {
		return nil, fault.Coded(fault.NotFound, "TagNotFound", r.Key, "The run %q has no tag %.80q.", j.Name, r.Key)
	}
	_, err = h.Jobs.RemoveTags(r.Context(), arm.Caller(r.Context()), r.w, j.Name, []string{r.Key})
	return object{}, err
}

// mlLogModel notes a model that was logged, where MLflow looks for it: a list in
// a tag.
func (h *server) mlLogModel(_ http.ResponseWriter, r *mlRequest) (any, error) {
	const tag = "mlflow.log-model.history"
	if !json.Valid([]byte(r.ModelJSON)) {
		return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "model_json", "model_json is not JSON.")
	}
	j, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, r.run())
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(j.Tags[tag]), &list); err != nil && j.Tags[tag] != "" {
		return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", tag, "The tag %q of the run %q is not a list; remove it.", tag, j.Name)
	}
	text, err := json.Marshal(append(list, json.RawMessage(r.ModelJSON)))
	if err != nil {
		return nil, err
	}
	return h.mlTrack(r, jobs.Log{Tags: map[string]string{tag: string(text)}})
}

// mlHistory pages through a metric's values. MLflow asks for 25,000 at a time;
// a page has what the rows that were read hold.
func (h *server) mlHistory(_ http.ResponseWriter, r *mlRequest) (any, error) {
	if err := h.mlExists(r); err != nil {
		return nil, err
	}
	out := []object{}
	b, next, err := h.Jobs.Values(r.Context(), r.w, r.run(), r.Key, r.Page, time.Time{}, time.Time{})
	if errors.Is(err, fault.NotFound) { // nothing was logged: an empty history
		return object{"metrics": out}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, v := range b.Values {
		if p, ok := jobs.PointOf(r.Key, v); ok {
			out = append(out, pointDTO(r.Key, p))
		}
	}
	return object{"metrics": out, "next_page_token": nullable(next)}, nil
}

// mlNoModels answers MLflow 3, which looks for logged models whenever it lists
// artifacts. There are none: making one is not built.
func mlNoModels(http.ResponseWriter, *mlRequest) (any, error) {
	return object{"models": []any{}}, nil
}

// mlUnknown names what there is not. MLflow 3 asks for what newer servers have,
// and does without where the answer has this code.
func mlUnknown(_ http.ResponseWriter, r *mlRequest) (any, error) {
	return nil, fault.Coded(fault.NotFound, "ENDPOINT_NOT_FOUND", r.URL.Path, "The MLflow operation %.200q is not part of Ebb; experiments, runs, metrics, params, tags and artifacts are.", r.PathValue("below"))
}
