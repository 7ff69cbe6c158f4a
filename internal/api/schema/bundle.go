//go:build ignore

// Bundle makes schema.json from a checkout of Microsoft's azure-rest-api-specs:
//
//	go run bundle.go SPECS/specification
//
// It keeps what requests are held to and drops the rest: the types that a body of
// an operation on workspaces can reach, and those of the answers that tests look
// at. Types of the specification's many files share one name space; base types are
// listed in allOf, and the types derived from them under their discriminator.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const stable = "machinelearningservices/resource-manager/Microsoft.MachineLearningServices/stable/2024-04-01"

// answersOf finds the paths whose answers are kept too.
var answersOf = regexp.MustCompile(`/computes|/usages$|uotas$|/vmsizes$`)

// object is JSON as it was read.
type object = map[string]any

// bundle is what is being made.
type bundle struct {
	files map[string]object // by clean path
	types map[string]object
	from  map[string]string // of each type, the file: two of one name would be a mistake
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run bundle.go SPECS/specification")
	}
	b := bundle{files: map[string]object{}, types: map[string]object{}, from: map[string]string{}}
	at := filepath.Join(os.Args[1], stable)
	sources := []string{filepath.Join(at, "machineLearningServices.json"), filepath.Join(at, "mfe.json")}
	for _, s := range sources {
		b.load(s) // derived types are looked for in all of them
	}
	bodies, answers := map[string]any{}, map[string]any{}
	for _, s := range sources {
		paths := b.files[s]["paths"].(object)
		for _, path := range slices.Sorted(maps.Keys(paths)) {
			item := paths[path].(object)
			for _, method := range slices.Sorted(maps.Keys(item)) {
				if strings.Contains(path, "/registries") {
					continue
				}
				b.operation(s, strings.ToUpper(method)+" "+key(path), item[method].(object), bodies, answers)
			}
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(object{"bodies": bodies, "answers": answers, "types": b.types}); err != nil {
		log.Fatal(err)
	}
	// One line a type, so that a later specification can be compared.
	text := strings.ReplaceAll(out.String(), `},"`, "},\n\"")
	if err := os.WriteFile("schema.json", []byte(text), 0o644); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(bodies), "bodies,", len(b.types), "types,", len(text), "bytes")
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// key is a path whose parameters have no name, in lower case, as schema.go has it.
func key(path string) string { return strings.ToLower(parameter.ReplaceAllString(path, "{}")) }

func (b *bundle) operation(file, name string, op object, bodies, answers object) {
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		p := p.(object)
		if r, ok := p["$ref"].(string); ok && strings.HasPrefix(r, "#/parameters/") {
			p = b.files[file]["parameters"].(object)[strings.TrimPrefix(r, "#/parameters/")].(object)
		}
		if p["in"] == "body" {
			bodies[name] = b.schema(file, p["schema"].(object))
		}
	}
	if !answersOf.MatchString(name) {
		return
	}
	of := object{}
	responses := op["responses"].(object)
	for _, status := range slices.Sorted(maps.Keys(responses)) {
		if s, ok := responses[status].(object)["schema"].(object); ok && status != "default" {
			of[status] = b.schema(file, s)
		}
	}
	if len(of) > 0 {
		answers[name] = of
	}
}

func (b *bundle) load(path string) object {
	path = filepath.Clean(path)
	if doc, ok := b.files[path]; ok {
		return doc
	}
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	var doc object
	if err := json.Unmarshal(text, &doc); err != nil {
		log.Fatal(path, ": ", err)
	}
	b.files[path] = doc
	return doc
}

// ref takes a type in, with all that it refers to, and returns its name.
func (b *bundle) ref(file, to string) string {
	doc, fragment, _ := strings.Cut(to, "#/definitions/")
	if doc != "" {
		file = filepath.Join(filepath.Dir(file), doc)
	}
	def := b.load(file)["definitions"].(object)[fragment].(object)
	name := fragment
	if other, ok := b.from[name]; ok && other != file { // two files may each have a type of that name
		name += "In" + strings.TrimSuffix(filepath.Base(file), ".json")
	}
	if _, ok := b.types[name]; ok {
		return name
	}
	b.from[name] = file
	b.types[name] = object{} // it may refer to itself
	t := b.schema(file, def)
	b.types[name] = t
	if by, ok := def["discriminator"].(string); ok {
		kinds := object{}
		b.derived(fragment, kinds)
		t["by"], t["kinds"] = by, kinds
	}
	return name
}

// derived finds the types that have a base, directly or through others.
func (b *bundle) derived(base string, kinds object) {
	for _, file := range slices.Sorted(maps.Keys(b.files)) {
		defs, _ := b.files[file]["definitions"].(object)
		for _, name := range slices.Sorted(maps.Keys(defs)) {
			def := defs[name].(object)
			all, _ := def["allOf"].([]any)
			for _, a := range all {
				if r, _ := a.(object)["$ref"].(string); strings.HasSuffix(r, "#/definitions/"+base) {
					if kind, ok := def["x-ms-discriminator-value"].(string); ok {
						kinds[kind] = b.ref(file, "#/definitions/"+name)
					}
					b.derived(name, kinds)
				}
			}
		}
	}
}

// schema keeps of a schema what values are checked against.
func (b *bundle) schema(file string, s object) object {
	out := object{}
	for _, k := range []string{"type", "required", "minLength", "maxLength", "pattern", "minimum", "maximum", "enum"} {
		if v, ok := s[k]; ok {
			out[k] = v
		}
	}
	if s["format"] == "duration" || s["format"] == "int32" {
		out["format"] = s["format"]
	}
	if s["readOnly"] == true {
		out["readOnly"] = true
	}
	if r, ok := s["$ref"].(string); ok {
		out["ref"] = b.ref(file, r)
	}
	if all, ok := s["allOf"].([]any); ok {
		var refs []string
		for _, a := range all {
			refs = append(refs, b.ref(file, a.(object)["$ref"].(string)))
		}
		out["allOf"] = refs
	}
	if props, ok := s["properties"].(object); ok {
		of := object{}
		for _, k := range slices.Sorted(maps.Keys(props)) {
			of[k] = b.schema(file, props[k].(object))
		}
		out["properties"] = of
	}
	if inner, ok := s["items"].(object); ok {
		out["items"] = b.schema(file, inner)
	}
	if inner, ok := s["additionalProperties"].(object); ok {
		out["values"] = b.schema(file, inner)
	}
	return out
}
