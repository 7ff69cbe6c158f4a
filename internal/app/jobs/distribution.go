package jobs

import (
	"hash/fnv"
	"maps"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Ports on which PyTorch's one process may wait for others that never come. Azure
// says 6105 on every node; Ebb's nodes share a machine, and two jobs cannot share
// a port. The range ends below the ports that kernels give away themselves.
const (
	firstPort = 6105
	ports     = 20_000
)

// isMPI takes the names of ARM and of SDK v1's communicators.
func isMPI(name string) bool {
	switch strings.ToLower(name) {
	case "mpi", "intelmpi", "openmpi":
		return true
	}
	return false
}

func isPyTorch(name string) bool {
	switch strings.ToLower(name) {
	case "pytorch", "nccl", "gloo":
		return true
	}
	return false
}

// processes checks a number of processes; none means 1.
func processes(where string, n *int) (int, error) {
	if n == nil {
		return 1, nil
	}
	if *n < 1 {
		return 0, fault.Coded(fault.Invalid, "InvalidPropertyValue", where, "%s is %d; it must be at least 1.", where, *n)
	}
	return *n, nil
}

// alone refuses every distribution but that of one process, which is what a job
// is without any.
func (in *Submission) alone() error {
	switch {
	case in.Distributed == "":
		return nil
	case !isMPI(in.Distributed) && !isPyTorch(in.Distributed):
		return fault.New(fault.Unsupported, "distribution", "The feature \"multi-node jobs\" is not built yet, and with it the distribution %q; leave it out.", in.Distributed)
	case in.Processes > 1:
		return fault.New(fault.Unsupported, "distribution", "The feature \"multi-node jobs\" is not built yet, and with it the distribution %q over %d processes; ask for 1.", in.Distributed, in.Processes)
	}
	return nil
}

// surroundings are the variables of the job's process: the user's, and what the
// launcher of its distribution tells the first of one process (Microsoft's
// "Distributed GPU training guide", and what mpirun sets).
func (in *Submission) surroundings() map[string]string {
	var told map[string]string
	switch {
	case isMPI(in.Distributed):
		told = map[string]string{
			"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1",
			"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
		}
	case isPyTorch(in.Distributed):
		told = map[string]string{
			"RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "1",
			"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": strconv.Itoa(port(in.Name)),
		}
	default:
		return in.Variables
	}
	maps.Copy(told, in.Variables)
	return told
}

// port spreads runs over the ports by their names.
func port(run string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(run))
	return firstPort + int(h.Sum32()%ports)
}
