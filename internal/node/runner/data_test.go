package runner_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner"
)

// give lays out what an agent would have fetched, in the attempt's folder.
func give(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
	}
}

// A job sees its inputs and outputs, with users and mounts or without: it may
// not change what is shared, and what it leaves is in the attempt's folder.
func TestAJobFindsItsInputsAndOutputs(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*runner.Config){
		"with all there is": func(*runner.Config) {}, "without users": func(c *runner.Config) { c.NoUsers = true },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := data(t)
			r := newRunner(t, d, change)
			dir := filepath.Join(d, "nodes/n/attempts/r.1")
			give(t, dir, map[string]string{
				"work/x": "", "inputs/data/a/b.csv": "1,2", "inputs/one/the file.csv": "3", "inputs/one" + runner.FileSuffix: "the file.csv",
				"copies/mine/c": "copied", "shared/ours/d": "shared",
			})
			for _, own := range []string{"copies/mine", "shared/ours"} { // a copy may be written to
				if err := os.Chmod(filepath.Join(dir, own, map[string]string{"copies/mine": "c", "shared/ours": "d"}[own]), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			o := order(`cat ${{inputs.data}}/a/b.csv "${{inputs.one}}" ${{inputs.mine}}/c; echo " ${{inputs.lr}} $V $AZUREML_PARAMETER_lr ${{inputs.there}}"
				test "$AZURE_ML_INPUT_data" = ${{inputs.data}} && test "$AZURE_ML_OUTPUT_out" = ${{outputs.out}} && echo named
				(echo no > ${{inputs.data}}/a/b.csv || echo no > ${{inputs.data}}/new) 2>/dev/null || echo fixed
				echo changed > ${{inputs.mine}}/c; echo changed > ${{inputs.ours}}/d
				mkdir ${{outputs.out}}/deep && echo made > ${{outputs.out}}/deep/f && echo report > ${{outputs.report}}`)
			o.Task.References, o.Task.Literals = true, map[string]string{"lr": "0.1"}
			o.Task.Variables = map[string]string{"V": "<${{inputs.lr}}>"}
			o.Task.Inputs = []queue.Input{
				{Name: "data", Type: "uri_folder", Mode: queue.ReadOnlyMount}, {Name: "one", Type: "uri_file", Mode: queue.ReadOnlyMount},
				{Name: "mine", Type: "uri_folder", Mode: queue.Download}, {Name: "ours", Type: "uri_folder", Mode: queue.ReadWriteMount},
				{Name: "there", Type: "uri_folder", Mode: queue.Direct, URI: "https://example.com/x"},
			}
			o.Task.Outputs = []queue.Output{{Name: "out", Type: "uri_folder", Mode: queue.ReadWriteMount, Key: "c/out"}, {Name: "report", Type: "uri_file", Mode: queue.Upload, Key: "c/report.txt"}}
			rec, log := finish(t, beginIn(t, r, dir, o))
			if want := "1,23copied 0.1 <0.1> 0.1 https://example.com/x\nnamed\nfixed\n"; rec.Exit.Code != 0 || log != want {
				t.Errorf("%+v, the job said %q, want %q", rec.Exit, log, want)
			}
			for name, want := range map[string]string{
				"inputs/data/a/b.csv": "1,2", "copies/mine/c": "changed\n", "shared/ours/d": "changed\n",
				runner.Outputs + "/out/deep/f": "made\n", runner.Outputs + "/report/report.txt": "report\n",
			} {
				if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
					t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
				}
			}
		})
	}
}

func TestAReferenceToNothingIsTheUsersToMend(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	o := order("echo ${{inputs.none}}")
	o.Task.References = true
	dir := filepath.Join(d, "nodes/n/attempts/r.1")
	give(t, dir, map[string]string{"work/x": ""})
	if _, err := r.Prepare(t.Context(), dir, o, nil); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "${{inputs.none}}") {
		t.Errorf("Prepare: %v", err)
	}
	o.Task.References = false // a run of SDK v1 says what it says
	if spec, err := r.Prepare(t.Context(), dir, o, nil); err != nil || spec.Argv[2] != "echo ${{inputs.none}}" {
		t.Errorf("Prepare: %v, %v", spec.Argv, err)
	}
}
