// Package gang says which processes a job of several has: on which of its nodes
// each is, what it is told of the others, and whose end is the end of all. The
// variables are those of Microsoft's "Distributed GPU training guide".
//
// Start at [Spread.Plan].
package gang

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
)

// Kind is how the processes of a job find each other.
type Kind string

// The kinds. Alone has one process on each node, which are told of no one.
const (
	Alone      Kind = ""
	MPI        Kind = "mpi"        // mpirun on the first node starts them
	PyTorch    Kind = "pytorch"    // each is started by its node
	TensorFlow Kind = "tensorflow" // workers, and servers of their parameters
)

// Spread is how a job's processes lie on its nodes. The zero Spread is one
// process on each node.
type Spread struct {
	Kind    Kind `json:"kind,omitempty"`
	PerNode int  `json:"perNode,omitempty"` // MPI and PyTorch; 0: 1
	Workers int  `json:"workers,omitempty"` // TensorFlow; 0: as many as nodes
	Servers int  `json:"servers,omitempty"` // TensorFlow: parameter servers
}

// Host is a node of the job, as the others reach it.
type Host struct {
	Node    string `json:"node"`    // id, which is its name inside the job
	Address string `json:"address"` // IPv4; empty: its agent has none, and it has no others to reach
}

// Process is one process of a member.
type Process struct {
	Rank      int               `json:"rank"`
	Variables map[string]string `json:"variables,omitempty"`
	Log       string            `json:"log"`              // as "user_logs/std_log_process_3.txt"
	Serves    bool              `json:"serves,omitempty"` // it is ended when all that do not serve have ended well
}

// Plan is one member's share.
type Plan struct {
	Kind      Kind      `json:"kind,omitempty"`
	Hosts     []Host    `json:"hosts"` // all members, in order
	Member    int       `json:"member"`
	World     int       `json:"world"` // processes of all members
	Processes []Process `json:"processes"`
	Port      int       `json:"port"`  // first of those that are the job's
	Check     int       `json:"check"` // first of a few on which its nodes look whether they reach each other
}

// Ports from which a job's own are taken, by its name: Azure says 6105 and 2222
// on every node, but these nodes may share a machine, and two jobs cannot share a
// port. The range ends below the ports that kernels give away themselves.
const (
	firstPort = 6105
	ports     = 20_000
)

// Port is the nth port of a run.
func Port(run string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(run))
	return firstPort + (int(h.Sum32()%ports)+n)%ports
}

// Single reports whether a job of so many nodes is one process.
func (s Spread) Single(nodes int) bool { return nodes <= 1 && s.World(nodes) == 1 }

// World is how many processes there are on so many nodes.
func (s Spread) World(nodes int) int {
	switch s.Kind {
	case MPI, PyTorch:
		return max(nodes, 1) * max(s.PerNode, 1)
	case TensorFlow:
		return s.workers(nodes) + s.Servers
	}
	return max(nodes, 1)
}

func (s Spread) workers(nodes int) int {
	if s.Workers > 0 {
		return s.Workers
	}
	return max(nodes, 1)
}

// Leaders is how many members, the first ones, end a gang when they have ended
// well; the others serve them. 0: all.
func (s Spread) Leaders(nodes int) int {
	n := nodes
	switch s.Kind {
	case MPI:
		n = 1
	case TensorFlow:
		n = s.workers(nodes)
	}
	if n >= nodes {
		return 0
	}
	return n
}

// LogName names a process's log as Azure does: SDKs stream std_log.txt, or the
// process log numbered 0.
func (s Spread) LogName(nodes, rank int) string {
	if s.Single(nodes) {
		return "user_logs/std_log.txt"
	}
	return "user_logs/std_log_process_" + strconv.Itoa(rank) + ".txt"
}

// Plan is the share of a member of a run.
func (s Spread) Plan(run string, hosts []Host, member int) Plan {
	n := len(hosts)
	p := Plan{Kind: s.Kind, Hosts: hosts, Member: member, World: s.World(n), Port: Port(run, 0), Check: Port(run, ports/2)}
	each := 1
	if s.Kind == MPI || s.Kind == PyTorch {
		each = max(s.PerNode, 1)
	}
	if s.Kind == TensorFlow {
		p.Processes = s.tensorflow(run, hosts, member)
	} else {
		for local := range each {
			rank := member*each + local
			p.Processes = append(p.Processes, Process{Rank: rank, Variables: s.told(p, rank, local)})
		}
	}
	for i := range p.Processes {
		p.Processes[i].Log = s.LogName(n, p.Processes[i].Rank)
	}
	return p
}

// told is what a process learns of itself and the others. mpirun tells its own.
func (s Spread) told(p Plan, rank, local int) map[string]string {
	if s.Kind != PyTorch {
		return nil
	}
	return map[string]string{
		"MASTER_ADDR": address(p.Hosts[0]), "MASTER_PORT": strconv.Itoa(p.Port), "WORLD_SIZE": strconv.Itoa(p.World),
		"NODE_RANK": strconv.Itoa(p.Member), "RANK": strconv.Itoa(rank), "LOCAL_RANK": strconv.Itoa(local),
	}
}

// address is where a host is reached; a single one reaches itself.
func address(h Host) string {
	if h.Address == "" {
		return "127.0.0.1"
	}
	return h.Address
}

// tensorflow deals the workers out first, then the parameter servers, to nodes
// without a worker where there are any.
func (s Spread) tensorflow(run string, hosts []Host, member int) []Process {
	type task struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
	}
	n, workers := len(hosts), s.workers(len(hosts))
	cluster := map[string][]string{}
	var mine []Process
	var tasks []task
	for i := range workers + s.Servers {
		t, at := task{"worker", i}, i%n
		if i >= workers {
			t = task{"ps", i - workers}
			if at = t.Index % n; workers < n {
				at = workers + t.Index%(n-workers)
			}
		}
		cluster[t.Type] = append(cluster[t.Type], fmt.Sprintf("%s:%d", address(hosts[at]), Port(run, i)))
		if at == member {
			mine = append(mine, Process{Rank: i, Serves: t.Type == "ps"})
			tasks = append(tasks, t)
		}
	}
	for i, t := range tasks {
		text, err := json.Marshal(map[string]any{"cluster": cluster, "task": t, "environment": "cloud"})
		if err != nil {
			panic("gang: TF_CONFIG cannot be written: " + err.Error()) // texts and numbers always can
		}
		mine[i].Variables = map[string]string{"TF_CONFIG": string(text)}
	}
	return mine
}
