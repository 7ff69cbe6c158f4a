package testkit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Dockerd is a container engine of a test's own: a real one, with a folder, a
// socket and a bridge that no other has.
type Dockerd struct {
	Host   string // unix://…
	Socket string
	Dir    string
}

// StartDockerd starts an engine that lives as long as the test.
func StartDockerd(t testing.TB) *Dockerd {
	t.Helper()
	return startDockerd(t, func(string) error { return nil })
}

// StartSmallDockerd is StartDockerd for an engine whose disk has so many bytes.
func StartSmallDockerd(t testing.TB, size int) *Dockerd {
	t.Helper()
	return startDockerd(t, func(data string) error {
		return syscall.Mount("small", data, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	})
}

func startDockerd(t testing.TB, prepare func(data string) error) *Dockerd {
	t.Helper()
	program, err := exec.LookPath("dockerd")
	switch {
	case os.Getuid() != 0:
		RealPart(t, "a container engine: it is started as root only")
	case err != nil:
		RealPart(t, "a container engine (dockerd): apt install docker.io")
	}
	dir, err := os.MkdirTemp("", "ebb-dockerd-")
	if err != nil {
		t.Fatal(err)
	}
	d := &Dockerd{Dir: dir, Socket: filepath.Join(dir, "docker.sock")}
	d.Host = "unix://" + d.Socket
	bridge, err := makeBridge()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := prepare(data); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--host", d.Host, "--data-root", data, "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--bridge", bridge)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("engine's log, its end:\n%s", text[max(0, len(text)-3000):])
		}
		_ = log.Close()
		forgetBridge(bridge)
		UnmountBelow(dir)
		_ = os.RemoveAll(dir)
	})
	Until(t, 60*time.Second, "the engine's socket", func() bool {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("dockerd ended:\n%s", text[max(0, len(text)-3000):])
		default:
		}
		c, err := net.Dial("unix", d.Socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return d
}

// makeBridge makes one with a network that the machine does not have yet: two
// engines may not share theirs.
func makeBridge() (string, error) {
	name := fmt.Sprintf("ebbt%08x", rand.Uint32())
	var err error
	for range 20 {
		at := fmt.Sprintf("172.%d.%d.1/24", 24+rand.IntN(6), rand.IntN(256))
		if taken(at) {
			continue
		}
		for _, args := range [][]string{{"link", "add", name, "type", "bridge"}, {"addr", "add", at, "dev", name}, {"link", "set", name, "up"}} {
			out, bad := exec.Command("ip", args...).CombinedOutput()
			if bad != nil {
				err = fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), bad, out)
				break
			}
		}
		return name, err
	}
	return "", errors.New("no network is free for a bridge")
}

// forgetBridge removes a bridge, and the rules for it, which an engine leaves.
func forgetBridge(name string) {
	for _, table := range []string{"nat", "filter"} {
		rules, _ := exec.Command("iptables", "-w", "-t", table, "-S").Output()
		for rule := range strings.SplitSeq(string(rules), "\n") {
			if words := strings.Fields(rule); len(words) > 0 && words[0] == "-A" && slices.Contains(words, name) {
				words[0] = "-D"
				_ = exec.Command("iptables", append([]string{"-w", "-t", table}, words...)...).Run()
			}
		}
	}
	_ = exec.Command("ip", "link", "delete", name).Run()
}

func taken(network string) bool {
	_, want, err := net.ParseCIDR(network)
	if err != nil {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(addrs, func(a net.Addr) bool {
		has, ok := a.(*net.IPNet)
		return ok && (has.Contains(want.IP) || want.Contains(has.IP))
	})
}

// UnmountBelow takes away what a killed engine has left mounted in its folder.
func UnmountBelow(dir string) {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	var at []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			at = append(at, f[4])
		}
	}
	slices.Reverse(at)
	for _, p := range at {
		_ = syscall.Unmount(p, syscall.MNT_DETACH)
	}
}

// DebianRoot is a tar of the files of Debian packages that are installed here, with
// those that they depend on: the layer of an image. It is made once for each set of
// packages and test program.
func DebianRoot(t testing.TB, packages ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		RealPart(t, "Debian's packages (dpkg-query), of which images are made")
	}
	key := strings.Join(packages, " ")
	roots.Lock()
	defer roots.Unlock()
	if text, ok := roots.made[key]; ok {
		return text
	}
	text, err := debianRoot(packages)
	if err != nil {
		t.Fatalf("make a root file system of %s: %v", key, err)
	}
	roots.made[key] = text
	return text
}

var roots = struct {
	sync.Mutex
	made map[string][]byte
}{made: map[string][]byte{}}

// essential are in every root.
var essential = []string{"base-files", "libc-bin", "dash", "bash", "coreutils", "sed", "grep", "findutils", "tar", "gzip", "util-linux", "hostname", "procps"}

func debianRoot(packages []string) ([]byte, error) {
	all, err := closure(append(slices.Clone(essential), packages...))
	if err != nil {
		return nil, err
	}
	list, err := exec.Command("dpkg-query", append([]string{"-L"}, all...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("list the files: %w", err)
	}
	var b bytes.Buffer
	w := &rootWriter{out: tar.NewWriter(&b), has: map[string]bool{}}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := w.put("/" + link); err != nil {
			return nil, err
		}
	}
	for line := range strings.SplitSeq(string(list), "\n") {
		if filepath.IsAbs(line) && !strings.HasPrefix(line, "/usr/share/doc/") && !strings.HasPrefix(line, "/usr/share/man/") && !strings.HasPrefix(line, "/usr/share/locale/") {
			if err := w.put(line); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range []string{"/tmp", "/var/tmp", "/root", "/proc", "/sys", "/dev", "/run", "/etc/ld.so.cache", "/etc/ld.so.conf"} {
		if err := w.put(p); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"etc/group":  "root:x:0:\nnogroup:x:65534:\n",
	} {
		if err := w.out.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w.out, text); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.out.Close()
}

// closure is packages with all that they depend on and that is installed.
func closure(packages []string) ([]string, error) {
	text, err := exec.Command("dpkg-query", "-W", "-f", `${Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n`).Output()
	if err != nil {
		return nil, fmt.Errorf("ask for the packages: %w", err)
	}
	needs, provides := map[string][]string{}, map[string]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		f := strings.Split(line, "\t")
		if len(f) < 3 {
			continue
		}
		needs[f[0]] = strings.Split(f[2], ",")
		for p := range strings.SplitSeq(f[1], ",") {
			provides[bareName(p)] = f[0]
		}
	}
	for _, p := range packages {
		if _, ok := needs[p]; !ok {
			return nil, fmt.Errorf("the package %s is not installed here", p)
		}
	}
	seen := map[string]bool{}
	var out []string
	for len(packages) > 0 {
		p := packages[0]
		packages = packages[1:]
		if _, ok := needs[p]; !ok {
			if p = provides[p]; p == "" {
				continue
			}
		}
		if seen[p] {
			continue
		}
		seen[p] = true
		out = append(out, p)
		for _, need := range needs[p] {
			for alternative := range strings.SplitSeq(need, "|") {
				name := bareName(alternative)
				if _, ok := needs[name]; ok || provides[name] != "" {
					packages = append(packages, name)
					break
				}
			}
		}
	}
	return out, nil
}

// bareName is a package's name without version and architecture.
func bareName(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), " ")
	s, _, _ = strings.Cut(s, ":")
	return s
}

type rootWriter struct {
	out *tar.Writer
	has map[string]bool
}

// put writes one path, where it really lies: /bin/sh of a package is /usr/bin/sh.
func (w *rootWriter) put(path string) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return nil //nolint:nilerr // a package lists files that somebody removed
	}
	path = filepath.Join(dir, filepath.Base(path))
	name := strings.TrimPrefix(path, "/")
	if name == "" || w.has[name] {
		return nil
	}
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() && !fi.IsDir() && fi.Mode()&fs.ModeSymlink == 0 {
		return nil
	}
	w.has[name] = true
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname = name, "", ""
	if fi.IsDir() {
		h.Name += "/"
	}
	if err := w.out.WriteHeader(h); err != nil || !fi.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(w.out, f, h.Size)
	return err
}

// Docker runs the engine's client.
func (d *Dockerd) Docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"--host", d.Host}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
