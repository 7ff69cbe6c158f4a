package compat_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/schema"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// example is what is done with one of Microsoft's own examples.
type example struct {
	compute string // sent to the compute of this name: the examples use one name for all
	method  string
	at      string // below the workspace, or after LOCATION below the region
	status  int
	// refused is the code of the error, and why the reason: Ebb differs from Azure there.
	refused, why string
	lacks        []string // of the answer's shape, because of why
}

// examples are all there are, in the order in which they make sense on one server.
// shape is the answer's: all properties of the example, and the specification's types.
var examples = []struct {
	file string
	example
}{
	{"Compute/createOrUpdate/BasicAmlCompute.json", example{compute: "basic", method: "PUT", status: 201}},
	{"Compute/createOrUpdate/AmlCompute.json", example{compute: "aml", method: "PUT", status: 201}},
	{"Compute/get/AmlCompute.json", example{compute: "aml", method: "GET", status: 200}},
	{"Compute/patch.json", example{compute: "basic", method: "PATCH", status: 200}},
	{"Compute/listNodes.json", example{compute: "aml", method: "POST", at: "/listNodes", status: 200}},
	{"Compute/list.json", example{method: "GET", at: "/computes", status: 200}},
	{"Compute/createOrUpdate/ComputeInstanceMinimal.json", example{compute: "ci-minimal", method: "PUT", status: 201}},
	{"Compute/createOrUpdate/ComputeInstanceWithSchedules.json", example{compute: "ci-schedules", method: "PUT", status: 201}},
	{"Compute/createOrUpdate/ComputeInstance.json", example{compute: "ci1", method: "PUT", status: 201}},
	{"Compute/get/ComputeInstance.json", example{
		compute: "ci1", method: "GET", status: 200,
		lacks: []string{
			"properties.properties.applications[0] is missing", "properties.properties.connectivityEndpoints is missing",
			"properties.properties.customServices[0].environmentVariables.test_var is missing", "properties.properties.osImageMetadata is missing",
		},
		why: "it has no address, no applications and no image; the variable has another name in the example that made it",
	}},
	{"Compute/stop.json", example{compute: "ci1", method: "POST", at: "/stop", status: 202}},
	{"Compute/start.json", example{compute: "ci1", method: "POST", at: "/start", status: 202}},
	{"Compute/restart.json", example{compute: "ci1", method: "POST", at: "/restart", status: 202}},
	{"Compute/delete.json", example{compute: "ci1", method: "DELETE", status: 202}},
	{"Quota/update.json", example{method: "POST", at: "LOCATION/updateQuotas", status: 200}},
	{"Quota/list.json", example{method: "GET", at: "LOCATION/quotas", status: 200}},
	{"Usage/list.json", example{method: "GET", at: "LOCATION/usages", status: 200}},
	{"VirtualMachineSize/list.json", example{method: "GET", at: "LOCATION/vmSizes", status: 200}},

	{"Compute/createOrUpdate/AKSCompute.json", example{compute: "aks", method: "PUT", status: 400, refused: "NotImplemented", why: "there are no Kubernetes services"}},
	{"Compute/createOrUpdate/BasicAKSCompute.json", example{compute: "aks", method: "PUT", status: 400, refused: "NotImplemented", why: "there are no Kubernetes services"}},
	{"Compute/createOrUpdate/KubernetesCompute.json", example{compute: "k8s", method: "PUT", status: 400, refused: "NotImplemented", why: "nothing can be attached"}},
	{"Compute/createOrUpdate/BasicDataFactoryCompute.json", example{compute: "factory", method: "PUT", status: 400, refused: "NotImplemented", why: "there are no data factories"}},
	{"Compute/get/AKSCompute.json", example{compute: "aks", method: "GET", status: 404, refused: "ResourceNotFound", why: "none can be made"}},
	{"Compute/get/KubernetesCompute.json", example{compute: "k8s", method: "GET", status: 404, refused: "ResourceNotFound", why: "none can be made"}},
	{"Compute/listKeys.json", example{compute: "aml", method: "POST", at: "/listKeys", status: 400, refused: "UserError", why: "only AKS, Databricks and virtual machines have keys"}},
}

// ours puts a server's names into an example: those of the examples are no one's.
func ours(w *wire, text string) string {
	sub := strings.TrimPrefix(w.sub, "/subscriptions/")
	return strings.NewReplacer(
		"34adfa4f-cedf-4dc0-ba29-b6d1a69ab345", sub, "/subscriptions/00000000-0000-0000-0000-000000000000/", w.sub+"/",
		"test-subnet-resource-id", w.sub+"/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/v/subnets/s",
	).Replace(text)
}

// TestExamples sends every request of Microsoft's examples for computes, quotas,
// usages and sizes to a server, and holds the answers to their shape and to the
// specification.
func TestExamples(t *testing.T) {
	t.Parallel()
	w := newWire(t, testkit.Serve(t))
	const version = "?api-version=2024-04-01"
	sub := strings.TrimPrefix(w.sub, "/subscriptions/")
	for group, names := range map[string][]string{"testrg123": {"workspaces123"}, "rg": {"demo_workspace1", "demo_workspace2"}} {
		w.want(201, "PUT", armid.Group(sub, group)+"?api-version=2022-09-01", `{"location":"eastus"}`)
		for _, name := range names {
			if a := w.ask("PUT", armid.Workspace(sub, group, name)+version, `{"location":"eastus","properties":{}}`); a.status > 202 {
				t.Fatalf("make %s: %d %s", name, a.status, a.raw)
			}
		}
	}
	ws := armid.Workspace(sub, "testrg123", "workspaces123")
	root := filepath.Join(testkit.Root(), "internal", "api", "schema", "testdata", "examples")
	for _, e := range examples {
		raw, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(e.file)))
		if err != nil {
			t.Fatal(err)
		}
		var sent struct {
			Parameters struct{ Parameters json.RawMessage }
			Responses  map[string]struct {
				Body    any
				Headers map[string]string
			}
		}
		if err := json.Unmarshal([]byte(ours(w, string(raw))), &sent); err != nil {
			t.Fatal(err)
		}
		at := ws + e.at
		if e.compute != "" {
			at = ws + "/computes/" + e.compute + e.at
		}
		if below, ok := strings.CutPrefix(e.at, "LOCATION"); ok {
			at = w.sub + "/providers/" + armid.Provider + "/locations/eastus" + below
		}
		if e.file == "Compute/listNodes.json" {
			testkit.Until(t, time.Minute, "the cluster has its nodes", func() bool {
				nodes, _ := w.want(200, "POST", at+version, "").at("nodes").([]any)
				return len(nodes) == 4
			})
		}
		a := w.want(e.status, e.method, at+version+"&underlyingResourceAction=Delete", string(sent.Parameters.Parameters))
		if e.refused != "" {
			if a.at("error.code") != e.refused || e.why == "" {
				t.Errorf("%s is refused with %s; the table has %s: %s", e.file, a.raw, e.refused, e.why)
			}
			continue
		}
		wants, ok := sent.Responses[fmt.Sprint(e.status)]
		if !ok {
			t.Errorf("%s is answered %d; the example has %v", e.file, e.status, slices.Collect(maps.Keys(sent.Responses)))
		}
		for name := range wants.Headers {
			if a.header.Get(name) == "" {
				t.Errorf("%s: the answer has no %s", e.file, name)
			}
		}
		if a.header.Get("Azure-AsyncOperation") != "" {
			if op := w.settled(a); op.at("status") != "Succeeded" {
				t.Errorf("%s: the operation ended with %s", e.file, op.raw)
			}
		}
		if wants.Body != nil {
			if lacks := shape("", wants.Body, a.body); !slices.Equal(lacks, e.lacks) {
				t.Errorf("%s: the answer differs from the example by %q, in the table by %q", e.file, lacks, e.lacks)
			}
			pattern := e.method + " " + placeholders(at)
			if err := schema.Answer(pattern, e.status).CheckAnswer(a.body); err != nil {
				t.Errorf("%s: %v", e.file, err)
			}
		}
		if e.file == "Quota/update.json" && strings.Count(a.raw, `"Success"`) != 2 {
			t.Errorf("quotas: %s", a.raw)
		}
	}
	if gone := w.ask("GET", ws+"/computes/ci1"+version, ""); gone.status != 404 {
		t.Errorf("the instance that was deleted: %d %s", gone.status, gone.raw)
	}
}

// placeholders is a path as the specification writes it, whatever its names are.
func placeholders(at string) string {
	parts := strings.Split(at, "/")
	for i := 2; i < len(parts); i += 2 {
		if parts[i-1] != "providers" {
			parts[i] = "{x}"
		}
	}
	return strings.Join(parts, "/")
}

// TestEveryExampleIsSent: an example that is not in the table would prove nothing.
func TestEveryExampleIsSent(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, e := range examples {
		if listed[e.file] {
			t.Errorf("%s is sent twice", e.file)
		}
		listed[e.file] = true
	}
	root := filepath.Join(testkit.Root(), "internal", "api", "schema", "testdata", "examples")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".json" {
			return err
		}
		name, err := filepath.Rel(root, path)
		if name = filepath.ToSlash(name); !listed[name] {
			t.Errorf("%s is not sent", name)
		}
		delete(listed, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range listed {
		t.Errorf("there is no example %s", name)
	}
}

// shape says where got lacks a property of the example, or has another JSON type
// there. Null fits all, and the elements of a list are held to the example's first.
func shape(path string, example, got any) (differs []string) {
	if n, ok := got.(json.Number); ok {
		got, _ = n.Float64()
	}
	if example == nil || got == nil {
		return nil
	}
	if fmt.Sprintf("%T", example) != fmt.Sprintf("%T", got) {
		return []string{fmt.Sprintf("%s is a %T and not a %T", path, got, example)}
	}
	switch want := example.(type) {
	case map[string]any:
		have, _ := got.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(want)) {
			at := strings.TrimPrefix(path+"."+k, ".")
			if _, ok := have[k]; ok {
				differs = append(differs, shape(at, want[k], have[k])...)
			} else if k != "nextLink" { // of a first page; ours is the last
				differs = append(differs, at+" is missing")
			}
		}
	case []any:
		have, _ := got.([]any)
		switch {
		case len(want) == 0:
			return nil
		case len(have) == 0:
			return []string{path + "[0] is missing"}
		}
		for i := range have {
			differs = append(differs, shape(fmt.Sprintf("%s[%d]", path, i), want[0], have[i])...)
		}
	}
	return differs
}
