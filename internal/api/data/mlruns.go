package data

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// defaultExperiment is the id that MLflow takes when nobody names an experiment.
const defaultExperiment = "0"

// mlExperiment finds the experiment that a call is about.
func (h *server) mlExperiment(r *mlRequest) (jobs.Experiment, error) {
	switch {
	case r.Name != "":
		return h.Jobs.Experiment(r.Context(), r.w, r.Name)
	case r.Experiment == defaultExperiment:
		return h.Jobs.Experiment(r.Context(), r.w, "Default")
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
	inputs, outputs := linksDTO(t.Job)
	return object{"info": r.mlInfo(t.Job), "data": object{"metrics": metrics, "params": pairList(t.Params), "tags": pairList(t.AllTags())},
		"inputs": inputs, "outputs": outputs}
}

func pointDTO(name string, p jobs.Point) object {
	return object{"key": name, "value": jobs.Number(p.Value), "timestamp": p.At.UnixMilli(), "step": p.Step}
}

func (h *server) mlCreateRun(_ http.ResponseWriter, r *mlRequest) (any, error) {
	e, err := h.mlExperiment(r)
	if r.Experiment == defaultExperiment && errors.Is(err, fault.NotFound) {
		e, err = h.Jobs.CreateExperiment(r.Context(), arm.Caller(r.Context()), r.w, "Default")
	}
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
	if err := h.mlExists(r); err != nil {
		return nil, err
	}
	if r.RunName != "" {
		if _, err := h.Jobs.Patch(r.Context(), p, r.w, r.run(), jobs.Patch{DisplayName: &r.RunName}); err != nil {
			return nil, err
		}
	}
	status := toText(r.Status)
	to, known := mlStates[strings.ToUpper(status)]
	if !known && status != "" {
		return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "status", "The status %.40q is not one of MLflow's.", status)
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

// measure keeps the metrics that are a model's with the model too.
func (h *server) measure(r *mlRequest, in []mlMetric, named []jobs.Named) error {
	of := map[string][]jobs.ModelMetric{}
	for i, m := range in {
		if m.Model != "" {
			of[m.Model] = append(of[m.Model], jobs.ModelMetric{Name: m.Key, Dataset: m.Dataset, Digest: m.Digest, Point: named[i].Point})
		}
	}
	for model, list := range of {
		_, err := h.Jobs.ChangeModel(r.Context(), arm.Caller(r.Context()), r.w, model, func(m *jobs.LoggedModel) error {
			for _, v := range list {
				if err := m.Measure(v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *server) mlLogMetric(_ http.ResponseWriter, r *mlRequest) (any, error) {
	one := []mlMetric{{r.Key, r.Model, r.Dataset, r.Digest, r.Value, r.At, r.Step}}
	named, err := h.named(one)
	if err != nil {
		return nil, err
	}
	if err := h.measure(r, one, named); err != nil {
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
	if err := h.measure(r, r.Metrics, named); err != nil {
		return nil, err
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

// mlLogModel notes a model that was logged, where MLflow looks for it.
func (h *server) mlLogModel(_ http.ResponseWriter, r *mlRequest) (any, error) {
	if !json.Valid([]byte(r.ModelJSON)) {
		return nil, fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "model_json", "model_json is not JSON.")
	}
	return object{}, h.Jobs.NoteModel(r.Context(), arm.Caller(r.Context()), r.w, r.run(), json.RawMessage(r.ModelJSON))
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
