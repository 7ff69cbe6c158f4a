package jobs

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// properties is the part of mfe.json's CommandJob (2024-04-01) that Ebb acts on;
// the whole is kept as the run's definition.
type properties struct {
	JobType              string
	Command              string
	ComputeID            string
	CodeID               string
	EnvironmentID        string
	ExperimentName       string
	DisplayName          string
	Description          string
	IsArchived           bool
	EnvironmentVariables map[string]string
	Tags                 map[string]string
	Properties           map[string]string
	Distribution         *struct {
		DistributionType        string
		ProcessCountPerInstance *int
		WorkerCount             *int
		ParameterServerCount    *int
	}
	Limits    *struct{ Timeout string }
	Resources *struct {
		InstanceCount  *int
		ShmSize        string
		DockerArgs     string
		DockerArgsList []string
	}
	Inputs   map[string]*jobInput
	Outputs  map[string]*jobOutput
	Services map[string]*struct{ JobServiceType string }
	Identity *struct{ IdentityType string }
}

// NotesProperty is the property in which ARM shows a run's notes, a line each.
// It is not the user's: who sends back what was read does not set it.
const NotesProperty = "ebb.notes"

// WaitsProperty says in the same way why a job waits, while it does: SDK v2 shows
// properties, and no more of what ARM says besides.
const WaitsProperty = "ebb.waits"

// ImageProperty says in the same way in which image a job runs or ran.
const ImageProperty = "ebb.image"

// Shown are a job's properties, and that which image it is in.
func (j *Job) Shown() map[string]string {
	if j.Status.Image == "" {
		return j.Properties
	}
	out := maps.Clone(j.Properties)
	put(&out, ImageProperty, j.Status.Image)
	return out
}

// FromCommandJob reads the properties of an ARM job. codeId and environmentId are
// not looked up: the caller replaces [Submission.Code] by the guid of a snapshot,
// and [Submission.Environment] when it names one.
func FromCommandJob(raw json.RawMessage) (in Submission, environmentID string, err error) {
	var p properties
	if err := json.Unmarshal(raw, &p); err != nil {
		return Submission{}, "", fault.Coded(fault.Invalid, "InvalidRequestContent", "properties", "The job's properties are not valid: %s.", err)
	}
	if !strings.EqualFold(p.JobType, "Command") {
		if p.JobType == "" {
			return Submission{}, "", fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.jobType", "The property jobType is missing; \"Command\" is known.")
		}
		return Submission{}, "", otherJob(p.JobType)
	}
	delete(p.Properties, NotesProperty)
	delete(p.Properties, WaitsProperty)
	delete(p.Properties, ImageProperty)
	in = Submission{
		Form: ARM, Definition: raw, Type: "azureml.commandjob", Experiment: p.ExperimentName,
		DisplayName: p.DisplayName, Description: p.Description, Tags: p.Tags, Properties: p.Properties, Archived: p.IsArchived,
		Target: p.ComputeID, Code: p.CodeID, Command: p.Command, Variables: p.EnvironmentVariables,
		Environment: queue.Environment{UserManaged: true},
	}
	if strings.TrimSpace(p.Command) == "" {
		return Submission{}, "", fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.command", "The property command is missing or empty.")
	}
	if p.Distribution != nil && p.Distribution.DistributionType != "" {
		in.Distributed = p.Distribution.DistributionType
		if in.Processes, err = processes("properties.distribution.processCountPerInstance", p.Distribution.ProcessCountPerInstance); err != nil {
			return Submission{}, "", err
		}
		if isKind(in.Distributed, gang.TensorFlow) {
			in.Processes = 0
			if in.Workers, in.Servers, err = tasks("properties.distribution.", p.Distribution.WorkerCount, p.Distribution.ParameterServerCount); err != nil {
				return Submission{}, "", err
			}
		}
	}
	if p.Resources != nil && p.Resources.InstanceCount != nil {
		if in.Nodes = *p.Resources.InstanceCount; in.Nodes < 1 {
			return Submission{}, "", fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.resources.instanceCount", "instanceCount is %d; it must be at least 1.", in.Nodes)
		}
	}
	if p.Limits != nil && p.Limits.Timeout != "" {
		if in.TimeLimit, err = ParseDuration(p.Limits.Timeout); err != nil {
			return Submission{}, "", err
		}
	}
	if in.Container, err = p.container(); err != nil {
		return Submission{}, "", err
	}
	if err := p.files(&in); err != nil {
		return Submission{}, "", err
	}
	if err := p.services(); err != nil {
		return Submission{}, "", err
	}
	if as := p.Identity; as != nil && as.IdentityType != "" && !strings.EqualFold(as.IdentityType, "AMLToken") {
		in.Notes = append(in.Notes, fmt.Sprintf("The job's identity (%.40s) is kept and not used: inside a job no credential of Azure's clients works yet. "+
			"Inputs, outputs and MLflow work without one.", as.IdentityType))
	}
	return in, p.EnvironmentID, nil
}

// roundabout is what to do instead of a job of another type.
var roundabout = map[string]string{
	"sweep":    "Submit a command job for each set of values, in a loop.",
	"pipeline": "Submit the steps as command jobs, each after the one whose outputs it reads (azureml://jobs/JOB/outputs/OUTPUT).",
	"automl":   "Submit a command job whose script calls the training library.",
	"spark":    "Submit a command job whose script starts Spark itself.",
}

func otherJob(kind string) error {
	way := roundabout[strings.ToLower(kind)]
	if way == "" {
		way = "Submit command jobs."
	}
	return fault.New(fault.Unsupported, "properties.jobType", "Jobs of type %.40s are not built yet; those of type Command are. %s", kind, way)
}

var iso8601 = regexp.MustCompile(`^P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,10})(?:\.\d+)?S)?)?$`)

// ParseDuration reads an ISO 8601 duration to the second, as "PT1H30M".
func ParseDuration(s string) (time.Duration, error) {
	bad := fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.limits.timeout", "%q is not a duration as ISO 8601 writes it, for example PT1H30M.", s)
	m := iso8601.FindStringSubmatch(strings.ToUpper(strings.TrimSpace(s)))
	if m == nil || strings.HasSuffix(s, "P") || strings.HasSuffix(s, "T") {
		return 0, bad
	}
	const year = 366 * 24 * 3600 // s; more is a mistake, and the sum below cannot overflow
	total := 0
	for i, unit := range []int{7 * 24 * 3600, 24 * 3600, 3600, 60, 1} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.Atoi(m[i+1])
		if err != nil || n > 10*year/unit {
			return 0, bad
		}
		total += n * unit
	}
	return time.Duration(total) * time.Second, nil
}

// FormatDuration writes a duration as ISO 8601, as "PT1H30M".
func FormatDuration(d time.Duration) string {
	s := int64(d / time.Second)
	out := "PT"
	for _, u := range []struct {
		n    int64
		unit string
	}{{s / 3600, "H"}, {s / 60 % 60, "M"}, {s % 60, "S"}} {
		if u.n > 0 {
			out += strconv.FormatInt(u.n, 10) + u.unit
		}
	}
	if out == "PT" {
		return "PT0S"
	}
	return out
}
