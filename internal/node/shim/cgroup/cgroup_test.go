package cgroup_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/node/shim/cgroup"
)

// files makes a folder that looks like a control group's.
func files(t *testing.T, dir string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The file formats of both versions, written to plain files: the kernel makes a
// group's files with its folder, so here they are there before.
func TestLimitsAreWrittenInTheKernelsWords(t *testing.T) {
	t.Parallel()
	lim := cgroup.Limits{VCPUs: 1.5, Memory: 1 << 30, PIDs: 100}
	t.Run("version 2", func(t *testing.T) {
		t.Parallel()
		top := t.TempDir()
		dir := filepath.Join(top, "job")
		files(t, dir, "cpu.max", "memory.max", "memory.swap.max", "pids.max", "cgroup.kill", "memory.events", "cgroup.procs")
		g, err := cgroup.Make(cgroup.Tree{Version: 2, Parents: map[string]string{"": top}}, "job", lim)
		if err != nil {
			t.Fatal(err)
		}
		for file, want := range map[string]string{"cpu.max": "150000 100000", "memory.max": "1073741824", "memory.swap.max": "0", "pids.max": "100"} {
			if got := read(t, filepath.Join(dir, file)); got != want {
				t.Errorf("%s = %q, want %q", file, got, want)
			}
		}
		if _, ok := g.FD(); !ok {
			t.Error("there is no folder to start a process in")
		}
		if !g.Kill() || read(t, filepath.Join(dir, "cgroup.kill")) != "1" {
			t.Error("the group was not killed at once")
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte("low 0\noom 3\noom_kill 2\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if n := g.OOMKills(); n != 2 {
			t.Errorf("OOMKills = %d, want 2", n)
		}
	})
	t.Run("version 1", func(t *testing.T) {
		t.Parallel()
		top := t.TempDir()
		tree := cgroup.Tree{Version: 1, Parents: map[string]string{}}
		for c, names := range map[string][]string{
			"cpu":    {"cpu.cfs_quota_us", "tasks"},
			"memory": {"memory.limit_in_bytes", "memory.oom_control", "tasks"},
			"pids":   {"pids.max", "tasks"},
		} {
			files(t, filepath.Join(top, c, "ebb/job"), names...)
			tree.Parents[c] = filepath.Join(top, c, "ebb")
		}
		g, err := cgroup.Make(tree, "job", lim)
		if err != nil {
			t.Fatal(err)
		}
		for file, want := range map[string]string{"cpu/ebb/job/cpu.cfs_quota_us": "150000", "memory/ebb/job/memory.limit_in_bytes": "1073741824", "pids/ebb/job/pids.max": "100"} {
			if got := read(t, filepath.Join(top, file)); got != want {
				t.Errorf("%s = %q, want %q", file, got, want)
			}
		}
		if err := g.Enter(77); err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(top, "pids/ebb/job/tasks")); got != "77" {
			t.Errorf("entered with %q", got)
		}
		if err := os.WriteFile(filepath.Join(top, "memory/ebb/job/memory.oom_control"), []byte("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if n := g.OOMKills(); n != 1 {
			t.Errorf("OOMKills = %d, want 1", n)
		}
	})
}

func TestAGroupOfThisMachine(t *testing.T) {
	t.Parallel()
	tree, err := cgroup.Detect()
	if err != nil {
		t.Skipf("no control groups here: %v", err)
	}
	g, err := cgroup.Make(tree, "test-"+strconv.Itoa(os.Getpid()), cgroup.Limits{VCPUs: 1, Memory: 64 << 20, PIDs: 10})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for _, d := range g.Dirs() {
		if err := os.WriteFile(filepath.Join(d, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	again := cgroup.Open(g.Dirs())
	if pids := again.PIDs(); !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("PIDs = %v, want the one that was put in", pids)
	}
	if err := again.Remove(); err == nil {
		t.Error("a group with a process was removed")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := g.Remove(); err != nil {
		t.Errorf("Remove: %v", err)
	}
	for _, d := range g.Dirs() {
		if _, err := os.Stat(d); err == nil || !strings.Contains(d, "ebb") {
			t.Errorf("%s is left, or not ours", d)
		}
	}
}
