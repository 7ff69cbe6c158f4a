package compat_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// az runs shell code with az on the path, in the user's folder.
func (u *user) az(what string, command ...string) testkit.Result {
	u.t.Helper()
	return u.do(what, append([]string{"env", "PATH=" + filepath.Dir(ready(u.t, "venv", "az")) + ":" + filepath.Dir(testkit.Binary(u.t)) + ":" + os.Getenv("PATH")}, command...)...)
}

// TestAz runs what az can do: under "ebb exec" with no cloud registered, and
// told of a cloud of its own, logged in in each of the three ways.
func TestAz(t *testing.T) {
	t.Parallel()
	for _, file := range scripts(t, "az") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			u := newUser(t, testkit.Serve(t, testkit.OnPath()))
			if filepath.Base(file) == "01_exec.sh" {
				u.az(file, testkit.Binary(t), "exec", "--", "sh", file)
				return
			}
			u.az(file, "sh", file)
		})
	}
}

// TestAzGuide runs what docs/clients/az.md tells users to type.
func TestAzGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "docs", "clients", "az.md"))
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(t, testkit.Serve(t, testkit.OnPath()))
	ran := 0
	for _, block := range strings.Split(string(text), "\n```sh\n")[1:] {
		code, _, _ := strings.Cut(block, "\n```")
		u.az("az.md", "sh", "-ec", code)
		ran++
	}
	if ran != 2 {
		t.Errorf("%d blocks were run; the page has 2 recipes", ran)
	}
}

// TestManagedIdentity asks for tokens as azure-identity does where "ebb env
// --identity" was said.
func TestManagedIdentity(t *testing.T) {
	t.Parallel()
	u := newUser(t, testkit.Serve(t, testkit.OnPath()))
	u.do("identity", "sh", "-ec", `eval "$(ebb env --identity)"; exec "$0" "$1"`, ready(t, "venv", "v2"), path("identity", "01_managed.py"))
}
