package pyenv

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What stands in the way of the module is replaced: a pipe would block for ever.
func TestFlushIsPutWhereAPipeWas(t *testing.T) {
	t.Parallel()
	venv := t.TempDir()
	site := filepath.Join(venv, "lib", "python3.11", "site-packages")
	if err := os.MkdirAll(filepath.Join(site, "azureml", "core"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(site, "azureml", "core", "run.py"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(site, "ebb_flush.py"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := addFlush(venv); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(site, "ebb_flush.py"))
	if err != nil || string(got) != string(flushSource) {
		t.Errorf("ebb_flush.py is %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(site, "ebb_flush.pth")); err != nil {
		t.Error(err)
	}
}

// A venv without azureml-core gets nothing.
func TestFlushIsOnlyForAzureML(t *testing.T) {
	t.Parallel()
	venv := t.TempDir()
	site := filepath.Join(venv, "lib", "python3.11", "site-packages")
	if err := os.MkdirAll(site, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := addFlush(venv); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(site); err != nil || len(left) != 0 {
		t.Errorf("site-packages holds %v, %v", left, err)
	}
}
