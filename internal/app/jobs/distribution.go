package jobs

import (
	"maps"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Bounds of what is a mistake rather than a wish.
const (
	maxPerNode = 1000
	maxInAll   = 100_000
)

// kindOf takes the names of ARM and of SDK v1's communicators.
func kindOf(name string) (gang.Kind, bool) {
	switch strings.ToLower(name) {
	case "":
		return gang.Alone, true
	case "mpi", "intelmpi", "openmpi":
		return gang.MPI, true
	case "pytorch", "nccl", "gloo":
		return gang.PyTorch, true
	case "tensorflow", "parameterserver":
		return gang.TensorFlow, true
	}
	return "", false
}

func isKind(name string, k gang.Kind) bool {
	is, ok := kindOf(name)
	return ok && is == k
}

// processes checks a number of processes; none means 1.
func processes(where string, n *int) (int, error) {
	if n == nil {
		return 1, nil
	}
	if *n < 1 || *n > maxPerNode {
		return 0, fault.Coded(fault.Invalid, "InvalidPropertyValue", where, "%s is %d; it must lie between 1 and %d.", where, *n, maxPerNode)
	}
	return *n, nil
}

// evenly deals a number of processes out to nodes.
func evenly(where string, n *int, nodes int) (int, error) {
	if n == nil {
		return 1, nil
	}
	nodes = max(nodes, 1)
	if *n < 1 || *n > maxPerNode*nodes {
		return 0, fault.Coded(fault.Invalid, "InvalidPropertyValue", where, "%s is %d; it must lie between 1 and %d.", where, *n, maxPerNode*nodes)
	}
	if *n%nodes != 0 {
		return 0, fault.Coded(fault.Invalid, "InvalidPropertyValue", where,
			"%s is %d, which %d nodes cannot share evenly; it is the number of processes of all nodes.", where, *n, nodes)
	}
	return *n / nodes, nil
}

// tasks checks TensorFlow's numbers: of workers, where none means as many as
// nodes (0 here), and of parameter servers.
func tasks(at string, workers, servers *int) (w, s int, err error) {
	if workers != nil {
		if w = *workers; w < 1 || w > maxInAll {
			return 0, 0, fault.Coded(fault.Invalid, "InvalidPropertyValue", at+"workerCount", "%sworkerCount is %d; it must lie between 1 and %d.", at, w, maxInAll)
		}
	}
	if servers != nil {
		if s = *servers; s < 0 || s > maxInAll {
			return 0, 0, fault.Coded(fault.Invalid, "InvalidPropertyValue", at+"parameterServerCount", "%sparameterServerCount is %d; it must lie between 0 and %d.", at, s, maxInAll)
		}
	}
	return w, s, nil
}

// spread is how a run's processes lie on its nodes.
func (in *Submission) spread() (gang.Spread, error) {
	kind, ok := kindOf(in.Distributed)
	if !ok {
		return gang.Spread{}, fault.New(fault.Unsupported, "distribution", "The feature \"the distribution %s\" is not built; Mpi, PyTorch and TensorFlow are.", in.Distributed)
	}
	s := gang.Spread{Kind: kind}
	switch kind {
	case gang.MPI, gang.PyTorch:
		s.PerNode = in.Processes
	case gang.TensorFlow:
		s.Workers, s.Servers = in.Workers, in.Servers
	case gang.Alone:
	}
	if n := s.World(in.Nodes); n < in.Nodes {
		return s, fault.Coded(fault.Invalid, "InvalidPropertyValue", "distribution",
			"The job has %d nodes and %d processes, workers and parameter servers together: some nodes would have nothing to do. Ask for %d nodes.", in.Nodes, n, n)
	}
	return s, nil
}

// fits refuses what the cluster could never start.
func fits(c fleet.Cluster, in Submission) error {
	if in.Nodes > c.Max {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "nodeCount", "The job needs %d nodes, and the compute %q has at most %d.", in.Nodes, c.Name, c.Max)
	}
	switch {
	case in.Nodes <= 1:
	case c.Isolated:
		return fault.Coded(fault.Invalid, "InterNodeCommunicationDisabled", "nodeCount",
			"The job needs %d nodes that reach each other, and the compute %q was made without communication between nodes (isolatedNetwork). Choose another compute, or 1 node.", in.Nodes, c.Name)
	case c.Max > fleet.MostInTouch:
		return fault.Coded(fault.Invalid, "InterNodeCommunicationDisabled", "nodeCount",
			"The job needs %d nodes that reach each other, and the compute %q may have %d: above %d there is no communication between nodes. Choose another compute, or 1 node.", in.Nodes, c.Name, c.Max, fleet.MostInTouch)
	}
	return nil
}

// surroundings are the variables of the job's processes: the user's, and below
// them what the launcher of its distribution tells one process that is alone
// (Microsoft's "Distributed GPU training guide", and what mpirun sets).
func (in *Submission) surroundings(s gang.Spread) map[string]string {
	if !s.Single(in.Nodes) {
		return in.Variables
	}
	var told map[string]string
	port := strconv.Itoa(gang.Port(in.Name, 0))
	switch s.Kind {
	case gang.MPI:
		told = map[string]string{
			"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1",
			"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
		}
	case gang.PyTorch:
		told = map[string]string{
			"RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "1",
			"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
		}
	case gang.TensorFlow:
		told = s.Plan(in.Name, make([]gang.Host, 1), 0).Processes[0].Variables
	case gang.Alone:
		return in.Variables
	}
	maps.Copy(told, in.Variables)
	return told
}
