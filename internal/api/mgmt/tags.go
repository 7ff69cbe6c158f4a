package mgmt

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/computes"
	records "github.com/ebb-compute/ebb/internal/app/resources"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

const tagsAt = "/providers/Microsoft.Resources/tags/default"

// tagsOf reads the tags of what a path of {scope}/providers/Microsoft.Resources/tags/default
// names, and returns what replaces them.
func (h recordRoutes) tagsOf(r *http.Request, scope string) (have map[string]any, replace func(map[string]any) error, err error) {
	id, err := armid.Parse(scope)
	if err != nil {
		return nil, nil, fault.Coded(fault.Invalid, "InvalidResourceId", scope, "The %s.", err)
	}
	ctx, who := r.Context(), arm.Caller(r.Context())
	body, rev := map[string]any{}, int64(0)
	match := func(exists bool, now int64) error {
		if !exists || now != rev {
			return fault.Coded(fault.Conflict, "Conflict", scope, "The resource is being changed by others at the same time. Try again.")
		}
		return nil
	}
	switch {
	case id.Is(armid.WorkspaceType):
		var doc workspaces.Document
		doc, err = h.ws.Get(ctx, who, scope)
		body, rev = doc.Body, doc.Rev
		replace = func(tags map[string]any) error {
			_, err := h.ws.Patch(ctx, who, workspaces.Request{ID: scope, Body: map[string]any{"tags": tags}, Match: match})
			return err
		}
	case id.Is(armid.ComputeType):
		var doc computes.Document
		doc, err = h.c.Get(ctx, who, id.Parent().String(), id.Name())
		body, rev = doc.Body, doc.Rev
		replace = func(tags map[string]any) error {
			patch := maps.Clone(tags)
			for k := range have { // a merge patch: null removes
				if _, stays := tags[k]; !stays {
					patch[k] = nil
				}
			}
			_, err := h.c.Patch(ctx, who, computes.Request{Workspace: id.Parent().String(), Name: id.Name(), Body: map[string]any{"tags": patch}, Match: match})
			return err
		}
	case id.Provider != "":
		var doc records.Document
		doc, err = h.r.Get(ctx, who, id)
		body, rev = doc.Body, doc.Rev
		replace = func(tags map[string]any) error {
			_, err := h.r.Patch(ctx, who, records.Request{ID: id, Body: map[string]any{"tags": tags}, Match: match})
			return err
		}
	case id.Group != "":
		var doc workspaces.Document
		doc, err = h.ws.Group(ctx, who, id.Subscription, id.Group)
		body = doc.Body
		replace = func(tags map[string]any) error {
			_, err := h.ws.PatchGroup(ctx, who, id.Subscription, id.Group, map[string]any{"tags": tags})
			return err
		}
	default:
		return nil, nil, fault.Coded(fault.Unsupported, "NotImplemented", scope, "Tags of a subscription are not part of Ebb; those of groups and resources are.")
	}
	have, _ = body["tags"].(map[string]any)
	return have, replace, err
}

// tags serves the tags of a scope by their own address.
func (h recordRoutes) tags(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, kind, name, _ := extended(r.URL.Path, "Microsoft.Resources")
	if !strings.EqualFold(kind+"/"+name, "tags/default") {
		return 0, nil, fault.Coded(fault.NotFound, "InvalidResourceType", "", "The resource type '%.200s' could not be found in the namespace 'Microsoft.Resources'; for tags it is %s.", kind, tagsAt)
	}
	have, replace, err := h.tagsOf(r, scope)
	if err != nil {
		return 0, nil, err
	}
	next := maps.Clone(have)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		next = map[string]any{}
	case http.MethodPut, http.MethodPatch:
		if next, err = readTags(r, have); err != nil {
			return 0, nil, err
		}
	default:
		return 0, nil, fault.Coded(fault.Invalid, "MethodNotAllowed", "", "%s is not allowed here; allowed: DELETE, GET, PATCH, PUT.", r.Method)
	}
	if next == nil {
		next = map[string]any{}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if err := replace(next); err != nil {
			return 0, nil, err
		}
	}
	if r.Method == http.MethodDelete {
		return http.StatusOK, nil, nil
	}
	return http.StatusOK, map[string]any{"id": scope + tagsAt, "name": "default", "type": "Microsoft.Resources/tags", "properties": map[string]any{"tags": next}}, nil
}

// readTags reads what the tags are to be: those of a PUT, or what a PATCH makes of those there are.
func readTags(r *http.Request, have map[string]any) (map[string]any, error) {
	var body struct {
		Operation  string `json:"operation"`
		Properties struct {
			Tags map[string]any `json:"tags"`
		} `json:"properties"`
	}
	if err := arm.ReadJSON(r, &body); err != nil {
		return nil, err
	}
	given := body.Properties.Tags
	if r.Method == http.MethodPut {
		return given, nil
	}
	out := maps.Clone(have)
	if out == nil {
		out = map[string]any{}
	}
	switch strings.ToLower(body.Operation) {
	case "replace":
		return given, nil
	case "merge":
		maps.Copy(out, given)
	case "delete":
		maps.DeleteFunc(out, func(k string, v any) bool {
			was, ok := given[k]
			return ok && (was == v || was == nil || was == "")
		})
	default:
		return nil, fault.Coded(fault.Invalid, "InvalidTagPatchOperation", "operation", "The operation '%.64s' is not one of: Merge, Replace, Delete.", body.Operation)
	}
	return out, nil
}

// tagNames lists every tag of a subscription with its values.
func (h recordRoutes) tagNames(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	sub := r.PathValue("sub")
	all, err := h.all(r, arm.Caller(r.Context()), sub, "")
	if err != nil {
		return 0, nil, err
	}
	groups, err := h.ws.Groups(r.Context(), arm.Caller(r.Context()), sub)
	if err != nil {
		return 0, nil, err
	}
	found := map[string]map[string]int{}
	for _, body := range append(all, bodies(groups)...) {
		tags, _ := body["tags"].(map[string]any)
		for k, v := range tags {
			if found[k] == nil {
				found[k] = map[string]int{}
			}
			text, _ := v.(string)
			found[k][text]++
		}
	}
	at := armid.Subscription(sub) + "/tagNames/"
	count := func(n int) map[string]any { return map[string]any{"type": "Total", "value": n} }
	var list []map[string]any
	for _, name := range slices.Sorted(maps.Keys(found)) {
		values, sum := []map[string]any{}, 0
		for _, v := range slices.Sorted(maps.Keys(found[name])) {
			values = append(values, map[string]any{"id": at + name + "/tagValues/" + v, "tagValue": v, "count": count(found[name][v])})
			sum += found[name][v]
		}
		list = append(list, map[string]any{"id": at + name, "tagName": name, "count": count(sum), "values": values})
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}
