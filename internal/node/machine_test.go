package node_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// names prints effects as one reads them: "Journal r.1, Save".
func names(effects []node.Effect) string {
	var out []string
	for _, e := range effects {
		v := reflect.ValueOf(e)
		name := v.Type().Name()
		if f := v.FieldByName("Attempt"); f.IsValid() {
			name += " " + f.String()
		}
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

func desired(rev int64, attempts ...nodeproto.Wanted) node.Came {
	return node.Came{Desired: nodeproto.Desired{Term: 1, Revision: rev, Attempts: attempts}}
}

func drain(rev int64, attempts ...nodeproto.Wanted) node.Came {
	d := desired(rev, attempts...)
	d.Desired.Drain = true
	return d
}

// restored is an order of a server that was restored.
func restored(epoch int64, attempts ...nodeproto.Wanted) node.Came {
	return node.Came{Desired: nodeproto.Desired{Term: epoch + 1, Revision: 1, Epoch: epoch, Attempts: attempts}}
}

func wanted(id string, fence int64) nodeproto.Wanted {
	return nodeproto.Wanted{Attempt: id, Fence: fence}
}

func stop(id string, fence int64, c queue.Cause) nodeproto.Wanted {
	return nodeproto.Wanted{Attempt: id, Fence: fence, Stop: c, Grace: time.Second}
}

func waits(id string, fence int64) nodeproto.Wanted {
	return nodeproto.Wanted{Attempt: id, Fence: fence, Hold: true}
}

// step is an event and what it must lead to.
type step struct {
	event node.Event
	want  string
}

func TestMachineDoes(t *testing.T) {
	t.Parallel()
	done := queue.Exit{Cause: queue.ByExit, Ended: t0}
	toRunning := []step{
		{desired(1, wanted("r.1", 1)), "Save, Journal r.1"},
		{node.Journalled{Attempt: "r.1"}, "Prepare r.1"},
		{node.Prepared{Attempt: "r.1"}, "Start r.1"},
		{node.Began{Attempt: "r.1", At: t0}, ""},
	}
	after := func(more ...step) []step { return append(slices.Clone(toRunning), more...) }
	tests := map[string]struct {
		steps []step
		phase queue.Phase // of the only attempt left; empty: none is left
		cause queue.Cause
	}{
		"one attempt from order to forgetting": {steps: after(
			step{node.Finished{Attempt: "r.1", Exit: done}, "Record r.1, Deliver r.1"},
			step{node.Delivered{Attempt: "r.1"}, "Record r.1"},
			step{desired(2), "Save, Forget r.1"},
			step{node.Forgotten{Attempt: "r.1"}, ""},
		)},
		"the same order again does nothing": {steps: after(
			step{desired(1, wanted("r.1", 1)), ""},
		), phase: queue.InRunning},
		"an older order is ignored": {steps: after(
			step{desired(5, wanted("r.1", 1)), "Save"},
			step{desired(4), ""},
		), phase: queue.InRunning},
		"an order of an older term is ignored": {steps: after(
			step{node.Came{Desired: nodeproto.Desired{Term: 0, Revision: 99}}, ""},
		), phase: queue.InRunning},
		"an ended attempt that is still wanted is kept": {steps: after(
			step{node.Finished{Attempt: "r.1", Exit: done}, "Record r.1, Deliver r.1"},
			step{node.Delivered{Attempt: "r.1"}, "Record r.1"},
			step{desired(2, wanted("r.1", 1)), "Save"},
		), phase: queue.Ended, cause: queue.ByExit},
		"a stop reaches a running attempt once": {steps: after(
			step{desired(2, stop("r.1", 1, queue.ByCancel)), "Save, Stop r.1"},
			step{desired(2, stop("r.1", 1, queue.ByCancel)), ""},
		), phase: queue.InRunning},
		"a stop while preparing ends it unstarted": {steps: []step{
			{desired(1, wanted("r.1", 1)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1"}, "Prepare r.1"},
			{desired(2, stop("r.1", 1, queue.ByCancel)), "Save, Quit r.1"},
			{node.Prepared{Attempt: "r.1"}, "Record r.1, Deliver r.1"},
		}, phase: queue.InFinalizing, cause: queue.ByCancel},
		"one of a gang waits for the others": {steps: []step{
			{desired(1, waits("r.1", 1)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1"}, "Prepare r.1"},
			{node.Prepared{Attempt: "r.1"}, ""},
			{desired(2, waits("r.1", 1)), "Save"},
		}, phase: queue.Prepared},
		"one of a gang starts when it is let go, once": {steps: []step{
			{desired(1, waits("r.1", 1)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1"}, "Prepare r.1"},
			{node.Prepared{Attempt: "r.1"}, ""},
			{desired(2, wanted("r.1", 1)), "Save, Start r.1"},
			{desired(3, wanted("r.1", 1)), "Save"},
			{desired(2, waits("r.1", 1)), ""},
		}, phase: queue.Prepared},
		"a stop ends one of a gang that waits": {steps: []step{
			{desired(1, waits("r.1", 1)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1"}, "Prepare r.1"},
			{node.Prepared{Attempt: "r.1"}, ""},
			{desired(2, stop("r.1", 1, queue.BySetup)), "Save, Record r.1, Deliver r.1"},
		}, phase: queue.InFinalizing, cause: queue.BySetup},
		"one of a gang whose node is wanted no more ends": {steps: []step{
			{desired(1, waits("r.1", 1)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1"}, "Prepare r.1"},
			{node.Prepared{Attempt: "r.1"}, ""},
			{node.Superseded{Attempt: "r.1"}, "Record r.1, Deliver r.1"},
		}, phase: queue.InFinalizing, cause: queue.ByNodeLoss},
		"an attempt first heard of with its stop is journalled and never started": {steps: []step{
			{desired(1, stop("r.1", 1, queue.ByTimeout)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1"}, "Record r.1, Deliver r.1"},
		}, phase: queue.InFinalizing, cause: queue.ByTimeout},
		"a stop that comes before the process runs is given again once it does": {steps: []step{
			{desired(1, wanted("r.1", 1)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1"}, "Prepare r.1"},
			{node.Prepared{Attempt: "r.1"}, "Start r.1"},
			{desired(2, stop("r.1", 1, queue.ByCancel)), "Save, Stop r.1"},
			{node.Began{Attempt: "r.1", At: t0}, "Stop r.1"},
		}, phase: queue.InRunning},
		"an attempt no longer wanted is stopped": {steps: after(
			step{desired(2), "Save, Stop r.1"},
		), phase: queue.InRunning},
		"a setup that fails is delivered": {steps: []step{
			{desired(1, wanted("r.1", 1)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1"}, "Prepare r.1"},
			{node.Prepared{Attempt: "r.1", Exit: &queue.Exit{Cause: queue.BySetup}}, "Record r.1, Deliver r.1"},
		}, phase: queue.InFinalizing, cause: queue.BySetup},
		"a shim that dies is swept, then reported as node loss": {steps: after(
			step{node.Lost{Attempt: "r.1"}, "Sweep r.1"},
			step{node.Swept{Attempt: "r.1"}, "Record r.1, Deliver r.1"},
		), phase: queue.InFinalizing, cause: queue.ByNodeLoss},
		"a folder that was there before is swept, not started": {steps: []step{
			{desired(1, wanted("r.1", 1)), "Save, Journal r.1"},
			{node.Journalled{Attempt: "r.1", Taken: true}, "Sweep r.1"},
			{node.Swept{Attempt: "r.1"}, "Record r.1, Deliver r.1"},
		}, phase: queue.InFinalizing, cause: queue.ByNodeLoss},
		"a lower fence of the same run is refused": {steps: after(
			step{desired(2, wanted("r.1", 1), wanted("r.0", 0)), "Save"},
		), phase: queue.InRunning},
		"nothing is taken while draining": {steps: []step{
			{drain(1, wanted("r.1", 1)), "Save"},
		}},
		"a living shim is watched again after a restart": {steps: []step{
			{node.Found{Attempts: []node.Kept{{Attempt: "r.1", Fence: 1, Living: true, Started: t0}}}, "Watch r.1"},
		}, phase: queue.InRunning},
		"a journalled attempt without a shim is never started after a restart": {steps: []step{
			{node.Found{Attempts: []node.Kept{{Attempt: "r.1", Fence: 1}}}, "Sweep r.1"},
			{node.Swept{Attempt: "r.1"}, "Record r.1, Deliver r.1"},
			{desired(1, wanted("r.1", 1)), "Save"},
		}, phase: queue.InFinalizing, cause: queue.ByNodeLoss},
		"an end found after a restart is delivered": {steps: []step{
			{node.Found{Attempts: []node.Kept{{Attempt: "r.1", Fence: 1, Exit: &done}}}, "Record r.1, Deliver r.1"},
		}, phase: queue.InFinalizing, cause: queue.ByExit},
		"what was delivered before a restart is not delivered again": {steps: []step{
			{node.Found{Attempts: []node.Kept{{Attempt: "r.1", Fence: 1, Exit: &done, Delivered: true}}}, ""},
		}, phase: queue.Ended, cause: queue.ByExit},
		"nothing is forgotten before the server has spoken": {steps: []step{
			{node.Found{Memory: node.Memory{Term: 1, Revision: 9}, Attempts: []node.Kept{{Attempt: "r.1", Fence: 1, Exit: &done, Delivered: true}}}, ""},
			{desired(8), ""},
		}, phase: queue.Ended, cause: queue.ByExit},
		"what ended is delivered again to a server that was restored": {steps: after(
			step{node.Finished{Attempt: "r.1", Exit: done}, "Record r.1, Deliver r.1"},
			step{node.Delivered{Attempt: "r.1"}, "Record r.1"},
			step{restored(7, wanted("r.1", 1)), "Save, Deliver r.1"},
			step{restored(7, wanted("r.1", 1)), ""},
			step{node.Delivered{Attempt: "r.1", Epoch: 7}, "Record r.1"},
			step{restored(7, wanted("r.1", 1)), ""},
		), phase: queue.Ended, cause: queue.ByExit},
		"what was on its way to a server that was restored goes from the start": {steps: after(
			step{node.Finished{Attempt: "r.1", Exit: done}, "Record r.1, Deliver r.1"},
			step{restored(7, wanted("r.1", 1)), "Save"},
			step{node.Delivered{Attempt: "r.1"}, "Deliver r.1"},
		), phase: queue.InFinalizing, cause: queue.ByExit},
		"what a restored server does not want is not delivered again": {steps: after(
			step{node.Finished{Attempt: "r.1", Exit: done}, "Record r.1, Deliver r.1"},
			step{restored(7), "Save"},
			step{node.Delivered{Attempt: "r.1"}, "Record r.1, Save, Forget r.1"},
			step{node.Forgotten{Attempt: "r.1"}, ""},
		)},
		"what was delivered before a restart and a restore is delivered again": {steps: []step{
			{node.Found{Memory: node.Memory{Term: 1, Epoch: 5}, Attempts: []node.Kept{{Attempt: "r.1", Fence: 1, Exit: &done, Delivered: true, Epoch: 5}}}, ""},
			{restored(5, wanted("r.1", 1)), "Save"},
			{restored(7, wanted("r.1", 1)), "Save, Deliver r.1"},
		}, phase: queue.InFinalizing, cause: queue.ByExit},
		"a forgotten attempt is not taken again": {steps: []step{
			{node.Found{Memory: node.Memory{Term: 1, Floor: 7}}, ""},
			{desired(1, wanted("r.1", 7)), "Save"},
		}},
		"a hostile attempt id is not taken": {steps: []step{
			{desired(1, wanted("../r.1", 7)), "Save"},
		}},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m node.Machine
			for i, s := range c.steps {
				if got := names(m.Step(t0, s.event)); got != s.want {
					t.Fatalf("step %d: Step(%T%+v) = %q, want %q", i, s.event, s.event, got, s.want)
				}
			}
			r := m.Report(t0)
			if c.phase == "" {
				if len(r.Attempts) != 0 {
					t.Fatalf("Report().Attempts = %+v, want none", r.Attempts)
				}
				return
			}
			if len(r.Attempts) != 1 || r.Attempts[0].Phase != c.phase {
				t.Fatalf("Report().Attempts = %+v, want one that is %s", r.Attempts, c.phase)
			}
			if e := r.Attempts[0].Exit; c.cause == "" && e != nil || c.cause != "" && (e == nil || e.Cause != c.cause) {
				t.Fatalf("Report().Attempts[0].Exit = %+v, want cause %q", e, c.cause)
			}
		})
	}
}

func TestEmptyIsSaidOnlyWhenDrainedAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	var m node.Machine
	m.Step(t0, desired(1, wanted("r.1", 1)))
	m.Step(t0, drain(2, wanted("r.1", 1)))
	if m.Report(t0).Empty {
		t.Fatal("Report().Empty = true with an attempt in the journal")
	}
	m.Step(t0, node.Journalled{Attempt: "r.1"})
	m.Step(t0, drain(3))
	m.Step(t0, node.Prepared{Attempt: "r.1"})
	m.Step(t0, node.Delivered{Attempt: "r.1"})
	if m.Report(t0).Empty {
		t.Fatal("Report().Empty = true before the attempt is forgotten")
	}
	m.Step(t0, node.Forgotten{Attempt: "r.1"})
	if r := m.Report(t0); !r.Empty || r.Revision != 3 {
		t.Fatalf("Report() = %+v, want empty at revision 3", r)
	}
	m.Step(t0, desired(4))
	if m.Report(t0).Empty {
		t.Fatal("Report().Empty = true after the drain was taken back")
	}
}

// world plays everything around a machine from one seed: a server that places,
// stops and forgets, its orders delayed, repeated and reordered; a disk; shims;
// agents that die between any two effects. It holds what must never be.
type world struct {
	rnd     *rand.Rand
	m       *node.Machine
	log     []string
	memory  node.Memory
	disk    map[string]*onDisk
	running map[string]bool // shims, which outlive agents
	pending []func() node.Event
	sent    []nodeproto.Desired // every order the server ever sent
	server  nodeproto.Desired
	fence   int64
	placed  int
	starts  map[string]int
	over    map[string]bool // attempts that the agent reported as ended
	phases  map[string]int
}

type onDisk struct {
	kept    node.Kept
	started bool
}

func (w *world) deliver(effects []node.Effect) error {
	for _, e := range effects {
		if w.rnd.IntN(40) == 0 { // the agent dies here
			return w.restart()
		}
		if err := w.do(e); err != nil {
			return err
		}
	}
	return w.check()
}

// later queues the event that an effect ends in.
func (w *world) later(f func() node.Event) { w.pending = append(w.pending, f) }

func (w *world) do(e node.Effect) error {
	w.log = append(w.log, names([]node.Effect{e}))
	switch e := e.(type) {
	case node.Save:
		if e.Memory.Term < w.memory.Term || e.Memory.Floor < w.memory.Floor {
			return errors.New("memory went backwards")
		}
		w.memory = e.Memory
	case node.Journal:
		_, taken := w.disk[e.Attempt]
		if !taken {
			w.disk[e.Attempt] = &onDisk{kept: node.Kept{Attempt: e.Attempt, Fence: e.Fence, Member: e.Member}}
		}
		w.later(func() node.Event { return node.Journalled{Attempt: e.Attempt, Taken: taken} })
	case node.Prepare:
		w.later(func() node.Event {
			if w.rnd.IntN(5) == 0 {
				return node.Prepared{Attempt: e.Attempt, Exit: &queue.Exit{Cause: queue.BySetup}}
			}
			return node.Prepared{Attempt: e.Attempt}
		})
	case node.Start:
		return w.start(e.Attempt)
	case node.Watch:
		w.watch(e.Attempt)
	case node.Sweep:
		delete(w.running, e.Attempt)
		w.later(func() node.Event { return node.Swept{Attempt: e.Attempt} })
	case node.Record:
		d := w.disk[e.Attempt]
		if d == nil {
			return fmt.Errorf("record of %s, which is not journalled", e.Attempt)
		}
		if w.running[e.Attempt] {
			return fmt.Errorf("end of %s recorded while its shim lives", e.Attempt)
		}
		exit := e.Exit
		d.kept.Exit, d.kept.Delivered, d.kept.Epoch = &exit, e.Delivered, e.Epoch
	case node.Deliver:
		w.later(func() node.Event { return node.Delivered{Attempt: e.Attempt, Epoch: e.Epoch} })
	case node.Forget:
		if slices.ContainsFunc(w.server.Attempts, func(a nodeproto.Wanted) bool { return a.Attempt == e.Attempt }) {
			return fmt.Errorf("%s forgotten though the server wants it", e.Attempt)
		}
		if d := w.disk[e.Attempt]; d == nil || d.kept.Exit == nil || !d.kept.Delivered {
			return fmt.Errorf("%s forgotten before it ended", e.Attempt)
		}
		delete(w.disk, e.Attempt)
		w.later(func() node.Event { return node.Forgotten{Attempt: e.Attempt} })
	}
	return nil
}

func (w *world) start(id string) error {
	if w.starts[id]++; w.starts[id] > 1 {
		return fmt.Errorf("%s started twice", id)
	}
	d := w.disk[id]
	if d == nil || d.kept.Exit != nil || w.over[id] {
		return fmt.Errorf("%s started though not journalled or over", id)
	}
	for other, o := range w.disk {
		if strings.SplitN(other, ".", 2)[0] == strings.SplitN(id, ".", 2)[0] && o.kept.Fence > d.kept.Fence {
			return fmt.Errorf("%s started beside %s of a higher fence", id, other)
		}
	}
	w.running[id] = true
	w.later(func() node.Event { return node.Began{Attempt: id, At: t0} })
	w.watch(id)
	return nil
}

func (w *world) watch(id string) {
	w.later(func() node.Event {
		delete(w.running, id)
		if w.rnd.IntN(4) == 0 {
			return node.Lost{Attempt: id}
		}
		return node.Finished{Attempt: id, Exit: queue.Exit{Cause: queue.ByExit}}
	})
}

// restart is a new agent on the same disk.
func (w *world) restart() error {
	w.log = append(w.log, "-- agent restarts")
	w.m, w.pending = &node.Machine{}, nil
	f := node.Found{Memory: w.memory}
	for id, d := range w.disk {
		k := d.kept
		k.Living = w.running[id]
		f.Attempts = append(f.Attempts, k)
	}
	for _, e := range w.m.Step(t0, f) {
		if err := w.do(e); err != nil {
			return err
		}
	}
	return w.check()
}

// check reads the report as the server does.
func (w *world) check() error {
	r := w.m.Report(t0)
	for _, p := range r.Attempts {
		if rank := p.Phase.Rank(); rank < w.phases[p.Attempt] && !w.unsure(p.Attempt) {
			return fmt.Errorf("%s went back to %s", p.Attempt, p.Phase)
		}
		w.phases[p.Attempt] = p.Phase.Rank()
		if p.Phase == queue.Ended {
			if p.Exit == nil {
				return fmt.Errorf("%s ended without an exit", p.Attempt)
			}
			w.over[p.Attempt] = true
		}
	}
	if r.Empty && (len(w.running) > 0 || len(w.disk) > 0) {
		return errors.New("empty was said while something is here")
	}
	return nil
}

// unsure: a journalled attempt found without its shim is shown as running until
// it is swept, whatever it was before.
func (w *world) unsure(id string) bool { return w.phases[id] <= queue.InRunning.Rank() }

func (w *world) act() error {
	switch w.rnd.IntN(6) {
	case 0: // the server decides something new and sends it
		w.decide()
		w.sent = append(w.sent, w.server)
		return w.deliver(w.m.Step(t0, node.Came{Desired: w.server}))
	case 1: // an old order arrives late, or the present one again
		if len(w.sent) > 0 {
			return w.deliver(w.m.Step(t0, node.Came{Desired: w.sent[w.rnd.IntN(len(w.sent))]}))
		}
	case 2:
		if w.rnd.IntN(4) == 0 {
			return w.restart()
		}
	default: // something under way ends
		if len(w.pending) > 0 {
			i := w.rnd.IntN(len(w.pending))
			f := w.pending[i]
			w.pending = slices.Delete(w.pending, i, i+1)
			e := f()
			w.log = append(w.log, fmt.Sprintf("<- %T%+v", e, e))
			return w.deliver(w.m.Step(t0, e))
		}
	}
	return nil
}

// decide is a server: it places a new attempt when nothing is here, stops, and
// lets go of what has ended.
func (w *world) decide() {
	next := nodeproto.Desired{Term: w.server.Term, Revision: w.server.Revision + 1, Drain: w.rnd.IntN(5) == 0}
	if w.rnd.IntN(15) == 0 {
		next.Term++
	}
	for _, a := range w.server.Attempts {
		if w.over[a.Attempt] && w.rnd.IntN(2) == 0 {
			continue
		}
		if a.Stop == "" && w.rnd.IntN(4) == 0 {
			a.Stop = queue.ByCancel
		}
		next.Attempts = append(next.Attempts, a)
	}
	if len(next.Attempts) == 0 {
		w.fence++
		w.placed++
		next.Attempts = append(next.Attempts, nodeproto.Wanted{Attempt: fmt.Sprintf("r%d.%d", w.placed%3, w.placed), Fence: w.fence})
	}
	w.server = next
}

func TestMachinePromises(t *testing.T) {
	t.Parallel()
	started, ended := 0, 0
	for seed := range uint64(2000) {
		w := &world{
			rnd: rand.New(rand.NewPCG(seed, 1)), m: &node.Machine{}, disk: map[string]*onDisk{}, running: map[string]bool{},
			starts: map[string]int{}, over: map[string]bool{}, phases: map[string]int{}, server: nodeproto.Desired{Term: 1},
		}
		for range 150 {
			if err := w.act(); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.log[max(0, len(w.log)-40):], "\n"))
			}
		}
		started += len(w.starts)
		ended += len(w.over)
	}
	if started < 2000 || ended < 2000 {
		t.Fatalf("only %d attempts started and %d ended: the worlds are too quiet to prove anything", started, ended)
	}
}
