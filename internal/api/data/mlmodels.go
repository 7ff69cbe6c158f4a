package data

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/fault"
)

// loggedModels adds what MLflow 3 keeps of the models that runs log; its
// log_model and autolog need it.
func (h *server) loggedModels() map[string]mlHandler {
	return map[string]mlHandler{
		"POST /logged-models":                              h.mlLogged,
		"POST /logged-models/search":                       h.mlSearchModels,
		"GET /logged-models/{model}":                       h.mlGetModel,
		"PATCH /logged-models/{model}":                     h.mlFinalize,
		"DELETE /logged-models/{model}":                    h.mlDropModel,
		"POST /logged-models/{model}/params":               h.mlModelWords,
		"PATCH /logged-models/{model}/tags":                h.mlModelWords,
		"DELETE /logged-models/{model}/tags/{tag}":         h.mlUntagModel,
		"GET /logged-models/{model}/artifacts/directories": h.mlModelFiles,
		"POST /runs/log-inputs":                            h.mlLinks(false),
		"POST /runs/outputs":                               h.mlLinks(true),
	}
}

// holder returns the run of an id, or the model of one as a run that holds files:
// azureml-mlflow knows files of runs only, and puts those of a model in a folder
// too many where its address leads into a run's.
func (h *server) holder(r *request, id string) (*jobs.Job, error) {
	j, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, id)
	if !errors.Is(err, fault.NotFound) || !strings.HasPrefix(strings.ToLower(id), "m-") {
		return j, err
	}
	m, lost := h.Jobs.LoggedModel(r.Context(), r.w, id)
	if lost != nil {
		return nil, err
	}
	if j, err = h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, m.Run); err != nil {
		return nil, err
	}
	held := *j // who may write the run may write below it
	held.Ancestors = append(slices.Clone(j.Ancestors), j.Run)
	held.Name, held.Run, held.Created = m.ID, m.ID, m.Created
	return &held, nil
}

func (r *mlRequest) modelDTO(m jobs.LoggedModel) object {
	metrics := make([]object, 0, len(m.Metrics))
	for _, v := range m.Metrics {
		metric := pointDTO(v.Name, v.Point)
		metric["model_id"], metric["run_id"] = m.ID, m.Run
		if v.Dataset != "" {
			metric["dataset_name"], metric["dataset_digest"] = v.Dataset, v.Digest
		}
		metrics = append(metrics, metric)
	}
	at := &jobs.Job{Body: jobs.Body{Name: m.ID, Experiment: m.Experiment, ExperimentID: m.ExperimentID}}
	return object{"info": object{"model_id": m.ID, "experiment_id": m.ExperimentID, "name": m.Name, "model_type": m.Type, "status": m.Status, "source_run_id": m.Run,
		"creation_timestamp_ms": m.Created.UnixMilli(), "last_updated_timestamp_ms": m.Modified.UnixMilli(),
		"artifact_uri": r.artifactURI(at), "tags": pairList(m.Tags), "registrations": []any{}},
		"data": object{"params": pairList(m.Params), "metrics": metrics}}
}

func (h *server) mlLogged(_ http.ResponseWriter, r *mlRequest) (any, error) {
	if r.SourceRun == "" {
		return nil, fault.New(fault.Unsupported, "source_run_id", "The feature \"logged models without a run\" is not built; start a run first.")
	}
	m, err := h.Jobs.LogModel(r.Context(), arm.Caller(r.Context()), r.w, jobs.LoggedModel{ExperimentID: r.Experiment, Run: r.SourceRun, Name: r.Name, Type: r.ModelType,
		Status: "LOGGED_MODEL_PENDING", Params: pairs(r.Params), Tags: pairs(r.Tags)})
	if err != nil {
		return nil, err
	}
	return object{"model": r.modelDTO(m)}, nil
}

func (h *server) mlGetModel(_ http.ResponseWriter, r *mlRequest) (any, error) {
	m, err := h.Jobs.LoggedModel(r.Context(), r.w, r.PathValue("model"))
	if err != nil {
		return nil, err
	}
	return object{"model": r.modelDTO(m)}, nil
}

func (h *server) changeModel(r *mlRequest, change func(*jobs.LoggedModel) error) (any, error) {
	m, err := h.Jobs.ChangeModel(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("model"), change)
	if err != nil {
		return nil, err
	}
	return object{"model": r.modelDTO(m)}, nil
}

var modelStates = map[string]string{"1": "LOGGED_MODEL_PENDING", "2": "LOGGED_MODEL_READY", "3": "LOGGED_MODEL_UPLOAD_FAILED",
	"LOGGED_MODEL_PENDING": "LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY": "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED": "LOGGED_MODEL_UPLOAD_FAILED"}

func (h *server) mlFinalize(_ http.ResponseWriter, r *mlRequest) (any, error) {
	status, known := modelStates[toText(r.Status)]
	if !known {
		return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "status", "The status %.60v is not one of a logged model.", r.Status)
	}
	return h.changeModel(r, func(m *jobs.LoggedModel) error { m.Status = status; return nil })
}

func (h *server) mlModelWords(_ http.ResponseWriter, r *mlRequest) (any, error) {
	return h.changeModel(r, func(m *jobs.LoggedModel) error { m.Tag(pairs(r.Tags), pairs(r.Params)); return nil })
}

func (h *server) mlUntagModel(_ http.ResponseWriter, r *mlRequest) (any, error) {
	return h.changeModel(r, func(m *jobs.LoggedModel) error { delete(m.Tags, r.PathValue("tag")); return nil })
}

func (h *server) mlDropModel(_ http.ResponseWriter, r *mlRequest) (any, error) {
	return object{}, h.Jobs.DropModel(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("model"))
}

func (h *server) mlSearchModels(_ http.ResponseWriter, r *mlRequest) (any, error) {
	list, next, err := h.Jobs.SearchModels(r.Context(), r.w, jobs.Search{Experiments: r.IDs, Filter: r.Filter, Orders: r.Orders, Top: int(min(r.Max, 1000)), After: r.Page})
	if err != nil {
		return nil, err
	}
	out := make([]object, len(list))
	for i, m := range list {
		out[i] = r.modelDTO(m)
	}
	return object{"models": out, "next_page_token": nullable(next)}, nil
}

func (h *server) mlModelFiles(_ http.ResponseWriter, r *mlRequest) (any, error) {
	m, err := h.Jobs.LoggedModel(r.Context(), r.w, r.PathValue("model"))
	if err != nil {
		return nil, err
	}
	list, err := h.level(r.request, m.ID, strings.Trim(arm.Query(r.Request, "artifact_directory_path"), "/"))
	return object{"root_uri": r.modelDTO(m)["info"].(object)["artifact_uri"], "files": list}, err
}

// mlLinks keeps what a run read, or made.
func (h *server) mlLinks(made bool) mlHandler {
	return func(_ http.ResponseWriter, r *mlRequest) (any, error) {
		l := jobs.Links{Datasets: r.Datasets, In: r.Models}
		if made {
			l = jobs.Links{Out: r.Models}
		}
		return object{}, h.Jobs.Link(r.Context(), arm.Caller(r.Context()), r.w, r.run(), l)
	}
}

// linksDTO are the links of a run in MLflow's words.
func linksDTO(j *jobs.Job) (inputs, outputs object) {
	l := jobs.Links{}
	if j.Links != nil {
		l = *j.Links
	}
	list := func(in []json.RawMessage) any {
		if in == nil {
			return []any{}
		}
		return in
	}
	return object{"dataset_inputs": list(l.Datasets), "model_inputs": list(l.In)}, object{"model_outputs": list(l.Out)}
}
