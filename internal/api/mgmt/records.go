package mgmt

import (
	"context"
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/authorization"
	records "github.com/ebb-compute/ebb/internal/app/resources"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Records is what the routes of other providers' resources need of app/resources.
type Records interface {
	Put(ctx context.Context, p access.Principal, req records.Request) (records.Document, error)
	Patch(ctx context.Context, p access.Principal, req records.Request) (records.Document, error)
	Delete(ctx context.Context, p access.Principal, req records.Request) (bool, error)
	Get(ctx context.Context, p access.Principal, id armid.ID) (records.Document, error)
	List(ctx context.Context, p access.Principal, scope armid.ID, typ string) ([]records.Document, error)
	Available(ctx context.Context, p access.Principal, sub, typ, name string) (reason, words string, err error)
}

// recordRoutes serves every address below a provider that no other route has.
type recordRoutes struct {
	ws Workspaces
	c  Computes
	r  Records
	a  authorizationRoutes
}

func registerRecords(reg arm.Registrar, h recordRoutes) {
	reg.Handle("GET "+subPath+"/resources", h.list)
	reg.Handle("GET "+groupPath+"/resources", h.list)
	reg.Handle("GET "+subPath+"/tagNames", h.tagNames)
	for _, base := range []string{subPath, groupPath} {
		at := base + "/providers/{namespace}/{rest...}"
		for method, do := range map[string]arm.Handler{"GET": h.get, "PUT": h.put, "PATCH": h.patch, "DELETE": h.remove, "POST": h.act} {
			reg.Handle(method+" "+at, h.orExtension(do))
		}
	}
}

// orExtension leaves what is put on a resource to those who know it.
func (h recordRoutes) orExtension(do arm.Handler) arm.Handler {
	return func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		if _, _, _, ok := extended(r.URL.Path, authorization.Namespace); ok {
			return h.a.extension(w, r)
		}
		if _, _, _, ok := extended(r.URL.Path, "Microsoft.Resources"); ok {
			return h.tags(w, r)
		}
		return do(w, r)
	}
}

// address reads the path of a request: an id, or a type below one ("" for an id).
func address(r *http.Request) (armid.ID, string, error) {
	path := r.URL.Path
	if strings.EqualFold(r.PathValue("namespace"), armid.Provider) || strings.EqualFold(r.PathValue("namespace"), "Microsoft.Compute") {
		return armid.ID{}, "", arm.UnknownType(r.PathValue("namespace"), strings.Split(r.PathValue("rest"), "/"), arm.Query(r, "api-version"))
	}
	if id, err := armid.Parse(path); err == nil {
		return id, "", nil
	}
	cut := strings.LastIndexByte(path, '/')
	typ := path[cut+1:]
	scope, err := armid.Parse(path[:cut])
	if err == nil && scope.Provider != "" {
		return scope, scope.Type() + "/" + typ, nil
	}
	cut = strings.LastIndex(strings.ToLower(path), "/providers/")
	if scope, err = armid.Parse(path[:cut]); err != nil {
		return armid.ID{}, "", fault.Coded(fault.Invalid, "InvalidResourceId", path, "The %s.", err)
	}
	return scope, path[cut+len("/providers/"):], nil
}

func (h recordRoutes) get(w http.ResponseWriter, r *http.Request) (int, any, error) {
	id, typ, err := address(r)
	if err != nil {
		return 0, nil, err
	}
	if typ != "" {
		docs, err := h.r.List(r.Context(), arm.Caller(r.Context()), id, typ)
		if err != nil {
			return 0, nil, err
		}
		var list []map[string]any
		for _, d := range docs {
			list = append(list, d.Body)
		}
		page, err := paged(r, list)
		return http.StatusOK, page, err
	}
	doc, err := h.r.Get(r.Context(), arm.Caller(r.Context()), id)
	if err != nil {
		return 0, nil, err
	}
	w.Header().Set("ETag", arm.ETag(doc.Rev))
	if r.Method == http.MethodHead {
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, doc.Body, nil
}

// one reads the address of a write: that of one resource.
func one(r *http.Request) (records.Request, error) {
	id, typ, err := address(r)
	if err == nil && typ != "" {
		err = fault.Coded(fault.Invalid, "InvalidRequestUri", "", "%s needs the address of one resource; %.300s is that of a list.", r.Method, r.URL.Path)
	}
	return records.Request{ID: id, Match: func(exists bool, rev int64) error { return arm.Match(r, id.String(), exists, arm.ETag(rev)) }}, err
}

func (h recordRoutes) put(w http.ResponseWriter, r *http.Request) (int, any, error) {
	return h.write(w, r, arm.ReadDocument, h.r.Put)
}

func (h recordRoutes) patch(w http.ResponseWriter, r *http.Request) (int, any, error) {
	return h.write(w, r, arm.ReadPatch, h.r.Patch)
}

func (h recordRoutes) write(w http.ResponseWriter, r *http.Request, read func(*http.Request) (map[string]any, error),
	do func(context.Context, access.Principal, records.Request) (records.Document, error)) (int, any, error) {
	req, err := one(r)
	if err != nil {
		return 0, nil, err
	}
	if req.Body, err = read(r); err != nil {
		return 0, nil, err
	}
	doc, err := do(r.Context(), arm.Caller(r.Context()), req)
	if err != nil {
		return 0, nil, err
	}
	w.Header().Set("ETag", arm.ETag(doc.Rev))
	// Clients of storage accounts take a 201 for an error: Azure answers 202, then 200.
	if doc.Created && !req.ID.Is("Microsoft.Storage/storageAccounts") {
		return http.StatusCreated, doc.Body, nil
	}
	return http.StatusOK, doc.Body, nil
}

func (h recordRoutes) remove(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	req, err := one(r)
	if err != nil {
		return 0, nil, err
	}
	found, err := h.r.Delete(r.Context(), arm.Caller(r.Context()), req)
	if err != nil {
		return 0, nil, err
	}
	if !found {
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, nil, nil
}

// act refuses what only the service behind a resource could do.
func (h recordRoutes) act(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	id, typ, err := address(r)
	if err != nil {
		return 0, nil, err
	}
	if id.Provider == "" && strings.EqualFold(r.PathValue("rest"), "checkNameAvailability") {
		return h.available(r)
	}
	if id.Provider == "" {
		return 0, nil, fault.Coded(fault.NotFound, "InvalidResourceType", "", "The action '%.200s' could not be found in the namespace '%.200s' of this server.", r.PathValue("rest"), r.PathValue("namespace"))
	}
	if _, err := h.r.Get(r.Context(), arm.Caller(r.Context()), id); err != nil {
		return 0, nil, err
	}
	return 0, nil, fault.Coded(fault.Unsupported, "NotImplemented", id.String(), "%.100s is not part of Ebb: resources of this provider are records, with nothing behind them.", typ[strings.LastIndexByte(typ, '/')+1:])
}

// available answers what az asks before it makes a storage account or a registry.
func (h recordRoutes) available(r *http.Request) (int, any, error) {
	var body struct{ Name, Type string }
	if err := arm.ReadJSON(r, &body); err != nil {
		return 0, nil, err
	}
	reason, words, err := h.r.Available(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), body.Type, body.Name)
	if err != nil {
		return 0, nil, err
	}
	if reason != "" {
		return http.StatusOK, map[string]any{"nameAvailable": false, "reason": reason, "message": words}, nil
	}
	return http.StatusOK, map[string]any{"nameAvailable": true}, nil
}

// list serves the resources of a subscription or a group, in short form.
func (h recordRoutes) list(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	who, sub, group := arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group")
	terms, err := parseFilter(arm.Query(r, "$filter"), "resourceType", "resourceGroup", "name", "location", "tagName", "tagValue")
	if err != nil {
		return 0, nil, err
	}
	all, err := h.all(r, who, sub, group)
	if err != nil {
		return 0, nil, err
	}
	var list []map[string]any
	for _, body := range all {
		if matches(terms, body) {
			list = append(list, brief(body))
		}
	}
	page, err := paged(r, list)
	return http.StatusOK, page, err
}

// all returns the workspaces, computes and records of a subscription or a group.
func (h recordRoutes) all(r *http.Request, who access.Principal, sub, group string) ([]map[string]any, error) {
	var list []map[string]any
	spaces, err := h.ws.List(r.Context(), who, sub, group)
	if err != nil {
		return nil, err
	}
	for _, d := range spaces {
		list = append(list, d.Body)
		id, _ := d.Body["id"].(string)
		for after, more := "", true; more; more = after != "" {
			computes, next, err := h.c.List(r.Context(), who, id, after, pageSize)
			if err != nil {
				return nil, err
			}
			for _, c := range computes {
				doc, err := c.Show()
				if err != nil {
					return nil, err
				}
				list = append(list, doc.Body)
			}
			after = next
		}
	}
	docs, err := h.r.List(r.Context(), who, armid.ID{Subscription: sub, Group: group}, "")
	if err != nil {
		return nil, err
	}
	for _, d := range docs {
		list = append(list, d.Body)
	}
	return list, nil
}

// brief is what a list of resources shows of each.
func brief(body map[string]any) map[string]any {
	out := map[string]any{}
	for _, k := range []string{"id", "name", "type", "location", "kind", "sku", "tags", "identity", "managedBy", "systemData"} {
		if v, ok := body[k]; ok {
			out[k] = v
		}
	}
	data, _ := body["systemData"].(map[string]any)
	out["createdTime"], out["changedTime"] = data["createdAt"], data["lastModifiedAt"]
	props, _ := body["properties"].(map[string]any)
	out["provisioningState"] = props["provisioningState"]
	return out
}
