package ebb_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThePageIsMapped: every test and divergence that docs/page.md names exists,
// every row names one, and every script of compat/page is named.
func TestThePageIsMapped(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/page.md")
	divergences := map[string]bool{}
	for line := range strings.Lines(read(t, "docs/divergences.md")) {
		if h, ok := strings.CutPrefix(line, "### "); ok {
			divergences[strings.TrimSpace(h)] = true
		}
	}
	proof := regexp.MustCompile("`([a-z0-9/]+): (Test\\w+)(?:/([\\w.]+))?`")
	anchor := regexp.MustCompile(`\]\(divergences\.md#([\w-]+)\)`)
	rows := 0
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| what the page says") {
			continue
		}
		rows++
		tests, anchors := proof.FindAllStringSubmatch(line, -1), anchor.FindAllStringSubmatch(line, -1)
		if len(tests)+len(anchors) == 0 {
			t.Errorf("no test and no divergence in: %s", line)
		}
		for _, m := range tests {
			if !declares(t, m[1], m[2]) {
				t.Errorf("%s has no %s", m[1], m[2])
			}
			if m[3] != "" && !exists(t, m[1], m[3]) {
				t.Errorf("%s: no case %s of %s", m[1], m[3], m[2])
			}
		}
		for _, m := range anchors {
			if !divergences[m[1]] {
				t.Errorf("divergences.md has no entry %s", m[1])
			}
		}
	}
	if rows < 40 {
		t.Errorf("only %d rows", rows)
	}
	scripts, err := filepath.Glob("compat/page/*.*")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, s := range scripts {
		if !strings.Contains(page, "/"+filepath.Base(s)+"`") {
			t.Errorf("docs/page.md does not name %s", s)
		}
	}
}

// TestWhatIsPastedIsThere: what the README and the end of the demo tell people to
// run with Python names a script that is there, and a Python that has the SDK.
func TestWhatIsPastedIsThere(t *testing.T) {
	t.Parallel()
	exec := regexp.MustCompile(`(?m)^ *(?:echo ")?\S*ebb exec -- ("[^"]+"|\S+) (\S+)`)
	for _, file := range []string{"README.md", "scripts/demo"} {
		found := exec.FindAllStringSubmatch(read(t, file), -1)
		if len(found) == 0 {
			t.Errorf("%s does not say how to run a script", file)
		}
		for _, m := range found {
			if m[1] != "$python" && m[1] != `"$(scripts/setup sdk-v1)"` {
				t.Errorf("%s runs %s, which has no SDK", file, m[1])
			}
			if _, err := os.Stat(m[2]); err != nil {
				t.Errorf("%s runs a script that is not there: %v", file, err)
			}
		}
	}
}

// declares reports whether a test file of folder has the function.
func declares(t *testing.T, folder, name string) bool {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(folder, "*_test.go"))
	for _, f := range files {
		if strings.Contains(read(t, f), "func "+name+"(") {
			return true
		}
	}
	return false
}

// exists reports whether a case that is named after a script is there.
func exists(t *testing.T, folder, script string) bool {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(folder, "*", script))
	return len(found) > 0
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
