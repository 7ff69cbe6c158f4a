package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ebb-compute/ebb/client"
)

// writeFile writes JSON to path, whole or not at all, for the owner alone.
func writeFile(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(append(text, '\n')); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// keepClientFile writes client.json, or brings its address up to date. secret
// makes another when the file is gone: only its hash is kept.
func keepClientFile(path string, want client.File, secret func() (string, error)) error {
	switch have, err := client.Load(path); {
	case err == nil && have.ClientID == want.ClientID && have.TenantID == want.TenantID:
		want.ClientSecret = have.ClientSecret
		have.Path = ""
		if have == want {
			return nil
		}
	case err == nil || errors.Is(err, client.ErrNoFile) || errors.Is(err, fs.ErrNotExist) || want.ClientSecret != "":
		if want.ClientSecret == "" {
			s, err := secret()
			if err != nil {
				return err
			}
			want.ClientSecret = s
		}
	default:
		return fmt.Errorf("%s is damaged; move it away and a new one is made: %w", path, err)
	}
	return writeFile(path, want)
}
