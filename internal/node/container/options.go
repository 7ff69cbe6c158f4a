package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/inside"
)

// defaultShm is what /dev/shm has where nobody says, as Azure has it.
const defaultShm = 2 << 30

// options are the container as the engine wants it.
func (h *holder) options() (client.ContainerCreateOptions, error) {
	s := h.spec
	program := s.Program
	if program == "" {
		var err error
		if program, err = ourselves(s.Cache); err != nil {
			return client.ContainerCreateOptions{}, err
		}
	}
	mounts := []mount.Mount{
		{Type: mount.TypeBind, Source: program, Target: inside.Program, ReadOnly: true},
		{Type: mount.TypeBind, Source: filepath.Join(h.host.dir, "run"), Target: inside.Folder, ReadOnly: true},
	}
	for _, m := range s.Mount {
		mounts = append(mounts, mount.Mount{Type: mount.TypeBind, Source: m.From, Target: m.To, ReadOnly: m.ReadOnly})
	}
	host := &container.HostConfig{
		AutoRemove: true,
		// The job's output comes by a pipe of ours: it is nobody else's to keep.
		LogConfig:   container.LogConfig{Type: "none"},
		NetworkMode: container.NetworkMode(s.network()),
		Mounts:      mounts,
		ShmSize:     s.Shm,
		Tmpfs:       s.Tmpfs,
		ExtraHosts:  s.Hosts,
		SecurityOpt: []string{"label=disable"}, // of SELinux, which would keep the job from its own folders
		Resources: container.Resources{
			NanoCPUs: int64(s.VCPUs * 1e9), Memory: s.Memory, MemorySwap: s.Memory, // no swap: a limit is a limit
		},
	}
	if s.PIDs > 0 {
		host.PidsLimit = &s.PIDs
	}
	if s.Shm == 0 {
		host.ShmSize = defaultShm
	}
	if s.User != "" { // whoever the image wants to be wants what images' users have
		host.CapDrop = []string{"ALL"}
		host.SecurityOpt = append(host.SecurityOpt, "no-new-privileges")
	}
	for _, u := range s.Ulimits {
		host.Ulimits = append(host.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	if len(s.GPUs) > 0 {
		host.DeviceRequests = []container.DeviceRequest{{Driver: "nvidia", DeviceIDs: s.GPUs, Capabilities: [][]string{{"gpu"}}}}
	}
	opts := client.ContainerCreateOptions{Name: s.name(), HostConfig: host, Config: &container.Config{
		Image: s.Image, User: s.user(), Hostname: s.Hostname, Labels: s.labels(), WorkingDir: "/",
		Entrypoint: []string{inside.Program, "inside"}, Cmd: []string{},
	}}
	if s.Engine.Kind == "Docker" { // Podman asks systemd even for none
		opts.Config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
	}
	return opts, nil
}

// network to join. Of a rootless Podman each container has its own, by the means
// that it prefers itself; those of a Podman of root's share its default.
func (s Spec) network() string {
	switch {
	case s.Network != "":
		return s.Network
	case s.Engine.Kind == "Podman" && s.Engine.Rootless && strings.HasPrefix(s.Engine.Version, "4."):
		return "slirp4netns"
	case s.Engine.Kind == "Podman" && s.Engine.Rootless:
		return "pasta"
	case s.Engine.Kind == "Podman":
		return "default"
	}
	return networkName(s.Installation)
}

// missingNetwork reports whether an engine lacks the network of a container.
func missingNetwork(err error) bool {
	return err != nil && missing(err) && strings.Contains(err.Error(), "network")
}

// makeNetwork makes this installation's network, unless it is there: a bridge whose
// containers do not reach each other. Names are not unique to engines, so that two
// of us must not make it at once.
func (h *holder) makeNetwork(ctx context.Context) error {
	s := h.spec
	if s.network() != networkName(s.Installation) {
		return fmt.Errorf("there is no network %s", s.network())
	}
	lock, err := lockNetworks(s.Cache)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := h.engine.NetworkInspect(ctx, s.network(), client.NetworkInspectOptions{}); !missing(err) {
		return err
	}
	_, err = h.engine.NetworkCreate(ctx, s.network(), client.NetworkCreateOptions{
		Driver:  "bridge",
		Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"},
		Labels:  map[string]string{labelInstallation: s.Installation},
	})
	return err
}

func lockNetworks(cache string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(cache, "networks.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ourselves is a path of this very program: that of its file, or where that was
// replaced since, of a copy.
func ourselves(cache string) (string, error) {
	const self = "/proc/self/exe"
	own, err := os.Stat(self)
	if err != nil {
		return "", err
	}
	if name, err := os.Readlink(self); err == nil {
		if there, err := os.Stat(name); err == nil && os.SameFile(own, there) && own.Mode()&0o005 == 0o005 {
			return name, nil
		}
	}
	copied := filepath.Join(cache, fmt.Sprintf("ebb-%x-%x", own.ModTime().UnixNano(), own.Size()))
	if there, err := os.Stat(copied); err == nil && there.Size() == own.Size() {
		return copied, nil
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(cache, ".ebb-")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o755)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), copied)
	}
	return copied, err
}
