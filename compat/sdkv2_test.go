package compat_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestSDKv2 runs what Python SDK v2 can do, each script against a fresh server.
func TestSDKv2(t *testing.T) {
	t.Parallel()
	for _, file := range scripts(t, "sdkv2") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			u := newUser(t, testkit.Serve(t))
			u.do(file, testkit.Binary(t), "exec", "--", ready(t, "venv", "v2"), file)
		})
	}
}

// TestSDKv2CustomCloud runs a script without "ebb exec": the client is told of a
// cloud by the address of its metadata alone, and comes by the server's own name.
func TestSDKv2CustomCloud(t *testing.T) {
	t.Parallel()
	for name, recipe := range map[string]string{"secret": "--custom-cloud", "identity": "--identity"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUser(t, testkit.Serve(t, testkit.OnPath()))
			u.do("03_assets.py", "sh", "-ec", `eval "$(ebb env `+recipe+`)"; unset AZUREML_CURRENT_CLOUD; exec "$0" "$1"`, ready(t, "venv", "v2"), path("sdkv2", "03_assets.py"))
		})
	}
}

// TestSDKsTogether takes turns: what one SDK registers is the other's, too.
func TestSDKsTogether(t *testing.T) {
	t.Parallel()
	u := newUser(t, testkit.Serve(t, testkit.OnPath()))
	for _, file := range scripts(t, "together") {
		interpreter := python(t)
		if strings.HasSuffix(file, "_v2.py") {
			interpreter = ready(t, "venv", "v2")
		}
		u.do(file, testkit.Binary(t), "exec", "--", interpreter, file)
	}
}
