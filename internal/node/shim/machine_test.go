package shim_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func verbs(effects []shim.Effect) []shim.Verb {
	var out []shim.Verb
	for _, e := range effects {
		out = append(out, e.Verb)
	}
	return out
}

func TestMachine(t *testing.T) {
	t.Parallel()
	begun := shim.Event{Started: true, At: t0}
	ended := shim.Event{Exited: true, Code: 143, At: t0.Add(time.Second)}
	empty := shim.Event{Empty: true, At: t0.Add(2 * time.Second)}
	tests := map[string]struct {
		limit  time.Duration
		events []shim.Event
		want   []shim.Verb
		cause  queue.Cause
	}{
		"an exit kills what is left, and then it is over":       {0, []shim.Event{begun, ended, empty}, []shim.Verb{shim.Kill, shim.Finish}, queue.ByExit},
		"each death while killing kills what it left behind":    {0, []shim.Event{begun, ended, {Reaped: true}, empty}, []shim.Verb{shim.Kill, shim.Kill, shim.Finish}, queue.ByExit},
		"a death while running is nothing":                      {0, []shim.Event{begun, {Reaped: true}}, nil, ""},
		"a stop terminates, and kills after the grace":          {0, []shim.Event{begun, {Stop: queue.ByCancel}, {Overdue: true}, ended, empty}, []shim.Verb{shim.Terminate, shim.ArmGrace, shim.Kill, shim.Kill, shim.Finish}, queue.ByCancel},
		"a stop that comes again terminates once":               {0, []shim.Event{begun, {Stop: queue.ByCancel}, {Stop: queue.ByCancel}, ended, empty}, []shim.Verb{shim.Terminate, shim.ArmGrace, shim.ArmGrace, shim.Kill, shim.Finish}, queue.ByCancel},
		"a cancel wins over a preemption that stops it already": {0, []shim.Event{begun, {Stop: queue.ByPreemption}, {Stop: queue.ByCancel}, ended, empty}, []shim.Verb{shim.Terminate, shim.ArmGrace, shim.ArmGrace, shim.Kill, shim.Finish}, queue.ByCancel},
		"a preemption does not win over a cancel":               {0, []shim.Event{begun, {Stop: queue.ByCancel}, {Stop: queue.ByPreemption}, ended, empty}, []shim.Verb{shim.Terminate, shim.ArmGrace, shim.ArmGrace, shim.Kill, shim.Finish}, queue.ByCancel},
		"a stop after the exit changes nothing":                 {0, []shim.Event{begun, ended, {Stop: queue.ByCancel}, empty}, []shim.Verb{shim.Kill, shim.Finish}, queue.ByExit},
		"a time limit is armed, and stops":                      {time.Minute, []shim.Event{begun, {Timeout: true}, ended, empty}, []shim.Verb{shim.ArmTimeout, shim.Terminate, shim.ArmGrace, shim.Kill, shim.Finish}, queue.ByTimeout},
		"an old grace does nothing after the exit":              {0, []shim.Event{begun, {Stop: queue.ByCancel}, ended, {Overdue: true}, empty}, []shim.Verb{shim.Terminate, shim.ArmGrace, shim.Kill, shim.Finish}, queue.ByCancel},
		"after the end nothing happens":                         {0, []shim.Event{begun, ended, empty, ended, {Stop: queue.ByCancel}, empty}, []shim.Verb{shim.Kill, shim.Finish}, queue.ByExit},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := shim.Machine{TimeLimit: tt.limit}
			var got []shim.Verb
			for _, e := range tt.events {
				got = append(got, verbs(m.Step(e))...)
			}
			if !slices.Equal(got, tt.want) || m.Exit.Cause != tt.cause {
				t.Errorf("got %v by %q, want %v by %q", got, m.Exit.Cause, tt.want, tt.cause)
			}
		})
	}
}

// Whatever comes in whatever order: SIGTERM at most once and never after a kill,
// Finish once and last and only when nothing is left, and the cause never weakens.
func TestMachineKeepsItsPromises(t *testing.T) {
	t.Parallel()
	causes := []queue.Cause{queue.ByCancel, queue.ByTimeout, queue.ByPreemption, queue.ByNodeLoss}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := shim.Machine{TimeLimit: time.Duration(r.IntN(2)) * time.Hour}
		m.Step(shim.Event{Started: true, At: t0})
		var terminated, killed, finished, dead bool
		at := t0
		for range 30 {
			at = at.Add(time.Duration(r.IntN(1000)) * time.Millisecond)
			e := shim.Event{At: at}
			switch n := r.IntN(6); {
			case n == 0:
				e.Stop, e.Grace = causes[r.IntN(len(causes))], time.Second
			case n == 1:
				e.Timeout = true
			case n == 2:
				e.Overdue = true
			case n == 3:
				e.Reaped = true
			case n == 4 && !dead:
				e.Exited, e.Code, dead = true, r.IntN(256), true
			case n == 5 && dead:
				e.Empty = true
			default:
				continue
			}
			for _, v := range verbs(m.Step(e)) {
				if finished || v == shim.Terminate && (terminated || killed) || v == shim.Finish && !e.Empty {
					t.Fatalf("seed %d: %s after terminated=%v killed=%v finished=%v", seed, v, terminated, killed, finished)
				}
				terminated = terminated || v == shim.Terminate
				killed = killed || v == shim.Kill
				finished = finished || v == shim.Finish
			}
		}
		if finished && (m.Exit.Cause == "" || m.Exit.Ended.Before(m.Exit.Started)) {
			t.Fatalf("seed %d: exit %+v", seed, m.Exit)
		}
		if finished && !terminated && m.Exit.Cause != queue.ByExit {
			t.Fatalf("seed %d: never stopped, ended by %s", seed, m.Exit.Cause)
		}
	}
}
