package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Parameter is a parameter with the value that it has in a deployment.
type Parameter struct {
	Name   string
	Type   string // as Azure writes it: String, SecureString, Int, Bool, Array, Object, SecureObject
	Value  any
	Secure bool // never to be shown or stored in clear
}

// types by name in lower case: Azure's spelling.
var types = map[string]string{
	"string": "String", "securestring": "SecureString", "int": "Int", "bool": "Bool", "array": "Array", "object": "Object", "secureobject": "SecureObject",
}

// resolve gives every parameter its value.
func (d *doc) resolve(w *work) error {
	for _, name := range slices.Sorted(maps.Keys(d.in.Parameters)) {
		if d.defs[lower(name)] == nil {
			return bad("Deployment template validation failed: 'The following parameters were supplied, but do not correspond to any parameters defined in the template: '%s'. The parameters defined in the template are: '%s'.'",
				clip(name), clip(strings.Join(slices.Sorted(maps.Values(d.names)), ", ")))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.defs)) {
		if _, err := d.parameter(d.names[key], scope{d: d, w: w}); err != nil {
			return err
		}
	}
	return nil
}

func (d *doc) parameter(name string, from scope) (*Parameter, error) {
	key := lower(name)
	if p := d.params[key]; p != nil {
		return p, nil
	}
	def := d.defs[key]
	if def == nil {
		return nil, bad("The template parameter '%s' is not found. The parameters are: %s.", clip(name), clip(strings.Join(slices.Sorted(maps.Values(d.names)), ", ")))
	}
	name = d.names[key]
	if err := d.enter("parameter '" + name + "'"); err != nil {
		return nil, err
	}
	defer d.leave()
	path := "$.parameters." + name
	s := scope{d: d, w: from.w, place: inParameter, depth: from.depth}
	c, err := d.constraint(def, path)
	if err != nil {
		return nil, err
	}
	p := &Parameter{Name: name, Type: c.typ, Secure: strings.HasPrefix(c.typ, "Secure")}
	if p.Value, err = d.given(s, name, def, c, path); err != nil {
		return nil, err
	}
	if err := c.check(s.w, name, p.Value, 0); err != nil {
		return nil, at(path, err)
	}
	d.params[key] = p
	return p, nil
}

// given returns the value that a parameter is given, or its default.
func (d *doc) given(s scope, name string, def map[string]any, c constraint, path string) (any, error) {
	if v, ok := field(d.in.Parameters, name); ok {
		m, isObject := v.(map[string]any)
		switch {
		case !isObject:
			return nil, at(path, bad("Deployment template validation failed: the parameter '%s' must be given as {\"value\": …}.", name))
		case m["reference"] != nil:
			return nil, at(path, bad("Deployment template validation failed: the parameter '%s' is a reference to a key vault, and key vaults hold no secrets here. Give the value itself.", name))
		}
		if value, ok := field(m, "value"); ok && (value != nil || c.nullable) {
			return value, nil
		}
		if _, has := def["defaultValue"]; !has && !c.nullable {
			return nil, at(path, bad("Deployment template validation failed: the value of the parameter '%s' is null.", name))
		}
	}
	if v, ok := def["defaultValue"]; ok {
		return s.tree(v, path+".defaultValue")
	}
	if c.nullable {
		return nil, nil
	}
	return nil, at(path, bad("Deployment template validation failed: 'The value for the template parameter '%s' is not provided. Give it in the parameters file, or with --parameters %s=….'", name, name))
}

// constraint is what a parameter's value must be: a type and its limits, from the
// definition or the one it refers to.
type constraint struct {
	typ        string
	nullable   bool
	def        map[string]any
	items      *constraint
	properties map[string]*constraint
}

func (d *doc) constraint(def map[string]any, path string) (constraint, error) {
	return d.constrain(def, path, 0)
}

func (d *doc) constrain(def map[string]any, path string, depth int) (constraint, error) {
	nullable := def["nullable"] == true
	for ref := text(def, "$ref"); ref != ""; ref = text(def, "$ref") {
		name, ok := strings.CutPrefix(ref, "#/definitions/")
		next := object(object(d.in.Template, "definitions"), name)
		if depth++; !ok || next == nil || depth > 20 {
			return constraint{}, at(path, bad("Deployment template validation failed: the type '%s' is not defined in the template's 'definitions'.", clip(ref)))
		}
		def = next
		nullable = nullable || def["nullable"] == true
	}
	typ, ok := types[lower(text(def, "type"))]
	if !ok {
		return constraint{}, at(path, bad("Deployment template validation failed: the type '%s' is not one of: %s.", clip(text(def, "type")), strings.Join(slices.Sorted(maps.Values(types)), ", ")))
	}
	c := constraint{typ: typ, nullable: nullable, def: def}
	if depth > 20 { // a type that holds itself: the inner ones are not looked at
		return c, nil
	}
	if items := object(def, "items"); items != nil {
		inner, err := d.constrain(items, path, depth+5)
		if err != nil {
			return c, err
		}
		c.items = &inner
	}
	if props := object(def, "properties"); props != nil && len(props) <= 100 && depth <= 10 {
		c.properties = map[string]*constraint{}
		for k, v := range props {
			m, _ := v.(map[string]any)
			inner, err := d.constrain(m, path, depth+5)
			if err != nil {
				return c, err
			}
			c.properties[k] = &inner
		}
	}
	return c, nil
}

// check says what is wrong with a value; nil: nothing.
func (c constraint) check(w *work, name string, v any, depth int) error {
	if v == nil && c.nullable {
		return nil
	}
	fits := false
	size := 0
	switch v := v.(type) {
	case string:
		fits, size = c.typ == "String" || c.typ == "SecureString", len([]rune(v))
	case int64:
		fits = c.typ == "Int"
	case bool:
		fits = c.typ == "Bool"
	case []any:
		fits, size = c.typ == "Array", len(v)
	case map[string]any:
		fits = c.typ == "Object" || c.typ == "SecureObject"
	}
	if !fits {
		return bad("Deployment template validation failed: 'Template parameter '%s' has a value of the wrong type. Expected '%s'. Actual '%s'.'", name, c.typ, typeName(v))
	}
	if err := c.limits(w, name, v, size); err != nil {
		return err
	}
	if depth > 10 {
		return nil
	}
	return c.inner(w, name, v, depth)
}

func (c constraint) limits(w *work, name string, v any, size int) error {
	shown := "'" + clip(show(v)) + "'"
	if strings.HasPrefix(c.typ, "Secure") {
		shown = "it was given" // never the value
	}
	if allowed, ok := c.def["allowedValues"].([]any); ok {
		list, _ := v.([]any)
		_, nodes := scan(allowed)
		w.steps += (1 + len(list)) * nodes / nodesAStep // each may be compared with each
		if err := w.spend(0); err != nil {
			return err
		}
		ok := slices.ContainsFunc(allowed, func(x any) bool { return equal(x, v, new(int)) })
		if l, isList := v.([]any); isList && !ok { // of an array, each element may be one of them
			ok = !slices.ContainsFunc(l, func(y any) bool {
				return !slices.ContainsFunc(allowed, func(x any) bool { return equal(x, y, new(int)) })
			})
		}
		if !ok {
			return bad("Deployment template validation failed: 'The provided value %s for the template parameter '%s' is not valid. The value is not part of the allowed values: '%s'.'", shown, name, clip(strings.Trim(encode(allowed), "[]")))
		}
	}
	for _, l := range []struct {
		key  string
		n    int64
		what string
		sort string
	}{{"minLength", int64(size), "length", "min"}, {"maxLength", int64(size), "length", "max"}, {"minValue", number(v), "value", "min"}, {"maxValue", number(v), "value", "max"}} {
		limit, ok := c.def[l.key].(int64)
		if _, isNumber := v.(int64); !ok || isNumber != (l.what == "value") {
			continue
		}
		if l.sort == "min" && l.n < limit || l.sort == "max" && l.n > limit {
			return bad("Deployment template validation failed: 'The provided value for the template parameter '%s' is not valid. The %s is %s and the parameter's %s is %d.'", name, l.what, counted(c, l.n), l.key, limit)
		}
	}
	return nil
}

func counted(c constraint, n int64) string {
	if strings.HasPrefix(c.typ, "Secure") {
		return "not within it"
	}
	return fmt.Sprint(n)
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}

// inner checks the elements of arrays and the properties of objects that have types.
func (c constraint) inner(w *work, name string, v any, depth int) error {
	switch v := v.(type) {
	case []any:
		if c.items != nil {
			for i, x := range v {
				if err := c.items.check(w, fmt.Sprintf("%s[%d]", name, i), x, depth+1); err != nil {
					return err
				}
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(c.properties)) {
			x, ok := field(v, k)
			if !ok && c.properties[k].nullable {
				continue
			}
			if err := c.properties[k].check(w, name+"."+k, x, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
