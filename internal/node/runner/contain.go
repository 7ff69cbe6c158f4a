package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/container"
	"github.com/ebb-compute/ebb/internal/node/runner/image"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/node/shim/sandbox"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// EngineFile is in a node's folder once a job of it ran in a container: the engine.
const EngineFile = "engine.json"

// Containers says which jobs run in containers, and what these must know.
type Containers struct {
	Use    string         // auto: where an engine answers, those whose environment is an image; required: all; otherwise none
	Engine string         // socket; empty: whichever answers
	Images image.Settings // where images come from
	User   string         // image: whom the image names; otherwise the job's own

	Installation string
	Server       string // file that says where the server is
	Node         string // the node's folder
}

// lookForEngine looks once, when the agent starts. It returns a warning, if one is due.
func (r *Runner) lookForEngine() string {
	if r.cfg.Containers.Use != "auto" && r.cfg.Containers.Use != "required" {
		return ""
	}
	e, err := r.findEngine(context.Background())
	switch {
	case err == nil && len(r.cfg.GPUs) > 0 && !e.GPUs:
		return fmt.Sprintf("%s on this node gives no GPUs to containers: the NVIDIA container toolkit is not set up.", e)
	case err == nil && e.NoLimits:
		return fmt.Sprintf("vCPUs and memory of a size are not enforced in containers: %s and control groups of version 1 set no limits.", e)
	case err != nil && (r.cfg.Containers.Use == "required" || r.cfg.Containers.Engine != ""):
		return fmt.Sprintf("Jobs cannot run in containers on this node: %s.", err)
	}
	return ""
}

// findEngine returns the engine that answered before, or looks for one.
func (r *Runner) findEngine(ctx context.Context) (*container.Engine, error) {
	if e := r.engine.Load(); e != nil {
		return e, nil
	}
	e, err := container.Find(ctx, r.cfg.Containers.Engine)
	if err != nil {
		return nil, err
	}
	if e.Rootless && os.Getuid() == 0 {
		return nil, fmt.Errorf("%w that is root's own: the one at %s is rootless, another user's", container.ErrNone, e.Socket)
	}
	r.engine.Store(&e)
	return &e, nil
}

// ContainerEngine names the engine in which jobs run; empty: there is none.
func (r *Runner) ContainerEngine() string {
	if e := r.engine.Load(); e != nil {
		return e.String()
	}
	return ""
}

// engineFor returns the engine in which a job is to run; nil: it is to be a
// process. A job that wants an image never becomes one where an engine was seen.
func (r *Runner) engineFor(ctx context.Context, o nodeproto.Order) (*container.Engine, error) {
	use, wanted := r.cfg.Containers.Use, o.Task.Container != nil && o.Task.Environment.InImage()
	if use != "required" && (use != "auto" || !wanted) {
		return nil, nil
	}
	if !wanted {
		return nil, fault.Coded(fault.Invalid, "UserError", "environment",
			"The nodes of this cluster run jobs in containers only (container: required), and the job's environment names no image. Give it one that does.")
	}
	e, err := r.findEngine(ctx)
	switch {
	case errors.Is(err, container.ErrNone) && use == "auto":
		return nil, nil
	case errors.Is(err, container.ErrNone):
		return nil, fault.Coded(fault.Invalid, "UserError", "environment",
			"The nodes of this cluster run jobs in containers only (container: required), and %s. Start Docker or Podman on the node, or set container.engine to where it listens.", err)
	case err != nil:
		return nil, err
	}
	if o.Gang != nil {
		return nil, fault.New(fault.Unsupported, "distribution",
			"Jobs of several processes or nodes do not run in containers yet, and this node has %s. Give the job an environment without an image, or let the nodes run processes (container: never).", e)
	}
	return e, nil
}

// contain is Prepare for a job in a container.
func (r *Runner) contain(ctx context.Context, dir string, o nodeproto.Order, e container.Engine, log io.Writer) (shim.Spec, error) {
	img, err := r.image(ctx, dir, o, e, log)
	if err != nil {
		return shim.Spec{}, err
	}
	l, err := r.layContainer(dir, strings.ReplaceAll(o.Task.Run, "-", ""))
	if err != nil {
		return shim.Spec{}, err
	}
	refs, err := r.layData(dir, o, &l)
	if err != nil {
		return shim.Spec{}, err
	}
	var found map[string]string
	if o.Task, found, err = filled(o.Task, refs); err != nil {
		return shim.Spec{}, err
	}
	s := container.Spec{
		Engine: e, Installation: r.cfg.Containers.Installation, Attempt: o.Attempt, Member: o.Member,
		Image: img.ID, Shown: img.Name, Argv: containedCommand(o.Task), Env: r.containedVariables(o, found, l), Dir: l.work,
		User: container.JobUser, PIDs: maxPIDs, GPUs: r.cfg.GPUs, Server: r.cfg.Containers.Server, Cache: r.cfg.Cache,
	}
	if s.Argv == nil {
		return shim.Spec{}, fault.New(fault.Invalid, "task", "The job has neither a command nor a script.")
	}
	if r.cfg.Containers.User == "image" {
		s.User = ""
	}
	for _, b := range l.world.Binds {
		s.Mount = append(s.Mount, container.Mount{From: b.From, To: b.To, ReadOnly: b.ReadOnly})
	}
	if s.Port, err = loopbackPort(s.Server); err != nil {
		return shim.Spec{}, err
	}
	asked(&s, *o.Task.Container)
	lim := r.spec(dir, l, limits{o.VCPUs, o.MemoryGiB})
	s.VCPUs, s.Memory = lim.Limits.VCPUs, lim.Limits.Memory
	spec, err := s.ShimSpec()
	if err != nil {
		return spec, err
	}
	spec.Image = fmt.Sprintf("%s (%s)", img.Name, img.ID)
	spec.MemoryWords, spec.Log, spec.TimeLimit = lim.MemoryWords, o.LogName, o.Task.TimeLimit
	if r.users && s.User != "" {
		spec.Users, spec.Own = lim.Users, lim.Own
	}
	return spec, r.keepEngine(e)
}

// image has the image of a job's environment on the engine.
func (r *Runner) image(ctx context.Context, dir string, o nodeproto.Order, e container.Engine, log io.Writer) (image.Image, error) {
	c, err := e.Dial()
	if err != nil {
		return image.Image{}, err
	}
	defer c.Close()
	store := image.New(image.Config{
		Settings: r.cfg.Containers.Images, Engine: c, Host: "unix://" + e.Socket, Podman: e.Kind == "Podman", Folder: filepath.Join(r.cfg.Cache, "images"),
	})
	return store.Ensure(ctx, image.Want{Environment: o.Task.Environment, Context: ContextFolder(dir)}, log)
}

// keepEngine writes which engine the node's jobs use, for who removes the node.
func (r *Runner) keepEngine(e container.Engine) error {
	file := filepath.Join(r.cfg.Containers.Node, EngineFile)
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	b, err := json.Marshal(e)
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("say that the engine is used: %w", err)
	}
	return nil
}

// asked takes over what the user asks of the container.
func asked(s *container.Spec, c queue.Container) {
	s.Shm, s.Tmpfs, s.Hosts, s.Hostname = c.Shm, c.Tmpfs, c.Hosts, c.Hostname
	for _, u := range c.Ulimits {
		s.Ulimits = append(s.Ulimits, container.Ulimit(u))
	}
}

// layContainer makes the folders of a contained attempt, at Azure's paths.
func (r *Runner) layContainer(dir, id string) (layout, error) {
	base := filepath.Join(frame, "cr/j", id)
	l := layout{base: base, work: filepath.Join(base, "exe/wd"), home: filepath.Join(base, "home"), tmp: "/tmp"}
	for host, at := range map[string]string{filepath.Join(dir, "work"): l.work, filepath.Join(dir, "home"): l.home} {
		if err := os.MkdirAll(host, 0o755); err != nil {
			return l, fmt.Errorf("make job folders: %w", err)
		}
		l.world.Binds = append(l.world.Binds, sandbox.Bind{From: host, To: at})
	}
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil { // which spec gives to the user
		return l, fmt.Errorf("make job folders: %w", err)
	}
	if r.cfg.CA != "" {
		l.ca = "/tmp/azureml/ca.pem"
		l.world.Binds = append(l.world.Binds, sandbox.Bind{From: r.cfg.CA, To: l.ca, ReadOnly: true})
	}
	for _, p := range r.cfg.Read {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			l.world.Binds = append(l.world.Binds, sandbox.Bind{From: real, To: p, ReadOnly: true})
		}
	}
	return l, nil
}

// containedCommand of a task; nil: it has none. An image's python is its own.
func containedCommand(t queue.Task) []string {
	switch {
	case t.Command != "":
		return []string{"/bin/sh", "-c", t.Command}
	case t.Script != "":
		python := "python"
		if t.Environment.UserManaged && t.Environment.Interpreter != "" {
			python = t.Environment.Interpreter
		}
		return append([]string{python, t.Script}, t.Arguments...)
	}
	return nil
}

// containedVariables are as variables, over the image's: it knows best where its
// programs are.
func (r *Runner) containedVariables(o nodeproto.Order, found map[string]string, l layout) []string {
	v := r.base(l)
	for _, theirs := range []string{"PATH", "LANG", "SHELL"} {
		delete(v, theirs)
	}
	if n := min(o.VCPUs, runtime.NumCPU()); n > 0 {
		v["OMP_NUM_THREADS"] = strconv.Itoa(n)
	}
	for _, from := range []map[string]string{r.cfg.Variables, o.Task.Variables, found, o.Variables} {
		maps.Copy(v, from)
	}
	maps.DeleteFunc(v, func(name, value string) bool {
		return name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") // no process can have it
	})
	v["CUDA_VISIBLE_DEVICES"] = strings.Join(r.cfg.GPUs, ",")
	return flat(v)
}

// loopbackPort is the port of the server, if jobs are told to find it on loopback,
// which is another in a container; 0: they are told otherwise.
func loopbackPort(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var at struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(b, &at); err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	u, err := url.Parse(at.URL)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return 0, nil
	}
	_, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return 443, nil //nolint:nilerr // none is named
	}
	return strconv.Atoi(port)
}
