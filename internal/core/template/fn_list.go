package template

import (
	"maps"
	"slices"
	"strings"
)

// lists are the functions of arrays, and those of arrays, strings and objects alike.
var lists = map[string]function{
	"array":           fn(1, 1, func(_ *invocation, v []any) (any, error) { return toList(v[0]), nil }),
	"createArray":     fn(0, -1, func(_ *invocation, v []any) (any, error) { return append([]any{}, v...), nil }),
	"concat":          fn(1, -1, concat),
	"contains":        fn(2, 2, contains),
	"empty":           fn(1, 1, empty),
	"length":          fn(1, 1, length),
	"first":           fn(1, 1, func(c *invocation, v []any) (any, error) { return c.end(v, 0) }),
	"last":            fn(1, 1, func(c *invocation, v []any) (any, error) { return c.end(v, -1) }),
	"skip":            fn(2, 2, func(c *invocation, v []any) (any, error) { return c.cut(v, true) }),
	"take":            fn(2, 2, func(c *invocation, v []any) (any, error) { return c.cut(v, false) }),
	"indexOf":         fn(2, 2, func(c *invocation, v []any) (any, error) { return c.find(v, false) }),
	"lastIndexOf":     fn(2, 2, func(c *invocation, v []any) (any, error) { return c.find(v, true) }),
	"range":           fn(2, 2, rangeOf),
	"flatten":         fn(1, 1, flatten),
	"union":           fn(2, -1, union),
	"intersection":    fn(2, -1, intersection),
	"indexFromEnd":    fn(2, 2, func(c *invocation, v []any) (any, error) { return c.fromEnd(v, false) }),
	"tryIndexFromEnd": fn(2, 2, func(c *invocation, v []any) (any, error) { return c.fromEnd(v, true) }),
	"tryGet":          fn(2, -1, tryGet),
	"pickZones":       fn(3, 5, func(*invocation, []any) (any, error) { return []any{}, nil }), // this machine has no zones
}

func toList(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

// concat joins strings, or arrays.
func concat(c *invocation, v []any) (any, error) {
	if _, ok := v[0].([]any); ok {
		var out []any
		for i := range v {
			l, err := c.list(v, i)
			if err != nil {
				return nil, err
			}
			if err := c.room(16 * len(l)); err != nil {
				return nil, err
			}
			out = append(out, l...)
		}
		return out, nil
	}
	var b strings.Builder
	for i, x := range v {
		switch x.(type) {
		case []any, map[string]any, lambda, nil:
			return nil, c.wrong(x, i, "a string, as the first one is")
		}
		s := show(x)
		if err := c.room(len(s)); err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func contains(c *invocation, v []any) (any, error) {
	switch in := v[0].(type) {
	case string:
		switch v[1].(type) {
		case string, int64:
			return strings.Contains(in, show(v[1])), nil
		}
		return nil, c.wrong(v[1], 1, "a string")
	case []any:
		return slices.ContainsFunc(in, func(x any) bool { return c.w.equal(x, v[1]) }), nil
	case map[string]any:
		name, err := c.text(v, 1)
		if err != nil {
			return nil, err
		}
		_, ok := field(in, name)
		return ok, nil
	}
	return nil, c.wrong(v[0], 0, "a string, an array or an object")
}

func empty(c *invocation, v []any) (any, error) {
	switch v := v[0].(type) {
	case nil:
		return true, nil
	case string:
		return v == "", nil
	case []any:
		return len(v) == 0, nil
	case map[string]any:
		return len(v) == 0, nil
	}
	return nil, c.wrong(v[0], 0, "a string, an array, an object or null")
}

func length(c *invocation, v []any) (any, error) {
	switch v := v[0].(type) {
	case string:
		return int64(len([]rune(v))), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, c.wrong(v[0], 0, "a string, an array or an object")
}

// end is first() and last(): of nothing they are null, or an empty string.
func (c *invocation) end(v []any, i int) (any, error) {
	switch v := v[0].(type) {
	case string:
		r := []rune(v)
		if len(r) == 0 {
			return "", nil
		}
		return string(r[(len(r)+i)%len(r)]), nil
	case []any:
		if len(v) == 0 {
			return nil, nil
		}
		return v[(len(v)+i)%len(v)], nil
	}
	return nil, c.wrong(v[0], 0, "a string or an array")
}

// cut is skip() and take().
func (c *invocation) cut(v []any, skip bool) (any, error) {
	n, err := c.whole(v, 1)
	if err != nil {
		return nil, err
	}
	cut := func(length int) (int, int) {
		k := int(min(max(n, 0), int64(length)))
		if skip {
			return k, length
		}
		return 0, k
	}
	switch v := v[0].(type) {
	case string:
		r := []rune(v)
		from, to := cut(len(r))
		return string(r[from:to]), nil
	case []any:
		from, to := cut(len(v))
		return v[from:to:to], nil
	}
	return nil, c.wrong(v[0], 0, "a string or an array")
}

// find is indexOf() and lastIndexOf(): in strings without regard to case.
func (c *invocation) find(v []any, last bool) (any, error) {
	switch in := v[0].(type) {
	case string:
		what, err := c.text(v, 1)
		if err != nil {
			return nil, err
		}
		in, what = strings.ToLower(in), strings.ToLower(what)
		i := strings.Index(in, what)
		if last {
			i = strings.LastIndex(in, what)
		}
		if i < 0 {
			return int64(-1), nil
		}
		return int64(len([]rune(in[:i]))), nil
	case []any:
		found := int64(-1)
		for i, x := range in {
			if c.w.equal(x, v[1]) {
				found = int64(i)
				if !last {
					break
				}
			}
		}
		return found, nil
	}
	return nil, c.wrong(v[0], 0, "a string or an array")
}

func rangeOf(c *invocation, v []any) (any, error) {
	from, err := c.whole(v, 0)
	if err != nil {
		return nil, err
	}
	n, err := c.whole(v, 1)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > maxCopies || from > 1<<53 || from < -1<<53 {
		return nil, c.fail("the count is %d; it must be from 0 to %d.", n, maxCopies)
	}
	out := make([]any, n)
	for i := range out {
		out[i] = from + int64(i)
	}
	return out, nil
}

func flatten(c *invocation, v []any) (any, error) {
	l, err := c.list(v, 0)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for i, x := range l {
		inner, ok := x.([]any)
		if !ok {
			return nil, c.fail("element %d must be an array, not %s.", i, typeName(x))
		}
		if err := c.room(16 * len(inner)); err != nil {
			return nil, err
		}
		out = append(out, inner...)
	}
	return out, nil
}

// union of arrays has each element once; of objects the properties of all, those
// of objects on both sides merged.
func union(c *invocation, v []any) (any, error) {
	if _, ok := v[0].([]any); ok {
		out := []any{}
		for i := range v {
			l, err := c.list(v, i)
			if err != nil {
				return nil, err
			}
			for _, x := range l {
				if err := c.room(len(out)); err != nil { // what looking through it takes
					return nil, err
				}
				if !slices.ContainsFunc(out, func(y any) bool { return c.w.equal(x, y) }) {
					out = append(out, x)
				}
			}
		}
		return out, nil
	}
	out := map[string]any{}
	for i := range v {
		m, err := c.object(v, i)
		if err != nil {
			return nil, err
		}
		c.w.steps += len(out) // what is there is copied
		if err := c.roomFor(m); err != nil {
			return nil, err
		}
		out = merged(out, m)
	}
	return out, nil
}

func merged(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	for k, y := range b {
		x, isObject := out[k].(map[string]any)
		if m, ok := y.(map[string]any); ok && isObject {
			y = merged(x, m)
		}
		out[k] = y
	}
	return out
}

func intersection(c *invocation, v []any) (any, error) {
	if _, ok := v[0].([]any); ok {
		out, err := c.list(v, 0)
		if err != nil {
			return nil, err
		}
		for i := range v {
			l, err := c.list(v, i)
			if err != nil {
				return nil, err
			}
			if err := c.room(len(l) * len(out)); err != nil {
				return nil, err
			}
			var both []any
			for _, x := range out {
				in := func(l []any) bool { return slices.ContainsFunc(l, func(y any) bool { return c.w.equal(x, y) }) }
				if in(l) && !in(both) {
					both = append(both, x)
				}
			}
			out = both
		}
		return append([]any{}, out...), nil
	}
	first, err := c.object(v, 0)
	if err != nil {
		return nil, err
	}
	out := maps.Clone(first)
	for i := range v {
		m, err := c.object(v, i)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(out, func(k string, x any) bool {
			y, ok := field(m, k)
			return !ok || !c.w.equal(x, y)
		})
	}
	return out, nil
}

func (c *invocation) fromEnd(v []any, safe bool) (any, error) {
	l, err := c.list(v, 0)
	if err != nil {
		return nil, err
	}
	n, err := c.whole(v, 1)
	if err != nil {
		return nil, err
	}
	if n >= 1 && n <= int64(len(l)) {
		return l[int64(len(l))-n], nil
	}
	if safe {
		return nil, nil
	}
	return nil, c.fail("%d from the end does not lie in an array of %d elements.", n, len(l))
}

// tryGet walks along properties and indexes; null where there is nothing.
func tryGet(_ *invocation, v []any) (any, error) {
	at := v[0]
	for _, index := range v[1:] {
		switch at.(type) {
		case map[string]any, []any:
		default:
			return nil, nil
		}
		var err error
		if at, err = get(at, index, true); err != nil {
			return nil, err
		}
	}
	return at, nil
}
