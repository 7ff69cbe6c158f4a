package compat_test

import (
	"syscall"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestJobs runs jobs of SDK v2 that need a server's nodes: one server, so that
// an environment is made once.
func TestJobs(t *testing.T) {
	t.Parallel()
	v2 := ready(t, "venv", "v2")
	s := testkit.Serve(t, testkit.Env("PIP_COMPILE=0")) // half the time
	t.Run("01_mlflow_inside.py", func(t *testing.T) {
		file := path("jobs", "01_mlflow_inside.py")
		newUser(t, s).do(file, testkit.Binary(t), "exec", "--", v2, file)
	})
	t.Run("03_mlflow_alone.py", func(t *testing.T) {
		file := path("jobs", "03_mlflow_alone.py")
		newUser(t, s).do(file, testkit.Binary(t), "exec", "--", v2, file)
	})
	t.Run("02_node_loss.py", func(t *testing.T) {
		u := newUser(t, s)
		u.meanwhile(func() {
			for what, pids := range map[string]map[string]int{"agents": s.Agents(), "shims": s.Shims()} {
				if len(pids) == 0 {
					t.Errorf("a node with a job has no %s", what)
				}
				for _, pid := range pids {
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Errorf("kill %d: %v", pid, err)
					}
				}
			}
		}, v2, path("jobs", "02_node_loss.py"))
	})
}

// TestMLflowCustomCloud runs MLflow without "ebb exec": azureml-mlflow learns of
// the cloud by its metadata, and files travel by the server's own name.
func TestMLflowCustomCloud(t *testing.T) {
	t.Parallel()
	v2 := ready(t, "venv", "v2")
	u := newUser(t, testkit.Serve(t, testkit.OnPath()))
	u.do("30_mlflow.py", "sh", "-ec", `eval "$(ebb env --custom-cloud)"; exec "$0" "$1"`, v2, path("sdkv2", "30_mlflow.py"))
}
