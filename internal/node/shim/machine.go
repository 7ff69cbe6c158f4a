package shim

import (
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

// Event is something that happened to an attempt. Exactly one field but At and
// Grace is set.
type Event struct {
	Started bool // the user's process runs, or what is to start it elsewhere
	Began   bool // it runs there
	Exited  bool // it is dead, with Code
	Code    int  // 128+n for signal n
	Stop    queue.Cause
	Grace   time.Duration // of Stop
	Timeout bool          // the time limit has passed
	Overdue bool          // the grace given has passed
	Reaped  bool          // some other descendant is dead
	Empty   bool          // nothing descends from us any more
	At      time.Time
}

// Effect is what is to be done next.
type Effect struct {
	Verb Verb
	In   time.Duration // ArmTimeout, ArmGrace
}

// Verb names an effect.
type Verb string

// What a [Machine] asks for.
const (
	ArmTimeout Verb = "arm timeout" // Event.Timeout after In; replaces one armed before
	ArmGrace   Verb = "arm grace"   // Event.Overdue after In; replaces one armed before
	Terminate  Verb = "terminate"   // SIGTERM to all that descends
	Kill       Verb = "kill"        // SIGKILL to all that descends
	Finish     Verb = "finish"      // write the record
)

// Machine decides for a shim what follows from what happened. It does no I/O and
// reads no clock. The zero Machine, with TimeLimit set, is ready.
type Machine struct {
	TimeLimit time.Duration // 0: none
	Exit      queue.Exit    // whole once Finish was asked for; Message is not its business

	phase machinePhase
}

type machinePhase int

const (
	starting machinePhase = iota
	running
	stopping // SIGTERM was sent
	killing
	finished
)

// Step takes one event. The first thing that ends the attempt is its cause, but a
// cancel that comes while it is being stopped for a weaker cause wins.
func (m *Machine) Step(e Event) []Effect {
	if m.phase == finished {
		return nil
	}
	switch {
	case e.Started:
		m.Exit.Started = e.At
		m.phase = running
		if m.TimeLimit > 0 {
			return []Effect{{Verb: ArmTimeout, In: m.TimeLimit}}
		}
	case e.Began:
		if m.phase != killing {
			m.Exit.Started = e.At
		}
		if m.TimeLimit > 0 && m.phase == running {
			return []Effect{{Verb: ArmTimeout, In: m.TimeLimit}}
		}
	case e.Stop != "":
		return m.stop(e.Stop, e.Grace)
	case e.Timeout:
		return m.stop(queue.ByTimeout, e.Grace)
	case e.Exited:
		m.Exit.Code, m.Exit.Ended = e.Code, e.At
		if m.Exit.Cause == "" {
			m.Exit.Cause = queue.ByExit
		}
		m.phase = killing
		return []Effect{{Verb: Kill}}
	case e.Overdue:
		if m.phase == stopping {
			m.phase = killing
			return []Effect{{Verb: Kill}}
		}
	case e.Reaped:
		// What it leaves behind is ours now, and may be new to us.
		if m.phase == killing {
			return []Effect{{Verb: Kill}}
		}
	case e.Empty:
		if m.Exit.Ended.IsZero() {
			m.Exit.Ended = e.At
		}
		m.phase = finished
		return []Effect{{Verb: Finish}}
	}
	return nil
}

func (m *Machine) stop(cause queue.Cause, grace time.Duration) []Effect {
	switch m.phase {
	case running:
		m.Exit.Cause = cause
		m.phase = stopping
		return []Effect{{Verb: Terminate}, {Verb: ArmGrace, In: grace}}
	case stopping:
		if stronger(cause, m.Exit.Cause) {
			m.Exit.Cause = cause
		}
		if grace < 0 {
			return nil
		}
		return []Effect{{Verb: ArmGrace, In: grace}}
	case starting, killing, finished:
	}
	return nil
}
