// Package yamlspec reads the YAML files of "az ml" strictly: into structs whose
// fields are the schema, with every mistake named by file, line and field, and
// by what would be right. Start at [Read].
package yamlspec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Doc is a YAML file, or nothing yet, with what --set has put into it.
type Doc struct {
	File string // as it was named; empty: there is none
	Dir  string // what its relative paths are of
	root *yaml.Node
}

// Empty is a document without a file, for what flags alone say.
func Empty() *Doc { return &Doc{Dir: ".", root: &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}} }

// Read reads a file with one document, a mapping; "-" is standard input.
func Read(file string) (*Doc, error) {
	if file == "-" {
		return Parse("stdin", os.Stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Parse(file, f)
}

// Parse is [Read] for what is in r; file is its name.
func Parse(file string, r io.Reader) (*Doc, error) {
	d := Empty()
	d.File, d.Dir = file, filepath.Dir(file)
	reader := yaml.NewDecoder(r)
	var top yaml.Node
	switch err := reader.Decode(&top); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s: the file is empty", file)
	case err != nil:
		at := strings.TrimPrefix(err.Error(), "yaml: ")
		if line, ok := strings.CutPrefix(at, "line "); ok {
			return nil, fmt.Errorf("%s:%s", file, line)
		}
		return nil, fmt.Errorf("%s: %s", file, at)
	}
	var second yaml.Node
	if err := reader.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:%d: one document is taken, and here a second one begins", file, second.Line)
	}
	d.root = top.Content[0]
	if d.root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: this is %s; the file holds fields and their values", file, d.root.Line, kindOf(d.root))
	}
	return d, nil
}

// Set puts a value where a dotted path points, as "resources.instance_count=2"
// does; a step into a list is its index. The value is read as YAML.
func (d *Doc) Set(assignments ...string) error {
	for _, a := range assignments {
		path, text, ok := strings.Cut(a, "=")
		if !ok || path == "" {
			return fmt.Errorf("--set %q is not FIELD=VALUE", a)
		}
		var value yaml.Node
		if err := yaml.Unmarshal([]byte(text), &value); err != nil || len(value.Content) != 1 {
			value = yaml.Node{Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}}}
		}
		leaf := value.Content[0]
		comeFrom(leaf, "--set "+path)
		if err := put(d.root, strings.Split(path, "."), leaf); err != nil {
			return fmt.Errorf("--set %s: %w", a, err)
		}
	}
	return nil
}

// Put gives a field the value of a flag; a mistake in it is the flag's.
func (d *Doc) Put(flag, value string, path ...string) error {
	leaf := &yaml.Node{Kind: yaml.ScalarNode, Value: value, LineComment: flag}
	if err := put(d.root, path, leaf); err != nil {
		return fmt.Errorf("%s %s: %w", flag, value, err)
	}
	return nil
}

// PutList gives a field the values of a flag.
func (d *Doc) PutList(flag string, values []string, path ...string) error {
	list := &yaml.Node{Kind: yaml.SequenceNode, LineComment: flag}
	for _, v := range values {
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: v, LineComment: flag})
	}
	if err := put(d.root, path, list); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

// comeFrom takes the line off nodes that no file has, and says who set them.
func comeFrom(n *yaml.Node, who string) {
	n.Line, n.LineComment = 0, who
	for _, c := range n.Content {
		comeFrom(c, who)
	}
}

func put(n *yaml.Node, path []string, leaf *yaml.Node) error {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	step := path[0]
	switch {
	case n.Kind == yaml.SequenceNode:
		i, err := strconv.Atoi(step)
		if err != nil || i < 0 || i > len(n.Content) {
			return fmt.Errorf("%q is no index of a list of %d", step, len(n.Content))
		}
		if i == len(n.Content) {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"})
		}
		if len(path) == 1 {
			n.Content[i] = leaf
			return nil
		}
		return put(n.Content[i], path[1:], leaf)
	case n.Kind != yaml.MappingNode:
		// A value that is stepped into becomes an object: that is what was asked for.
		*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			if len(path) == 1 {
				n.Content[i+1] = leaf
				return nil
			}
			return put(n.Content[i+1], path[1:], leaf)
		}
	}
	next := leaf
	if len(path) > 1 {
		next = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: step}, next)
	if len(path) > 1 {
		return put(next, path[1:], leaf)
	}
	return nil
}

// Decode fills a struct, and returns every mistake there is.
func (d *Doc) Decode(into any) error {
	top := Node{doc: d, yaml: d.root}
	return top.Decode(into)
}

// Top returns the scalar of a field of the document, "" where there is none:
// what decides which schema the rest is of.
func (d *Doc) Top(field string) string {
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if d.root.Content[i].Value == field {
			return d.root.Content[i+1].Value
		}
	}
	return ""
}

// Has reports whether the document has a field.
func (d *Doc) Has(field string) bool {
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if d.root.Content[i].Value == field {
			return true
		}
	}
	return false
}

// Errorf is a mistake about a field of the document, by its line.
func (d *Doc) Errorf(field, format string, args ...any) error {
	at := Node{doc: d, yaml: d.root}
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if d.root.Content[i].Value == field {
			at = Node{doc: d, yaml: d.root.Content[i+1], path: field}
		}
	}
	return at.Errorf(format, args...)
}
