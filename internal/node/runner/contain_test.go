package runner_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner"
)

// Without an engine: a job becomes a process where it may, and otherwise says why not.
func TestJobsWithoutAnEngine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		use   string
		image string
		want  string // in the refusal; empty: it becomes a process
	}{
		"auto makes an image's job a process":     {use: "auto", image: "python:3.11"},
		"auto leaves another alone":               {use: "auto"},
		"never makes all processes":               {use: "never", image: "python:3.11"},
		"required refuses a job without an image": {use: "required", want: "names no image"},
		"required refuses what it cannot run":     {use: "required", image: "python:3.11", want: "no container engine answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := data(t)
			r := newRunner(t, data, func(cfg *runner.Config) {
				cfg.Containers = runner.Containers{Use: c.use, Engine: filepath.Join(data, "none.sock"), Node: data}
			})
			dir := filepath.Join(data, "attempt")
			if err := os.MkdirAll(filepath.Join(dir, "work"), 0o755); err != nil {
				t.Fatal(err)
			}
			o := order("true")
			if o.Task.Environment.UserManaged = true; c.image != "" {
				o.Task.Environment.Image, o.Task.Container = c.image, &queue.Container{}
			}
			spec, err := r.Prepare(t.Context(), dir, o, io.Discard)
			switch f := (*fault.Error)(nil); {
			case c.want == "" && (err != nil || spec.Contained):
				t.Errorf("Prepare = contained %v, %v, want a process", spec.Contained, err)
			case c.want != "" && (!errors.As(err, &f) || !strings.Contains(f.Msg, c.want)):
				t.Errorf("Prepare: %v, want a refusal with %q", err, c.want)
			}
			if e := r.ContainerEngine(); e != "" {
				t.Errorf("the engine is %q, and there is none", e)
			}
		})
	}
}
