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
			replace(root, filepath.Join(rel, "ebb_flush.py"), flushSource),
			replace(root, filepath.Join(rel, "ebb_flush.pth"), []byte("import ebb_flush\n")),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// replace writes a new file where anything may be: a setup.py could have left a
// pipe there, which nobody would ever read.
func replace(root *os.Root, name string, text []byte) error {
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
