package compat_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestAzML runs scripts written for az, with az standing for ebb: one server for
// all, as each has clusters and assets of names of its own.
func TestAzML(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t, testkit.OnPath())
	for _, file := range scripts(t, "ebbml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			if filepath.Ext(file) == ".py" {
				u := newUser(t, s)
				u.do(file, testkit.Binary(t), "exec", "--", ready(t, "venv", "v2"), file)
				return
			}
			u := &user{t, s, t.TempDir()}
			if strings.HasSuffix(file, "_with_az.sh") {
				u.az(file, "bash", file)
				return
			}
			u.do(file, "sh", file)
		})
	}
}

// TestAzMLGuide runs what docs/clients/ebb-ml.md tells users to run, in its
// order: yaml blocks are files of the name in their first line, sh blocks commands.
func TestAzMLGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "docs", "clients", "ebb-ml.md"))
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t, testkit.Serve(t, testkit.OnPath()), t.TempDir()}
	ran := 0
	for _, block := range strings.Split(string(text), "\n```")[1:] {
		kind, code, _ := strings.Cut(block, "\n")
		switch kind {
		case "yaml", "python":
			name, _, _ := strings.Cut(strings.TrimPrefix(code, "# "), "\n")
			path := filepath.Join(u.dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
		case "sh":
			u.do("ebb-ml.md", "sh", "-euc", code)
			ran++
		}
	}
	if ran != 3 {
		t.Errorf("%d blocks were run; the page has 3 recipes", ran)
	}
}
