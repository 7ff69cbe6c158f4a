// Package config is everything an administrator may set, with its defaults and
// what is allowed. It is read from one strict YAML file, then the environment
// (EBB_LISTEN and so on), then flags: the later wins.
//
// docs/ebb.sample.yaml shows every key with its default; a test loads it.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Config is the whole configuration of a server.
type Config struct {
	// Listen is the address of the one TLS listener. Default 127.0.0.1:8443.
	Listen string `yaml:"listen"`
	// Data is the folder that holds everything. No default here: it is where
	// clients look for their file too (client.DefaultDataDir).
	Data string `yaml:"-"`
	// Names are further host names and IP addresses that clients reach the
	// server by; the certificate carries them. Default: none.
	Names []string `yaml:"names"`
	// LogLevel is debug, info, warn or error. Default info.
	LogLevel string `yaml:"log_level"`
	// Local is the engine on this machine.
	Local Local `yaml:"local"`
	// Images says where nodes get container images from.
	Images Images `yaml:"images"`
	// LargeClusters are subscriptions (guids), and workspaces and computes (ARM ids),
	// whose clusters may have more than 100 nodes; those do without communication
	// between nodes. Default: none.
	LargeClusters []string `yaml:"large_clusters"`
	// Container says which jobs run in containers. A word alone is its Use.
	Container Container `yaml:"container"`
	// Retention says when "ebb prune" and the daily prune remove what is over.
	Retention Retention `yaml:"retention"`
}

// Local configures the engine that runs nodes on this machine.
type Local struct {
	// Oversubscribe lets nodes be larger, alone or together, than the machine;
	// they run with what it has. Off: they wait, with a reason. Default true.
	Oversubscribe bool `yaml:"oversubscribe"`
	// GPU is "auto" (sizes with GPUs run without where there are none, and say
	// so) or "required" (they wait, with a reason). Default auto.
	GPU string `yaml:"gpu"`
	// NvidiaSMI is the program that lists GPUs. Default nvidia-smi, from PATH.
	NvidiaSMI string `yaml:"nvidia_smi"`
	// Readable are further paths that jobs may read, as data sets. Default: none.
	Readable []string `yaml:"readable"`
	// InputNetworks are private networks that jobs' inputs by https:// may come
	// from, as 10.0.0.0/8; public addresses always may. Default: none.
	InputNetworks []string `yaml:"input_networks"`
}

// Images is where nodes get container images from, besides their registries.
type Images struct {
	// Archives is a folder of OCI and Docker archives (*.tar), looked through before
	// any registry. Default: none.
	Archives string `yaml:"archives"`
	// Mirrors says what is put in place of the beginning of an image's name, as
	// mcr.microsoft.com → registry.example.com/mcr; the longest that fits is tried
	// first, the image's own registry last. Default: none.
	Mirrors map[string]string `yaml:"mirrors"`
	// Registries are the credentials for registries, by host. Default: none.
	Registries map[string]Registry `yaml:"registries"`
	// BuildNetwork is the network of builds: "" (the engine's own), "host" (for
	// mirrors that listen on the machine itself only), or "none". Default "".
	BuildNetwork string `yaml:"build_network"`
	// Curated is a file with further curated environments, as the one that comes with
	// the server; an entry of the same name goes before. Default: none.
	Curated string `yaml:"curated"`
}

// Registry is how one asks a registry: by name and password, or with a token.
type Registry struct {
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"` // instead of password
	Token        string `yaml:"token"`         // a bearer token
}

// Container configures the running of jobs in containers.
type Container struct {
	// Use is "auto" (a job whose environment is an image runs in it on a node where
	// an engine answers), "required" (every job runs in a container, or fails) or
	// "never" (all are processes of the machine). Default auto.
	Use string `yaml:"use"`
	// Engine is the socket of the Docker or Podman to use, as
	// unix:///run/user/1000/podman/podman.sock. Default: the first of Docker's,
	// Podman's and the user's own that answers.
	Engine string `yaml:"engine"`
	// User is "job" (each job has a user of its own, without privileges) or "image"
	// (whoever the image says, root as a rule). Default job.
	User string `yaml:"user"`
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (c *Container) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&c.Use)
	}
	for i := 0; i+1 < len(n.Content); i += 2 { // n.Decode does not know KnownFields
		switch key := n.Content[i]; key.Value {
		case "use", "engine", "user":
		default:
			return fmt.Errorf("line %d: there is no key %q in container; there are use, engine and user", key.Line, key.Value)
		}
	}
	type plain Container
	return n.Decode((*plain)(c))
}

// Retention bounds what is kept of jobs that are over. Zero: for ever.
type Retention struct {
	// Logs is how long the logs of ended jobs stay. Default 0: for ever.
	Logs Duration `yaml:"logs"`
	// Environments is how long an environment nobody uses stays. Default 720h.
	Environments Duration `yaml:"environments"`
	// EnvironmentsMaxGiB bounds the cache of environments, oldest use first. Default 20.
	EnvironmentsMaxGiB float64 `yaml:"environments_max_gib"`
	// Snapshots is how long code that no job of that age used stays. SDK v1
	// reuses snapshots for ever. Default 0: for ever.
	Snapshots Duration `yaml:"snapshots"`
	// Events is how long the activity log goes back. Default 2160h, as Azure's.
	Events Duration `yaml:"events"`
}

// Duration is a time.Duration written as "36h" or "90m" in YAML.
type Duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 {
		return fmt.Errorf("line %d: %q is not a duration such as 36h or 90m", n.Line, n.Value)
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML implements yaml.Marshaler.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// Default returns the configuration of a server that was told nothing.
func Default() Config {
	return Config{
		Listen:    "127.0.0.1:8443",
		LogLevel:  "info",
		Local:     Local{Oversubscribe: true, GPU: "auto", NvidiaSMI: "nvidia-smi"},
		Container: Container{Use: "auto", User: "job"},
		Retention: Retention{Environments: Duration(720 * time.Hour), EnvironmentsMaxGiB: 20, Events: Duration(2160 * time.Hour)},
	}
}

// unknownKey is how the YAML package speaks of a key that Config lacks.
var unknownKey = regexp.MustCompile(`field (\S+) not found in type \S+`)

// Load reads file over the defaults, then the environment. An empty file name
// means ebb.yaml in the data folder, which need not exist; a named one must.
func Load(file, data string) (Config, error) {
	c := Default()
	c.Data = data
	named := file != ""
	if !named {
		file = filepath.Join(c.Data, "ebb.yaml")
	}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
	case err != nil:
		return c, fmt.Errorf("read the configuration: %w", err)
	default:
		dec := yaml.NewDecoder(bytes.NewReader(text))
		dec.KnownFields(true)
		if err := dec.Decode(&c); err != nil && len(bytes.TrimSpace(text)) > 0 {
			words := strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n  ")
			return c, fmt.Errorf("%s: %s (docs/ebb.sample.yaml shows every key)", file, unknownKey.ReplaceAllString(words, `there is no key "$1"`))
		}
	}
	if err := c.environment(); err != nil {
		return c, err
	}
	return c, nil
}

// environment takes in what is set there.
func (c *Config) environment() error {
	if v := os.Getenv("EBB_LISTEN"); v != "" {
		c.Listen = v
	}
	if v := os.Getenv("EBB_LOG_LEVEL"); v != "" {
		c.LogLevel = v
	}
	if v := os.Getenv("EBB_LOCAL_GPU"); v != "" {
		c.Local.GPU = v
	}
	if v := os.Getenv("EBB_CONTAINER"); v != "" {
		c.Container.Use = v
	}
	if v := os.Getenv("EBB_LOCAL_OVERSUBSCRIBE"); v != "" {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("EBB_LOCAL_OVERSUBSCRIBE=%q: true or false", v)
		}
		c.Local.Oversubscribe = on
	}
	return nil
}

// largeCluster is what an entry of large_clusters may be, in lower case.
var largeCluster = regexp.MustCompile(`^([0-9a-f-]{36}|/subscriptions/[^/]+(/resourcegroups/[^/]+(/providers/microsoft\.machinelearningservices/workspaces/[^/]+(/computes/[^/]+)?)?)?)$`)

// Validate says what is wrong with c, and what would work.
func (c Config) Validate() error {
	if _, port, err := net.SplitHostPort(c.Listen); err != nil || port == "" {
		return fmt.Errorf("listen: %q is not an address such as 127.0.0.1:8443", c.Listen)
	}
	if c.Data == "" {
		return errors.New("data: name a folder")
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		return fmt.Errorf("log_level: %q; it is debug, info, warn or error", c.LogLevel)
	}
	switch c.Local.GPU {
	case "auto", "required":
	default:
		return fmt.Errorf("local.gpu: %q; it is auto or required", c.Local.GPU)
	}
	if err := c.Container.validate(); err != nil {
		return err
	}
	if c.Retention.EnvironmentsMaxGiB < 0 {
		return fmt.Errorf("retention.environments_max_gib: %g; it is 0 (no bound) or more", c.Retention.EnvironmentsMaxGiB)
	}
	for _, id := range c.LargeClusters {
		if !largeCluster.MatchString(strings.ToLower(strings.TrimSuffix(id, "/"))) {
			return fmt.Errorf("large_clusters: %q is neither a subscription's guid nor the ARM id of a subscription, resource group, workspace or compute (/subscriptions/…)", id)
		}
	}
	if err := c.Images.validate(); err != nil {
		return err
	}
	for _, p := range c.Local.Readable {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("local.readable: %q is not an absolute path", p)
		}
	}
	for _, n := range c.Local.InputNetworks {
		if _, err := netip.ParsePrefix(n); err != nil {
			return fmt.Errorf("local.input_networks: %q is not a network such as 10.0.0.0/8", n)
		}
	}
	return nil
}

func (i Images) validate() error {
	for key, p := range map[string]string{"archives": i.Archives, "curated": i.Curated} {
		if p != "" && !filepath.IsAbs(p) {
			return fmt.Errorf("images.%s: %q is not an absolute path", key, p)
		}
	}
	switch i.BuildNetwork {
	case "", "host", "none":
	default:
		return fmt.Errorf("images.build_network: %q; it is host, none, or empty for the engine's own", i.BuildNetwork)
	}
	for from, to := range i.Mirrors {
		if from == "" || to == "" || strings.Contains(from+to, "://") {
			return fmt.Errorf("images.mirrors: %q: %q is not a mirror; one is written as mcr.microsoft.com: registry.example.com/mcr, without https://", from, to)
		}
	}
	for host, r := range i.Registries {
		switch {
		case strings.Contains(host, "/"):
			return fmt.Errorf("images.registries: %q is not a host such as registry.example.com:5000", host)
		case r.Password != "" && r.PasswordFile != "":
			return fmt.Errorf("images.registries.%s: give password or password_file, not both", host)
		case r.Token == "" && (r.Username == "" || r.Password == "" && r.PasswordFile == ""):
			return fmt.Errorf("images.registries.%s: give username and password (or password_file), or a token", host)
		}
	}
	return nil
}

func (c Container) validate() error {
	switch c.Use {
	case "auto", "required", "never":
	default:
		return fmt.Errorf("container.use: %q; it is auto, required or never", c.Use)
	}
	switch c.User {
	case "job", "image":
	default:
		return fmt.Errorf("container.user: %q; it is job or image", c.User)
	}
	if e := strings.TrimPrefix(c.Engine, "unix://"); c.Engine != "" && !filepath.IsAbs(e) {
		return fmt.Errorf("container.engine: %q is not a socket such as unix:///var/run/docker.sock; engines elsewhere are not used", c.Engine)
	}
	return nil
}
