package mgmt

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/fault"
)

// term is one condition of a filter: they are joined by "and" alone.
type term struct{ field, op, value string }

// terms of filters that clients send: field eq 'value', and functions of a field and a value.
var (
	comparison = regexp.MustCompile(`(?i)^\s*([a-z/]+)\s+(eq|ne)\s+'((?:[^']|'')*)'\s*`)
	function   = regexp.MustCompile(`(?i)^\s*(startswith|substringof|assignedto|atscope|principalidany)\s*\(\s*(?:'((?:[^']|'')*)'|([a-z/]+))?\s*(?:,\s*(?:'((?:[^']|'')*)'|([a-z/]+)))?\s*\)\s*`)
	and        = regexp.MustCompile(`(?i)^and\s`)
)

// parseFilter reads a $filter, whose fields must be among those that may be asked for.
func parseFilter(text string, fields ...string) ([]term, error) {
	var terms []term
	rest := strings.TrimSpace(text)
	for strings.HasPrefix(rest, "(") && strings.HasSuffix(rest, ")") {
		rest = strings.TrimSpace(rest[1 : len(rest)-1])
	}
	for rest != "" {
		if len(terms) > 0 {
			m := and.FindString(rest)
			if m == "" {
				return nil, badFilter(text, fields)
			}
			rest = rest[len(m):]
		}
		t, n := oneTerm(rest)
		known := t.field == ""
		for _, f := range fields {
			if strings.EqualFold(f, t.field) {
				t.field, known = f, true
			}
		}
		if n == 0 || !known {
			return nil, badFilter(text, fields)
		}
		terms, rest = append(terms, t), rest[n:]
	}
	return terms, nil
}

// oneTerm reads the first term of a filter, and says how long it is; 0: it is none.
func oneTerm(text string) (term, int) {
	unquote := func(s string) string { return strings.ReplaceAll(s, "''", "'") }
	if m := comparison.FindStringSubmatch(text); m != nil {
		return term{m[1], strings.ToLower(m[2]), unquote(m[3])}, len(m[0])
	}
	if m := function.FindStringSubmatch(text); m != nil {
		return term{m[3] + m[5], strings.ToLower(m[1]), unquote(m[2] + m[4])}, len(m[0])
	}
	return term{}, 0
}

func badFilter(text string, fields []string) error {
	return fault.Coded(fault.Invalid, "InvalidFilterInQueryString", "$filter",
		"The filter '%.200s' is not supported. Supported are conditions of the form field eq 'value', joined by and, on: %s.", text, strings.Join(fields, ", "))
}

// holds reports whether a term is true of a value.
func (t term) holds(value string) bool {
	a, b := strings.ToLower(value), strings.ToLower(t.value)
	switch t.op {
	case "ne":
		return a != b
	case "startswith":
		return strings.HasPrefix(a, b)
	case "substringof":
		return strings.Contains(a, b)
	}
	return a == b
}

// matches reports whether all terms hold of a resource as ARM shows it.
func matches(terms []term, body map[string]any) bool {
	tags, _ := body["tags"].(map[string]any)
	named := "" // the tag that the terms name
	for _, t := range terms {
		if t.field == "tagName" && t.op == "eq" {
			named = t.value
		}
	}
	for _, t := range terms {
		if !matchesTerm(t, body, tags, named) {
			return false
		}
	}
	return true
}

func matchesTerm(t term, body, tags map[string]any, named string) bool {
	switch t.field {
	case "tagName", "tagValue":
		for k, v := range tags {
			text, _ := v.(string)
			if t.field == "tagName" && t.holds(k) || t.field == "tagValue" && strings.EqualFold(k, named) && text == t.value {
				return true
			}
		}
		return false
	case "resourceType":
		text, _ := body["type"].(string)
		return t.holds(text)
	case "resourceGroup":
		id, _ := body["id"].(string)
		parts := strings.Split(id, "/")
		return len(parts) > 4 && t.holds(parts[4])
	case "location":
		text, _ := body["location"].(string)
		t.value = strings.ReplaceAll(t.value, " ", "")
		return t.holds(text)
	}
	text, _ := body[t.field].(string)
	return t.holds(text)
}

// tagged keeps the resource groups that the request's filter asks for.
func tagged(r *http.Request, docs []workspaces.Document) ([]workspaces.Document, error) {
	terms, err := parseFilter(arm.Query(r, "$filter"), "tagName", "tagValue", "name", "location")
	if err != nil {
		return nil, err
	}
	var kept []workspaces.Document
	for _, d := range docs {
		if matches(terms, d.Body) {
			kept = append(kept, d)
		}
	}
	return kept, nil
}

// paged cuts a list of resources, in the order of their ids, by $top and where
// the page before it ended.
func paged(r *http.Request, list []map[string]any) (arm.List[map[string]any], error) {
	id := func(b map[string]any) string {
		text, _ := b["id"].(string)
		return strings.ToLower(text)
	}
	slices.SortFunc(list, func(a, b map[string]any) int { return strings.Compare(id(a), id(b)) })
	top := len(list)
	if text := arm.Query(r, "$top"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return arm.List[map[string]any]{}, fault.Coded(fault.Invalid, "InvalidTopInQueryString", "$top", "$top must be a number above 0, not '%.32s'.", text)
		}
		top = n
	}
	if text := arm.SkipToken(r); text != "" {
		last, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return arm.List[map[string]any]{}, fault.Coded(fault.Invalid, "InvalidSkipTokenInQueryString", "$skipToken", "The continuation token is not one that this server gave.")
		}
		list = slices.DeleteFunc(list, func(b map[string]any) bool { return id(b) <= string(last) })
	}
	if top >= len(list) {
		return arm.Page(r, list, ""), nil
	}
	return arm.Page(r, list[:top], base64.RawURLEncoding.EncodeToString([]byte(id(list[top-1])))), nil
}
