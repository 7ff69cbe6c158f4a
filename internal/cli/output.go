package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/jmespath/go-jmespath"
	"gopkg.in/yaml.v3"
)

// object is a JSON object whose keys keep their order: people read them in it,
// and TSV has nothing else to go by.
type object []field

type field struct {
	Key   string
	Value any
}

// MarshalJSON writes the fields in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := plainJSON(f.Key)
		if err != nil {
			return nil, err
		}
		value, err := plainJSON(f.Value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// plainJSON leaves <, > and & as they are, as az does: nobody puts it into HTML.
// The encoder of what this is part of cannot undo it.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func (o object) get(key string) any {
	for _, f := range o {
		if f.Key == key {
			return f.Value
		}
	}
	return nil
}

// add appends a field unless its value is empty.
func (o *object) add(key string, value any) {
	switch v := value.(type) {
	case nil:
		return
	case string:
		if v == "" {
			return
		}
	case map[string]string:
		if len(v) == 0 {
			return
		}
	case object:
		if len(v) == 0 {
			return
		}
	case []object:
		if len(v) == 0 {
			return
		}
	}
	*o = append(*o, field{key, value})
}

// formats are those of az; what is coloured there is not here.
var formats = []string{"table", "json", "jsonc", "yaml", "yamlc", "tsv", "none"}

func (a *app) checkOutput() error {
	switch {
	case a.output == "" && a.ml:
		if a.output = a.getenv("AZURE_CORE_OUTPUT"); !slices.Contains(formats, a.output) { // az's variable
			a.output = "json"
		}
	case a.output == "":
		a.output = "table"
	case !slices.Contains(formats, a.output):
		return usagef("no output format %q; there are: %s", a.output, strings.Join(formats, ", "))
	}
	a.output = strings.TrimSuffix(a.output, "c")
	if a.query != "" {
		if _, err := jmespath.Compile(a.query); err != nil {
			return usagef("--query: %w", err)
		}
	}
	return nil
}

// printList shows a list: as a table of the columns, or whole in another format.
func (a *app) printList(list []object, columns []column, none string) error {
	if a.output == "table" && a.query == "" {
		if len(list) == 0 {
			fmt.Fprintln(a.Stderr, none)
			return nil
		}
		return a.writeTable(columns, list)
	}
	if list == nil {
		list = []object{}
	}
	return a.print(list)
}

// printAll shows a list as it comes, most of it at most, unless that is 0. What
// has no shape is left out.
func printAll[T any](a *app, seq iter.Seq2[T, error], most int, shape func(T) object, columns []column, none string) error {
	list := []object{}
	for v, err := range seq {
		if err != nil {
			return err
		}
		if o := shape(v); o != nil {
			list = append(list, o)
		}
		if len(list) == most && most > 0 {
			break
		}
	}
	return a.printList(list, columns, none)
}

// grouped adds what az adds to everything that has an id.
func grouped(data any) any {
	switch v := data.(type) {
	case []object:
		out := make([]object, len(v))
		for i, o := range v {
			out[i] = grouped(o).(object)
		}
		return out
	case object:
		if id, ok := v.get("id").(string); ok && groupIn(id) != "" && v.get("resourceGroup") == nil {
			return append(slices.Clone(v), field{"resourceGroup", groupIn(id)})
		}
	}
	return data
}

// print shows one object, or what --query makes of it.
func (a *app) print(data any) error {
	if a.ml {
		data = grouped(data)
	}
	if a.query != "" {
		picked, err := pick(a.query, data)
		if err != nil {
			return err
		}
		if picked == nil {
			return nil // as az
		}
		data = picked
	}
	switch a.output {
	case "none":
		return nil
	case "json":
		return writeJSON(a.Stdout, data)
	case "yaml":
		return writeYAML(a.Stdout, data)
	case "tsv":
		return writeTSV(a.Stdout, data)
	}
	return a.printTable(data)
}

// pick applies a JMESPath expression.
func pick(query string, data any) (any, error) {
	plain, err := plainOf(data)
	if err != nil {
		return nil, err
	}
	got, err := jmespath.Search(query, plain)
	if err != nil {
		return nil, usagef("--query: %w", err)
	}
	return ordered(got, keyOrder(query)), nil
}

func plainOf(data any) (any, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode the output: %w", err)
	}
	var plain any
	if err := json.Unmarshal(b, &plain); err != nil {
		return nil, fmt.Errorf("encode the output: %w", err)
	}
	return plain, nil
}

var queryKey = regexp.MustCompile(`["']?([A-Za-z_][A-Za-z0-9_ ]*)["']?\s*:`)

// keyOrder finds in which order a query names the keys of the objects it makes:
// the library gives them as maps, and columns are expected as they were typed.
func keyOrder(query string) map[string]int {
	order := map[string]int{}
	for i, m := range queryKey.FindAllStringSubmatch(query, -1) {
		if _, ok := order[m[1]]; !ok {
			order[m[1]] = i
		}
	}
	return order
}

func ordered(v any, order map[string]int) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = ordered(v[i], order)
		}
	case map[string]any:
		o := make(object, 0, len(v))
		for key, value := range v {
			o = append(o, field{key, ordered(value, order)})
		}
		slices.SortFunc(o, func(x, y field) int {
			i, iok := order[x.Key]
			j, jok := order[y.Key]
			switch {
			case iok && jok:
				return i - j
			case iok:
				return -1
			case jok:
				return 1
			}
			return strings.Compare(x.Key, y.Key)
		})
		return o
	}
	return v
}

func writeJSON(w io.Writer, data any) error {
	b, err := plainJSON(data)
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, b, "", "  "); err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	indented.WriteByte('\n')
	_, err = w.Write(indented.Bytes())
	return err
}

// writeYAML goes by way of JSON, which is YAML already and keeps the order.
func writeYAML(w io.Writer, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	var node yaml.Node
	if err := yaml.Unmarshal(b, &node); err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	var plain func(*yaml.Node)
	plain = func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode && len(n.Content) > 0 {
			n.Style = 0
		}
		if n.Kind == yaml.ScalarNode {
			n.Style = 0 // the encoder quotes again what needs it
		}
		for _, c := range n.Content {
			plain(c)
		}
	}
	plain(&node)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	return e.Close()
}

// saveYAML writes a file of its own.
func saveYAML(path string, data any) error {
	var b bytes.Buffer
	if err := writeYAML(&b, data); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// writeTSV follows az: a line per element; a list inside shows its length, an
// object inside nothing, null None.
func writeTSV(w io.Writer, data any) error {
	var b strings.Builder
	row := func(v any) {
		switch v := v.(type) {
		case object:
			for i, f := range v {
				if i > 0 {
					b.WriteByte('\t')
				}
				b.WriteString(tsvCell(f.Value))
			}
		case []any:
			for i, e := range v {
				if i > 0 {
					b.WriteByte('\t')
				}
				b.WriteString(tsvCell(e))
			}
		default:
			b.WriteString(tsvCell(v))
		}
		b.WriteByte('\n')
	}
	switch v := data.(type) {
	case []object:
		for _, o := range aligned(v) {
			row(o)
		}
	case []any:
		for _, e := range v {
			row(e)
		}
	default:
		row(data)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// aligned gives every object of a list the fields of all, in the order in which
// they are first seen, so that a column means one thing.
func aligned(list []object) []object {
	var names []string
	for _, o := range list {
		for _, f := range o {
			if !slices.Contains(names, f.Key) {
				names = append(names, f.Key)
			}
		}
	}
	out := make([]object, len(list))
	for i, o := range list {
		for _, name := range names {
			f := field{Key: name}
			if at := slices.IndexFunc(o, func(f field) bool { return f.Key == name }); at >= 0 {
				f = o[at]
			}
			out[i] = append(out[i], f)
		}
	}
	return out
}

func tsvCell(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case object, map[string]string:
		return ""
	case []object:
		return fmt.Sprint(len(v))
	case []string:
		return fmt.Sprint(len(v))
	case []any:
		return fmt.Sprint(len(v))
	case string:
		// A tab or a line break inside would be read as a border.
		return strings.NewReplacer("\t", " ", "\r\n", " ", "\n", " ").Replace(v)
	}
	return scalar(v)
}

// scalar writes a number without an exponent: JSON's numbers come as float64.
func scalar(v any) string {
	if f, ok := v.(float64); ok && f == float64(int64(f)) {
		return fmt.Sprint(int64(f))
	}
	return fmt.Sprint(v)
}
