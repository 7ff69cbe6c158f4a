package template

import "slices"

// lambdas are the functions that take a function: lambda('x', …lambdaVariables('x')…).
var lambdas = map[string]function{
	"lambda":          {1, 4, makeLambda, true},
	"lambdaVariables": fn(1, 1, lambdaVariable),
	"map":             {2, 2, mapList, true},
	"filter":          {2, 2, filter, true},
	"reduce":          {3, 3, reduce, true},
	"sort":            {2, 2, sortList, true},
	"toObject":        {2, 3, toObject, true},
	"mapValues":       {2, 2, mapValues, true},
	"groupBy":         {2, 2, groupBy, true},
}

func makeLambda(c *invocation) (any, error) {
	var names []string
	for i := range len(c.args) - 1 {
		l, ok := c.args[i].(literal)
		name, isText := l.value.(string)
		if !ok || !isText {
			return nil, c.fail("argument %d must be a name in quotes.", i+1)
		}
		names = append(names, lower(name))
	}
	return lambda{names, c.args[len(c.args)-1]}, nil
}

func lambdaVariable(c *invocation, v []any) (any, error) {
	name, err := c.text(v, 0)
	if err != nil {
		return nil, err
	}
	value, ok := c.locals[lower(name)]
	if !ok {
		return nil, c.fail("no lambda around it has a variable '%s'.", clip(name))
	}
	return value, nil
}

// apply calls a lambda. One of fewer names takes fewer of the values.
func (c *invocation) apply(f lambda, values ...any) (any, error) {
	inner := c.scope
	inner.locals = map[string]any{}
	for k, v := range c.locals {
		inner.locals[k] = v
	}
	for i, name := range f.names {
		if i < len(values) {
			inner.locals[name] = values[i]
		}
	}
	return inner.node(f.body)
}

// function evaluates an argument that must be a lambda of the given number of names.
func (c *invocation) function(i, least, most int) (lambda, error) {
	v, err := c.arg(i)
	if err != nil {
		return lambda{}, err
	}
	f, ok := v.(lambda)
	if !ok || len(f.names) < least || len(f.names) > most {
		return lambda{}, c.fail("argument %d must be lambda() with %d to %d names.", i+1, least, most)
	}
	return f, nil
}

// over evaluates the array in the first argument; not known yet: ok is false.
func (c *invocation) over() (list []any, ok bool, err error) {
	v, err := c.arg(0)
	if err != nil || c.w.open(v) {
		return nil, false, err
	}
	list, err = c.list([]any{v}, 0)
	return list, err == nil, err
}

func mapList(c *invocation) (any, error) {
	l, ok, err := c.over()
	if !ok {
		return unknown{}, err
	}
	f, err := c.function(1, 1, 2)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(l))
	for i, x := range l {
		if out[i], err = c.apply(f, x, int64(i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// says evaluates a lambda that answers true or false.
func (c *invocation) says(f lambda, values ...any) (bool, bool, error) {
	v, err := c.apply(f, values...)
	if err != nil || c.w.open(v) {
		return false, false, err
	}
	b, err := c.truth(v, 1)
	return b, err == nil, err
}

func filter(c *invocation) (any, error) {
	l, ok, err := c.over()
	if !ok {
		return unknown{}, err
	}
	f, err := c.function(1, 1, 2)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for i, x := range l {
		keep, known, err := c.says(f, x, int64(i))
		if !known {
			return unknown{}, err
		}
		if keep {
			out = append(out, x)
		}
	}
	return out, nil
}

func reduce(c *invocation) (any, error) {
	l, ok, err := c.over()
	if !ok {
		return unknown{}, err
	}
	sum, err := c.arg(1)
	if err != nil {
		return nil, err
	}
	f, err := c.function(2, 2, 3)
	if err != nil {
		return nil, err
	}
	for i, x := range l {
		if sum, err = c.apply(f, sum, x, int64(i)); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

func sortList(c *invocation) (any, error) {
	l, ok, err := c.over()
	if !ok {
		return unknown{}, err
	}
	f, err := c.function(1, 2, 2)
	if err != nil {
		return nil, err
	}
	out := append([]any{}, l...)
	unsure := false
	slices.SortStableFunc(out, func(a, b any) int {
		if err != nil || unsure {
			return 0
		}
		for i, pair := range [][2]any{{a, b}, {b, a}} {
			before, known, e := c.says(f, pair[0], pair[1])
			if !known {
				err, unsure = e, true
				return 0
			}
			if before {
				return 2*i - 1
			}
		}
		return 0
	})
	if unsure {
		return unknown{}, err
	}
	return out, nil
}

func toObject(c *invocation) (any, error) {
	l, ok, err := c.over()
	if !ok {
		return unknown{}, err
	}
	key, err := c.function(1, 1, 1)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, x := range l {
		k, err := c.apply(key, x)
		if err != nil || c.w.open(k) {
			return unknown{}, err
		}
		name, ok := k.(string)
		if !ok {
			return nil, c.fail("the name of a property must be a string, not %s.", typeName(k))
		}
		if len(c.args) == 3 {
			value, err := c.function(2, 1, 1)
			if err != nil {
				return nil, err
			}
			if x, err = c.apply(value, x); err != nil {
				return nil, err
			}
		}
		out[name] = x
	}
	return out, nil
}

func mapValues(c *invocation) (any, error) {
	v, err := c.arg(0)
	if err != nil || c.w.open(v) {
		return unknown{}, err
	}
	m, err := c.object([]any{v}, 0)
	if err != nil {
		return nil, err
	}
	f, err := c.function(1, 1, 1)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(m))
	for k, x := range m {
		if out[k], err = c.apply(f, x); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func groupBy(c *invocation) (any, error) {
	l, ok, err := c.over()
	if !ok {
		return unknown{}, err
	}
	f, err := c.function(1, 1, 1)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, x := range l {
		k, err := c.apply(f, x)
		if err != nil || c.w.open(k) {
			return unknown{}, err
		}
		name, ok := k.(string)
		if !ok {
			return nil, c.fail("the name of a group must be a string, not %s.", typeName(k))
		}
		group, _ := out[name].([]any)
		out[name] = append(group, x)
	}
	return out, nil
}
