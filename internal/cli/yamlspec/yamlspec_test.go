package yamlspec_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

// union is a field of two forms.
type union struct{ Text, Of string }

func (u *union) DecodeSpec(n yamlspec.Node) error {
	if n.Scalar() {
		u.Text = n.Text()
		return nil
	}
	var object struct {
		Of string `yaml:"of"`
	}
	if err := n.Decode(&object); err != nil {
		return err
	}
	u.Of = object.Of
	return nil
}

type schema struct {
	Name   string            `yaml:"name"`
	Tier   string            `yaml:"tier" oneof:"dedicated low_priority"`
	Count  int               `yaml:"count"`
	Public *bool             `yaml:"public"`
	Tags   map[string]string `yaml:"tags"`
	Ids    []string          `yaml:"ids"`
	Either union             `yaml:"either"`
	Many   map[string]union  `yaml:"many"`
	Deep   *struct {
		Count int `yaml:"count"`
	} `yaml:"deep"`
	Jobs string `yaml:"jobs" no:"pipelines are not built"`
}

func parse(t *testing.T, text string, set ...string) (schema, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var s schema
	d, err := yamlspec.Read(file)
	if err == nil {
		d.File = "a.yml"
		err = d.Set(set...)
	}
	if err == nil {
		err = d.Decode(&s)
	}
	if err != nil && strings.Contains(err.Error(), file) {
		err = &renamed{strings.ReplaceAll(err.Error(), file, "a.yml")}
	}
	return s, err
}

type renamed struct{ text string }

func (r *renamed) Error() string { return r.text }

func TestDecode(t *testing.T) {
	t.Parallel()
	yes := true
	for name, c := range map[string]struct {
		text string
		set  []string
		want schema
	}{
		"$schema is accepted, and a scalar is text as it was written": {"$schema: x\nname: 1.10\n", nil, schema{Name: "1.10"}},
		"a word that is allowed is taken in any case":                 {"tier: Low_Priority", nil, schema{Tier: "low_priority"}},
		"null is as if it were not there":                             {"name: null\ndeep: ~\ntags:\n", nil, schema{}},
		"a field of two forms reads itself":                           {"either: x\nmany: {a: 1, b: {of: z}}", nil, schema{Either: union{Text: "x"}, Many: map[string]union{"a": {Text: "1"}, "b": {Of: "z"}}}},
		"aliases and merges are followed":                             {"tags: &t {a: b}\ndeep: {count: 2}\nmany: {}\n", []string{"tags.c=d"}, schema{Tags: map[string]string{"a": "b", "c": "d"}, Many: map[string]union{}}},
		"--set goes over the file, into what is not there too":        {"name: a\ncount: 1", []string{"name=b", "deep.count=3", "public=true", "ids=[x, y]", "ids.1=z"}, schema{Name: "b", Count: 1, Public: &yes, Ids: []string{"x", "z"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parse(t, c.text, c.set...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Deep != nil {
				if got.Deep.Count < 2 {
					t.Errorf("deep: %+v", got.Deep)
				}
				got.Deep = nil
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, want string
		set        []string
	}{
		"a slip is named with what was meant":        {"name: a\ncuont: 2", `a.yml:2: cuont: there is no such field; did you mean count?`, nil},
		"a field from elsewhere gets all there are":  {"zebra: 2", `a.yml:1: zebra: there is no such field; there are: count, deep,`, nil},
		"a value is named with those allowed":        {"\n\ntier: cheap", `a.yml:3: tier: "cheap" is not allowed; there are: dedicated, low_priority`, nil},
		"a number is a number":                       {"deep:\n  count: two", `a.yml:2: deep.count: "two" is not a whole number`, nil},
		"quotes make text of true":                   {`public: "yes"`, `a.yml:1: public: "yes" is neither true nor false`, nil},
		"a list is no object":                        {"tags: [a]", `a.yml:1: tags: here is a list; fields are wanted`, nil},
		"an object is no value":                      {"name: {a: b}", `a.yml:1: name: here is an object; one value is wanted`, nil},
		"every mistake is told at once":              {"cuont: 2\ntier: x", "a.yml:2: tier:", nil},
		"a field twice":                              {"name: a\nname: b", "a.yml:2: name: this field stands in line 1 already", nil},
		"what is not built says its name":            {"jobs: {a: b}", "a.yml:1: jobs: pipelines are not built", nil},
		"inside a field that reads itself":           {"either:\n  off: z", "a.yml:2: either.off: there is no such field; did you mean of?", nil},
		"--set is named itself":                      {"name: a", `--set deep.count: "x" is not a whole number`, []string{"deep.count=x"}},
		"--set needs a value":                        {"name: a", `--set "name" is not FIELD=VALUE`, []string{"name"}},
		"broken YAML has its line":                   {"name: [a", "a.yml:1: did not find", nil},
		"an empty file":                              {"", "a.yml: the file is empty", nil},
		"two documents":                              {"name: a\n---\nname: b", "one document is taken", nil},
		"no object at all":                           {"- a", "a.yml:1: this is a list", nil},
		"an object that holds itself ends":           {"deep: &a {count: *a}", "one value is wanted", nil},
		"a merge that holds itself ends, with words": {"deep: &a {<<: *a}", "too deep", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(t, c.text, c.set...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestFlagsAreNamed(t *testing.T) {
	t.Parallel()
	d := yamlspec.Empty()
	if err := d.Put("--tier", "cheap", "tier"); err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := d.Decode(&s); err == nil || err.Error() != `--tier: "cheap" is not allowed; there are: dedicated, low_priority` {
		t.Errorf("got %v", err)
	}
}
