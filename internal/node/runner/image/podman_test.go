package image_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/node/runner/image"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestPodman pulls and builds with the other engine, and the other program.
func TestPodman(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("podman"); err != nil || os.Getuid() != 0 {
		t.Skip("there is no podman here, or we are not root")
	}
	dir := t.TempDir()
	d := &testkit.Dockerd{Dir: dir, Socket: filepath.Join(dir, "podman.sock")}
	d.Host = "unix://" + d.Socket
	w := newRegistry(t, d)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cmd := exec.Command("podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "system", "service", "--time=0", d.Host)
	cmd.Env = append(os.Environ(),
		"CONTAINERS_REGISTRIES_CONF="+write("registries.conf", "[[registry]]\nlocation = \""+w.host+"\"\ninsecure = true\n"),
		"CONTAINERS_CONF="+write("containers.conf", "[engine]\nruntime = \"runc\"\n"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		testkit.UnmountBelow(dir)
		if t.Failed() {
			t.Logf("podman said:\n%s", log.String())
		}
	})
	testkit.Until(t, time.Minute, "podman's socket", func() bool { _, err := os.Stat(d.Socket); return err == nil })
	base := w.push(t, "team/base:1", imageOf(t, testkit.DebianRoot(t, "python3", "python3-venv", "python3-pip"), runtime.GOARCH))
	podman := func(c *image.Config) { c.Podman = true }
	s := w.store(t, podman)
	ensure(t, s, of(base))
	refused(t, s, inline("FROM "+base+"\n\nRUN echo oh no; exit 7\n"), "Line 3", "exit status 7")
	img, _ := ensure(t, s, packages(base, "six==1.16.0"))
	if again, log := ensure(t, s, packages(base, "six==1.16.0")); again.ID != img.ID || log != "" {
		t.Errorf("the same packages give %s: %s", again.ID, log)
	}
	w.leavesNothing(t, base, podman)
}
