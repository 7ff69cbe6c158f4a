package mgmt

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/fault"
)

// workspaceRoutes serves workspaces and the discovery of their services.
type workspaceRoutes struct{ ws Workspaces }

func registerWorkspaces(reg arm.Registrar, h workspaceRoutes) {
	for _, prefix := range []string{"", dataPrefix} {
		reg.Handle("GET "+prefix+subPath+providerPath+"/workspaces", h.list)
		reg.Handle("GET "+prefix+groupPath+providerPath+"/workspaces", h.list)
		reg.Handle("GET "+prefix+workspacePath, h.get)
		reg.Handle("PUT "+prefix+workspacePath, h.put)
		reg.Handle("PATCH "+prefix+workspacePath, h.patch)
		reg.Handle("DELETE "+prefix+workspacePath, h.remove)
	}
	reg.Handle("GET "+locationPath+"/workspaceOperationsStatus/{operation}", h.status)
	reg.Handle("GET "+locationPath+"/workspaceOperationResults/{operation}", h.result)
	reg.Public("GET /discovery", discovery)
	reg.Public("GET /discovery/workspaces/{guid}", discovery)
}

// addHosts adds what depends on the host a client came by.
func addHosts(r *http.Request, doc workspaces.Document) map[string]any {
	region, _ := doc.Body["location"].(string)
	id, _ := doc.Body["id"].(string)
	if props, ok := doc.Body["properties"].(map[string]any); ok {
		data := arm.HostsOf(r).Data(region)
		props["discoveryUrl"] = data + "/discovery"
		props["mlFlowTrackingUri"] = "azureml://" + strings.TrimPrefix(data, "https://") + "/mlflow/v1.0" + id
	}
	return doc.Body
}

func (h workspaceRoutes) list(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	docs, err := h.ws.List(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group"))
	if err != nil {
		return 0, nil, err
	}
	var list []map[string]any
	for _, d := range docs {
		list = append(list, addHosts(r, d))
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

func (h workspaceRoutes) get(w http.ResponseWriter, r *http.Request) (int, any, error) {
	doc, err := h.ws.Get(r.Context(), arm.Caller(r.Context()), workspaceID(r))
	if err != nil {
		return 0, nil, err
	}
	w.Header().Set("ETag", arm.ETag(doc.Rev))
	if arm.NotModified(r, arm.ETag(doc.Rev)) {
		return http.StatusNotModified, nil, nil
	}
	return http.StatusOK, addHosts(r, doc), nil
}

func (h workspaceRoutes) put(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := arm.ReadDocument(r)
	if err != nil {
		return 0, nil, err
	}
	return h.written(w, r, body, h.ws.Put)
}

func (h workspaceRoutes) patch(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := arm.ReadPatch(r)
	if err != nil {
		return 0, nil, err
	}
	return h.written(w, r, body, h.ws.Patch)
}

// written answers 200 for a new workspace too: Go's SDK and Terraform take a 201 for an error.
func (h workspaceRoutes) written(w http.ResponseWriter, r *http.Request, body map[string]any,
	do func(context.Context, access.Principal, workspaces.Request) (workspaces.Result, error)) (int, any, error) {
	res, err := do(r.Context(), arm.Caller(r.Context()), h.request(r, body))
	if err != nil {
		return 0, nil, err
	}
	w.Header().Set("ETag", arm.ETag(res.Rev))
	h.async(w, r, res.Operation)
	return http.StatusOK, addHosts(r, res.Document), nil
}

func (h workspaceRoutes) request(r *http.Request, body map[string]any) workspaces.Request {
	id := workspaceID(r)
	return workspaces.Request{ID: id, Body: body, Match: func(exists bool, rev int64) error { return arm.Match(r, id, exists, arm.ETag(rev)) }}
}

func (h workspaceRoutes) async(w http.ResponseWriter, r *http.Request, op operation.Operation) {
	at := operationsAt(op.Scope, op.Location)
	arm.Async(w, r, at+"/workspaceOperationsStatus/"+op.ID, at+"/workspaceOperationResults/"+op.ID)
}

func (h workspaceRoutes) remove(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if v := query(r, "forceToPurge"); v != "" && v != "true" && v != "false" {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidParameter", "forceToPurge", "forceToPurge must be true or false, not '%.64s'.", v)
	}
	op, err := h.ws.Delete(r.Context(), arm.Caller(r.Context()), h.request(r, nil))
	if err != nil {
		return 0, nil, err
	}
	if op.ID == "" {
		return http.StatusNoContent, nil, nil
	}
	h.async(w, r, op)
	return http.StatusAccepted, nil, nil
}

func (h workspaceRoutes) status(w http.ResponseWriter, r *http.Request) (int, any, error) {
	op, err := h.ws.Operation(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("operation"))
	if err != nil {
		return 0, nil, err
	}
	if !op.Status.Final() {
		w.Header().Set("Retry-After", arm.RetryAfter)
	}
	return http.StatusOK, bodyOf(op, "workspaceOperationsStatus"), nil
}

// result answers as the operation would have, had it not been asynchronous.
func (h workspaceRoutes) result(w http.ResponseWriter, r *http.Request) (int, any, error) {
	who := arm.Caller(r.Context())
	op, err := h.ws.Operation(r.Context(), who, r.PathValue("sub"), r.PathValue("operation"))
	if err != nil {
		return 0, nil, err
	}
	if !op.Status.Final() {
		h.async(w, r, op)
		return http.StatusAccepted, nil, nil
	}
	doc, err := h.ws.Get(r.Context(), who, op.Target)
	if errors.Is(err, fault.NotFound) {
		return http.StatusNoContent, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, addHosts(r, doc), nil
}

// discovery names the base URL of every service. SDK v1 needs the first six and
// sends no token; nothing in it is secret.
func discovery(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	region := "westus2"
	if name, ok := strings.CutSuffix(strings.ToLower(strings.Split(r.Host, ":")[0]), ".api.azureml.ms"); ok {
		region = name
	}
	hosts := arm.HostsOf(r)
	urls := map[string]string{}
	for _, service := range []string{"api", "history", "experimentation", "hyperdrive", "modelmanagement", "pipelines", "catalog", "gallery", "inferencing", "mlflow"} {
		urls[service] = hosts.Data(region)
	}
	urls["studio"] = hosts.Studio()
	return http.StatusOK, urls, nil
}
