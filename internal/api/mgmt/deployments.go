package mgmt

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/deployments"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Deployments is what the routes of deployments need of app/deployments.
type Deployments interface {
	Create(ctx context.Context, p access.Principal, req deployments.Request) (deployments.Created, error)
	Validate(ctx context.Context, p access.Principal, req deployments.Request) (map[string]any, error)
	WhatIf(ctx context.Context, p access.Principal, req deployments.Request, brief bool) ([]any, error)
	Get(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error)
	List(ctx context.Context, p access.Principal, scope, after string, limit int, keep func(state string) bool) ([]map[string]any, string, error)
	Delete(ctx context.Context, p access.Principal, scope, name string) (bool, error)
	Cancel(ctx context.Context, p access.Principal, scope, name string) error
	Export(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error)
	Status(ctx context.Context, p access.Principal, scope, name, run string) (deployments.Status, error)
	Operations(ctx context.Context, p access.Principal, scope, name, after string, limit int) ([]map[string]any, string, error)
	Operation(ctx context.Context, p access.Principal, scope, name, id string) (map[string]any, error)
}

// deploymentRoutes serves deployments of templates to groups and subscriptions.
type deploymentRoutes struct{ d Deployments }

const deploymentsPath = "/providers/Microsoft.Resources/deployments"

// RegisterDeployments adds the routes of template deployments.
func RegisterDeployments(reg arm.Registrar, d Deployments) {
	h := deploymentRoutes{d}
	for _, scope := range []string{subPath, groupPath} {
		reg.Handle("GET "+scope+deploymentsPath, h.list)
		at := scope + deploymentsPath + "/{deployment}"
		reg.Handle("GET "+at, h.get)
		reg.Handle("HEAD "+at, h.exists)
		reg.Handle("PUT "+at, h.put)
		reg.Handle("DELETE "+at, h.remove)
		reg.Handle("POST "+at+"/validate", h.validate)
		reg.Handle("POST "+at+"/whatIf", h.whatIf)
		reg.Handle("POST "+at+"/cancel", h.cancel)
		reg.Handle("POST "+at+"/exportTemplate", h.export)
		reg.Handle("GET "+at+"/operationStatuses/{operation}", h.status)
		for _, below := range []string{at, scope + "/deployments/{deployment}"} { // clients ask for operations without the provider
			reg.Handle("GET "+below+"/operations", h.operations)
			reg.Handle("GET "+below+"/operations/{operation}", h.operation)
		}
	}
	arm.NotBuilt(reg, deploymentsPath, "Template deployments to a tenant")
	arm.NotBuilt(reg, "/providers/Microsoft.Management/managementGroups", "Management groups")
}

// scope is what a path deploys to, as it was typed.
func scope(r *http.Request) string {
	if group := r.PathValue("group"); group != "" {
		return armid.Group(r.PathValue("sub"), group)
	}
	return armid.Subscription(r.PathValue("sub"))
}

// deploymentRequest reads the body of a PUT, validate or whatIf. az sends the
// template as its file has it: with comments, and the key before it without quotes.
func deploymentRequest(r *http.Request) (deployments.Request, error) {
	body, err := arm.ReadLenient(r)
	return deployments.Request{Scope: scope(r), Name: r.PathValue("deployment"), Body: body, Host: r.Host, Environment: environment(r)}, err
}

// environment is what the template function of that name returns: the cloud's
// addresses, on the host that the client came by.
func environment(r *http.Request) map[string]any {
	h := arm.HostsOf(r)
	return map[string]any{
		"name": "AzureCloud", "resourceManager": h.ARM() + "/", "portal": h.Studio(), "gallery": h.ARM() + "/", "graph": h.ARM() + "/", "graphAudience": h.ARM() + "/",
		"activeDirectoryDataLake": h.ARM() + "/", "batch": h.ARM() + "/", "media": h.ARM() + "/", "sqlManagement": h.ARM() + "/", "vmImageAliasDoc": h.ARM() + "/",
		"authentication": map[string]any{"loginEndpoint": h.Login() + "/", "audiences": []any{h.ARM() + "/"}, "tenant": "common", "identityProvider": "AAD"},
		"suffixes": map[string]any{
			"storage": "core.windows.net", "keyvaultDns": ".vault.azure.net", "acrLoginServer": ".azurecr.io", "sqlServerHostname": ".database.windows.net",
			"azureDatalakeStoreFileSystem": "azuredatalakestore.net", "azureDatalakeAnalyticsCatalogAndJob": "azuredatalakeanalytics.net",
		},
	}
}

func (h deploymentRoutes) put(w http.ResponseWriter, r *http.Request) (int, any, error) {
	req, err := deploymentRequest(r)
	if err != nil {
		return 0, nil, err
	}
	made, err := h.d.Create(r.Context(), arm.Caller(r.Context()), req)
	if err != nil {
		return 0, nil, err
	}
	arm.Async(w, r, req.Scope+deploymentsPath+"/"+req.Name+"/operationStatuses/"+made.Run, "")
	if made.New {
		return http.StatusCreated, made.Body, nil
	}
	return http.StatusOK, made.Body, nil
}

func (h deploymentRoutes) validate(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	req, err := deploymentRequest(r)
	if err != nil {
		return 0, nil, err
	}
	body, err := h.d.Validate(r.Context(), arm.Caller(r.Context()), req)
	return http.StatusOK, body, err
}

func (h deploymentRoutes) whatIf(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	req, err := deploymentRequest(r)
	if err != nil {
		return 0, nil, err
	}
	props, _ := req.Body["properties"].(map[string]any)
	settings, _ := props["whatIfSettings"].(map[string]any)
	format, _ := settings["resultFormat"].(string)
	changes, err := h.d.WhatIf(r.Context(), arm.Caller(r.Context()), req, strings.EqualFold(format, "ResourceIdOnly"))
	if e, ok := errors.AsType[*fault.Error](err); ok && strings.HasPrefix(e.Code, "InvalidTemplate") {
		// The question was answered: the template is wrong, not the request. az dies of a 400.
		_, body := arm.ErrorOf(err)
		return http.StatusOK, map[string]any{"status": "Failed", "error": body.Error}, nil
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"status": "Succeeded", "properties": map[string]any{"changes": changes}}, nil
}

func (h deploymentRoutes) get(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := h.d.Get(r.Context(), arm.Caller(r.Context()), scope(r), r.PathValue("deployment"))
	return http.StatusOK, body, err
}

func (h deploymentRoutes) exists(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	_, err := h.d.Get(r.Context(), arm.Caller(r.Context()), scope(r), r.PathValue("deployment"))
	return http.StatusNoContent, nil, err
}

func (h deploymentRoutes) list(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	terms, err := parseFilter(arm.Query(r, "$filter"), "provisioningState")
	if err != nil {
		return 0, nil, err
	}
	var keep func(string) bool
	if len(terms) > 0 {
		keep = func(state string) bool { return matches(terms, map[string]any{"provisioningState": state}) }
	}
	limit, err := top(r)
	if err != nil {
		return 0, nil, err
	}
	list, next, err := h.d.List(r.Context(), arm.Caller(r.Context()), scope(r), arm.SkipToken(r), limit, keep)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, arm.Page(r, list, next), nil
}

// top is how many the client wants on a page.
func top(r *http.Request) (int, error) {
	text := arm.Query(r, "$top")
	if text == "" {
		return pageSize, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fault.Coded(fault.Invalid, "InvalidTopInQueryString", "$top", "$top must be a number above 0, not '%.32s'.", text)
	}
	return min(n, pageSize), nil
}

func (h deploymentRoutes) remove(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	_, err := h.d.Delete(r.Context(), arm.Caller(r.Context()), scope(r), r.PathValue("deployment"))
	return http.StatusNoContent, nil, err
}

func (h deploymentRoutes) cancel(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, h.d.Cancel(r.Context(), arm.Caller(r.Context()), scope(r), r.PathValue("deployment"))
}

func (h deploymentRoutes) export(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	t, err := h.d.Export(r.Context(), arm.Caller(r.Context()), scope(r), r.PathValue("deployment"))
	return http.StatusOK, map[string]any{"template": t}, err
}

func (h deploymentRoutes) status(w http.ResponseWriter, r *http.Request) (int, any, error) {
	st, err := h.d.Status(r.Context(), arm.Caller(r.Context()), scope(r), r.PathValue("deployment"), r.PathValue("operation"))
	if err != nil {
		return 0, nil, err
	}
	body := map[string]any{"status": st.State}
	if st.Error != nil {
		body["error"] = st.Error
	}
	if st.State == "Accepted" || st.State == "Running" {
		w.Header().Set("Retry-After", arm.RetryAfter)
	}
	return http.StatusOK, body, nil
}

func (h deploymentRoutes) operations(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	limit, err := top(r)
	if err != nil {
		return 0, nil, err
	}
	list, next, err := h.d.Operations(r.Context(), arm.Caller(r.Context()), scope(r), r.PathValue("deployment"), arm.SkipToken(r), limit)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, arm.Page(r, list, next), nil
}

func (h deploymentRoutes) operation(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := h.d.Operation(r.Context(), arm.Caller(r.Context()), scope(r), r.PathValue("deployment"), r.PathValue("operation"))
	return http.StatusOK, body, err
}
