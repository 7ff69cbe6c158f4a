package mgmt_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// account is the workspace's of newJobWorld.
const blobstore = "azureml-blobstore-22222222-2222-2222-2222-222222222222"

func jobWith(inputs, outputs, command string) string {
	return fmt.Sprintf(`{"properties":{"jobType":"Command","command":%q,"computeId":"cpu","inputs":%s,"outputs":%s}}`, command, inputs, outputs)
}

func TestJobKnowsWhereItsFilesAre(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	body := jobWith(`{
		"lr":{"jobInputType":"literal","value":"0.1"},
		"none":{"jobInputType":"literal","value":null},
		"short":{"jobInputType":"uri_folder","uri":"azureml://datastores/workspaceblobstore/paths/a/b/"},
		"long":{"jobInputType":"uri_file","mode":"Download","uri":"azureml:/`+jobsWS[1:]+`/datastores/workspaceblobstore/paths/a/b.csv"},
		"elsewhere":{"jobInputType":"uri_file","mode":"Direct","uri":"https://example.com/x"}}`,
		`{"model":{"jobOutputType":"uri_folder"},"report":{"jobOutputType":"uri_file","mode":"Upload","uri":"azureml://datastores/workspaceblobstore/paths/r.txt"},
		  "default":{"jobOutputType":"uri_folder","uri":"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.j"}}`,
		"train ${{inputs.lr}} ${{inputs.short}} $[[--none ${{inputs.none}}]] ${{outputs.model}}")
	props := w.call(201, "PUT", "/jobs/j", body)["properties"].(map[string]any)
	in, out := props["inputs"].(map[string]any), props["outputs"].(map[string]any)
	for what, c := range map[string]struct{ got, want any }{
		"an output's address":     {out["model"].(map[string]any)["uri"], "azureml://datastores/workspaceblobstore/paths/azureml/j/model/"},
		"an output's mode":        {out["model"].(map[string]any)["mode"], "ReadWriteMount"},
		"an address that is said": {out["report"].(map[string]any)["uri"], "azureml://datastores/workspaceblobstore/paths/r.txt"},
		"no output default":       {out["default"], nil},
		"an input's mode":         {in["short"].(map[string]any)["mode"], "ReadOnlyMount"},
		"a literal":               {in["lr"].(map[string]any)["value"], "0.1"},
		"the command":             {props["command"], "train ${{inputs.lr}} ${{inputs.short}} $[[--none ${{inputs.none}}]] ${{outputs.model}}"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %v, want %v", what, c.got, c.want)
		}
	}
	var task queue.Task
	if err := json.Unmarshal(w.store.Rows(row.Task)[0].(row.Document).Body, &task); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for _, i := range task.Inputs {
		keys[i.Name] = i.Key
	}
	for _, o := range task.Outputs {
		keys[o.Name] = o.Key
	}
	if want := fmt.Sprint(map[string]string{"short": blobstore + "/a/b", "long": blobstore + "/a/b.csv", "elsewhere": "", "model": blobstore + "/azureml/j/model", "report": blobstore + "/r.txt"}); fmt.Sprint(keys) != want {
		t.Errorf("keys %v, want %v", keys, want)
	}
	again, err := json.Marshal(map[string]any{"properties": w.call(200, "GET", "/jobs/j", "")["properties"]})
	if err != nil {
		t.Fatal(err)
	}
	w.call(200, "PUT", "/jobs/j", string(again)) // what was read is the same job

	// Another job reads what this one leaves, by its name.
	w.call(201, "PUT", "/jobs/next", jobWith(`{"m":{"jobInputType":"uri_folder","uri":"azureml://jobs/j/outputs/model/paths/deep/"},"a":{"jobInputType":"uri_file","uri":"azureml://jobs/j/outputs/artifacts/paths/x.txt"}}`, "{}", "x"))
	for _, d := range w.store.Rows(row.Task) {
		var next queue.Task
		if err := json.Unmarshal(d.(row.Document).Body, &next); err != nil {
			t.Fatal(err)
		}
		if next.Name == "next" && (next.Inputs[1].Key != blobstore+"/azureml/j/model/deep" || !strings.HasSuffix(next.Inputs[0].Key, "/ExperimentRun/dcid.j/x.txt")) {
			t.Errorf("inputs %v", next.Inputs)
		}
	}
	if r := w.call(400, "PUT", "/jobs/bad", jobWith(`{"m":{"jobInputType":"uri_folder","uri":"azureml://jobs/j/outputs/none"}}`, "{}", "x")); !strings.Contains(fmt.Sprint(r), `no output \"none\"`) && !strings.Contains(fmt.Sprint(r), `no output "none"`) {
		t.Errorf("an output that there is not: %v", r)
	}
}

func TestJobFilesAreRefusedByName(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	in := func(uri string) string {
		return jobWith(`{"a":{"jobInputType":"uri_folder","uri":"`+uri+`"}}`, "{}", "x")
	}
	out := func(kind, uri string) string {
		return jobWith("{}", `{"b":{"jobOutputType":"`+kind+`","uri":"`+uri+`"}}`, "x")
	}
	for what, c := range map[string]struct{ body, says string }{
		"a datastore that is not there":   {in("azureml://datastores/nowhere/paths/x"), "nowhere"},
		"an asset that is not there":      {in("azureml:table:9"), "table"},
		"another account":                 {in("https://other.blob.core.windows.net/c/x"), "other"},
		"another cloud's scheme":          {in("s3://bucket/x"), "s3://bucket"},
		"a path that leads away":          {in("azureml://datastores/workspaceblobstore/paths/../../x"), "relative segments"},
		"an output of no job":             {in("azureml://jobs/j/outputs/model"), "was not found"},
		"an output over an asset":         {out("uri_folder", "azureml:table:1"), "no place to write to"},
		"an output file that is a folder": {out("uri_file", "azureml://datastores/workspaceblobstore/paths/x/"), "is a folder"},
		"a reference to nothing":          {jobWith("{}", "{}", "x ${{inputs.a}}"), "${{inputs.a}}"},
		"a reference of sweeps":           {jobWith("{}", "{}", "x ${{search_space.a}}"), "search_space.a"},
		"a reference in a variable":       {strings.Replace(commandJob, `"tags"`, `"environmentVariables":{"V":"${{outputs.o}}"},"tags"`, 1), "environment variable V"},
	} {
		r := w.call(400, "PUT", "/jobs/bad", c.body)
		if text := fmt.Sprint(r["error"]); !strings.Contains(text, c.says) {
			t.Errorf("%s: %s, want the words %q", what, text, c.says)
		}
	}
}

func TestAssetsOfWhatAJobLeft(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	w.call(201, "PUT", "/jobs/J", jobWith("{}", `{"model":{"jobOutputType":"uri_folder"}}`, "x"))
	artifacts := "azureml-22222222-2222-2222-2222-222222222222/ExperimentRun/dcid.J/outputs/"
	w.files.keys = []string{blobstore + "/azureml/J/model/w.bin", artifacts + "a.pkl", artifacts + "b/c.pkl"}
	words := strings.Split(jobsWS, "/")
	long := "azureml://subscriptions/" + words[2] + "/resourcegroups/" + words[4] + "/workspaces/" + words[8] + "/datastores/"
	put := func(status int, kind, key, uri string) dict {
		return w.call(status, "PUT", "/"+kind+"/a/versions/1", `{"properties":{"`+key+`":"`+uri+`","dataType":"uri_folder"}}`)
	}
	for uri, want := range map[string]string{
		"azureml://jobs/J/outputs/model":                        long + "workspaceblobstore/paths/azureml/J/model/",
		"azureml://jobs/J/outputs/model/paths/w.bin":            long + "workspaceblobstore/paths/azureml/J/model/w.bin",
		"azureml://jobs/J/outputs/artifacts/outputs/a.pkl":      long + "workspaceartifactstore/paths/ExperimentRun/dcid.J/outputs/a.pkl",
		"azureml://jobs/J/outputs/artifacts/paths/outputs/b/":   long + "workspaceartifactstore/paths/ExperimentRun/dcid.J/outputs/b/",
		"azureml://datastores/workspaceblobstore/paths/not/yet": "azureml://datastores/workspaceblobstore/paths/not/yet",
	} {
		for kind, key := range map[string]string{"models": "modelUri", "data": "dataUri"} {
			got := put(201, kind, key, uri)["properties"].(dict)
			if got[key] != want {
				t.Errorf("%s of %s: %v, want %s", key, uri, got[key], want)
			}
			if kind == "models" && strings.Contains(uri, "/jobs/") && got["jobName"] != "J" {
				t.Errorf("the model of %s is of the job %v", uri, got["jobName"])
			}
			put(200, kind, key, uri)
			w.call(200, "DELETE", "/"+kind+"/a", "")
		}
	}
	for uri, says := range map[string]string{
		"azureml://jobs/nobody/outputs/model":                    "nobody",
		"azureml://jobs/nobody/outputs/artifacts/outputs/a.pkl":  "nobody",
		"azureml://jobs/J/outputs/modell":                        "It has: model, artifacts",
		"azureml://jobs/J/outputs/model/deep":                    "no files",
		"azureml://jobs/J/outputs/artifacts/outputs/a":           "no files",
		"azureml://jobs/J/outputs/artifacts/paths/../dcid.other": "relative",
	} {
		if r := put(400, "models", "modelUri", uri); !strings.Contains(fmt.Sprint(r), says) {
			t.Errorf("%s: %v, want %q", uri, r, says)
		}
	}
	w.call(404, "GET", "/models/a", "")
}
