package pyenv

import (
	_ "embed"
	"errors"
	"os"
	"path/filepath"
)

//go:embed ebb_flush.py
var flushSource []byte

// addFlush puts ebb_flush into a venv that has azureml-core. It opens nothing
// outside the venv: a requirement's setup may have left links in it.
func addFlush(venv string) error {
	root, err := os.OpenRoot(venv)
	if err != nil {
		return err
	}
	defer root.Close()
	found, err := filepath.Glob(filepath.Join(venv, "lib", "python*", "site-packages", "azureml", "core", "run.py"))
	if err != nil {
		return err
	}
	for _, path := range found {
		rel, err := filepath.Rel(venv, filepath.Dir(filepath.Dir(filepath.Dir(path))))
		if err != nil {
			return err
		}
		err = errors.Join(
			root.WriteFile(filepath.Join(rel, "ebb_flush.py"), flushSource, 0o644),
			root.WriteFile(filepath.Join(rel, "ebb_flush.pth"), []byte("import ebb_flush\n"), 0o644),
		)
		if err != nil {
			return err
		}
	}
	return nil
}
