package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/node/runner/pyenv"
	"github.com/ebb-compute/ebb/internal/node/shim/sandbox"
)

// layout is where a job finds things: paths as the job sees them.
type layout struct {
	work, home, bin, tmp string
	base                 string // of the job's folders; with mounts only
	venv                 string // empty: none
	ca                   string // empty: none
	own                  []string
	world                sandbox.World
}

// path puts what is the environment's before a PATH.
func (l layout) path(rest string) string {
	first := l.pythonBin()
	if rest == "" {
		return first
	}
	return first + ":" + rest
}

// pythonBin has the environment's python and python3.
func (l layout) pythonBin() string {
	if l.venv != "" {
		return filepath.Join(l.venv, "bin")
	}
	return l.bin
}

// frame is what jobs with mounts see of Azure's folders; see [sandbox.World].
const frame = "/tmp/azureml"

// ContextFolder is where the files of the context of an attempt's environment are
// put, below the attempt's folder.
func ContextFolder(dir string) string { return filepath.Join(dir, "context") }

// layOut makes the folders of an attempt. With users and mounts a job finds
// Azure's paths wherever the data folder lies; otherwise the real ones.
func (r *Runner) layOut(dir, id string, py pyenv.Python, env *pyenv.Env) (layout, error) {
	tmp := filepath.Join(dir, "tmp")
	l := layout{work: filepath.Join(dir, "work"), home: filepath.Join(tmp, "home"), bin: filepath.Join(tmp, "bin"), tmp: filepath.Join(tmp, "t")}
	made := []string{l.work, l.home, l.bin, l.tmp}
	if r.users {
		base := filepath.Join(frame, "cr/j", id)
		made = []string{l.work, filepath.Join(tmp, "azureml"), filepath.Join(dir, "home")}
		l = layout{base: base, work: filepath.Join(base, "exe/wd"), home: filepath.Join(base, "home"), bin: filepath.Join(base, "bin"), tmp: "/tmp"}
	}
	for _, d := range made {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return l, fmt.Errorf("make job folders: %w", err)
		}
	}
	// A venv has both names, and knows itself only by its own path.
	links := map[string]string{}
	if env != nil {
		l.venv = env.Place
	} else if py.Path != "" {
		links[filepath.Join(l.bin, "python")] = py.Path
		links[filepath.Join(l.bin, "python3")] = py.Path
	}
	l.world = r.world(dir, &l, py, env)
	if r.users {
		l.world.Links = links
		return l, nil
	}
	for at, to := range links {
		if err := os.Symlink(to, at); err != nil && !errors.Is(err, fs.ErrExist) {
			return l, fmt.Errorf("link python: %w", err)
		}
	}
	return l, nil
}

// world of an attempt.
func (r *Runner) world(dir string, l *layout, py pyenv.Python, env *pyenv.Env) sandbox.World {
	w := sandbox.World{Landlock: r.landlock, Hide: r.cfg.Hide, Read: slices.Clone(r.system)}
	for _, p := range append(slices.Clone(r.cfg.Read), py.Prefix, py.Base) {
		if p == "" {
			continue
		}
		if real, err := filepath.EvalSymlinks(p); err == nil && !slices.Contains(w.Read, real) {
			w.Read = append(w.Read, real)
		}
	}
	w.Write = devices()
	if r.users {
		w.Mounts, w.Tmp = true, filepath.Join(dir, "tmp")
		w.Write = append(w.Write, "/tmp", "/var/tmp", "/dev/shm", "/proc") // of /proc what its user may
		w.Frame = frame
		w.Binds = append(w.Binds,
			sandbox.Bind{From: filepath.Join(dir, "work"), To: l.work}, sandbox.Bind{From: filepath.Join(dir, "home"), To: l.home})
		if env != nil {
			w.Binds = append(w.Binds, sandbox.Bind{From: env.Host, To: env.Place, ReadOnly: true})
		}
		if r.cfg.CA != "" {
			l.ca = "/tmp/azureml/ca.pem"
			w.Binds = append(w.Binds, sandbox.Bind{From: r.cfg.CA, To: l.ca, ReadOnly: true})
		}
		return w
	}
	w.Write = append(w.Write, filepath.Join(dir, "work"), filepath.Join(dir, "tmp"), "/dev/shm")
	if env != nil {
		w.Show = append(w.Show, env.Host)
	}
	if r.cfg.CA != "" {
		l.ca = r.cfg.CA
		w.Show = append(w.Show, r.cfg.CA)
	}
	return w
}

// systemPaths are what every job may read and run: the system, not its users.
func systemPaths() []string {
	var out []string
	for _, pattern := range []string{
		"/usr", "/bin", "/sbin", "/lib*", "/etc", "/opt", "/nix", "/snap", "/sys", "/proc", "/dev",
		"/var/lib", "/var/cache", "/cvmfs", "/gnu",
		"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/nscd", "/run/nvidia*", "/run/current-system",
	} {
		found, _ := filepath.Glob(pattern)
		for _, p := range found {
			real, err := filepath.EvalSymlinks(p)
			if err != nil || slices.ContainsFunc(out, func(o string) bool { return real == o || strings.HasPrefix(real, o+"/") }) {
				continue
			}
			out = append(out, real)
		}
	}
	return out
}

// devices are what every job may write to, where its user may.
func devices() []string {
	out := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts"}
	for _, pattern := range []string{"/dev/nvidia*", "/dev/dri", "/dev/kfd", "/dev/infiniband"} {
		found, _ := filepath.Glob(pattern)
		out = append(out, found...)
	}
	return out
}
