package deployments

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/template"
	"github.com/ebb-compute/ebb/internal/fault"
)

// WhatIf says what a deployment would change, and changes nothing; or why it would
// fail, as far as that is known before. brief leaves out the resources themselves
// (resultFormat ResourceIdOnly).
func (s *Service) WhatIf(ctx context.Context, p access.Principal, req Request, brief bool) ([]any, error) {
	d, err := s.prepare(ctx, p, req, "whatIf/action")
	if err != nil {
		return nil, err
	}
	t := s.looking(&d)
	if err := t.preflight(ctx); err != nil {
		return nil, err
	}
	changes := []any{}
	for i, r := range d.plan.Resources {
		if !r.Deployed() {
			continue
		}
		c, err := t.compare(ctx, i, r)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	if !strings.Contains(strings.ToLower(d.Scope), "/resourcegroups/") {
		return trimmed(changes, brief), nil
	}
	there, problem := t.present(ctx)
	if problem != nil {
		return nil, fmt.Errorf("list what is there: %s", problem.Message)
	}
	gone := t.superfluous(there)
	for _, r := range there {
		if slices.ContainsFunc(d.plan.Resources, func(x *template.Resource) bool { return x.Deployed() && strings.EqualFold(x.ID, r.ID) }) {
			continue
		}
		word := "Ignore"
		if d.Mode == "Complete" && slices.Contains(gone, r) {
			word = "Delete"
		}
		now := t.read(ctx, r)
		changes = append(changes, map[string]any{"resourceId": r.ID, "changeType": word, "before": now, "after": afterOf(word, now)})
	}
	return trimmed(changes, brief), nil
}

// looking is a turn that writes nothing.
func (s *Service) looking(d *prepared) *turn {
	t := &turn{s: s, d: d, key: d.key()}
	for _, p := range d.plan.Parameters {
		if p.Secure {
			t.secrets = secretsIn(p.Value, t.secrets)
		}
	}
	return t
}

// preflight refuses computes that could not be made as the template has them. What
// refers to resources that are not there yet, or lies in one, cannot be known.
func (t *turn) preflight(ctx context.Context) error {
	var refused []fault.Detail
	for i, r := range t.d.plan.Resources {
		if !r.Deployed() || !strings.EqualFold(r.Type, armid.ComputeType) {
			continue
		}
		if ans, _ := t.call(ctx, Call{Method: "GET", Path: r.ID, Version: r.APIVersion}); ans.Status != http.StatusNotFound {
			continue // what would become of it is a change, or none
		}
		body, problem := t.body(ctx, i)
		if problem != nil {
			continue
		}
		ans, problem := t.call(ctx, Call{Method: "PUT", Path: r.ID, Version: r.APIVersion, Body: body, Create: true, Check: true})
		if problem != nil && ans.Status == http.StatusBadRequest {
			refused = append(refused, fault.Detail{Code: problem.Code, Target: r.ID, Msg: fmt.Sprintf("The resource '%s' (%s) would fail: %s", r.Name, r.Type, problem.Message)})
		}
	}
	if len(refused) == 0 {
		return nil
	}
	e := fault.Coded(fault.Invalid, "InvalidTemplateDeployment", t.d.ID, "The template deployment '%s' is not valid according to the validation procedure. See inner errors for details. %s", t.d.Name, refused[0].Msg)
	e.Details = refused
	return e
}

func afterOf(word string, now any) any {
	if word == "Delete" {
		return nil
	}
	return now
}

// trimmed leaves what was asked for.
func trimmed(changes []any, brief bool) []any {
	for _, c := range changes {
		m, _ := c.(map[string]any)
		if brief {
			delete(m, "before")
			delete(m, "after")
			delete(m, "delta")
			if m["changeType"] == "Modify" || m["changeType"] == "NoChange" {
				m["changeType"] = "Deploy" // as in Azure: nothing was compared
			}
		}
		maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	}
	return changes
}

// read returns a resource as it is; nil: there is none that can be read.
func (t *turn) read(ctx context.Context, r *template.Resource) any {
	ans, p := t.call(ctx, Call{Method: "GET", Path: r.ID, Version: r.APIVersion})
	if p != nil {
		return nil
	}
	return template.Normal(ans.Body)
}

// compare says what putting a resource would change.
func (t *turn) compare(ctx context.Context, i int, r *template.Resource) (map[string]any, error) {
	c := map[string]any{"resourceId": r.ID}
	ans, p := t.call(ctx, Call{Method: "GET", Path: r.ID, Version: r.APIVersion})
	var now map[string]any
	switch {
	case p == nil:
		now, _ = template.Normal(ans.Body).(map[string]any)
		c["before"] = now
	case ans.Status != http.StatusNotFound:
		c["changeType"], c["unsupportedReason"] = "Unsupported", p.Message
		return c, nil
	}
	body, problem := t.body(ctx, i)
	switch {
	case problem != nil && now == nil:
		c["changeType"] = "Create" // it refers to what is not there yet
		c["after"] = map[string]any{"id": r.ID, "type": r.Type, "name": last(r.Name), "apiVersion": r.APIVersion}
		return c, nil
	case problem != nil:
		c["changeType"], c["unsupportedReason"] = "Unsupported", problem.Message
		return c, nil
	}
	after, _ := t.hidden(body).(map[string]any)
	after["id"], after["type"], after["name"], after["apiVersion"] = r.ID, r.Type, last(r.Name), r.APIVersion
	c["after"] = after
	if now == nil {
		c["changeType"] = "Create"
		return c, nil
	}
	if strings.EqualFold(r.Type, template.DeploymentType) {
		c["changeType"] = "Deploy"
		return c, nil
	}
	if strings.EqualFold(r.Type, armid.ComputeType) {
		// Templates only repeat computes: whoever does so knows what is the same.
		c["changeType"] = "NoChange"
		if _, p := t.call(ctx, Call{Method: "PUT", Path: r.ID, Version: r.APIVersion, Body: body, Create: true, Check: true}); p != nil {
			c["changeType"], c["unsupportedReason"] = "Unsupported", p.Message
		}
		return c, nil
	}
	delta := []any{}
	t.delta(now, body, "", &delta)
	if c["changeType"] = "NoChange"; len(delta) > 0 {
		c["changeType"], c["delta"] = "Modify", delta
	}
	return c, nil
}

func last(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// hidden returns a value without secure parameters.
func (t *turn) hidden(v any) any {
	switch v := v.(type) {
	case string:
		return t.redact(v)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = t.hidden(x)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = t.hidden(x)
		}
		return out
	}
	return v
}

// delta lists the properties that putting a body would change. Only what the body
// says counts: what it leaves out keeps its value or its default. What a resource
// never shows, such as passwords, cannot be compared.
func (t *turn) delta(now, wish any, path string, into *[]any) {
	have, isObject := now.(map[string]any)
	want, areObjects := wish.(map[string]any)
	if areObjects && (isObject || now == nil) {
		for _, k := range slices.Sorted(maps.Keys(want)) {
			inner := k
			if path != "" {
				inner = path + "." + k
			}
			x, there := insensitive(have, k)
			if !there && (unsaid(want[k]) || writeOnly(k)) {
				continue
			}
			t.delta(x, want[k], inner, into)
		}
		return
	}
	if unsaid(wish) && unsaid(now) || alike(now, wish) {
		return
	}
	word := "Modify"
	if now == nil {
		word = "Create"
	}
	change := map[string]any{"path": path, "propertyChangeType": word, "before": now, "after": t.hidden(wish), "children": nil}
	*into = append(*into, change)
}

func insensitive(m map[string]any, name string) (any, bool) {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return nil, false
}

// unsaid is what asks for nothing.
func unsaid(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, x := range v {
			if !unsaid(x) {
				return false
			}
		}
		return true
	}
	return false
}

func writeOnly(name string) bool {
	n := strings.ToLower(name)
	return strings.Contains(n, "password") || strings.Contains(n, "secret")
}

// alike compares values as the resources do: words without regard to case and
// spaces (places, sizes), durations by their length.
func alike(now, wish any) bool {
	a, isText := now.(string)
	b, areTexts := wish.(string)
	if !isText || !areTexts {
		x, isList := now.([]any)
		y, areLists := wish.([]any)
		if isList && areLists {
			return slices.EqualFunc(x, y, func(p, q any) bool { return alike(p, q) || covers(p, q) })
		}
		return fmt.Sprint(now) == fmt.Sprint(wish)
	}
	if strings.EqualFold(strings.ReplaceAll(a, " ", ""), strings.ReplaceAll(b, " ", "")) {
		return true
	}
	m, ok := seconds(a)
	n, also := seconds(b)
	return ok && also && m == n
}

// covers reports whether an element of a list has all that is wished of it.
func covers(now, wish any) bool {
	var delta []any
	(&turn{}).delta(now, wish, "x", &delta)
	return len(delta) == 0
}

// seconds reads an ISO 8601 duration of days and less.
func seconds(s string) (n int, ok bool) {
	s, ok = strings.CutPrefix(strings.ToUpper(s), "P")
	if !ok || len(s) > 20 {
		return 0, false
	}
	digits, some := 0, false
	for _, ch := range s {
		switch {
		case ch >= '0' && ch <= '9':
			digits, some = digits*10+int(ch-'0'), true
			if digits > 1e9 {
				return 0, false
			}
			continue
		case ch == 'T':
			continue
		}
		unit, known := map[rune]int{'D': 86400, 'H': 3600, 'M': 60, 'S': 1}[ch]
		if !known || !some {
			return 0, false
		}
		n, digits, some = n+digits*unit, 0, false
	}
	return n, !some
}
