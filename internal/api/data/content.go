package data

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/fault"
)

func (h *server) content(reg arm.Registrar) {
	for _, v := range []string{"/content/v1.0", "/content/v2.0"} {
		root := v + workspace + "/snapshots"
		reg.Handle("GET "+root+"/latest/metadata", h.in(h.getLatest))
		reg.Handle("POST "+root+"/getblob", h.in(h.postGetBlob))
		reg.Handle("GET "+root+"/{snapshot}/metadata", h.in(h.getSnapshotMetadata))
		reg.Handle("POST "+root+"/{snapshot}", h.in(h.postSnapshot))
		reg.Handle("GET "+root+"/{snapshot}/zip", h.in(h.postZip))
		reg.Handle("POST "+root+"/{snapshot}/zip", h.in(h.postZip))
		arm.NotBuilt(reg, root+"/uri", "Snapshots of Git repositories")
		arm.NotBuilt(reg, root+"/diff", "Differences of snapshots")
	}
	reg.Public("GET /ebb/zips/v1/{sub}/{rg}/{ws}/{snapshot}", h.getZip)
}

// getLatest says that there is no snapshot to begin from. The client then sends
// everything once, and keeps its own cache from there on; a 404 would abort it.
func (h *server) getLatest(_ http.ResponseWriter, _ *request) (int, any, error) {
	return http.StatusOK, object{"id": assets.NoSnapshot, "root": object{}}, nil
}

func (h *server) postGetBlob(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ FileNames []string }
	if err := readLarge(r, &in); err != nil {
		return 0, nil, err
	}
	const most = 100_000
	if len(in.FileNames) > most {
		return 0, nil, fault.Coded(fault.TooLarge, "TooManyFiles", "FileNames", "%d files are too many for one snapshot; %d are allowed.", len(in.FileNames), most)
	}
	nodes := make([]object, 0, len(in.FileNames))
	for _, s := range h.Assets.Slots(r.place(), in.FileNames) {
		nodes = append(nodes, object{"fullName": s.Name, "blobUri": h.blobURL(r, s.Container, s.Blob, "rcw", uploadFor)})
	}
	return http.StatusOK, object{"fileNodes": nodes}, nil
}

func (h *server) postSnapshot(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct {
		ParentSnapshotID string `json:"ParentSnapshotId"`
		Tags, Properties json.RawMessage
		DirTreeNode      *assets.Node
		FileRevisionList struct {
			FileNodes []struct {
				FullName, BlobURI string
				FileSize          int64
			}
		}
	}
	if err := readLarge(r, &in); err != nil {
		return 0, nil, err
	}
	if in.DirTreeNode == nil {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidSnapshot", "DirTreeNode", "The tree of the snapshot (DirTreeNode) is missing.")
	}
	snap := assets.NewSnapshot{GUID: r.PathValue("snapshot"), Parent: in.ParentSnapshotID, Root: *in.DirTreeNode, Tags: in.Tags, Properties: in.Properties}
	for _, f := range in.FileRevisionList.FileNodes {
		u, err := url.Parse(f.BlobURI)
		if err != nil {
			return 0, nil, fault.Coded(fault.Invalid, "InvalidSnapshot", "FileRevisionList", "The blob address of %.200q is not a URL.", f.FullName)
		}
		container, blob, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		snap.Uploaded = append(snap.Uploaded, assets.Uploaded{Path: f.FullName, Container: container, Blob: blob, Size: f.FileSize})
	}
	if err := h.Assets.CreateSnapshot(r.Context(), arm.Caller(r.Context()), r.place(), snap); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"id": strings.ToLower(snap.GUID)}, nil
}

func (h *server) getSnapshotMetadata(_ http.ResponseWriter, r *request) (int, any, error) {
	snap, err := h.Assets.Snapshot(r.Context(), r.place(), r.PathValue("snapshot"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"id": snap.GUID, "root": snap.Root, "createdTime": stamp(snap.Created), "parentSnapshotId": nullable(snap.Parent),
		"tags": raw(snap.Tags), "properties": raw(snap.Properties)}, nil
}

// postZip gives the address of the snapshot as a zip archive, made as it is read.
func (h *server) postZip(_ http.ResponseWriter, r *request) (int, any, error) {
	snap, err := h.Assets.Snapshot(r.Context(), r.place(), r.PathValue("snapshot"))
	if err != nil {
		return 0, nil, err
	}
	at := "/ebb/zips/v1/" + r.w.Subscription() + "/" + r.w.Group() + "/" + r.w.Name + "/" + snap.GUID
	return http.StatusOK, object{"zipSasUri": h.sign(r.root(), at)}, nil
}

func (h *server) getZip(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if err := h.checkSigned(r); err != nil {
		return 0, nil, err
	}
	ws, err := h.Jobs.Workspace(r.Context(), nobody, workspaceOf(r))
	if err != nil {
		return 0, nil, err
	}
	snap, err := h.Assets.Snapshot(r.Context(), assets.Place{ID: ws.ID, GUID: ws.GUID}, r.PathValue("snapshot"))
	if err != nil {
		return 0, nil, err
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+snap.GUID+`.zip"`)
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return 0, nil, nil
	}
	return 0, nil, h.Assets.WriteZip(r.Context(), snap, w)
}
