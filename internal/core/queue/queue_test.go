package queue_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

func TestMoves(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to queue.State
		want     bool
	}{
		"a run waits before it starts":           {queue.Queued, queue.Starting, true},
		"a run does not skip its nodes":          {queue.Queued, queue.Running, false},
		"a run without an environment may start": {queue.Starting, queue.Running, true},
		"a lost node sends a run back":           {queue.Running, queue.Queued, true},
		"an end is not taken back":               {queue.Completed, queue.Queued, false},
		"a cancelled run stays cancelled":        {queue.Canceled, queue.Running, false},
		"outputs come after the process":         {queue.Finalizing, queue.Running, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := queue.CanMove(tc.from, tc.to); got != tc.want {
				t.Errorf("CanMove(%s, %s) = %v, want %v", tc.from, tc.to, got, tc.want)
			}
		})
	}
}

func TestNothingFollowsTheEnd(t *testing.T) {
	t.Parallel()
	for from, moves := range queue.Moves() {
		if from.Final() && len(moves) > 0 {
			t.Errorf("%s is final and may become %v", from, moves)
		}
		if !from.Final() && !slices.Contains(moves, queue.Canceled) {
			t.Errorf("a run that is %s cannot be cancelled", from)
		}
	}
}

func TestBefore(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct{ first, second queue.Run }{
		"a higher priority comes first":           {queue.Run{ID: "z", Priority: 1, Submitted: at.Add(time.Hour)}, queue.Run{ID: "a", Submitted: at}},
		"then who was submitted earlier":          {queue.Run{ID: "z", Submitted: at}, queue.Run{ID: "a", Submitted: at.Add(1)}},
		"then the lower id, so that none is tied": {queue.Run{ID: "a", Submitted: at}, queue.Run{ID: "b", Submitted: at}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !queue.Before(tc.first, tc.second) || queue.Before(tc.second, tc.first) {
				t.Errorf("Before(%+v, %+v) must hold, and not the other way round", tc.first, tc.second)
			}
		})
	}
}

func TestHotUntilItEnds(t *testing.T) {
	t.Parallel()
	for from := range queue.Moves() {
		if hot := (queue.Status{State: from}).Hot(); hot == from.Final() {
			t.Errorf("status %s: hot is %v", from, hot)
		}
	}
	if (queue.Attempt{Phase: queue.Ended}).Hot() || !(queue.Attempt{Phase: queue.InFinalizing}).Hot() {
		t.Error("an attempt is hot until it has ended, and not after")
	}
}

// A task is kept as JSON: what is written must be what is read.
func TestTaskSurvivesJSON(t *testing.T) {
	t.Parallel()
	want := queue.Task{
		Run: "r", Name: "n", Command: "echo", Arguments: []string{"a b", ""}, Variables: map[string]string{"K": "v"}, TimeLimit: time.Hour,
		Environment: queue.Environment{Python: "3.8", Pip: []string{"x==1"}, UserManaged: true},
	}
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got queue.Task
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil || string(again) != string(body) || got.TimeLimit != want.TimeLimit || !slices.Equal(got.Arguments, want.Arguments) {
		t.Errorf("%s, want %s (%v)", again, body, err)
	}
}

// Fences rise from life to life, and are above the nanoseconds that they were once.
func TestFencesRiseWithTheTerm(t *testing.T) {
	t.Parallel()
	last := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	for _, term := range []int64{1, 2, 3, 1 << 20, 1<<20 + 1, 1 << 30} {
		first := queue.FenceBefore(term)
		if first < last {
			t.Errorf("term %d begins at %d, below %d of the life before", term, first, last)
		}
		last = first + 1<<31 // attempts of that life
	}
}
