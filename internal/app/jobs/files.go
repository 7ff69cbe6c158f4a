package jobs

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/near"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// jobInput is JobInput of mfe.json.
type jobInput struct {
	JobInputType string
	Value        any // of a literal
	URI          string
	Mode         *string
}

// jobOutput is JobOutput of mfe.json.
type jobOutput struct {
	JobOutputType string
	URI           string
	Mode          *string
	AssetName     string
	AssetVersion  string
}

// fileName is what inputs and outputs may be called: each is a folder, and a
// part of a variable's name.
var fileName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)

// types of mfe.json that are files or folders.
var fileTypes = []string{"uri_file", "uri_folder", "mltable", "custom_model", "mlflow_model", "triton_model"}

func checkFile(where, name, kind string) error {
	if !fileName.MatchString(name) {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", where, "The name %.80q is not valid: it must have 1 to 255 letters, digits and underscores, and not begin with a digit.", name)
	}
	if !slices.ContainsFunc(fileTypes, func(t string) bool { return strings.EqualFold(t, kind) }) {
		return fault.New(fault.Unsupported, where+"."+name, "The type %.40q of %q is not built; literal (of inputs) and %s are.", kind, name, strings.Join(fileTypes, ", "))
	}
	return nil
}

// modes by their names.
func modeOf(where string, given *string, standard queue.Mode, known ...queue.Mode) (queue.Mode, error) {
	if given == nil || *given == "" {
		return standard, nil
	}
	for _, m := range known {
		if strings.EqualFold(string(m), *given) {
			return m, nil
		}
	}
	return "", fault.New(fault.Unsupported, where, "The mode %.40q of %s is not built; %s are.", *given, where, words(known))
}

// words are modes in a sentence.
func words(modes []queue.Mode) string {
	var out []string
	for _, m := range modes {
		out = append(out, string(m))
	}
	return strings.Join(out, ", ")
}

// files reads inputs and outputs. Literals come apart from the rest.
func (p *properties) files(in *Submission) error {
	in.Literals = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Inputs)) {
		given, where := p.Inputs[name], "properties.inputs"
		if given == nil || strings.EqualFold(given.JobInputType, "literal") && given.Value == nil {
			continue // an optional one that is not given
		}
		if strings.EqualFold(given.JobInputType, "literal") {
			text, err := text(given.Value)
			if err != nil || !fileName.MatchString(strings.ReplaceAll(name, ".", "_")) {
				return fault.Coded(fault.Invalid, "InvalidPropertyValue", where+"."+name, "The literal input %.80q is not valid: its name has letters, digits and underscores, its value is text or a number.", name)
			}
			in.Literals[name] = text
			continue
		}
		if err := checkFile(where, name, given.JobInputType); err != nil {
			return err
		}
		mode, err := modeOf(where+"."+name+".mode", given.Mode, queue.ReadOnlyMount, queue.ReadOnlyMount, queue.ReadWriteMount, queue.Download, queue.Direct)
		if err != nil {
			return err
		}
		if given.URI == "" {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", where+"."+name+".uri", "The input %q names no data: its property uri is missing.", name)
		}
		in.Inputs = append(in.Inputs, queue.Input{Name: name, Type: strings.ToLower(given.JobInputType), URI: given.URI, Mode: mode})
	}
	return p.results(in)
}

// results reads outputs. "default" is what Azure itself adds for the run's own
// files: who sends back what another server showed means no output by it.
func (p *properties) results(in *Submission) error {
	const where = "properties.outputs"
	for _, name := range slices.Sorted(maps.Keys(p.Outputs)) {
		given := p.Outputs[name]
		if given == nil || name == "default" && strings.Contains(strings.ToLower(given.URI), "workspaceartifactstore") {
			continue
		}
		if given.JobOutputType == "" {
			given.JobOutputType = "uri_folder"
		}
		if err := checkFile(where, name, given.JobOutputType); err != nil {
			return err
		}
		mode, err := modeOf(where+"."+name+".mode", given.Mode, queue.ReadWriteMount, queue.ReadWriteMount, queue.Upload, queue.Direct)
		if err != nil {
			return err
		}
		in.Outputs = append(in.Outputs, queue.Output{Name: name, Type: strings.ToLower(given.JobOutputType), URI: given.URI, Mode: mode,
			Asset: given.AssetName, Version: given.AssetVersion})
	}
	return nil
}

// Place fills in the addresses of outputs that name none: below the job's name
// in the default datastore, as Azure has it.
func (in *Submission) Place() {
	for i := range in.Outputs {
		if o := &in.Outputs[i]; o.URI == "" {
			o.URI = "azureml://datastores/workspaceblobstore/paths/azureml/" + in.Name + "/" + o.Name
			if !queue.OneFile(o.Type) {
				o.URI += "/"
			}
		}
	}
}

// refers checks that command and variables refer only to what the job has.
func (in *Submission) refers() error {
	known := func(ref string) (string, bool) {
		kind, name, _ := strings.Cut(ref, ".")
		_, literal := in.Literals[name]
		switch kind {
		case "inputs":
			return "", literal || slices.ContainsFunc(in.Inputs, func(i queue.Input) bool { return i.Name == name })
		case "outputs":
			return "", slices.ContainsFunc(in.Outputs, func(o queue.Output) bool { return o.Name == name })
		}
		return "", false
	}
	check := func(where, what, text string) error {
		if _, err := queue.Fill(text, known); err != nil {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", where, "%s refers to %.200s, which the job does not have. %s", what, err, in.references(err.Error()))
		}
		return nil
	}
	err := check("properties.command", "The command", in.Command)
	for _, k := range slices.Sorted(maps.Keys(in.Variables)) {
		err = errors.Join(err, check("properties.environmentVariables."+k, "The environment variable "+k, in.Variables[k]))
	}
	return err
}

// references says what command and variables may refer to, nearest first.
func (in *Submission) references(wrong string) string {
	var have []string
	for name := range in.Literals {
		have = append(have, "${{inputs."+name+"}}")
	}
	for _, i := range in.Inputs {
		have = append(have, "${{inputs."+i.Name+"}}")
	}
	for _, o := range in.Outputs {
		have = append(have, "${{outputs."+o.Name+"}}")
	}
	if len(have) == 0 {
		return "It has no inputs and outputs."
	}
	slices.Sort(have)
	return "It has " + near.List(wrong, have) + "."
}

// services refuses what would have to listen on a node.
func (p *properties) services() error {
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[name]
		if s == nil || strings.EqualFold(s.JobServiceType, "Studio") || strings.EqualFold(s.JobServiceType, "Tracking") {
			continue // these come back from who sends what was read
		}
		return fault.New(fault.Unsupported, "properties.services."+name, "The feature \"interactive services of jobs\" (%.40s) is not built; \"ebb job exec\" opens a shell in a running job.", s.JobServiceType)
	}
	return nil
}
