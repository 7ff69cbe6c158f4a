package compat_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// guides are the pages of docs/clients, by name: how many recipes each has, and what
// must be there before its first: variables of the environment, as "NAME=value".
var guides = map[string]struct {
	recipes int
	ready   func(u *user) []string
}{
	"sdk-v1": {2, func(u *user) []string { return []string{"PATH=" + filepath.Dir(python(u.t)) + ":" + os.Getenv("PATH")} }},
	"sdk-v2": {3, func(u *user) []string {
		return []string{"PATH=" + filepath.Dir(ready(u.t, "venv", "v2")) + ":" + os.Getenv("PATH")}
	}},
	"go": {2, func(u *user) []string { // the modules, as "go get" leaves them
		for _, name := range []string{"go.mod", "go.sum"} {
			text, err := os.ReadFile(path("gosdk", name))
			if err != nil {
				u.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(u.dir, name), text, 0o600); err != nil {
				u.t.Fatal(err)
			}
		}
		gosdk(u.t, path("gosdk"), filepath.Join(u.t.TempDir(), "gosdk"))
		return caches(u.t)
	}},
	"arm-templates": {1, func(u *user) []string {
		return []string{"PATH=" + filepath.Dir(ready(u.t, "venv", "az")) + ":" + os.Getenv("PATH")}
	}},
	"storage": {1, func(u *user) []string {
		return []string{"PATH=" + filepath.Dir(ready(u.t, "venv", "v2")) + ":" + os.Getenv("PATH")}
	}},
	"javascript": {2, func(u *user) []string { // the packages, as "npm install" leaves them
		if err := os.Symlink(filepath.Join(ready(u.t, "npm", "js"), "node_modules"), filepath.Join(u.dir, "node_modules")); err != nil {
			u.t.Fatal(err)
		}
		return nil
	}},
}

// TestGuide runs what docs/clients tells users to run, in the order of each page:
// blocks of code are files of the name in their first line, the sh blocks commands.
func TestGuide(t *testing.T) {
	t.Parallel()
	for page, g := range guides {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join(testkit.Root(), "docs", "clients", page+".md"))
			if err != nil {
				t.Fatal(err)
			}
			u := newUser(t, testkit.Serve(t, testkit.OnPath()))
			env := g.ready(u)
			ran := 0
			for _, block := range strings.Split(string(text), "\n```")[1:] {
				kind, code, _ := strings.Cut(block, "\n")
				switch kind {
				case "python", "go", "js", "json":
					name, _, _ := strings.Cut(code, "\n")
					name = filepath.Base(strings.TrimSpace(strings.TrimLeft(name, "#/")))
					if err := os.WriteFile(filepath.Join(u.dir, name), []byte(code), 0o600); err != nil {
						t.Fatal(err)
					}
				case "sh":
					command := append(append([]string{"env"}, env...), "sh", "-ec", `PATH="$(dirname "$0"):$PATH"; eval "$1"`, testkit.Binary(t), code)
					u.do(page, command...)
					ran++
				}
			}
			if ran != g.recipes {
				t.Errorf("%d blocks were run; the page has %d recipes", ran, g.recipes)
			}
		})
	}
}
