package fleet_test

import (
	"flag"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/fleet"
)

var update = flag.Bool("update", false, "rewrite the pictures in docs/states.md")

func TestMoves(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to fleet.NodeState
		want     bool
	}{
		"a node starts before it works":            {fleet.Launching, fleet.Idle, true},
		"a node that starts has no work":           {fleet.Launching, fleet.Busy, false},
		"a drain can be taken back":                {fleet.Draining, fleet.Idle, true},
		"a removal cannot be taken back":           {fleet.Removing, fleet.Idle, false},
		"a removal ends in nothing":                {fleet.Removing, fleet.Gone, true},
		"a busy node is not drained":               {fleet.Busy, fleet.Draining, false},
		"a draining node gets no work as it is":    {fleet.Draining, fleet.Busy, false},
		"a silent node comes back to its work":     {fleet.Unusable, fleet.Busy, true},
		"a silent node is not forgotten unremoved": {fleet.Unusable, fleet.Gone, false},
		"gone is for good":                         {fleet.Gone, fleet.Launching, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := fleet.CanMove(tc.from, tc.to); got != tc.want {
				t.Errorf("CanMove(%s, %s) = %v, want %v", tc.from, tc.to, got, tc.want)
			}
		})
	}
}

// Every state but Gone leads to Gone in the end: no node stays for ever.
func TestEveryNodeCanGo(t *testing.T) {
	t.Parallel()
	for from := range fleet.Moves() {
		reached := map[fleet.NodeState]bool{from: true}
		todo := []fleet.NodeState{from}
		for len(todo) > 0 {
			s := todo[0]
			todo = todo[1:]
			for _, to := range fleet.Moves()[s] {
				if !reached[to] {
					reached[to] = true
					todo = append(todo, to)
				}
			}
		}
		if !reached[fleet.Gone] {
			t.Errorf("%s never leads to %s", from, fleet.Gone)
		}
	}
}
