package template

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// objects are the functions that make and take apart objects.
var objects = map[string]function{
	"createObject": fn(0, -1, createObject),
	"null":         fn(0, 0, func(*invocation, []any) (any, error) { return nil, nil }),
	"items":        fn(1, 1, items),
	"objectKeys":   fn(1, 1, objectKeys),
	"shallowMerge": fn(1, 1, shallowMerge),
}

func createObject(c *invocation, v []any) (any, error) {
	if len(v)%2 != 0 {
		return nil, c.fail("arguments come in pairs, a name and a value; there are %d.", len(v))
	}
	out := map[string]any{}
	for i := 0; i < len(v); i += 2 {
		name, err := c.text(v, i)
		if err != nil {
			return nil, err
		}
		out[name] = v[i+1]
	}
	return out, nil
}

func items(c *invocation, v []any) (any, error) {
	m, err := c.object(v, 0)
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, map[string]any{"key": k, "value": m[k]})
	}
	return out, nil
}

func objectKeys(c *invocation, v []any) (any, error) {
	m, err := c.object(v, 0)
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k)
	}
	return out, nil
}

func shallowMerge(c *invocation, v []any) (any, error) {
	l, err := c.list(v, 0)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for i, x := range l {
		m, ok := x.(map[string]any)
		if !ok {
			return nil, c.fail("element %d must be an object, not %s.", i, typeName(x))
		}
		if err := c.room(48 * len(m)); err != nil {
			return nil, err
		}
		maps.Copy(out, m)
	}
	return out, nil
}

// logic are the functions of truth and comparison. if, and, or and coalesce look
// at no more arguments than they need.
var logic = map[string]function{
	"true":            fn(0, 0, func(*invocation, []any) (any, error) { return true, nil }),
	"false":           fn(0, 0, func(*invocation, []any) (any, error) { return false, nil }),
	"if":              {3, 3, choose, true},
	"and":             {2, -1, func(c *invocation) (any, error) { return c.until(false) }, true},
	"or":              {2, -1, func(c *invocation) (any, error) { return c.until(true) }, true},
	"coalesce":        {1, -1, coalesce, true},
	"not":             fn(1, 1, func(c *invocation, v []any) (any, error) { b, err := c.truth(v[0], 0); return !b, err }),
	"bool":            fn(1, 1, toBool),
	"equals":          fn(2, 2, func(c *invocation, v []any) (any, error) { return c.w.equal(v[0], v[1]), nil }),
	"greater":         fn(2, 2, func(c *invocation, v []any) (any, error) { n, err := c.compare(v); return n > 0, err }),
	"greaterOrEquals": fn(2, 2, func(c *invocation, v []any) (any, error) { n, err := c.compare(v); return n >= 0, err }),
	"less":            fn(2, 2, func(c *invocation, v []any) (any, error) { n, err := c.compare(v); return n < 0, err }),
	"lessOrEquals":    fn(2, 2, func(c *invocation, v []any) (any, error) { n, err := c.compare(v); return n <= 0, err }),
}

// choose is if(). While the condition is not known, both sides are looked at for
// what they need.
func choose(c *invocation) (any, error) {
	cond, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	if c.w.open(cond) {
		_, _ = c.arg(1)
		_, _ = c.arg(2)
		return unknown{}, nil
	}
	yes, err := c.truth(cond, 0)
	if err != nil {
		return nil, err
	}
	if yes {
		return c.arg(1)
	}
	return c.arg(2)
}

// until is and() and or(): the first argument that is end decides.
func (c *invocation) until(end bool) (any, error) {
	later := false
	for i := range c.args {
		v, err := c.arg(i)
		if err != nil {
			return nil, err
		}
		if c.w.open(v) {
			later = true
			continue
		}
		b, err := c.truth(v, i)
		if err != nil {
			return nil, err
		}
		if b == end {
			return end, nil
		}
	}
	if later {
		return unknown{}, nil
	}
	return !end, nil
}

func coalesce(c *invocation) (any, error) {
	for i := range c.args {
		if v, err := c.arg(i); v != nil || err != nil {
			return v, err
		}
	}
	return nil, nil
}

func toBool(c *invocation, v []any) (any, error) {
	if n, ok := v[0].(int64); ok {
		return n != 0, nil
	}
	return c.truth(v[0], 0)
}

// compare orders numbers, or strings without regard to case.
func (c *invocation) compare(v []any) (int, error) {
	if a, ok := v[0].(string); ok {
		b, err := c.text(v, 1)
		return strings.Compare(a, b), err
	}
	a, err := c.number(v, 0)
	if err != nil {
		return 0, err
	}
	b, err := c.number(v, 1)
	switch {
	case err != nil:
		return 0, err
	case a < b:
		return -1, nil
	case a > b:
		return 1, nil
	}
	return 0, nil
}

func (c *invocation) number(v []any, i int) (float64, error) {
	switch n := v[i].(type) {
	case int64:
		return float64(n), nil
	case float64:
		return n, nil
	}
	return 0, c.wrong(v[i], i, "a number")
}

// numbers are the functions of arithmetic, on whole numbers.
var numbers = map[string]function{
	"add": fn(2, 2, arithmetic(func(a, b int64) (int64, bool) { n := a + b; return n, (n > a) == (b > 0) })),
	"sub": fn(2, 2, arithmetic(func(a, b int64) (int64, bool) { n := a - b; return n, (n < a) == (b > 0) })),
	"mul": fn(2, 2, arithmetic(func(a, b int64) (int64, bool) {
		n := a * b
		return n, a == 0 || n/a == b && !(a == -1 && b == math.MinInt64)
	})),
	"div": fn(2, 2, arithmetic(func(a, b int64) (int64, bool) {
		if b == 0 || a == math.MinInt64 && b == -1 {
			return 0, false
		}
		return a / b, true
	})),
	"mod": fn(2, 2, arithmetic(func(a, b int64) (int64, bool) {
		if b == 0 || b == -1 {
			return 0, b == -1
		}
		return a % b, true
	})),
	"int":   fn(1, 1, toInt),
	"float": fn(1, 1, toFloat),
	"min":   fn(1, -1, func(c *invocation, v []any) (any, error) { return c.extreme(v, func(a, b int64) bool { return a < b }) }),
	"max":   fn(1, -1, func(c *invocation, v []any) (any, error) { return c.extreme(v, func(a, b int64) bool { return a > b }) }),
}

func arithmetic(f func(a, b int64) (int64, bool)) values {
	return func(c *invocation, v []any) (any, error) {
		a, err := c.whole(v, 0)
		if err != nil {
			return nil, err
		}
		b, err := c.whole(v, 1)
		if err != nil {
			return nil, err
		}
		n, ok := f(a, b)
		if !ok {
			return nil, c.fail("the result for %d and %d is not a number of 64 bits.", a, b)
		}
		return n, nil
	}
}

func toInt(c *invocation, v []any) (any, error) {
	switch x := v[0].(type) {
	case int64:
		return x, nil
	case float64:
		if math.Abs(x) < 1<<63 {
			return int64(x), nil
		}
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(x), 10, 64); err == nil {
			return n, nil
		}
		return nil, c.fail("'%s' is not a whole number.", clip(x))
	}
	return nil, c.wrong(v[0], 0, "a number or a string of digits")
}

func toFloat(c *invocation, v []any) (any, error) {
	if s, ok := v[0].(string); ok {
		f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return nil, c.fail("'%s' is not a number.", clip(s))
		}
		return Normal(f), nil
	}
	f, err := c.number(v, 0)
	return Normal(f), err
}

// extreme is min() and max(), of their arguments or of one array.
func (c *invocation) extreme(v []any, better func(a, b int64) bool) (any, error) {
	if l, ok := v[0].([]any); ok && len(v) == 1 {
		v = l
	}
	if len(v) == 0 {
		return nil, c.fail("the array is empty.")
	}
	best, err := c.whole(v, 0)
	if err != nil {
		return nil, err
	}
	for i := range v {
		n, err := c.whole(v, i)
		if err != nil {
			return nil, err
		}
		if better(n, best) {
			best = n
		}
	}
	return best, nil
}
