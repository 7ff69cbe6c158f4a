package node

import (
	"log/slog"
	"os"
	"path/filepath"
)

// Names that the tests need and nobody else.
type (
	Holder    = holder
	Preparer  = preparer
	RealShims = shims
)

var Untar = untar

// NewAgent makes an agent around other shims and another runner.
func NewAgent(dir string, log *slog.Logger, h Holder, p Preparer) (*Agent, error) {
	cfg, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	return &Agent{Dir: dir, Config: cfg, Log: log, server: &server{file: cfg.Server, token: cfg.Token}, holder: h, preparer: p}, nil
}

// JournalTwice journals one attempt twice and returns both errors.
func JournalTwice(dir string) (first, second error) {
	if err := os.MkdirAll(filepath.Join(dir, "attempts"), 0o755); err != nil {
		return err, err
	}
	j := journal{dir: dir}
	return j.add(entry{Attempt: "r.1", Fence: 1}), j.add(entry{Attempt: "r.1", Fence: 1})
}

// JournalDrop journals an attempt, lets its job do something in its folder, and
// drops it.
func JournalDrop(dir string, job func(folder string) error) error {
	if err := os.MkdirAll(filepath.Join(dir, "attempts"), 0o755); err != nil {
		return err
	}
	j := journal{dir: dir}
	if err := j.add(entry{Attempt: "r.1", Fence: 1}); err != nil {
		return err
	}
	if err := job(j.path("r.1")); err != nil {
		return err
	}
	return j.drop("r.1")
}

// Lock takes the folder's lock as the agent does.
func Lock(dir string) (*os.File, error) { return takeLock(filepath.Join(dir, "lock")) }
