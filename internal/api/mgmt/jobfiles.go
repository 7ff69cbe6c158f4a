package mgmt

import (
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// locate finds where a job's inputs lie and its outputs go. What an asset named
// then is what the job reads, whatever becomes of the name. What is given as an
// address alone is not looked at.
func (s JobServices) locate(r *http.Request, ws jobs.Workspace, in *jobs.Submission) error {
	place := assets.Place{ID: ws.ID, GUID: ws.GUID}
	for i := range in.Inputs {
		f := &in.Inputs[i]
		if f.Mode == queue.Direct {
			continue
		}
		uri, err := ofJob(r, s.Jobs, ws, f.URI)
		if err != nil {
			return named(err, "properties.inputs."+f.Name+".uri", "input", f.Name)
		}
		at, err := s.Assets.Source(r.Context(), place, uri)
		if err == nil && at.Public != "" {
			err = readable(f, at.Public)
		}
		if err != nil {
			return named(err, "properties.inputs."+f.Name+".uri", "input", f.Name)
		}
		if at.Public == "" {
			f.Key = at.Key()
		}
	}
	for i := range in.Outputs {
		f := &in.Outputs[i]
		if lower := strings.ToLower(f.URI); !strings.Contains(lower, "/datastores/") && !strings.HasPrefix(lower, "https://") && !strings.HasPrefix(lower, "wasbs://") {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.outputs."+f.Name+".uri",
				"The output %q goes to %.200q, which is no place to write to; a datastore's path is, as azureml://datastores/workspaceblobstore/paths/a/folder/.", f.Name, f.URI)
		}
		at, err := s.Assets.Locate(r.Context(), place, f.URI)
		if err == nil && queue.OneFile(f.Type) && (at.Path == "" || at.Folder) {
			err = fault.Coded(fault.Invalid, "InvalidPropertyValue", "", "%.200q is a folder, and an output of the type uri_file is one file.", f.URI)
		}
		if err != nil {
			return named(err, "properties.outputs."+f.Name+".uri", "output", f.Name)
		}
		f.Key = at.Key()
	}
	return s.free(r, ws, in)
}

// readable lets a node read an input from its address, if it is a file that the job
// does not write to.
func readable(f *queue.Input, address string) error {
	switch {
	case !queue.OneFile(f.Type):
		return fault.New(fault.Unsupported, "", "At %.300q lies one file, if any: what is not in this workspace's storage account can be read by the type uri_file, not %s. Upload a folder, and name it by its datastore's path.", address, f.Type)
	case f.Mode == queue.ReadWriteMount:
		return fault.New(fault.Unsupported, "", "Nothing can be written to %.300q: the modes of an input at a public address are %s, %s and %s.", address, queue.ReadOnlyMount, queue.Download, queue.Direct)
	}
	f.Public = address
	return nil
}

// ofOutput is the address of another job's named output, or of what lies below.
var ofOutput = regexp.MustCompile(`(?i)^azureml:/*(?:.*/)?jobs/([^/]+)/outputs/([^/]+)(?:/paths)?(/.*)?$`)

// ofRun writes MLflow's address of a run's files, runs:/RUN/path, as the one that
// Azure ML has for them. Other addresses stay as they are.
func ofRun(uri string) (string, error) {
	const scheme = "runs:/"
	if len(uri) < len(scheme) || !strings.EqualFold(uri[:len(scheme)], scheme) {
		return uri, nil
	}
	run, path, _ := strings.Cut(strings.TrimLeft(uri[len(scheme):], "/"), "/")
	if run == "" || path == "" {
		return "", fault.Coded(fault.Invalid, "InvalidAddress", uri, "%.300q names no files of a run; runs:/RUN/path/of/the/model does.", uri)
	}
	return "azureml://jobs/" + run + "/outputs/artifacts/paths/" + path, nil
}

// ofJob replaces the address of a job's named output by where the output lies.
// A job's own files (outputs/artifacts) are assets' to find.
func ofJob(r *http.Request, all *jobs.Service, ws jobs.Workspace, uri string) (string, error) {
	m := ofOutput.FindStringSubmatch(uri)
	if m == nil || strings.EqualFold(m[2], "artifacts") {
		return uri, nil
	}
	if err := assets.Here(assets.Place{ID: ws.ID, GUID: ws.GUID}, uri); err != nil {
		return "", err
	}
	j, err := all.Get(r.Context(), arm.Caller(r.Context()), ws, m[1])
	if err != nil {
		return "", err
	}
	there := make([]string, 0, len(j.Outputs)+1)
	for _, o := range j.Outputs {
		if o.Name == m[2] && m[3] == "" {
			return o.URI, nil
		}
		if o.Name == m[2] {
			return strings.TrimSuffix(o.URI, "/") + m[3], nil
		}
		there = append(there, o.Name)
	}
	return "", fault.Coded(fault.NotFound, "OutputNotFound", uri, "The job %q has no output %q. It has: %s.", j.Name, m[2], strings.Join(append(there, "artifacts"), ", "))
}

// settle replaces the address of a job's output, in the properties of data or a
// model, by where the output lies: clients read no other. What a job has not
// left is refused, since nobody could use the asset.
func (h assetRoutes) settle(r *assetRequest, props map[string]any) error {
	key := assets.AddressKey(h.c)
	given, _ := props[key].(string)
	uri, err := ofRun(given)
	if err != nil {
		return named(err, "properties."+key, "address", given)
	}
	m := ofOutput.FindStringSubmatch(uri)
	if m == nil || h.c != assets.Data && h.c != assets.Models {
		return nil
	}
	if err := assets.Here(r.place(), uri); err != nil {
		return named(err, "properties."+key, "address", given)
	}
	j, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, m[1])
	if err != nil {
		return named(err, "properties."+key, "address", given)
	}
	uri, err = ofJob(r.Request, h.Jobs, r.w, uri)
	if err == nil {
		uri, err = h.Assets.Settle(r.Context(), r.place(), uri)
	}
	if errors.Is(err, fault.NotFound) && strings.EqualFold(m[2], "artifacts") && h.c == assets.Models {
		uri, err = h.logged(r, j, m[3], err)
	}
	if err != nil {
		return named(err, "properties."+key, "address", given)
	}
	props[key] = uri
	if h.c == assets.Models && props["jobName"] == nil {
		props["jobName"] = j.Name
	}
	return nil
}

// logged is where a model lies that a run logged with MLflow 3, whose files are not
// the run's. Without one the refusal stays what it was.
func (h assetRoutes) logged(r *assetRequest, j *jobs.Job, path string, refusal error) (string, error) {
	model, below, err := h.Jobs.ModelAt(r.Context(), r.w, j, path)
	if errors.Is(err, fault.NotFound) {
		return "", refusal
	}
	if err != nil {
		return "", err
	}
	return h.Assets.Settle(r.Context(), r.place(), "azureml://jobs/"+model.ID+"/outputs/artifacts/paths/"+below)
}

// named says which input or output a refusal is about.
func named(err error, target, what, name string) error {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err
	}
	kind := f.Kind
	if kind == fault.NotFound { // it is the job that is asked for, and that is not missing
		kind = fault.Invalid
	}
	return fault.Coded(kind, f.Code, target, "The %s %q: %s", what, name, f.Msg)
}

// free refuses outputs that would become versions of assets which there are, of
// a job that is new.
func (s JobServices) free(r *http.Request, ws jobs.Workspace, in *jobs.Submission) error {
	for _, o := range in.Outputs {
		if o.Asset == "" || o.Version == "" {
			continue
		}
		if _, err := s.Jobs.Get(r.Context(), arm.Caller(r.Context()), ws, in.Name); err == nil {
			return nil
		}
		c := assets.Output{Type: o.Type}.Collection()
		if _, err := s.Assets.Get(r.Context(), assets.Place{ID: ws.ID, GUID: ws.GUID}, c, o.Asset, o.Version); err == nil {
			return fault.Coded(fault.Conflict, "Conflict", "properties.outputs."+o.Name, "The output %q is to become %s:%s, which exists. Name another version, or none for the next.", o.Name, o.Asset, o.Version)
		}
	}
	return nil
}

// outputsOf are a job's outputs as they were sent, with their addresses.
func outputsOf(j *jobs.Job, props map[string]any) map[string]any {
	sent, _ := props["outputs"].(map[string]any)
	out := map[string]any{}
	for _, o := range j.Outputs {
		shown := map[string]any{"jobOutputType": o.Type, "description": nil}
		if as, ok := sent[o.Name].(map[string]any); ok {
			for k, v := range as {
				shown[k] = v
			}
		}
		shown["uri"], shown["mode"] = o.URI, o.Mode
		out[o.Name] = shown
	}
	return out
}

// inputsOf are a job's inputs as they were sent, with their modes.
func inputsOf(props map[string]any) map[string]any {
	sent, _ := props["inputs"].(map[string]any)
	out := map[string]any{}
	for name, v := range sent {
		as, ok := v.(map[string]any)
		if !ok {
			continue // null: an optional one
		}
		kind, _ := as["jobInputType"].(string)
		if !strings.EqualFold(kind, "literal") && as["mode"] == nil {
			as["mode"] = queue.ReadOnlyMount
		}
		out[name] = as
	}
	return out
}
