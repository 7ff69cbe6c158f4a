package yamlspec

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ebb-compute/ebb/internal/core/near"
)

// Decoder is a field of more than one form, which reads itself.
type Decoder interface {
	DecodeSpec(n Node) error
}

// Node is a place in a document.
type Node struct {
	doc  *Doc
	yaml *yaml.Node
	path string // of the field, as resources.instance_count
}

const (
	deepest  = 64 // an alias may hold itself
	mistakes = 10 // that are worth reading at once
)

// Errorf is a mistake at this place.
func (n Node) Errorf(format string, args ...any) error {
	words := fmt.Sprintf(format, args...)
	switch {
	case n.yaml.LineComment != "" && n.yaml.Line == 0: // see [Doc.Put]
		return errors.New(n.yaml.LineComment + ": " + words)
	case n.yaml.Line > 0:
		words = fmt.Sprintf("%s:%d: %s: %s", n.doc.File, n.yaml.Line, n.path, words)
	case n.path != "":
		words = n.path + ": " + words
	}
	return errors.New(words)
}

// Scalar reports whether the place holds one value, not a list or an object.
func (n Node) Scalar() bool { return n.real().Kind == yaml.ScalarNode }

// Object reports whether the place holds fields.
func (n Node) Object() bool { return n.real().Kind == yaml.MappingNode }

// Text is a scalar as it was written.
func (n Node) Text() string { return n.real().Value }

// Literal is a scalar as az sends it, which is as Python writes it.
func (n Node) Literal() string {
	y := n.real()
	if y.ShortTag() == "!!bool" {
		if strings.EqualFold(y.Value, "true") {
			return "True"
		}
		return "False"
	}
	return y.Value
}

// Dir is what relative paths in the document are of.
func (n Node) Dir() string { return n.doc.Dir }

// Field returns one field of an object.
func (n Node) Field(name string) (Node, bool) {
	m := n.real()
	for i := 0; m.Kind == yaml.MappingNode && i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			return n.below(m.Content[i+1], name), true
		}
	}
	return Node{}, false
}

// YAML writes the place as a document of its own, for what is passed on as text.
func (n Node) YAML() (string, error) {
	b, err := yaml.Marshal(n.real())
	return string(b), err
}

func (n Node) real() *yaml.Node {
	y := n.yaml
	for i := 0; y.Kind == yaml.AliasNode && i < deepest; i++ {
		y = y.Alias
	}
	return y
}

func (n Node) below(y *yaml.Node, step string) Node {
	if n.path != "" {
		step = n.path + "." + step
	}
	return Node{doc: n.doc, yaml: y, path: step}
}

// Decode fills a pointer's value by its type: a struct's fields are those that
// the object may have, by their yaml tag.
//
//	oneof:"a b c"    the values that are allowed, in any case
//	no:"a sentence"  the schema has the field and Ebb does not take it
func (n Node) Decode(into any) error {
	return trim(n.decode(reflect.ValueOf(into).Elem(), "", 0))
}

// trim keeps the mistakes to what anybody reads at once.
func trim(err error) error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok || len(many.Unwrap()) <= mistakes {
		return err
	}
	all := many.Unwrap()
	return errors.Join(append(slices.Clone(all[:mistakes]), fmt.Errorf("and %d more", len(all)-mistakes))...)
}

func (n Node) decode(v reflect.Value, allowed string, depth int) error {
	if depth > deepest {
		return n.Errorf("this is too deep")
	}
	y := n.real()
	null := y.Kind == yaml.ScalarNode && y.Tag == "!!null"
	if v.CanAddr() {
		if d, ok := v.Addr().Interface().(Decoder); ok {
			if null {
				return nil
			}
			return d.DecodeSpec(n)
		}
	}
	if null {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return n.decode(v.Elem(), allowed, depth+1)
	case reflect.Struct:
		return n.object(v, depth)
	case reflect.Map:
		return n.mapping(v, depth)
	case reflect.Slice:
		return n.list(v, allowed, depth)
	}
	if y.Kind != yaml.ScalarNode {
		return n.Errorf("here is %s; one value is wanted", kindOf(y))
	}
	return n.scalar(v, y, allowed)
}

func (n Node) scalar(v reflect.Value, y *yaml.Node, allowed string) error {
	text := y.Value
	switch v.Kind() {
	case reflect.String:
		if allowed != "" {
			words := strings.Fields(allowed)
			i := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, text) })
			if i < 0 {
				return n.Errorf("%q is not allowed; %s", text, Choice(text, words))
			}
			text = words[i]
		}
		v.SetString(text)
	case reflect.Bool:
		var b bool
		if y.Tag == "!!str" || y.Decode(&b) != nil {
			return n.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return n.Errorf("%q is not a whole number", text)
		}
		v.SetInt(i)
	default:
		panic("yamlspec: a schema has a " + v.Kind().String() + " at " + n.path)
	}
	return nil
}

func (n Node) list(v reflect.Value, allowed string, depth int) error {
	y := n.real()
	if y.Kind != yaml.SequenceNode {
		return n.Errorf("here is %s; a list is wanted", kindOf(y))
	}
	out := reflect.MakeSlice(v.Type(), len(y.Content), len(y.Content))
	var errs []error
	for i, c := range y.Content {
		errs = gather(errs, n.below(c, strconv.Itoa(i)).decode(out.Index(i), allowed, depth+1))
	}
	v.Set(out)
	return errors.Join(errs...)
}

func (n Node) mapping(v reflect.Value, depth int) error {
	var errs []error
	out := reflect.MakeMap(v.Type())
	err := n.entries(func(key, value *yaml.Node) {
		element := reflect.New(v.Type().Elem()).Elem()
		errs = gather(errs, n.below(value, key.Value).decode(element, "", depth+1))
		out.SetMapIndex(reflect.ValueOf(key.Value), element)
	})
	if err != nil {
		return err
	}
	v.Set(out)
	return errors.Join(errs...)
}

func (n Node) object(v reflect.Value, depth int) error {
	fields := fieldsOf(v)
	var errs []error
	err := n.entries(func(key, value *yaml.Node) {
		at := n.below(value, key.Value)
		if at.yaml.Line != 0 {
			at.yaml = withLine(value, key.Line)
		}
		f, ok := fields[key.Value]
		switch {
		case !ok && key.Value == "$schema":
		case !ok:
			errs = append(errs, at.Errorf("there is no such field; %s", Choice(key.Value, namesOf(fields))))
		case f.no != "":
			errs = append(errs, at.Errorf("%s", f.no))
		default:
			errs = gather(errs, at.decode(f.value, f.allowed, depth+1))
		}
	})
	if err != nil {
		return err
	}
	return errors.Join(errs...)
}

// withLine is a node that speaks of its key's line: that is where people look
// for what begins below it.
func withLine(y *yaml.Node, line int) *yaml.Node {
	if y.Kind == yaml.ScalarNode || y.Line == line {
		return y
	}
	c := *y
	c.Line = line
	return &c
}

// entries calls do for each field of an object; those merged in with << come
// first, so that the object's own win.
func (n Node) entries(do func(key, value *yaml.Node)) error {
	y := n.real()
	if y.Kind != yaml.MappingNode {
		return n.Errorf("here is %s; fields are wanted", kindOf(y))
	}
	if strings.Count(n.path, "<<") > deepest {
		return n.Errorf("this is too deep")
	}
	if err := n.merged(y, do); err != nil {
		return err
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		if key.Tag == "!!merge" {
			continue
		}
		if key.Kind != yaml.ScalarNode {
			return n.below(key, "?").Errorf("a field's name is a word")
		}
		if line, ok := seen[key.Value]; ok {
			return n.below(key, key.Value).Errorf("this field stands in line %d already", line)
		}
		seen[key.Value] = key.Line
		do(key, value)
	}
	return nil
}

func (n Node) merged(y *yaml.Node, do func(key, value *yaml.Node)) error {
	for i := 0; i+1 < len(y.Content); i += 2 {
		if y.Content[i].Tag != "!!merge" {
			continue
		}
		from := n.below(y.Content[i+1], "<<")
		parts := []*yaml.Node{from.yaml}
		if list := from.real(); list.Kind == yaml.SequenceNode {
			parts = list.Content
		}
		for _, part := range slices.Backward(parts) { // the first of a list wins
			if err := n.below(part, "<<").entries(do); err != nil {
				return err
			}
		}
	}
	return nil
}

// schemaField is one field of a struct that is a schema.
type schemaField struct {
	value       reflect.Value
	allowed, no string
}

func fieldsOf(v reflect.Value) map[string]schemaField {
	fields := map[string]schemaField{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			for name, inner := range fieldsOf(v.Field(i)) {
				fields[name] = inner
			}
			continue
		}
		if name := f.Tag.Get("yaml"); name != "" {
			fields[name] = schemaField{v.Field(i), f.Tag.Get("oneof"), f.Tag.Get("no")}
		}
	}
	return fields
}

func namesOf(fields map[string]schemaField) []string {
	var names []string
	for name, f := range fields {
		if f.no == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Choice names what was probably meant, or all that there is.
func Choice(word string, names []string) string {
	if meant, ok := near.Meant(word, names); ok {
		return "did you mean " + meant + "?"
	}
	return "there are: " + strings.Join(names, ", ")
}

func kindOf(y *yaml.Node) string {
	switch y.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	if y.Tag == "!!null" {
		return "nothing"
	}
	return strconv.Quote(y.Value)
}

// gather flattens what the parts of an object found.
func gather(errs []error, err error) []error {
	if err == nil {
		return errs
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return append(errs, many.Unwrap()...)
	}
	return append(errs, err)
}
