package fleet_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

const page = "../../../docs/states.md"

// TestStatesPage prints the tables of legal moves and compares them with the
// page. Run with -update and read the diff.
func TestStatesPage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`# States

Printed from the tables in ` + "`internal/core/fleet` and `internal/core/queue`" + ` by a test; to change a
picture, change the table and run ` + "`go test ./internal/core/fleet -update`" + `.
A move that the tables lack is refused: core/pool stops at it.

## A node

Launching lasts until the agent says hello. Draining may be taken back; Removing may not: it is recorded only after
the agent said that it is empty, or where the engine is to prove that nothing is left. A gone node's row is dropped.

`)
	order := []fleet.NodeState{fleet.Launching, fleet.Idle, fleet.Busy, fleet.Draining, fleet.Unusable, fleet.Preempted, fleet.Removing, fleet.Gone}
	if len(order) != len(fleet.Moves()) {
		t.Fatalf("the page shows %d states, the table has %d", len(order), len(fleet.Moves()))
	}
	picture(&b, order, fleet.Moves(), func(s fleet.NodeState) bool { return s == fleet.Gone })
	b.WriteString("\n| node | nodeState of listNodes |\n|---|---|\n")
	for _, s := range order {
		fmt.Fprintf(&b, "| %s | %s |\n", s, s.Azure())
	}
	b.WriteString(`
## A run

Starting to Finalizing follow the attempt's slowest member. A run whose node was lost goes back to Queued as the same run,
up to its number of attempts. CancelRequested is what clients are shown of a run that is to end and has not yet.

`)
	runs := []queue.State{queue.NotStarted, queue.Queued, queue.Starting, queue.Preparing, queue.Running, queue.Finalizing, queue.Completed, queue.Failed, queue.Canceled}
	picture(&b, runs, queue.Moves(), queue.State.Final)
	b.WriteString(`
## An attempt

Phases only go forward, and may be skipped. Each member, one for each node of a gang, has a phase of its own; the attempt's is
that of the member furthest behind. It has ended when all members have. None goes on from prepared before all have come so far.

`)
	phases := []queue.Phase{queue.Placed, queue.InPreparing, queue.Prepared, queue.InRunning, queue.InFinalizing, queue.Ended}
	forward := map[queue.Phase][]queue.Phase{}
	for i, p := range phases {
		if p.Rank() != i {
			t.Errorf("rank of %s is %d, want %d", p, p.Rank(), i)
		}
		forward[p] = phases[i+1:]
	}
	picture(&b, phases, forward, func(p queue.Phase) bool { return p == queue.Ended })

	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Errorf("docs/states.md is not what the tables say; run go test ./internal/core/fleet -update and read the diff")
	}
}

// picture writes a Mermaid diagram of the moves between states.
func picture[S ~string](b *strings.Builder, order []S, moves map[S][]S, final func(S) bool) {
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	fmt.Fprintf(b, "    [*] --> %s\n", order[0])
	for _, from := range order {
		for _, to := range moves[from] {
			fmt.Fprintf(b, "    %s --> %s\n", from, to)
		}
		if final(from) {
			fmt.Fprintf(b, "    %s --> [*]\n", from)
		}
	}
	b.WriteString("```\n")
}
