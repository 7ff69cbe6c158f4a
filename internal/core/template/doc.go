package template

import (
	"maps"
	"slices"
	"strings"
)

// doc is a template while it is made into a plan, and what its expressions see.
type doc struct {
	in        Input
	symbolic  bool // resources is an object: languageVersion 2.0
	functions map[string]own
	defs      map[string]map[string]any // parameters by name in lower case
	names     map[string]string         // parameters' names as typed
	params    map[string]*Parameter
	vars      map[string]variableDef
	cached    map[string]any // variables that are evaluated
	trail     []string       // what is being evaluated, to find circles
	guids     int            // how many newGuid() has made
	resources []*Resource
	loops     map[string][]int // resources by the name of their copy loop, or their symbolic name
	byID      map[string]int   // lower case
}

// own is a function that the template defines.
type own struct {
	names []string
	value any
	path  string
}

// variableDef is a variable, or a copy loop that makes one.
type variableDef struct {
	name  string
	value any
	loop  map[string]any // nil: no loop
	path  string
}

// read takes the parts of a template that are no resources.
func (d *doc) read() error {
	t := d.in.Template
	for _, key := range []string{"$schema", "contentVersion"} {
		if s, ok := t[key].(string); !ok || s == "" {
			return at("$."+key, bad("Deployment template validation failed: the required property '%s' must be a string.", key))
		}
	}
	for _, part := range []struct {
		key  string
		most int
		each func(name string, v any) error
	}{{"parameters", maxParameters, d.readParameter}, {"variables", maxVariables, d.readVariable}} {
		m, err := section(t, part.key, part.most)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if err := part.each(name, m[name]); err != nil {
				return err
			}
		}
	}
	return d.readFunctions()
}

// section returns a part of the template that must be an object.
func section(t map[string]any, key string, most int) (map[string]any, error) {
	v := t[key]
	m, ok := v.(map[string]any)
	if v != nil && !ok {
		return nil, at("$."+key, bad("Deployment template validation failed: '%s' must be an object, not %s.", key, typeName(v)))
	}
	if len(m) > most {
		return nil, at("$."+key, bad("Deployment template validation failed: there are %d %s; at most %d are allowed.", len(m), key, most))
	}
	return m, nil
}

func (d *doc) readParameter(name string, v any) error {
	m, ok := v.(map[string]any)
	path := "$.parameters." + name
	if !ok {
		return at(path, bad("Deployment template validation failed: the parameter '%s' must be an object with a type.", name))
	}
	if d.defs[lower(name)] != nil {
		return at(path, bad("Deployment template validation failed: the parameter '%s' is there twice, in different case.", name))
	}
	d.defs[lower(name)], d.names[lower(name)] = m, name
	return nil
}

func (d *doc) readVariable(name string, v any) error {
	path := "$.variables." + name
	if loops, ok := v.([]any); ok && name == "copy" && areLoops(loops) {
		for _, x := range loops {
			m, _ := x.(map[string]any)
			word, _ := m["name"].(string)
			d.vars[lower(word)] = variableDef{name: word, loop: m, path: path}
		}
		return nil
	}
	d.vars[lower(name)] = variableDef{name: name, value: v, path: path}
	return nil
}

func (d *doc) readFunctions() error {
	v := d.in.Template["functions"]
	list, ok := v.([]any)
	if v != nil && !ok {
		return at("$.functions", bad("Deployment template validation failed: 'functions' must be an array."))
	}
	for _, x := range list {
		m, _ := x.(map[string]any)
		space, members := text(m, "namespace"), object(m, "members")
		if space == "" || members == nil {
			return at("$.functions", bad("Deployment template validation failed: every element of 'functions' has a 'namespace' and 'members'."))
		}
		for name, f := range members {
			def, _ := f.(map[string]any)
			path := "$.functions." + space + "." + name
			out := object(def, "output")
			if out == nil {
				return at(path, bad("Deployment template validation failed: the function '%s' has no output.", name))
			}
			o := own{path: path, value: out["value"]}
			params, _ := def["parameters"].([]any)
			for _, p := range params {
				pm, _ := p.(map[string]any)
				o.names = append(o.names, text(pm, "name"))
			}
			d.functions[lower(space+"."+name)] = o
		}
	}
	return nil
}

// enter notes that something is being evaluated, and finds circles.
func (d *doc) enter(what string) error {
	if i := slices.Index(d.trail, what); i >= 0 {
		return bad("Deployment template validation failed: %s refers to itself: %s.", what, strings.Join(append(slices.Clone(d.trail[i:]), what), " → "))
	}
	d.trail = append(d.trail, what)
	return nil
}

func (d *doc) leave() { d.trail = d.trail[:len(d.trail)-1] }

// variable evaluates a variable when it is first used.
func (d *doc) variable(name string, from scope) (any, error) {
	def, ok := d.vars[lower(name)]
	if !ok {
		return nil, bad("The template variable '%s' is not found. The variables are: %s.", clip(name), d.listed(d.vars))
	}
	if v, ok := d.cached[lower(name)]; ok {
		return v, nil
	}
	if err := d.enter("variable '" + def.name + "'"); err != nil {
		return nil, err
	}
	defer d.leave()
	s := scope{d: d, w: from.w, place: inVariable, depth: from.depth}
	var v any
	var err error
	if def.loop != nil {
		v, err = s.repeat(def.name, def.loop["count"], def.loop["input"], def.path, true)
	} else {
		v, err = s.tree(def.value, def.path)
	}
	if err != nil {
		return nil, err
	}
	d.cached[lower(name)] = v
	return v, nil
}

func (d *doc) listed(vars map[string]variableDef) string {
	var names []string
	for _, v := range vars {
		names = append(names, v.name)
	}
	slices.Sort(names)
	return clip(strings.Join(names, ", "))
}

// find returns the resource that a name means: a symbolic name, an id, a whole
// name, or the last part of one if it is the only such.
func (d *doc) find(name string) *Resource {
	key := lower(name)
	if found := d.loops[key]; len(found) == 1 && d.resources[found[0]].Symbol != "" {
		return d.resources[found[0]]
	}
	if i, ok := d.byID[strings.TrimRight(key, "/")]; ok {
		return d.resources[i]
	}
	if found := d.named(name); len(found) == 1 {
		return d.resources[found[0]]
	}
	return nil
}

// named returns the resources of a name: those that are called so, or else those
// whose last part is.
func (d *doc) named(name string) []int {
	var whole, last []int
	for i, r := range d.resources {
		if same(r.Name, name) || r.Symbol != "" && same(r.instance(), name) {
			whole = append(whole, i)
		} else if same(r.Name[strings.LastIndexByte(r.Name, '/')+1:], name) {
			last = append(last, i)
		}
	}
	if len(whole) > 0 {
		return whole
	}
	return last
}
