package compat_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// gosdk builds a program of the module compat/gosdk, which has Microsoft's Go SDK.
// The test's own environment has the module cache; a user's home has none.
func gosdk(t *testing.T, dir, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, ".")
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		testkit.RealPart(t, "Microsoft's client for Go: %v\n%s", err, text)
	}
}

// caches are where Go keeps modules and what it has built: a user's home has none.
func caches(t *testing.T) []string {
	t.Helper()
	var vars []string
	for _, name := range []string{"GOMODCACHE", "GOCACHE"} {
		out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		vars = append(vars, name+"="+strings.TrimSpace(string(out)))
	}
	return vars
}

// ways are how a client that is told of nothing but its environment may come.
var ways = map[string]string{
	"under ebb exec":        `exec "$0" exec -- "$@"`,
	"as a cloud of its own": `eval "$("$0" env --custom-cloud)"; exec "$@"`,
}

// come runs a client in one of the ways.
func (u *user) come(way string, command ...string) testkit.Result {
	u.t.Helper()
	return u.do(way, append([]string{"sh", "-ec", ways[way], testkit.Binary(u.t)}, command...)...)
}

// TestGoSDK goes through what the Go SDK can do, in both ways.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "gosdk")
	gosdk(t, path("gosdk"), bin)
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			newUser(t, testkit.Serve(t)).come(way, bin, "life")
		})
	}
	t.Run("an operation that fails", func(t *testing.T) {
		t.Parallel()
		s := testkit.Serve(t)
		// The engine can lock no folder, and so make no node.
		if err := os.MkdirAll(filepath.Join(s.Dir, "nodes", ".lock"), 0o700); err != nil {
			t.Fatal(err)
		}
		if r := newUser(t, s).come("under ebb exec", bin, "failing"); !strings.Contains(r.Stdout, "done") {
			t.Errorf("%s%s", r.Stdout, r.Stderr)
		}
	})
}
