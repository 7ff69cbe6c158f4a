package jobs

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/fault"
)

// configuration is the part of SDK v1's run configuration that Ebb acts on; the
// whole is kept as the run's definition (reference/wire/sdk-v1.md, section 4).
type configuration struct {
	Script                string
	Arguments             []any
	Command               any // text, or a list of words
	Target                string
	Framework             string
	Communicator          string
	Mpi                   *struct{ ProcessCountPerNode *int }
	Pytorch               *struct{ ProcessCount *int } // of all nodes
	Tensorflow            *struct{ WorkerCount, ParameterServerCount *int }
	MaxRunDurationSeconds int64
	NodeCount             int
	Priority              *int
	Environment           json.RawMessage
	Docker                *dockerSection
	EnvironmentVariables  map[string]any
	Data                  map[string]json.RawMessage
	OutputData            map[string]json.RawMessage
	DataReferences        map[string]json.RawMessage
	Datacaches            []json.RawMessage
}

// FromRunConfiguration reads a run configuration of SDK v1. Environments that
// only name a registered one must be replaced by its definition before.
func FromRunConfiguration(raw json.RawMessage) (Submission, error) {
	var c configuration
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // an argument 0.1 must stay "0.1", and 1.0 "1.0"
	if err := dec.Decode(&c); err != nil {
		return Submission{}, fault.Coded(fault.Invalid, "InvalidRunConfiguration", "Configuration", "The run configuration is not valid: %s.", err)
	}
	var err error
	in := Submission{
		Form: V1, Definition: raw, Type: "azureml.scriptrun",
		Target: c.Target, Nodes: c.NodeCount, Framework: c.Framework, Script: c.Script,
	}
	if c.MaxRunDurationSeconds < 0 || c.MaxRunDurationSeconds > 1<<31 {
		return Submission{}, fault.Coded(fault.Invalid, "InvalidRunConfiguration", "maxRunDurationSeconds", "maxRunDurationSeconds must lie between 0 (no limit) and 2147483648.")
	}
	in.TimeLimit = time.Duration(c.MaxRunDurationSeconds) * time.Second
	if c.Priority != nil {
		in.Priority = *c.Priority
	}
	if !strings.EqualFold(c.Communicator, "None") {
		in.Distributed = c.Communicator
	}
	if c.NodeCount < 0 {
		return Submission{}, fault.Coded(fault.Invalid, "InvalidPropertyValue", "nodeCount", "nodeCount is %d; it must be at least 1.", c.NodeCount)
	}
	if err := c.spread(&in); err != nil {
		return Submission{}, err
	}
	if err := c.refuse(); err != nil {
		return Submission{}, err
	}
	if in.Command, err = command(c.Command); err != nil {
		return Submission{}, err
	}
	if in.Command != "" {
		in.Script = ""
	}
	for _, a := range c.Arguments {
		word, err := text(a)
		if err != nil {
			return Submission{}, fault.New(fault.Unsupported, "arguments", "The feature \"data as an argument\" is not built: an argument is neither text nor a number.")
		}
		in.Arguments = append(in.Arguments, word)
	}
	return in, c.environment(&in)
}

// spread is how many processes the communicator asks for; the parts for others
// hold their defaults.
func (c *configuration) spread(in *Submission) (err error) {
	switch {
	case isKind(c.Communicator, gang.MPI) && c.Mpi != nil:
		in.Processes, err = processes("mpi.processCountPerNode", c.Mpi.ProcessCountPerNode)
	case isKind(c.Communicator, gang.PyTorch) && c.Pytorch != nil:
		in.Processes, err = evenly("pytorch.processCount", c.Pytorch.ProcessCount, c.NodeCount)
	case isKind(c.Communicator, gang.TensorFlow) && c.Tensorflow != nil:
		in.Workers, in.Servers, err = tasks("tensorflow.", c.Tensorflow.WorkerCount, c.Tensorflow.ParameterServerCount)
	}
	return err
}

// environment fills in what the processes find around them. The run's own
// variables win over those of its environment.
func (c *configuration) environment(in *Submission) error {
	in.Environment.UserManaged = true
	if len(c.Environment) > 0 && string(c.Environment) != "null" {
		var err error
		if in.Environment, in.Variables, err = ParseEnvironment(c.Environment); err != nil {
			return err
		}
		var d definition
		if err := json.Unmarshal(c.Environment, &d); err != nil {
			return err // ParseEnvironment has read it
		}
		if in.Container, err = c.container(d); err != nil {
			return err
		}
	}
	own, err := variables(c.EnvironmentVariables)
	if err != nil {
		return err
	}
	if in.Variables == nil {
		in.Variables = own
		return nil
	}
	maps.Copy(in.Variables, own)
	return nil
}

// refuse names what would otherwise be dropped in silence.
func (c *configuration) refuse() error {
	for what, n := range map[string]int{
		"data": len(c.Data), "outputData": len(c.OutputData), "dataReferences": len(c.DataReferences), "datacaches": len(c.Datacaches),
	} {
		if n > 0 {
			return fault.New(fault.Unsupported, what, "The feature %q (inputs and outputs of runs) is not built yet.", what)
		}
	}
	return nil
}

// command reads a command, which the client may send as text or as words.
func command(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case []any:
		var words []string
		for _, w := range v {
			t, err := text(w)
			if err != nil {
				break
			}
			words = append(words, t)
		}
		if len(words) == len(v) {
			return strings.Join(words, " "), nil
		}
	}
	return "", fault.Coded(fault.Invalid, "InvalidRunConfiguration", "command", "The command is neither text nor a list of words.")
}
