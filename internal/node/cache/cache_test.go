package cache_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/cache"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func newEnvs(t *testing.T) (cache.Envs, string) {
	t.Helper()
	data := t.TempDir()
	e := cache.Envs{Dir: filepath.Join(data, "cache/envs"), Nodes: filepath.Join(data, "nodes")}
	write(t, filepath.Join(e.Dir, "abc/bin/python"), "0123456789")
	write(t, filepath.Join(e.Dir, "abc.json"), "{}")
	write(t, filepath.Join(e.Dir, "abc.build/log/build.txt"), "done")
	attempt := filepath.Join(e.Nodes, "cpu-1/attempts/run.1")
	if err := os.MkdirAll(attempt, 0o755); err != nil {
		t.Fatal(err)
	}
	return e, attempt
}

func TestAnEnvironmentGoesOnlyWhenNothingUsesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arrange func(t *testing.T, e cache.Envs, attempt string)
		stays   bool
	}{
		"nobody uses it": {func(*testing.T, cache.Envs, string) {}, false},
		"an attempt uses it": {func(t *testing.T, _ cache.Envs, attempt string) {
			if err := cache.Use(attempt, "abc"); err != nil {
				t.Fatal(err)
			}
		}, true},
		"an attempt uses another": {func(t *testing.T, _ cache.Envs, attempt string) {
			if err := cache.Use(attempt, "xyz"); err != nil {
				t.Fatal(err)
			}
		}, false},
		"the attempt has ended": {func(t *testing.T, _ cache.Envs, attempt string) {
			if err := cache.Use(attempt, "abc"); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(attempt, "exit.json"), "{}")
		}, false},
		"the attempt ended before it began": {func(t *testing.T, _ cache.Envs, attempt string) {
			if err := cache.Use(attempt, "abc"); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(attempt, "end.json"), "{}")
		}, false},
		"it is being built": {func(t *testing.T, e cache.Envs, _ string) {
			f, err := os.Create(filepath.Join(e.Dir, "abc.lock"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, attempt := newEnvs(t)
			c.arrange(t, e, attempt)
			list, err := e.List()
			if err != nil || len(list) != 1 || list[0].ID != "abc" || list[0].Bytes != 10 || list[0].Used.IsZero() {
				t.Fatalf("list: %+v, %v", list, err)
			}
			removed, err := e.Remove("abc")
			if err != nil || removed == c.stays {
				t.Fatalf("removed %v, %v", removed, err)
			}
			for _, name := range []string{"abc/bin/python", "abc.json", "abc.build"} {
				if exists(filepath.Join(e.Dir, name)) != c.stays {
					t.Errorf("%s: there is %v, want %v", name, !c.stays, c.stays)
				}
			}
			if exists(filepath.Join(e.Dir, "abc.going")) {
				t.Error("half of it is left")
			}
		})
	}
}

func TestCopiesOfCodeGo(t *testing.T) {
	t.Parallel()
	c := cache.Code{Dir: filepath.Join(t.TempDir(), "snapshots")}
	if list, err := c.List(); err != nil || len(list) != 0 {
		t.Errorf("before there is any: %v, %v", list, err)
	}
	write(t, filepath.Join(c.Dir, "abc/train.py"), "print(1)")
	write(t, filepath.Join(c.Dir, ".new-1/tree/train.py"), "half of it")
	list, err := c.List()
	if err != nil || len(list) != 1 || list[0].Bytes != 8 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, name := range []string{"", "..", "../envs", "a/b"} {
		if _, err := c.Remove(name); err == nil {
			t.Errorf("removed %q", name)
		}
	}
	if removed, err := c.Remove("abc"); !removed || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
	if removed, err := c.Remove("abc"); removed || err != nil {
		t.Errorf("twice: removed %v, %v", removed, err)
	}
	left, err := os.ReadDir(c.Dir)
	if err != nil || len(left) != 1 || left[0].Name() != ".new-1" {
		t.Errorf("left: %v, %v", left, err)
	}
}
