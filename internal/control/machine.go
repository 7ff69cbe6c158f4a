// Package control keeps clusters and runs as they are wanted: observe, decide,
// record, act, wait. What to do is core/pool's to say.
//
// [Machine] holds the logic and does no I/O: events go in, effects come out.
// [Loop] is the shell around it that talks to the store, the engine and the
// agents. Start at [Machine.Turn].
package control

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Times by which the machine judges what it does not hear. They count only
// while it watches: from its own start, and anew after a stall.
const (
	SilentAfter   = 30 * time.Second // a node without a connection is unusable
	HelloWithin   = 60 * time.Second // a launched node says hello
	resendAfter   = 2 * time.Second  // an order that reports do not act on is sent again
	sweepEvery    = time.Second      // how often silence is looked for, while there are nodes
	listEvery     = 5 * time.Second  // how often the engine is asked what it has
	measureEvery  = time.Minute      // how often the engine is asked how much it has
	lookEvery     = time.Minute      // how often all clusters are looked at, changed or not
	stallAfter    = 10 * time.Second // not having been called for so long is a stall
	retryCallMin  = time.Second      // first pause after an engine call that failed
	retryCallMax  = 30 * time.Second
	retryWriteMin = 100 * time.Millisecond // first pause after a commit that failed
	retryWriteMax = 5 * time.Second
)

// Config is what a machine is told once.
type Config struct {
	Installation string // whose nodes these are
	Term         int64  // of this server's life; higher than any before
	Epoch        int64  // of the installation, as pool.Facts has it
	Restored     bool   // the state was restored and has not been held against the engine yet
	// Check is told of every plan, from what it was made, and when the next look is
	// due. For tests; default nobody.
	Check func(v *pool.View, f pool.Facts, now time.Time, p pool.Plan, next time.Time)
}

// Machine is the logic of control. Its methods must be called by one goroutine
// at a time, with times that never go back. Everything it knows beyond the view
// may be lost at any moment: a new one finds it again.
type Machine struct {
	cfg     Config
	view    *pool.View
	out     []Effect
	started time.Time // zero: no turn yet
	last    time.Time // of the last turn or event

	nodes    map[string]*watch
	sessions map[int64]*session
	touched  map[string]bool // nodes about which there is something to tell Decide
	orphans  map[string]bool // being removed

	dropped map[string]bool        // nodes forgotten since the last list was asked: it may still have them
	stock   bool                   // before anything else, what is restored is held against the engine
	aside   map[string]engine.Seen // quarantined, as of the last list; nil: there was none

	dirt   pool.Dirt
	absent map[string]bool // nodes that no agent speaks for
	lookAt time.Time       // at everything, to be sure

	writing *batch // being committed; nil: none
	fails   int    // commits failed in a row
	writeAt time.Time
	fence   int64 // the highest that was given out
	events  int64 // activity events written

	capacity  pool.Capacity
	measured  bool
	measureAt time.Time // zero: being measured
	listAt    time.Time
	listed    time.Time // when the list that is under way was asked; zero: none is
	listAgain bool
	sweepAt   time.Time
	hold      string
}

// batch is one plan on its way to the disk.
type batch struct {
	plan    pool.Plan
	touched map[string]bool
	aside   map[string]engine.Seen // what is quarantined once it is written; nil: it was no stock
}

// session is one agent's connection.
type session struct {
	id     int64
	node   string
	sent   int64 // revision last sent; 0: none
	sentAt time.Time
	report nodeproto.Report
	at     time.Time // when the report came

	warnings []string // of its hello
	address  string   // of its hello
	engine   string   // the same
}

// watch is what this machine saw of one node.
type watch struct {
	session  *session
	heard    time.Time
	old      bool      // launched before this machine started
	calling  bool      // an engine call about it is under way
	launched time.Time // when the engine answered the launch; zero: not yet
	failed   error     // what it answered
	silent   string
	dead     string
	removed  bool
	fails    int       // removals failed in a row
	removeAt time.Time // zero: at once
}

// New returns a machine that knows nothing yet.
func New(c Config) *Machine {
	return &Machine{
		cfg: c, view: pool.New(), nodes: map[string]*watch{}, sessions: map[int64]*session{},
		touched: map[string]bool{}, orphans: map[string]bool{}, absent: map[string]bool{}, dropped: map[string]bool{},
		fence: queue.FenceBefore(c.Term), stock: c.Restored,
	}
}

// Turn looks at the view, decides, and returns what is to be done, in order.
// Effects of earlier events are among them. Call it after events, when the store
// has changed, and when the time that [Machine.Next] gives has come.
func (m *Machine) Turn(now time.Time, v *pool.View) []Effect {
	m.view = v
	m.open(now)
	m.sweep(now)
	m.ask(now)
	m.decide(now)
	out := m.out
	m.out = nil
	return out
}

// Next is when to call Turn again at the latest.
func (m *Machine) Next() time.Time {
	next := m.listAt
	for _, at := range []time.Time{m.sweepAt, m.measureAt, m.dirt.Next(), m.writeAt} {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// open starts watching: at the first turn, and anew after a stall, because
// silence is no death while nobody listens.
func (m *Machine) open(now time.Time) {
	switch {
	case m.started.IsZero():
		m.started = now
		m.listAt, m.measureAt, m.sweepAt = now, now, now.Add(sweepEvery)
		for n := range m.view.Nodes() {
			m.watch(now, n.ID).old = n.State != fleet.Launching
		}
		for _, id := range slices.Sorted(maps.Keys(m.nodes)) {
			m.tend(now, id)
		}
	case now.Sub(m.last) > stallAfter:
		for _, w := range m.nodes {
			w.heard = now
			if !w.launched.IsZero() {
				w.launched = now
			}
		}
	}
	m.last = now
}

// sweep looks for silence.
func (m *Machine) sweep(now time.Time) {
	if now.Before(m.sweepAt) {
		return
	}
	m.sweepAt = now.Add(sweepEvery)
	watched, silent := 0, 0
	for _, id := range slices.Sorted(maps.Keys(m.nodes)) {
		w := m.nodes[id]
		n, ok := m.view.Node(id)
		if !ok {
			continue
		}
		if w.session != nil && now.Sub(w.heard) > SilentAfter {
			m.close(w.session, "its connection was silent")
		}
		quiet := w.session == nil && now.Sub(w.heard) > SilentAfter
		switch n.State {
		case fleet.Launching:
			if w.session == nil && !w.launched.IsZero() && now.Sub(w.launched) > HelloWithin {
				m.suspect(id, fmt.Sprintf("its agent did not say hello within %v of its launch", HelloWithin))
			}
		case fleet.Idle, fleet.Busy, fleet.Draining, fleet.Unusable:
			watched++
			if quiet {
				silent++
				m.suspect(id, fmt.Sprintf("its agent was not heard for %v", SilentAfter))
			}
		case fleet.Removing:
			m.tend(now, id)
		}
	}
	hold := ""
	if watched >= 5 && silent*5 > watched {
		hold = "many nodes fell silent at once, which looks like the network and not like the nodes"
	}
	if hold != m.hold {
		m.hold = hold
		m.dirt.All()
	}
}

func (m *Machine) suspect(node, why string) {
	if w := m.nodes[node]; w.silent == "" {
		w.silent = why
		m.touched[node] = true
	}
}

// ask asks the engine what it has.
func (m *Machine) ask(now time.Time) {
	if !m.measureAt.IsZero() && !now.Before(m.measureAt) {
		m.measureAt = time.Time{}
		m.do(Measure{})
	}
	due := !m.listAt.IsZero() && !now.Before(m.listAt)
	if m.listed.IsZero() && (due || m.listAgain) {
		m.listed, m.listAt, m.listAgain = now, time.Time{}, false
		clear(m.dropped)
		m.do(List{})
	}
}

// decide asks core/pool for a plan and sends it to the disk. While one is on its
// way, nothing is decided: the view does not have it yet.
func (m *Machine) decide(now time.Time) {
	if m.writing != nil || m.stock || now.Before(m.writeAt) {
		return
	}
	m.writeAt = time.Time{}
	if !now.Before(m.lookAt) {
		m.lookAt = now.Add(lookEvery)
		m.dirt.All()
	}
	f := pool.Facts{
		Seen: m.seen(now), Away: m.absent, Hold: m.hold, Capacity: m.capacity, Blind: !m.measured, Fence: m.fence,
		Dirty: m.dirt.Look(m.view, now), Looks: m.dirt.Looks(),
		Epoch: m.cfg.Epoch, Taken: m.taken(),
	}
	var plan pool.Plan
	if f.Dirty == nil || len(f.Dirty)+len(f.Seen) > 0 {
		plan = pool.Decide(m.view, f, now)
	}
	m.dirt.Decided(m.view, plan)
	if m.cfg.Check != nil {
		m.cfg.Check(m.view, f, now, plan, m.dirt.Next())
	}
	m.fence = max(m.fence, plan.Fence)
	touched := m.touched
	m.touched = map[string]bool{}
	if len(plan.Changes) == 0 {
		return
	}
	m.writing = &batch{plan: plan, touched: touched}
	m.do(Commit{Changes: append(slices.Clip(plan.Changes), m.activity(now, plan)...)})
}

// seen turns what is known of the touched nodes into events. They are levels:
// a plan that was not committed sees them again.
func (m *Machine) seen(now time.Time) []pool.Event {
	var out []pool.Event
	for _, id := range slices.Sorted(maps.Keys(m.touched)) {
		w, ok := m.nodes[id]
		if !ok {
			continue
		}
		if w.session != nil {
			w.silent = ""
			out = append(out, reported(w.session, now, m.cfg.Epoch))
		}
		if w.silent != "" {
			out = append(out, pool.Event{Kind: pool.Silent, Node: id, Why: w.silent})
		}
		if w.failed != nil {
			out = append(out, pool.Event{
				Kind: pool.LaunchFailed, Node: id, Why: clause(w.failed),
				Permanent: errors.Is(w.failed, fault.Invalid), Full: errors.Is(w.failed, fault.Exhausted),
			})
		}
		if w.dead != "" {
			out = append(out, pool.Event{Kind: pool.Dead, Node: id, Why: w.dead})
		}
		if w.removed {
			out = append(out, pool.Event{Kind: pool.Removed, Node: id})
		}
	}
	return out
}

// speaks notes whether an agent speaks for a node. Where none does any more less can
// be done, and nothing new: core/pool need not look for that.
func (m *Machine) speaks(node string, s *session) {
	m.nodes[node].session = s
	if s == nil {
		m.absent[node] = true
	} else {
		delete(m.absent, node)
	}
}

// Committed tells what became of a Commit. With err nothing was written, and the
// levels are looked at again; without, v has it, and it is acted on.
func (m *Machine) Committed(now time.Time, v *pool.View, err error) {
	b := m.writing
	if b == nil {
		return
	}
	m.writing = nil
	if err != nil {
		m.fails++
		m.writeAt = now.Add(backoff(m.fails, retryWriteMin, retryWriteMax))
		maps.Copy(m.touched, b.touched)
		m.dirt.All()
		m.listAgain = m.listAgain || m.stock
		m.do(Note{Failed: fmt.Errorf("record plan: %w", err)})
		return
	}
	m.fails, m.view = 0, v
	if b.aside != nil {
		m.stocked(now, b)
	}
	for _, a := range b.plan.Actions {
		m.do(Note{Action: a})
	}
	for _, c := range b.plan.Changes {
		switch {
		case c.Put == nil && c.Drop.Kind == row.Node:
			m.forget(c.Drop.ID)
		case c.Put != nil && c.Put.Key().Kind == row.Node:
			m.tend(now, c.Put.Key().ID)
		}
	}
}

// tend makes the engine and the agent of a node do what its row says.
func (m *Machine) tend(now time.Time, id string) {
	n, ok := m.view.Node(id)
	if !ok || m.stock {
		return
	}
	w := m.watch(now, id)
	switch {
	case w.calling:
	case n.State == fleet.Launching && w.launched.IsZero():
		w.calling = true
		m.do(Launch{Spec: m.spec(n)})
	case n.State == fleet.Removing && !w.removed && !now.Before(w.removeAt):
		w.calling = true
		m.do(Remove{Node: id})
	}
	if w.session != nil && w.session.sent < n.Revision {
		m.send(now, w.session, n)
	}
}

func (m *Machine) send(now time.Time, s *session, n fleet.Node) {
	s.sent, s.sentAt = n.Revision, now
	m.do(Send{Session: s.id, Desired: Desired(m.view, n, m.cfg.Term, m.cfg.Epoch)})
}

func (m *Machine) watch(now time.Time, id string) *watch {
	w, ok := m.nodes[id]
	if !ok {
		w = &watch{heard: now}
		m.nodes[id] = w
		m.speaks(id, nil)
	}
	return w
}

func (m *Machine) forget(id string) {
	if w, ok := m.nodes[id]; ok && w.session != nil {
		m.close(w.session, "the node is gone")
	}
	m.dropped[id] = true
	delete(m.nodes, id)
	delete(m.absent, id)
	delete(m.touched, id)
}

func (m *Machine) spec(n fleet.Node) engine.Spec {
	c, _ := m.view.Cluster(n.Cluster)
	return engine.Spec{
		Node: n.ID, Cluster: c.Name, Size: c.Size, LowPriority: c.LowPriority,
		Installation: m.cfg.Installation, Epoch: m.cfg.Epoch,
	}
}

func (m *Machine) do(e Effect) { m.out = append(m.out, e) }

func backoff(fails int, from, to time.Duration) time.Duration {
	for range fails - 1 {
		if from *= 2; from >= to {
			return to
		}
	}
	return from
}
