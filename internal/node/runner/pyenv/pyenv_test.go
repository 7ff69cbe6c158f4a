package pyenv_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/runner/pyenv"
)

func TestBestPythonIsTheNearest(t *testing.T) {
	t.Parallel()
	have := func(versions ...string) (out []pyenv.Python) {
		for _, v := range versions {
			out = append(out, pyenv.Python{Path: v, Version: v})
		}
		return out
	}
	for name, tt := range map[string]struct {
		all  []pyenv.Python
		want string
		got  string // empty: none
	}{
		"any wants the first found":                       {have("3.11.2", "3.12.1"), "", "3.11.2"},
		"the same minor version wins":                     {have("3.11.2", "3.8.18", "3.9.1"), "3.8.13", "3.8.18"},
		"the nearer patch wins among equals":              {have("3.8.1", "3.8.12"), "3.8.13", "3.8.12"},
		"a newer one is better than an older one":         {have("3.7.9", "3.11.2"), "3.8", "3.11.2"},
		"the nearest newer one wins":                      {have("3.12.0", "3.9.0", "3.11.2"), "3.8", "3.9.0"},
		"an older one is better than none":                {have("3.7.9", "3.6.0"), "3.8", "3.7.9"},
		"Python 2 never counts":                           {have("2.7.18"), "2.7", ""},
		"what cannot be read is any":                      {have("3.11.2"), "latest", "3.11.2"},
		"operators in front of a version are looked past": {have("3.11.2", "3.9.1"), ">=3.9", "3.9.1"},
		"no Python at all":                                {nil, "3.8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, ok := pyenv.Best(tt.all, tt.want)
			if p.Version != tt.got || ok != (tt.got != "") {
				t.Errorf("Best(%q) = %q, %v, want %q", tt.want, p.Version, ok, tt.got)
			}
		})
	}
}

func TestCondaPackagesBecomeRequirements(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"numpy": "numpy", "numpy=1.21": "numpy==1.21.*", "numpy==1.21.0": "numpy==1.21.0",
		"numpy=1.21.2=py38_0": "numpy==1.21.2", "numpy>=1.2,<2": "numpy>=1.2,<2", "numpy 1.21.*": "numpy==1.21.*",
		"conda-forge::pandas=1.5": "pandas==1.5.*", "scipy =1.10": "scipy==1.10.*", "scipy >= 1.10": "scipy>=1.10",
		"x=*": "x", "python=3.8.13": "", "pip": "", "pip=20.2": "", "setuptools<60": "", "wheel": "",
	} {
		if got, ok := pyenv.FromConda(spec); got != want || ok != (want != "") {
			t.Errorf("FromConda(%q) = %q, %v, want %q", spec, got, ok, want)
		}
	}
}

func TestFailuresOfPipAreExplained(t *testing.T) {
	t.Parallel()
	e := queue.Environment{Conda: []string{"cuda_toolkit=11"}}
	for log, want := range map[string]string{
		"x\nERROR: No matching distribution found for cuda-toolkit==11.*\n":                                 "conda package cuda_toolkit=11",
		"ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.": "contradict each other: Cannot install a==1 and b==2",
		"ERROR: Failed building wheel for foo\n":                                                            "foo could not be built",
		"ERROR: Invalid requirement: 'a b': Expected end\n":                                                 "a b is not a requirement",
	} {
		if got := pyenv.Explain(log, e, pyenv.Python{Version: "3.11.2"}); !strings.Contains(got, want) {
			t.Errorf("Explain(%q) = %q, want %q in it", log, got, want)
		}
	}
	if got := pyenv.Explain("ERROR: something new", e, pyenv.Python{}); got != "" {
		t.Errorf("Explain of what is not known = %q, want nothing", got)
	}
}

// TestAnotherPythonIsToldOf: where the wanted Python is not there, that is why pip
// finds nothing, and not the package's name.
func TestAnotherPythonIsToldOf(t *testing.T) {
	t.Parallel()
	e := queue.Environment{Python: "3.8", Conda: []string{"numpy=1.21.2"}}
	there := pyenv.Python{Version: "3.11.2", Path: "/usr/bin/python3"}
	for name, c := range map[string]struct {
		log  string
		py   pyenv.Python
		says string
		not  string
	}{
		"no package":         {"ERROR: No matching distribution found for numpy==1.21.2.*\n", there, "no package for numpy==1.21.2.* that this Python can use. Python 3.8 was asked for, and the nearest that this machine has is 3.11.2 (/usr/bin/python3)", "another name"},
		"a build that fails": {"ERROR: Failed building wheel for numpy\n", there, "Install Python 3.8 for all users", "another name"},
		"that Python":        {"ERROR: No matching distribution found for numpy==1.21.2.*\n", pyenv.Python{Version: "3.8.13"}, "another name on PyPI", "asked for"},
		"no fault of its":    {"ERROR: Invalid requirement: 'a b': Expected end\n", there, "not a requirement", "asked for"},
	} {
		if got := pyenv.Explain(c.log, e, c.py); !strings.Contains(got, c.says) || strings.Contains(got, c.not) {
			t.Errorf("%s: %q, want %q and not %q", name, got, c.says, c.not)
		}
	}
}

// fake writes a program that answers as a Python of a version.
func fake(t *testing.T, dir, name, version string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	answer := `{"Version":"` + version + `","Prefix":"/usr","Base":"/usr","Venv":true}`
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+answer+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAPythonThatJobsCannotReachIsNotFound(t *testing.T) {
	t.Parallel()
	top, err := os.MkdirTemp("/var/tmp", "ebb-test-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	open, closed, hidden := filepath.Join(top, "open"), filepath.Join(top, "closed"), filepath.Join(top, "hidden")
	fake(t, filepath.Join(open, "bin"), "python3.9", "3.9.9")
	in := fake(t, filepath.Join(closed, "bin"), "python3.10", "3.10.1")
	fake(t, filepath.Join(hidden, "bin"), "python3.12", "3.12.1")
	if err := os.Symlink(in, filepath.Join(open, "bin/python3.10")); err != nil { // a link does not open it
		t.Fatal(err)
	}
	if err := os.Symlink("python3.9", filepath.Join(open, "bin/python3")); err != nil { // one Python, two names
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(open, "bin/python3.8"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil { // broken
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	f := &pyenv.Finder{Nobody: os.Getuid() == 0, Hide: []string{hidden}, Path: []string{
		filepath.Join(open, "bin"), filepath.Join(closed, "bin"), filepath.Join(hidden, "bin"),
	}}
	all := f.All(context.Background())
	want := 1
	if os.Getuid() != 0 {
		want = 2 // the folder is ours
	}
	if len(all) != want || all[0].Version != "3.9.9" {
		t.Errorf("All = %+v, want %d, 3.9.9 first", all, want)
	}
	if _, err := f.Try(t.Context(), filepath.Join(hidden, "bin/python3.12")); err == nil {
		t.Error("Try found a Python that is hidden")
	}
}
