package jobs_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

func TestRunsThatWantAContainer(t *testing.T) {
	t.Parallel()
	const theirs = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:20230509.v1"
	for name, c := range map[string]struct {
		docker, environment string // of the run, and of its environment
		want                *queue.Container
	}{
		"what the client sends by itself wants none": {`{"useDocker":false,"arguments":[],"shmSize":"2g"}`, `{"enabled":false,"baseImage":"` + theirs + `"}`, nil},
		"an image of the user's own wants one":       {`{"useDocker":false,"arguments":[],"shmSize":"2g"}`, `{"baseImage":"python:3.11"}`, &queue.Container{Shm: 2 << 30}},
		"useDocker wants one":                        {`{"useDocker":true}`, `{"baseImage":"` + theirs + `"}`, &queue.Container{}},
		"so did the environment once":                {`null`, `{"enabled":true,"baseImage":"` + theirs + `","shmSize":"1g"}`, &queue.Container{Shm: 1 << 30}},
		"a Dockerfile wants one":                     {`null`, `{"baseDockerfile":"FROM x"}`, &queue.Container{}},
		"the run's words come after the environment's": {`{"useDocker":true,"arguments":["--hostname=b"],"shmSize":"64m"}`, `{"baseImage":"i","arguments":["--hostname","a","--ulimit=nofile=1:2"],"shmSize":"1g"}`,
			&queue.Container{Shm: 64 << 20, Hostname: "b", Ulimits: []queue.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}}},
	} {
		text := `{"script":"t.py","target":"c","communicator":"None","nodeCount":1,"docker":` + c.docker + `,"environment":{"name":"e","python":{"userManagedDependencies":true},"docker":` + c.environment + `}}`
		in, err := jobs.FromRunConfiguration(json.RawMessage(text))
		if err != nil || !reflect.DeepEqual(in.Container, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, in.Container, err, c.want)
		}
	}
}

func TestArgumentsOfDocker(t *testing.T) {
	t.Parallel()
	job := func(resources string) (jobs.Submission, error) {
		in, _, err := jobs.FromCommandJob(json.RawMessage(`{"jobType":"Command","command":"true","computeId":"c","resources":` + resources + `}`))
		return in, err
	}
	in, err := job(`{"shmSize":"4G","dockerArgs":"--ulimit memlock=-1 --tmpfs '/my scratch:size=1g' --add-host db:10.1.2.3 -h box --gpus all --init","dockerArgsList":["--ipc","private"]}`)
	want := &queue.Container{Shm: 4 << 30, Ulimits: []queue.Ulimit{{Name: "memlock", Soft: -1, Hard: -1}}, Tmpfs: map[string]string{"/my scratch": "size=1g"}, Hosts: []string{"db:10.1.2.3"}, Hostname: "box"}
	if err != nil || !reflect.DeepEqual(in.Container, want) {
		t.Errorf("got %+v, %v, want %+v", in.Container, err, want)
	}
	for resources, words := range map[string]string{
		`{"dockerArgs":"--privileged"}`:             "--privileged",
		`{"dockerArgs":"-v /:/host"}`:               "-v",
		`{"dockerArgs":"--volume=/:/host"}`:         "--volume",
		`{"dockerArgs":"--ipc=host"}`:               "--ipc",
		`{"dockerArgs":"--network host"}`:           "--network",
		`{"dockerArgs":"--user root"}`:              "--user",
		`{"dockerArgs":"somewhat"}`:                 "somewhat",
		`{"dockerArgs":"--ulimit"}`:                 "no value",
		`{"dockerArgs":"--ulimit nofile"}`:          "nofile=65536",
		`{"dockerArgs":"--tmpfs /"}`:                "a folder",
		`{"dockerArgs":"--add-host a:b"}`:           "db:10.1.2.3",
		`{"dockerArgs":"--hostname '"}`:             "quote",
		`{"dockerArgsList":["--shm-size","much"]}`:  "2g or 512m",
		`{"shmSize":"much"}`:                        "2g or 512m",
		`{"shmSize":"99999999999999999999g"}`:       "2g or 512m",
		`{"dockerArgs":"--hostname=-rm --init"}`:    "no host's name",
		`{"dockerArgs":"--security-opt seccomp=x"}`: "out of its container",
	} {
		_, err := job(resources)
		if k := fault.KindOf(err); err == nil || k != fault.Invalid && k != fault.Unsupported || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want a refusal with %q", resources, err, words)
		}
	}
}
