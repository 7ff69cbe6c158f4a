// Package pyenv finds the Pythons of a machine that jobs may run, and makes the
// environments that jobs ask for: venvs, cached by their content.
package pyenv

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Python is an interpreter that a job's user may execute.
type Python struct {
	Path      string // as found: venvs of it work by their own path
	Version   string // "3.11.2"
	Prefix    string // where it and its library lie
	Base      string // as Prefix, of the Python under a venv
	Venv      bool   // has the module venv
	EnsurePip bool   // has the module ensurepip: venvs come with pip
	Pip       bool
	Virtual   bool // has the module virtualenv
}

// CanBuild reports whether it can make venvs with pip in them.
func (p Python) CanBuild() bool {
	_, err := plan(p)
	return err == nil
}

// Finder finds Pythons. It looks once and again when what it found is gone.
type Finder struct {
	Path []string // folders to search first; default those of PATH
	// Nobody: we are root and jobs are not; what only root may execute is no use.
	Nobody bool
	Hide   []string // folders that jobs do not see: the data folder, /tmp

	mu    sync.Mutex
	found []Python
	known map[string]Python
}

// nobody is the user that candidates are tried as: one that has no rights at all,
// as a job has none, and none over us.
const nobody = 65534

// folders where Pythons are besides PATH.
var folders = []string{
	"/usr/local/bin", "/usr/bin", "/bin", "/opt/*/bin", "/opt/python/*/bin", "/opt/conda/envs/*/bin",
	"/usr/local/*/bin", "/usr/local/python*/bin", "/snap/bin",
}

// All lists the machine's Pythons, each once, in order of discovery.
func (f *Finder) All(ctx context.Context) []Python {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.found) > 0 && !slices.ContainsFunc(f.found, gone) {
		return slices.Clone(f.found)
	}
	f.found = nil
	seen := map[string]bool{}
	for _, path := range f.candidates() {
		real, err := filepath.EvalSymlinks(path)
		if err != nil || seen[real] {
			continue
		}
		seen[real] = true
		if p, err := f.try(ctx, path); err == nil {
			f.found = append(f.found, p)
		}
	}
	return slices.Clone(f.found)
}

func gone(p Python) bool {
	_, err := os.Stat(p.Path)
	return err != nil
}

// candidates are files that are named like Pythons and could be executed.
func (f *Finder) candidates() []string {
	dirs := f.Path
	if dirs == nil {
		dirs = filepath.SplitList(os.Getenv("PATH"))
		for _, pattern := range folders {
			more, _ := filepath.Glob(pattern)
			dirs = append(dirs, more...)
		}
	}
	var out []string
	for _, dir := range dirs {
		for _, pattern := range []string{"python3", "python", "python3.[0-9]", "python3.[0-9][0-9]"} {
			more, _ := filepath.Glob(filepath.Join(dir, pattern))
			out = append(out, more...)
		}
	}
	return slices.DeleteFunc(out, func(p string) bool { return !f.reachable(p) })
}

// reachable reports whether a job's user can get to a file: it is not hidden, and
// all folders on the way, and where links lead, are open to everybody.
func (f *Finder) reachable(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for _, p := range []string{path, real} {
		for _, h := range f.Hide {
			if p == h || strings.HasPrefix(p, strings.TrimSuffix(h, "/")+"/") {
				return false
			}
		}
		if !f.Nobody {
			continue
		}
		for dir := filepath.Dir(p); ; dir = filepath.Dir(dir) {
			st, err := os.Stat(dir)
			if err != nil || st.Mode()&0o001 == 0 {
				return false
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return true
}

// ask is run by each candidate.
const ask = `import sys, json
import importlib.util as u
has = lambda m: u.find_spec(m) is not None
print(json.dumps({"Version": "%d.%d.%d" % sys.version_info[:3], "Prefix": sys.prefix,
 "Base": getattr(sys, "base_prefix", sys.prefix), "Venv": has("venv"), "EnsurePip": has("ensurepip"),
 "Pip": has("pip"), "Virtual": has("virtualenv")}))`

// Try looks at one interpreter, by its path.
func (f *Finder) Try(ctx context.Context, path string) (Python, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.known[path]; ok && !gone(p) {
		return p, nil
	}
	if !f.reachable(path) {
		return Python{}, fmt.Errorf("%s is not there for the job's user", path)
	}
	p, err := f.try(ctx, path)
	if err != nil {
		return Python{}, err
	}
	if f.known == nil {
		f.known = map[string]Python{}
	}
	f.known[path] = p
	return p, nil
}

// try runs an interpreter as a job would: never as root, since whoever may write
// the file would then be root too.
func (f *Finder) try(ctx context.Context, path string) (Python, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-I", "-c", ask)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if f.Nobody {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	out, err := cmd.Output()
	if err != nil {
		return Python{}, fmt.Errorf("run %s: %w", path, err)
	}
	p := Python{}
	if err := json.Unmarshal(out, &p); err != nil {
		return Python{}, fmt.Errorf("run %s: it is not a Python: %w", path, err)
	}
	p.Path = path
	if f.Nobody && !f.reachable(p.Base) { // its library is closed to the job
		return Python{}, fmt.Errorf("the library of %s is not there for the job's user", path)
	}
	return p, nil
}

// Best chooses the Python nearest to a wanted version ("3.8.13", "3.8", "" for
// any): the same minor version, else the nearest newer one, else the nearest
// older one. Among equals the first found. Only Python 3 counts.
func Best(all []Python, want string) (Python, bool) {
	var best Python
	bestCost := -1
	w := numbers(want)
	for _, p := range all {
		v := numbers(p.Version)
		if len(v) < 2 || v[0] != 3 {
			continue
		}
		cost := 0
		if len(w) >= 2 && w[0] == 3 {
			switch d := v[1] - w[1]; {
			case d > 0:
				cost = d * 1000
			case d < 0:
				cost = -d*1000 + 100_000
			}
			if len(w) >= 3 && len(v) >= 3 && cost == 0 {
				cost = min(999, max(v[2]-w[2], w[2]-v[2]))
			}
		}
		if bestCost < 0 || cost < bestCost {
			best, bestCost = p, cost
		}
	}
	return best, bestCost >= 0
}

// Matches reports whether a version is what was wanted: as many numbers as both
// have up to the minor one. Other patch releases are the same Python.
func Matches(version, want string) bool {
	v, w := numbers(version), numbers(want)
	for i := range min(2, len(w)) {
		if i >= len(v) || v[i] != w[i] {
			return false
		}
	}
	return true
}

func numbers(version string) []int {
	var out []int
	for s := range strings.SplitSeq(strings.TrimLeft(version, "=<>~ "), ".") {
		n, err := strconv.Atoi(s)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out
}
