package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/fault"
)

// most is how many mistakes one answer lists.
const most = 10

// mistakes are what is wrong with a body.
type mistakes struct {
	list   []fault.Detail
	answer bool // read-only properties count
}

func (m *mistakes) add(at, format string, args ...any) {
	if len(m.list) < most {
		m.list = append(m.list, fault.Detail{Code: "InvalidPropertyValue", Target: at, Msg: fmt.Sprintf(format, args...)})
	}
}

// Check holds a value, as JSON decodes it with numbers as json.Number, to a type.
// The error names every property that is wrong; the first is its target.
func (t *Type) Check(v any) error { return (&mistakes{}).of(t, v) }

// CheckAnswer is Check for what a server says: read-only properties count too.
func (t *Type) CheckAnswer(v any) error { return (&mistakes{answer: true}).of(t, v) }

func (m *mistakes) of(t *Type, v any) error {
	m.check(t, "", v, true)
	if len(m.list) == 0 {
		return nil
	}
	first := m.list[0]
	e := fault.Coded(fault.Invalid, first.Code, first.Target, "%s", first.Msg)
	if len(m.list) > 1 {
		e.Details = m.list
	}
	return e
}

// check looks at one value. whole: what derives from t is looked for, too.
func (m *mistakes) check(t *Type, at string, v any, whole bool) {
	if v == nil {
		return
	}
	if t.Ref != "" {
		m.check(spec().named(t.Ref), at, v, whole)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if t.accepts(at, "object", v, m) {
			m.object(t, at, v, whole)
		}
	case []any:
		if t.accepts(at, "array", v, m) && t.Items != nil {
			for i, x := range v {
				m.check(t.Items, fmt.Sprintf("%s[%d]", at, i), x, true)
			}
		}
	case string:
		if t.accepts(at, "string", v, m) {
			m.text(t, at, v)
		}
	case bool:
		t.accepts(at, "boolean", v, m)
	case json.Number:
		m.number(t, at, v)
	}
}

// article are the kinds of JSON value, for people.
var article = map[string]string{
	"object": "an object", "array": "a list", "string": "a string", "boolean": "true or false", "integer": "a whole number", "number": "a number",
}

// accepts reports whether a value of a kind fits, and notes where it does not.
func (t *Type) accepts(at, kind string, v any, m *mistakes) bool {
	want := t.Type
	if want == "" && (t.Properties != nil || t.All != nil) {
		want = "object"
	}
	if want == "" || want == kind {
		return true
	}
	is := article[kind]
	if b, ok := v.(bool); ok {
		is = fmt.Sprint(b)
	}
	m.add(at, "%s must be %s, not %s.", name(at), article[want], is)
	return false
}

// name is a property for a sentence.
func name(at string) string {
	if at == "" {
		return "The request content"
	}
	return "The property '" + clip(at) + "'"
}

func (m *mistakes) object(t *Type, at string, v map[string]any, whole bool) {
	for _, key := range t.Required {
		if _, ok := v[key]; !ok && key != t.By && !(t.ignored(key) && !m.answer) {
			m.add(join(at, key), "The property '%s' is required.", clip(join(at, key)))
		}
	}
	if whole && t.By != "" {
		if kind := m.kind(t, at, v); kind != nil {
			m.check(kind, at, v, false)
			return // it has all that t has
		}
	}
	for _, base := range t.All {
		m.check(spec().named(base), at, v, false)
	}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		p, known := t.Properties[key]
		switch {
		case known && p.ReadOnly && !m.answer:
		case known && vacant(v[key]) && !slices.Contains(t.Required, key):
		case known:
			m.check(p, join(at, key), v[key], true)
		case t.Values != nil && key == "hash_version" && isNumber(v[key]): // as SDK v2 sends it, among properties that are text
		case t.Values != nil:
			m.check(t.Values, join(at, key), v[key], true)
		}
	}
}

func isNumber(v any) bool {
	_, ok := v.(json.Number)
	return ok
}

func (t *Type) ignored(key string) bool {
	return t.Properties[key] != nil && t.Properties[key].ReadOnly
}

// vacant reports whether a value asks for nothing: SDK v2 writes {} for no subnet.
func vacant(v any) bool {
	o, ok := v.(map[string]any)
	return ok && len(o) == 0
}

// kind returns the derived type that a value names; nil if none.
func (m *mistakes) kind(t *Type, at string, v map[string]any) *Type {
	at = join(at, t.By)
	switch is := v[t.By].(type) {
	case nil:
		if slices.Contains(t.Required, t.By) {
			m.add(at, "The property '%s' is required. It is one of: %s.", clip(at), strings.Join(slices.Sorted(maps.Keys(t.Kinds)), ", "))
		}
	case string:
		for kind, name := range t.Kinds {
			if same(kind, is) {
				return spec().named(name)
			}
		}
		m.add(at, "The value '%s' of the property '%s' is not one of: %s.", clip(is), clip(at), strings.Join(slices.Sorted(maps.Keys(t.Kinds)), ", "))
	default:
		m.add(at, "The property '%s' must be a string.", clip(at))
	}
	return nil
}

// same compares words of an enumeration. Case, dashes, underscores and spaces do
// not count: low_priority is LowPriority.
func same(a, b string) bool { return strings.EqualFold(bare.Replace(a), bare.Replace(b)) }

var bare = strings.NewReplacer("-", "", "_", "", " ", "")

func (m *mistakes) text(t *Type, at, v string) {
	if len(t.Enum) > 0 {
		var words []string
		for _, e := range t.Enum {
			word := fmt.Sprint(e)
			if same(word, v) {
				return
			}
			words = append(words, word)
		}
		m.add(at, "The value '%s' of the property '%s' is not one of: %s.", clip(v), clip(at), strings.Join(words, ", "))
		return
	}
	n := utf8.RuneCountInString(v)
	switch {
	case t.MinLength > 0 && n < t.MinLength:
		m.add(at, "%s must have at least %d characters; it has %d.", name(at), t.MinLength, n)
	case t.MaxLength > 0 && n > t.MaxLength:
		m.add(at, "%s must have at most %d characters; it has %d.", name(at), t.MaxLength, n)
	case t.pattern != nil && !t.pattern.MatchString(v):
		m.add(at, "The value '%s' of the property '%s' does not match '%s'.", clip(v), clip(at), t.Pattern)
	}
}

func (m *mistakes) number(t *Type, at string, v json.Number) {
	if t.Format == "duration" { // a number of seconds, as some templates write it
		return
	}
	if t.Type != "integer" {
		if !t.accepts(at, "number", v, m) {
			return
		}
	}
	f, err := v.Float64()
	switch {
	case err != nil:
		m.add(at, "%s is too large: %s.", name(at), clip(string(v)))
	case t.Type == "integer" && f != float64(int64(f)):
		m.add(at, "%s must be a whole number, not %s.", name(at), clip(string(v)))
	case t.Format == "int32" && (f < -1<<31 || f > 1<<31-1):
		m.add(at, "%s must be a whole number of 32 bits, not %s.", name(at), clip(string(v)))
	case t.Minimum != nil && f < *t.Minimum:
		m.add(at, "%s must be %v or more, not %s.", name(at), *t.Minimum, clip(string(v)))
	case t.Maximum != nil && f > *t.Maximum:
		m.add(at, "%s must be %v or less, not %s.", name(at), *t.Maximum, clip(string(v)))
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// clip shortens what a client sent, for a sentence.
func clip(s string) string {
	if len(s) <= 200 {
		return s
	}
	return strings.ToValidUTF8(s[:200], "") + "…"
}
