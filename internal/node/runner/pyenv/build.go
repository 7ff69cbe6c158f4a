package pyenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner/once"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

// Job is what a build runs, in a world of its own: what a requirement's setup.py
// does is not to be trusted more than any job.
type Job struct {
	Dir   string // the attempt's folder; its work/ and tmp/ exist
	Argv  []string
	Env   []string
	Venv  string   // on the host: to be shown, writable, at Builder.Place
	Read  []string // paths that must be readable
	Order Limits
}

// Limits of a build, as the size of the job that wants it gives them.
type Limits struct {
	VCPUs     int
	MemoryGiB float64
}

// Builder makes venvs under a folder, each once for all nodes of the machine.
type Builder struct {
	Folder string // DATA/cache/envs
	Finder *Finder
	// Place says where jobs see the venv that is kept in Folder/hash: a venv works
	// only at the path that it was made for.
	Place func(hash string) string
	// World turns a job into a shim's spec.
	World func(Job) (shim.Spec, error)
	// TimeLimit of one build; 0: an hour.
	TimeLimit time.Duration
}

// Env is a venv that is ready.
type Env struct {
	Host  string // its folder
	Place string // as jobs see it
	Hash  string
}

// ready is Folder/HASH.json, written last.
type ready struct {
	Python string    `json:"python"` // version
	From   string    `json:"from"`   // interpreter
	Place  string    `json:"place"`
	Built  time.Time `json:"built"`
}

// Hash names the venv of an environment made with py.
func (b *Builder) Hash(e queue.Environment, py Python) string { return key(e, py, b.Place("")) }

// Ensure returns the venv of an environment made with py, building it if nobody
// has. While it is built, by whomever, the build's output is written to log.
// What the user can mend is a fault.
func (b *Builder) Ensure(ctx context.Context, e queue.Environment, py Python, lim Limits, log io.Writer) (Env, error) {
	hash := b.Hash(e, py)
	env := Env{Host: filepath.Join(b.Folder, hash), Place: b.Place(hash), Hash: hash}
	if b.isReady(hash) {
		return env, nil
	}
	how, err := plan(py)
	if err != nil {
		return Env{}, err
	}
	if err := os.MkdirAll(b.Folder, 0o711); err != nil {
		return Env{}, fmt.Errorf("make folder of environments: %w", err)
	}
	since := time.Now()
	f := &once.Follower{Path: filepath.Join(b.attempt(hash), "log", logName), To: log}
	unlock, err := once.Lock(ctx, filepath.Join(b.Folder, hash+".lock"), f)
	if err != nil {
		return Env{}, err
	}
	defer unlock()
	if b.isReady(hash) {
		return env, nil
	}
	return env, b.build(ctx, build{env: env, want: e, py: py, how: how, lim: lim, since: since, out: f})
}

// logName of a build, below its attempt's log/.
const logName = "build.txt"

// ShownAs is the name by which a job has the log of its environment's build.
const ShownAs = "azureml-logs/20_image_build_log.txt"

func (b *Builder) attempt(hash string) string { return filepath.Join(b.Folder, hash+".build") }
func (b *Builder) marker(hash string) string  { return filepath.Join(b.Folder, hash+".json") }

func (b *Builder) isReady(hash string) bool {
	var r ready
	data, err := os.ReadFile(b.marker(hash))
	if err != nil || json.Unmarshal(data, &r) != nil {
		return false
	}
	if _, err := os.Stat(r.From); err != nil {
		return false // the interpreter it points to is gone
	}
	now := time.Now()
	_ = os.Chtimes(b.marker(hash), now, now) // when it was last used, for whoever prunes
	return true
}

// key names an environment by all that decides what is in it.
func key(e queue.Environment, py Python, place string) string {
	data, err := json.Marshal([]any{2, py.Path, py.Version, place, e.Pip, e.Conda})
	if err != nil {
		panic("pyenv: encode key: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// plan is the script that makes an empty venv with pip; $1 is the interpreter,
// $2 the venv.
func plan(py Python) (string, error) {
	switch {
	case py.Venv && py.EnsurePip:
		return `"$1" -m venv "$2"`, nil
	case py.Virtual:
		return `"$1" -m virtualenv "$2"`, nil
	case py.Venv && py.Pip: // pip 22.3 and newer work for another interpreter
		return `"$1" -m venv --without-pip "$2" && "$1" -m pip --python "$2/bin/python" install --ignore-installed pip`, nil
	}
	return "", fault.Coded(fault.Invalid, "ImageBuildFailure", "environment",
		"An environment with packages cannot be made with %s (Python %s): it has neither venv with ensurepip, nor virtualenv, nor pip. "+
			"On Debian and Ubuntu: apt install python3-venv.", py.Path, py.Version)
}

type build struct {
	env   Env
	want  queue.Environment
	py    Python
	how   string
	lim   Limits
	since time.Time // who asked has waited since then
	out   *once.Follower
}

// build makes the venv, or goes on with a build whose agent died. The lock is held.
func (b *Builder) build(ctx context.Context, w build) error {
	dir := b.attempt(w.env.Hash)
	st, err := shim.Look(dir)
	if err != nil {
		return err
	}
	if st.Phase == shim.Died {
		if _, err := shim.Sweep(dir); err != nil {
			return err
		}
	}
	if st.Phase == shim.Ended && st.Record.Exit.Code != 0 && st.Record.Exit.Ended.After(w.since) {
		return w.failure(st.Record, dir) // it failed while we waited for it
	}
	if st.Phase != shim.Running {
		if err := b.begin(ctx, w, dir); err != nil {
			return err
		}
	}
	stop := w.out.Follow()
	st, err = shim.Wait(ctx, dir)
	if ctx.Err() != nil { // nobody wants it any more; others who wait begin anew
		_ = shim.Stop(dir, queue.ByCancel, 0)
		st, err = shim.Wait(context.WithoutCancel(ctx), dir)
		if err == nil && st.Phase == shim.Died { // what is left must not build on in a folder that is gone
			_, err = shim.Sweep(dir)
		}
		if err == nil && (st.Phase != shim.Ended || st.Record.Exit.Cause != queue.ByExit || st.Record.Exit.Code != 0) {
			_ = shim.Forget(dir)
			err = ctx.Err()
		}
	}
	stop()
	w.out.Copy()
	if err != nil {
		return err
	}
	if st.Phase == shim.Died {
		if st.Record, err = shim.Sweep(dir); err != nil {
			return err
		}
	}
	if e := st.Record.Exit; e.Cause != queue.ByExit || e.Code != 0 {
		return w.failure(st.Record, dir)
	}
	return b.done(w, dir)
}

// begin starts the build in a fresh folder.
func (b *Builder) begin(ctx context.Context, w build, dir string) error {
	// A setup.py may have left folders that only [shim.Forget] removes without root.
	if err := errors.Join(shim.Forget(dir), shim.Forget(w.env.Host), os.RemoveAll(b.marker(w.env.Hash))); err != nil {
		return fmt.Errorf("remove what is left of a build: %w", err)
	}
	for _, path := range []string{filepath.Join(dir, "work"), filepath.Join(dir, "tmp"), filepath.Join(dir, "home"), w.env.Host} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("make build folder: %w", err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	pip, left := WithoutUnknown(ctx, w.want.Pip)
	files := map[string]string{"requirements.txt": strings.Join(pip, "\n") + "\n", "left-out.txt": strings.Join(left, "\n")}
	var conda []string
	for _, c := range w.want.Conda {
		if r, ok := FromConda(c); ok {
			conda = append(conda, r)
		}
	}
	files["conda.txt"] = strings.Join(conda, "\n") + "\n"
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, "work", name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write requirements: %w", err)
		}
	}
	env, read := hostPip()
	for _, p := range []string{w.py.Prefix, w.py.Base} { // an activated venv's Python lies anywhere
		if real, err := filepath.EvalSymlinks(p); p != "" && err == nil {
			read = append(read, real)
		}
	}
	spec, err := b.World(Job{
		Dir: dir, Venv: w.env.Host, Env: env, Read: read, Order: w.lim,
		Argv: []string{"/bin/sh", "-c", script(w), "sh", w.py.Path, w.env.Place},
	})
	if err != nil {
		return err
	}
	if err := copyPipConfig(homeOf(spec, dir)); err != nil {
		return err
	}
	spec.Log, spec.LogWords, spec.TimeLimit, spec.Grace = logName, ShownAs, b.TimeLimit, time.Second
	if spec.TimeLimit == 0 {
		spec.TimeLimit = time.Hour
	}
	return shim.Start(dir, spec)
}

func script(w build) string {
	note := ""
	if w.want.Python != "" && !Matches(w.py.Version, w.want.Python) {
		note = fmt.Sprintf("echo 'Python %s was asked for; the nearest that this machine has is %s.'\n", clean(w.want.Python), w.py.Version)
	}
	return `set -e
echo "Making an environment with $1 (Python ` + w.py.Version + `)"
` + note + w.how + `
if [ -s left-out.txt ]; then echo "Left out, because this machine does not know the host:"; cat left-out.txt; echo; fi
echo "Installing packages:"; cat requirements.txt conda.txt
exec "$2/bin/python" -m pip install --no-input --disable-pip-version-check --no-cache-dir -r requirements.txt -r conda.txt
`
}

// clean makes a version fit for single quotes in a shell.
func clean(version string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, version)
}

// done makes the venv durable and then says that it is there.
func (b *Builder) done(w build, dir string) error {
	if err := addFlush(w.env.Host); err != nil {
		return fmt.Errorf("finish environment: %w", err)
	}
	root, err := os.Open(w.env.Host)
	if err != nil {
		return fmt.Errorf("open environment: %w", err)
	}
	defer root.Close()
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return fmt.Errorf("sync environment: %w", err)
	}
	data, err := json.Marshal(ready{Python: w.py.Version, From: w.py.Path, Place: w.env.Place, Built: time.Now().UTC()})
	if err != nil {
		return err
	}
	tmp := b.marker(w.env.Hash) + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("mark environment: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, b.marker(w.env.Hash))
	}
	if err != nil {
		return fmt.Errorf("mark environment: %w", err)
	}
	for _, part := range []string{"tmp", "home", "work"} { // pip's configuration may hold a password
		_ = os.RemoveAll(filepath.Join(dir, part))
	}
	return nil
}

// failure says for the user why a build failed.
func (w build) failure(rec shim.Record, dir string) error {
	_ = errors.Join(os.RemoveAll(filepath.Join(dir, "tmp")), os.RemoveAll(filepath.Join(dir, "home")))
	if c := rec.Exit.Cause; c == queue.ByNodeLoss || c == queue.ByCancel || c == queue.ByPreemption {
		return fmt.Errorf("build environment: ended by %s: %s", c, rec.Exit.Message)
	}
	name := w.want.Name
	if name == "" {
		name = "of the job"
	}
	if rec.Exit.Cause != queue.ByExit {
		return fault.Coded(fault.Invalid, "ImageBuildFailure", "environment", "The environment %s could not be made. %s", name, rec.Exit.Message)
	}
	why := Explain(lastPart(filepath.Join(dir, "log", logName)), w.want, w.py)
	return fault.Coded(fault.Invalid, "ImageBuildFailure", "environment", "The environment %s could not be made. %s%s", name, why, rec.Exit.Message)
}

// maxExplained is how much of a build's log is searched for what failed, from
// its end; bytes. A setup.py may print without end.
const maxExplained = 1 << 20

func lastPart(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	data, _ := io.ReadAll(io.NewSectionReader(f, max(0, fi.Size()-maxExplained), maxExplained))
	return string(data)
}

// --- pip's configuration on this machine ---

// hostPip is what of our own environment pip is to see, and local paths it names.
func hostPip() (env, read []string) {
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		upper := strings.ToUpper(name)
		switch upper {
		case "PIP_CONFIG_FILE", "PIP_CACHE_DIR", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV", "PIP_LOG":
			continue // about our own Python, not theirs
		case "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE":
		default:
			if !strings.HasPrefix(upper, "PIP_") {
				continue
			}
		}
		env = append(env, v)
		for f := range strings.FieldsSeq(value) {
			if p := strings.TrimPrefix(f, "file://"); filepath.IsAbs(p) {
				if _, err := os.Stat(p); err == nil {
					read = append(read, p)
				}
			}
		}
	}
	return env, read
}

// copyPipConfig shows the build our user's pip configuration as its own. That of
// the machine (/etc/pip.conf) it sees anyway.
func copyPipConfig(home string) error {
	ours, err := os.UserHomeDir()
	if err != nil {
		return nil //nolint:nilerr // without a home there is none
	}
	from := map[string]string{filepath.Join(ours, ".pip/pip.conf"): ".pip/pip.conf"}
	if dir, err := os.UserConfigDir(); err == nil {
		from[filepath.Join(dir, "pip/pip.conf")] = ".config/pip/pip.conf"
	}
	if p := os.Getenv("PIP_CONFIG_FILE"); p != "" {
		from = map[string]string{p: ".config/pip/pip.conf"}
	}
	for src, name := range from {
		data, err := os.ReadFile(src)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read pip's configuration: %w", err)
		}
		dst := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
			return fmt.Errorf("copy pip's configuration: %w", err)
		}
		if err := os.WriteFile(dst, data, 0o600); err != nil {
			return fmt.Errorf("copy pip's configuration: %w", err)
		}
	}
	return nil
}

// homeOf finds, on the host, what a spec's HOME will be.
func homeOf(spec shim.Spec, dir string) string {
	for _, v := range spec.Env {
		if h, ok := strings.CutPrefix(v, "HOME="); ok {
			for _, b := range spec.World.Binds {
				if b.To == h {
					return b.From
				}
			}
			return h
		}
	}
	return filepath.Join(dir, "tmp")
}
