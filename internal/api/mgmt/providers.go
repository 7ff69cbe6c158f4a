package mgmt

import (
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	records "github.com/ebb-compute/ebb/internal/app/resources"
	"github.com/ebb-compute/ebb/internal/core/armid"
)

func registerProviders(reg arm.Registrar, h resources) {
	reg.Handle("GET "+subPath+"/providers", h.providers)
	for _, at := range []string{subPath + "/providers/{namespace}", subPath + providerPath, subPath + "/providers/Microsoft.Resources", subPath + "/providers/Microsoft.Compute"} {
		reg.Handle("GET "+at, h.provider)
		reg.Handle("POST "+at+"/register", h.provider)
	}
}

func (h resources) providers(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if _, err := h.ws.Subscription(r.Context(), arm.Caller(r.Context()), r.PathValue("sub")); err != nil {
		return 0, nil, err
	}
	var list []map[string]any
	for _, n := range namespaces() {
		list = append(list, n.body(r.PathValue("sub")))
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

// provider answers with one provider; registering is the same, as all of them are.
func (h resources) provider(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if _, err := h.ws.Subscription(r.Context(), arm.Caller(r.Context()), r.PathValue("sub")); err != nil {
		return 0, nil, err
	}
	asked := strings.Split(r.URL.Path, "/")[4] // /subscriptions/{sub}/providers/{namespace}
	i := slices.IndexFunc(namespaces(), func(n namespace) bool { return strings.EqualFold(n.name, asked) })
	if i < 0 {
		return 0, nil, records.UnknownNamespace(asked)
	}
	return http.StatusOK, namespaces()[i].body(r.PathValue("sub")), nil
}

// namespace is a resource provider, with the api-versions of its types. az takes
// the first that is no preview.
type namespace struct {
	name  string
	types []records.Type
}

// versions are the api-versions that the provider names: any other is served as well.
var versions = []string{"2025-12-01", "2025-06-01", "2024-10-01", "2024-04-01", "2023-10-01", "2023-04-01", "2022-10-01", "2022-05-01", "2021-07-01", "2021-01-01", "2020-06-01", "2020-02-02", "2019-11-01", "2018-11-19"}

// learning are the types of the provider of machine learning.
var learning = []string{
	"workspaces", "workspaces/computes", "workspaces/jobs", "locations", "locations/usages", "locations/quotas", "locations/updateQuotas", "locations/vmSizes",
	"locations/mfeOperationsStatus", "locations/mfeOperationResults", "locations/workspaceOperationsStatus", "locations/workspaceOperationResults", "operations",
}

func namespaces() []namespace {
	types := func(versions []string, names ...string) (list []records.Type) {
		for _, n := range names {
			list = append(list, records.Type{Name: n, Versions: versions})
		}
		return list
	}
	list := []namespace{
		{armid.Provider, types(versions, learning...)},
		{"Microsoft.Resources", append(types([]string{"2024-11-01", "2022-12-01", "2022-09-01", "2021-04-01", "2020-06-01"}, "subscriptions", "resourceGroups", "subscriptions/resourceGroups", "resources", "providers", "tags"),
			types([]string{"2025-04-01", "2024-03-01", "2022-09-01", "2021-04-01", "2020-10-01", "2020-06-01"}, "deployments", "deployments/operations")...)},
		{"Microsoft.Authorization", append(types([]string{"2022-04-01", "2020-04-01-preview", "2018-01-01-preview"}, "roleAssignments", "roleDefinitions"),
			types([]string{"2020-05-01", "2017-04-01", "2016-09-01"}, "locks")...)},
		{"Microsoft.Compute", types([]string{"2024-11-01", "2024-07-01", "2023-09-01"}, "locations", "locations/usages")},
	}
	for _, n := range records.Namespaces {
		list = append(list, namespace{n.Name, n.Types})
	}
	return list
}

func (n namespace) body(sub string) map[string]any {
	var places []string
	for _, p := range armid.Regions() {
		places = append(places, p.Text)
	}
	types := []map[string]any{}
	for _, t := range n.types {
		types = append(types, map[string]any{"resourceType": t.Name, "locations": places, "apiVersions": t.Versions, "defaultApiVersion": usual(t.Versions), "capabilities": "None"})
	}
	return map[string]any{
		"id": armid.Subscription(sub) + "/providers/" + n.name, "namespace": n.name, "registrationState": "Registered",
		"registrationPolicy": "RegistrationRequired", "resourceTypes": types,
	}
}

// usual is the version that those take who do not choose.
func usual(versions []string) string {
	if slices.Contains(versions, "2024-04-01") {
		return "2024-04-01"
	}
	return versions[0]
}
