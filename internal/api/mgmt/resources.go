package mgmt

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// resources serves what is Resource Manager's own.
type resources struct{ ws Workspaces }

func registerResources(reg arm.Registrar, h resources) {
	reg.Handle("GET /tenants", h.tenants)
	reg.Handle("GET /subscriptions", h.subscriptions)
	reg.Handle("GET "+subPath, h.subscription)
	reg.Handle("GET "+subPath+"/locations", h.locations)
	reg.Handle("GET "+subPath+"/resources", h.list)
	reg.Handle("GET "+subPath+"/providers", h.providers)
	reg.Handle("GET "+subPath+"/providers/{namespace}", h.provider)
	reg.Handle("GET "+subPath+providerPath, h.provider)
	reg.Handle("POST "+subPath+providerPath+"/register", h.provider)
	reg.Handle("GET "+subPath+"/resourceGroups", h.groups)
	reg.Handle("GET "+groupPath, h.group)
	reg.Handle("HEAD "+groupPath, h.groupExists)
	reg.Handle("GET "+groupPath+"/resources", h.list)
	reg.Handle("GET "+providerPath+"/operations", operations)
	for _, method := range []string{"PUT", "PATCH", "DELETE"} {
		reg.Handle(method+" "+groupPath, later("Making, changing and deleting resource groups"))
	}
}

// later answers by name for what is not built yet.
func later(feature string) arm.Handler {
	return func(http.ResponseWriter, *http.Request) (int, any, error) {
		return 0, nil, fault.Coded(fault.Unsupported, "NotImplemented", "", "%s is not part of Ebb yet.", feature)
	}
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

func (h resources) groups(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	docs, err := h.ws.Groups(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, arm.Page(r, bodies(docs), ""), nil
}

func (h resources) group(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	doc, err := h.ws.Group(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group"))
	return http.StatusOK, doc.Body, err
}

func (h resources) groupExists(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	_, err := h.ws.Group(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group"))
	return http.StatusNoContent, nil, err
}

// typeFilter is the one filter of resources that clients of machine learning send.
var typeFilter = regexp.MustCompile(`(?i)^\s*\(?\s*resourceType\s+eq\s+'([^']*)'\s*\)?\s*$`)

// list serves the resources of a subscription or a group: its workspaces.
func (h resources) list(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	filter := arm.Query(r, "$filter")
	if filter != "" {
		m := typeFilter.FindStringSubmatch(filter)
		if m == nil {
			return 0, nil, fault.Coded(fault.Invalid, "InvalidFilterInQueryString", "$filter", "The filter '%.200s' is not supported. Supported is: resourceType eq '%s'.", filter, armid.WorkspaceType)
		}
		if !strings.EqualFold(m[1], armid.WorkspaceType) {
			if _, err := h.ws.Subscription(r.Context(), arm.Caller(r.Context()), r.PathValue("sub")); err != nil {
				return 0, nil, err
			}
			return http.StatusOK, arm.Page[any](r, nil, ""), nil
		}
	}
	docs, err := h.ws.List(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group"))
	if err != nil {
		return 0, nil, err
	}
	var list []map[string]any
	for _, d := range docs {
		brief := map[string]any{}
		for _, k := range []string{"id", "name", "type", "location", "kind", "sku", "tags", "identity", "systemData"} {
			if v, ok := d.Body[k]; ok {
				brief[k] = v
			}
		}
		list = append(list, brief)
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

func (h resources) providers(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if _, err := h.ws.Subscription(r.Context(), arm.Caller(r.Context()), r.PathValue("sub")); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, arm.Page(r, []map[string]any{provider(r.PathValue("sub"))}, ""), nil
}

func (h resources) provider(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if _, err := h.ws.Subscription(r.Context(), arm.Caller(r.Context()), r.PathValue("sub")); err != nil {
		return 0, nil, err
	}
	if n := r.PathValue("namespace"); n != "" && !strings.EqualFold(n, armid.Provider) {
		return 0, nil, fault.Coded(fault.NotFound, "InvalidResourceNamespace", "", "The resource namespace '%.200s' is invalid. This server has %s.", n, armid.Provider)
	}
	return http.StatusOK, provider(r.PathValue("sub")), nil
}

// versions are the api-versions that the provider names: any other is served as well.
var versions = []string{"2025-12-01", "2025-06-01", "2024-10-01", "2024-04-01", "2023-10-01", "2023-04-01", "2022-10-01", "2022-05-01", "2021-07-01", "2021-01-01", "2020-06-01", "2020-02-02", "2019-11-01", "2018-11-19"}

func provider(sub string) map[string]any {
	var places []string
	for _, p := range armid.Regions() {
		places = append(places, p.Text)
	}
	var types []map[string]any
	for _, t := range []string{"workspaces", "workspaces/computes", "workspaces/jobs", "locations", "locations/usages", "locations/quotas", "locations/updateQuotas", "locations/vmSizes", "locations/mfeOperationsStatus", "locations/mfeOperationResults", "operations"} {
		types = append(types, map[string]any{"resourceType": t, "locations": places, "apiVersions": versions, "defaultApiVersion": "2024-04-01", "capabilities": "None"})
	}
	return map[string]any{
		"id": armid.Subscription(sub) + "/providers/" + armid.Provider, "namespace": armid.Provider, "registrationState": "Registered",
		"registrationPolicy": "RegistrationRequired", "resourceTypes": types,
	}
}

// operations lists what the provider can do, for role definitions.
func operations(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var list []map[string]any
	for _, o := range []struct{ name, resource, verb string }{
		{"workspaces/read", "workspaces", "Read workspace"},
		{"workspaces/computes/read", "computes", "Read compute"}, {"workspaces/computes/write", "computes", "Make or change compute"},
		{"workspaces/computes/delete", "computes", "Delete compute"}, {"workspaces/computes/listNodes/action", "computes", "List nodes"},
		{"locations/usages/read", "usages", "Read usages"}, {"locations/vmSizes/read", "vmSizes", "Read sizes"},
		{"locations/quotas/read", "quotas", "Read quotas"}, {"locations/updateQuotas/action", "quotas", "Change quotas"},
	} {
		list = append(list, map[string]any{"name": armid.Provider + "/" + o.name, "isDataAction": false, "display": map[string]any{
			"provider": "Microsoft Machine Learning Services", "resource": o.resource, "operation": o.verb, "description": o.verb,
		}})
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}
