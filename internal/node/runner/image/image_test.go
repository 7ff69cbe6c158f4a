package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/client"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner/image"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// world is an engine and a registry of a test's own, with a base image made from
// Debian packages.
type world struct {
	engine *testkit.Dockerd
	api    *client.Client
	host   string // of the registry
	base   v1.Image
	guard  *guard

	registry http.Handler
}

// guard stands before a registry, and wants a name and password of who reads, or a
// token that is had for them.
type guard struct {
	inner http.Handler
	host  string
	wants string // "basic", "token"; empty: nothing

	mu    sync.Mutex
	asked map[string]int // requests, by path
}

const tokenWord = "a-token-that-was-given-out"

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, basic := r.BasicAuth()
	known := basic && user == "reader" && password == "open sesame"
	g.mu.Lock()
	g.asked[r.URL.Path]++
	g.mu.Unlock()
	challenge := ""
	switch {
	case g.wants == "token" && r.URL.Path == "/token" && known:
		fmt.Fprintf(w, `{"token":%q}`, tokenWord)
		return
	case g.wants == "token" && r.Header.Get("Authorization") != "Bearer "+tokenWord:
		challenge = `Bearer realm="http://` + g.host + `/token",service="registry"`
	case g.wants == "basic" && !known:
		challenge = `Basic realm="registry"`
	}
	if challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	g.inner.ServeHTTP(w, r)
}

// serve puts a guard before the registry, and returns its host.
func (w *world) serve(t *testing.T, wants string) *guard {
	g := &guard{inner: w.registry, wants: wants, asked: map[string]int{}}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.host = strings.TrimPrefix(server.URL, "http://")
	return g
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, testkit.StartDockerd(t))
}

func newWorldOn(t *testing.T, engine *testkit.Dockerd) *world {
	t.Helper()
	w := newRegistry(t, engine)
	w.base = imageOf(t, testkit.DebianRoot(t, "python3", "python3-venv", "python3-pip"), runtime.GOARCH)
	return w
}

// newRegistry is a world without a base image.
func newRegistry(t *testing.T, engine *testkit.Dockerd) *world {
	t.Helper()
	w := &world{engine: engine}
	var err error
	if w.api, err = client.New(client.WithHost(w.engine.Host)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.api.Close() })
	w.registry = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	w.guard = w.serve(t, "")
	w.host = w.guard.host
	return w
}

func imageOf(t *testing.T, root []byte, arch string) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(root)), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = arch, "linux"
	config.Config.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
	config.Config.Cmd = []string{"/bin/sh"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// push puts an image into the registry and returns its full name.
func (w *world) push(t *testing.T, repository string, img v1.Image) string {
	t.Helper()
	full := w.host + "/" + repository
	ref, err := name.ParseReference(full, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatalf("push %s: %v", full, err)
	}
	return full
}

// small is an image that is quickly made, and like no other.
func small(t *testing.T, text string) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "what", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return imageOf(t, b.Bytes(), runtime.GOARCH)
}

func (w *world) store(t *testing.T, change func(*image.Config)) *image.Store {
	t.Helper()
	cfg := image.Config{Engine: w.api, Host: w.engine.Host, Folder: t.TempDir()}
	if change != nil {
		change(&cfg)
	}
	return image.New(cfg)
}

// refused is the fault that an Ensure is to end with.
func refused(t *testing.T, s *image.Store, w image.Want, words ...string) {
	t.Helper()
	var log bytes.Buffer
	_, err := s.Ensure(t.Context(), w, &log)
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("Ensure: %v, want a fault\n%s", err, log.String())
	}
	for _, word := range words {
		if !strings.Contains(f.Msg, word) {
			t.Errorf("Ensure fails with %q, want %q in it\n%s", f.Msg, word, log.String())
		}
	}
}

func ensure(t *testing.T, s *image.Store, w image.Want) (image.Image, string) {
	t.Helper()
	var log bytes.Buffer
	img, err := s.Ensure(t.Context(), w, &log)
	if err != nil {
		t.Fatalf("Ensure: %v\n%s", err, log.String())
	}
	return img, log.String()
}

func of(ref string) image.Want {
	return image.Want{Environment: queue.Environment{Name: "env", UserManaged: true, Image: ref}}
}

func TestImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := w.push(t, "team/base:1", w.base)
	for name, check := range map[string]func(*testing.T, *world, string){
		"a public image is pulled once":                            pulledOnce,
		"what a registry does not have is told with what to do":    notThere,
		"credentials open a registry":                              credentials,
		"a mirror stands for a registry":                           mirrored,
		"archives stand for a registry":                            archived,
		"an image for another machine is refused":                  foreign,
		"a Dockerfile with a context is built once":                built,
		"a failed build names its line":                            failedBuilds,
		"packages are put onto a base image":                       withPackages,
		"an image without Python gets no packages":                 withoutPython,
		"nothing of the machine's mirrors is left in an image":     nothingLeft,
		"a program that cannot build is told apart":                programs,
		"who stops waiting leaves no build behind":                 stopped,
		"pip's own words say which requirement cannot be had":      wrongPackage,
		"an engine that is away is the node's fault, not a user's": away,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, w, base)
		})
	}
}

func pulledOnce(t *testing.T, w *world, _ string) {
	ref := w.push(t, "team/once:1", small(t, "once"))
	s := w.store(t, nil)
	var all sync.WaitGroup
	logs := make([]string, 4)
	for i := range logs {
		all.Go(func() { _, logs[i] = ensure(t, s, of(ref)) })
	}
	all.Wait()
	w.guard.mu.Lock()
	n := w.guard.asked["/v2/team/once/manifests/1"]
	w.guard.mu.Unlock()
	if n == 0 || n > 4 { // the push's own, and those of one pull
		t.Errorf("the registry was asked %d times for the manifest, want those of one pull", n)
	}
	if img, log := ensure(t, s, of(ref)); log != "" || !strings.HasPrefix(img.ID, "sha256:") {
		t.Errorf("a present image gives %+v and says %q, want an id and nothing", img, log)
	}
	if !strings.Contains(strings.Join(logs, ""), "Pulling the image "+ref) {
		t.Errorf("nobody was told of the pull: %q", logs)
	}
}

func notThere(t *testing.T, w *world, _ string) {
	s := w.store(t, nil)
	refused(t, s, of(w.host+"/team/nothing:9"), "cannot be had", "no such image", "images: mirrors:", "skopeo copy")
	refused(t, s, of("registry.invalid/x:1"), "registry.invalid/x:1", "name is not known here")
	refused(t, s, of("Not A Name"), "is not the name of an image")
	refused(t, s, image.Want{}, "names no image")
}

func credentials(t *testing.T, w *world, _ string) {
	for _, wants := range []string{"basic", "token"} {
		g := w.serve(t, wants)
		w.push(t, "closed/"+wants+":1", small(t, wants))
		ref := g.host + "/closed/" + wants + ":1"
		s := w.store(t, nil)
		refused(t, s, of(ref), "cannot be had", "images: registries:")
		wrong := of(ref)
		wrong.Environment.Registry = &queue.Registry{Address: g.host, Username: "reader", Password: "wrong"}
		refused(t, s, wrong, "cannot be had", "refuses access")
		right := of(ref)
		right.Environment.Registry = &queue.Registry{Address: "https://" + g.host + "/", Username: "reader", Password: "open sesame"}
		ensure(t, s, right)

		w.push(t, "closed/configured-"+wants+":1", small(t, "configured "+wants))
		login := image.Login{Username: "reader", Password: "open sesame"}
		if wants == "token" {
			login = image.Login{Token: tokenWord}
		}
		s = w.store(t, func(c *image.Config) { c.Registries = map[string]image.Login{g.host: login} })
		ensure(t, s, of(g.host+"/closed/configured-"+wants+":1"))
	}
}

func mirrored(t *testing.T, w *world, _ string) {
	w.push(t, "mcr/azureml/mirrored:1", small(t, "mirrored"))
	s := w.store(t, func(c *image.Config) {
		c.Mirrors = map[string]string{"mcr.microsoft.com": "registry.invalid/none", "mcr.microsoft.com/azureml/": w.host + "/mcr/azureml"}
	})
	img, log := ensure(t, s, of("mcr.microsoft.com/azureml/mirrored:1"))
	if !strings.Contains(log, w.host+"/mcr/azureml/mirrored:1") || strings.Contains(log, "registry.invalid") {
		t.Errorf("the log says %q, want the longest match alone", log)
	}
	if again, log := ensure(t, s, of("mcr.microsoft.com/azureml/mirrored:1")); again.ID != img.ID || log != "" {
		t.Errorf("the second time gives %+v and says %q", again, log)
	}
	digest, err := small(t, "mirrored").Digest()
	if err != nil {
		t.Fatal(err)
	}
	pinned := "mcr.microsoft.com/azureml/mirrored@" + digest.String()
	for range 2 {
		if by, _ := ensure(t, s, of(pinned)); by.ID != img.ID {
			t.Errorf("the image by its digest is %s, want %s", by.ID, img.ID)
		}
	}
}

func archived(t *testing.T, w *world, _ string) {
	folder := t.TempDir()
	oci := t.TempDir()
	img := small(t, "in an OCI archive")
	p, err := layout.Write(oci, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "mcr.microsoft.com/in/oci:2"})); err != nil {
		t.Fatal(err)
	}
	pack(t, oci, filepath.Join(folder, "any-name.tar"))
	tag, err := name.NewTag("docker.io/library/in-docker:3")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(folder, "docker.tar"), tag, small(t, "in a Docker archive")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "junk.tar"), []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := w.store(t, func(c *image.Config) { c.Archives = folder })
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"mcr.microsoft.com/in/oci:2", "in-docker:3", "mcr.microsoft.com/in/oci@" + digest.String()} {
		if _, log := ensure(t, s, of(ref)); !strings.Contains(log, "Loading the image") {
			t.Errorf("the log of %s says %q", ref, log)
		}
		if _, log := ensure(t, s, of(ref)); log != "" {
			t.Errorf("%s is got twice: %q", ref, log)
		}
	}
	refused(t, s, of("registry.invalid/in/none:1"), "cannot be had")
	s = w.store(t, func(c *image.Config) { c.Archives = filepath.Join(folder, "nowhere") })
	refused(t, s, of("registry.invalid/in/none:1"), "folder of images")
}

// pack makes a tar of a folder.
func pack(t *testing.T, dir, to string) {
	t.Helper()
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func foreign(t *testing.T, w *world, _ string) {
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	var b bytes.Buffer
	_ = tar.NewWriter(&b).Close()
	ref := w.push(t, "team/foreign:1", imageOf(t, b.Bytes(), other))
	refused(t, w.store(t, nil), of(ref), "linux/"+other, "linux/"+runtime.GOARCH)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: imageOf(t, b.Bytes(), other), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: other}},
	})
	at, err := name.ParseReference(w.host+"/team/foreign-list:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(at, index); err != nil {
		t.Fatal(err)
	}
	refused(t, w.store(t, nil), of(at.String()), "no variant for linux/"+runtime.GOARCH)
}

func contextOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for n, text := range files {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func built(t *testing.T, w *world, base string) {
	s := w.store(t, nil)
	want := image.Want{
		Environment: queue.Environment{Name: "ctx", UserManaged: true, Build: &queue.Build{Path: "Dockerfile", URI: "https://x/ctx/", Key: "c/ctx"}},
		Context: contextOf(t, map[string]string{
			"Dockerfile": "# syntax=docker/dockerfile:1.4\nARG BASE=" + base + "\nFROM $BASE AS one\nRUN echo from-one > /one\nFROM ${BASE}\nCOPY --from=one /one /one\nCOPY hello.txt /hello.txt\n" +
				"RUN cat /hello.txt && \\\n    # a comment within\n    echo built > /built\n",
			"hello.txt": "hello from the context\n",
		}),
	}
	var all sync.WaitGroup
	logs, ids := make([]string, 3), make([]string, 3)
	for i := range logs {
		all.Go(func() {
			var img image.Image
			img, logs[i] = ensure(t, s, want)
			ids[i] = img.ID
		})
	}
	all.Wait()
	if ids[0] != ids[1] || ids[0] != ids[2] {
		t.Errorf("one content gives the images %q", ids)
	}
	if !strings.Contains(logs[0], "hello from the context") {
		t.Errorf("the log says\n%s\nwant the build's output", logs[0])
	}
	out, err := w.engine.Docker(t.Context(), "run", "--rm", ids[0], "cat", "/one", "/built")
	if err != nil || out != "from-one\nbuilt\n" {
		t.Errorf("the image has %q (%v)", out, err)
	}
	if _, log := ensure(t, s, want); log != "" {
		t.Errorf("it is built again: %s", log)
	}
	if err := os.WriteFile(filepath.Join(want.Context, "hello.txt"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if img, _ := ensure(t, s, want); img.ID == ids[0] {
		t.Error("another context gives the same image")
	}
}

func inline(text string) image.Want {
	return image.Want{Environment: queue.Environment{Name: "inline", UserManaged: true, Build: &queue.Build{Dockerfile: text}}, Context: "/nobody/made/this"}
}

func failedBuilds(t *testing.T, w *world, base string) {
	s := w.store(t, nil)
	from := "FROM " + base + "\n"
	for text, words := range map[string][]string{
		from + "RUN true\n\n# why\nRUN echo something went wrong; exit 7\nRUN true\n": {"inline could not be built", "Line 5", "something went wrong", "exit code: 7"},
		from + "RUN echo a && \\\n  ls /nowhere-at-all\n":                             {"Line 2", "/nowhere-at-all"},
		from + "FOO bar\n":                      {"line 2", "unknown instruction: FOO"},
		from + "COPY missing.txt /\n":           {"Line 2", "COPY missing.txt"},
		"RUN true\n":                            {"cannot be built"},
		"":                                      {"Dockerfile"},
		"FROM registry.invalid/base:1\nRUN x\n": {"registry.invalid/base:1", "cannot be had"},
	} {
		refused(t, s, inline(text), words...)
	}
	refused(t, s, image.Want{Environment: queue.Environment{Build: &queue.Build{Path: "../Dockerfile", URI: "https://h/c/"}}, Context: t.TempDir()}, "outside of the context")
	refused(t, s, image.Want{Environment: queue.Environment{Build: &queue.Build{Path: "docker/Dockerfile", URI: "https://h/c/"}}, Context: t.TempDir()}, "is not there")
}

func packages(base string, pip ...string) image.Want {
	return image.Want{Environment: queue.Environment{Name: "packed", Image: base, Python: "3.8", Pip: pip,
		CondaFile: `{"channels":["defaults"],"dependencies":["python=3.8",{"pip":["x"]}]}`}}
}

func withPackages(t *testing.T, w *world, base string) {
	s := w.store(t, nil)
	img, log := ensure(t, s, packages(base, "six==1.16.0"))
	if !strings.Contains(log, "Python 3.8 was asked for") || !strings.Contains(log, "Successfully installed six-1.16.0") {
		t.Errorf("the log says\n%s", log)
	}
	out, err := w.engine.Docker(t.Context(), "run", "--rm", "--user", "4321", img.ID, "python", "-c", "import six; print(six.__version__)")
	if err != nil || out != "1.16.0\n" {
		t.Errorf("python in the image says %q (%v)", out, err)
	}
	if again, log := ensure(t, s, packages(base, "six==1.16.0")); again.ID != img.ID || log != "" {
		t.Errorf("the same packages give %s: %s", again.ID, log)
	}
}

func withoutPython(t *testing.T, w *world, _ string) {
	ref := w.push(t, "team/no-python:1", imageOf(t, testkit.DebianRoot(t), runtime.GOARCH))
	refused(t, w.store(t, nil), packages(ref, "six"), "packed could not be built", "neither conda nor Python 3")
}

func wrongPackage(t *testing.T, w *world, base string) {
	refused(t, w.store(t, nil), packages(base, "six==0.0.99"), "pip found no package for six==0.0.99")
}

// nothingLeft looks into every layer and the history of what was built on a
// machine whose pip and apt have mirrors with passwords.
func nothingLeft(t *testing.T, w *world, base string) {
	w.leavesNothing(t, base, func(*image.Config) {})
}

func (w *world) leavesNothing(t *testing.T, base string, change func(*image.Config)) {
	t.Helper()
	mark := "hunter2-of-the-mirror"
	root := t.TempDir()
	for at, text := range map[string]string{
		"etc/os-release":                  "VERSION_CODENAME=bookworm\n",
		"etc/pip.conf":                    "[global]\ntimeout = 60\nfind-links = https://user:" + mark + "@mirror.invalid/links\n",
		"etc/apt/sources.list":            "deb [signed-by=/x] http://user:" + mark + "@mirror.invalid/debian bookworm main\ndeb http://other.invalid/debian sid main\n",
		"etc/apt/apt.conf.d/90proxy":      "Acquire::http::Proxy::mirror.invalid \"http://user:" + mark + "@proxy.invalid:3128\";\n",
		"etc/apt/auth.conf.d/mirror.conf": "machine mirror.invalid login user password " + mark + "\n",
		"etc/conda/.condarc":              "channel_alias: https://user:" + mark + "@mirror.invalid/conda\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, at)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, at), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := w.store(t, func(c *image.Config) { c.Root = root; change(c) })
	want := inline("FROM " + base + "\nRUN python3 -m pip config list | tr -d h | sed 's/^/seen /'; cat /etc/apt/apt.conf.d/zz-ebb /etc/apt/auth.conf.d/ebb.conf /etc/conda/.condarc $(sed -n 's/.*sourcelist \"\\(.*\\)\";/\\1/p' /etc/apt/apt.conf.d/zz-ebb) | tr -d h | sed 's/^/seen /'\n")
	img, log := ensure(t, s, want)
	// The build has seen them all; their letters h are left out, so that the log, which is
	// the job's, is told from them.
	for _, seen := range []string{"seen global.find-links='ttps://user:unter2", "mirror.invalid/debian bookworm main", "proxy.invalid:3128", "password unter2", "cannel_alias"} {
		if !strings.Contains(log, strings.ReplaceAll(seen, "https", "ttps")) {
			t.Errorf("the build did not see %q:\n%s", seen, log)
		}
	}
	if strings.Contains(log, "other.invalid") {
		t.Errorf("a build of bookworm sees sources of sid:\n%s", log)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	archive, err := w.api.ImageSave(t.Context(), []string{img.ID})
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, archive); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	saved, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := saved.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := saved.Layers()
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]byte{"configuration and history": config}
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if parts[fmt.Sprintf("layer %d", i)], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if len(layers) < 2 {
		t.Fatalf("the image has %d layers, want that of the command too", len(layers))
	}
	for where, text := range parts {
		for _, secret := range []string{mark, base64.StdEncoding.EncodeToString([]byte("user:" + mark)), "mirror.invalid", "proxy.invalid"} {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s has %q", where, secret)
			}
		}
	}
}

func programs(t *testing.T, w *world, base string) {
	bin := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(bin, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none := write("docker", "case $1 in --version) echo Docker version 28.2.2, build x;; *) exit 1;; esac\n")
	s := w.store(t, func(c *image.Config) { c.Programs = []string{none} })
	refused(t, s, inline("FROM "+base+"\nRUN echo programs\n"), "cannot build images", "28.2.2 has no plugin buildx", "docker-buildx-plugin")
	s = w.store(t, func(c *image.Config) { c.Programs = []string{} })
	refused(t, s, inline("FROM "+base+"\nRUN echo programs\n"), "no docker program")
}

func stopped(t *testing.T, w *world, base string) {
	s := w.store(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := make(chan struct{})
	out := writer(func(b []byte) {
		if bytes.Contains(b, []byte("it-sleeps-now")) {
			select {
			case <-begun:
			default:
				close(begun)
			}
		}
	})
	ended := make(chan error, 1)
	go func() {
		_, err := s.Ensure(ctx, inline("FROM "+base+"\nRUN echo it-sleeps-$(echo now); sleep 600\n"), out)
		ended <- err
	}()
	select {
	case <-begun:
	case <-time.After(2 * time.Minute):
		t.Fatal("the build did not begin")
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Ensure: %v, want that it was stopped", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Ensure goes on")
	}
	testkit.Until(t, time.Minute, "the build's process to go", func() bool { return !running("sleep 600") })
}

// writer is a log that is looked at as it comes.
type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func running(what string) bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		if text, _ := os.ReadFile(l); strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " ")) == what {
			return true
		}
	}
	return false
}

func away(t *testing.T, _ *world, _ string) {
	api, err := client.New(client.WithHost("unix://" + filepath.Join(t.TempDir(), "nobody.sock")))
	if err != nil {
		t.Fatal(err)
	}
	s := image.New(image.Config{Engine: api, Folder: t.TempDir()})
	if _, err := s.Ensure(t.Context(), of("x:1"), nil); err == nil || fault.KindOf(err) != fault.Internal {
		t.Errorf("Ensure without an engine: %v, want an error that is no fault", err)
	}
}

// An engine whose disk is full ends the job with that word.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, testkit.StartSmallDockerd(t, 80<<20))
	base := w.push(t, "team/base:1", w.base)
	s := w.store(t, nil)
	refused(t, s, of(base), "cannot be had", "the engine's disk is full")
	little := w.push(t, "team/little:1", imageOf(t, testkit.DebianRoot(t), runtime.GOARCH))
	refused(t, s, inline("FROM "+little+"\nRUN head -c 64000000 /dev/urandom > /big\n"), "could not be built", "The disk of the node's engine is full")
}
