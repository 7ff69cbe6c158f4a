package data

import (
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/fault"
)

// rundata adds what SDK v2 reads of a run to download its files.
func (h *server) rundata(reg arm.Registrar) {
	reg.Handle("POST /history/v1.0"+workspace+"/rundata", h.in(h.getRunData))
	reg.Handle("GET /history/v1.0"+workspace+"/runs/{run}/children", h.in(h.listChildren))
	reg.Handle("GET /history/v1.0"+workspace+"/runs/{run}/serviceinstances/{node}", h.in(h.getServices))
	reg.Handle("POST /data/v1.0"+workspace+"/dataversion/batchGetResolvedUris", h.in(h.resolveOutputs))
}

// outputID stands for an output of a job, as Azure's name for the data asset
// that it makes of each. Run ids hold no colon.
func (r *request) outputID(j *jobs.Job, output string) string {
	return "azureml://locations/" + r.w.Location + "/workspaces/" + r.w.GUID + "/data/azureml_" + j.Name + ":output:" + output + "/versions/1"
}

// getRunData shows a run with its outputs. Its logs become files of the run, if
// it has ended: the client looks for them there, and asks for this first.
func (h *server) getRunData(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ RunID string }
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	j, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, in.RunID)
	if err != nil {
		return 0, nil, err
	}
	if err := h.keepLogs(r, j); err != nil {
		return 0, nil, err
	}
	outputs := object{}
	for _, o := range j.Outputs {
		kind := o.Type
		if strings.HasSuffix(kind, "_model") { // all that the client does with it is to read its files
			kind = "uri_folder"
		}
		outputs[o.Name] = object{"assetId": r.outputID(j, o.Name), "type": kind}
	}
	run := r.runDTO(j)
	run["outputs"], run["inputs"] = outputs, object{}
	return http.StatusOK, object{"runMetadata": run, "runDefinition": raw(j.Definition), "jobSpecification": nil, "systemSettings": nil}, nil
}

// resolveOutputs says where the outputs are that getRunData named.
func (h *server) resolveOutputs(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ Values []string }
	if err := readLarge(r, &in); err != nil {
		return 0, nil, err
	}
	values := object{}
	for _, id := range in.Values {
		_, name, _ := strings.Cut(id, "/data/azureml_")
		name, _, _ = strings.Cut(name, "/versions/")
		run, output, ok := strings.Cut(name, ":output:")
		if !ok {
			return 0, nil, fault.Coded(fault.Invalid, "InvalidAssetId", "values", "The id %.300q does not stand for an output of a job.", id)
		}
		j, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, run)
		if err != nil {
			return 0, nil, err
		}
		for _, o := range j.Outputs {
			if o.Name == output {
				values[id] = object{"uri": o.URI, "type": o.Type}
			}
		}
	}
	return http.StatusOK, object{"values": values}, nil
}

// getServices lists the interactive services of a node: there are none.
func (h *server) getServices(_ http.ResponseWriter, r *request) (int, any, error) {
	_, err := h.run(r)
	return http.StatusOK, object{"instances": object{}}, err
}
