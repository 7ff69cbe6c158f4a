package gang_test

import (
	"fmt"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/gang"
)

func hosts(n int) []gang.Host {
	var out []gang.Host
	for i := range n {
		out = append(out, gang.Host{Node: fmt.Sprint("n", i), Address: fmt.Sprint("127.77.0.", i)})
	}
	return out
}

func TestEveryRankIsOnOneNode(t *testing.T) {
	t.Parallel()
	for _, s := range []gang.Spread{
		{}, {Kind: gang.MPI}, {Kind: gang.MPI, PerNode: 3}, {Kind: gang.PyTorch, PerNode: 2}, {Kind: gang.TensorFlow},
		{Kind: gang.TensorFlow, Servers: 2}, {Kind: gang.TensorFlow, Workers: 1, Servers: 1}, {Kind: gang.TensorFlow, Workers: 5, Servers: 3},
	} {
		for n := 1; n <= 4; n++ {
			at := map[int]int{}
			logs := map[string]bool{}
			for m := range n {
				p := s.Plan("run", hosts(n), m)
				for _, x := range p.Processes {
					if other, twice := at[x.Rank]; twice {
						t.Errorf("%+v on %d nodes: rank %d is on %d and on %d", s, n, x.Rank, other, m)
					}
					at[x.Rank], logs[x.Log] = m, true
				}
				serves := 0
				for _, x := range p.Processes {
					if x.Serves {
						serves++
					}
				}
				if leads := s.Leaders(n) == 0 || m < s.Leaders(n); s.Kind != gang.MPI && leads == (serves == len(p.Processes)) {
					t.Errorf("%+v on %d nodes: member %d leads %v with %d of %d that serve", s, n, m, leads, serves, len(p.Processes))
				}
			}
			if len(at) != s.World(n) || len(logs) != s.World(n) {
				t.Errorf("%+v on %d nodes: %d ranks and %d logs of %d", s, n, len(at), len(logs), s.World(n))
			}
			for rank := range s.World(n) {
				if _, ok := at[rank]; !ok {
					t.Errorf("%+v on %d nodes: nobody has rank %d", s, n, rank)
				}
			}
		}
	}
}

func TestWhatProcessesAreTold(t *testing.T) {
	t.Parallel()
	port := fmt.Sprint(gang.Port("run", 0))
	p := gang.Spread{Kind: gang.PyTorch, PerNode: 2}.Plan("run", hosts(3), 1).Processes[1]
	want := "map[LOCAL_RANK:1 MASTER_ADDR:127.77.0.0 MASTER_PORT:" + port + " NODE_RANK:1 RANK:3 WORLD_SIZE:6]"
	if got := fmt.Sprint(p.Variables); got != want || p.Log != "user_logs/std_log_process_3.txt" {
		t.Errorf("PyTorch tells %s in %s, want %s", got, p.Log, want)
	}
	tf := gang.Spread{Kind: gang.TensorFlow, Servers: 1}.Plan("run", hosts(2), 0)
	if len(tf.Processes) != 2 || !tf.Processes[1].Serves || tf.Processes[0].Serves {
		t.Fatalf("the first of two nodes has %+v, want a worker and a parameter server", tf.Processes)
	}
	cluster := fmt.Sprintf(`{"cluster":{"ps":["127.77.0.0:%d"],"worker":["127.77.0.0:%d","127.77.0.1:%d"]},"environment":"cloud","task":{"type":"ps","index":0}}`,
		gang.Port("run", 2), gang.Port("run", 0), gang.Port("run", 1))
	if got := tf.Processes[1].Variables["TF_CONFIG"]; got != cluster {
		t.Errorf("TF_CONFIG is %s, want %s", got, cluster)
	}
}

func TestWhoLeads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		s            gang.Spread
		nodes, leads int
		single       bool
	}{
		"mpirun's node leads":                        {s: gang.Spread{Kind: gang.MPI}, nodes: 3, leads: 1},
		"on one node there is nobody else":           {s: gang.Spread{Kind: gang.MPI, PerNode: 2}, nodes: 1},
		"every node of PyTorch's counts":             {s: gang.Spread{Kind: gang.PyTorch}, nodes: 3},
		"nodes with parameter servers alone serve":   {s: gang.Spread{Kind: gang.TensorFlow, Workers: 2, Servers: 1}, nodes: 3, leads: 2},
		"one process of MPI on one node is a single": {s: gang.Spread{Kind: gang.MPI, PerNode: 1}, nodes: 1, single: true},
		"one without a distribution is a single":     {nodes: 1, single: true},
		"a worker and a server are two":              {s: gang.Spread{Kind: gang.TensorFlow, Servers: 1}, nodes: 1},
	} {
		if got := c.s.Leaders(c.nodes); got != c.leads {
			t.Errorf("%s: %d lead, want %d", name, got, c.leads)
		}
		if got := c.s.Single(c.nodes); got != c.single {
			t.Errorf("%s: single is %v", name, got)
		}
	}
}
