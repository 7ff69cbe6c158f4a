package deployments

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/template"
)

// deleteVersion is the api-version that resources outside of a template are deleted with.
const deleteVersion = "2024-04-01"

// present lists the resources of the group that is deployed to.
func (t *turn) present(ctx context.Context) ([]*template.Resource, *Problem) {
	var list []*template.Resource
	for path := t.d.Scope + "/resources"; path != ""; {
		c := Call{Method: "GET", Path: path, Version: "2021-04-01"}
		ans, p := t.call(ctx, c)
		if p != nil {
			return nil, p
		}
		page, _ := ans.Body.(map[string]any)
		values, _ := page["value"].([]any)
		for _, v := range values {
			m, _ := v.(map[string]any)
			text, _ := m["id"].(string)
			id, err := armid.Parse(text)
			if err != nil {
				continue
			}
			list = append(list, &template.Resource{ID: text, Type: id.Type(), Name: id.Name(), APIVersion: deleteVersion})
		}
		path, _ = page["nextLink"].(string)
	}
	return list, nil
}

// superfluous are the resources that Complete mode deletes: those that lie in the
// group itself, are not in the template, and hold nothing that is. What lies in a
// resource that stays, stays.
func (t *turn) superfluous(there []*template.Resource) []*template.Resource {
	return slices.DeleteFunc(slices.Clone(there), func(r *template.Resource) bool {
		inTemplate := slices.ContainsFunc(t.d.plan.Resources, func(x *template.Resource) bool {
			return !x.Skip && (strings.EqualFold(x.ID, r.ID) || strings.HasPrefix(strings.ToLower(x.ID), strings.ToLower(r.ID)+"/"))
		})
		return inTemplate || strings.Count(r.Type, "/") > 1
	})
}

// complete deletes what is superfluous.
func (t *turn) complete(ctx context.Context) {
	there, p := t.present(ctx)
	if p != nil {
		t.problems = append(t.problems, *p)
		return
	}
	for n, r := range t.superfluous(there) {
		if ctx.Err() != nil {
			return
		}
		step := t.s.stepOf(t.d.stored, len(t.d.plan.Resources)+n, "Delete", r)
		if err := t.s.record(ctx, t.key, step); err != nil {
			t.blame(r, t.internal(ctx, err))
			return
		}
		ans, p := t.call(ctx, Call{Method: "DELETE", Path: r.ID, Version: r.APIVersion})
		switch {
		case p != nil && ans.Status == http.StatusNotFound:
			p = nil
		case p == nil && ans.Status == http.StatusAccepted:
			if p = t.follow(ctx, r, ans); p != nil && p.Code == "ResourceNotFound" {
				p = nil
			}
		}
		if p = t.close(ctx, step, ans.Status, p); p != nil {
			t.blame(r, p)
		}
	}
}
