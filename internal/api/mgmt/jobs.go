package mgmt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/memo"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// JobServices is what answers for jobs.
type JobServices struct {
	Jobs   *jobs.Service
	Assets JobAssets

	shown *memo.Map[shownJob, jobs.Version, arm.JSON]
}

// shownJob is a run as those see it who came by one host.
type shownJob struct {
	id    string
	hosts arm.Hosts
}

// JobAssets finds what jobs name.
type JobAssets interface {
	Environment(ctx context.Context, w assets.Place, name, version string) (map[string]any, error)
	CodeOf(ctx context.Context, w assets.Place, id string) (snapshot string, err error)
	Locate(ctx context.Context, w assets.Place, uri string) (assets.Location, error)
	Source(ctx context.Context, w assets.Place, uri string) (assets.Location, error)
	Get(ctx context.Context, w assets.Place, c assets.Collection, name, version string) (assets.Asset, error)
	FindContext(ctx context.Context, w assets.Place, b *queue.Build) error
	InRegistry(id string) (map[string]any, error)
}

// RegisterJobs adds the routes of workspaces/jobs (mfe.json, 2024-04-01). SDK v1
// reads ARM resources on the API host, below /rp/workspaces.
func RegisterJobs(reg arm.Registrar, s JobServices) {
	const ws = "/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.MachineLearningServices/workspaces/{ws}"
	s.shown = &memo.Map[shownJob, jobs.Version, arm.JSON]{}
	for _, root := range []string{ws + "/jobs", "/rp/workspaces" + ws + "/jobs"} {
		reg.Handle("GET "+root, s.in(s.list))
		reg.Handle("GET "+root+"/{id}", s.in(s.get))
		reg.Handle("PUT "+root+"/{id}", s.in(s.put))
		reg.Handle("DELETE "+root+"/{id}", s.in(s.delete))
		reg.Handle("POST "+root+"/{id}/cancel", s.in(s.cancel))
		reg.Handle("GET "+root+"/{id}/cancel", s.in(s.canceled))
	}
}

type jobHandler func(w http.ResponseWriter, r *http.Request, ws jobs.Workspace) (int, any, error)

func (s JobServices) in(f jobHandler) arm.Handler {
	return func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		ws, err := s.Jobs.Workspace(r.Context(), arm.Caller(r.Context()), armid.Workspace(r.PathValue("sub"), r.PathValue("rg"), r.PathValue("ws")))
		if err != nil {
			return 0, nil, err
		}
		return f(w, r, ws)
	}
}

func (s JobServices) get(_ http.ResponseWriter, r *http.Request, ws jobs.Workspace) (int, any, error) {
	j, err := s.Jobs.Get(r.Context(), arm.Caller(r.Context()), ws, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	body, err := s.show(r, ws, j)
	return http.StatusOK, body, err
}

// put submits a job. 201 says that it is new, 200 that it was there.
func (s JobServices) put(_ http.ResponseWriter, r *http.Request, ws jobs.Workspace) (int, any, error) {
	var body struct{ Properties json.RawMessage }
	if err := arm.ReadJSON(r, &body); err != nil {
		return 0, nil, err
	}
	if len(body.Properties) == 0 || body.Properties[0] != '{' {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidRequestContent", "properties", "The body must be an object with the job's properties.")
	}
	in, environment, err := jobs.FromCommandJob(body.Properties)
	if err != nil {
		return 0, nil, err
	}
	in.Name = r.PathValue("id")
	in.Place()
	if err := s.locate(r, ws, &in); err != nil {
		return 0, nil, err
	}
	if in.Code, err = s.Assets.CodeOf(r.Context(), assets.Place{ID: ws.ID, GUID: ws.GUID}, in.Code); err != nil {
		return 0, nil, err
	}
	if environment != "" {
		if err := s.environment(r.Context(), ws, environment, &in); err != nil {
			return 0, nil, err
		}
	}
	j, created, err := s.Jobs.Submit(r.Context(), arm.Caller(r.Context()), ws, in)
	if err != nil {
		return 0, nil, err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return status, jobResource(r, ws, j), nil
}

// environment replaces a job's environment by the registered one that an ARM
// id, or azureml:name:version, names. The job's own variables win.
func (s JobServices) environment(ctx context.Context, ws jobs.Workspace, id string, in *jobs.Submission) error {
	name, version := strings.TrimPrefix(id, "azureml:"), ""
	if at := strings.Index(strings.ToLower(id), "/environments/"); at >= 0 {
		// SDK v2 makes such an id of "azureml:NAME@latest", scheme and all.
		name = strings.TrimPrefix(id[at+len("/environments/"):], "azureml:")
		name, version, _ = strings.Cut(name, "/versions/")
		if strings.Contains(strings.ToLower(id[:at]), "registries/") {
			env, err := s.Assets.InRegistry(id)
			if err != nil {
				return err
			}
			return s.inEnvironment(ctx, ws, env, in)
		}
		if prefix := armid.Key(id[:at]); prefix != ws.Key() {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.environmentId", "The environment %q does not lie in the workspace %q.", id, ws.Name)
		}
	} else if n, v, ok := strings.Cut(name, ":"); ok {
		name, version = n, v
	}
	env, err := s.Assets.Environment(ctx, assets.Place{ID: ws.ID, GUID: ws.GUID}, strings.TrimSuffix(name, "@latest"), version)
	if err != nil {
		return err
	}
	return s.inEnvironment(ctx, ws, env, in)
}

func (s JobServices) inEnvironment(ctx context.Context, ws jobs.Workspace, env map[string]any, in *jobs.Submission) error {
	text, err := json.Marshal(env)
	if err != nil {
		return err
	}
	parsed, variables, err := jobs.ParseEnvironment(text)
	if err != nil {
		return err
	}
	if err := s.Assets.FindContext(ctx, assets.Place{ID: ws.ID, GUID: ws.GUID}, parsed.Build); err != nil {
		return err
	}
	in.Environment = parsed
	for k, v := range in.Variables {
		variables[k] = v
	}
	in.Variables = variables
	return ran(ws, env, in)
}

// ran writes into a job's definition which version of its environment it runs:
// "the newest" says nothing once there is a newer one.
func ran(ws jobs.Workspace, env map[string]any, in *jobs.Submission) error {
	name, _ := env["name"].(string)
	version, _ := env["version"].(string)
	if name == "" || version == "" {
		return nil
	}
	definition := map[string]json.RawMessage{}
	if err := json.Unmarshal(in.Definition, &definition); err != nil {
		return fmt.Errorf("read the definition of a job: %w", err)
	}
	id, err := json.Marshal(ws.ID + "/environments/" + name + "/versions/" + version)
	if err != nil {
		return err
	}
	maps.DeleteFunc(definition, func(k string, _ json.RawMessage) bool { return strings.EqualFold(k, "environmentId") })
	definition["environmentId"] = id
	in.Definition, err = json.Marshal(definition)
	return err
}

// delete removes a job that has ended; one that is not there is no error.
func (s JobServices) delete(_ http.ResponseWriter, r *http.Request, ws jobs.Workspace) (int, any, error) {
	removed, err := s.Jobs.Delete(r.Context(), arm.Caller(r.Context()), ws, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	if !removed {
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, nil, nil
}

// cancel takes the wish, which is durable when it answers. Where it is followed
// the run's end can be asked for, unless it has come.
func (s JobServices) cancel(w http.ResponseWriter, r *http.Request, ws jobs.Workspace) (int, any, error) {
	j, err := s.Jobs.Cancel(r.Context(), arm.Caller(r.Context()), ws, r.PathValue("id"), "")
	if err != nil {
		return 0, nil, err
	}
	return followed(w, r, ws, j)
}

// canceled is what a cancel's Location leads to: 202 until the run has ended.
func (s JobServices) canceled(w http.ResponseWriter, r *http.Request, ws jobs.Workspace) (int, any, error) {
	j, err := s.Jobs.Get(r.Context(), arm.Caller(r.Context()), ws, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return followed(w, r, ws, j)
}

func followed(w http.ResponseWriter, r *http.Request, ws jobs.Workspace, j *jobs.Job) (int, any, error) {
	if j.Status.State.Final() {
		return http.StatusOK, nil, nil
	}
	arm.Later(w, r, ws.ID+"/jobs/"+j.Name+"/cancel")
	return http.StatusAccepted, nil, nil
}

// list shows runs on clusters, whoever submitted them. Runs without one have no
// job type and are left to run history.
func (s JobServices) list(_ http.ResponseWriter, r *http.Request, ws jobs.Workspace) (int, any, error) {
	after := arm.SkipToken(r)
	if after == "" {
		after = arm.Query(r, "$skip")
	}
	if t := arm.Query(r, "jobType"); t != "" && !strings.EqualFold(t, "Command") || strings.EqualFold(arm.Query(r, "scheduled"), "true") || arm.Query(r, "scheduleId") != "" {
		return http.StatusOK, arm.Page(r, []map[string]any{}, ""), nil // jobs of other types, and of schedules, cannot exist
	}
	view := jobs.View(arm.Query(r, "listViewType"))
	if view == "" {
		view = jobs.ActiveOnly
	}
	list, next, err := s.Jobs.List(r.Context(), arm.Caller(r.Context()), ws, jobs.Query{
		Form: jobs.ARM, View: view, Tag: arm.Query(r, "tag"), Property: arm.Query(r, "properties"), After: after,
	})
	if err != nil {
		return 0, nil, err
	}
	value := make([]arm.JSON, len(list))
	for i, j := range list {
		if value[i], err = s.show(r, ws, j); err != nil {
			return 0, nil, err
		}
	}
	page, err := arm.PageOf(r, value, next)
	return http.StatusOK, page, err
}

// show encodes a run that was read, or has it from the last time: most of what is
// in a list has not changed since.
func (s JobServices) show(r *http.Request, ws jobs.Workspace, j *jobs.Job) (arm.JSON, error) {
	key := shownJob{j.ID, arm.HostsOf(r)}
	if text, ok := s.shown.Get(key, j.Version); ok {
		return text, nil
	}
	text, err := arm.Encode(jobResource(r, ws, j))
	if err != nil {
		return nil, err
	}
	s.shown.Put(key, j.Version, text, len(text))
	return text, nil
}

// jobResource is a run in the words of JobBase. What was sent is kept and shown
// (codeId, resources, what Ebb does not know), under what Ebb knows better.
func jobResource(r *http.Request, ws jobs.Workspace, j *jobs.Job) map[string]any {
	hosts := arm.HostsOf(r)
	props := map[string]any{}
	if j.Form == jobs.ARM {
		// It was read when it came. Numbers stay as they were written: one that no
		// float64 holds must not hide the rest.
		dec := json.NewDecoder(bytes.NewReader(j.Definition))
		dec.UseNumber()
		_ = dec.Decode(&props)
	}
	for k, v := range map[string]any{
		"jobType": "Command", "status": j.State(), "command": commandOf(j), "computeId": armid.Compute(ws.ID, j.Target),
		"experimentName": j.Experiment, "displayName": j.DisplayName, "tags": orEmpty(j.Tags), "properties": withNotes(j),
		"isArchived": j.Archived, "environmentVariables": orEmpty(j.Variables), "services": jobServices(hosts, ws, j),
	} {
		props[k] = v
	}
	fillMissing(props, map[string]any{
		"description": nil, "codeId": nil, "environmentId": nil, "componentId": nil, "identity": nil, "distribution": distributionOf(j),
		"inputs": map[string]any{}, "outputs": map[string]any{}, "parameters": nil, "limits": nil,
		"resources": map[string]any{"instanceCount": max(j.Nodes, 1), "properties": map[string]any{}},
	})
	props["inputs"], props["outputs"] = inputsOf(props), outputsOf(j, props)
	if j.Description != "" {
		props["description"] = j.Description
	}
	if code, _ := props["codeId"].(string); j.Snapshot != "" && (code == "" || armid.IsGUID(code) || strings.Contains(strings.ToLower(code), "/snapshots/")) {
		props["codeId"] = assets.SnapshotCodeID(ws.ID, j.Snapshot)
	}
	if j.Limit > 0 {
		props["limits"] = map[string]any{"jobLimitsType": "Command", "timeout": jobs.FormatDuration(j.Limit)}
	}
	outcome(props, j)
	return map[string]any{
		"id": ws.ID + "/jobs/" + j.Name, "name": j.Name, "type": "Microsoft.MachineLearningServices/workspaces/jobs",
		"systemData": map[string]any{
			"createdBy": firstName(j.Creator), "createdByType": byType(j.Creator), "createdAt": rfc(j.Created),
			"lastModifiedBy": firstName(j.Modifier), "lastModifiedByType": byType(j.Modifier), "lastModifiedAt": rfc(j.Modified),
		},
		"properties": props,
	}
}

// outcome adds what mfe.json has no place for: when it ran, why it waits, why
// it failed. Clients of Azure ignore them; ours show them.
func outcome(props map[string]any, j *jobs.Job) {
	st := j.Status
	for k, t := range map[string]string{"startTimeUtc": rfc(st.Started), "endTimeUtc": rfc(st.Ended)} {
		if t != "" {
			props[k] = t
		}
	}
	if st.Why != "" && !st.State.Final() {
		props["statusReason"] = st.Why
	}
	if j.Cancel && st.State != queue.Completed {
		props["cancelReason"] = j.Why
	}
	if f := st.Failure; f.Code != "" || f.Message != "" {
		props["error"] = map[string]any{"code": f.Code, "message": f.Message, "target": f.Node, "details": []any{}}
		if f.ExitCode != 0 {
			props["exitCode"] = f.ExitCode
		}
	}
}

// withNotes are a job's properties, what of it and on its nodes is not there, and why it waits.
func withNotes(j *jobs.Job) map[string]string {
	waits := j.Status.Why != "" && (j.Status.State == queue.NotStarted || j.Status.State == queue.Queued)
	notes := j.AllNotes()
	if len(notes) == 0 && !waits {
		return orEmpty(j.Shown())
	}
	out := maps.Clone(orEmpty(j.Shown()))
	if len(notes) > 0 {
		out[jobs.NotesProperty] = strings.Join(notes, "\n")
	}
	if waits {
		out[jobs.WaitsProperty] = j.Status.Why
	}
	return out
}

// commandOf is what a run runs, as one line.
func commandOf(j *jobs.Job) string {
	if j.Command != "" {
		return j.Command
	}
	return "python " + j.Script
}

// distributionOf says in ARM's words how the processes of a run lie that was
// submitted in others.
func distributionOf(j *jobs.Job) any {
	switch s := j.Spread; s.Kind {
	case gang.MPI:
		return map[string]any{"distributionType": "Mpi", "processCountPerInstance": max(s.PerNode, 1)}
	case gang.PyTorch:
		return map[string]any{"distributionType": "PyTorch", "processCountPerInstance": max(s.PerNode, 1)}
	case gang.TensorFlow:
		return map[string]any{"distributionType": "TensorFlow", "workerCount": cmp.Or(s.Workers, max(j.Nodes, 1)), "parameterServerCount": s.Servers}
	case gang.Alone:
	}
	return nil
}

func jobServices(hosts arm.Hosts, ws jobs.Workspace, j *jobs.Job) map[string]any {
	tracking := strings.Replace(hosts.Data(ws.Location), "https://", "azureml://", 1) + "/mlflow/v1.0" + ws.ID + "?"
	studio := hosts.Studio() + "/runs/" + j.Name + "?wsid=" + ws.ID
	service := func(kind, endpoint string) map[string]any {
		return map[string]any{"jobServiceType": kind, "endpoint": endpoint, "port": nil, "status": nil, "errorMessage": nil, "properties": nil}
	}
	return map[string]any{"Tracking": service("Tracking", tracking), "Studio": service("Studio", studio)}
}

func fillMissing(m, defaults map[string]any) {
	for k, v := range defaults {
		if _, there := m[k]; !there {
			m[k] = v
		}
	}
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func firstName(c jobs.Creator) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// byType is systemData's createdByType; a run writes with its identity.
func byType(c jobs.Creator) string {
	if c.Kind == "Run" {
		return "ManagedIdentity"
	}
	return c.Kind
}

// rfc writes a time as ARM does; empty for none.
func rfc(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
}
