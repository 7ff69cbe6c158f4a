package template

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// place says where an expression stands, for functions that only some places may use.
type place int

const (
	inParameter place = iota // a default value
	inVariable
	inHead // a name, type, condition or count: what must be known before anything is deployed
	inBody // properties
	inOutput
)

// work is one evaluation: what it has used up, and what it asked for.
type work struct {
	steps, bytes int
	limits       Limits
	known        Known
	needs        []Need
	seen         map[string]bool
}

func newWork(l Limits, known Known) *work {
	l.Steps, l.Bytes = cmp.Or(l.Steps, Ample.Steps), cmp.Or(l.Bytes, Ample.Bytes)
	return &work{limits: l, known: known, seen: map[string]bool{}}
}

// spend takes from the budget.
func (w *work) spend(bytes int) error {
	w.steps++
	w.bytes += bytes
	if w.steps > w.limits.Steps {
		return bad("The template takes more than %d steps to evaluate; make its copy loops or its functions' arguments smaller.", w.limits.Steps)
	}
	if w.bytes > w.limits.Bytes {
		return bad("The template makes more than %d MB of values; make its copy loops or its functions' arguments smaller.", w.limits.Bytes>>20)
	}
	return nil
}

// ask returns the answer to a need, or unknown.
func (w *work) ask(n Need) (any, error) {
	key := n.Key()
	if v, ok := w.known[key]; ok {
		return v, w.spend(sizeOf(v, w.limits.Bytes))
	}
	if !w.seen[key] {
		w.seen[key] = true
		w.needs = append(w.needs, n)
	}
	return unknown{}, nil
}

// loop is one turn of a copy loop.
type loop struct {
	name     string
	index    int64
	property bool // of a property: copyIndex() without a name means the resource's
}

// scope is what words mean where an expression stands.
type scope struct {
	d      *doc
	w      *work
	place  place
	loops  []loop
	locals map[string]any // lambda variables, by name in lower case
	given  map[string]any // the arguments of a function of the template's own; nil outside of one
	inside bool           // of such a function
	depth  int
}

func (s scope) deeper() (scope, error) {
	if s.depth++; s.depth > maxDepth {
		return s, bad("The template nests deeper than %d levels.", maxDepth)
	}
	return s, nil
}

// tree evaluates a value and everything in it. Where a need is met, the rest is
// evaluated all the same, so that all needs are met in one go.
func (s scope) tree(v any, path string) (any, error) {
	s, err := s.deeper()
	if err != nil {
		return nil, at(path, err)
	}
	if err := s.w.spend(8); err != nil {
		return nil, at(path, err)
	}
	switch v := v.(type) {
	case string:
		return s.leaf(v, path)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			if out[i], err = s.tree(x, path+"["+strconv.Itoa(i)+"]"); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		return s.object(v, path)
	}
	return v, nil
}

func (s scope) leaf(v, path string) (any, error) {
	met := len(s.w.needs)
	n, plain, err := expression(v)
	if err != nil {
		return nil, at(path, err)
	}
	if n == nil {
		return plain, at(path, s.w.spend(len(plain)))
	}
	out, err := s.node(n)
	if err != nil && len(s.w.needs) > met {
		return unknown{}, nil // it may be right once the needs are answered
	}
	if _, ok := out.(lambda); ok {
		err = bad("lambda() is only allowed as an argument of a function such as map.")
	}
	return out, at(path, err)
}

// object evaluates the properties of an object, and its keys: Bicep writes
// identities as keys that are expressions. A key "copy" with a list of loops makes properties.
func (s scope) object(v map[string]any, path string) (any, error) {
	out := make(map[string]any, len(v))
	for _, k := range slices.Sorted(maps.Keys(v)) {
		here := path + "." + k
		if loops, ok := v[k].([]any); ok && k == "copy" && areLoops(loops) {
			if err := s.copies(loops, out, here); err != nil {
				return nil, err
			}
			continue
		}
		key, err := s.leaf(k, here)
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if _, later := key.(unknown); !ok && !later {
			return nil, at(here, bad("The name of a property must be a string, not %s.", typeName(key)))
		}
		if out[name], err = s.tree(v[k], here); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// areLoops tells copy loops from a property that happens to be called copy.
func areLoops(list []any) bool {
	for _, x := range list {
		m, ok := x.(map[string]any)
		if !ok || m["name"] == nil || m["count"] == nil {
			return false
		}
		if _, ok := m["input"]; !ok {
			return false
		}
	}
	return len(list) > 0
}

// copies carries out copy loops of properties or variables.
func (s scope) copies(loops []any, into map[string]any, path string) error {
	for i, x := range loops {
		m, _ := x.(map[string]any)
		here := path + "[" + strconv.Itoa(i) + "]"
		name, err := s.tree(m["name"], here+".name")
		if err != nil {
			return err
		}
		word, ok := name.(string)
		if !ok || word == "" {
			return at(here+".name", bad("The name of a copy loop must be a string."))
		}
		if into[word], err = s.repeat(word, m["count"], m["input"], here, true); err != nil {
			return err
		}
	}
	return nil
}

// repeat evaluates input as often as count says.
func (s scope) repeat(name string, count, input any, path string, property bool) ([]any, error) {
	n, err := s.count(count, maxCopies, path+".count")
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, min(n, 64))
	for i := range int64(n) {
		turn := s
		turn.loops = append(slices.Clip(s.loops), loop{name, i, property})
		v, err := turn.tree(input, path+".input")
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// count evaluates how often a loop turns.
func (s scope) count(v any, most int, path string) (int, error) {
	if s.place == inBody {
		s.place = inHead
	}
	v, err := s.tree(v, path)
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	switch {
	case !ok:
		return 0, at(path, bad("The copy count must be a whole number, not %s.", typeName(v)))
	case n < 0 || n > int64(most):
		return 0, at(path, bad("The copy count is %d; it must be from 0 to %d.", n, most))
	}
	return int(n), nil
}

// node evaluates one part of an expression.
func (s scope) node(n node) (any, error) {
	s, err := s.deeper()
	if err != nil {
		return nil, err
	}
	if err := s.w.spend(0); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case literal:
		return n.value, nil
	case access:
		return s.access(n)
	case call:
		return s.call(n)
	}
	panic("template: a node of no known kind")
}

func (s scope) access(n access) (any, error) {
	of, err := s.node(n.of)
	if err != nil {
		return nil, err
	}
	index, err := s.node(n.index)
	if err != nil {
		return nil, err
	}
	if m, ok := of.(map[string]any); ok {
		s.w.steps += len(m) / nodesAStep // a name in other case is looked for in all of them
	}
	return get(of, index, n.safe)
}

// get returns a property of an object or an element of an array.
func get(of, index any, safe bool) (any, error) {
	switch of := of.(type) {
	case unknown:
		return unknown{}, nil
	case nil:
		if safe {
			return nil, nil
		}
		return nil, bad("The template language expression property '%s' can't be evaluated: its object is null.", clip(show(index)))
	case map[string]any:
		if name, ok := index.(string); ok {
			if v, ok := field(of, name); ok || safe {
				return v, nil
			}
			return nil, bad("The language expression property '%s' doesn't exist, available properties are '%s'.", clip(name), clip(strings.Join(slices.Sorted(maps.Keys(of)), ", ")))
		}
	case []any:
		if i, ok := index.(int64); ok {
			if i >= 0 && i < int64(len(of)) {
				return of[i], nil
			}
			if safe {
				return nil, nil
			}
			return nil, bad("The language expression property array index '%d' is out of bounds: the array has %d elements, from index 0.", i, len(of))
		}
	}
	if _, ok := index.(unknown); ok {
		return unknown{}, nil
	}
	return nil, bad("The language expression property '%s' can't be evaluated: a value of type %s has no element by %s.", clip(show(index)), typeName(of), typeName(index))
}

// call evaluates a function: its arguments first, unless it is one that chooses.
func (s scope) call(n call) (any, error) {
	if n.namespace != "" && !same(n.namespace, "sys") && !same(n.namespace, "az") {
		return s.own(n)
	}
	f, ok := functions[lower(n.name)]
	if !ok {
		if strings.HasPrefix(lower(n.name), "list") && len(n.args) >= 1 {
			f, ok = function{1, 3, eager(listAction), false}, true
		}
		if !ok {
			return nil, bad("The template function '%s' is not valid: it is none of Azure's, or one that is not part of Ebb.", clip(n.name))
		}
	}
	if len(n.args) < f.min || f.max >= 0 && len(n.args) > f.max {
		return nil, bad("The template function '%s' takes %s, not %d.", n.name, arity(f), len(n.args))
	}
	out, err := f.do(&invocation{scope: s, name: n.name, args: n.args})
	if err != nil {
		return nil, err
	}
	return out, s.w.spend(cost(out))
}

// cost is what a new value takes: strings whole; containers share their elements.
func cost(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []any:
		return 16 * len(v)
	case map[string]any:
		return 48 * len(v)
	}
	return 8
}

func arity(f function) string {
	words := func(n int) string {
		if n == 1 {
			return "1 argument"
		}
		return strconv.Itoa(n) + " arguments"
	}
	switch {
	case f.max < 0:
		return "at least " + words(f.min)
	case f.min == f.max:
		return words(f.min)
	}
	return strconv.Itoa(f.min) + " to " + words(f.max)
}

// own calls a function that the template defines.
func (s scope) own(n call) (any, error) {
	f, ok := s.d.functions[lower(n.namespace+"."+n.name)]
	if !ok {
		return nil, bad("The template function '%s.%s' is not defined in the template's 'functions'.", clip(n.namespace), clip(n.name))
	}
	if len(n.args) != len(f.names) {
		return nil, bad("The template function '%s.%s' takes %d arguments, not %d.", n.namespace, n.name, len(f.names), len(n.args))
	}
	given := map[string]any{}
	for i, arg := range n.args {
		v, err := s.node(arg)
		if err != nil {
			return nil, err
		}
		given[lower(f.names[i])] = v
	}
	inner := scope{d: s.d, w: s.w, place: s.place, given: given, inside: true, depth: s.depth}
	return inner.tree(f.value, f.path)
}
