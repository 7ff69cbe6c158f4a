package jobs

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// dockerSection is what SDK v1 says of a container: with the run, and, as it once
// did, with the environment.
type dockerSection struct {
	UseDocker, Enabled bool
	Arguments          []string
	ShmSize            string
}

// sdkImages begins the images that SDK v1 puts into every environment for which its
// user names none.
const sdkImages = "mcr.microsoft.com/azureml/"

// container is what a run of SDK v1 asks of its container; nil: it wants none. The
// client says useDocker=false whether its user did or not, and an image of its own
// where its user named none: only both together say that no container is wanted.
func (c *configuration) container(env definition) (*queue.Container, error) {
	own := env.Docker
	wanted := c.Docker != nil && c.Docker.UseDocker
	var args []string
	shm := ""
	if own != nil {
		wanted = wanted || own.Enabled || own.BaseImage != "" && !strings.HasPrefix(own.BaseImage, sdkImages) || own.BaseDockerfile != "" || own.BuildContext != nil
		args, shm = own.Arguments, own.ShmSize
	}
	if c.Docker != nil {
		args = append(slices.Clone(args), c.Docker.Arguments...)
		if c.Docker.ShmSize != "" {
			shm = c.Docker.ShmSize
		}
	}
	if !wanted {
		return nil, nil
	}
	return containerOptions("docker", shm, args)
}

// honoured are the arguments of docker run that a job may give, in full.
var honoured = []string{"--shm-size", "--ulimit", "--tmpfs", "--add-host", "--hostname", "--init", "--rm", "--gpus", "--ipc=private"}

// reasons why others are refused.
var reasons = map[string]string{
	"--cpus": "the size of the compute says how many vCPUs there are", "--memory": "the size of the compute says how much memory there is", "-m": "the size of the compute says how much memory there is",
	"--ipc":    "a job has shared memory of its own; --shm-size says how much",
	"--volume": "inputs, outputs and the code are what a job sees of its node", "-v": "inputs, outputs and the code are what a job sees of its node", "--mount": "inputs, outputs and the code are what a job sees of its node",
	"--env": "variables are the job's (environment_variables)", "-e": "variables are the job's (environment_variables)",
	"--privileged": "it would let the job out of its container", "--cap-add": "it would let the job out of its container", "--security-opt": "it would let the job out of its container",
	"--device": "GPUs come with the size of the compute", "--network": "a job's network is its own", "--net": "a job's network is its own", "--pid": "a job's processes are its own", "--user": "the node says who runs a job", "-u": "the node says who runs a job",
}

// containerOptions reads what is asked in the words of docker run.
func containerOptions(where, shm string, args []string) (*queue.Container, error) {
	c := &queue.Container{}
	bad := func(format string, a ...any) error {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", where, format, a...)
	}
	if shm != "" {
		n, ok := bytesOf(shm)
		if !ok {
			return nil, bad("The size of shared memory %.40q is not one such as 2g or 512m.", shm)
		}
		c.Shm = n
	}
	for i := 0; i < len(args); i++ {
		flag, value, has := strings.Cut(args[i], "=")
		if flag == "-h" {
			flag = "--hostname"
		}
		if slices.Contains([]string{"--init", "--rm"}, flag) {
			continue // as it is anyway
		}
		if !slices.Contains(honoured, flag) && flag != "--ipc" {
			return nil, refusedArgument(where, flag)
		}
		if !has {
			if i++; i == len(args) {
				return nil, bad("The argument %q of docker run has no value.", flag)
			}
			value = args[i]
		}
		switch err := honour(c, flag, value); {
		case err == errRefused:
			return nil, refusedArgument(where, flag)
		case err != nil:
			return nil, bad("The argument %s=%.80s of docker run is not valid: %s.", flag, value, err)
		}
	}
	return c, nil
}

func refusedArgument(where, flag string) error {
	why := ""
	if r := reasons[flag]; r != "" {
		why = " (" + r + ")"
	}
	return fault.New(fault.Unsupported, where, "The argument %.60q of docker run is refused%s. Honoured are %s.", flag, why, strings.Join(honoured, ", "))
}

var errRefused = fmt.Errorf("refused")

var (
	ulimitWord = regexp.MustCompile(`^([a-z]{1,16})=(-?\d{1,18})(?::(-?\d{1,18}))?$`)
	hostName   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)
	sizeWord   = regexp.MustCompile(`^(\d{1,12})([bBkKmMgG]?)[bB]?$`)
)

// honour takes one argument.
func honour(c *queue.Container, flag, value string) error {
	switch flag {
	case "--gpus": // those of the node's size are there
		return nil
	case "--ipc":
		if value != "private" && value != "shareable" {
			return errRefused
		}
	case "--shm-size":
		n, ok := bytesOf(value)
		if !ok {
			return fmt.Errorf("a size is written such as 2g or 512m")
		}
		c.Shm = n
	case "--ulimit":
		m := ulimitWord.FindStringSubmatch(value)
		if m == nil {
			return fmt.Errorf("a limit is written such as nofile=65536 or memlock=-1:-1")
		}
		u := queue.Ulimit{Name: m[1]}
		u.Soft, _ = strconv.ParseInt(m[2], 10, 64)
		u.Hard = u.Soft
		if m[3] != "" {
			u.Hard, _ = strconv.ParseInt(m[3], 10, 64)
		}
		c.Ulimits = append(c.Ulimits, u)
	case "--tmpfs":
		at, options, _ := strings.Cut(value, ":")
		if !path.IsAbs(at) || path.Clean(at) == "/" {
			return fmt.Errorf("it is a folder such as /scratch")
		}
		if c.Tmpfs == nil {
			c.Tmpfs = map[string]string{}
		}
		c.Tmpfs[at] = options
	case "--add-host":
		name, address, _ := strings.Cut(value, ":")
		if _, err := netip.ParseAddr(address); err != nil || !hostName.MatchString(name) {
			return fmt.Errorf("a host is written such as db:10.1.2.3")
		}
		c.Hosts = append(c.Hosts, value)
	case "--hostname":
		if !hostName.MatchString(value) {
			return fmt.Errorf("it is no host's name")
		}
		c.Hostname = value
	}
	return nil
}

// bytesOf reads a size as docker run takes it.
func bytesOf(s string) (int64, bool) {
	m := sizeWord.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]uint{"": 0, "b": 0, "k": 10, "m": 20, "g": 30}[strings.ToLower(m[2])]
	if err != nil || n <= 0 || n > 1<<50>>shift {
		return 0, false
	}
	return n << shift, true
}

// argumentWords splits a text into words as a shell does, without what else one does.
func argumentWords(s string) (words []string, err error) {
	var word strings.Builder
	in, quote := false, rune(0)
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			in, quote = true, r
		case r == ' ' || r == '\t' || r == '\n':
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		default:
			in = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

// container is what an ARM job asks of its container, if it is to have one.
func (p *properties) container() (*queue.Container, error) {
	if p.Resources == nil {
		return &queue.Container{}, nil
	}
	words, err := argumentWords(p.Resources.DockerArgs)
	if err != nil {
		return nil, fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.resources.dockerArgs", "dockerArgs is not valid: %s.", err)
	}
	return containerOptions("properties.resources", p.Resources.ShmSize, append(words, p.Resources.DockerArgsList...))
}
