// Package cache removes from the machine's cache what no attempt uses: venvs
// (envs/HASH with HASH.json beside, whose time is that of the last use) and
// copies of code (snapshots/HASH, likewise). It fills nothing: pyenv and the
// agent do.
//
// An attempt says that it uses a venv by [Use], before it looks whether the venv
// is there. Whoever removes one makes it "not there" before looking for uses.
// So one of the two always sees the other.
package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// useFile is the file in an attempt's folder that names its venv.
const useFile = "env"

// Use writes down that the attempt of a folder uses the venv of a hash, until
// its end is on record or the folder gone.
func Use(attempt, hash string) error {
	return os.WriteFile(filepath.Join(attempt, useFile), []byte(hash+"\n"), 0o600)
}

// Entry is a thing in the cache.
type Entry struct {
	ID    string
	Bytes int64
	Used  time.Time
	Held  bool
}

// Envs are the venvs of a machine.
type Envs struct {
	Dir   string // DATA/cache/envs
	Nodes string // DATA/nodes, where attempts say what they use
}

// List returns every venv.
func (e Envs) List() ([]Entry, error) {
	names, err := readNames(e.Dir)
	if err != nil {
		return nil, err
	}
	held, err := e.uses()
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, name := range names {
		hash, ok := strings.CutSuffix(name, ".json")
		if !ok || hash == "" || hash[0] == '.' {
			continue
		}
		fi, err := os.Stat(filepath.Join(e.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Entry{ID: hash, Bytes: size(filepath.Join(e.Dir, hash)), Used: fi.ModTime(), Held: held[hash]})
	}
	return out, nil
}

// Remove removes a venv unless it is being built or used.
func (e Envs) Remove(hash string) (removed bool, err error) {
	if hash == "" || !filepath.IsLocal(hash) || strings.ContainsRune(hash, '/') {
		return false, fmt.Errorf("remove environment %q: not a name in the cache", hash)
	}
	path := func(suffix string) string { return filepath.Join(e.Dir, hash+suffix) }
	lock, err := os.OpenFile(path(".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	defer lock.Close() // the file stays: who waits for it waits for this very one
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false, nil // being built
	}
	defer func() { _ = unix.Flock(int(lock.Fd()), unix.LOCK_UN) }() // what was just forked has the file too until its exec
	// From here on nobody takes it for ready: newcomers wait for the lock.
	aside := path(".going")
	if err := os.Rename(path(".json"), aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	held, err := e.uses()
	if err != nil || held[hash] {
		return false, errors.Join(err, os.Rename(aside, path(".json")))
	}
	for _, p := range []string{path(""), path(".build"), aside} {
		if err := os.RemoveAll(p); err != nil {
			return false, fmt.Errorf("remove environment %s: %w", hash, err)
		}
	}
	return true, nil
}

// uses returns the hashes that attempts use which have not ended.
func (e Envs) uses() (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(e.Nodes, "*", "attempts", "*", useFile))
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !over(filepath.Dir(f)) {
			held[strings.TrimSpace(string(b))] = true
		}
	}
	return held, nil
}

// over reports whether an attempt's end is on record.
func over(attempt string) bool {
	for _, name := range []string{"exit.json", "end.json"} {
		if _, err := os.Stat(filepath.Join(attempt, name)); err == nil {
			return true
		}
	}
	return false
}

// Code is the machine's copies of snapshots.
type Code struct{ Dir string } // DATA/cache/snapshots

// List returns every copy.
func (c Code) List() ([]Entry, error) {
	names, err := readNames(c.Dir)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, name := range names {
		path := filepath.Join(c.Dir, name)
		fi, err := os.Stat(path)
		if err != nil || strings.HasPrefix(name, ".") {
			continue // gone meanwhile, or not finished
		}
		out = append(out, Entry{ID: name, Bytes: size(path), Used: fi.ModTime()})
	}
	return out, nil
}

// Remove removes a copy. An agent that is just copying from it fails at the next
// file, and fetches anew.
func (c Code) Remove(name string) (removed bool, err error) {
	if name == "" || !filepath.IsLocal(name) || strings.ContainsRune(name, '/') {
		return false, fmt.Errorf("remove copy %q: not a name in the cache", name)
	}
	aside, err := os.MkdirTemp(c.Dir, ".going-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(aside)
	if err := os.Rename(filepath.Join(c.Dir, name), filepath.Join(aside, "tree")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// size is the bytes of the files below a folder, as far as they can be seen.
func size(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				total += fi.Size()
			}
		}
		return nil
	})
	return total
}
