// Package image makes sure that the image of an environment is on a node's
// container engine: it is there; or it comes from a folder of archives, from a
// mirror, or from its registry; or it is built, of a Dockerfile or with packages on
// a base image, once for a content and a machine. It runs no job.
//
// Start at [Store.Ensure].
package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Engine is what of a container engine's API is needed; a *client.Client has it.
type Engine interface {
	Ping(ctx context.Context, o client.PingOptions) (client.PingResult, error)
	ImageInspect(ctx context.Context, image string, o ...client.ImageInspectOption) (client.ImageInspectResult, error)
	ImagePull(ctx context.Context, ref string, o client.ImagePullOptions) (client.ImagePullResponse, error)
	ImageLoad(ctx context.Context, archive io.Reader, o ...client.ImageLoadOption) (client.ImageLoadResult, error)
	ImageTag(ctx context.Context, o client.ImageTagOptions) (client.ImageTagResult, error)
	ContainerCreate(ctx context.Context, o client.ContainerCreateOptions) (client.ContainerCreateResult, error)
	ContainerRemove(ctx context.Context, container string, o client.ContainerRemoveOptions) (client.ContainerRemoveResult, error)
	CopyFromContainer(ctx context.Context, container string, o client.CopyFromContainerOptions) (client.CopyFromContainerResult, error)
}

// Settings are those of the configuration that nodes need to get images.
type Settings struct {
	Archives     string            `json:"archives,omitempty"`     // folder of OCI and Docker archives; empty: none
	Mirrors      map[string]string `json:"mirrors,omitempty"`      // beginning of a name → what to put for it
	Registries   map[string]Login  `json:"registries,omitempty"`   // by a registry's host
	BuildNetwork string            `json:"buildNetwork,omitempty"` // of builds: "host", "none"; empty: the engine's own
}

// Login is what a registry is told of who asks. Either a password or a token.
type Login struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Token    string `json:"token,omitempty"` // a bearer token, as the registry takes it
}

// Config of a store.
type Config struct {
	Settings
	Engine    Engine
	Host      string        // where the engine listens, as "unix:///run/docker.sock": for programs that build
	Podman    bool          // it is Podman, for which podman builds
	Folder    string        // DATA/cache/images, shared by the nodes of the machine
	Programs  []string      // that may build; default: each docker and podman that is on PATH
	Root      string        // of the files that say how this machine's pip and apt are set up; default /
	TimeLimit time.Duration // of one build; default an hour
}

// Store gets images. Safe for concurrent use, by many agents on one engine.
type Store struct{ cfg Config }

// New changes nothing.
func New(cfg Config) *Store {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	if cfg.TimeLimit == 0 {
		cfg.TimeLimit = time.Hour
	}
	return &Store{cfg: cfg}
}

// Want is an environment, and the folder that has the files of its build's context
// where it has any.
type Want struct {
	Environment queue.Environment
	Context     string
}

// Image is one that is on the engine.
type Image struct {
	ID   string // sha256:…
	Name string // for people: as the user wrote it, or the tag of what was built
	User string // whom the image says that it runs as; empty: root
	Env  []string
}

// Ensure returns the image of an environment, getting or building it if the engine
// has none. How that goes is written to log, nothing if there is nothing to do.
// What the user, or whoever runs the machine, can mend is a fault.
func (s *Store) Ensure(ctx context.Context, w Want, log io.Writer) (Image, error) {
	if !w.Environment.InImage() {
		return Image{}, fault.Coded(fault.Invalid, "UserError", "environment", "The environment names no image and no Dockerfile, so there is no container that it could be.")
	}
	if log == nil {
		log = io.Discard
	}
	if err := os.MkdirAll(s.cfg.Folder, 0o711); err != nil {
		return Image{}, fmt.Errorf("make folder of images: %w", err)
	}
	var base Image
	var err error
	if w.Environment.Build != nil {
		base, err = s.dockerfile(ctx, w, log)
	} else {
		base, err = s.get(ctx, w.Environment.Image, loginOf(w.Environment.Registry), log)
	}
	if err != nil || w.Environment.UserManaged || len(w.Environment.Pip)+len(w.Environment.Conda) == 0 && w.Environment.Python == "" {
		return base, err
	}
	return s.packages(ctx, w.Environment, base, log)
}

func loginOf(r *queue.Registry) map[string]Login {
	if r == nil || r.Username == "" && r.Password == "" {
		return nil
	}
	return map[string]Login{r.Address: {Username: r.Username, Password: r.Password}}
}

// look returns the image that the engine has by a name; one for another kind of
// machine is the user's to mend.
func (s *Store) look(ctx context.Context, name, shown string) (Image, error) {
	found, err := s.cfg.Engine.ImageInspect(ctx, name)
	if err != nil {
		return Image{}, err
	}
	if a := found.Architecture; a != "" && a != runtime.GOARCH || found.Os != "" && found.Os != "linux" {
		return Image{}, fault.Coded(fault.Invalid, "ImagePullFailure", "environment",
			"The image %s is for %s/%s, and this node is linux/%s. Name an image that is made for it, or take the other one off the node's engine (docker rmi %s).", shown, found.Os, a, runtime.GOARCH, name)
	}
	img := Image{ID: found.ID, Name: shown}
	if found.Config != nil {
		img.User, img.Env = found.Config.User, found.Config.Env
	}
	return img, nil
}

// say writes a line for people to a log.
func say(log io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(log, format+"\n", args...)
}

// path of a file in the store's folder.
func (s *Store) path(name string) string { return filepath.Join(s.cfg.Folder, name) }

// host is the registry of a full name.
func host(name string) string {
	h, _, _ := strings.Cut(name, "/")
	return h
}
