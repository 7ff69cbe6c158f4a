package compat_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// patience is how long one script may take: SDK v1 polls every 5 s.
const patience = 5 * time.Minute

// python returns the interpreter of the venv with SDK v1, made once.
func python(t testing.TB) string {
	t.Helper()
	path, err := sdk()
	if err != nil {
		testkit.RealPart(t, "Microsoft's SDK v1: %v", err)
	}
	return path
}

var sdk = sync.OnceValues(func() (string, error) {
	cmd := exec.Command(filepath.Join(testkit.Root(), "scripts", "setup"), "sdk-v1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
})

// seats bounds how many scripts run at once: each is a server, its nodes and a
// Python that imports the SDK.
var seats = make(chan struct{}, 4)

// script runs one script as a user would, in a folder with a config.json.
func script(t *testing.T, s *testkit.Server, file string, args ...string) testkit.Result {
	t.Helper()
	seats <- struct{}{}
	defer func() { <-seats }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	if r := s.Run(ctx, dir, testkit.Binary(t), "config", "write"); r.Code != 0 {
		t.Fatalf("ebb config write: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	command := append([]string{python(t), file}, args...)
	if filepath.Ext(file) == ".sh" {
		command = append([]string{"sh", file}, args...)
	}
	r := s.Exec(ctx, dir, command...)
	if r.Code != 0 {
		t.Fatalf("%s: exit %d\n%s\n%s", filepath.Base(file), r.Code, r.Stdout, r.Stderr)
	}
	return r
}

func scripts(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testkit.Root(), "compat", folder, "[0-9]*.*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", folder, err)
	}
	slices.Sort(files)
	return files
}

// TestPage runs every code block of the page, each against a fresh server.
func TestPage(t *testing.T) {
	t.Parallel()
	for _, file := range scripts(t, "page") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			s := testkit.Serve(t, testkit.OnPath())
			script(t, s, file)
		})
	}
}

// TestSDKv1 runs what SDK v1 can do beyond the page.
func TestSDKv1(t *testing.T) {
	t.Parallel()
	for _, file := range scripts(t, "sdkv1") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			s := testkit.Serve(t)
			script(t, s, file)
		})
	}
}
