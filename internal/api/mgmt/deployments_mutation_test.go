package mgmt_test

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
)

// TestMutatedTemplates sends templates that are spoiled in seeded ways to every
// address that reads one: no panic, no 5xx, always ARM's envelope; and whatever is
// accepted ends, where it waits for a cluster by being cancelled.
func TestMutatedTemplates(t *testing.T) {
	t.Parallel()
	rounds := 5000
	if testing.Short() {
		rounds = 500
	}
	s := newSite(t)
	defer deploying(s)()
	r := rand.New(rand.NewPCG(11, 11))
	texts := templateFiles(t)
	base := s.sub + "/resourceGroups/ebb/providers/Microsoft.Resources/deployments/"
	deployed := map[string]bool{}
	for i := range rounds {
		body := texts[r.IntN(len(texts))]
		for range 1 + r.IntN(4) {
			body = spoilt(r, body, texts)
		}
		method, path := "POST", base+"m/validate"
		switch {
		case i%10 == 0:
			path = base + "m/whatIf"
		case i%10 == 1:
			name := "m" + string(rune('a'+r.IntN(26)))
			method, path = "PUT", base+name
		}
		got := s.ask(method, path, body)
		if got.status >= 500 {
			t.Fatalf("%s %s = %d %s\n%s", method, path, got.status, got.raw, body)
		}
		if e, ok := got.body["error"].(map[string]any); got.status >= 400 && (!ok || e["code"] == "" || e["message"] == "" || e["details"] == nil) {
			t.Errorf("%s %s = %d %s, which is not ARM's envelope\n%s", method, path, got.status, got.raw, body)
		}
		if method == "PUT" && got.status < 300 {
			deployed[path] = true
		}
	}
	if len(deployed) == 0 {
		t.Error("nothing was accepted: the spoiling is too hard")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for path := range deployed {
		s.ask("POST", path+"/cancel", "") // no loop runs here that would finish a cluster
		for {
			got := s.ask("GET", path, "")
			props, _ := got.body["properties"].(map[string]any)
			if state := props["provisioningState"]; state == "Succeeded" || state == "Failed" || state == "Canceled" {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%s did not end: %s", path, got.raw)
			}
		}
	}
}

// templateFiles are the bodies for templates that clients deploy, and for one of records alone.
func templateFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../../compat/templates/*.json")
	if err != nil || len(files) < 3 {
		t.Fatalf("templates: %v, %v", files, err)
	}
	_, own, _ := strings.Cut(asAzSends, "template:")
	texts := []string{strings.TrimSuffix(strings.TrimSpace(own), "}}")}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	for i, text := range texts {
		texts[i] = `{"properties": {"mode": "Incremental", "parameters": ` + given(t, text) + `, template:` + text + `}}`
	}
	return texts
}

// given are values for the parameters of a template that need one.
func given(t *testing.T, text string) string {
	t.Helper()
	var doc struct {
		Parameters map[string]map[string]any `json:"parameters"`
	}
	if err := json.Unmarshal(arm.Strict([]byte(text)), &doc); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for name, p := range doc.Parameters {
		word, known := map[string]string{"adminUserPassword": "Passw0rd!x", "clusterName": "cpu", "group": "ebb"}[name]
		if !known {
			word = "main"
		}
		if _, has := p["defaultValue"]; !has {
			values[name] = map[string]any{"value": word}
		}
	}
	b, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wrong is what may stand in a template in the place of what is right.
var wrong = []string{`null`, `[]`, `{}`, `"x"`, `-1`, `1e99`, `"[concat('a')]"`, `"[reference('x')]"`, `"[parameters('none')]"`, `"[variables('none')]"`, `"[copyIndex()]"`, `"[resourceGroup().id]"`, `"[range(0, 9999)]"`,
	`"[if(true(), 1, 2)]"`, `"['"`, `"[[["`, `{"copy": [{"name": "x", "count": 3, "input": "[copyIndex('x')]"}]}`, `"[subscription()]"`, `"[json('[')]"`, `true`, `"\u0000"`, `"💥"`}

func spoilt(r *rand.Rand, body string, texts []string) string {
	switch r.IntN(6) {
	case 0, 1, 2: // a value becomes another
		var doc map[string]any
		if json.Unmarshal([]byte(strings.Replace(body, "template:", `"template":`, 1)), &doc) == nil {
			replaceOne(r, doc)
			if b, err := json.Marshal(doc); err == nil {
				return string(b)
			}
		}
	case 3: // a piece is missing
		i := r.IntN(len(body))
		return body[:i] + body[min(len(body), i+1+r.IntN(6)):]
	case 4: // a piece is from elsewhere
		other := texts[r.IntN(len(texts))]
		i, j := r.IntN(len(body)), r.IntN(len(other))
		return body[:i] + other[j:min(len(other), j+1+r.IntN(40))] + body[i:]
	}
	return strings.Replace(body, []string{"[", "'", ":", ",", `"`, "resources", "name", "dependsOn"}[r.IntN(8)], []string{"", "]", "copy", `"x"`, "(", "'"}[r.IntN(6)], 1+r.IntN(2))
}

// replaceOne changes one value somewhere in a document.
func replaceOne(r *rand.Rand, v any) {
	for range 12 {
		switch at := v.(type) {
		case map[string]any:
			keys := slices.Sorted(maps.Keys(at))
			if len(keys) == 0 {
				return
			}
			k := keys[r.IntN(len(keys))]
			switch at[k].(type) {
			case map[string]any, []any:
				if r.IntN(8) > 0 {
					v = at[k]
					continue
				}
			}
			var fresh any
			if json.Unmarshal([]byte(wrong[r.IntN(len(wrong))]), &fresh) == nil {
				at[k] = fresh
			}
			return
		case []any:
			if len(at) == 0 {
				return
			}
			v = at[r.IntN(len(at))]
		default:
			return
		}
	}
}
