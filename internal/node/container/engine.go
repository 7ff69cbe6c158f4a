// Package container runs a job's command in a container of a Docker-compatible
// engine: Docker's, or Podman's which answers the same.
//
// The shim still holds the attempt. What it starts for a contained job is "ebb
// contain" ([Main]), which makes the container, copies its output, turns SIGTERM
// into an end, removes all of it and ends with the job's code; process 1 in the
// container is node/inside. Between them lies the attempt's folder:
//
//	container.json      shim.ContainerFile: there may be a container; by what it is found
//	container-end.json  shim.ContainerEndFile: how it ended
//	container.sock      where visitors ask to be let in
//	run/                shown in the container as inside.Folder
//
// Whoever dies, nothing stays: when this program does, process 1 ends the
// container, which the engine then removes; and whoever sweeps the attempt removes
// what is found by its labels ("ebb contain remove") before there is a record.
package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Engine is one that answered.
type Engine struct {
	Socket   string `json:"socket"` // path
	Kind     string `json:"kind"`   // Docker, Podman
	Version  string `json:"version"`
	Rootless bool   `json:"rootless,omitempty"` // root in a container is the user whose engine it is
	NoLimits bool   `json:"noLimits,omitempty"` // it sets none: rootless, and control groups of version 1
	GPUs     bool   `json:"gpus,omitempty"`     // it can give devices of NVIDIA's to containers
}

// String names the engine for people, as "Docker 20.10.24".
func (e Engine) String() string {
	s := e.Kind + " " + e.Version
	if e.Rootless {
		s += " (rootless)"
	}
	return s
}

// answerWithin is how long an engine may take to say that it is there.
const answerWithin = 10 * time.Second

// ErrNone is returned by [Find] where no engine answers.
var ErrNone = errors.New("no container engine answers")

// Find asks the engines of this machine, or the one at socket alone if that is
// not empty, and returns the first that answers.
func Find(ctx context.Context, socket string) (Engine, error) {
	places := []string{strings.TrimPrefix(socket, "unix://")}
	if socket == "" {
		places = sockets()
	}
	var errs []error
	for _, place := range places {
		if _, err := os.Stat(place); err != nil {
			errs = append(errs, err)
			continue
		}
		e, err := ask(ctx, place)
		if err == nil {
			return e, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", place, err))
	}
	return Engine{}, fmt.Errorf("%w (%w)", ErrNone, errors.Join(errs...))
}

// sockets are where engines listen: the one that the environment names, Docker's,
// Podman's, and those of our user.
func sockets() []string {
	var out []string
	if s, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		out = append(out, s)
	}
	out = append(out, "/var/run/docker.sock", "/run/podman/podman.sock")
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Getuid())} {
		if dir != "" {
			out = append(out, filepath.Join(dir, "docker.sock"), filepath.Join(dir, "podman/podman.sock"))
		}
	}
	return slices.Compact(out)
}

func ask(ctx context.Context, socket string) (Engine, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	c, err := dial(socket)
	if err != nil {
		return Engine{}, err
	}
	defer c.Close()
	v, err := c.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return Engine{}, err
	}
	info, err := c.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Engine{}, err
	}
	e := Engine{Socket: socket, Kind: "Docker", Version: v.Version}
	for _, part := range v.Components {
		if strings.HasPrefix(part.Name, "Podman") {
			e.Kind, e.Version = "Podman", cmp.Or(part.Version, v.Version)
		}
	}
	e.Rootless = slices.ContainsFunc(info.Info.SecurityOptions, func(o string) bool { return strings.Contains(o, "rootless") })
	if st, err := os.Stat(socket); err == nil && st.Sys().(*syscall.Stat_t).Uid != 0 { // older Podmans do not say
		e.Rootless = true
	}
	e.NoLimits = e.Rootless && info.Info.CgroupVersion == "1"
	_, e.GPUs = info.Info.Runtimes["nvidia"]
	e.GPUs = e.GPUs || len(info.Info.DiscoveredDevices) > 0
	return e, nil
}

// Dial makes a client of the engine; it connects when it is used.
func (e Engine) Dial() (*client.Client, error) { return dial(e.Socket) }

func dial(socket string) (*client.Client, error) {
	return client.New(client.WithHost("unix://"+socket), client.WithUserAgent("ebb"))
}

// words are what an engine says for people, without what wraps it.
func words(err error) string {
	s := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	return strings.TrimSuffix(strings.TrimSpace(s), ".")
}

func missing(err error) bool { return cerrdefs.IsNotFound(err) }

// refused reports whether an engine answered, and with no.
func refused(err error) bool {
	return cerrdefs.IsNotFound(err) || cerrdefs.IsInvalidArgument(err) || cerrdefs.IsConflict(err) || cerrdefs.IsPermissionDenied(err) ||
		cerrdefs.IsInternal(err) || cerrdefs.IsNotImplemented(err) || cerrdefs.IsFailedPrecondition(err) || cerrdefs.IsUnknown(err) && !client.IsErrConnectionFailed(err)
}
