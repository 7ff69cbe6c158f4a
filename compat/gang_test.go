package compat_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestGang runs jobs of several nodes and processes, with real Open MPI, by both
// SDKs: one server, so that its nodes are started once.
func TestGang(t *testing.T) {
	t.Parallel()
	ready(t, "mpi", "")
	s := testkit.Serve(t)
	for file, python := range map[string]string{"01_v2.py": ready(t, "venv", "v2"), "02_v1.py": python(t)} {
		t.Run(file, func(t *testing.T) {
			newUser(t, s).do(file, testkit.Binary(t), "exec", "--", python, path("gang", file))
		})
	}
	for file, what := range map[string]func(){
		"03_server_restart.py": func() { s.Kill(); s.Start() },
		"04_node_loss.py":      func() { killOneNode(t, s) },
	} {
		t.Run(file, func(t *testing.T) {
			newUser(t, s).meanwhile(what, ready(t, "venv", "v2"), path("gang", file))
		})
	}
}

// killOneNode kills the agent and the shim of one of the nodes that have a job.
func killOneNode(t *testing.T, s *testkit.Server) {
	t.Helper()
	agents, living := s.Agents(), slices.Collect(maps.Values(s.Shims()))
	shims, _ := filepath.Glob(filepath.Join(s.Dir, "nodes/*/attempts/*/lock"))
	for _, lock := range shims {
		node := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(lock))))
		text, err := os.ReadFile(lock)
		if err != nil || agents[node] == 0 {
			continue
		}
		var shim int
		if _, err := fmt.Sscan(string(text), &shim); err != nil || !slices.Contains(living, shim) {
			continue // it is over
		}
		for _, pid := range []int{agents[node], shim} {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("kill %d: %v", pid, err)
			}
		}
		return
	}
	t.Error("no node has a job")
}
