package template

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// unknown stands for what a [Need] will answer.
type unknown struct{}

// lambda is a function value: what lambda() makes, for map and its like.
type lambda struct {
	names []string
	body  node
}

// Normal brings what encoding/json made into this package's values.
func Normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String() // beyond any number: kept as it was typed
		}
		return f
	case int:
		return int64(v)
	case float64:
		if n := int64(v); float64(n) == v && n > -1<<53 && n < 1<<53 {
			return n
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = Normal(x)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = Normal(x)
		}
		return out
	}
	return v
}

// lower lowers ASCII letters alone.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func same(a, b string) bool { return strings.EqualFold(a, b) }

// field finds a property without regard to case: exact first, then the first of
// those that differ in case alone.
func field(m map[string]any, name string) (any, bool) {
	if v, ok := m[name]; ok {
		return v, true
	}
	found, ok := "", false
	for k := range m {
		if same(k, name) && (!ok || k < found) {
			found, ok = k, true
		}
	}
	return m[found], ok
}

func object(m map[string]any, name string) map[string]any {
	v, _ := field(m, name)
	o, _ := v.(map[string]any)
	return o
}

func text(m map[string]any, name string) string {
	v, _ := field(m, name)
	s, _ := v.(string)
	return s
}

// typeName is the word for a value's type in messages: Azure's.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "Null"
	case bool:
		return "Boolean"
	case string:
		return "String"
	case int64:
		return "Integer"
	case float64:
		return "Float"
	case []any:
		return "Array"
	case map[string]any:
		return "Object"
	case lambda:
		return "Lambda"
	}
	return "Unknown"
}

// sizeOf is how many bytes a value costs, as JSON about. It gives up above most.
func sizeOf(v any, most int) int {
	switch v := v.(type) {
	case string:
		return len(v) + 2
	case []any:
		n := 2
		for _, x := range v {
			if n += sizeOf(x, most-n) + 1; n > most {
				return n
			}
		}
		return n
	case map[string]any:
		n := 2
		for k, x := range v {
			if n += len(k) + 4 + sizeOf(x, most-n); n > most {
				return n
			}
		}
		return n
	}
	return 8
}

// depthOf is how deep a value nests.
func depthOf(v any) int {
	deepest := 0
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			deepest = max(deepest, depthOf(x))
		}
	case map[string]any:
		for _, x := range v {
			deepest = max(deepest, depthOf(x))
		}
	default:
		return 0
	}
	return deepest + 1
}

// encode writes a value as JSON, its keys in order.
func encode(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "null" // values hold nothing that JSON cannot say
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// decode reads JSON text.
func decode(s string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, bad("it goes on after its value")
	}
	if depthOf(v) > maxDepth {
		return nil, bad("it nests deeper than %d levels", maxDepth)
	}
	return Normal(v), nil
}

// show is what string() makes of a value: strings as they are, the rest as JSON.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		if v { // .NET's words
			return "True"
		}
		return "False"
	case nil:
		return ""
	}
	return encode(v)
}

// equal compares within the budget.
func (w *work) equal(a, b any) bool {
	nodes := 0
	same := equal(a, b, &nodes)
	w.steps += nodes / nodesAStep
	return same
}

// equal compares as equals() does: by type and value, keys without regard to case.
func equal(a, b any, nodes *int) bool {
	*nodes++
	switch a := a.(type) {
	case int64:
		if f, ok := b.(float64); ok {
			return float64(a) == f
		}
		return a == b
	case float64:
		if n, ok := b.(int64); ok {
			return a == float64(n)
		}
		return any(a) == b
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, func(x, y any) bool { return equal(x, y, nodes) })
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, x := range a {
			y, ok := field(b, k)
			if !ok || !equal(x, y, nodes) {
				return false
			}
		}
		return true
	case lambda, unknown:
		return false
	}
	switch b.(type) {
	case []any, map[string]any, lambda, unknown:
		return false
	}
	return a == b
}

func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
