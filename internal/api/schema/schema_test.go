package schema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/schema"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	sub       = "/subscriptions/{s}"
	workspace = sub + "/resourceGroups/{g}/providers/Microsoft.MachineLearningServices/workspaces/{w}"
	location  = sub + "/providers/Microsoft.MachineLearningServices/locations/{l}"
	compute   = workspace + "/computes/{c}"
)

func decode(t testing.TB, text string) any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// TestEveryTypeCanBeRead follows every reference: what is not there, or has a
// pattern that does not compile, panics.
func TestEveryTypeCanBeRead(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Bodies, Types map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for operation := range file.Bodies {
		if schema.Body(operation) == nil {
			t.Errorf("%s is not found by its own name", operation)
		}
	}
	for name := range file.Types {
		of := &schema.Type{Ref: name}
		if err := of.Check(map[string]any{}); err != nil && !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(file.Bodies) < 40 || len(file.Types) < 400 {
		t.Errorf("%d bodies and %d types: the specification has more", len(file.Bodies), len(file.Types))
	}
}

// TestExamples holds Microsoft's own examples to Microsoft's own specification,
// both what is sent and what is answered.
func TestExamples(t *testing.T) {
	t.Parallel()
	paths := map[string]string{
		"Compute/createOrUpdate": "PUT " + compute, "Compute/get": "GET " + compute, "Compute/patch": "PATCH " + compute,
		"Compute/list.": "GET " + workspace + "/computes", "Compute/listKeys": "POST " + compute + "/listKeys", "Compute/listNodes": "POST " + compute + "/listNodes",
		"Quota/list": "GET " + location + "/quotas", "Quota/update": "POST " + location + "/updateQuotas",
		"Usage/list": "GET " + location + "/usages", "VirtualMachineSize/list": "GET " + location + "/vmSizes",
	}
	bodies, answers := 0, 0
	root := filepath.Join("testdata", "examples")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		pattern := ""
		for prefix, p := range paths {
			if strings.HasPrefix(filepath.ToSlash(path), filepath.ToSlash(root)+"/"+prefix) {
				pattern = p
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var example struct {
			Parameters struct{ Parameters json.RawMessage }
			Responses  map[string]struct{ Body json.RawMessage }
		}
		if err := json.Unmarshal(text, &example); err != nil {
			return err
		}
		if body := example.Parameters.Parameters; body != nil {
			bodies++
			if err := schema.Body(pattern).Check(decode(t, string(body))); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		for status, r := range example.Responses {
			if r.Body == nil {
				continue
			}
			answers++
			code := 0
			fmt.Sscan(status, &code)
			if err := schema.Answer(pattern, code).CheckAnswer(decode(t, string(r.Body))); err != nil {
				t.Errorf("%s, answer %s: %v", path, status, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if bodies < 11 || answers < 25 {
		t.Errorf("%d bodies and %d answers: there are more", bodies, answers)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	aml := func(inner string) string {
		return `{"location":"westus","properties":{"computeType":"AmlCompute","properties":{` + inner + `}}}`
	}
	job := func(inner string) string { return `{"properties":{"jobType":"command",` + inner + `}}` }
	for name, c := range map[string]struct{ pattern, body, target, says string }{
		"a cluster":                            {"PUT " + compute, aml(`"vmSize":"s","scaleSettings":{"maxNodeCount":1}`), "", ""},
		"nulls":                                {"PUT " + compute, aml(`"vmSize":null,"subnet":null,"scaleSettings":null`), "", ""},
		"nothing, for what is optional":        {"PUT " + compute, aml(`"subnet":{}`), "", ""},
		"words in any case":                    {"PUT " + compute, aml(`"vmPriority":"low_priority","osType":"LINUX"`), "", ""},
		"a type in any case":                   {"PUT " + compute, `{"properties":{"computeType":"amlcompute"}}`, "", ""},
		"what nobody knows":                    {"PUT " + compute, aml(`"colour":{"r":1}`), "", ""},
		"what is read-only":                    {"PUT " + compute, aml(`"currentNodeCount":"many"`), "", ""},
		"seconds for a duration":               {"PUT " + compute, aml(`"scaleSettings":{"maxNodeCount":1,"nodeIdleTimeBeforeScaleDown":120}`), "", ""},
		"a word for a number":                  {"PUT " + compute, aml(`"scaleSettings":{"maxNodeCount":"four"}`), "properties.properties.scaleSettings.maxNodeCount", "must be a whole number, not a string"},
		"half a node":                          {"PUT " + compute, aml(`"scaleSettings":{"maxNodeCount":1.5}`), "properties.properties.scaleSettings.maxNodeCount", "not 1.5"},
		"more nodes than can be counted":       {"PUT " + compute, aml(`"scaleSettings":{"maxNodeCount":3000000000}`), "properties.properties.scaleSettings.maxNodeCount", "32 bits"},
		"a number beyond all measure":          {"PUT " + compute, aml(`"scaleSettings":{"maxNodeCount":1e999}`), "properties.properties.scaleSettings.maxNodeCount", "too large"},
		"no maximum":                           {"PUT " + compute, aml(`"scaleSettings":{"minNodeCount":1}`), "properties.properties.scaleSettings.maxNodeCount", "required"},
		"a word that is none":                  {"PUT " + compute, aml(`"vmPriority":"urgent"`), "properties.properties.vmPriority", "not one of: Dedicated, LowPriority."},
		"a word for a flag":                    {"PUT " + compute, aml(`"enableNodePublicIp":"yes"`), "properties.properties.enableNodePublicIp", "must be true or false, not a string"},
		"a flag for a word":                    {"PUT " + compute, aml(`"vmSize":true`), "properties.properties.vmSize", "must be a string, not true"},
		"a list for an object":                 {"PUT " + compute, aml(`"subnet":[1]`), "properties.properties.subnet", "must be an object, not a list"},
		"a type that is none":                  {"PUT " + compute, `{"properties":{"computeType":"Banana"}}`, "properties.computeType", "AKS, AmlCompute, ComputeInstance"},
		"a type that is no word":               {"PUT " + compute, `{"properties":{"computeType":7}}`, "properties.computeType", "must be a string"},
		"no type":                              {"PUT " + compute, `{"properties":{"x":1}}`, "properties.computeType", "It is one of: AKS"},
		"a number for a tag":                   {"PUT " + compute, `{"tags":{"a":1},"properties":{"computeType":"AKS"}}`, "tags.a", "must be a string"},
		"a type that is refused later":         {"PUT " + compute, `{"properties":{"computeType":"AKS","properties":{"agentCount":-1}}}`, "properties.properties.agentCount", "0 or more"},
		"an instance":                          {"PUT " + compute, `{"properties":{"computeType":"ComputeInstance","properties":{"applicationSharingPolicy":"Public"}}}`, "properties.properties.applicationSharingPolicy", "Personal, Shared"},
		"an endpoint inside a list":            {"PUT " + compute, `{"properties":{"computeType":"ComputeInstance","properties":{"customServices":[{},{"endpoints":[{"target":"x"}]}]}}}`, "properties.properties.customServices[1].endpoints[0].target", "whole number"},
		"a job":                                {"PUT " + workspace + "/jobs/{j}", job(`"command":"echo","environmentId":"e"`), "", ""},
		"a job without an environment":         {"PUT " + workspace + "/jobs/{j}", job(`"command":"echo"`), "", ""},
		"a job without a command":              {"PUT " + workspace + "/jobs/{j}", job(`"environmentId":"e"`), "properties.command", "required"},
		"a job with an empty command":          {"PUT " + workspace + "/jobs/{j}", job(`"command":"","environmentId":"e"`), "properties.command", "at least 1"},
		"a job's input of no type":             {"PUT " + workspace + "/jobs/{j}", job(`"command":"c","environmentId":"e","inputs":{"a":{"jobInputType":"picture"}}`), "properties.inputs.a.jobInputType", "uri_file"},
		"a job's memory":                       {"PUT " + workspace + "/jobs/{j}", job(`"command":"c","environmentId":"e","resources":{"shmSize":"lots"}`), "properties.resources.shmSize", "does not match"},
		"a PATCH of scale settings in letters": {"PATCH " + compute, `{"properties":{"properties":{"scaleSettings":{"maxNodeCount":"x"}}}}`, "properties.properties.scaleSettings.maxNodeCount", "whole number"},
		"quotas that are no list":              {"POST " + location + "/updateQuotas", `{"value":{"a":1}}`, "value", "must be a list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := schema.Body(c.pattern).Check(decode(t, c.body))
			if c.says == "" {
				if err != nil {
					t.Errorf("%s: %v", c.body, err)
				}
				return
			}
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Kind != fault.Invalid || e.Target != c.target || !strings.Contains(e.Msg, c.says) || !strings.HasSuffix(e.Msg, ".") {
				t.Errorf("%s: %v, want %q about %s", c.body, err, c.says, c.target)
			}
		})
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	t.Parallel()
	err := schema.Body("PUT " + compute).Check(decode(t, `{"location":1,"properties":{"computeType":"AmlCompute","properties":{"vmSize":2,"osType":"BeOS"}}}`))
	e, _ := errors.AsType[*fault.Error](err)
	if e == nil || len(e.Details) != 3 || e.Target != e.Details[0].Target {
		t.Fatalf("%+v", e)
	}
	many := decode(t, `{"properties":{"computeType":"AmlCompute"},"tags":{}}`).(map[string]any)
	for i := range 1000 {
		many["tags"].(map[string]any)[fmt.Sprint(i)] = true
	}
	if e, _ := errors.AsType[*fault.Error](schema.Body("PUT " + compute).Check(many)); e == nil || len(e.Details) != 10 {
		t.Errorf("a thousand mistakes: %+v", e)
	}
}

// everybody lets anybody in.
type everybody struct{}

func (everybody) Verify(string) (access.Principal, error) { return access.Principal{}, nil }

func TestChecked(t *testing.T) {
	t.Parallel()
	rt := &arm.Router{Auth: everybody{}}
	reg := schema.Checked(rt)
	echo := func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		b, err := arm.ReadBody(r, arm.MaxBody)
		return 200, map[string]any{"got": string(b)}, err
	}
	reg.Handle("PUT "+compute, echo)
	reg.Handle("PUT /elsewhere/{x}", echo)
	const bad = `{"location":7}`
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"this version":                 {compute + "?api-version=2024-04-01", bad, 400},
		"no version":                   {compute, bad, 400},
		"another version":              {compute + "?api-version=2025-06-01", bad, 200},
		"what the specification lacks": {"/elsewhere/x", bad, 200},
		"a good body":                  {compute, `{"location":"x"}`, 200},
		"what is no JSON":              {compute, `{`, 200},
		"an object in a string":        {compute, `"{\"location\":7}"`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("PUT", "https://localhost"+strings.NewReplacer("{", "", "}", "").Replace(c.path), bytes.NewReader([]byte(c.body)))
			r.Header.Set("Authorization", "Bearer x")
			w := httptest.NewRecorder()
			rt.ServeHTTP(w, r)
			if w.Code != c.status {
				t.Fatalf("%d %s, want %d", w.Code, w.Body, c.status)
			}
			var got struct{ Got string }
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || c.status == 200 && got.Got != c.body {
				t.Errorf("the handler saw %q", got.Got)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	v := decode(b, `{"location":"westus","tags":{"a":"b"},"properties":{"computeType":"AmlCompute","properties":{"vmSize":"STANDARD_D2_V2","vmPriority":"dedicated","scaleSettings":{"minNodeCount":0,"maxNodeCount":4,"nodeIdleTimeBeforeScaleDown":"PT1800S"},"remoteLoginPortPublicAccess":"NotSpecified"}}}`)
	t := schema.Body("PUT " + compute)
	for b.Loop() {
		if err := t.Check(v); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHashVersion: SDK v2 sends a number among properties that the specification
// says are text; others of them it writes as text.
func TestHashVersion(t *testing.T) {
	t.Parallel()
	body := schema.Body("PUT " + workspace + "/codes/{name}/versions/{version}")
	for key, ok := range map[string]bool{"hash_version": true, "another": false} {
		v := map[string]any{"properties": map[string]any{"codeUri": "https://x/y", "properties": map[string]any{key: json.Number("202208")}}}
		if err := body.Check(v); (err == nil) != ok {
			t.Errorf("a number for %s: %v", key, err)
		}
	}
}
