package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/launch/rank"
)

// mpirun runs MPI's own launcher on the first member. Each rank is an "ebb rank";
// those of other members are started by mpirun's daemons, which "ebb rsh" brings.
func (m *member) mpirun(ctx context.Context) int {
	program, err := exec.LookPath("mpirun")
	if err != nil {
		return m.failed(rank.Failure{Code: 127, Setup: true, Message: "The job needs MPI, and there is no mpirun in its PATH (" + os.Getenv("PATH") +
			"). On nodes of Debian and Ubuntu: apt install openmpi-bin; or take an environment that brings one."})
	}
	inner, cancel := context.WithTimeout(ctx, 10*time.Second)
	version, err := exec.CommandContext(inner, program, "--version").CombinedOutput()
	cancel()
	if err != nil {
		return m.failed(rank.Failure{Code: 126, Setup: true, Message: fmt.Sprintf("%s --version does not work: %v: %s", program, err, version)})
	}
	cmd := exec.Command(program, arguments(m.spec, hydra(string(version)))...)
	cmd.Env = append(settings(m.spec, m.folder), os.Environ()...)
	said := &quieter{to: os.Stderr, over: ctx.Done()}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = os.Stdout, said, afterEnd
	if err := cmd.Start(); err != nil {
		return m.failed(rank.Failure{Code: 126, Setup: true, Message: fmt.Sprintf("%s cannot be started: %v.", program, err)})
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		said.flush()
		ended <- err
	}()
	select {
	case err := <-ended:
		select {
		case f := <-m.failures: // it says more than mpirun
			return m.failed(f)
		default:
		}
		return exitCode(err)
	case f := <-m.failures:
		said.mute.Store(true)
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(endWithin):
		}
		return m.failed(f)
	case <-ctx.Done():
		if m.spec.Forward {
			_ = cmd.Process.Signal(unix.SIGTERM)
		}
		<-ended // or the shim's patience ends
		return stopped
	}
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 1
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

// afterEnd is how long mpirun's output is still taken from what it left behind.
const afterEnd = time.Second

// quieter leaves out what mpirun says once it is being stopped, when it may crash
// of it, and a warning of Open MPI's that says nothing: it put its rsh into a group
// of its own after that had done so itself.
type quieter struct {
	to   io.Writer
	over <-chan struct{} // closed when it is being stopped
	mute atomic.Bool     // the same
	line []byte          // begun
}

func (q *quieter) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		q.line = append(q.line, line...)
		if line[len(line)-1] == '\n' {
			q.flush()
		}
	}
	return len(b), nil
}

// flush passes on a line, also one without an end.
func (q *quieter) flush() {
	line := q.line
	q.line = nil
	select {
	case <-q.over:
		return
	default:
	}
	if len(line) > 0 && !q.mute.Load() && !bytes.Contains(line, []byte("plm:rsh: Warning: setpgid(")) {
		_, _ = q.to.Write(line)
	}
}

// hydra reports whether an mpirun is MPICH's or Intel's; else it is Open MPI's.
func hydra(version string) bool {
	v := strings.ToLower(version)
	return strings.Contains(v, "hydra") || strings.Contains(v, "intel(r) mpi")
}

// arguments of mpirun.
func arguments(s rank.Spec, hydra bool) []string {
	var names, slots []string
	for _, h := range s.Hosts {
		name := h.Address
		switch {
		case len(s.Hosts) == 1:
			name = "localhost"
		case s.Names:
			name = h.Node
		}
		names = append(names, name)
		slots = append(slots, name+":"+strconv.Itoa(s.World/len(s.Hosts)))
	}
	// The folder of the job has another name on each node where there are no mounts.
	if hydra {
		return []string{"-n", strconv.Itoa(s.World), "-hosts", strings.Join(slots, ","), "-wdir", "/", s.Exe, "rank"}
	}
	return []string{"-np", strconv.Itoa(s.World), "--map-by", "slot", "--host", strings.Join(slots, ","), "-wdir", "/", s.Exe, "rank"}
}

// settings let Open MPI (4, and 5 with its PRRTE), MPICH and Intel MPI come to the
// other members by "ebb rsh", and live with several nodes on one machine. What the
// job's own variables say goes over it.
func settings(s rank.Spec, folder string) []string {
	v := map[string]string{
		"OMPI_MCA_plm_rsh_agent": folder + "/rsh", "OMPI_MCA_plm_rsh_no_tree_spawn": "1", "OMPI_MCA_orte_startup_timeout": "600", "OMPI_MCA_orte_leave_session_attached": "1",
		"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", // what it may do is its world's to say
		"PRTE_MCA_plm_ssh_agent": folder + "/rsh", "PRTE_MCA_plm_ssh_no_tree_spawn": "1", "PRTE_MCA_prte_leave_session_attached": "1",
		"PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
		"HYDRA_LAUNCHER": "rsh", "HYDRA_LAUNCHER_EXEC": folder + "/rsh",
		"I_MPI_HYDRA_BOOTSTRAP": "rsh", "I_MPI_HYDRA_BOOTSTRAP_EXEC": folder + "/rsh",
	}
	if s.Loopback() {
		for _, name := range []string{"OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include", "PRTE_MCA_oob_tcp_if_include", "HYDRA_IFACE", "I_MPI_HYDRA_IFACE"} {
			v[name] = "lo"
		}
		// Each node believes that all processors are its own.
		v["OMPI_MCA_hwloc_base_binding_policy"], v["PRTE_MCA_hwloc_default_binding_policy"], v["OMPI_MCA_mpi_yield_when_idle"] = "none", "none", "1"
	}
	var out []string
	for name, value := range v {
		out = append(out, name+"="+value)
	}
	return out
}
