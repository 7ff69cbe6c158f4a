package container

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/ebb-compute/ebb/internal/node/shim"
)

// Spec is what "ebb contain" reads from its standard input. It holds tokens, and
// is kept nowhere.
type Spec struct {
	Engine       Engine `json:"engine"`
	Installation string `json:"installation"`
	Attempt      string `json:"attempt"`
	Member       int    `json:"member,omitempty"`

	Image string   `json:"image"` // id on the engine
	Shown string   `json:"shown"` // by what people know the image
	Argv  []string `json:"argv"`
	Env   []string `json:"env"` // over the image's
	Dir   string   `json:"dir"`
	Mount []Mount  `json:"mount,omitempty"`
	// User is who runs it, as "1000:1000". JobUser: the user that the shim has for
	// the job. Empty: the image's.
	User string `json:"user,omitempty"`

	VCPUs  float64  `json:"vcpus,omitempty"`
	Memory int64    `json:"memory,omitempty"` // bytes
	PIDs   int64    `json:"pids,omitempty"`
	Shm    int64    `json:"shm,omitempty"` // bytes of /dev/shm
	GPUs   []string `json:"gpus,omitempty"`

	Ulimits  []Ulimit          `json:"ulimits,omitempty"`
	Tmpfs    map[string]string `json:"tmpfs,omitempty"` // options by folder
	Hosts    []string          `json:"hosts,omitempty"` // "name:address"
	Hostname string            `json:"hostname,omitempty"`

	// Network is the engine's to join. Empty: this installation's, whose containers
	// do not reach each other.
	Network string `json:"network,omitempty"`

	Server string `json:"server"` // file that says where the server is
	Port   int    `json:"port"`   // of the server, as the job's variables have it; 0: it is not on loopback
	Cache  string `json:"cache"`  // folder of the machine
	// Program is an ebb that runs in the container. Empty: this one.
	Program string `json:"program,omitempty"`
}

// JobUser stands for the user that the shim has for the job, or if it has none for
// the one that we are.
const JobUser = "job"

// Mount shows a folder or file of the host in the container.
type Mount struct {
	From     string `json:"from"`
	To       string `json:"to"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Ulimit is one of the limits of setrlimit.
type Ulimit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// ShimSpec is how a shim holds it.
func (s Spec) ShimSpec() (shim.Spec, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return shim.Spec{}, fmt.Errorf("encode container: %w", err)
	}
	return shim.Spec{
		Contained: true, Argv: []string{"/proc/self/exe", "contain"}, Input: b, Dir: "/",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOTRACEBACK=single", "GOMAXPROCS=2"},
	}, nil
}

// Labels by which what is ours is found on an engine.
const (
	labelInstallation = "ebb.installation"
	labelAttempt      = "ebb.attempt"
)

func (s Spec) labels() map[string]string {
	return map[string]string{labelInstallation: s.Installation, labelAttempt: s.Attempt}
}

// name of the container, for people who list them.
func (s Spec) name() string {
	return fmt.Sprintf("ebb-%s-%s-%d", short(s.Installation), s.Attempt, s.Member)
}

// networkName of an installation.
func networkName(installation string) string { return "ebb-" + short(installation) }

func short(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}

// user that the container's process is, for the engine.
func (s Spec) user() string {
	if s.User != JobUser {
		return s.User
	}
	if uid := os.Getenv(shim.UserVariable); uid != "" {
		return uid + ":" + uid
	}
	if s.Engine.Rootless {
		return "0:0" // who is ourselves
	}
	return fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
}

// kept is container.json.
type kept struct {
	Socket       string `json:"socket"`
	Installation string `json:"installation"`
	Attempt      string `json:"attempt"`
	Made         bool   `json:"made,omitempty"`    // the engine has answered that it made the container
	Process      int    `json:"process,omitempty"` // its process 1, as the host has it
	Since        uint64 `json:"since,omitempty"`   // when that started, in the kernel's ticks
}
