package deployments_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/deployments"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		props := w.deploy("d", `{"resources": [`+thing("last", `, "dependsOn": ["b", "c"]`)+`, `+thing("b", `, "dependsOn": ["a"]`)+`, `+thing("a", "")+`, `+thing("c", "")+`]}`)
		if props["provisioningState"] != "Succeeded" {
			t.Fatalf("it ended as %v: %v", props["provisioningState"], props["error"])
		}
		calls := w.az.calls()
		if calls[len(calls)-1] != "PUT last" || slices.Index(calls, "PUT b") < slices.Index(calls, "PUT a") {
			t.Errorf("put in the order %v", calls)
		}
		if w.az.most != 2 {
			t.Errorf("%d calls at the same time, want 2: a and c", w.az.most)
		}
		wants(t, "operations", w.steps("d"), []string{"a Succeeded", "b Succeeded", "c Succeeded", "last Succeeded"})
		if n := len(props["outputResources"].([]any)); n != 4 {
			t.Errorf("%d output resources, want 4", n)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		began := time.Now()
		w.deploy("d", `{"resources": [{"type": "A.B/things", "apiVersion": "1", "name": "[concat('n', copyIndex())]", "copy": {"name": "l", "count": 80}}]}`)
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("80 resources of a second each took %v, want about 10 s", took)
		}
	})
}

func TestFailure(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.az.on = func(_ context.Context, c deployments.Call) (deployments.Answer, bool) {
			if c.Method == "PUT" && last(c.Path) == "bad" {
				return refusal(http.StatusBadRequest, "InvalidPropertyValue", "The size is none."), true
			}
			return deployments.Answer{}, false
		}
		props := w.deploy("d", `{"resources": [`+thing("bad", "")+`, `+thing("after", `, "dependsOn": ["bad"]`)+`, `+thing("other", "")+`]}`)
		if props["provisioningState"] != "Failed" {
			t.Fatalf("it ended as %v", props["provisioningState"])
		}
		text := fmt.Sprint(props["error"])
		for _, word := range []string{"DeploymentFailed", "list deployment operations", "'bad' (A.B/things)", "InvalidPropertyValue", "The size is none."} {
			if !strings.Contains(text, word) {
				t.Errorf("the error lacks %q: %s", word, text)
			}
		}
		wants(t, "operations", w.steps("d"), []string{"bad Failed InvalidPropertyValue", "other Succeeded"})
	})
}

// TestLongRunning: what a PUT starts is followed by every way that ARM has.
func TestLongRunning(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first deployments.Answer
		then  []deployments.Answer
		end   string
	}{
		"an operation that succeeds":  {deployments.Answer{Status: 201, Async: "/op"}, []deployments.Answer{{Status: 200, Body: map[string]any{"status": "InProgress"}}, {Status: 200, Body: map[string]any{"status": "Succeeded"}}}, "Succeeded"},
		"an operation that fails":     {deployments.Answer{Status: 201, Async: "/op"}, []deployments.Answer{{Status: 200, Body: map[string]any{"status": "Failed", "error": map[string]any{"code": "Why", "message": "So."}}}}, "Failed"},
		"a location":                  {deployments.Answer{Status: 202, Location: "/op"}, []deployments.Answer{{Status: 202, Location: "/op"}, {Status: 200, Body: map[string]any{}}}, "Succeeded"},
		"a state that becomes final":  {deployments.Answer{Status: 201, Body: stateBody("Creating")}, []deployments.Answer{{Status: 200, Body: stateBody("Updating")}, {Status: 200, Body: stateBody("Succeeded")}}, "Succeeded"},
		"a state that becomes failed": {deployments.Answer{Status: 201, Body: stateBody("Creating")}, []deployments.Answer{{Status: 200, Body: stateBody("Failed")}}, "Failed"},
		"one that is busy at first":   {deployments.Answer{Status: 503}, []deployments.Answer{{Status: 201, Body: map[string]any{}}}, "Succeeded"},
		"one that never ends":         {deployments.Answer{Status: 201, Async: "/op"}, []deployments.Answer{{Status: 200, Body: map[string]any{"status": "InProgress"}}}, "Failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				asked := -1
				w.az.on = func(context.Context, deployments.Call) (deployments.Answer, bool) {
					asked++
					if asked == 0 {
						return c.first, true
					}
					return c.then[min(asked-1, len(c.then)-1)], true
				}
				if props := w.deploy("d", `{"resources": [`+thing("a", "")+`]}`); props["provisioningState"] != c.end {
					t.Errorf("it ended as %v (%v), want %s", props["provisioningState"], props["error"], c.end)
				}
			})
		})
	}
}

func stateBody(state string) map[string]any {
	return map[string]any{"properties": map[string]any{"provisioningState": state}}
}

func TestReferencesAndOutputs(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		props := w.deploy("d", `{"resources": [`+
			thing("b", `, "properties": {"from": "[reference(resourceId('A.B/things', 'a')).x]"}`)+`, `+thing("a", `, "properties": {"x": "y"}`)+`],
			"outputs": {"o": {"type": "string", "value": "[reference('b').from]"}, "s": {"type": "securestring", "value": "hush-hush"}}}`)
		if got := fmt.Sprint(props["outputs"]); got != "map[o:map[type:String value:y] s:map[type:SecureString]]" {
			t.Errorf("outputs %s", got)
		}
		props = w.deploy("e", `{"resources": [], "outputs": {"o": {"type": "string", "value": "[reference('/subscriptions/s/resourceGroups/g/providers/A.B/things/none', '1').x]"}}}`)
		if text := fmt.Sprint(props["error"]); !strings.Contains(text, "ResourceNotFound") || !strings.Contains(text, "things/none") {
			t.Errorf("the error is %s", text)
		}
	})
}

const secret = "correct-horse-battery"

func TestSecrets(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		seen := false
		w.az.on = func(_ context.Context, c deployments.Call) (deployments.Answer, bool) {
			seen = seen || strings.Contains(fmt.Sprint(c.Body), secret)
			for _, kind := range []row.Kind{row.Deployment, row.DeploymentContent, row.DeploymentOperation, row.Event} {
				for _, r := range w.st.Rows(kind) {
					if b, err := json.Marshal(r); err != nil || strings.Contains(fmt.Sprintf("%s", r), secret) || strings.Contains(string(b), secret) {
						t.Errorf("a %s is kept with the secret in clear", kind)
					}
				}
			}
			ans := refusal(400, "Bad", "No good: "+secret+".")
			ans.Body.(map[string]any)["error"].(map[string]any)["details"] = []any{map[string]any{"code": "Why", "message": secret}}
			return ans, c.Method == "PUT"
		}
		props := w.deploy("d", `{"parameters": {"pw": {"type": "securestring"}}, "parameters.given": {"pw": {"value": "`+secret+`"}}, "resources": [`+
			thing("a", `, "properties": {"p": "[parameters('pw')]"}`)+`]}`)
		if !seen {
			t.Error("the resource never got the secret")
		}
		text := fmt.Sprint(props) + fmt.Sprint(w.steps("d"))
		if strings.Contains(text, secret) {
			t.Errorf("the deployment shows the secret: %s", text)
		}
		if !strings.Contains(text, "No good: *******") {
			t.Errorf("the message is gone: %s", text)
		}
		for _, r := range w.st.Rows(row.DeploymentContent) {
			var sealed []byte
			if err := json.Unmarshal(r.(row.Document).Body, &sealed); err != nil {
				t.Fatal(err)
			}
			if clear := (veil{}).turn(sealed); strings.Contains(string(clear), secret) || !strings.Contains(string(clear), "A.B/things") {
				t.Errorf("after the end %s is kept", clear)
			}
		}
	})
}

// TestRestart: a server that ends in the middle goes on at its next start, and
// puts what was done no second time.
func TestRestart(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		block := make(chan struct{})
		w.az.on = func(ctx context.Context, c deployments.Call) (deployments.Answer, bool) {
			if c.Method == "PUT" && last(c.Path) == "b" {
				select {
				case <-block:
				case <-ctx.Done():
				}
			}
			return deployments.Answer{}, false
		}
		w.create("d", `{"parameters": {"g": {"type": "string", "defaultValue": "[newGuid()]"}}, "resources": [`+thing("a", `, "tags": {"g": "[parameters('g')]"}`)+`, `+thing("b", `, "tags": {"g": "[parameters('g')]"}, "dependsOn": ["a"]`)+`]}`)
		w.pass(time.Minute)
		w.stop()
		if state := w.get("d")["provisioningState"]; state != "Running" {
			t.Fatalf("after the end of the server it is %v", state)
		}
		close(block)
		w.start()
		if props := w.wait("d"); props["provisioningState"] != "Succeeded" {
			t.Fatalf("it ended as %v: %v", props["provisioningState"], props["error"])
		}
		wants(t, "calls", w.az.calls(), []string{"PUT a", "PUT b", "PUT b"})
		a, b := w.az.resources[strings.ToLower(w.group+"/providers/A.B/things/a")], w.az.resources[strings.ToLower(w.group+"/providers/A.B/things/b")]
		if fmt.Sprint(a["tags"]) != fmt.Sprint(b["tags"]) {
			t.Errorf("newGuid() was %v before and %v after the restart", a["tags"], b["tags"])
		}
	})
}

// TestDiskFull: a deployment whose end could not be written goes on once it can be.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var once atomic.Bool
		w.az.on = func(_ context.Context, c deployments.Call) (deployments.Answer, bool) {
			if c.Method == "PUT" && once.CompareAndSwap(false, true) {
				w.full.Store(true)
			}
			return deployments.Answer{}, false
		}
		w.create("d", `{"resources": [`+thing("a", "")+`]}`)
		w.pass(time.Minute)
		if state := w.get("d")["provisioningState"]; state != "Running" {
			t.Fatalf("while the disk is full it is %v", state)
		}
		w.full.Store(false)
		if props := w.wait("d"); props["provisioningState"] != "Succeeded" {
			t.Errorf("it ended as %v: %v", props["provisioningState"], props["error"])
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.az.on = func(ctx context.Context, c deployments.Call) (deployments.Answer, bool) {
			if c.Method == "PUT" {
				<-ctx.Done()
			}
			return deployments.Answer{}, false
		}
		made := w.create("d", `{"resources": [`+thing("a", "")+`, `+thing("b", `, "dependsOn": ["a"]`)+`]}`)
		w.pass(time.Minute)
		_, err := w.s.Create(t.Context(), w.owner, w.request("d", `{}`))
		refusedAs(t, err, fault.Conflict, "DeploymentActive")
		_, err = w.s.Delete(t.Context(), w.owner, w.group, "d")
		refusedAs(t, err, fault.Conflict, "Cancel it")
		if err := w.s.Cancel(t.Context(), w.owner, w.group, "d"); err != nil {
			t.Fatal(err)
		}
		if props := w.wait("d"); props["provisioningState"] != "Canceled" {
			t.Errorf("it ended as %v", props["provisioningState"])
		}
		wants(t, "operations", w.steps("d"), []string{"a Canceled Canceled"})
		refusedAs(t, w.s.Cancel(t.Context(), w.owner, w.group, "d"), fault.Conflict, "DeploymentCannotBeCancelled")

		w.az.on = nil
		w.deploy("d", `{}`) // the name is free again
		st, err := w.s.Status(t.Context(), w.owner, w.group, "d", made.Run)
		if err != nil || st.State != "Canceled" {
			t.Errorf("the former run is %v, %v; want Canceled", st, err)
		}
	})
}

func inner(name, scope, template string) string {
	return fmt.Sprintf(`{"type": "Microsoft.Resources/deployments", "apiVersion": "2022-09-01", "name": %q, "properties": {"mode": "Incremental", "expressionEvaluationOptions": {"scope": %q}, "template": {"$schema": "x", "contentVersion": "1.0.0.0", %s}}}`, name, scope, template)
}

func TestNested(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		props := w.deploy("d", `{"variables": {"v": "outside"}, "resources": [`+
			inner("in", "inner", `"variables": {"v": "inside"}, "resources": [`+thing("a", `, "tags": {"v": "[variables('v')]"}`)+`], "outputs": {"o": {"type": "string", "value": "[variables('v')]"}}`)+`, `+
			inner("out", "outer", `"resources": [`+thing("b", `, "tags": {"v": "[variables('v')]"}`)+`]`)+`, `+
			`{"type": "A.B/things", "apiVersion": "1", "name": "c", "tags": {"v": "[reference('in').outputs.o.value]"}}]}`)
		_ = props
		// The world's Resource Manager has no deployments: reference() to one fails, what it put is there.
		for name, want := range map[string]string{"a": "inside", "b": "outside"} {
			if got := w.az.resources[strings.ToLower(w.group+"/providers/A.B/things/"+name)]["tags"]; fmt.Sprint(got) != "map[v:"+want+"]" {
				t.Errorf("%s has the tags %v, want %s", name, got, want)
			}
		}
		if got := w.get("in")["outputs"]; fmt.Sprint(got) != "map[o:map[type:String value:inside]]" {
			t.Errorf("the inner outputs are %v", got)
		}
		_, err := w.s.Export(t.Context(), w.owner, w.group, "out")
		refusedAs(t, err, fault.Invalid, "TemplateNotExportable")
		if tpl, err := w.s.Export(t.Context(), w.owner, w.group, "in"); err != nil || tpl["variables"] == nil {
			t.Errorf("Export() = %v, %v", tpl, err)
		}
	})
}

// TestNestedEndsWithTheOuter: of a deployment that was cancelled while the server
// was down, those inside end too, or nobody could ever use their names again.
func TestNestedEndsWithTheOuter(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.az.on = func(ctx context.Context, c deployments.Call) (deployments.Answer, bool) {
			if c.Method == "PUT" && last(c.Path) == "a" {
				<-ctx.Done()
			}
			return deployments.Answer{}, false
		}
		w.create("d", `{"resources": [`+inner("in", "inner", `"resources": [`+inner("inmost", "inner", `"resources": [`+thing("a", "")+`]`)+`]`)+`]}`)
		w.pass(time.Minute)
		w.stop()
		if err := w.s.Cancel(t.Context(), w.owner, w.group, "d"); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.wait("d")
		for _, name := range []string{"d", "in", "inmost"} {
			if state := w.get(name)["provisioningState"]; state != "Canceled" {
				t.Errorf("%s is %v", name, state)
			}
			for _, step := range w.steps(name) {
				if strings.Contains(step, "Running") {
					t.Errorf("%s has the operation %s", name, step)
				}
			}
		}
		w.deploy("inmost", `{}`) // the name is free again
	})
}

// TestNestedAndLocks: a deployment inside another is a write to its own scope.
func TestNestedAndLocks(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.s.Writable = func(_ context.Context, id string) error {
			if last(id) == "in" {
				return fault.Coded(fault.Conflict, "ScopeLocked", id, "The scope is locked.")
			}
			return nil
		}
		props := w.deploy("d", `{"resources": [`+inner("in", "inner", `"resources": []`)+`, `+inner("other", "inner", `"resources": []`)+`]}`)
		if props["provisioningState"] != "Failed" || !strings.Contains(fmt.Sprint(props["error"]), "ScopeLocked") {
			t.Errorf("it ended as %v: %v", props["provisioningState"], props["error"])
		}
		if _, err := w.s.Get(t.Context(), w.owner, w.group, "in"); !errors.Is(err, fault.NotFound) {
			t.Errorf("what is locked was written: %v", err)
		}
		if state := w.get("other")["provisioningState"]; state != "Succeeded" {
			t.Errorf("what is not locked is %v", state)
		}
	})
}

// TestBombs: deployments inside each other are bounded in depth and in number.
func TestBombs(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		deep := `"resources": []`
		for i := range 8 {
			deep = `"resources": [` + inner(fmt.Sprintf("d%d", i), "inner", deep) + `]`
		}
		if props := w.deploy("deep", "{"+deep+"}"); !strings.Contains(fmt.Sprint(props["error"]), "more than 5 deep") {
			t.Errorf("the error is %v", props["error"])
		}
		loop := `"copy": {"name": "l", "count": 100}, `
		wide := `"resources": [` + strings.Replace(inner("x", "inner", `"resources": [{"type": "A.B/things", "apiVersion": "1", "condition": false, "name": "[concat('y', copyIndex())]", `+strings.TrimSuffix(loop, ", ")+`}]`), `"name": "x"`, loop+`"name": "[concat('x', copyIndex())]"`, 1) + `]`
		if props := w.deploy("wide", "{"+wide+"}"); !strings.Contains(fmt.Sprint(props["error"]), "DeploymentQuotaExceeded") {
			t.Errorf("the error is %.400v", props["error"])
		}
		if n := len(w.az.calls()); n > 5000 {
			t.Errorf("%d resources were put", n)
		}
	})
}

func TestComplete(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.deploy("d", `{"resources": [`+thing("keep", "")+`, `+thing("drop", "")+`, {"type": "A.B/things/kids", "apiVersion": "1", "name": "keep/kid"}]}`)
		req := w.request("d", `{"mode": "Complete", "resources": [`+thing("keep", "")+`, `+thing("new", "")+`]}`)
		changes, err := w.s.WhatIf(t.Context(), w.owner, req, false)
		if err != nil {
			t.Fatal(err)
		}
		wants(t, "what would change", words(changes), []string{"drop Delete", "keep NoChange", "kid Ignore", "new Create"})
		w.deploy("d", `{"mode": "Complete", "resources": [`+thing("keep", "")+`, `+thing("new", "")+`]}`)
		var left []string
		for id := range w.az.resources {
			left = append(left, last(id))
		}
		slices.Sort(left)
		wants(t, "what is left", left, []string{"keep", "kid", "new"})
	})
}

func words(changes []any) []string {
	var out []string
	for _, c := range changes {
		m := c.(map[string]any)
		out = append(out, last(m["resourceId"].(string))+" "+m["changeType"].(string))
	}
	slices.Sort(out)
	return out
}

func TestWhatIf(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.deploy("d", `{"resources": [`+thing("same", `, "location": "West US 2", "properties": {"idle": "PT120S", "size": "Standard_DS3_v2", "n": 1}`)+`, `+thing("other", `, "properties": {"n": 1, "list": ["a"]}`)+`]}`)
		changes, err := w.s.WhatIf(t.Context(), w.owner, w.request("w", `{"parameters": {"pw": {"type": "securestring", "defaultValue": "`+secret+`"}}, "resources": [`+
			thing("same", `, "location": "westus2", "properties": {"idle": "PT2M", "size": "STANDARD_DS3_V2", "n": 1, "nothing": null, "adminPassword": "[parameters('pw')]"}`)+`, `+
			thing("other", `, "properties": {"n": 2, "list": ["a", "b"], "more": "[parameters('pw')]"}`)+`, `+
			thing("new", `, "properties": {"x": "[reference('same').n]"}`)+`]}`), false)
		if err != nil {
			t.Fatal(err)
		}
		wants(t, "what would change", words(changes), []string{"new Create", "other Modify", "same NoChange"})
		text := fmt.Sprint(changes)
		if strings.Contains(text, secret) {
			t.Errorf("the secret is shown: %s", text)
		}
		for _, want := range []string{"path:properties.n", "path:properties.list", "path:properties.more"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s is not named in %s", want, text)
			}
		}
		if len(w.az.calls()) != 2 {
			t.Errorf("what-if made calls: %v", w.az.calls())
		}
	})
}

// TestWhatIfOfComputes: whoever keeps computes says what a template would come to.
func TestWhatIfOfComputes(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		compute := func(name string) string {
			return `{"type": "Microsoft.MachineLearningServices/workspaces/computes", "apiVersion": "2024-04-01", "name": "main/` + name + `", "properties": {"login": "NotSpecified"}}`
		}
		w.az.on = func(_ context.Context, c deployments.Call) (deployments.Answer, bool) {
			switch {
			case c.Check && last(c.Path) == "bad":
				return refusal(400, "InvalidPropertyValue", "The size is none."), true
			case c.Check && last(c.Path) == "early":
				return refusal(404, "ParentResourceNotFound", "There is no workspace yet."), true
			case last(c.Path) == "new" && c.Check: // it would be made
			case last(c.Path) == "new" || last(c.Path) == "bad" || last(c.Path) == "early" || !strings.Contains(c.Path, "/computes/"):
				return deployments.Answer{}, false
			case c.Method == "PUT" && (!c.Check || !c.Create):
				t.Errorf("%s was written", c.Path)
			case c.Method == "PUT" && last(c.Path) == "other":
				return refusal(400, "PropertyChangeNotAllowed", "It is 2, not 5."), true
			}
			return deployments.Answer{Status: http.StatusOK, Body: map[string]any{"id": c.Path, "properties": map[string]any{"login": "Enabled"}}}, true
		}
		changes, err := w.s.WhatIf(t.Context(), w.owner, w.request("w", `{"resources": [`+compute("same")+`, `+compute("other")+`, `+compute("new")+`, `+compute("early")+`]}`), false)
		if err != nil {
			t.Fatal(err)
		}
		wants(t, "what would change", words(changes), []string{"early Create", "new Create", "other Unsupported", "same NoChange"})
		if text := fmt.Sprint(changes); !strings.Contains(text, "unsupportedReason:It is 2, not 5.") {
			t.Errorf("the reason is not in %s", text)
		}
		bad := w.request("w", `{"resources": [`+compute("new")+`, `+compute("bad")+`]}`)
		_, err = w.s.WhatIf(t.Context(), w.owner, bad, false)
		refusedAs(t, err, fault.Invalid, "'main/bad' (Microsoft.MachineLearningServices/workspaces/computes) would fail: The size is none.")
		_, err = w.s.Validate(t.Context(), w.owner, bad)
		refusedAs(t, err, fault.Invalid, "The size is none.")
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for name, c := range map[string]struct {
			parts string
			kind  fault.Kind
			word  string
		}{
			"a template that is none":          {`{"resources": "x"}`, fault.Invalid, "InvalidTemplate"},
			"a mode that is none":              {`{"mode": "Perhaps"}`, fault.Invalid, "Perhaps"},
			"a link to a template elsewhere":   {`{"templateLink": {"uri": "https://x"}, "mode": "Incremental"}`, fault.Invalid, ""},
			"going back to an earlier one":     {`{"onErrorDeployment": {"type": "LastSuccessful"}}`, fault.Unsupported, "onErrorDeployment"},
			"a parameter without a value":      {`{"parameters": {"p": {"type": "string"}}}`, fault.Invalid, "'p' is not provided"},
			"a parameter that is not declared": {`{"parameters.given": {"q": {"value": 1}}}`, fault.Invalid, "'q'"},
			"a secret of a key vault":          {`{"parameters": {"p": {"type": "string"}}, "parameters.given": {"p": {"reference": {"keyVault": {}}}}}`, fault.Invalid, "key vault"},
		} {
			if c.word == "" {
				continue
			}
			_, err := w.s.Validate(t.Context(), w.owner, w.request("v", c.parts))
			if err == nil {
				t.Errorf("%s: accepted", name)
				continue
			}
			refusedAs(t, err, c.kind, c.word)
		}
		linked := deployments.Request{Scope: w.group, Name: "v", Body: map[string]any{"properties": map[string]any{"mode": "Incremental", "templateLink": map[string]any{"uri": "https://x"}}}}
		_, err := w.s.Validate(t.Context(), w.owner, linked)
		refusedAs(t, err, fault.Unsupported, "Linked files")
		linked.Body = map[string]any{}
		_, err = w.s.Create(t.Context(), w.owner, linked)
		refusedAs(t, err, fault.Invalid, "properties")
		linked.Name = strings.Repeat("n", 65)
		_, err = w.s.Create(t.Context(), w.owner, linked)
		refusedAs(t, err, fault.Invalid, "64 characters")
		linked.Name, linked.Scope = "n", w.group+"-none"
		_, err = w.s.Create(t.Context(), w.owner, linked)
		refusedAs(t, err, fault.NotFound, "could not be found")

		run := access.Principal{ID: "r", Name: "run", Kind: access.RunIdentity}
		_, err = w.s.Create(t.Context(), run, w.request("d", `{}`))
		refusedAs(t, err, fault.Forbidden, "AuthorizationFailed")
		_, err = w.s.Get(t.Context(), w.owner, w.group, "none")
		refusedAs(t, err, fault.NotFound, "DeploymentNotFound")
		if len(w.az.calls()) > 0 || len(w.st.Rows(row.Deployment)) > 0 {
			t.Error("a refused request left something behind")
		}
	})
}

func TestSubscriptionScope(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		req := w.request("s", `{"resources": [{"type": "Microsoft.Resources/resourceGroups", "apiVersion": "1", "name": "new", "location": "[deployment().location]"}], "outputs": {"l": {"type": "string", "value": "[reference('new', '1', 'Full').location]"}}}`)
		req.Scope = "/subscriptions/" + w.sub
		_, err := w.s.Create(t.Context(), w.owner, req)
		refusedAs(t, err, fault.Invalid, "LocationRequired")
		req.Body["location"] = "westus2"
		if _, err := w.s.Create(t.Context(), w.owner, req); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		body, err := w.s.Get(t.Context(), w.owner, req.Scope, "s")
		if err != nil || body["location"] != "westus2" || !strings.Contains(fmt.Sprint(body), "value:westus2") {
			t.Errorf("Get() = %v, %v", body, err)
		}
		list, _, err := w.s.List(t.Context(), w.owner, req.Scope, "", 10, nil)
		if err != nil || len(list) != 1 {
			t.Errorf("List() = %v, %v", list, err)
		}
		if found, err := w.s.Delete(t.Context(), w.owner, req.Scope, "s"); !found || err != nil {
			t.Errorf("Delete() = %v, %v", found, err)
		}
		for _, kind := range []row.Kind{row.Deployment, row.DeploymentContent, row.DeploymentOperation} {
			if n := len(w.st.Rows(kind)); n != 0 {
				t.Errorf("%d rows of %s stay", n, kind)
			}
		}
	})
}
