package testkit

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// Docker is a container engine for a test, with an image to run.
type Docker struct {
	Socket string
	Image  string // name of a small Debian with python3; there is no network to get it by
	Client *client.Client
}

// StartDocker returns the engine at EBB_TEST_DOCKER (a Podman's socket too), or this machine's, or one that
// is started for the tests and ends when the last of them does, in whichever
// process. Without Docker, or the right to start it, the test is skipped.
func StartDocker(t testing.TB) *Docker {
	t.Helper()
	d := &Docker{Socket: os.Getenv("EBB_TEST_DOCKER")}
	for _, socket := range []string{d.Socket, "/var/run/docker.sock"} {
		if socket != "" && answers(socket) {
			d.Socket = socket
			break
		}
		d.Socket = ""
	}
	if d.Socket == "" {
		d.Socket = ownDocker(t)
	}
	var err error
	if d.Client, err = client.New(client.WithHost("unix://" + d.Socket)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Client.Close() })
	d.Image = d.image(t, "python")
	return d
}

// Contain lets the server's nodes run jobs in containers of an engine. Otherwise
// they do not, whatever the machine has.
func Contain(d *Docker) Option {
	return func(s *Server) {
		s.docker = d
		Env("EBB_CONTAINER=auto", "DOCKER_HOST=unix://"+d.Socket)(s)
	}
}

// forget removes what nodes that were killed could not give back: the containers
// end by themselves, and their network stays.
func (d *Docker) forget(installation string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	marked := make(client.Filters).Add("label", "ebb.installation="+installation)
	for {
		containers, err := d.Client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: marked})
		if err != nil {
			return err
		}
		for _, c := range containers.Items {
			_, _ = d.Client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		}
		networks, err := d.Client.NetworkList(ctx, client.NetworkListOptions{Filters: marked})
		if err != nil || len(networks.Items)+len(containers.Items) == 0 {
			return err
		}
		for _, n := range networks.Items {
			_, _ = d.Client.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
		}
	}
}

func answers(socket string) bool {
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err = c.Ping(ctx, client.PingOptions{})
	return err == nil
}

// ownDocker starts a dockerd, or joins the one of another test. Its users hold a
// shared lock: who gets it alone ends it.
func ownDocker(t testing.TB) string {
	t.Helper()
	if os.Getuid() != 0 {
		RealPart(t, "Docker, or root, which may start one")
	}
	bin, err := exec.LookPath("dockerd")
	if err != nil {
		RealPart(t, "dockerd (scripts/setup tools)")
	}
	dir := filepath.Join(cacheFolder(), "docker-test")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "docker.sock")
	users := lockShared(t, filepath.Join(dir, "users.lock"))
	t.Cleanup(func() { leaveDocker(dir, users) })
	starting, err := os.OpenFile(filepath.Join(dir, "start.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer starting.Close()
	if err := unix.Flock(int(starting.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if answers(socket) {
		return socket
	}
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	_ = os.Remove(filepath.Join(dir, "docker.pid"))
	cmd := exec.Command(bin, "--data-root", filepath.Join(dir, "root"), "--exec-root", filepath.Join(dir, "exec"), "--host", "unix://"+socket,
		"--pidfile", filepath.Join(dir, "docker.pid"), "--bip", "172.31.251.1/24", "--default-address-pool", "base=10.251.0.0/16,size=24")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for patience := time.After(time.Minute); !answers(socket); {
		select {
		case <-look.C:
			continue
		case <-ended:
		case <-patience:
		}
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("dockerd did not come up; it said:\n%s", text)
	}
	return socket
}

// leaveDocker ends the daemon if nobody else uses it.
func leaveDocker(dir string, users *os.File) {
	defer users.Close()
	if unix.Flock(int(users.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	text, err := os.ReadFile(filepath.Join(dir, "docker.pid"))
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	line, rerr := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || rerr != nil || !strings.Contains(string(line), dir) {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for end := time.Now().Add(30 * time.Second); Alive(pid) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
}

func lockShared(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// image imports what scripts/setup makes of Debian's packages, once.
func (d *Docker) image(t testing.TB, kind string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(Root(), "scripts", "setup"), "rootfs", kind)
	out, err := cmd.Output()
	if err != nil {
		RealPart(t, "a Debian to make images of (scripts/setup rootfs %s: %v)", kind, err)
	}
	file := strings.TrimSpace(string(out))
	name := "ebb-test/" + kind + ":" + strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "rootfs-"+kind+"-"), ".tar")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := d.Client.ImageInspect(ctx, name); err == nil {
		return name
	}
	lock, err := os.OpenFile(file+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Client.ImageInspect(ctx, name); err != nil {
		d.Import(t, name, file)
	}
	return name
}

// Import makes an image of a tar file. changes are lines of a Dockerfile.
func (d *Docker) Import(t testing.TB, name, file string, changes ...string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := d.Client.ImageImport(ctx, client.ImageImportSource{Source: f, SourceName: "-"}, name, client.ImageImportOptions{Changes: changes})
	if err != nil {
		t.Fatalf("import %s: %v", name, err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatalf("import %s: %v", name, err)
	}
}

// Left lists what is on the engine that is marked as an installation's or an
// attempt's: containers, networks, and volumes without a name.
func (d *Docker) Left(t testing.TB, labels ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	marked := make(client.Filters).Add("label", labels...)
	var out []string
	containers, err := d.Client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: marked})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers.Items {
		out = append(out, "container "+strings.Join(c.Names, ","))
	}
	networks, err := d.Client.NetworkList(ctx, client.NetworkListOptions{Filters: marked})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks.Items {
		out = append(out, "network "+n.Name)
	}
	volumes, err := d.Client.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("dangling", "true")})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Items {
		out = append(out, "volume "+v.Name)
	}
	return out
}

func cacheFolder() string {
	if dir := os.Getenv("EBB_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "ebb")
}
