package template

import "strings"

// function is one that templates may call.
type function struct {
	min, max int // arguments; max below 0: any number
	do       func(*invocation) (any, error)
	lazy     bool // it evaluates its arguments itself
}

// invocation is one call of a function.
type invocation struct {
	scope
	name string
	args []node
}

// fail says what is wrong with a call.
func (c *invocation) fail(format string, args ...any) error {
	e := bad(format, args...)
	e.Msg = "Unable to evaluate the template function '" + c.name + "': " + e.Msg
	return e
}

// arg evaluates one argument.
func (c *invocation) arg(i int) (any, error) { return c.node(c.args[i]) }

// functions by name in lower case. The table is filled here and never changed.
var functions map[string]function

func init() { // a table that mentions itself cannot be initialised in place
	functions = map[string]function{}
	for _, group := range []map[string]function{texts, lists, objects, logic, numbers, times, lambdas, deployments} {
		for name, f := range group {
			functions[lower(name)] = f
		}
	}
}

// values is a function's body once its arguments are evaluated.
type values func(c *invocation, v []any) (any, error)

// eager makes a function of one that wants its arguments evaluated. What is not
// known yet stays so, whatever is done with it.
func eager(f values) func(*invocation) (any, error) {
	return func(c *invocation) (any, error) {
		v := make([]any, len(c.args))
		later := false
		for i := range c.args {
			var err error
			if v[i], err = c.arg(i); err != nil {
				return nil, err
			}
			later = c.w.open(v[i]) || later
		}
		if later {
			return unknown{}, nil
		}
		return f(c, v)
	}
}

// nodesAStep is how many values may be looked at for one step of the budget, and
// bytesANode how much of a string counts as one: functions read the whole of it.
const (
	nodesAStep = 16
	bytesANode = 64
)

// open reports whether a part of a value is not known yet, within the budget.
func (w *work) open(v any) bool {
	open, nodes := scan(v)
	w.steps += nodes / nodesAStep
	return open
}

func hasUnknown(v any) bool {
	open, _ := scan(v)
	return open
}

// scan looks for what is not known yet, and counts the values it looked at.
func scan(v any) (open bool, nodes int) {
	nodes = 1
	switch v := v.(type) {
	case unknown:
		return true, nodes
	case string:
		return false, nodes + len(v)/bytesANode
	case []any:
		for _, x := range v {
			o, n := scan(x)
			open, nodes = open || o, nodes+n
		}
	case map[string]any:
		for _, x := range v {
			o, n := scan(x)
			open, nodes = open || o, nodes+n
		}
	}
	return open, nodes
}

// fn declares a function with evaluated arguments.
func fn(least, most int, f values) function { return function{least, most, eager(f), false} }

// Arguments by type. Each says which argument is wrong, and what it is.

func (c *invocation) wrong(v any, i int, want string) error {
	return c.fail("argument %d must be %s, not %s.", i+1, want, typeName(v))
}

func (c *invocation) text(v []any, i int) (string, error) {
	s, ok := v[i].(string)
	if !ok {
		return "", c.wrong(v[i], i, "a string")
	}
	return s, nil
}

func (c *invocation) whole(v []any, i int) (int64, error) {
	switch n := v[i].(type) {
	case int64:
		return n, nil
	case float64:
		if float64(int64(n)) == n {
			return int64(n), nil
		}
	}
	return 0, c.wrong(v[i], i, "a whole number")
}

func (c *invocation) list(v []any, i int) ([]any, error) {
	l, ok := v[i].([]any)
	if !ok {
		return nil, c.wrong(v[i], i, "an array")
	}
	return l, nil
}

func (c *invocation) object(v []any, i int) (map[string]any, error) {
	m, ok := v[i].(map[string]any)
	if !ok {
		return nil, c.wrong(v[i], i, "an object")
	}
	return m, nil
}

func (c *invocation) truth(v any, i int) (bool, error) {
	switch b := v.(type) {
	case bool:
		return b, nil
	case string:
		if same(b, "true") || same(b, "false") {
			return same(b, "true"), nil
		}
	}
	return false, c.wrong(v, i, "true or false")
}

// all asks that every argument is a string.
func (c *invocation) texts(v []any) ([]string, error) {
	out := make([]string, len(v))
	for i := range v {
		s, err := c.text(v, i)
		if err != nil {
			return nil, err
		}
		out[i] = s
	}
	return out, nil
}

// room charges for a string before it is made.
func (c *invocation) room(bytes int) error { return c.w.spend(bytes) }

// roomFor takes from the budget what a value needs.
func (c *invocation) roomFor(v any) error { return c.room(sizeOf(v, c.w.limits.Bytes)) }

func joined(words []string) string { return strings.Join(words, "-") }
