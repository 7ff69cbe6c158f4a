package mgmt

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/authorization"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

// graphRoutes is the little of Microsoft Graph that az asks for before it
// assigns roles: who there is. It changes nothing.
type graphRoutes struct{ a Authorization }

func registerGraph(reg arm.Registrar, h graphRoutes) {
	reg.Handle("GET /v1.0/servicePrincipals", h.list(principalBody))
	reg.Handle("GET /v1.0/servicePrincipals/{id}", h.one(principalBody))
	reg.Handle("GET /v1.0/applications", h.list(applicationBody))
	reg.Handle("GET /v1.0/applications/{id}", h.one(applicationBody))
	reg.Handle("GET /v1.0/directoryObjects/{id}", h.one(principalBody))
	reg.Handle("POST /v1.0/directoryObjects/getByIds", h.byIDs)
	reg.Handle("GET /v1.0/me", h.me)
	for _, none := range []string{"users", "groups"} { // people and groups are not kept
		reg.Handle("GET /v1.0/"+none, h.none)
		reg.Handle("GET /v1.0/"+none+"/{id}", h.unknown)
	}
	for _, kind := range []string{"servicePrincipals", "applications", "users", "groups"} {
		reg.Handle("POST /v1.0/"+kind, later("Making principals with Microsoft Graph"))
		for _, method := range []string{"PATCH", "DELETE"} {
			reg.Handle(method+" /v1.0/"+kind+"/{id}", later("Changing principals with Microsoft Graph"))
		}
	}
	arm.NotBuilt(reg, "/v1.0/{rest...}", "This part of Microsoft Graph")
	arm.NotBuilt(reg, "/beta/{rest...}", "The beta of Microsoft Graph")
}

func principalBody(e authorization.Entry) map[string]any {
	body := map[string]any{
		"@odata.type": "#microsoft.graph.servicePrincipal", "id": e.ID, "appId": e.App, "displayName": e.Name, "appDisplayName": e.Name, "accountEnabled": true,
		"servicePrincipalType": "Application", "servicePrincipalNames": []string{e.App}, "alternativeNames": []string{},
	}
	if e.Resource != "" {
		body["servicePrincipalType"], body["alternativeNames"] = "ManagedIdentity", []string{e.Resource}
	}
	return body
}

// applicationBody is nil for the identity of a resource, which no application stands behind.
func applicationBody(e authorization.Entry) map[string]any {
	if e.Resource != "" {
		return nil
	}
	return map[string]any{
		"@odata.type": "#microsoft.graph.application", "id": e.ID, "appId": e.App, "displayName": e.Name, "identifierUris": []string{"api://" + e.App},
	}
}

// names is the filter by one of a principal's names.
var names = regexp.MustCompile(`(?i)^\s*(?:servicePrincipalNames|identifierUris)/any\(\s*(\w+)\s*:\s*(\w+)\s+eq\s+'([^']*)'\s*\)\s*$`)

func (h graphRoutes) list(show func(authorization.Entry) map[string]any) arm.Handler {
	return func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		filter := arm.Query(r, "$filter")
		var terms []term
		named := names.FindStringSubmatch(filter)
		if named == nil {
			var err error
			if terms, err = parseFilter(filter, "appId", "displayName", "id", "servicePrincipalType"); err != nil {
				return 0, nil, err
			}
		}
		all, err := h.a.Directory(r.Context())
		if err != nil {
			return 0, nil, err
		}
		var list []map[string]any
		for _, e := range all {
			body := show(e)
			if body != nil && (named == nil || strings.EqualFold(strings.TrimPrefix(named[3], "api://"), e.App)) && matches(terms, body) {
				list = append(list, body)
			}
		}
		return http.StatusOK, arm.Page(r, list, ""), nil
	}
}

func missingObject(id string) error {
	return fault.Coded(fault.NotFound, "Request_ResourceNotFound", id, "Resource '%.64s' does not exist or one of its queried reference-property objects are not present.", id)
}

func (h graphRoutes) one(show func(authorization.Entry) map[string]any) arm.Handler {
	return func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		id := r.PathValue("id")
		all, err := h.a.Directory(r.Context())
		if err != nil {
			return 0, nil, err
		}
		for _, e := range all {
			if body := show(e); body != nil && strings.EqualFold(e.ID, id) {
				return http.StatusOK, body, nil
			}
		}
		return 0, nil, missingObject(id)
	}
}

// byIDs leaves out what it does not know, as Graph does.
func (h graphRoutes) byIDs(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var body struct {
		IDs []string `json:"ids"`
	}
	if err := arm.ReadJSON(r, &body); err != nil {
		return 0, nil, err
	}
	if len(body.IDs) == 0 || len(body.IDs) > 1000 {
		return 0, nil, fault.Coded(fault.Invalid, "Request_BadRequest", "ids", "The list 'ids' has %d entries; it must have 1 to 1000.", len(body.IDs))
	}
	all, err := h.a.Directory(r.Context())
	if err != nil {
		return 0, nil, err
	}
	var list []map[string]any
	for _, e := range all {
		for _, id := range body.IDs {
			if strings.EqualFold(id, e.ID) {
				list = append(list, principalBody(e))
				break
			}
		}
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

// me is whoever signed in as a person.
func (h graphRoutes) me(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	who := arm.Caller(r.Context())
	if who.Kind != access.User {
		return 0, nil, fault.Coded(fault.Invalid, "BadRequest", "", "/me request is only valid with delegated authentication flow.")
	}
	return http.StatusOK, map[string]any{"@odata.type": "#microsoft.graph.user", "id": who.ID, "displayName": who.Name, "userPrincipalName": who.UserName()}, nil
}

func (h graphRoutes) none(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return http.StatusOK, arm.Page[any](r, nil, ""), nil
}

func (h graphRoutes) unknown(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return 0, nil, missingObject(r.PathValue("id"))
}

// later answers by name for what is not built.
func later(feature string) arm.Handler {
	return func(http.ResponseWriter, *http.Request) (int, any, error) {
		return 0, nil, fault.Coded(fault.Unsupported, "NotImplemented", "", "Not part of Ebb yet: %s.", feature)
	}
}
