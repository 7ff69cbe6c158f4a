// Package runner turns what a server orders into what a shim runs: it makes the
// attempt's environment, command, variables and world. An agent makes one
// [Runner] when it starts, and for each attempt calls [Runner.Prepare] and then
// shim.Start.
package runner

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/cache"
	"github.com/ebb-compute/ebb/internal/node/container"
	"github.com/ebb-compute/ebb/internal/node/runner/pyenv"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/node/shim/cgroup"
	"github.com/ebb-compute/ebb/internal/node/shim/sandbox"
	"github.com/ebb-compute/ebb/internal/node/shim/uids"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Isolation is how far jobs are kept from each other and from the node's owner.
const (
	UserAndLandlock = "user+landlock" // a Unix user each, private mounts, Landlock
	LandlockOnly    = "landlock"
	NoIsolation     = "none" // though root without Landlock still gives users and mounts
)

// Config of a runner.
type Config struct {
	Cache     string            // folder shared by the nodes of the machine: DATA/cache
	Hide      []string          // never shown to jobs, though below a system path: DATA
	Read      []string          // more paths that jobs may read, as data sets; default none
	CA        string            // bundle that jobs trust, a file of the host; empty: their own
	Variables map[string]string // base variables of every job, below the user's; as HTTPS_PROXY
	GPUs      []string          // devices of this node, for CUDA_VISIBLE_DEVICES; nil: none visible
	// Containers says which jobs run in containers; default none.
	Containers Containers

	// Less than the machine allows, for tests; default all of it.
	NoUsers, NoLandlock, NoLimits bool
}

// Runner prepares attempts. Safe for concurrent use.
type Runner struct {
	cfg      Config
	users    bool // jobs have users and mounts of their own
	landlock int  // ABI; 0: none
	groups   cgroup.Tree
	system   []string // paths that every job may read
	memory   int64    // the machine's, bytes
	warnings []string
	finder   *pyenv.Finder
	builder  *pyenv.Builder
	engine   atomic.Pointer[container.Engine] // nil: none has answered yet
}

// New looks at what this machine allows. It changes nothing but making the
// control group under which those of jobs are made.
func New(cfg Config) (*Runner, error) {
	cache, err := filepath.Abs(cfg.Cache)
	if err != nil {
		return nil, fmt.Errorf("find cache folder: %w", err)
	}
	cfg.Cache = cache
	r := &Runner{cfg: cfg}
	for i, h := range cfg.Hide {
		r.cfg.Hide = slices.Clone(r.cfg.Hide)
		if r.cfg.Hide[i], err = filepath.Abs(h); err != nil {
			return nil, fmt.Errorf("find data folder: %w", err)
		}
		if real, err := filepath.EvalSymlinks(r.cfg.Hide[i]); err == nil {
			r.cfg.Hide[i] = real
		}
	}
	r.probe()
	r.system = systemPaths()
	hide := r.cfg.Hide
	if r.users {
		hide = append(slices.Clone(hide), "/tmp", "/var/tmp")
	}
	r.finder = &pyenv.Finder{Nobody: r.users, Hide: hide}
	r.builder = &pyenv.Builder{
		Folder: filepath.Join(cache, "envs"), Finder: r.finder,
		Place: r.place, World: r.buildWorld,
	}
	return r, nil
}

// probe finds out what may be done, and a sentence for each thing that may not.
func (r *Runner) probe() {
	say := func(format string, args ...any) { r.warnings = append(r.warnings, fmt.Sprintf(format, args...)) }
	if !r.cfg.NoLandlock {
		r.landlock = sandbox.ABI()
	}
	err := sandbox.Users()
	if err == nil {
		err = os.MkdirAll(uids.Folder, 0o700)
	}
	switch {
	case r.cfg.NoUsers:
	case err == nil:
		r.users = true
	case r.landlock > 0:
		say("This node cannot give jobs users of their own, because %s: jobs run as its user, kept apart by Landlock alone.", err)
	default:
		say("This node cannot keep jobs apart: it cannot give them users, because %s, and the kernel has no Landlock.", err)
	}
	if r.users && r.landlock == 0 && !r.cfg.NoLandlock {
		say("The kernel has no Landlock: jobs are kept apart by their users and mounts alone.")
	}
	if r.landlock > 0 && r.landlock < 6 && !r.users {
		say("The kernel's Landlock (ABI %d) is too old to keep jobs from signalling each other.", r.landlock)
	}
	if w := r.lookForEngine(); w != "" {
		say("%s", w)
	}
	if !r.cfg.NoLimits {
		groups, err := cgroup.Detect()
		if err != nil {
			say("vCPUs and memory of a size are not enforced: %s.", strings.TrimSuffix(err.Error(), "."))
		}
		r.groups = groups
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		r.memory = int64(info.Totalram) * int64(info.Unit) //nolint:unconvert // differs by architecture
	}
}

// Isolation is UserAndLandlock, LandlockOnly or NoIsolation.
func (r *Runner) Isolation() string {
	switch {
	case r.users && r.landlock > 0:
		return UserAndLandlock
	case r.landlock > 0:
		return LandlockOnly
	}
	return NoIsolation
}

// Warnings are sentences about what this machine does not allow, to be said once.
func (r *Runner) Warnings() []string { return slices.Clone(r.warnings) }

// Warm looks for the machine's Pythons, so that the first job need not wait.
func (r *Runner) Warm(ctx context.Context) { r.finder.All(ctx) }

// Hurry is told that an attempt will be prepared and started soon.
func (r *Runner) Hurry() { cgroup.Stir(r.groups) }

// Prepare makes the environment (built or from the cache; how it goes is written
// to log, nothing if there is nothing to do) and the spec for shim.Start in dir,
// whose work/ folder has the code already. An error that is a fault is the
// user's to mend (queue.BySetup) and its message is for them; any other is the
// node's.
func (r *Runner) Prepare(ctx context.Context, dir string, o nodeproto.Order, log io.Writer) (shim.Spec, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return shim.Spec{}, fmt.Errorf("find attempt folder: %w", err)
	}
	engine, err := r.engineFor(ctx, o)
	if err != nil {
		return shim.Spec{}, err
	}
	if engine != nil {
		return r.contain(ctx, dir, o, *engine, log)
	}
	py, env, err := r.python(ctx, dir, o, log)
	if err != nil {
		return shim.Spec{}, err
	}
	l, err := r.layOut(dir, strings.ReplaceAll(o.Task.Run, "-", ""), py, env)
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
	var at share
	if o.Gang != nil {
		if at, err = r.layGang(dir, *o.Gang, &l); err != nil {
			return shim.Spec{}, err
		}
	}
	spec := r.spec(dir, l, limits{o.VCPUs, o.MemoryGiB})
	spec.Argv = command(o.Task, l)
	if spec.Argv == nil {
		return shim.Spec{}, fault.New(fault.Invalid, "task", "The job has neither a command nor a script.")
	}
	spec.Env = r.variables(o, found, l)
	spec.Log = o.LogName
	spec.TimeLimit = o.Task.TimeLimit
	if o.Gang != nil {
		err = r.launch(dir, *o.Gang, at, l, o.Attempt, &spec)
	}
	return spec, err
}

// python chooses the interpreter of a task, and the venv around it if it has packages.
func (r *Runner) python(ctx context.Context, dir string, o nodeproto.Order, log io.Writer) (pyenv.Python, *pyenv.Env, error) {
	e := o.Task.Environment
	if e.UserManaged && strings.Contains(e.Interpreter, "/") {
		py, err := r.finder.Try(ctx, e.Interpreter)
		if err != nil {
			return py, nil, fault.Coded(fault.Invalid, "UserError", "environment",
				"The environment's interpreter %s cannot be run by jobs on this node: %s.", e.Interpreter, err)
		}
		return py, nil, nil
	}
	packages := !e.UserManaged && len(e.Pip)+len(e.Conda) > 0
	want := e.Python
	if v, ok := strings.CutPrefix(filepath.Base(e.Interpreter), "python3."); e.UserManaged && ok {
		want = "3." + v
	}
	all := r.finder.All(ctx)
	if packages { // one that can make a venv, if there is any
		if can := slices.DeleteFunc(slices.Clone(all), func(p pyenv.Python) bool { return !p.CanBuild() }); len(can) > 0 {
			all = can
		}
	}
	py, ok := pyenv.Best(all, want)
	if !ok {
		if o.Task.Command != "" && !packages {
			return pyenv.Python{}, nil, nil // the command may do without
		}
		return py, nil, fault.Coded(fault.Invalid, "ImageBuildFailure", "environment",
			"This node has no Python 3 that jobs may run. A Python below a folder that is closed to other users, as /root, does not count. On Debian and Ubuntu: apt install python3 python3-venv.")
	}
	if packages {
		if err := cache.Use(dir, r.builder.Hash(e, py)); err != nil { // before it is looked for
			return py, nil, fmt.Errorf("say that the environment is used: %w", err)
		}
		env, err := r.builder.Ensure(ctx, e, py, pyenv.Limits{VCPUs: o.VCPUs, MemoryGiB: o.MemoryGiB}, log)
		return py, &env, err
	}
	if !e.UserManaged && !pyenv.Matches(py.Version, want) && log != nil {
		_, _ = fmt.Fprintf(log, "Python %s was asked for; the nearest that this machine has is %s.\n", want, py.Version)
	}
	return py, nil, nil
}

// command of a task; nil: it has none.
func command(t queue.Task, l layout) []string {
	switch {
	case t.Command != "":
		return []string{"/bin/sh", "-c", t.Command}
	case t.Script != "":
		return append([]string{filepath.Join(l.pythonBin(), "python"), t.Script}, t.Arguments...)
	}
	return nil
}

// limits of a size, as asked.
type limits struct {
	vcpus     int
	memoryGiB float64
}

// maxPIDs is more than any honest job has, and stops a fork bomb.
const maxPIDs = 16_384

// spec is what all of a runner's attempts have in common.
func (r *Runner) spec(dir string, l layout, lim limits) shim.Spec {
	s := shim.Spec{Dir: l.work, World: l.world, Cgroups: r.groups}
	if r.users {
		s.Users = uids.Folder
		s.Own = append([]string{filepath.Join(dir, "work"), filepath.Join(dir, "tmp"), filepath.Join(dir, "home")}, l.own...)
	}
	s.Limits.PIDs = maxPIDs
	if lim.vcpus > 0 && lim.vcpus < runtime.NumCPU() {
		s.Limits.VCPUs = float64(lim.vcpus)
	}
	if lim.memoryGiB > 0 {
		s.Limits.Memory = int64(lim.memoryGiB * (1 << 30))
		s.MemoryWords = fmt.Sprintf("%g GiB of the size", lim.memoryGiB)
		// The rest of the machine keeps a thirty-second part, come what may.
		if most := r.memory - r.memory/32; r.memory > 0 && s.Limits.Memory > most {
			s.Limits.Memory = most
			s.MemoryWords = fmt.Sprintf("%.1f GiB that this machine has", float64(most)/(1<<30))
		}
	}
	return s
}

// variables of a job: the node's, below the user's, below the server's.
func (r *Runner) variables(o nodeproto.Order, found map[string]string, l layout) []string {
	v := r.base(l)
	if n := min(o.VCPUs, runtime.NumCPU()); n > 0 {
		v["OMP_NUM_THREADS"] = fmt.Sprint(n)
	}
	for _, from := range []map[string]string{r.cfg.Variables, o.Task.Variables, found, o.Variables} {
		for name, value := range from {
			if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
				continue // no process can have it
			}
			v[name] = value
		}
	}
	v["PATH"] = l.path(v["PATH"])
	v["CUDA_VISIBLE_DEVICES"] = strings.Join(r.cfg.GPUs, ",")
	return flat(v)
}

// base variables, which all others go over.
func (r *Runner) base(l layout) map[string]string {
	v := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": l.home, "USER": "job", "LOGNAME": "job", // no such user is in /etc/passwd, and Python's getpass wants a name
		"LANG": "C.UTF-8", "SHELL": "/bin/sh", "PYTHONUNBUFFERED": "1",
	}
	if l.tmp != "/tmp" {
		v["TMPDIR"] = l.tmp
	}
	if l.ca != "" {
		for _, name := range []string{"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"} {
			v[name] = l.ca
		}
	}
	if l.venv != "" {
		v["VIRTUAL_ENV"] = l.venv
	}
	return v
}

func flat(v map[string]string) []string {
	out := make([]string, 0, len(v))
	for name, value := range v {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// buildWorld is the world of a venv's build: as a job's, with the venv writable.
func (r *Runner) buildWorld(j pyenv.Job) (shim.Spec, error) {
	l, err := r.layOut(j.Dir, "build", pyenv.Python{}, nil)
	if err != nil {
		return shim.Spec{}, err
	}
	place := r.place(filepath.Base(j.Venv))
	if r.users {
		l.world.Binds = append(l.world.Binds, sandbox.Bind{From: j.Venv, To: place})
	} else {
		l.world.Write = append(l.world.Write, place)
	}
	l.own = append(l.own, j.Venv)
	l.world.Read = append(l.world.Read, j.Read...)
	s := r.spec(j.Dir, l, limits{j.Order.VCPUs, j.Order.MemoryGiB})
	s.Argv = j.Argv
	v := r.base(l)
	delete(v, "VIRTUAL_ENV")
	for _, name := range []string{"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"} {
		delete(v, name) // pip talks to registries, not to us
	}
	for name, value := range r.cfg.Variables {
		v[name] = value
	}
	for _, e := range j.Env {
		name, value, _ := strings.Cut(e, "=")
		v[name] = value
	}
	s.Env = flat(v)
	return s, nil
}

// place is where jobs see the venv of a hash.
func (r *Runner) place(hash string) string {
	if r.users {
		return filepath.Join("/tmp/azureml/envs", hash)
	}
	return filepath.Join(r.cfg.Cache, "envs", hash)
}

// CanBuild reports whether this machine can make environments with packages.
func (r *Runner) CanBuild(ctx context.Context) bool {
	return slices.ContainsFunc(r.finder.All(ctx), pyenv.Python.CanBuild)
}
