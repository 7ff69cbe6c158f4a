package nodes_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// two gives the run of a bench two nodes; addresses may be missing.
func (b *bench) two(addresses ...string) {
	a := attempt(1, queue.InPreparing)
	a.Members = []queue.Member{{Node: "gpu-0", Phase: queue.InPreparing}, {Node: "gpu-1", Phase: queue.InPreparing}}
	for i, address := range addresses {
		b.apply(row.Put(fleet.Node{ID: fmt.Sprint("gpu-", i), Cluster: cluster, State: fleet.Busy, Attempt: "r.1", Address: address}))
	}
	b.apply(row.Put(a))
}

func (b *bench) order(t *testing.T, node string) (o nodeproto.Order) {
	t.Helper()
	code, body := b.ask(t, "node:"+node, "GET", "attempts/r.1/task?fence=11", "")
	if err := json.Unmarshal([]byte(body), &o); code != 200 || err != nil {
		t.Fatalf("%s asks for its order: %d %s, %v", node, code, body, err)
	}
	return o
}

func TestEachMemberHasItsShareOfAGang(t *testing.T) {
	t.Parallel()
	b := open(t)
	b.task.Spread = gang.Spread{Kind: gang.PyTorch, PerNode: 2}
	b.two("127.77.0.1", "127.77.0.2")
	for i, node := range []string{"gpu-0", "gpu-1"} {
		o := b.order(t, node)
		if o.Gang == nil || o.Gang.Member != i || len(o.Gang.Hosts) != 2 || o.Gang.World != 4 || len(o.Gang.Processes) != 2 {
			t.Fatalf("%s is given %+v", node, o.Gang)
		}
		p := o.Gang.Processes[1]
		if p.Rank != 2*i+1 || p.Variables["MASTER_ADDR"] != "127.77.0.1" || o.LogName != fmt.Sprintf("user_logs/std_log_process_%d.txt", 2*i) {
			t.Errorf("%s is given %+v, and logs to %s", node, p, o.LogName)
		}
		for name, want := range map[string]string{
			"AZ_BATCH_NODE_LIST": "127.77.0.1;127.77.0.2", "AZ_BATCH_HOST_LIST": "127.77.0.1,127.77.0.2", "AZ_BATCH_MASTER_NODE": "127.77.0.1:6000",
			"AZ_BATCHAI_MPI_MASTER_NODE": "127.77.0.1", "AZ_BATCHAI_TASK_INDEX": fmt.Sprint(i), "CCP_NODES": "2 127.77.0.1 6 127.77.0.2 6",
			"AZUREML_NODE_COUNT": "2", "AZUREML_CR_NODE_RANK": fmt.Sprint(i), "AZ_BATCH_IS_CURRENT_NODE_MASTER": fmt.Sprint(i == 0),
			"AZUREML_CR_DISTRIBUTED_CONFIG": `{"host_list":["127.77.0.1","127.77.0.2"]}`,
		} {
			if got := o.Variables[name]; got != want {
				t.Errorf("%s on %s is %q, want %q", name, node, got, want)
			}
		}
	}
}

func TestOneProcessIsNoGang(t *testing.T) {
	t.Parallel()
	b := open(t)
	b.task.Spread = gang.Spread{Kind: gang.MPI, PerNode: 1}
	o := b.order(t, "gpu-0")
	if o.Gang != nil || o.LogName != "user_logs/std_log.txt" || o.Variables["AZ_BATCH_NODE_LIST"] != "" || o.Variables["AZ_BATCHAI_MPI_MASTER_NODE"] != "127.0.0.1" {
		t.Errorf("a single process is given %+v, logs to %s, and is told %v", o.Gang, o.LogName, o.Variables)
	}
}

// An agent from before gangs has no address, and would not wait for the others.
func TestANodeWithoutAnAddressTakesNoPartInAGang(t *testing.T) {
	t.Parallel()
	b := open(t)
	b.two("127.77.0.1", "")
	if code, body := b.ask(t, "node:gpu-0", "GET", "attempts/r.1/task?fence=11", ""); code != 400 || !strings.Contains(body, "gpu-1") {
		t.Errorf("%d %s, want a refusal that names the node", code, body)
	}
}
