package cli

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"os"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ebb-compute/ebb/client"
)

// jobFlags are those of "ebb job create".
type jobFlags struct {
	name, file, compute, command string
	env, tags                    []string
	experiment, display          string
	description                  string
	timeout                      seconds
	instances                    int
	stream                       bool
}

// jobSpec is what is taken of az ml's command job schema.
type jobSpec struct {
	Name, Display, Experiment, Description string
	Command, Compute, Environment          string
	Variables, Tags, Properties            map[string]string
	Inputs                                 map[string]client.Input
	Timeout                                int64 // seconds; 0: none
	Instances                              int   // 0: one
}

// notTaken are the parts of the schema that Ebb's server does not take yet,
// with the way out where there is one.
var notTaken = map[string]string{
	"code":             "uploading a local folder is not built into \"ebb job create\" yet; submit it through \"ebb exec\" with Microsoft's SDK, or leave code out",
	"outputs":          "outputs are not taken yet; write to ./outputs",
	"distribution":     "jobs over several processes are not taken yet",
	"services":         "services in a job are not taken yet",
	"identity":         "a job's own identity is not taken yet",
	"queue_settings":   "queue settings are not taken yet",
	"parent_job_name":  "child jobs are not taken yet",
	"component":        "components are not taken yet",
	"jobs":             "pipelines are not taken yet",
	"trial":            "sweeps are not taken yet",
	"search_space":     "sweeps are not taken yet",
	"job_tier":         "job tiers are not taken yet",
	"priority":         "priorities are not taken yet",
	"settings":         "settings are not taken yet",
	"is_deterministic": "components are not taken yet",
}

// spec joins the file and the flags; flags win.
func (f *jobFlags) spec() (jobSpec, error) {
	var s jobSpec
	if f.file != "" {
		if err := s.read(f.file); err != nil {
			return s, err
		}
	}
	for _, over := range []struct {
		flag  string
		field *string
	}{
		{f.name, &s.Name}, {f.compute, &s.Compute}, {f.command, &s.Command},
		{f.experiment, &s.Experiment}, {f.display, &s.Display}, {f.description, &s.Description},
	} {
		if over.flag != "" {
			*over.field = over.flag
		}
	}
	if f.timeout.set {
		s.Timeout = f.timeout.value
	}
	if f.instances != 0 {
		s.Instances = f.instances
	}
	if s.Instances < 0 {
		return s, usagef("--instance-count %d: it is 1 or more", s.Instances)
	}
	var err error
	if s.Variables, err = merged(s.Variables, "--env", f.env); err != nil {
		return s, err
	}
	if s.Tags, err = merged(s.Tags, "--tags", f.tags); err != nil {
		return s, err
	}
	if s.Command == "" {
		return s, usagef("the job needs a command: --command 'echo hello', or a file with -f")
	}
	if s.Compute == "" {
		return s, usagef("the job needs a cluster: --compute NAME")
	}
	return s, nil
}

func merged(base map[string]string, flag string, given []string) (map[string]string, error) {
	more, err := pairs(flag, given)
	if err != nil || base == nil {
		return more, err
	}
	for k, v := range more {
		base[k] = v
	}
	return base, nil
}

// read takes a YAML file, and names what it holds that is not taken: a part
// that is left out silently is a job that runs as its author did not mean.
func (s *jobSpec) read(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return usageError{err}
	}
	var doc map[string]yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return usageError{fmt.Errorf("%s: %w", file, err)}
	}
	for _, key := range sortedKeys(doc) {
		node := doc[key]
		if err := s.take(key, &node); err != nil {
			return usageError{fmt.Errorf("%s, line %d: %s: %w", file, node.Line, key, err)}
		}
	}
	return nil
}

func (s *jobSpec) take(key string, node *yaml.Node) error {
	texts := map[string]*string{
		"name": &s.Name, "display_name": &s.Display, "experiment_name": &s.Experiment, "description": &s.Description,
		"command": &s.Command, "compute": &s.Compute,
	}
	maps := map[string]*map[string]string{
		"environment_variables": &s.Variables, "tags": &s.Tags, "properties": &s.Properties,
	}
	switch {
	case texts[key] != nil:
		return node.Decode(texts[key])
	case maps[key] != nil:
		return node.Decode(maps[key])
	case key == "$schema":
		return nil
	case key == "type":
		return takeType(node)
	case key == "environment":
		if node.Kind != yaml.ScalarNode {
			return fmt.Errorf("an environment written out here is not taken yet; register it and name it, as azureml:NAME:VERSION")
		}
		return node.Decode(&s.Environment)
	case key == "inputs":
		return s.takeInputs(node)
	case key == "limits":
		var limits struct {
			Timeout string `yaml:"timeout"`
		}
		if err := only(node, &limits, "timeout"); err != nil || limits.Timeout == "" {
			return err
		}
		var err error
		s.Timeout, err = parseSeconds(limits.Timeout)
		return err
	case key == "resources":
		var resources struct {
			Instances int `yaml:"instance_count"`
		}
		err := only(node, &resources, "instance_count")
		s.Instances = resources.Instances
		return err
	case notTaken[key] != "":
		return fmt.Errorf("%s", notTaken[key])
	}
	return fmt.Errorf("az ml's command job schema has no such key")
}

// takeInputs takes values; data as input is not taken yet.
func (s *jobSpec) takeInputs(node *yaml.Node) error {
	var inputs map[string]yaml.Node
	if err := node.Decode(&inputs); err != nil {
		return err
	}
	s.Inputs = map[string]client.Input{}
	for name, value := range inputs {
		if value.Kind != yaml.ScalarNode {
			return fmt.Errorf("%s: data as input is not taken yet; values are", name)
		}
		s.Inputs[name] = client.Input{Type: "literal", Value: value.Value}
	}
	return nil
}

func takeType(node *yaml.Node) error {
	if node.Value != "command" && node.Value != "" {
		return fmt.Errorf("%s jobs are not taken yet; command jobs are", node.Value)
	}
	return nil
}

// only decodes a mapping that may have no keys but those named.
func only(node *yaml.Node, into any, keys ...string) error {
	var doc map[string]yaml.Node
	if err := node.Decode(&doc); err != nil {
		return err
	}
	for _, key := range sortedKeys(doc) {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("%s is not taken yet", key)
		}
	}
	return node.Decode(into)
}

// computeName is the cluster's name, whichever way it was written.
func (s *jobSpec) computeName() string { return strings.TrimPrefix(path.Base(s.Compute), "azureml:") }

func (s *jobSpec) body(f client.File) (client.Job, error) {
	compute := s.Compute
	if !strings.HasPrefix(compute, "/") {
		compute = f.Workspace() + "/computes/" + s.computeName()
	}
	environment, err := environmentID(f, s.Environment)
	if err != nil {
		return client.Job{}, err
	}
	p := client.JobProperties{
		JobType: "Command", Command: s.Command, ComputeID: compute, EnvironmentID: environment,
		Experiment: s.Experiment, DisplayName: s.Display, Description: s.Description,
		Environment: s.Variables, Inputs: s.Inputs, Tags: s.Tags, Properties: s.Properties,
	}
	if s.Timeout > 0 {
		p.Limits = &client.JobLimits{Type: "Command", Timeout: toISO(s.Timeout)}
	}
	if s.Instances > 0 {
		p.Resources = &client.JobResources{InstanceCount: s.Instances}
	}
	return client.Job{Properties: p}, nil
}

// environmentID turns azureml:NAME:VERSION into an ARM id. Without a version,
// or with @latest, the server takes the newest.
func environmentID(f client.File, ref string) (string, error) {
	if ref == "" || strings.HasPrefix(ref, "/") {
		return ref, nil
	}
	name, version, versioned := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(ref, "azureml:"), "@latest"), ":")
	if name == "" || versioned && version == "" || strings.ContainsAny(name+version, ":/@") {
		return "", usagef("environment %q is not azureml:NAME:VERSION or azureml:NAME@latest", ref)
	}
	if !versioned {
		return "azureml:" + name, nil
	}
	return f.Workspace() + "/environments/" + name + "/versions/" + version, nil
}

var (
	nameMoods  = []string{"amber", "brave", "bright", "calm", "clever", "eager", "gentle", "happy", "jolly", "keen", "lively", "mellow", "merry", "patient", "quiet", "swift"}
	nameThings = []string{"bay", "beach", "cliff", "coral", "delta", "dune", "foam", "gull", "harbor", "island", "kelp", "lagoon", "reef", "river", "shell", "tide"}
)

// madeUpName is a name people can say, with an end that makes it the only one.
func madeUpName() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	pickOf := func(n int) int {
		i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
		if err != nil {
			panic("cli: no random numbers: " + err.Error()) // crypto/rand never fails on a working system
		}
		return int(i.Int64())
	}
	end := make([]byte, 10)
	for i := range end {
		end[i] = letters[pickOf(len(letters))]
	}
	return nameMoods[pickOf(len(nameMoods))] + "_" + nameThings[pickOf(len(nameThings))] + "_" + string(end)
}
