package data

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/fault"
)

// plain reports whether a call came below v1.0: from MLflow without
// azureml-mlflow.
func (r *mlRequest) plain() bool {
	return strings.HasPrefix(strings.ToLower(r.URL.Path), "/mlflow/v1.0/")
}

// artifactURI is where a client puts a run's files.
func (r *mlRequest) artifactURI(j *jobs.Job) string {
	if r.plain() {
		return "mlflow-artifacts:/" + j.ExperimentID + "/" + j.Name + "/artifacts"
	}
	return strings.Replace(r.root(), "https://", "azureml://", 1) +
		(&url.URL{Path: "/mlflow/v2.0" + r.w.ID + "/experiments/" + j.Experiment + "/runs/" + j.Name + "/artifacts"}).EscapedPath()
}

// mlArtifacts adds the files of runs as MLflow's own server has them.
func (h *server) mlArtifacts(reg arm.Registrar, root string) {
	const api = "/api/2.0/mlflow-artifacts/artifacts"
	reg.Handle("GET "+root+api, h.in(h.mlList))
	file := root + api + "/{experiment}/{run}/artifacts/{path...}"
	reg.Handle("GET "+file, h.in(h.onFile(h.getArtifactContent)))
	reg.Handle("PUT "+file, h.in(h.onFile(h.putArtifactContent)))
}

// onFile puts a file of a run where the artifact service's handlers look for it.
func (h *server) onFile(f func(http.ResponseWriter, *request) (int, any, error)) func(http.ResponseWriter, *request) (int, any, error) {
	return func(w http.ResponseWriter, r *request) (int, any, error) {
		r.SetPathValue("origin", origin)
		r.SetPathValue("container", "dcid."+r.PathValue("run"))
		return f(w, r)
	}
}

// putArtifactContent is a post that may come again: MLflow writes over what is there.
func (h *server) putArtifactContent(_ http.ResponseWriter, r *request) (int, any, error) {
	j, err := h.artifactOwner(r)
	if err != nil {
		return 0, nil, err
	}
	p := arm.Caller(r.Context())
	if err := h.Jobs.MayWrite(p, j); err != nil {
		return 0, nil, err
	}
	path, err := assets.CleanPath(r.PathValue("path"))
	if err != nil {
		return 0, nil, err
	}
	if err := h.takeFile(r, assets.ArtifactKey(r.place(), j.Container(), path), path); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{}, h.Assets.Record(r.Context(), p, r.place(), j.Container(), path)
}

// mlList lists one level of a run's folders, by "experiment/run/artifacts/path".
func (h *server) mlList(_ http.ResponseWriter, r *request) (int, any, error) {
	parts := strings.SplitN(strings.Trim(arm.Query(r.Request, "path"), "/"), "/", 4)
	if len(parts) < 3 || parts[2] != "artifacts" {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidArtifactPath", "path", "The path names no run's artifacts; \"<experiment id>/<run id>/artifacts\" does.")
	}
	below := ""
	if len(parts) == 4 {
		below = parts[3]
	}
	list, err := h.level(r, parts[1], below)
	for _, f := range list { // relative to the path that was asked for
		f["path"] = strings.TrimPrefix(strings.TrimPrefix(f["path"].(string), below), "/")
	}
	return http.StatusOK, object{"files": list}, err
}

func (h *server) mlListArtifacts(_ http.ResponseWriter, r *mlRequest) (any, error) {
	list, err := h.level(r.request, r.run(), strings.Trim(r.Path, "/"))
	if err != nil {
		return nil, err
	}
	j, err := h.Jobs.Get(r.Context(), arm.Caller(r.Context()), r.w, r.run())
	if err != nil {
		return nil, err
	}
	return object{"root_uri": r.artifactURI(j), "files": list}, nil
}

// level lists the files and folders right below a folder of a run.
func (h *server) level(r *request, run, folder string) ([]object, error) {
	j, err := h.holder(r, run)
	if err != nil {
		return nil, err
	}
	prefix := ""
	if folder != "" {
		prefix = folder + "/"
	}
	out, folders := []object{}, map[string]bool{}
	for after := ""; ; {
		list, next, err := h.files(r, j, prefix, after)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			rest := strings.TrimPrefix(e.path, prefix)
			if dir, _, nested := strings.Cut(rest, "/"); nested {
				if !folders[dir] {
					folders[dir] = true
					out = append(out, object{"path": prefix + dir, "is_dir": true})
				}
				continue
			}
			size := int64(0)
			if e.artifact != nil {
				if size, err = h.Blobs.Size(r.Context(), e.artifact.Key); err != nil {
					continue // its bytes have not come yet
				}
			}
			out = append(out, object{"path": e.path, "is_dir": false, "file_size": size})
		}
		if after = next; after == "" {
			return out, nil
		}
	}
}

// facade adds a run's files to its run history, as azureml-mlflow asks for them.
func (h *server) facade(reg arm.Registrar, run string) {
	at := run + "/artifacts"
	reg.Handle("GET "+at, h.in(h.onRun(h.listArtifacts)))
	reg.Handle("GET "+at+"/path", h.in(h.onRun(h.listArtifacts)))
	reg.Handle("GET "+at+"/metadata", h.in(h.onRun(h.getArtifact)))
	reg.Handle("GET "+at+"/contentinfo", h.in(h.onRun(h.getContentInfo)))
	reg.Handle("GET "+at+"/artifacturi", h.in(h.onRun(h.getContentInfo)))
	reg.Handle("GET "+at+"/content", h.in(h.onRun(h.getArtifactContent)))
	reg.Handle("GET "+at+"/prefix/contentinfo", h.in(h.onRun(h.listContentInfo)))
	reg.Handle("POST "+at+"/batch/metadata", h.in(h.onRun(h.createArtifacts)))
}

// onRun puts the run and path of the address where the artifact service's
// handlers look for them.
func (h *server) onRun(f func(http.ResponseWriter, *request) (int, any, error)) func(http.ResponseWriter, *request) (int, any, error) {
	return func(w http.ResponseWriter, r *request) (int, any, error) {
		r.blobs = true
		j, err := h.holder(r, r.PathValue("run"))
		if err == nil {
			err = inExperiment(r, j)
		}
		if err != nil {
			return 0, nil, err
		}
		r.SetPathValue("origin", origin)
		r.SetPathValue("container", j.Container())
		r.SetPathValue("path", arm.Query(r.Request, "path"))
		return f(w, r)
	}
}

// keepLog makes a blob of a log of a run that has ended, for clients that look
// for logs where Azure has them: among the run's artifacts.
func (h *server) keepLog(r *request, j *jobs.Job, name string) (assets.Artifact, error) {
	a := assets.Artifact{Container: j.Container(), Path: name, Key: assets.ArtifactKey(r.place(), j.Container(), name), Created: j.Created}
	c, err := h.compose(r.Context(), r.w.GUID, j.Run, name)
	if err != nil {
		return a, err
	}
	if size, err := h.Blobs.Size(r.Context(), a.Key); err == nil && size == c.size {
		return a, nil
	}
	if _, err := h.Blobs.Put(r.Context(), a.Key, io.NewSectionReader(&logAt{r.Context(), c}, 0, c.size), "text/plain; charset=utf-8"); err != nil {
		return a, fmt.Errorf("keep the log %s of %s: %w", name, j.Name, err)
	}
	return a, h.Assets.Record(r.Context(), arm.Caller(r.Context()), r.place(), a.Container, name)
}

// keepLogs does so for all logs of a run.
func (h *server) keepLogs(r *request, j *jobs.Job) error {
	if !j.Status.State.Final() {
		return nil
	}
	names, err := h.logNames(r.Context(), r.w, j.Run)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := h.keepLog(r, j, name); err != nil {
			return err
		}
	}
	return nil
}
