package data

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// runDTO is a run as run history shows it. rootRunId and runNumber may not be
// missing: the client indexes them.
func (r *request) runDTO(j *jobs.Job) object {
	root := j.Run
	var parent any
	if n := len(j.Ancestors); n > 0 {
		root, parent = j.Ancestors[0], j.Ancestors[n-1]
	}
	out := object{
		"runId": j.Name, "runUuid": j.Run, "runNumber": j.Number, "rootRunId": j.Root, "rootRunUuid": root,
		"parentRunId": nullable(j.Parent), "parentRunUuid": parent, "experimentId": j.ExperimentID,
		"createdUtc": stamp(j.Created), "lastModifiedUtc": stamp(j.Modified), "startTimeUtc": stamp(j.Status.Started), "endTimeUtc": stamp(j.Status.Ended),
		"status": j.State(), "name": nullable(j.Label), "displayName": j.DisplayName, "description": nullable(j.Description),
		"dataContainerId": j.Container(), "hidden": j.Archived, "runType": nullable(j.Type), "runTypeV2": raw(j.TypeV2),
		"properties": none(j.Shown()), "tags": none(j.Tags), "scriptName": nullable(j.Script), "target": nullable(j.Target),
		"runDefinition": raw(j.Definition), "heartbeatEnabled": false,
		"createdBy": userDTO(j.Creator), "lastModifiedBy": userDTO(j.Modifier), "userId": j.Creator.ID,
		"computeRequest": object{"nodeCount": j.Nodes}, "error": failure(j), "warnings": warnings(j), "queueingInfo": queueing(j),
	}
	if j.Kind == jobs.Command {
		out["cancelUri"] = r.root() + (&url.URL{Path: "/execution/v1.0" + r.w.ID + "/experiments/" + j.Experiment + "/runId/" + j.Name + "/cancel"}).EscapedPath()
	}
	return out
}

func userDTO(c jobs.Creator) object {
	return object{"userObjectId": c.ID, "userTenantId": nullable(c.Tenant), "userName": c.Name}
}

// queueing says why a run waits (SDK v1 get_detailed_status); null once it runs.
func queueing(j *jobs.Job) any {
	if j.Status.Why == "" || j.Status.State.Final() || j.Status.State == queue.Running {
		return nil
	}
	return object{"code": string(j.Status.State), "message": j.Status.Why, "lastRefreshTimestamp": stamp(j.Status.Since)}
}

// failure is why a run failed, null otherwise. details may not be null: the
// client's own error would fail on it.
func failure(j *jobs.Job) any {
	f := j.Status.Failure
	if f.Code == "" && f.Message == "" {
		return nil
	}
	message := f.Message
	if f.ExitCode != 0 && !strings.Contains(message, fmt.Sprint(f.ExitCode)) {
		message = fmt.Sprintf("The process ended with exit code %d. %s", f.ExitCode, message)
	}
	code := f.Code
	if code == "" {
		code = "UserError"
	}
	inner := object{"code": code, "message": message, "details": []any{}}
	if f.ExitCode != 0 {
		inner["messageParameters"] = object{"exitCode": fmt.Sprint(f.ExitCode)}
	}
	if f.Node != "" {
		inner["target"] = f.Node
	}
	return object{"error": inner, "time": stamp(j.Status.Ended)}
}

// warnings are what the run's processes reported, after what its nodes do without
// and why it was stopped: SDKs show a run's error only where it failed, and Azure
// calls one that ran past its time limit canceled.
func warnings(j *jobs.Job) any {
	out := make([]object, 0, 1+len(j.Notes)+len(j.Status.Notes)+len(j.Warnings))
	if f := j.Status.Failure; f.Code == "JobTimeout" {
		out = append(out, object{"source": "service", "message": f.Message})
	}
	for _, n := range j.Notes {
		out = append(out, object{"source": "service", "message": n})
	}
	for _, n := range j.Status.Notes {
		out = append(out, object{"source": "node", "message": n})
	}
	for _, w := range j.Warnings {
		out = append(out, object{"source": w.Source, "message": w.Message})
	}
	return out
}

// details is a run as its details show it. logFiles must be an object, also when
// it is empty.
func (h *server) details(r *request) (*jobs.Job, object, error) {
	j, err := h.run(r)
	if err != nil {
		return nil, nil, err
	}
	names, err := h.logNames(r.Context(), r.w, j.Run)
	if err != nil {
		return nil, nil, err
	}
	files := map[string]string{}
	for _, name := range names {
		files[name] = h.logURL(r, j, name)
	}
	return j, object{
		"runId": j.Name, "target": nullable(j.Target), "status": j.State(), "startTimeUtc": stamp(j.Status.Started), "endTimeUtc": stamp(j.Status.Ended),
		"properties": none(j.Shown()), "inputDatasets": []any{}, "outputDatasets": []any{}, "services": object{},
		"runDefinition": raw(j.Definition), "logFiles": files, "error": failure(j), "warnings": warnings(j),
		"submittedBy": j.Creator.Name,
	}, nil
}
