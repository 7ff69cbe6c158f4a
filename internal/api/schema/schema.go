// Package schema holds request bodies to the official specification of Azure
// Machine Learning, api-version 2024-04-01, and says which property is wrong and
// what it may be. Start at [Checked].
//
// It is more lenient than the specification where clients need it: null is
// allowed everywhere, and so is an empty object for what is optional; words of
// an enumeration count in any case; properties that are not known are kept;
// read-only ones are ignored. Bodies of other api-versions pass as they are.
//
// schema.json is made by bundle.go from Microsoft's azure-rest-api-specs (MIT; the
// licence lies beside it). A library for OpenAPI was measured first: to build the
// same types takes it 80 ms and 35 MB, and its errors are made for people who
// know the schema. These are parsed one by one when first needed.
package schema

import (
	_ "embed" // schema.json
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

//go:embed schema.json
var text []byte

// Type is what a value may be. Where By is set it is the base of others: the
// value of that property names the one that applies.
type Type struct {
	Ref        string            `json:"ref"`
	All        []string          `json:"allOf"` // bases, whose properties it has too
	Type       string            `json:"type"`
	Format     string            `json:"format"` // duration and int32 only
	Enum       []any             `json:"enum"`
	Required   []string          `json:"required"`
	Properties map[string]*Type  `json:"properties"`
	Items      *Type             `json:"items"`
	Values     *Type             `json:"values"` // of an object that is a map
	MinLength  int               `json:"minLength"`
	MaxLength  int               `json:"maxLength"`
	Pattern    string            `json:"pattern"`
	Minimum    *float64          `json:"minimum"`
	Maximum    *float64          `json:"maximum"`
	ReadOnly   bool              `json:"readOnly"`
	By         string            `json:"by"`
	Kinds      map[string]string `json:"kinds"` // by the value of By

	pattern *regexp.Regexp
}

// bundled is schema.json, its types still unparsed.
type bundled struct {
	Bodies  map[string]*Type            `json:"bodies"`
	Answers map[string]map[string]*Type `json:"answers"` // by status
	Types   map[string]json.RawMessage  `json:"types"`

	mu     sync.Mutex
	parsed map[string]*Type
}

// optional are properties that Azure requires and Ebb does not: a job without an
// environment runs with what its node has.
var optional = map[string]string{"CommandJob": "environmentId"}

var spec = sync.OnceValue(func() *bundled {
	b := &bundled{parsed: map[string]*Type{}}
	if err := json.Unmarshal(text, b); err != nil {
		panic("schema: schema.json: " + err.Error()) // it is ours, and a test reads all of it
	}
	return b
})

// named returns a type by its name.
func (b *bundled) named(name string) *Type {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t, ok := b.parsed[name]; ok {
		return t
	}
	t := &Type{}
	if err := json.Unmarshal(b.Types[name], t); err != nil {
		panic("schema: type " + name + ": " + err.Error())
	}
	t.compile()
	t.Required = slices.DeleteFunc(t.Required, func(key string) bool { return key == optional[name] })
	b.parsed[name] = t
	return t
}

// compile prepares the patterns inside a type.
func (t *Type) compile() {
	if t.Pattern != "" {
		t.pattern = regexp.MustCompile(t.Pattern)
	}
	for _, p := range t.Properties {
		p.compile()
	}
	for _, p := range []*Type{t.Items, t.Values} {
		if p != nil {
			p.compile()
		}
	}
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// operation is the key of a route: parameters have no name, and case does not count.
func operation(pattern string) string {
	method, path, _ := strings.Cut(pattern, " ")
	return method + " " + strings.ToLower(parameter.ReplaceAllString(path, "{}"))
}

// Body returns what the body of a request may be; nil where the specification has
// none. A pattern is "METHOD /path/{parameter}".
func Body(pattern string) *Type { return spec().Bodies[operation(pattern)] }

// Answer returns what an answer may be; nil where the specification has none, or
// schema.json leaves it out.
func Answer(pattern string, status int) *Type {
	return spec().Answers[operation(pattern)][fmt.Sprint(status)]
}
