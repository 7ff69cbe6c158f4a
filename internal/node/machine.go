package node

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Machine decides what an agent does. It touches nothing: [Machine.Step] takes
// what happened and returns what to do, in order. The shell does it, and tells
// what came of it by another Step. The zero value is an agent that has just
// been made; one that was here before steps [Found] first.
type Machine struct {
	memory   Memory
	drain    bool
	told     bool // a Desired has come in this life: only then may anything be forgotten
	changes  int64
	attempts map[string]*attempt
}

// Memory is what an agent may never forget, or an old order could start
// something twice.
type Memory struct {
	Term     int64 `json:"term"`     // of the highest Desired taken
	Revision int64 `json:"revision"` // of the highest Desired taken
	// Floor is the highest fence among forgotten attempts. A node holds one
	// attempt at a time, so what comes after has a higher one.
	Floor int64 `json:"floor"`
	// Epoch is the server's, the highest seen.
	Epoch int64 `json:"epoch,omitempty"`
}

// stage is where an attempt stands; it only goes forward, except that what has
// ended is delivered again to a server that was restored.
type stage int

const (
	journalling stage = iota // its folder is being made
	preparing                // code and environment
	prepared                 // the other members of its gang are not
	starting                 // the shim is asked to start
	running                  // a living shim holds it
	sweeping                 // the shim is dead without a record; what it left is being killed
	delivering               // logs and outputs are on their way
	ended
	forgetting // its folder is being removed
)

type attempt struct {
	id      string
	fence   int64
	member  int
	stage   stage
	wanted  bool
	hold    bool // the others of its gang are not prepared
	gang    bool // it has others
	stop    queue.Cause
	grace   time.Duration
	detail  string
	image   string
	why     string // of the loss, while sweeping
	started time.Time
	exit    *queue.Exit
	epoch   int64 // in which it was delivered, once it is
}

// lostGrace is for attempts that the server no longer knows: SIGTERM, this, SIGKILL.
const lostGrace = 5 * time.Second

// Events: what happened.
type (
	// Event is one of the types below.
	Event interface{ event() }
	// Found is what the journal held when the agent started.
	Found struct {
		Memory   Memory
		Attempts []Kept
	}
	// Came is an order from the server.
	Came struct{ Desired nodeproto.Desired }
	// Journalled: the folder of the attempt is on disk, made now. Taken: it was
	// there already, so somebody else may have started it.
	Journalled struct {
		Attempt string
		Taken   bool
	}
	// Noted is a sentence on what the preparation is doing.
	Noted struct{ Attempt, Detail string }
	// Prepared: code and environment are there, or (Exit set) could not be made.
	Prepared struct {
		Attempt string
		Exit    *queue.Exit
		Image   string // of its container; empty: it has none
	}
	// Began: the attempt's first process runs, since At.
	Began struct {
		Attempt string
		At      time.Time
	}
	// Finished is the shim's record of the end.
	Finished struct {
		Attempt string
		Exit    queue.Exit
	}
	// Lost: there is no shim and no record of an end.
	Lost struct{ Attempt, Why string }
	// Swept: nothing of the attempt runs, or will. Exit is set if the shim left
	// a record after all.
	Swept struct {
		Attempt string
		Exit    *queue.Exit
	}
	// Superseded: the server says that the attempt is over.
	Superseded struct{ Attempt string }
	// Delivered: logs and outputs are the server's, or nobody wants them. Epoch is
	// that of the Deliver.
	Delivered struct {
		Attempt string
		Epoch   int64
	}
	// Forgotten: the folder is gone.
	Forgotten struct{ Attempt string }
)

// Kept is an attempt found in the journal at the start of an agent.
type Kept struct {
	Attempt   string
	Fence     int64
	Member    int
	Living    bool // a shim holds it
	Started   time.Time
	Exit      *queue.Exit // its end, if there is a record
	Delivered bool
	Epoch     int64 // in which it was
}

func (Found) event()      {}
func (Came) event()       {}
func (Journalled) event() {}
func (Noted) event()      {}
func (Prepared) event()   {}
func (Began) event()      {}
func (Finished) event()   {}
func (Lost) event()       {}
func (Swept) event()      {}
func (Superseded) event() {}
func (Delivered) event()  {}
func (Forgotten) event()  {}

// Effects: what to do. Save, Journal and Record are on disk before the next
// effect is done; the others take their time and end in an event.
type (
	// Effect is one of the types below.
	Effect interface{ effect() }
	// Save writes the memory.
	Save struct{ Memory Memory }
	// Journal makes the attempt's folder, which must not be there. Ends in
	// Journalled; is tried until it can be done.
	Journal struct {
		Attempt string
		Fence   int64
		Member  int
	}
	// Prepare makes code and environment. Ends in Prepared.
	Prepare struct{ Attempt string }
	// Quit ends a Prepare early. Ends in the Prepared of that Prepare.
	Quit struct{ Attempt string }
	// Start starts the shim and watches it. Ends in Began, then Finished or Lost.
	Start struct{ Attempt string }
	// Watch takes up a living shim that an agent before us started. Ends in Finished or Lost.
	Watch struct{ Attempt string }
	// Stop asks the shim to stop the attempt. May be repeated.
	Stop struct {
		Attempt string
		Cause   queue.Cause
		Grace   time.Duration
	}
	// Sweep kills what a dead shim left, and makes sure that none starts late. Ends in Swept.
	Sweep struct{ Attempt string }
	// Record writes the end of an attempt beside its journal.
	Record struct {
		Attempt   string
		Exit      queue.Exit
		Delivered bool
		Epoch     int64 // in which it was
	}
	// Deliver sends the rest of the logs, then all of the outputs. Ends in Delivered.
	// Epoch is the server's as far as it is known: one that has another since may
	// lack what was sent first, and is not to take it for whole.
	Deliver struct {
		Attempt string
		Epoch   int64
	}
	// Forget removes the attempt's folder. Ends in Forgotten.
	Forget struct{ Attempt string }
)

func (Save) effect()    {}
func (Journal) effect() {}
func (Prepare) effect() {}
func (Quit) effect()    {}
func (Start) effect()   {}
func (Watch) effect()   {}
func (Stop) effect()    {}
func (Sweep) effect()   {}
func (Record) effect()  {}
func (Deliver) effect() {}
func (Forget) effect()  {}

// Changes grows whenever [Machine.Report] would say something new.
func (m *Machine) Changes() int64 { return m.changes }

// Step takes in what happened at now and returns what to do. An event about an
// attempt that is not known, or that comes too late, does nothing.
func (m *Machine) Step(now time.Time, e Event) []Effect {
	if m.attempts == nil {
		m.attempts = map[string]*attempt{}
	}
	switch e := e.(type) {
	case Found:
		return m.found(now, e)
	case Came:
		return m.came(now, e.Desired)
	case Journalled:
		return m.at(e.Attempt, []stage{journalling}, func(a *attempt) []Effect { return m.journalled(now, a, e.Taken) })
	case Noted:
		return m.at(e.Attempt, []stage{preparing}, func(a *attempt) []Effect { a.detail = e.Detail; return nil })
	case Prepared:
		return m.at(e.Attempt, []stage{preparing}, func(a *attempt) []Effect {
			a.image = e.Image
			return m.prepared(now, a, e.Exit)
		})
	case Began:
		return m.at(e.Attempt, []stage{starting, running}, func(a *attempt) []Effect {
			a.stage, a.started = running, e.At
			return a.stopping()
		})
	case Finished:
		return m.at(e.Attempt, []stage{starting, running}, func(a *attempt) []Effect { return m.end(a, e.Exit) })
	case Lost:
		return m.at(e.Attempt, []stage{starting, running}, func(a *attempt) []Effect {
			a.stage, a.why = sweeping, e.Why
			return []Effect{Sweep{a.id}}
		})
	case Swept:
		return m.at(e.Attempt, []stage{sweeping}, func(a *attempt) []Effect {
			if e.Exit != nil {
				return m.end(a, *e.Exit)
			}
			return m.end(a, a.unstarted(now, a.why))
		})
	case Superseded:
		return m.at(e.Attempt, []stage{preparing, prepared, starting, running}, func(a *attempt) []Effect {
			if a.stop != "" {
				return nil
			}
			return m.halt(now, a, queue.ByNodeLoss, lostGrace)
		})
	case Delivered:
		return m.at(e.Attempt, []stage{delivering}, func(a *attempt) []Effect {
			if e.Epoch < m.memory.Epoch && a.wanted {
				return []Effect{Deliver{a.id, m.memory.Epoch}}
			}
			a.stage, a.epoch = ended, e.Epoch
			before := m.memory
			forget := m.forget()
			return append(append([]Effect{Record{a.id, *a.exit, true, a.epoch}}, m.saved(before)...), forget...)
		})
	case Forgotten:
		return m.at(e.Attempt, []stage{forgetting}, func(a *attempt) []Effect { delete(m.attempts, a.id); return nil })
	}
	panic("node: unknown event")
}

// at runs f on a known attempt that stands in one of the stages.
func (m *Machine) at(id string, in []stage, f func(*attempt) []Effect) []Effect {
	a, ok := m.attempts[id]
	if !ok || !slices.Contains(in, a.stage) {
		return nil
	}
	m.changes++
	return f(a)
}

// found takes in the journal. An attempt without a living shim and without a
// record is never started: whoever journalled it may have got as far as
// starting it.
func (m *Machine) found(now time.Time, e Found) (out []Effect) {
	m.memory = e.Memory
	m.changes++
	for _, k := range e.Attempts {
		a := &attempt{id: k.Attempt, fence: k.Fence, member: k.Member, wanted: true, started: k.Started}
		m.attempts[a.id] = a
		switch {
		case k.Exit != nil && k.Delivered:
			a.stage, a.exit, a.epoch = ended, k.Exit, k.Epoch
		case k.Exit != nil:
			out = append(out, m.end(a, *k.Exit)...)
		case k.Living:
			a.stage = running
			out = append(out, Watch{a.id})
		default:
			a.stage, a.why = sweeping, "The node's agent ended before the job was started, or its shim died."
			out = append(out, Sweep{a.id})
		}
	}
	return out
}

func (m *Machine) came(now time.Time, d nodeproto.Desired) (out []Effect) {
	if d.Term < m.memory.Term || d.Term == m.memory.Term && d.Revision < m.memory.Revision {
		return nil
	}
	before := m.memory
	m.memory.Term, m.memory.Revision, m.memory.Epoch = d.Term, d.Revision, max(m.memory.Epoch, d.Epoch)
	m.changes++
	m.drain, m.told = d.Drain, true
	wanted := map[string]bool{}
	for _, w := range d.Attempts {
		wanted[w.Attempt] = true
		if a, ok := m.attempts[w.Attempt]; ok {
			switch a.hold = w.Hold; {
			case w.Stop != "":
				out = append(out, m.halt(now, a, w.Stop, w.Grace)...)
			case a.stage == prepared && !a.hold:
				out = append(out, a.start()...)
			}
			if a.stage == ended && a.epoch < m.memory.Epoch {
				a.stage = delivering
				out = append(out, Deliver{a.id, m.memory.Epoch})
			}
			continue
		}
		out = append(out, m.take(w)...)
	}
	for _, a := range m.sorted() {
		a.wanted = wanted[a.id]
		if !a.wanted && a.stop == "" {
			out = append(out, m.halt(now, a, queue.ByNodeLoss, lostGrace)...)
		}
	}
	out = append(out, m.forget()...)
	return append(m.saved(before), out...)
}

// saved is the Save that is due if the memory is not what it was before.
func (m *Machine) saved(before Memory) []Effect {
	if m.memory == before {
		return nil
	}
	return []Effect{Save{m.memory}}
}

// take journals an attempt that is new here. One that is to be stopped is
// journalled too, never to be started: so the server learns its end. While
// draining nothing else is taken, or "empty" would be a lie.
func (m *Machine) take(w nodeproto.Wanted) []Effect {
	if m.drain && w.Stop == "" || w.Fence <= m.memory.Floor || !attemptName.MatchString(w.Attempt) {
		return nil
	}
	for _, a := range m.attempts {
		if runOf(a.id) == runOf(w.Attempt) && a.fence >= w.Fence {
			return nil
		}
	}
	m.attempts[w.Attempt] = &attempt{id: w.Attempt, fence: w.Fence, member: w.Member, wanted: true, hold: w.Hold, gang: w.Hold, stop: w.Stop, grace: w.Grace}
	return []Effect{Journal{w.Attempt, w.Fence, w.Member}}
}

func (m *Machine) journalled(now time.Time, a *attempt, taken bool) []Effect {
	switch {
	case taken:
		a.stage, a.why = sweeping, "Another agent has had this attempt before."
		return []Effect{Sweep{a.id}}
	case a.stop != "":
		return m.end(a, a.unstarted(now, "It was stopped before it started."))
	}
	a.stage = preparing
	return []Effect{Prepare{a.id}}
}

func (m *Machine) prepared(now time.Time, a *attempt, exit *queue.Exit) []Effect {
	a.detail = ""
	switch {
	case a.stop != "":
		return m.end(a, a.unstarted(now, "It was stopped while it was prepared."))
	case exit != nil:
		return m.end(a, *exit)
	case a.hold:
		a.stage = prepared
		return nil
	}
	return a.start()
}

func (a *attempt) start() []Effect {
	a.stage = starting
	return []Effect{Start{a.id}}
}

// end records how an attempt ended and sets off the delivery.
func (m *Machine) end(a *attempt, exit queue.Exit) []Effect {
	a.stage, a.detail, a.exit = delivering, "", &exit
	if !exit.Started.IsZero() {
		a.started = exit.Started
	}
	return []Effect{Record{Attempt: a.id, Exit: exit}, Deliver{a.id, m.memory.Epoch}}
}

// forget lets go of ended attempts that the server no longer wants here. The
// memory is to be saved first, if that changed it.
func (m *Machine) forget() (out []Effect) {
	if !m.told {
		return nil
	}
	for _, a := range m.sorted() {
		if a.stage != ended || a.wanted {
			continue
		}
		a.stage = forgetting
		m.memory.Floor = max(m.memory.Floor, a.fence)
		out = append(out, Forget{a.id})
	}
	return out
}

// halt asks for a stop, once per cause.
func (m *Machine) halt(now time.Time, a *attempt, c queue.Cause, grace time.Duration) []Effect {
	if a.stop == c || a.stage > running {
		return nil
	}
	first := a.stop == ""
	a.stop, a.grace = c, grace
	switch {
	case a.stage == preparing && first:
		return []Effect{Quit{a.id}}
	case a.stage == prepared:
		return m.end(a, a.unstarted(now, "It was stopped before it started."))
	case a.stage == starting, a.stage == running:
		return a.stopping()
	}
	return nil
}

func (a *attempt) stopping() []Effect {
	if a.stop == "" {
		return nil
	}
	return []Effect{Stop{a.id, a.stop, a.grace}}
}

// unstarted is the end of an attempt of which no shim has a record.
func (a *attempt) unstarted(now time.Time, why string) queue.Exit {
	cause := queue.ByNodeLoss
	if a.stop != "" {
		cause = a.stop
	}
	return queue.Exit{Cause: cause, Message: why, Started: a.started, Ended: now}
}

func (m *Machine) sorted() []*attempt {
	return slices.SortedFunc(maps.Values(m.attempts), func(a, b *attempt) int { return strings.Compare(a.id, b.id) })
}

// runOf returns the run that an attempt is of: ids are Run + "." + N.
func runOf(attempt string) string {
	if i := strings.LastIndexByte(attempt, '.'); i >= 0 {
		return attempt[:i]
	}
	return attempt
}
