package data

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

// history adds run history. Whatever lies under an experiment's name lies under
// its guid too.
func (h *server) history(reg arm.Registrar) {
	const root = "/history/v1.0" + workspace
	for _, exp := range []string{"/experiments/{exp}", "/experimentids/{expid}"} {
		at := root + exp
		reg.Handle("GET "+at, h.in(h.getExperiment))
		reg.Handle("POST "+at+"/runs:query", h.in(h.queryRuns))
		reg.Handle("GET "+at+"/runs", h.in(h.listRuns))
		reg.Handle("PATCH "+at+"/batch/runs", h.in(h.patchRuns))
		reg.Handle("POST "+at+"/batch/events", h.in(h.postEvents))
		reg.Handle("GET "+at+"/runcounts", h.in(h.countRuns))
		run := at + "/runs/{run}"
		reg.Handle("GET "+run, h.in(h.getRun))
		reg.Handle("PATCH "+run, h.in(h.patchRun))
		reg.Handle("GET "+run+"/details", h.in(h.getDetails))
		reg.Handle("GET "+run+"/children", h.in(h.listChildren))
		reg.Handle("GET "+run+"/token", h.in(h.getToken))
		reg.Handle("DELETE "+run+"/tags", h.in(h.deleteTags))
		reg.Handle("POST "+run+"/events", h.in(h.postEvent))
		reg.Handle("GET "+run+"/metricsingest/wait", h.in(h.getMetricsWait))
		h.facade(reg, run)
	}
	reg.Handle("POST "+root+"/experiments/{exp}", h.in(h.createExperiment))
	reg.Handle("PATCH "+root+"/experimentids/{expid}", h.in(h.patchExperiment))
	reg.Handle("DELETE "+root+"/experimentids/{expid}", h.in(h.deleteExperiment))
	reg.Handle("POST "+root+"/experimentids/{expid}/tags:delete", h.in(h.deleteExperimentTags))
	reg.Handle("POST "+root+"/experiments:query", h.in(h.queryExperiments))
	reg.Handle("GET "+root+"/experiments", h.in(h.listExperiments))
	reg.Handle("GET "+root+"/runs/{run}", h.in(h.getRun))
	reg.Handle("GET "+root+"/runs/{run}/details", h.in(h.getStreamDetails))
	reg.Handle("GET "+root+"/computes/{compute}/runs", h.in(h.listComputeRuns))
}

// experiment returns the experiment that the address names, if it names one.
func (h *server) experiment(r *request) (jobs.Experiment, error) {
	if id := r.PathValue("expid"); id != "" {
		return h.Jobs.ExperimentByID(r.Context(), r.w, id)
	}
	return h.Jobs.Experiment(r.Context(), r.w, r.PathValue("exp"))
}

// run returns the run that the address names. Under another experiment than its
// own it is not found.
func (h *server) run(r *request) (*jobs.Job, error) {
	j, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("run"))
	if err != nil {
		return nil, err
	}
	return j, inExperiment(r, j)
}

// inExperiment checks the experiment of an address, if it names one.
func inExperiment(r *request, j *jobs.Job) error {
	name, id := r.PathValue("exp"), r.PathValue("expid")
	if name != "" && !strings.EqualFold(name, j.Experiment) || id != "" && !strings.EqualFold(id, j.ExperimentID) {
		return fault.Coded(fault.NotFound, "RunNotFound", j.Name, "The run %q was not found in the experiment %q; it belongs to %q.", j.Name, name+id, j.Experiment)
	}
	return nil
}

func experimentDTO(e jobs.Experiment) object {
	return object{"experimentId": e.ID, "name": e.Name, "description": nullable(e.Description), "createdUtc": stamp(e.Created), "tags": none(e.Tags), "archivedTime": stamp(e.Archived)}
}

func (h *server) getExperiment(_ http.ResponseWriter, r *request) (int, any, error) {
	e, err := h.experiment(r)
	return http.StatusOK, experimentDTO(e), err
}

func (h *server) createExperiment(_ http.ResponseWriter, r *request) (int, any, error) {
	e, err := h.Jobs.CreateExperiment(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("exp"))
	return http.StatusOK, experimentDTO(e), err
}

func (h *server) patchExperiment(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct {
		Description *string
		Archive     *bool
		Tags        map[string]string
	}
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	e, err := h.Jobs.UpdateExperiment(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("expid"),
		jobs.ExperimentChange{Description: in.Description, Archive: in.Archive, Tags: in.Tags})
	return http.StatusOK, experimentDTO(e), err
}

func (h *server) deleteExperimentTags(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ Tags []string }
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	_, err := h.Jobs.UpdateExperiment(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("expid"), jobs.ExperimentChange{Remove: in.Tags})
	return http.StatusOK, object{"errors": object{}}, err
}

func (h *server) deleteExperiment(_ http.ResponseWriter, r *request) (int, any, error) {
	return http.StatusOK, object{}, h.Jobs.DeleteExperiment(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("expid"))
}

// query is the body, or the query part, of a listing.
type query struct {
	Filter            string
	ContinuationToken string
	OrderBy           string
	Top               json.Number
	ViewType          string
}

func queryOf(r *request) query {
	return query{Filter: arm.Query(r.Request, "$filter"), ContinuationToken: arm.Query(r.Request, "$continuationToken"),
		OrderBy: arm.Query(r.Request, "$orderby"), Top: json.Number(arm.Query(r.Request, "$top")), ViewType: arm.Query(r.Request, "viewType")}
}

// top reads how many are wanted; nothing is the default.
func (q *query) top() (int, error) {
	if q.Top == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(q.Top.String())
	if err != nil || n < 1 {
		return 0, fault.Coded(fault.Invalid, "InvalidTop", "top", "%.40q is not a number of results; it must be at least 1.", q.Top.String())
	}
	return n, nil
}

func (h *server) queryExperiments(_ http.ResponseWriter, r *request) (int, any, error) {
	var q query
	if err := readOptional(r, &q); err != nil {
		return 0, nil, err
	}
	return h.experiments(r, q)
}

func (h *server) listExperiments(_ http.ResponseWriter, r *request) (int, any, error) {
	return h.experiments(r, queryOf(r))
}

func (h *server) experiments(r *request, q query) (int, any, error) {
	top, err := q.top()
	if err != nil {
		return 0, nil, err
	}
	list, next, err := h.Jobs.Experiments(r.Context(), r.w, jobs.View(q.ViewType), q.Filter, top, q.ContinuationToken)
	if err != nil {
		return 0, nil, err
	}
	value := make([]object, len(list))
	for i, e := range list {
		value[i] = experimentDTO(e)
	}
	return http.StatusOK, listing(value, next, r), nil
}

// listing is a page of runs or experiments. The client follows either link.
func listing(value any, next string, r *request) object {
	out := page(value, next)
	if next == "" {
		return out
	}
	if r.Method == http.MethodGet { // a POST's next page is asked for with its body
		q := r.URL.Query()
		q.Set("$continuationToken", next)
		out["nextLink"] = r.root() + (&url.URL{Path: r.URL.Path}).EscapedPath() + "?" + q.Encode()
	}
	return out
}

// list answers with the runs that q asks for beyond what want does.
func (h *server) list(r *request, q query, want jobs.Query) (int, any, error) {
	top, err := q.top()
	if err != nil {
		return 0, nil, err
	}
	want.Filter, want.After, want.Top = q.Filter, q.ContinuationToken, top
	want.Oldest = strings.HasSuffix(strings.ToLower(strings.TrimSpace(q.OrderBy)), " asc")
	if q.ViewType != "" {
		want.View = jobs.View(q.ViewType)
	}
	list, next, err := h.Jobs.List(r.Context(), arm.Caller(r.Context()), r.w, want)
	if err != nil {
		return 0, nil, err
	}
	value := make([]object, len(list))
	for i, j := range list {
		value[i] = r.runDTO(j)
	}
	return http.StatusOK, listing(value, next, r), nil
}

func (h *server) queryRuns(_ http.ResponseWriter, r *request) (int, any, error) {
	var q query
	if err := readOptional(r, &q); err != nil {
		return 0, nil, err
	}
	e, err := h.experiment(r)
	if err != nil {
		return 0, nil, err
	}
	return h.list(r, q, jobs.Query{ExperimentID: e.ID})
}

func (h *server) listRuns(_ http.ResponseWriter, r *request) (int, any, error) {
	e, err := h.experiment(r)
	if err != nil {
		return 0, nil, err
	}
	return h.list(r, queryOf(r), jobs.Query{ExperimentID: e.ID})
}

func (h *server) listChildren(_ http.ResponseWriter, r *request) (int, any, error) {
	j, err := h.run(r)
	if err != nil {
		return 0, nil, err
	}
	return h.list(r, queryOf(r), jobs.Query{Parent: j.Name})
}

// listComputeRuns lists the runs of a compute that have not ended (get_active_runs).
func (h *server) listComputeRuns(_ http.ResponseWriter, r *request) (int, any, error) {
	return h.list(r, queryOf(r), jobs.Query{Compute: r.PathValue("compute"), Active: true})
}

// countRuns counts an experiment's runs by status.
func (h *server) countRuns(_ http.ResponseWriter, r *request) (int, any, error) {
	e, err := h.experiment(r)
	if err != nil {
		return 0, nil, err
	}
	counts, total := map[queue.State]int{}, 0
	for after := ""; ; {
		list, next, err := h.Jobs.List(r.Context(), arm.Caller(r.Context()), r.w, jobs.Query{ExperimentID: e.ID, Filter: arm.Query(r.Request, "$filter"), Top: 1000, After: after})
		if err != nil {
			return 0, nil, err
		}
		for _, j := range list {
			counts[j.State()]++
			total++
		}
		if after = next; after == "" {
			return http.StatusOK, object{"total": total, "runStatuses": counts}, nil
		}
	}
}

func (h *server) getRun(_ http.ResponseWriter, r *request) (int, any, error) {
	j, err := h.run(r)
	if err != nil {
		return 0, nil, err
	}
	h.sawEnd(r, j)
	return http.StatusOK, r.runDTO(j), nil
}

// patch is CreateRunDto, as far as it is acted on.
type patch struct {
	RunID         string
	ParentRunID   string
	Status        string
	Name          *string
	DisplayName   *string
	Description   *string
	Hidden        *bool
	RunType       string
	RunTypeV2     json.RawMessage
	Properties    map[string]*string
	Tags          map[string]*string
	ScriptName    string
	Target        string
	RunDefinition json.RawMessage
}

func values(m map[string]*string) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if v != nil {
			out[k] = *v
		} else {
			out[k] = ""
		}
	}
	return out
}

// apply writes a patch to the run of an id, in the experiment of the address.
func (h *server) apply(r *request, id string, in patch) (*jobs.Job, error) {
	experiment := r.PathValue("exp")
	if experiment == "" {
		e, err := h.experiment(r)
		if err != nil {
			return nil, err
		}
		experiment = e.Name
	}
	return h.Jobs.Patch(r.Context(), arm.Caller(r.Context()), r.w, id, jobs.Patch{
		Experiment: experiment, Parent: in.ParentRunID, Label: in.Name, DisplayName: in.DisplayName, Description: in.Description,
		Hidden: in.Hidden, Tags: values(in.Tags), Properties: values(in.Properties), Target: in.Target, Script: in.ScriptName,
		Type: in.RunType, TypeV2: in.RunTypeV2, Definition: in.RunDefinition, Status: in.Status,
	})
}

func (h *server) patchRun(_ http.ResponseWriter, r *request) (int, any, error) {
	var in patch
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	id := r.PathValue("run")
	if in.RunID != "" && !strings.EqualFold(in.RunID, id) {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidRunId", "runId", "The body is about the run %.80q and the address about %.80q.", in.RunID, id)
	}
	j, err := h.apply(r, id, in)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, r.runDTO(j), nil
}

// patchRuns changes or makes many runs; each fails by itself.
func (h *server) patchRuns(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ Runs []patch }
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	runs, failed := object{}, object{}
	for _, p := range in.Runs {
		j, err := h.apply(r, p.RunID, p)
		if err == nil {
			runs[p.RunID] = r.runDTO(j)
			continue
		}
		if k := fault.KindOf(err); k == fault.Internal || k == fault.Unavailable {
			return 0, nil, err
		}
		_, failed[p.RunID] = arm.ErrorOf(err)
	}
	return http.StatusOK, object{"runs": runs, "errors": failed}, nil
}

func (h *server) deleteTags(_ http.ResponseWriter, r *request) (int, any, error) {
	var tags []string
	if err := arm.ReadJSON(r.Request, &tags); err != nil {
		return 0, nil, err
	}
	j, err := h.Jobs.RemoveTags(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("run"), tags)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, r.runDTO(j), nil
}

// event is what a client tells about a run.
type event struct {
	Name string
	Data struct {
		RunID         string
		Source        string
		Message       string
		ErrorResponse *struct {
			Error struct{ Code, Message string }
		}
	}
}

func (e *event) happening() jobs.Happening {
	out := jobs.Happening{Name: e.Name[strings.LastIndexByte(e.Name, '.')+1:], Source: e.Data.Source, Message: e.Data.Message}
	if e.Data.ErrorResponse != nil {
		out.Code, out.Message = e.Data.ErrorResponse.Error.Code, e.Data.ErrorResponse.Error.Message
	}
	return out
}

func (h *server) postEvent(_ http.ResponseWriter, r *request) (int, any, error) {
	var e event
	if err := arm.ReadJSON(r.Request, &e); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{}, h.Jobs.Tell(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("run"), e.happening())
}

func (h *server) postEvents(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ Events []event }
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	failed := []object{}
	for _, e := range in.Events {
		err := h.Jobs.Tell(r.Context(), arm.Caller(r.Context()), r.w, e.Data.RunID, e.happening())
		if k := fault.KindOf(err); err != nil && (k == fault.Internal || k == fault.Unavailable) {
			return 0, nil, err
		}
		if err != nil {
			_, envelope := arm.ErrorOf(err)
			failed = append(failed, object{"key": object{"name": e.Name, "data": object{"RunId": e.Data.RunID}}, "value": envelope})
		}
	}
	return http.StatusOK, object{"errors": failed}, nil
}

// getMetricsWait answers at once: what was logged is durable when it was answered.
func (h *server) getMetricsWait(_ http.ResponseWriter, r *request) (int, any, error) {
	_, err := h.run(r)
	return http.StatusOK, object{}, err
}

// getToken renews a run's token. A run gets its own, for the attempt it has, also
// when it asks for a child's: that is what may write the child, and ends with the
// attempt. A user gets one for a run without a cluster.
func (h *server) getToken(_ http.ResponseWriter, r *request) (int, any, error) {
	j, err := h.run(r)
	if err != nil {
		return 0, nil, err
	}
	p := arm.Caller(r.Context())
	if p.Run != j.Run && j.Kind != jobs.Interactive {
		return 0, nil, fault.Coded(fault.Forbidden, "AuthorizationFailed", j.Name, "The token of a run on a cluster is given to its own processes only.")
	}
	if err := h.Jobs.MayWrite(p, j); err != nil {
		return 0, nil, err
	}
	now := h.Now()
	expiry := now.Add(tokenFor)
	run := j.Run
	if p.Run != "" {
		run = p.Run
	}
	t, err := h.Keys.SignRun(token.RunGrant{Run: run, Workspace: r.w.Key(), Experiment: j.Experiment, Name: j.Name, Fence: p.Fence, Expiry: expiry}, now)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"token": t, "expiryTimeUtc": stamp(expiry)}, nil
}
