package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner/once"
)

// recipe is an image that is built.
type recipe struct {
	hash       string
	named      string // the environment's name, for people; empty: it has none
	context    string // folder of the files that it may copy; empty: those of files
	files      map[string]string
	dockerfile func(*secrets) string
	explain    func(log string) string
}

// tag is the name that the engine knows what was built by. No registry is called
// so: nobody can put another image in its place.
func (r recipe) tag() string { return "localhost/ebb/env:" + r.hash }

// failed is HASH.failed: why a build failed, for those who waited for it.
type failed struct{ Message string }

// make returns an image that is built, building it if nobody has. While it is
// built, by whomever, the build's output is written to log.
func (s *Store) make(ctx context.Context, r recipe, log io.Writer) (Image, error) {
	if img, err := s.look(ctx, r.tag(), r.tag()); err == nil || !errdefs.IsNotFound(err) {
		return img, err
	}
	since := time.Now()
	f := &once.Follower{Path: s.path(r.hash + ".log"), To: log}
	unlock, err := once.Lock(ctx, s.path(r.hash+".lock"), f)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	if img, err := s.look(ctx, r.tag(), r.tag()); err == nil || !errdefs.IsNotFound(err) {
		return img, err
	}
	if fi, err := os.Stat(s.path(r.hash + ".failed")); err == nil && fi.ModTime().After(since) {
		text, _ := os.ReadFile(s.path(r.hash + ".failed"))
		var was failed
		if json.Unmarshal(text, &was) == nil {
			return Image{}, broken("%s", was.Message)
		}
	}
	out, done, err := s.log(r.hash, f)
	if err != nil {
		return Image{}, err
	}
	err = s.build(ctx, r, out)
	done()
	if err != nil {
		if e, ok := errors.AsType[*fault.Error](err); ok {
			if text, err := json.Marshal(failed{e.Msg}); err == nil {
				_ = os.WriteFile(s.path(r.hash+".failed"), text, 0o600)
			}
		}
		return Image{}, err
	}
	_ = os.Remove(s.path(r.hash + ".failed"))
	return s.look(ctx, r.tag(), r.tag())
}

func broken(format string, args ...any) error {
	return fault.Coded(fault.Invalid, "ImageBuildFailure", "environment", format, args...)
}

// log begins the log of what is made under a key, which f copies until done.
func (s *Store) log(key string, f *once.Follower) (out *os.File, done func(), err error) {
	path := s.path(key + ".log")
	_ = os.Remove(path) // whoever follows sees that it is another
	if out, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); err != nil {
		return nil, nil, fmt.Errorf("begin the log of an image: %w", err)
	}
	stop := f.Follow()
	return out, sync.OnceFunc(func() { stop(); f.Copy(); out.Close() }), nil
}

// build runs the program that builds. out is its log.
func (s *Store) build(ctx context.Context, r recipe, out *os.File) error {
	dir, err := os.MkdirTemp(s.cfg.Folder, ".build-")
	if err != nil {
		return fmt.Errorf("make a build folder: %w", err)
	}
	defer os.RemoveAll(dir)
	p, err := s.program(ctx, dir)
	if err != nil {
		return err
	}
	x, err := s.secrets(filepath.Join(dir, "secrets"))
	if err != nil {
		return err
	}
	for _, note := range x.notes {
		say(out, "%s", note)
	}
	if r.context == "" {
		r.context = filepath.Join(dir, "context")
		if err := writeAll(r.context, r.files); err != nil {
			return err
		}
	}
	if err := writeAll(dir, map[string]string{"Dockerfile": r.dockerfile(x)}); err != nil {
		return err
	}
	args := append(p.args, "--progress=plain", "--tag", r.tag(), "--label", "ebb.environment="+r.hash, "--file", filepath.Join(dir, "Dockerfile"))
	if p.podman {
		args = append(p.args, "--tag", r.tag(), "--label", "ebb.environment="+r.hash, "--file", filepath.Join(dir, "Dockerfile"))
	}
	if s.cfg.BuildNetwork != "" {
		args = append(args, "--network", s.cfg.BuildNetwork)
	}
	for id, path := range x.files {
		args = append(args, "--secret", "id="+id+",src="+path)
	}
	inner, stop := context.WithTimeout(ctx, s.cfg.TimeLimit)
	defer stop()
	cmd := exec.CommandContext(inner, p.path, append(args, r.context)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.env, dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err = cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case inner.Err() != nil:
		return broken("The environment %sdid not get ready within %s.", spaced(r.named), s.cfg.TimeLimit)
	}
	if _, down := s.cfg.Engine.Ping(ctx, client.PingOptions{}); down != nil {
		return fmt.Errorf("build the image: %w (%v)", down, err)
	}
	return broken("The environment %scould not be built. %s", spaced(r.named), strings.TrimSpace(r.why(out)))
}

func spaced(name string) string {
	if name == "" {
		return ""
	}
	return name + " "
}

// maxExplained is how much of a build's log is searched for what failed, from its
// end; bytes.
const maxExplained = 1 << 20

func (r recipe) why(log *os.File) string {
	fi, err := log.Stat()
	if err != nil {
		return ""
	}
	text, _ := io.ReadAll(io.NewSectionReader(log, max(0, fi.Size()-maxExplained), maxExplained))
	if why := r.explain(string(text)); why != "" {
		return why
	}
	return ending(string(text))
}

func writeAll(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a build folder: %w", err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write a build's files: %w", err)
		}
	}
	return nil
}

// program is one that can build on the engine.
type program struct {
	path   string
	args   []string // up to the options of its build
	env    []string
	podman bool
}

// program finds one that can. dir is for what it wants to keep: it sees nothing of
// our user's settings, which may have passwords, but the plugins.
func (s *Store) program(ctx context.Context, dir string) (program, error) {
	config := filepath.Join(dir, "docker")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return program{}, err
	}
	if home, err := os.UserHomeDir(); err == nil {
		_ = os.Symlink(filepath.Join(home, ".docker", "cli-plugins"), filepath.Join(config, "cli-plugins"))
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DOCKER_CONFIG=" + config, "DOCKER_BUILDKIT=1", "LANG=C.UTF-8"}
	var why []string
	for _, path := range s.programs() {
		p := program{path: path, env: env}
		if p.podman = s.cfg.Podman; p.podman {
			p.args = []string{"--remote", "--url", s.cfg.Host, "build"}
			return p, nil
		}
		p.args = []string{"--host", s.cfg.Host, "build"}
		if err := p.buildKit(ctx); err != nil {
			why = append(why, path+": "+err.Error())
			continue
		}
		return p, nil
	}
	if len(why) == 0 {
		why = []string{"there is no docker program on PATH"}
	}
	if s.cfg.Podman {
		return program{}, broken("This node cannot build images: its engine is Podman, and there is no podman program on PATH.")
	}
	return program{}, broken("This node cannot build images: %s. Builds need the docker program with BuildKit: on Debian and Ubuntu apt install docker.io, or Docker's docker-ce-cli with docker-buildx-plugin. Environments that are images can be used without.", strings.Join(why, "; "))
}

// programs are those that may be able to build.
func (s *Store) programs() []string {
	if s.cfg.Programs != nil {
		return s.cfg.Programs
	}
	name := "docker"
	if s.cfg.Podman {
		name = "podman"
	}
	var out []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			out = append(out, filepath.Join(dir, name))
		}
	}
	return out
}

// lastBuiltIn is the last version of the docker program that has BuildKit in it;
// later ones need the plugin buildx.
const lastBuiltIn = 22

func (p program) buildKit(ctx context.Context) error {
	ask := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, p.path, args...)
		cmd.Env = p.env
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	version, err := ask("--version")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(version, "version ")
	major, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return fmt.Errorf("it says no version: %.100q", version)
	}
	if n <= lastBuiltIn {
		return nil
	}
	if _, err := ask("buildx", "version"); err != nil {
		return fmt.Errorf("version %s has no plugin buildx", strings.TrimSuffix(strings.Fields(rest)[0], ","))
	}
	return nil
}
