package compat_test

import (
	"path/filepath"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestJavaScript goes through what the JavaScript SDK can do, in both ways.
func TestJavaScript(t *testing.T) {
	t.Parallel()
	packages := ready(t, "npm", "js")
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			for _, file := range scripts(t, "js") {
				newUser(t, testkit.Serve(t)).come(way, "env", "NODE_PATH="+filepath.Join(packages, "node_modules"), "node", file)
			}
		})
	}
}
