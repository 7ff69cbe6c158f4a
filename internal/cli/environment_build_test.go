package cli_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// Environments are made ready ahead of the first job, against the real server.
func TestEnvironmentsAreMadeReady(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"conda.yml": "dependencies: [{pip: [six==1.16.0]}]\n", "wrong.yml": "dependencies: [{pip: [six==0.0.99]}]\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stdout string // contained
		stderr string // contained
	}{
		{"a cluster", []string{"compute", "create", "--name", "cpu", "--size", "Standard_DS3_v2", "--max-instances", "2"}, 0, "Succeeded", ""},
		{"an environment", []string{"environment", "create", "-n", "six", "-i", "python:3", "-c", filepath.Join(dir, "conda.yml"), "--query", "version", "-o", "tsv"}, 0, "1\n", ""},
		{"one that cannot be", []string{"environment", "create", "-n", "wrong", "-i", "python:3", "-c", filepath.Join(dir, "wrong.yml"), "--query", "version", "-o", "tsv"}, 0, "1\n", ""},
		{"it is made ready", []string{"environment", "build", "six", "--version", "1", "--compute", "cpu"}, 0, "Successfully installed six-1.16.0", ""},
		{"more of them", []string{"environment", "prefetch", "six", "azureml:six:1", "--compute", "cpu"}, 0, "", "azureml:six:1 is ready."},
		{"not all of them", []string{"environment", "prefetch", "six", "wrong", "--compute", "cpu"}, 1, "", "six==0.0.99"},
		{"one that is not there", []string{"environment", "prefetch", "sixx", "--compute", "cpu"}, 3, "", "there are: six"},
		{"on no cluster", []string{"environment", "build", "six", "--compute", "nope"}, 3, "", "there are: cpu"},
		{"a curated one", []string{"environment", "show", "AzureML-Minimal", "--query", "image", "-o", "tsv"}, 0, "mcr.microsoft.com/azureml/", ""},
	} {
		got := s.Ebb(ctx, c.args...)
		if got.Code != c.code || !strings.Contains(got.Stdout, c.stdout) || !strings.Contains(got.Stderr, c.stderr) {
			t.Errorf("%s: ebb %s: exit %d, want %d with %q and %q\nstdout: %s\nstderr: %s", c.name, strings.Join(c.args, " "), got.Code, c.code, c.stdout, c.stderr, got.Stdout, got.Stderr)
		}
	}
}
