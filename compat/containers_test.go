package compat_test

import (
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestContainers runs jobs in containers of a real Docker, by both SDKs and by az's
// words: one server, so that its nodes are started once.
func TestContainers(t *testing.T) {
	t.Parallel()
	d := testkit.StartDocker(t)
	s := testkit.Serve(t, testkit.Contain(d), testkit.OnPath())
	for file, python := range map[string]string{"01_v2.py": ready(t, "venv", "v2"), "02_v1.py": python(t)} {
		t.Run(file, func(t *testing.T) {
			newUser(t, s).do(file, testkit.Binary(t), "exec", "--", python, path("containers", file), d.Image)
		})
	}
}
