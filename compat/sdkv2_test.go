package compat_test

import (
	"path/filepath"
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
