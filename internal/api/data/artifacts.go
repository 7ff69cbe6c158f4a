package data

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// origin is the only one there is: files of runs.
const origin = "ExperimentRun"

func (h *server) artifacts(reg arm.Registrar) {
	const root = "/artifact/v2.0" + workspace + "/artifacts"
	const of = "/{origin}/{container}"
	reg.Handle("GET "+root+of, h.in(h.listArtifacts))
	reg.Handle("GET "+root+of+"/{path...}", h.in(h.listArtifacts))
	reg.Handle("GET "+root+"/prefix/contentinfo"+of, h.in(h.listContentInfo))
	reg.Handle("GET "+root+"/prefix/contentinfo"+of+"/{path...}", h.in(h.listContentInfo))
	reg.Handle("GET "+root+"/contentinfo"+of+"/{path...}", h.in(h.getContentInfo))
	reg.Handle("GET "+root+"/metadata"+of+"/{path...}", h.in(h.getArtifact))
	reg.Handle("GET "+root+"/content"+of+"/{path...}", h.in(h.getArtifactContent))
	reg.Handle("POST "+root+"/content"+of+"/{path...}", h.in(h.postArtifactContent))
	reg.Handle("POST "+root+"/metadata", h.in(h.createArtifact))
	reg.Handle("POST "+root+"/batch/metadata"+of, h.in(h.createArtifacts))
	arm.NotBuilt(reg, root+"/batch/ingest", "Taking artifacts from a container")
}

// owner returns the run whose files the address is about.
func (h *server) owner(r *request, from, container string) (*jobs.Job, error) {
	if !strings.EqualFold(from, origin) {
		return nil, fault.New(fault.Unsupported, from, "Files of the origin %.80q, as SDK v1's Model.register() sends them, are not part of Ebb yet; those of runs (%s) are. Keep them with a run (run.upload_file(), or ./outputs in a job), or register the model with SDK v2 or \"ebb ml model create\".", from, origin)
	}
	run, err := dcid(container)
	if err != nil {
		return nil, err
	}
	return h.holder(r, run)
}

func (h *server) artifactOwner(r *request) (*jobs.Job, error) {
	return h.owner(r, r.PathValue("origin"), r.PathValue("container"))
}

func artifactDTO(a assets.Artifact) object {
	_, blob := a.BlobName()
	return object{"artifactId": origin + "/" + a.Container + "/" + a.Path, "origin": origin, "container": a.Container, "path": a.Path,
		"etag": strconv.Quote(strconv.FormatInt(a.Created.UnixNano(), 16)), "createdTime": stamp(a.Created),
		"dataPath": object{"dataStoreName": "workspaceartifactstore", "relativePath": blob}}
}

func infoDTO(container, path, uri string) object {
	return object{"contentUri": uri, "origin": origin, "container": container, "path": path}
}

// entry is a file of a run, be it an artifact or a log.
type entry struct {
	path     string
	artifact *assets.Artifact // nil: a log
}

// files lists a page of a run's files. Logs, of which there are few, come on the
// first page; they win over artifacts of the same path, since they grow.
func (h *server) files(r *request, j *jobs.Job, prefix, after string) ([]entry, string, error) {
	logs, err := h.logNames(r.Context(), r.w, j.Run)
	if err != nil {
		return nil, "", err
	}
	out := []entry{}
	if after == "" {
		for _, name := range logs {
			if strings.HasPrefix(name, prefix) {
				out = append(out, entry{path: name})
			}
		}
	}
	list, next, err := h.Assets.Artifacts(r.Context(), r.place(), j.Container(), prefix, after)
	if err != nil {
		return nil, "", err
	}
	for _, a := range list {
		if !slices.Contains(logs, a.Path) {
			out = append(out, entry{path: a.Path, artifact: &a})
		}
	}
	return out, next, nil
}

func (h *server) listArtifacts(_ http.ResponseWriter, r *request) (int, any, error) {
	j, err := h.artifactOwner(r)
	if err != nil {
		return 0, nil, err
	}
	list, next, err := h.files(r, j, r.PathValue("path"), arm.Query(r.Request, "continuationToken"))
	if err != nil {
		return 0, nil, err
	}
	value := make([]object, len(list))
	for i, e := range list {
		a := assets.Artifact{Container: j.Container(), Path: e.path, Created: j.Created}
		if e.artifact != nil {
			a = *e.artifact
		}
		value[i] = artifactDTO(a)
	}
	return http.StatusOK, page(value, next), nil
}

// listContentInfo lists addresses of files. None is an empty list: a 404 here
// breaks get_details.
func (h *server) listContentInfo(_ http.ResponseWriter, r *request) (int, any, error) {
	j, err := h.artifactOwner(r)
	if err != nil {
		return 0, nil, err
	}
	list, next, err := h.files(r, j, r.PathValue("path"), arm.Query(r.Request, "continuationToken"))
	if err != nil {
		return 0, nil, err
	}
	value := make([]object, len(list))
	for i, e := range list {
		value[i] = infoDTO(j.Container(), e.path, h.fileURL(r, j, e, "r"))
	}
	return http.StatusOK, page(value, next), nil
}

// fileURL is the signed address of a file.
func (h *server) fileURL(r *request, j *jobs.Job, e entry, permissions string) string {
	if e.artifact == nil && r.blobs && j.Status.State.Final() {
		if a, err := h.keepLog(r, j, e.path); err == nil {
			e.artifact = &a
		}
	}
	if e.artifact == nil {
		return h.logURL(r, j, e.path)
	}
	container, blob := e.artifact.BlobName()
	return h.blobURL(r, container, armid.Alias(blob), permissions, downloadFor)
}

// file finds one file of a run.
func (h *server) file(r *request) (*jobs.Job, entry, error) {
	j, err := h.artifactOwner(r)
	if err != nil {
		return nil, entry{}, err
	}
	path, err := assets.CleanPath(r.PathValue("path"))
	if err != nil {
		return nil, entry{}, err
	}
	logs, err := h.logNames(r.Context(), r.w, j.Run)
	if err != nil {
		return nil, entry{}, err
	}
	if slices.Contains(logs, path) {
		return j, entry{path: path}, nil
	}
	a, err := h.Assets.Artifact(r.Context(), r.place(), j.Container(), path)
	return j, entry{path: path, artifact: &a}, err
}

func (h *server) getContentInfo(_ http.ResponseWriter, r *request) (int, any, error) {
	j, e, err := h.file(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, infoDTO(j.Container(), e.path, h.fileURL(r, j, e, "r")), nil
}

func (h *server) getArtifact(_ http.ResponseWriter, r *request) (int, any, error) {
	j, e, err := h.file(r)
	if err != nil {
		return 0, nil, err
	}
	if e.artifact == nil {
		e.artifact = &assets.Artifact{Container: j.Container(), Path: e.path, Created: j.Created}
	}
	return http.StatusOK, artifactDTO(*e.artifact), nil
}

func (h *server) getArtifactContent(w http.ResponseWriter, r *request) (int, any, error) {
	j, e, err := h.file(r)
	if err != nil {
		return 0, nil, err
	}
	if e.artifact == nil {
		http.Redirect(w, r.Request, h.logURL(r, j, e.path), http.StatusFound)
		return 0, nil, nil
	}
	size, err := h.Blobs.Size(r.Context(), e.artifact.Key)
	if err != nil {
		return 0, nil, err
	}
	from, err := h.Blobs.Open(r.Context(), e.artifact.Key, 0, -1)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = from.Close() }() // read only: nothing is lost
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return 0, nil, nil
	}
	if _, err := io.CopyN(w, from, size); err != nil {
		return 0, nil, fmt.Errorf("send %s: %w", e.artifact.Key, err)
	}
	return 0, nil, nil
}

// takeFile keeps the file that a request brings, whole or not at all. How long
// one is that comes in chunks is known at its end only.
func (h *server) takeFile(r *request, key, path string) error {
	if err := h.fits(r, path); err != nil {
		return err
	}
	src := &clientReader{from: http.MaxBytesReader(nil, r.Body, h.MaxFile)}
	_, err := h.Blobs.Put(r.Context(), key, src, r.Header.Get("Content-Type"))
	if _, over := errors.AsType[*http.MaxBytesError](src.bad); over {
		return h.tooLarge(path)
	}
	if src.bad != nil {
		return fault.New(fault.Invalid, path, "The file ended too early.")
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// fits refuses a file that says it is too large.
func (h *server) fits(r *request, path string) error {
	if r.ContentLength > h.MaxFile {
		return h.tooLarge(path)
	}
	return nil
}

func (h *server) tooLarge(path string) error {
	return fault.New(fault.TooLarge, path, "The file has more than the %d bytes that are allowed in one request.", h.MaxFile)
}

func (h *server) postArtifactContent(_ http.ResponseWriter, r *request) (int, any, error) {
	j, err := h.artifactOwner(r)
	if err != nil {
		return 0, nil, err
	}
	p := arm.Caller(r.Context())
	if err := h.Jobs.MayWrite(p, j); err != nil {
		return 0, nil, err
	}
	if err := h.fits(r, r.PathValue("path")); err != nil {
		return 0, nil, err
	}
	made, refused, err := h.Assets.CreateArtifacts(r.Context(), p, r.place(), j.Container(), []string{r.PathValue("path")})
	if err != nil {
		return 0, nil, err
	}
	for _, f := range refused {
		return 0, nil, f
	}
	if err := h.takeFile(r, made[0].Key, made[0].Path); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, artifactDTO(made[0]), nil
}

func (h *server) createArtifact(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ Origin, Container, Path string }
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	j, err := h.owner(r, in.Origin, in.Container)
	if err != nil {
		return 0, nil, err
	}
	if err := h.Jobs.MayWrite(arm.Caller(r.Context()), j); err != nil {
		return 0, nil, err
	}
	made, refused, err := h.Assets.CreateArtifacts(r.Context(), arm.Caller(r.Context()), r.place(), j.Container(), []string{in.Path})
	if err != nil {
		return 0, nil, err
	}
	for _, f := range refused {
		return 0, nil, f
	}
	return http.StatusOK, artifactDTO(made[0]), nil
}

// createArtifacts makes room for files that the client then puts itself.
func (h *server) createArtifacts(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ Paths []struct{ Path string } }
	if err := readLarge(r, &in); err != nil {
		return 0, nil, err
	}
	j, err := h.artifactOwner(r)
	if err != nil {
		return 0, nil, err
	}
	if err := h.Jobs.MayWrite(arm.Caller(r.Context()), j); err != nil {
		return 0, nil, err
	}
	asked := make(map[string]string, len(in.Paths)) // as the client wrote it, by the clean path: it looks its own words up
	paths := make([]string, len(in.Paths))
	for i, p := range in.Paths {
		paths[i] = p.Path
		if clean, err := assets.CleanPath(p.Path); err == nil { // one that is not is refused below
			asked[clean] = p.Path
		}
	}
	made, refused, err := h.Assets.CreateArtifacts(r.Context(), arm.Caller(r.Context()), r.place(), j.Container(), paths)
	if err != nil {
		return 0, nil, err
	}
	list, infos, failed := object{}, object{}, object{}
	for _, a := range made {
		container, blob := a.BlobName()
		list[asked[a.Path]] = artifactDTO(a)
		infos[asked[a.Path]] = infoDTO(a.Container, a.Path, h.blobURL(r, container, armid.Alias(blob), "rcw", uploadFor))
	}
	for path, f := range refused {
		_, failed[path] = arm.ErrorOf(f)
	}
	return http.StatusOK, object{"artifacts": list, "artifactContentInformation": infos, "errors": failed}, nil
}
