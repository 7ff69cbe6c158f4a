package template_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/template"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// TestScripts plays each testdata/*.txt: a line is a command, indented lines below
// it go on with it, lines after => are the answer. Run with -update and read the diff.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newStage(t).play(string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s differs; run go test -update and read the diff\n%s", file, got)
			}
		})
	}
}

// stage is a template that a script writes, and what is known of the world.
type stage struct {
	t     *testing.T
	in    template.Input
	known template.Known
	plan  *template.Plan
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, known: template.Known{}}
	s.in = input()
	return s
}

// input is a group with nothing in its template.
func input() template.Input {
	const sub = "00000000-0000-0000-0000-000000000001"
	return template.Input{
		Template:   blank(),
		Parameters: map[string]any{}, Name: "d1", Mode: "Incremental", Scope: "/subscriptions/" + sub + "/resourceGroups/rg",
		Tenant:        map[string]any{"tenantId": "11111111-1111-1111-1111-111111111111"},
		Subscription:  map[string]any{"id": "/subscriptions/" + sub, "subscriptionId": sub, "tenantId": "11111111-1111-1111-1111-111111111111", "displayName": "Ebb"},
		ResourceGroup: map[string]any{"id": "/subscriptions/" + sub + "/resourceGroups/rg", "name": "rg", "location": "westus2"},
		Environment:   map[string]any{"name": "AzureCloud", "suffixes": map[string]any{"storage": "core.windows.net"}},
		Now:           time.Date(2026, 1, 31, 12, 30, 5, 123456700, time.UTC), Seed: "seed",
		Limits: template.Limits{Steps: 25_000, Bytes: 1 << 20}, // TestAmpleIsALimit has those of servers
	}
}

func blank() map[string]any {
	return map[string]any{
		"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
		"resources": []any{},
	}
}

func (s *stage) play(script string) string {
	var out strings.Builder
	command := ""
	flush := func() {
		if command == "" {
			return
		}
		answer := s.do(command)
		command = ""
		for line := range strings.Lines(answer) {
			fmt.Fprintf(&out, "=> %s\n", strings.TrimRight(line, "\n"))
		}
	}
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "=> ") {
			continue // an answer of the last time
		}
		if !strings.HasPrefix(line, " ") {
			flush()
		}
		fmt.Fprintln(&out, line)
		switch {
		case strings.HasPrefix(line, " "):
			command += "\n" + line
		case line != "" && !strings.HasPrefix(line, "#"):
			command = line
		}
	}
	flush()
	return out.String()
}

// do carries out one command; those that only write the template answer nothing:
//
//	template JSON            begin anew, with the parts given
//	parameter|variable|output NAME JSON
//	give NAME JSON           a parameter's value
//	scope subscription       deploy to a subscription
//	know ID VERSION JSON     what a GET answers
//	answer ACTION ID VERSION JSON
//	eval EXPRESSION          as an output
//	plan                     what there is to put, and what it waits for
//	body NAME                what is put for the resource, or what it needs
//	outputs
func (s *stage) do(command string) string {
	verb, rest, _ := strings.Cut(command, " ")
	switch verb {
	case "template":
		fresh := newStage(s.t)
		fresh.in.Parameters = map[string]any{}
		for k, v := range s.json(rest).(map[string]any) {
			fresh.in.Template[k] = v
		}
		*s = *fresh
		return ""
	case "parameter", "variable", "output":
		name, value, _ := strings.Cut(rest, " ")
		m, _ := s.in.Template[verb+"s"].(map[string]any)
		if m == nil {
			m = map[string]any{}
			s.in.Template[verb+"s"] = m
		}
		m[name] = s.json(value)
		return ""
	case "give":
		name, value, _ := strings.Cut(rest, " ")
		s.in.Parameters[name] = map[string]any{"value": s.json(value)}
		return ""
	case "forget":
		delete(s.in.Parameters, rest)
		return ""
	case "scope":
		s.in.Scope = s.in.Subscription["id"].(string)
		s.in.ResourceGroup, s.in.Location = nil, "westus2"
		return ""
	case "know", "answer":
		n := template.Need{}
		if verb == "answer" {
			n.Action, rest, _ = strings.Cut(rest, " ")
		}
		n.ID, rest, _ = strings.Cut(rest, " ")
		n.APIVersion, rest, _ = strings.Cut(rest, " ")
		s.known[n.Key()] = s.json(rest)
		return ""
	case "eval":
		return s.eval(rest)
	case "plan":
		return s.show()
	case "body":
		return s.body(rest)
	case "outputs":
		return s.outputs()
	}
	s.t.Fatalf("no such command: %s", command)
	return ""
}

func (s *stage) json(text string) any {
	s.t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	return template.Normal(v)
}

func encoded(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// eval evaluates an expression as the only output, of whatever type.
func (s *stage) eval(expression string) string {
	in := s.in
	in.Template = map[string]any{}
	for k, v := range s.in.Template {
		in.Template[k] = v
	}
	in.Template["outputs"] = map[string]any{"x": map[string]any{"type": "array", "value": []any{expression}}}
	p, err := template.New(in)
	if err != nil {
		return "error: " + err.Error()
	}
	out, needs, err := p.Outputs(s.known)
	if err != nil || len(needs) > 0 {
		return problem(needs, err)
	}
	return encoded(out["x"].Value.([]any)[0])
}

func problem(needs []template.Need, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	var b strings.Builder
	for _, n := range needs {
		verb := "GET"
		if n.Action != "" {
			verb = n.Action
		}
		fmt.Fprintf(&b, "needs %s %s %s\n", verb, n.ID, n.APIVersion)
	}
	return b.String()
}

func (s *stage) show() string {
	p, err := template.New(s.in)
	if err != nil {
		return "error: " + err.Error()
	}
	s.plan = p
	var b strings.Builder
	for _, r := range p.Resources {
		fmt.Fprintf(&b, "%s %s", strings.TrimPrefix(r.ID, s.in.Scope+"/providers/"), r.APIVersion)
		if r.Skip {
			b.WriteString(" skipped")
		}
		if r.Existing {
			b.WriteString(" existing")
		}
		for i, j := range r.DependsOn {
			if i == 0 {
				b.WriteString(" after")
			}
			b.WriteString(" " + p.Resources[j].Name)
		}
		b.WriteString("\n")
	}
	for _, x := range p.Parameters {
		value := encoded(x.Value)
		if x.Secure {
			value = "secret"
		}
		fmt.Fprintf(&b, "%s %s = %s\n", x.Type, x.Name, value)
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return b.String()
}

func (s *stage) body(name string) string {
	for i, r := range s.plan.Resources {
		if r.Name == name {
			body, needs, err := s.plan.Body(i, s.known)
			if err != nil || len(needs) > 0 {
				return problem(needs, err)
			}
			return encoded(body)
		}
	}
	return "no such resource"
}

func (s *stage) outputs() string {
	p, err := template.New(s.in)
	if err != nil {
		return "error: " + err.Error()
	}
	out, needs, err := p.Outputs(s.known)
	if err != nil || len(needs) > 0 {
		return problem(needs, err)
	}
	var b strings.Builder
	for _, name := range sortedKeys(out) {
		o := out[name]
		if o.Secure {
			fmt.Fprintf(&b, "%s %s secret\n", o.Type, name)
			continue
		}
		fmt.Fprintf(&b, "%s %s = %s\n", o.Type, name, encoded(o.Value))
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
