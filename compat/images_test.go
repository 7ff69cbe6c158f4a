package compat_test

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestImages has jobs run in images that their node pulls from a registry and builds,
// by both SDKs: an engine of the test's own has none of them.
func TestImages(t *testing.T) {
	// Not in parallel: a second engine that starts or ends lays its hands on the
	// machine's network rules, and TestContainers has one of its own.
	d := testkit.StartDockerd(t)
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	open := httptest.NewServer(images)
	t.Cleanup(open.Close)
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "reader" || password != "open sesame" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(closed.Close)
	at := strings.TrimPrefix(open.URL, "http://")
	base := debian(t)
	for _, repository := range []string{"team/base:1", "closed/base:1"} {
		ref, err := name.ParseReference(at+"/"+repository, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, base); err != nil {
			t.Fatal(err)
		}
	}
	s := testkit.Serve(t, testkit.Env("EBB_CONTAINER=auto", "DOCKER_HOST="+d.Host))
	for file, args := range map[string][]string{
		"01_v2.py": {ready(t, "venv", "v2"), path("images", "01_v2.py"), at},
		"02_v1.py": {python(t), path("images", "02_v1.py"), at, strings.TrimPrefix(closed.URL, "http://")},
	} {
		t.Run(file, func(t *testing.T) {
			newUser(t, s).do(file, append([]string{testkit.Binary(t), "exec", "--"}, args...)...)
		})
	}
}

// debian is an image of Debian packages, with Python.
func debian(t *testing.T) v1.Image {
	t.Helper()
	root := testkit.DebianRoot(t, "python3", "python3-venv")
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
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}
