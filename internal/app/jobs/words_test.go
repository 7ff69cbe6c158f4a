package jobs_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// config is what azureml-core 1.61 submits (reference/wire/sdk-v1.md, section 9).
const config = `{"script": "train.py", "arguments": ["--lr", 0.1, 1.0, true, 3], "target": "cpu-cluster", "framework": "Python", "communicator": "None",
 "maxRunDurationSeconds": 2592000, "nodeCount": 1, "priority": null, "data": {}, "outputData": {}, "datacaches": [],
 "environment": {"name": "myenv", "version": null, "environmentVariables": {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE", "B": "env"},
  "python": {"userManagedDependencies": false, "interpreterPath": "python", "condaDependenciesFile": null, "baseCondaEnvironment": null,
   "condaDependencies": {"name": "project_environment", "dependencies": ["python=3.8.13", "conda-forge::numpy=1.21", "pip", {"pip": ["azureml-defaults", "six"]}], "channels": ["anaconda"]}},
  "docker": {"enabled": false, "baseImage": "img:1", "baseDockerfile": null}},
 "environmentVariables": {"B": "run", "N": 5}, "mpi": {"processCountPerNode": 1, "nodeCount": 1}}`

func TestRunConfiguration(t *testing.T) {
	t.Parallel()
	got, err := jobs.FromRunConfiguration(json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	want := jobs.Submission{
		Form: jobs.V1, Definition: json.RawMessage(config), Type: "azureml.scriptrun", Target: "cpu-cluster", Nodes: 1,
		Script: "train.py", Arguments: []string{"--lr", "0.1", "1.0", "True", "3"}, Framework: "Python", TimeLimit: 720 * time.Hour,
		Variables: map[string]string{"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE", "B": "run", "N": "5"},
		Environment: queue.Environment{Name: "myenv", Python: "3.8.13", Conda: []string{"numpy=1.21"}, Pip: []string{"azureml-defaults", "six"}, Image: "img:1",
			CondaFile: `{"name":"project_environment","dependencies":["python=3.8.13","conda-forge::numpy=1.21","pip",{"pip":["azureml-defaults","six"]}],"channels":["anaconda"]}`},
		Container: &queue.Container{},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRunConfigurationVariants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config string
		check  func(jobs.Submission) bool
		says   string // of the error; empty: none
	}{
		"a command as words":           {`{"command":["python","a.py","--n",1]}`, func(s jobs.Submission) bool { return s.Command == "python a.py --n 1" }, ""},
		"a command wins over a script": {`{"command":"ls","script":"a.py"}`, func(s jobs.Submission) bool { return s.Command == "ls" && s.Script == "" }, ""},
		"the user's own python": {`{"script":"a","environment":{"python":{"userManagedDependencies":true,"interpreterPath":"python3","condaDependencies":{"dependencies":["python=3.8.13",{"pip":["x"]}]}}}}`, func(s jobs.Submission) bool {
			return s.Environment.UserManaged && s.Environment.Interpreter == "python3" && s.Environment.Pip == nil
		}, ""},
		"no environment at all":                {`{"script":"a"}`, func(s jobs.Submission) bool { return s.Environment.UserManaged }, ""},
		"mpi is kept as the distribution":      {`{"script":"a","communicator":"IntelMpi"}`, func(s jobs.Submission) bool { return s.Distributed == "IntelMpi" }, ""},
		"mpi counts processes on each node":    {`{"script":"a","communicator":"OpenMpi","mpi":{"processCountPerNode":2},"pytorch":{"processCount":9}}`, func(s jobs.Submission) bool { return s.Processes == 2 }, ""},
		"pytorch counts processes in all":      {`{"script":"a","communicator":"nccl","nodeCount":2,"mpi":{"processCountPerNode":7},"pytorch":{"processCount":4}}`, func(s jobs.Submission) bool { return s.Processes == 2 && s.Nodes == 2 }, ""},
		"pytorch deals evenly":                 {`{"script":"a","communicator":"nccl","nodeCount":2,"pytorch":{"processCount":3}}`, nil, "evenly"},
		"no process of pytorch is refused":     {`{"script":"a","communicator":"nccl","nodeCount":2,"pytorch":{"processCount":0}}`, nil, "processCount is 0"},
		"tensorflow has workers and servers":   {`{"script":"a","communicator":"ParameterServer","nodeCount":3,"tensorflow":{"workerCount":3,"parameterServerCount":1}}`, func(s jobs.Submission) bool { return s.Workers == 3 && s.Servers == 1 && s.Processes == 0 }, ""},
		"no worker is refused":                 {`{"script":"a","communicator":"ParameterServer","tensorflow":{"workerCount":0}}`, nil, "workerCount is 0"},
		"fewer than no servers are refused":    {`{"script":"a","communicator":"ParameterServer","tensorflow":{"workerCount":1,"parameterServerCount":-1}}`, nil, "parameterServerCount is -1"},
		"fewer than no nodes are refused":      {`{"script":"a","nodeCount":-2}`, nil, "nodeCount is -2"},
		"too many processes are refused":       {`{"script":"a","communicator":"OpenMpi","mpi":{"processCountPerNode":1001}}`, nil, "1000"},
		"pytorch starts one on each node":      {`{"script":"a","communicator":"gloo","nodeCount":1,"pytorch":{"processCount":null}}`, func(s jobs.Submission) bool { return s.Processes == 1 }, ""},
		"no distribution has no processes":     {`{"script":"a","communicator":"None","mpi":{"processCountPerNode":1}}`, func(s jobs.Submission) bool { return s.Processes == 0 && s.Distributed == "" }, ""},
		"no processes at all are refused":      {`{"script":"a","communicator":"IntelMpi","mpi":{"processCountPerNode":0}}`, nil, "processCountPerNode"},
		"data is refused by name":              {`{"script":"a","data":{"d":{}}}`, nil, "data"},
		"output data is refused by name":       {`{"script":"a","outputData":{"d":{}}}`, nil, "outputData"},
		"an object as an argument is refused":  {`{"script":"a","arguments":[{}]}`, nil, "argument"},
		"a negative time limit is refused":     {`{"script":"a","maxRunDurationSeconds":-1}`, nil, "maxRunDurationSeconds"},
		"what is no object is refused":         {`[]`, nil, "not valid"},
		"a file of dependencies is refused":    {`{"script":"a","environment":{"python":{"condaDependenciesFile":"c.yml"}}}`, nil, "condaDependenciesFile"},
		"dependencies of npm are refused":      {`{"script":"a","environment":{"python":{"condaDependencies":{"dependencies":[{"npm":["x"]}]}}}}`, nil, "npm"},
		"a variable that is a list is refused": {`{"script":"a","environmentVariables":{"A":[]}}`, nil, "A"},
	} {
		got, err := jobs.FromRunConfiguration(json.RawMessage(c.config))
		if c.says != "" {
			if k := fault.KindOf(err); (k != fault.Invalid && k != fault.Unsupported) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s: %v", name, err)
			}
		} else if err != nil || !c.check(got) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestCommandJob(t *testing.T) {
	t.Parallel()
	body := `{"jobType":"Command","command":"echo ${{inputs.word}} $A","computeId":"cpu","experimentName":"e","displayName":"d","environmentVariables":{"A":"1"},
	 "limits":{"jobLimitsType":"Command","timeout":"PT1M"},"resources":{"instanceCount":1},"inputs":{"word":{"jobInputType":"literal","value":"hi"}},"tags":{"t":"v"},"codeId":null,"x":1}`
	in, env, err := jobs.FromCommandJob(json.RawMessage(body))
	if err != nil || env != "" {
		t.Fatal(env, err)
	}
	if in.Command != "echo ${{inputs.word}} $A" || in.Literals["word"] != "hi" || in.Target != "cpu" || in.TimeLimit != time.Minute || in.Nodes != 1 || in.Tags["t"] != "v" || in.Variables["A"] != "1" || in.Experiment != "e" {
		t.Errorf("got %+v", in)
	}
	for body, says := range map[string]string{
		`{"jobType":"Sweep"}`:                 "in a loop",
		`{"jobType":"Pipeline"}`:              "Jobs of type Pipeline are not built yet; those of type Command are. Submit the steps",
		`{"command":"x"}`:                     "jobType",
		`{"jobType":"Command","command":" "}`: "command",
		`{"jobType":"Command","command":"x","limits":{"timeout":"1h"}}`:                                              "duration",
		`{"jobType":"Command","command":"x","resources":{"instanceCount":0}}`:                                        "instanceCount",
		`{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"uri_file"}}}`:                             "uri is missing",
		`{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"uri_disk","uri":"u"}}}`:                   "uri_disk",
		`{"jobType":"Command","command":"x","inputs":{"../a":{"jobInputType":"uri_file","uri":"u"}}}`:                "../a",
		`{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"mltable","uri":"u","mode":"EvalMount"}}}`: "EvalMount",
		`{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"literal","value":{}}}}`:                   "literal input",
		`{"jobType":"Command","command":"x","outputs":{"a.b":{"jobOutputType":"uri_folder"}}}`:                       "a.b",
		`{"jobType":"Command","command":"x","outputs":{"a":{"jobOutputType":"uri_folder","mode":"Download"}}}`:       "Download",
		`{"jobType":"Command","command":"x","services":{"lab":{"jobServiceType":"JupyterLab"}}}`:                     "interactive services",
		`{"jobType":"Command","command":"x","distribution":{"distributionType":"Mpi","processCountPerInstance":-1}}`: "processCountPerInstance",
		`{"jobType":"Command","command":3}`: "not valid",
	} {
		if _, _, err := jobs.FromCommandJob(json.RawMessage(body)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", body, err, says)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{"PT1H30M": 90 * time.Minute, "P1D": 24 * time.Hour, "PT0S": 0, "P1DT1S": 24*time.Hour + time.Second, "PT90S": 90 * time.Second, "pt5m": 5 * time.Minute, "P2W": 336 * time.Hour, "PT1.5S": time.Second} {
		got, err := jobs.ParseDuration(s)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", s, got, err, want)
		}
		if back, err := jobs.ParseDuration(jobs.FormatDuration(want)); err != nil || back != want {
			t.Errorf("%v does not survive: %v, %v", want, back, err)
		}
	}
	for _, s := range []string{"", "P", "PT", "1H", "PT-1S", "P99999999999D", "PT9999999999S", "P1Y", "P1H"} {
		if got, err := jobs.ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", s, got)
		}
	}
}

func TestWhatAnEnvironmentIsMadeOf(t *testing.T) {
	t.Parallel()
	sealed := "ebb-sealed:" + base64.StdEncoding.EncodeToString([]byte("s"))
	for what, c := range map[string]struct {
		docker string
		want   queue.Environment
		fails  string
	}{
		"an image":             {`{"baseImage":"python:3.12"}`, queue.Environment{Image: "python:3.12"}, ""},
		"a Dockerfile":         {`{"baseImage":null,"baseDockerfile":"FROM x"}`, queue.Environment{Build: &queue.Build{Dockerfile: "FROM x"}}, ""},
		"a build context":      {`{"buildContext":{"locationType":"storageAccount","location":"https://h/c/","dockerfilePath":"d/Dockerfile"}}`, queue.Environment{Build: &queue.Build{URI: "https://h/c/", Path: "d/Dockerfile"}}, ""},
		"a registry":           {`{"baseImage":"team/img:1","baseImageRegistry":{"address":"https://r.example.com/","username":"u","password":"` + sealed + `"}}`, queue.Environment{Image: "r.example.com/team/img:1", Registry: &queue.Registry{Address: "https://r.example.com/", Username: "u", Sealed: []byte("s")}}, ""},
		"a registry in both":   {`{"baseImage":"R.example.com/img:1","baseImageRegistry":{"address":"r.example.com"}}`, queue.Environment{Image: "R.example.com/img:1"}, ""},
		"an unsealed password": {`{"baseImage":"i","baseImageRegistry":{"address":"r","username":"u","password":"in clear"}}`, queue.Environment{}, "give it again"},
	} {
		got, _, err := jobs.ParseEnvironment(json.RawMessage(`{"name":"e","python":{"userManagedDependencies":true},"docker":` + c.docker + `}`))
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v, want %q", what, err, c.fails)
			}
			continue
		}
		c.want.Name, c.want.UserManaged = "e", true
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, c.want)
		}
	}
}
