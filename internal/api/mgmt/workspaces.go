package mgmt

import (
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
)

// workspaceRoutes serves workspaces and the discovery of their services.
type workspaceRoutes struct{ ws Workspaces }

func registerWorkspaces(reg arm.Registrar, h workspaceRoutes) {
	for _, prefix := range []string{"", dataPrefix} {
		reg.Handle("GET "+prefix+subPath+providerPath+"/workspaces", h.list)
		reg.Handle("GET "+prefix+groupPath+providerPath+"/workspaces", h.list)
		reg.Handle("GET "+prefix+workspacePath, h.get)
		for _, method := range []string{"PUT", "PATCH", "DELETE"} {
			reg.Handle(method+" "+prefix+workspacePath, later("Making, changing and deleting workspaces"))
		}
	}
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
