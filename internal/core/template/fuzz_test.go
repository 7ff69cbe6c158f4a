package template_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/template"
)

// promises holds whatever a template is: it ends, without panic, with a plan or
// an error that has Azure's code; twice the same; and its input stays as it was.
func promises(t *testing.T, in template.Input) {
	t.Helper()
	before := encoded(in.Template) + encoded(in.Parameters)
	first := outcome(t, in)
	if second := outcome(t, in); first != second {
		t.Errorf("%s\ncame to\n%s\nand then to\n%s", before, first, second)
	}
	if after := encoded(in.Template) + encoded(in.Parameters); after != before {
		t.Errorf("the input was changed from\n%s\nto\n%s", before, after)
	}
}

// outcome is everything that a template comes to, as text.
func outcome(t *testing.T, in template.Input) string {
	p, err := template.New(in)
	if err != nil {
		if e, ok := errors.AsType[*template.Error](err); !ok || e.Code == "" || e.Msg == "" {
			t.Errorf("%s: an error without a code or words: %#v", encoded(in.Template), err)
		}
		return err.Error()
	}
	var b strings.Builder
	for i, r := range p.Resources {
		b.WriteString(r.ID + " " + encoded(r.DependsOn) + "\n")
		if slices.Contains(r.DependsOn, i) {
			t.Errorf("%s waits for itself", r.ID)
		}
		if !r.Deployed() {
			continue
		}
		known := template.Known{}
		for range 4 { // a world where every resource is there
			body, needs, err := p.Body(i, known)
			b.WriteString(encoded(body) + problem(needs, err))
			if len(needs) == 0 {
				break
			}
			for _, n := range needs {
				known[n.Key()] = map[string]any{"id": n.ID, "properties": map[string]any{"x": "y"}}
			}
		}
	}
	out, needs, err := p.Outputs(nil)
	b.WriteString(encoded(out) + problem(needs, err))
	return b.String()
}

// commands returns what the scripts of testdata give to a command.
func commands(t testing.TB, verb string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		taking := false
		for line := range strings.Lines(string(text)) {
			switch rest, ok := strings.CutPrefix(line, verb+" "); {
			case ok:
				found, taking = append(found, rest), true
			case taking && strings.HasPrefix(line, " "):
				found[len(found)-1] += line
			default:
				taking = false
			}
		}
	}
	if len(found) < 10 {
		t.Fatalf("only %d of %s", len(found), verb)
	}
	return found
}

// withExpression is a template whose parts all hold an expression.
func withExpression(s string) template.Input {
	in := input()
	in.Template["parameters"] = map[string]any{"p": map[string]any{"type": "object", "defaultValue": map[string]any{"a": []any{int64(1), "b"}}}, "q": map[string]any{"type": "string", "defaultValue": s}}
	in.Template["variables"] = map[string]any{"v": s, "w": []any{"x", "[variables('v')]"}}
	in.Template["resources"] = []any{
		map[string]any{"type": "A.B/c", "apiVersion": "1", "name": "a", "condition": s, "properties": map[string]any{"x": s}},
		map[string]any{"type": "A.B/c", "apiVersion": "1", "name": "[concat('n', copyIndex())]", "copy": map[string]any{"name": "l", "count": int64(2)}, "tags": map[string]any{s: s}, "dependsOn": []any{"a"}},
	}
	in.Template["outputs"] = map[string]any{"o": map[string]any{"type": "string", "value": s}}
	return in
}

// oneAtATime leaves an expression in one place of withExpression alone.
func oneAtATime(s string, place int) template.Input {
	in := withExpression("x")
	switch place {
	case 0:
		in.Template["parameters"].(map[string]any)["q"] = map[string]any{"type": "string", "defaultValue": s}
	case 1:
		in.Template["variables"].(map[string]any)["v"] = s
		in.Template["outputs"] = map[string]any{"o": map[string]any{"type": "array", "value": "[variables('w')]"}}
	case 2:
		in.Template["outputs"] = map[string]any{"o": map[string]any{"type": "string", "value": s}}
	default:
		in.Template["resources"] = []any{map[string]any{"type": "A.B/c", "apiVersion": "1", "name": "a", "properties": map[string]any{"x": s, "y": []any{s}}}}
	}
	return in
}

func FuzzExpression(f *testing.F) {
	for _, s := range commands(f, "eval") {
		f.Add(strings.TrimSpace(s))
	}
	f.Fuzz(func(t *testing.T, s string) {
		promises(t, withExpression(s))
		promises(t, oneAtATime(s, len(s)%4))
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range commands(f, "template") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if in, ok := parsed(s); ok {
			promises(t, in)
		}
	})
}

func parsed(s string) (template.Input, bool) {
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var m map[string]any
	if dec.Decode(&m) != nil {
		return template.Input{}, false
	}
	in := input()
	for k, v := range m {
		in.Template[k] = template.Normal(v)
	}
	return in, true
}

// TestMutations keeps the promises of the fuzz targets on every run, with what
// the scripts say spoiled in seeded ways.
func TestMutations(t *testing.T) {
	t.Parallel()
	rounds := 1500
	if testing.Short() {
		rounds = 500
	}
	r := rand.New(rand.NewPCG(7, 7))
	expressions, templates := commands(t, "eval"), commands(t, "template")
	for i := range rounds {
		s := strings.TrimSpace(expressions[r.IntN(len(expressions))])
		for range 1 + r.IntN(3) {
			s = spoil(r, s, expressions)
		}
		promises(t, oneAtATime(s, i))
		if i%8 == 0 {
			text := spoil(r, templates[r.IntN(len(templates))], templates)
			if in, ok := parsed(text); ok {
				promises(t, in)
			}
		}
	}
}

// pieces that somebody may write.
var pieces = []string{"'", "''", "[", "]", "(", ")", ",", ".", ".?", "[?0]", "-1", "0", "99999999999999999999", "1e400", "true()", "null()", "createArray()", "createObject()", "json('null')", "parameters('p')", "variables('v')",
	"reference('a')", "reference('a').x", "listKeys('a')", "copyIndex()", "copyIndex('l')", "resourceGroup()", "range(0, 9999)", "lambda('x', lambdaVariables('x'))", "🙂", "\x00", "{0}", "{9}", "{0,999}", "\"", "\\", "{", "}", ":"}

func spoil(r *rand.Rand, s string, others []string) string {
	if s == "" {
		return pieces[r.IntN(len(pieces))]
	}
	i := r.IntN(len(s))
	j := min(len(s), i+r.IntN(12))
	switch r.IntN(5) {
	case 0:
		return s[:i] + s[j:]
	case 1:
		return s[:i] + pieces[r.IntN(len(pieces))] + s[i:]
	case 2:
		return s[:i] + pieces[r.IntN(len(pieces))] + s[j:]
	case 3:
		other := others[r.IntN(len(others))]
		k := r.IntN(len(other))
		return s[:i] + other[k:]
	}
	return strings.Replace(s, "'", "'"+pieces[r.IntN(len(pieces))], 1)
}

// TestLargeValuesCost: what is cheap to name and long to look through counts for
// what it is, or one template would keep a core busy for hours.
func TestLargeValuesCost(t *testing.T) {
	t.Parallel()
	numbers := func(n int) []any {
		list := make([]any, n)
		for i := range list {
			list[i] = int64(i)
		}
		return list
	}
	object := map[string]any{}
	for i := range 5000 {
		object["k"+strconv.Itoa(i)] = int64(i)
	}
	text := strings.Repeat("x", 1<<20)
	// a is the parameter, which names what is in it for next to nothing.
	with := func(what string) string {
		return "[length(map(createArray(parameters('p')), lambda('a', " + what + ")))]"
	}
	often := func(what string) string { return with("map(range(0, 700), lambda('i', " + what + "))") }
	for name, c := range map[string]struct {
		value   []any
		allowed any
		output  string
	}{
		"the length of a long text":       {[]any{text}, nil, often("length(lambdaVariables('a')[0])")},
		"a search in a long text":         {[]any{text}, nil, often("contains(lambdaVariables('a')[0], 'y')")},
		"loops over a large list":         {[]any{numbers(50_000)}, nil, often("map(lambdaVariables('a'), lambda('x', 1))")},
		"many unions with a large object": {[]any{object}, nil, with("union(lambdaVariables('a')[0]" + strings.Repeat(", createObject()", 200) + ")")},
		"a long list of allowed values":   {numbers(4000), numbers(4000), "[1]"},
	} {
		in := input()
		in.Limits = template.Limits{} // a server's
		def := map[string]any{"type": "array"}
		if c.allowed != nil {
			def["allowedValues"] = c.allowed
		}
		in.Template["resources"], in.Template["parameters"] = []any{}, map[string]any{"p": def}
		in.Template["outputs"] = map[string]any{"o": map[string]any{"type": "int", "value": c.output}}
		in.Parameters = map[string]any{"p": map[string]any{"value": c.value}}
		if _, err := template.New(in); err == nil || !strings.Contains(err.Error(), "steps to evaluate") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
