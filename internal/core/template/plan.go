package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// DeploymentType is the type of a deployment inside a deployment.
const DeploymentType = "Microsoft.Resources/deployments"

const groupType = "Microsoft.Resources/resourceGroups"

// Resource is one thing to put.
type Resource struct {
	Symbol     string // symbolic name; empty outside of languageVersion 2.0
	ID         string // ARM id
	Type       string
	Name       string // with those of its parents, as "workspace/cluster"
	APIVersion string
	Skip       bool // its condition is false
	Existing   bool // it is only referred to
	DependsOn  []int
	Path       string // JSON path in the template

	raw    map[string]any
	loops  []loop
	copied string   // name of its copy loop
	turn   int      // of the loop
	waits  []string // dependsOn, evaluated
	body   []string // the keys that go into its body
	serial int      // batch size; 0: all at once
}

func (r *Resource) instance() string {
	if r.copied == "" {
		return r.Symbol
	}
	return fmt.Sprintf("%s[%d]", r.Symbol, r.turn)
}

// Deployed reports whether the resource is to be put.
func (r *Resource) Deployed() bool { return !r.Skip && !r.Existing }

// Output is a value that a deployment gives back.
type Output struct {
	Type   string
	Value  any
	Secure bool // never to be shown
}

// Plan is what a template comes to. Its methods may be called at the same time.
type Plan struct {
	Resources  []*Resource
	Parameters []Parameter // by name

	mu sync.Mutex // the document remembers variables that it evaluated
	d  *doc
}

// New checks a template and its parameters and makes a plan of them. Errors are of
// type [*Error].
func New(in Input) (*Plan, error) {
	d := &doc{
		in: in, functions: map[string]own{}, defs: map[string]map[string]any{}, names: map[string]string{}, params: map[string]*Parameter{},
		vars: map[string]variableDef{}, cached: map[string]any{}, loops: map[string][]int{}, byID: map[string]int{},
	}
	if depthOf(in.Template) > maxDepth {
		return nil, bad("The template nests deeper than %d levels.", maxDepth)
	}
	w := newWork(in.Limits, nil)
	if err := d.read(); err != nil {
		return nil, err
	}
	if err := d.resolve(w); err != nil {
		return nil, err
	}
	if err := d.readResources(w); err != nil {
		return nil, err
	}
	p := &Plan{Resources: d.resources, d: d}
	for _, key := range slices.Sorted(maps.Keys(d.params)) {
		p.Parameters = append(p.Parameters, *d.params[key])
	}
	if err := d.connect(w); err != nil {
		return nil, err
	}
	if _, _, err := d.outputs(w); err != nil {
		return nil, err
	}
	return p, nil
}

// Body evaluates what is put for a resource. While needs are not empty there is no
// body yet: fetch them, add them to known, and ask again.
func (p *Plan) Body(i int, known Known) (map[string]any, []Need, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := newWork(p.d.in.Limits, known)
	body, err := p.d.evaluate(w, p.Resources[i])
	if len(w.needs) > 0 {
		return nil, w.needs, nil
	}
	return body, nil, err
}

// Outputs evaluates the outputs, as Body does a body.
func (p *Plan) Outputs(known Known) (map[string]Output, []Need, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.d.outputs(newWork(p.d.in.Limits, known))
}

// evaluate makes the body of a resource.
func (d *doc) evaluate(w *work, r *Resource) (map[string]any, error) {
	s := scope{d: d, w: w, place: inBody, loops: r.loops}
	body := map[string]any{}
	for _, k := range r.body {
		v := r.raw[k]
		var err error
		if k == "properties" && same(r.Type, DeploymentType) {
			v, err = s.nested(v, r.Path+".properties")
		} else {
			v, err = s.tree(v, r.Path+"."+k)
		}
		if err != nil {
			return nil, err
		}
		body[k] = v
	}
	return body, nil
}

// nested evaluates the properties of a deployment in the template. Its template's
// expressions are its own (scope inner) or this template's (outer, the default).
func (s scope) nested(v any, path string) (any, error) {
	props, ok := v.(map[string]any)
	if !ok {
		return nil, at(path, bad("A deployment needs properties with a template."))
	}
	inner := same(text(object(props, "expressionEvaluationOptions"), "scope"), "inner")
	rest := maps.Clone(props)
	delete(rest, "template")
	out, err := s.object(rest, path)
	if err != nil {
		return nil, err
	}
	m, _ := out.(map[string]any)
	t, ok := props["template"]
	if ok && !inner {
		if t, err = s.tree(t, path+".template"); err != nil {
			return nil, err
		}
		t = escaped(t)
	}
	if ok {
		m["template"] = t
	}
	return m, nil
}

// escaped doubles the brackets of evaluated text, so that the next one to read it
// takes it for text.
func escaped(v any) any {
	switch v := v.(type) {
	case string:
		if strings.HasPrefix(v, "[") {
			return "[" + v
		}
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = escaped(x)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = escaped(x)
		}
		return out
	}
	return v
}

func (d *doc) outputs(w *work) (map[string]Output, []Need, error) {
	defs, err := section(d.in.Template, "outputs", maxOutputs)
	if err != nil {
		return nil, nil, err
	}
	out := map[string]Output{}
	for _, name := range slices.Sorted(maps.Keys(defs)) {
		path := "$.outputs." + name
		def, ok := defs[name].(map[string]any)
		if !ok {
			return nil, nil, at(path, bad("Deployment template validation failed: the output '%s' must be an object with a type and a value.", name))
		}
		o, ok, err := d.output(w, name, def, path)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			out[name] = o
		}
	}
	if len(w.needs) > 0 {
		return nil, w.needs, nil
	}
	return out, nil, nil
}

func (d *doc) output(w *work, name string, def map[string]any, path string) (Output, bool, error) {
	s := scope{d: d, w: w, place: inOutput}
	if cond, ok := def["condition"]; ok {
		v, err := s.tree(cond, path+".condition")
		if err != nil {
			return Output{}, false, err
		}
		if yes, isBool := v.(bool); isBool && !yes {
			return Output{}, false, nil
		}
	}
	c, err := d.constraint(def, path)
	if err != nil {
		return Output{}, false, err
	}
	o := Output{Type: c.typ, Secure: strings.HasPrefix(c.typ, "Secure")}
	if loop := object(def, "copy"); loop != nil {
		o.Value, err = s.repeat("", loop["count"], loop["input"], path+".copy", false)
	} else {
		o.Value, err = s.tree(def["value"], path+".value")
	}
	if err != nil {
		return o, false, err
	}
	if hasUnknown(o.Value) {
		return o, true, nil
	}
	if err := c.check(w, name, o.Value, 0); err != nil {
		return o, false, at(path, bad("The output '%s' must be of type %s, not %s.", name, c.typ, typeName(o.Value)))
	}
	return o, true, nil
}
