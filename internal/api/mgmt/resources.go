package mgmt

import (
	"net/http"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/armid"
)

// resources serves what is Resource Manager's own.
type resources struct{ ws Workspaces }

func registerResources(reg arm.Registrar, h resources) {
	reg.Handle("GET /tenants", h.tenants)
	reg.Handle("GET /subscriptions", h.subscriptions)
	reg.Handle("GET "+subPath, h.subscription)
	reg.Handle("GET "+subPath+"/locations", h.locations)
	reg.Handle("GET "+providerPath+"/operations", operations)
	registerGroups(reg, h)
	registerProviders(reg, h)
}

// bodies returns the bodies of documents.
func bodies(docs []workspaces.Document) []map[string]any {
	var list []map[string]any
	for _, d := range docs {
		list = append(list, d.Body)
	}
	return list
}

func (h resources) tenants(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := h.ws.Tenant(r.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, arm.Page(r, []map[string]any{{"id": "/tenants/" + id, "tenantId": id, "displayName": "Ebb", "tenantCategory": "Home", "tenantType": "AAD"}}, ""), nil
}

func (h resources) subscriptions(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	docs, err := h.ws.Subscriptions(r.Context(), arm.Caller(r.Context()))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, arm.Page(r, bodies(docs), ""), nil
}

func (h resources) subscription(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	doc, err := h.ws.Subscription(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"))
	return http.StatusOK, doc.Body, err
}

func (h resources) locations(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	sub := r.PathValue("sub")
	if _, err := h.ws.Subscription(r.Context(), arm.Caller(r.Context()), sub); err != nil {
		return 0, nil, err
	}
	var list []map[string]any
	for _, p := range armid.Regions() {
		list = append(list, map[string]any{
			"id": armid.Subscription(sub) + "/locations/" + p.Name, "name": p.Name, "type": "Region", "displayName": p.Text, "regionalDisplayName": p.Text,
			"metadata": map[string]any{"regionType": "Physical", "regionCategory": "Recommended"},
		})
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

// operations lists what the provider can do, for role definitions.
func operations(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var list []map[string]any
	for _, o := range []struct{ name, resource, verb string }{
		{"workspaces/read", "workspaces", "Read workspace"},
		{"workspaces/computes/read", "computes", "Read compute"}, {"workspaces/computes/write", "computes", "Make or change compute"},
		{"workspaces/computes/delete", "computes", "Delete compute"}, {"workspaces/computes/listNodes/action", "computes", "List nodes"},
		{"workspaces/computes/start/action", "computes", "Start compute instance"}, {"workspaces/computes/stop/action", "computes", "Stop compute instance"},
		{"workspaces/computes/restart/action", "computes", "Restart compute instance"}, {"workspaces/computes/resize/action", "computes", "Resize compute instance"},
		{"locations/usages/read", "usages", "Read usages"}, {"locations/vmSizes/read", "vmSizes", "Read sizes"},
		{"locations/quotas/read", "quotas", "Read quotas"}, {"locations/updateQuotas/action", "quotas", "Change quotas"},
	} {
		list = append(list, map[string]any{"name": armid.Provider + "/" + o.name, "isDataAction": false, "display": map[string]any{
			"provider": "Microsoft Machine Learning Services", "resource": o.resource, "operation": o.verb, "description": o.verb,
		}})
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}
