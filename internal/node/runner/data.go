package runner

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/shim/sandbox"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Folders of an attempt with a folder for each input and output. What lies in
// Shared and Outputs goes back to where it belongs when the job has ended.
const (
	Inputs  = "inputs"  // that the job may not change
	Copies  = "copies"  // of inputs, the job's own
	Shared  = "shared"  // copies of inputs that are written back
	Outputs = "outputs" // what the job leaves
)

// FileSuffix ends the name of a file beside an input's folder: it names the one
// file in it that the job is to see.
const FileSuffix = ".file"

// InputFolder is the folder of an attempt in which an input's folder is.
func InputFolder(in queue.Input) string {
	switch in.Mode {
	case queue.Download:
		return Copies
	case queue.ReadWriteMount:
		return Shared
	}
	return Inputs
}

// layData makes the folders of outputs, shows them and the inputs to the job,
// and returns what the job's references to them stand for.
func (r *Runner) layData(dir string, o nodeproto.Order, l *layout) (map[string]string, error) {
	refs := map[string]string{}
	for name, v := range o.Task.Literals {
		refs["inputs."+name] = v
	}
	for _, in := range o.Task.Inputs {
		if in.Mode == queue.Direct {
			refs["inputs."+in.Name] = in.URI
			continue
		}
		host := filepath.Join(dir, InputFolder(in), in.Name)
		at := r.show(l, host, "INPUT_"+in.Name, in.Mode == queue.ReadOnlyMount)
		if name, err := os.ReadFile(host + FileSuffix); err == nil {
			at = filepath.Join(at, filepath.Base(string(name)))
		}
		refs["inputs."+in.Name] = at
	}
	for _, out := range o.Task.Outputs {
		if out.Mode == queue.Direct {
			refs["outputs."+out.Name] = out.URI
			continue
		}
		host := filepath.Join(dir, Outputs, out.Name)
		if err := os.MkdirAll(host, 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of output %s: %w", out.Name, err)
		}
		at := r.show(l, host, "OUTPUT_"+out.Name, false)
		if queue.OneFile(out.Type) {
			at = filepath.Join(at, filepath.Base(out.Key))
		}
		refs["outputs."+out.Name] = at
	}
	return refs, nil
}

// show lets the job see a folder of the attempt, and returns where: with mounts
// where Azure has it, otherwise where it is.
func (r *Runner) show(l *layout, host, name string, readOnly bool) string {
	if !readOnly {
		l.own = append(l.own, host)
	}
	if l.base != "" {
		at := filepath.Join(l.base, "cap/data-capability/wd", name)
		l.world.Binds = append(l.world.Binds, sandbox.Bind{From: host, To: at, ReadOnly: readOnly})
		return at
	}
	if readOnly {
		l.world.Show = append(l.world.Show, host)
	} else {
		l.world.Write = append(l.world.Write, host)
	}
	return host
}

// filled is a task whose references stand for what they refer to, and the
// variables by which a job finds its inputs and outputs (AMLCOMPUTE.md, section 8).
func filled(t queue.Task, refs map[string]string) (queue.Task, map[string]string, error) {
	if !t.References {
		return t, nil, nil
	}
	get := func(ref string) (string, bool) { v, ok := refs[ref]; return v, ok }
	fill := func(text string) (string, error) {
		out, err := queue.Fill(text, get)
		if err != nil {
			err = fault.Coded(fault.Invalid, "UserError", "command", "The job refers to %s, which it does not have.", err)
		}
		return out, err
	}
	var err error
	if t.Command, err = fill(t.Command); err != nil {
		return t, nil, err
	}
	t.Variables = maps.Clone(t.Variables)
	for k, v := range t.Variables {
		if t.Variables[k], err = fill(v); err != nil {
			return t, nil, err
		}
	}
	vars := map[string]string{}
	for name, v := range t.Literals {
		vars["AZUREML_PARAMETER_"+name] = v
	}
	for _, in := range t.Inputs {
		vars["AZURE_ML_INPUT_"+in.Name], vars["AZUREML_DATAREFERENCE_"+in.Name] = refs["inputs."+in.Name], refs["inputs."+in.Name]
	}
	for _, out := range t.Outputs {
		vars["AZURE_ML_OUTPUT_"+out.Name], vars["AZUREML_DATAREFERENCE_"+out.Name] = refs["outputs."+out.Name], refs["outputs."+out.Name]
	}
	return t, vars, nil
}
