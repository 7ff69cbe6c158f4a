package compat_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// azure returns the folder of the real az.
func azure(t testing.TB) string {
	t.Helper()
	return filepath.Dir(ready(t, "venv", "az"))
}

// withAz runs a shell script under "ebb exec" with the real az on its PATH.
func (u *user) withAz(file string) testkit.Result {
	u.t.Helper()
	return u.do(file, testkit.Binary(u.t), "exec", "--", "sh", "-c", `PATH="$1:$PATH"; sh "$2"`, "sh", azure(u.t), file)
}

// TestTemplates deploys templates with az: each script on a group of its own would
// be cleaner, but what they make has names of its own, so one server is enough.
func TestTemplates(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t, testkit.OnPath())
	for _, file := range scripts(t, "templates") {
		if filepath.Ext(file) != ".sh" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			newUser(t, s).withAz(file)
		})
	}
}

// TestTemplatesGuide runs the recipe of docs/clients/arm-templates.md.
func TestTemplatesGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "docs", "clients", "arm-templates.md"))
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(t, testkit.Serve(t, testkit.OnPath()))
	ran := 0
	for _, block := range strings.Split(string(text), "\n```")[1:] {
		kind, code, _ := strings.Cut(block, "\n")
		switch kind {
		case "json":
			name, code, _ := strings.Cut(strings.TrimPrefix(code, "// "), "\n")
			if err := os.WriteFile(filepath.Join(u.dir, filepath.Base(name)), []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
		case "sh":
			u.do("arm-templates.md", "sh", "-ec", `PATH="$1:$PATH"; eval "$2"`, "sh", azure(t), code)
			ran++
		}
	}
	if ran != 1 {
		t.Errorf("%d blocks were run; the page has 1 recipe", ran)
	}
}
