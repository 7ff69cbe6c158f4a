package control_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// machine is a simulated computer with an engine's node on it: its disk, its
// processes, and the agent's own machine.
type machine struct {
	w      *world
	id     string
	dead   bool // the agent is, for good
	mute   bool // its agent never starts
	life   int  // of the agent; raised with every restart
	agent  *node.Machine
	memory node.Memory
	disk   map[string]*folder
	conn   int64 // 0: none
	dials  bool
	said   int64
}

// folder is an attempt's folder with its shim.
type folder struct {
	kept     node.Kept
	started  bool
	alive    bool // the shim is
	shim     shim.Machine
	process  bool // the user's process is there
	stubborn bool // it ignores SIGTERM
	armed    int  // the grace armed last
	exit     *queue.Exit
	quit     bool
	watched  int // life of the agent that watches
}

func (m *machine) later(least, most time.Duration, f func()) {
	life := m.life
	m.w.after(least, most, func() {
		if !m.dead && m.life == life {
			f()
		}
	})
}

// boot starts the agent: the first time, or again after its end.
func (m *machine) boot() {
	if m.dead {
		return
	}
	m.life++
	m.agent, m.said = &node.Machine{}, 0
	found := node.Found{Memory: m.memory}
	for _, id := range slices.Sorted(maps.Keys(m.disk)) {
		f := m.disk[id]
		k := f.kept
		k.Living, k.Exit = f.alive, f.exit
		found.Attempts = append(found.Attempts, k)
	}
	m.step(found)
	m.dials = false
	m.dial()
	m.chatter()
}

// chatter repeats the report, as levels are.
func (m *machine) chatter() {
	m.later(4*time.Second, 6*time.Second, func() {
		m.say()
		m.chatter()
	})
}

func (m *machine) step(e node.Event) {
	for _, f := range m.agent.Step(m.w.now, e) {
		m.carry(f)
	}
	if c := m.agent.Changes(); c != m.said {
		m.said = c
		m.later(time.Millisecond, 3*time.Millisecond, m.say)
	}
}

func (m *machine) say() {
	if m.conn == 0 {
		return
	}
	conn, rep := m.conn, m.agent.Report(m.w.now)
	m.w.message(func() { m.w.toServer(func(s *server) { s.m.Reported(s.now(), conn, rep) }) })
}

func (m *machine) dial() {
	if m.dials || m.dead {
		return
	}
	m.dials = true
	m.later(5*time.Millisecond, 300*time.Millisecond, func() {
		m.dials = false
		if m.w.server == nil {
			m.dial()
			return
		}
		m.w.conns++
		id := m.w.conns
		m.conn = id
		m.w.peers[id] = m
		h := nodeproto.Hello{
			Version: nodeproto.Version, Node: m.id, Installation: installation, Process: fmt.Sprint(m.life),
			Report: m.agent.Report(m.w.now),
		}
		m.w.toServer(func(s *server) { s.m.Connected(s.now(), id, h) })
	})
}

// hangUp ends the connection; both sides notice, the server perhaps late.
func (m *machine) hangUp() {
	if m.conn == 0 {
		return
	}
	id := m.conn
	m.conn = 0
	delete(m.w.peers, id)
	m.w.after(0, 2*time.Second, func() { m.w.toServer(func(s *server) { s.m.Disconnected(s.now(), id) }) })
	m.dial()
}

func (m *machine) carry(e node.Effect) {
	switch e := e.(type) {
	case node.Save:
		m.memory = e.Memory
	case node.Journal:
		_, taken := m.disk[e.Attempt]
		if !taken {
			m.disk[e.Attempt] = &folder{kept: node.Kept{Attempt: e.Attempt, Fence: e.Fence, Member: e.Member}}
		}
		m.later(0, 5*time.Millisecond, func() { m.step(node.Journalled{Attempt: e.Attempt, Taken: taken}) })
	case node.Prepare:
		f := m.disk[e.Attempt]
		f.quit = false
		m.later(time.Millisecond, 3*time.Second, func() { m.prepared(e.Attempt) })
	case node.Quit:
		m.disk[e.Attempt].quit = true
		m.later(0, 20*time.Millisecond, func() { m.step(node.Prepared{Attempt: e.Attempt}) })
	case node.Start:
		m.later(time.Millisecond, 20*time.Millisecond, func() { m.start(e.Attempt) })
	case node.Watch:
		f := m.disk[e.Attempt]
		f.watched = m.life
		if !f.alive {
			m.later(0, 10*time.Millisecond, func() { m.tell(e.Attempt) })
		}
	case node.Stop:
		m.w.after(0, 5*time.Millisecond, func() { m.shim(e.Attempt, shim.Event{Stop: e.Cause, Grace: e.Grace}) })
	case node.Sweep:
		f := m.disk[e.Attempt]
		m.later(0, 20*time.Millisecond, func() {
			if f.alive {
				m.exit(e.Attempt, queue.Exit{Cause: queue.ByNodeLoss, Code: 137}) // swept alive: killed without a record
			}
			m.step(node.Swept{Attempt: e.Attempt, Exit: f.exit})
		})
	case node.Record:
		f := m.disk[e.Attempt]
		f.exit, f.kept.Delivered, f.kept.Epoch = &e.Exit, e.Delivered, e.Epoch
	case node.Deliver:
		m.later(time.Millisecond, 100*time.Millisecond, func() { m.step(node.Delivered{Attempt: e.Attempt, Epoch: e.Epoch}) })
	case node.Forget:
		delete(m.disk, e.Attempt)
		m.later(0, 5*time.Millisecond, func() { m.step(node.Forgotten{Attempt: e.Attempt}) })
	default:
		panic(fmt.Sprintf("unknown effect %T", e))
	}
}

func (m *machine) prepared(attempt string) {
	f, ok := m.disk[attempt]
	if !ok || f.quit {
		return
	}
	p := node.Prepared{Attempt: attempt}
	if m.w.runs[runOf(attempt)].badSetup {
		p.Exit = &queue.Exit{Cause: queue.BySetup, Message: "No such package.", Ended: m.w.now}
	} else {
		m.w.ready[attempt]++
	}
	m.step(p)
}

// start is the shim's: what the promises about processes are checked on.
func (m *machine) start(attempt string) {
	f, ok := m.disk[attempt]
	if !ok || f.started || f.exit != nil {
		m.w.fail("attempt %s starts on %s a second time", attempt, m.id)
		return
	}
	f.started, f.alive, f.watched = true, true, m.life
	f.kept.Started = m.w.now
	m.w.processes(m.id, attempt)
	at := m.w.now
	m.later(0, 5*time.Millisecond, func() { m.step(node.Began{Attempt: attempt, At: at}) })
	run := m.w.runs[runOf(attempt)]
	f.process, f.stubborn, f.shim.TimeLimit = true, m.w.chance(0.2), run.run.TimeLimit
	m.shim(attempt, shim.Event{Started: true})
	if run.run.Leaders == 0 || f.kept.Member < run.run.Leaders { // what serves does so until it is stopped
		m.w.after(run.length, run.length, func() { m.ended(attempt, run.code) })
	}
}

// ended is the end of the user's process, which its shim reaps.
func (m *machine) ended(attempt string, code int) {
	if f, ok := m.disk[attempt]; ok && f.process {
		f.process = false
		m.shim(attempt, shim.Event{Exited: true, Code: code})
	}
}

// shim brings an event to the attempt's shim and does what it asks for. Shims
// outlive agents; a machine without power has none.
func (m *machine) shim(attempt string, e shim.Event) {
	f, ok := m.disk[attempt]
	if !ok || !f.alive {
		return
	}
	e.At = m.w.now
	for _, do := range f.shim.Step(e) {
		switch do.Verb {
		case shim.ArmTimeout:
			m.w.after(do.In, do.In, func() { m.shim(attempt, shim.Event{Timeout: true, Grace: 5 * time.Second}) })
		case shim.ArmGrace:
			f.armed++
			armed := f.armed
			m.w.after(do.In, do.In, func() {
				if f.armed == armed {
					m.shim(attempt, shim.Event{Overdue: true})
				}
			})
		case shim.Terminate:
			if !f.stubborn {
				m.w.after(time.Millisecond, 200*time.Millisecond, func() { m.ended(attempt, 143) })
			}
		case shim.Kill:
			m.w.after(0, 10*time.Millisecond, func() {
				m.ended(attempt, 137)
				m.shim(attempt, shim.Event{Empty: true})
			})
		case shim.Finish:
			m.exit(attempt, f.shim.Exit)
			return
		}
	}
}

// exit ends an attempt's shim and leaves its record.
func (m *machine) exit(attempt string, exit queue.Exit) {
	f, ok := m.disk[attempt]
	if !ok || !f.alive {
		return
	}
	f.alive, f.process = false, false
	exit.Started, exit.Ended = f.kept.Started, m.w.now
	f.exit = &exit
	m.w.exits[attempt] = append(m.w.exits[attempt], exit)
	if _, known := m.w.broke[attempt]; !known && exit.Cause == queue.ByExit && exit.Code != 0 {
		m.w.broke[attempt] = m.w.now
	}
	if f.watched == m.life && !m.dead {
		m.later(0, 5*time.Millisecond, func() { m.tell(attempt) })
	}
}

func (m *machine) tell(attempt string) {
	if f, ok := m.disk[attempt]; ok && f.exit != nil {
		m.step(node.Finished{Attempt: attempt, Exit: *f.exit})
	}
}

// crash ends the agent for good; with the power off, all that runs too.
func (m *machine) crash(power bool) {
	m.dead = true
	m.hangUp()
	if power {
		m.off()
	}
}

// off ends all processes without a trace.
func (m *machine) off() {
	for _, f := range m.disk {
		f.alive, f.process = false, false
	}
}
