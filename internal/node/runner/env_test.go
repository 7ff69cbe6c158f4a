package runner_test

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner"
)

// wheels makes a folder with one small wheel, so that pip needs no network.
func wheels(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "ebbtiny-1.21.3-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for name, text := range map[string]string{
		"ebbtiny.py":                        "word = 'tiny works'\n",
		"ebbtiny-1.21.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: ebbtiny\nVersion: 1.21.3\n",
		"ebbtiny-1.21.3.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"ebbtiny-1.21.3.dist-info/RECORD":   "ebbtiny.py,,\nebbtiny-1.21.3.dist-info/METADATA,,\nebbtiny-1.21.3.dist-info/WHEEL,,\nebbtiny-1.21.3.dist-info/RECORD,,\n",
	} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func needVenv(t *testing.T, r *runner.Runner) {
	t.Helper()
	if !r.CanBuild(t.Context()) {
		t.Skip("this machine has no Python that jobs may run and that can make venvs")
	}
}

func TestPackagesBecomeAVenvThatIsMadeOnce(t *testing.T) {
	t.Parallel()
	d, w := data(t), wheels(t)
	r := newRunner(t, d, func(c *runner.Config) { c.Read = []string{w} })
	needVenv(t, r)
	for name, e := range map[string]queue.Environment{
		"pip":   {Name: "e", Python: "3.8.13", Pip: []string{"--no-index", "--find-links " + w, "ebbtiny"}},
		"conda": {Name: "e", Pip: []string{"--no-index", "--find-links=" + w}, Conda: []string{"python=3.8", "pip=20", "conda-forge::ebbtiny=1.21"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wg sync.WaitGroup
			logs := make([]bytes.Buffer, 3)
			for i := range logs { // all want it at once
				wg.Go(func() {
					o := order(`python -c 'import ebbtiny, sys; print(ebbtiny.word, sys.prefix)'; python3 -m pip --version; touch "$VIRTUAL_ENV/x" && echo got`)
					o.Task.Environment = e
					dir := filepath.Join(d, "nodes/n/attempts", uuid.NewString())
					if err := os.MkdirAll(filepath.Join(dir, "work"), 0o700); err != nil {
						t.Error(err)
						return
					}
					if _, err := r.Prepare(t.Context(), dir, o, &logs[i]); err != nil {
						t.Errorf("Prepare: %v\n%s", err, logs[i].String())
					}
				})
			}
			wg.Wait()
			built := 0
			for i := range logs {
				built += strings.Count(logs[i].String(), "Successfully installed")
			}
			if built == 0 || !strings.Contains(logs[0].String()+logs[1].String()+logs[2].String(), "ebbtiny") {
				t.Errorf("the build's log did not reach who waits: %q", logs[0].String())
			}
			o := order(`python -c 'import ebbtiny, sys; print(ebbtiny.word)'; python3 -m pip --version >&2; touch "$VIRTUAL_ENV/x" && echo got`)
			o.Task.Environment = e
			_, log := finish(t, begin(t, r, d, o))
			if !strings.Contains(log, "tiny works\n") || strings.Contains(log, "got\n") {
				t.Errorf("log %q", log)
			}
			if name == "pip" && !strings.Contains(logs[0].String()+logs[1].String()+logs[2].String(), "Python 3.8.13 was asked for") {
				t.Errorf("nothing was said about the Python: %q", logs[0].String())
			}
		})
	}
	found, _ := filepath.Glob(filepath.Join(d, "cache/envs/*.json"))
	t.Cleanup(func() {
		if found, _ = filepath.Glob(filepath.Join(d, "cache/envs/*.json")); len(found) != 2 {
			t.Errorf("%d environments were made, want 2: %v", len(found), found)
		}
	})
}

func TestAPackageThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	needVenv(t, r)
	for name, tt := range map[string]struct {
		env  queue.Environment
		want []string
	}{
		"of pip":   {queue.Environment{Name: "mine", Pip: []string{"--no-index", "ebb-no-such-package==2"}}, []string{"mine", "ebb-no-such-package==2"}},
		"of conda": {queue.Environment{Conda: []string{"ebb_no_such=11.3"}, Pip: []string{"--no-index"}}, []string{"conda package ebb_no_such=11.3", "same name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := order("true")
			o.Task.Environment = tt.env
			var log bytes.Buffer
			_, err := r.Prepare(t.Context(), t.TempDir(), o, &log)
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("Prepare = %v, want a fault\n%s", err, log.String())
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q lacks %q", err, w)
				}
			}
			if !strings.Contains(log.String(), "ERROR") {
				t.Errorf("log %q lacks pip's words", log.String())
			}
		})
	}
}
