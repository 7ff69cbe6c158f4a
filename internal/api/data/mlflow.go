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
			for pattern, f := range h.loggedModels() {
				method, path, _ := strings.Cut(pattern, " ")
				reg.Handle(method+" "+api+path, h.ml(f))
			}
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
	ID         string            `json:"run_id"`
	UUID       string            `json:"run_uuid"` // older clients
	Experiment string            `json:"experiment_id"`
	Name       string            `json:"name"`
	NewName    string            `json:"new_name"`
	RunName    string            `json:"run_name"`
	Status     any               `json:"status"`
	Start      mlInt             `json:"start_time"`
	End        mlInt             `json:"end_time"`
	Tags       []mlPair          `json:"tags"`
	Params     []mlPair          `json:"params"`
	Metrics    []mlMetric        `json:"metrics"`
	Model      string            `json:"model_id"`
	Dataset    string            `json:"dataset_name"`
	Digest     string            `json:"dataset_digest"`
	Key        string            `json:"key"`
	Value      any               `json:"value"`
	At         mlInt             `json:"timestamp"`
	Step       mlInt             `json:"step"`
	IDs        []string          `json:"experiment_ids"`
	Filter     string            `json:"filter"`
	View       any               `json:"run_view_type"`
	ViewType   any               `json:"view_type"`
	Max        mlInt             `json:"max_results"`
	Orders     mlOrders          `json:"order_by"`
	Page       string            `json:"page_token"`
	Path       string            `json:"path"`
	SourceRun  string            `json:"source_run_id"`
	ModelType  string            `json:"model_type"`
	Models     []json.RawMessage `json:"models"`
	Datasets   []json.RawMessage `json:"datasets"`
	ModelJSON  string            `json:"model_json"`
}

type mlPair struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

type mlMetric struct {
	Key     string `json:"key"`
	Model   string `json:"model_id"`
	Dataset string `json:"dataset_name"`
	Digest  string `json:"dataset_digest"`
	Value   any    `json:"value"`
	At      mlInt  `json:"timestamp"`
	Step    mlInt  `json:"step"`
}

// mlOrders are what results are sorted by: texts, or of models objects.
type mlOrders []string

// UnmarshalJSON implements [json.Unmarshaler].
func (o *mlOrders) UnmarshalJSON(b []byte) error {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	for _, v := range list {
		var text string
		var of struct {
			Field     string `json:"field_name"`
			Ascending *bool  `json:"ascending"`
		}
		if json.Unmarshal(v, &text) != nil {
			if err := json.Unmarshal(v, &of); err != nil {
				return err
			}
			text = of.Field
			if of.Ascending != nil && !*of.Ascending {
				text += " DESC"
			}
		}
		*o = append(*o, text)
	}
	return nil
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
	switch r.Method {
	case http.MethodDelete:
		return readOptional(r.request, r)
	case http.MethodGet:
	default:
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

// mlUnknown names what there is not. MLflow 3 asks for what newer servers have,
// and does without where the answer has this code.
func mlUnknown(_ http.ResponseWriter, r *mlRequest) (any, error) {
	return nil, fault.Coded(fault.NotFound, "ENDPOINT_NOT_FOUND", r.URL.Path, "The MLflow operation %.200q is not part of Ebb; experiments, runs, metrics, params, tags and artifacts are.", r.PathValue("below"))
}
