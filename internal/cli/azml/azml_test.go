package azml_test

import (
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

var file = client.File{SubscriptionID: "s", ResourceGroup: "g", WorkspaceName: "w"}

func TestAssetID(t *testing.T) {
	t.Parallel()
	ws := file.Workspace()
	for ref, want := range map[string]string{
		"":                             "",
		"azureml:sk:3":                 ws + "/environments/sk/versions/3",
		"sk:3":                         ws + "/environments/sk/versions/3",
		"azureml:sk@latest":            "azureml:sk",
		"azureml:sk":                   "azureml:sk",
		"/subscriptions/x/y":           "/subscriptions/x/y",
		"azureml:/subscriptions/x/y":   "/subscriptions/x/y",
		"azureml:":                     "is not azureml:NAME:VERSION",
		"azureml:sk:":                  "is not azureml:NAME:VERSION",
		"azureml:a/b:1":                "is not azureml:NAME:VERSION",
		"azureml:sk@stable":            "is not azureml:NAME:VERSION",
		"azureml://registries/r/x":     "registries are not built",
		"mcr.microsoft.com/x:1@sha256": "is not azureml:NAME:VERSION",
	} {
		got, err := azml.AssetID(file, "environments", ref)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("AssetID(%q) = %q, want %q", ref, got, want)
		}
	}
}

func TestWhichPathsAreOfThisMachine(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"": false, "data": true, "./a:b": true, "/abs": true, "../x": true, "file:x": true, "file:///x": true, `C:\x`: true,
		"azureml:data:1": false, "azureml://datastores/x": false, "https://h/x": false, "wasbs://c@a/x": false, "abfss://x": false, "git+ssh://x": false,
	} {
		if got := azml.IsLocal(path); got != want {
			t.Errorf("IsLocal(%q) = %t", path, got)
		}
	}
	for path, want := range map[string]string{"file:x": "/d/x", "file:///x": "/x", "/x": "/x", "x/y": "/d/x/y", "file:./x": "/d/x"} {
		if got := azml.Abs("/d", path); got != want {
			t.Errorf("Abs(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestComputeIsNamedInAnyWay(t *testing.T) {
	t.Parallel()
	id := file.Workspace() + "/computes/cpu"
	for _, ref := range []string{"cpu", "azureml:cpu", id, "azureml:" + id} {
		if name, got := azml.ComputeName(ref), azml.ComputeID(file, ref); name != "cpu" || got != id {
			t.Errorf("%s is %s, %s", ref, name, got)
		}
	}
}

// An environment that is written out has one name, however it is laid out.
func TestAnonymousNamesGoByContent(t *testing.T) {
	t.Parallel()
	version := func(text string) string {
		t.Helper()
		doc, err := yamlspec.Parse("env.yml", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var e azml.Environment
		if err := doc.Decode(&e); err != nil {
			t.Fatal(err)
		}
		document, err := e.ARM("")
		if err != nil {
			t.Fatal(err)
		}
		v, err := azml.Anonymous(document)
		if err != nil || len(v) != 64 {
			t.Fatalf("%q, %v", v, err)
		}
		return v
	}
	one := version("image: i\nconda_file: {dependencies: [pip], channels: [defaults]}\n")
	if two := version("# the same\nconda_file:\n  channels:\n    - defaults\n  dependencies:\n    - pip\nimage: i\n"); one != two {
		t.Errorf("%s and %s", one, two)
	}
	if other := version("image: j\nconda_file: {dependencies: [pip], channels: [defaults]}\n"); one == other {
		t.Error("another image is the same environment")
	}
}
