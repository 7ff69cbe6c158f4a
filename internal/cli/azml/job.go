package azml

import (
	"errors"
	"maps"
	"path/filepath"
	"strings"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

// Job is the schema of a command job: commandJob.schema.json.
type Job struct {
	Type         string            `yaml:"type" oneof:"command"`
	Name         string            `yaml:"name"`
	Display      string            `yaml:"display_name"`
	Experiment   string            `yaml:"experiment_name"`
	Description  string            `yaml:"description"`
	Tags         map[string]string `yaml:"tags"`
	Properties   map[string]string `yaml:"properties"`
	Command      string            `yaml:"command"`
	Code         string            `yaml:"code"`
	Environment  EnvironmentRef    `yaml:"environment"`
	Variables    map[string]string `yaml:"environment_variables"`
	Compute      string            `yaml:"compute"`
	Distribution *Distribution     `yaml:"distribution"`
	Resources    Resources         `yaml:"resources"`
	Limits       struct {
		Timeout *Seconds `yaml:"timeout"`
	} `yaml:"limits"`
	Inputs   map[string]Input   `yaml:"inputs"`
	Outputs  map[string]Output  `yaml:"outputs"`
	Services map[string]Service `yaml:"services"`
	Identity *JobIdentity       `yaml:"identity"`
	Queue    *struct {
		Tier     string `yaml:"job_tier" oneof:"Null Spot Basic Standard Premium"`
		Priority string `yaml:"priority" oneof:"low medium high"`
	} `yaml:"queue_settings"`
	Parent    string `yaml:"parent_job_name" no:"child jobs are not built"`
	Component string `yaml:"component" no:"components as jobs are not built: write the command here"`

	Dir string // what relative paths are of
}

// otherJobs are the kinds of az ml that are not command jobs.
var otherJobs = map[string]string{
	"pipeline": "pipelines", "sweep": "sweeps", "spark": "Spark jobs", "automl": "AutoML jobs", "parallel": "parallel jobs",
	"import": "import jobs", "fine_tuning": "fine-tuning jobs", "data_transfer": "data transfer jobs", "distillation": "distillation jobs",
}

// ReadJob reads a command job, and refuses the other kinds by name.
func ReadJob(doc *yamlspec.Doc) (*Job, error) {
	kind := strings.ToLower(doc.Top("type"))
	if kind == "" {
		for field, is := range map[string]string{"jobs": "pipeline", "trial": "sweep", "search_space": "sweep"} {
			if doc.Has(field) {
				kind = is
			}
		}
	}
	if name, ok := otherJobs[kind]; ok {
		return nil, doc.Errorf("type", "%s are not built; command jobs are", name)
	}
	s := &Job{Dir: doc.Dir}
	if err := doc.Decode(s); err != nil {
		return nil, err
	}
	switch {
	case s.Command == "":
		return nil, errors.New("the job needs a command: --command 'echo hello', or a file with -f")
	case s.Compute == "":
		return nil, errors.New("the job needs a cluster: --compute NAME")
	case s.Compute == "local" || s.Compute == "azureml:local":
		return nil, doc.Errorf("compute", "running on this machine without a cluster is not built; name a cluster")
	case s.Resources.Instances < 0:
		return nil, doc.Errorf("resources", "instance_count is %d; it is 1 or more", s.Resources.Instances)
	}
	return s, nil
}

// Distribution says how a job runs over several processes.
type Distribution struct {
	Type      string `yaml:"type" oneof:"mpi pytorch tensorflow ray"`
	Processes *int   `yaml:"process_count_per_instance"`
	Servers   *int   `yaml:"parameter_server_count"`
	Workers   *int   `yaml:"worker_count"`
}

func (d *Distribution) arm() map[string]any {
	if d == nil {
		return nil
	}
	m := map[string]any{"distributionType": map[string]string{"mpi": "Mpi", "pytorch": "PyTorch", "tensorflow": "TensorFlow", "ray": "Ray"}[d.Type]}
	for key, n := range map[string]*int{"processCountPerInstance": d.Processes, "parameterServerCount": d.Servers, "workerCount": d.Workers} {
		if n != nil {
			m[key] = *n
		}
	}
	return m
}

// spec is the schema's words again, as components keep them.
func (d *Distribution) spec() map[string]any {
	m := map[string]any{"type": d.Type}
	for key, n := range map[string]*int{"process_count_per_instance": d.Processes, "parameter_server_count": d.Servers, "worker_count": d.Workers} {
		if n != nil {
			m[key] = *n
		}
	}
	return m
}

// Resources are what a job takes of a cluster.
type Resources struct {
	Instances    int               `yaml:"instance_count"`
	InstanceType string            `yaml:"instance_type"`
	ShmSize      string            `yaml:"shm_size"`
	DockerArgs   string            `yaml:"docker_args"`
	Properties   map[string]string `yaml:"properties"`
	MaxInstances int               `yaml:"max_instance_count" no:"jobs that grow while they run are not built"`
	Locations    []string          `yaml:"locations" no:"a job runs in its cluster's region"`
}

func (r Resources) arm() *client.JobResources {
	if r.Instances == 0 && r.InstanceType == "" && r.ShmSize == "" && r.DockerArgs == "" && len(r.Properties) == 0 {
		return nil
	}
	return &client.JobResources{InstanceCount: r.Instances, InstanceType: r.InstanceType, ShmSize: r.ShmSize, DockerArgs: r.DockerArgs, Properties: r.Properties}
}

// Input is a value, or data.
type Input struct {
	Literal bool
	Value   string

	Type string `yaml:"type" oneof:"uri_file uri_folder mltable custom_model mlflow_model triton_model string number integer boolean"`
	Path string `yaml:"path"`
	Mode string `yaml:"mode" oneof:"ro_mount download direct eval_mount eval_download"`
}

// DecodeSpec takes a value alone, and an object.
func (in *Input) DecodeSpec(n yamlspec.Node) error {
	if n.Scalar() {
		*in = Input{Literal: true, Value: n.Literal()}
		return nil
	}
	if value, ok := n.Field("value"); ok {
		var object struct {
			Value string `yaml:"value"`
			Type  string `yaml:"type" oneof:"string number integer boolean"`
		}
		if err := n.Decode(&object); err != nil {
			return err
		}
		*in = Input{Literal: true, Value: value.Literal()}
		return nil
	}
	type plain Input // without this method
	p := plain{Type: "uri_folder"}
	if err := n.Decode(&p); err != nil {
		return err
	}
	if p.Path == "" {
		return n.Errorf("data needs a path: of this machine, azureml:NAME:VERSION, or azureml://datastores/…")
	}
	*in = Input(p)
	return nil
}

var inputModes = map[string]string{"ro_mount": "ReadOnlyMount", "download": "Download", "direct": "Direct", "eval_mount": "EvalMount", "eval_download": "EvalDownload"}

// Output is data that a job leaves.
type Output struct {
	Type    string `yaml:"type" oneof:"uri_file uri_folder mltable custom_model mlflow_model triton_model"`
	Path    string `yaml:"path"`
	Mode    string `yaml:"mode" oneof:"rw_mount mount upload direct"`
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
}

var outputModes = map[string]string{"rw_mount": "ReadWriteMount", "mount": "ReadWriteMount", "upload": "Upload", "direct": "Direct"}

func (o Output) arm() client.Output {
	if o.Type == "" {
		o.Type = "uri_folder"
	}
	return client.Output{Type: o.Type, URI: o.Path, Mode: outputModes[o.Mode], AssetName: o.Name, AssetVersion: o.Version}
}

// Service is a way into a running job.
type Service struct {
	Type       string            `yaml:"type" oneof:"jupyter_lab ssh tensor_board vs_code custom"`
	Port       int               `yaml:"port"`
	Nodes      string            `yaml:"nodes" oneof:"all"`
	PublicKeys string            `yaml:"ssh_public_keys"`
	LogDir     string            `yaml:"log_dir"`
	Properties map[string]string `yaml:"properties"`
}

func (s Service) arm() client.Service {
	types := map[string]string{"jupyter_lab": "JupyterLab", "ssh": "SSH", "tensor_board": "TensorBoard", "vs_code": "VSCode", "custom": "Custom"}
	out := client.Service{Type: types[s.Type], Port: s.Port, Properties: maps.Clone(s.Properties)}
	if s.Nodes != "" {
		out.Nodes = map[string]string{"nodesValueType": "All"}
	}
	for key, value := range map[string]string{"sshPublicKeys": s.PublicKeys, "logDir": s.LogDir} {
		if value != "" {
			if out.Properties == nil {
				out.Properties = map[string]string{}
			}
			out.Properties[key] = value
		}
	}
	return out
}

// JobIdentity is who a job is to others.
type JobIdentity struct {
	Type       string `yaml:"type" oneof:"managed managed_identity aml_token user_identity"`
	ClientID   string `yaml:"client_id"`
	ObjectID   string `yaml:"object_id"`
	ResourceID string `yaml:"msi_resource_id"`
}

func (i *JobIdentity) arm() map[string]string {
	if i == nil {
		return nil
	}
	m := map[string]string{"identityType": map[string]string{"managed": "Managed", "managed_identity": "Managed", "aml_token": "AMLToken", "user_identity": "UserIdentity"}[i.Type]}
	for key, value := range map[string]string{"clientId": i.ClientID, "objectId": i.ObjectID, "resourceId": i.ResourceID} {
		if value != "" {
			m[key] = value
		}
	}
	return m
}

// Resolved is what had to be looked up or uploaded before a document can be made.
type Resolved struct {
	Code        string            // ARM id; empty: none
	Environment string            // ARM id, or azureml:NAME for the newest; empty: none
	Data        map[string]string // where each input is that does not say it itself: an ARM id, or a URI
}

// AssetKind is what an input names that is registered, as ARM calls it: data or
// models; empty: nothing of the kind.
func (in Input) AssetKind() string {
	switch {
	case in.Literal, strings.HasPrefix(in.Path, "azureml://"):
		return ""
	case !strings.HasPrefix(in.Path, "azureml:") && !strings.HasPrefix(in.Path, "/subscriptions/"):
		return ""
	case strings.HasSuffix(in.Type, "_model"):
		return "models"
	}
	return "data"
}

// Abs is a path of the document on this machine.
func Abs(dir, path string) string {
	path = LocalPath(path)
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// ARM makes the job's document.
func (s *Job) ARM(f client.File, r Resolved) (client.Job, error) {
	p := client.JobProperties{
		JobType: "Command", Command: s.Command, ComputeID: ComputeID(f, s.Compute), EnvironmentID: r.Environment, CodeID: r.Code,
		Experiment: s.Experiment, DisplayName: s.Display, Description: s.Description,
		Environment: s.Variables, Tags: s.Tags, Properties: s.Properties,
		Resources: s.Resources.arm(), Distribution: s.Distribution.arm(), Identity: s.Identity.arm(),
	}
	if t := s.Limits.Timeout; t != nil && t.Value > 0 {
		p.Limits = &client.JobLimits{Type: "Command", Timeout: ToISO(t.Value)}
	}
	for name, in := range s.Inputs {
		if p.Inputs == nil {
			p.Inputs = map[string]client.Input{}
		}
		if in.Literal {
			p.Inputs[name] = client.Input{Type: "literal", Value: in.Value}
			continue
		}
		uri := r.Data[name]
		if uri == "" {
			uri = in.Path
		}
		p.Inputs[name] = client.Input{Type: in.Type, URI: uri, Mode: inputModes[in.Mode]}
	}
	for name, out := range s.Outputs {
		if p.Outputs == nil {
			p.Outputs = map[string]client.Output{}
		}
		p.Outputs[name] = out.arm()
	}
	for name, service := range s.Services {
		if p.Services == nil {
			p.Services = map[string]client.Service{}
		}
		p.Services[name] = service.arm()
	}
	if q := s.Queue; q != nil {
		p.Queue = map[string]any{}
		if q.Tier != "" {
			p.Queue["jobTier"] = q.Tier
		}
		if q.Priority != "" {
			p.Queue["priority"] = map[string]int{"low": 1, "medium": 2, "high": 3}[q.Priority]
		}
	}
	return client.Job{Properties: p}, nil
}
