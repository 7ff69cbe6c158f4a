package control

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Effect is one thing that the shell does for the machine. The answers of
// Commit, Launch, Remove, List and Measure come back as calls of the machine.
type Effect interface{ effect() }

// Commit writes changes, whole or not at all. At most one is under way.
type Commit struct{ Changes []row.Change }

// Launch asks the engine for a node; the shell adds the token.
type Launch struct{ Spec engine.Spec }

// Remove asks the engine to make a node go.
type Remove struct{ Node string }

// List asks the engine what it has.
type List struct{}

// Measure asks the engine how much it has.
type Measure struct{}

// Admit accepts a connection.
type Admit struct{ Session int64 }

// Refuse turns a connection down.
type Refuse struct {
	Session int64
	Err     error
}

// Send tells an agent what is wanted.
type Send struct {
	Session int64
	Desired nodeproto.Desired
}

// Close ends a connection.
type Close struct {
	Session int64
	Why     string
}

// Note is for the log: an action that was recorded, or something that failed.
type Note struct {
	Action pool.Action
	Failed error
}

func (Commit) effect()  {}
func (Launch) effect()  {}
func (Remove) effect()  {}
func (List) effect()    {}
func (Measure) effect() {}
func (Admit) effect()   {}
func (Refuse) effect()  {}
func (Send) effect()    {}
func (Close) effect()   {}
func (Note) effect()    {}

// Connected is an agent's hello on a new connection with an id never used before.
func (m *Machine) Connected(now time.Time, id int64, h nodeproto.Hello) {
	n, err := m.admit(h)
	if err != nil {
		m.do(Refuse{Session: id, Err: err})
		return
	}
	w := m.watch(now, h.Node)
	if w.session != nil {
		m.close(w.session, "the agent has a newer connection")
	}
	s := &session{id: id, node: h.Node, warnings: warnings(h), address: address(h), engine: clean(h.Engine), report: h.Report, at: now}
	m.sessions[id] = s
	w.heard, w.silent = now, ""
	m.speaks(h.Node, s)
	m.touched[h.Node] = true
	m.do(Admit{Session: id})
	m.send(now, s, n)
}

// admit says whether an agent may speak for the node it names.
func (m *Machine) admit(h nodeproto.Hello) (fleet.Node, error) {
	words := nodeproto.Refusal(h.Version)
	switch {
	case words != "":
		return fleet.Node{}, fault.New(fault.Unsupported, h.Node, "%s", words)
	case h.Installation != m.cfg.Installation:
		return fleet.Node{}, fault.New(fault.Forbidden, h.Node, "The node belongs to another installation.")
	case m.started.IsZero():
		return fleet.Node{}, fault.New(fault.Unavailable, h.Node, "The server is starting.")
	}
	if m.stock || m.cfg.Epoch > 0 && m.aside == nil {
		return fleet.Node{}, fault.New(fault.Unavailable, h.Node, "The server looks at what there is, after a restore.")
	}
	if _, ok := m.aside[h.Node]; ok {
		return fleet.Node{}, fault.New(fault.Forbidden, h.Node, "The node is quarantined since a restore; its jobs may go on.")
	}
	n, ok := m.view.Node(h.Node)
	if !ok || n.State == fleet.Removing || n.State == fleet.Gone {
		return fleet.Node{}, fault.New(fault.NotFound, h.Node, "No such node is wanted.")
	}
	return n, nil
}

// Reported is what an agent says it has.
func (m *Machine) Reported(now time.Time, id int64, r nodeproto.Report) {
	s, ok := m.sessions[id]
	if !ok {
		return // superseded
	}
	s.report, s.at = r, now
	m.nodes[s.node].heard = now
	m.touched[s.node] = true
	if n, ok := m.view.Node(s.node); ok && r.Revision < n.Revision && now.Sub(s.sentAt) > resendAfter {
		m.send(now, s, n)
	}
}

// Beat is any sign of life on a connection.
func (m *Machine) Beat(now time.Time, id int64) {
	if s, ok := m.sessions[id]; ok {
		m.nodes[s.node].heard = now
	}
}

// Disconnected is the end of a connection. The engine is asked at once whether
// the node has died.
func (m *Machine) Disconnected(now time.Time, id int64) {
	s, ok := m.sessions[id]
	if !ok {
		return
	}
	delete(m.sessions, id)
	m.nodes[s.node].heard = now
	m.speaks(s.node, nil)
	m.listAgain = true
}

// close ends a connection from this side.
func (m *Machine) close(s *session, why string) {
	delete(m.sessions, s.id)
	if w, ok := m.nodes[s.node]; ok && w.session == s {
		m.speaks(s.node, nil)
	}
	m.do(Close{Session: s.id, Why: why})
}

// Launched is the answer to a Launch.
func (m *Machine) Launched(now time.Time, node string, err error) {
	w, ok := m.nodes[node]
	if !ok {
		return
	}
	w.calling, w.launched, w.failed = false, now, err
	if err != nil {
		m.touched[node] = true
		m.do(Note{Failed: fmt.Errorf("launch %s: %w", node, err)})
	}
	m.tend(now, node)
}

// Removed is the answer to a Remove.
func (m *Machine) Removed(now time.Time, node string, err error) {
	delete(m.orphans, node)
	if err != nil {
		m.do(Note{Failed: fmt.Errorf("remove %s: %w", node, err)})
	}
	w, ok := m.nodes[node]
	if !ok {
		return
	}
	w.calling = false
	if err != nil {
		w.fails++
		w.removeAt = now.Add(backoff(w.fails, retryCallMin, retryCallMax))
		return // the next sweep tries again
	}
	w.removed = true
	m.touched[node] = true
}

// Listed is the answer to a List.
func (m *Machine) Listed(now time.Time, all []engine.Seen, err error) {
	asked := m.listed
	m.listed, m.listAt = time.Time{}, now.Add(listEvery)
	if err != nil {
		m.do(Note{Failed: fmt.Errorf("list nodes: %w", err)})
		return
	}
	if m.stock {
		m.takeStock(now, all)
		return
	}
	seen := make(map[string]engine.Seen, len(all))
	aside := map[string]engine.Seen{}
	for _, n := range all {
		seen[n.Node] = n
		if m.older(n) {
			aside[n.Node] = n
			continue
		}
		if _, ok := m.view.Node(n.Node); !ok && m.nodes[n.Node] == nil && !m.orphans[n.Node] {
			m.orphans[n.Node] = true
			m.do(Note{Failed: fmt.Errorf("node %s is the engine's and nobody's: removing it", n.Node)})
			m.do(Remove{Node: n.Node})
		}
	}
	m.setAside(aside)
	for n := range m.view.Nodes() {
		w := m.watch(now, n.ID)
		known := w.old || !w.launched.IsZero() && w.launched.Before(asked)
		if !known || w.calling || w.dead != "" || n.State == fleet.Removing {
			continue
		}
		was, ok := seen[n.ID]
		switch {
		case !ok:
			w.dead = "the engine does not have it any more"
		case !was.Alive:
			w.dead = "it died"
			if was.Why != "" {
				w.dead += ": " + strings.TrimSuffix(was.Why, ".")
			}
		default:
			continue
		}
		m.touched[n.ID] = true
	}
}

// Measured is the answer to a Measure.
func (m *Machine) Measured(now time.Time, c engine.Capacity, err error) {
	m.measureAt = now.Add(measureEvery)
	if err != nil {
		m.measureAt = now.Add(listEvery)
		m.do(Note{Failed: fmt.Errorf("measure capacity: %w", err)})
		return
	}
	if now := pool.Capacity(c); !m.measured || m.capacity != now {
		m.measured, m.capacity = true, now
		m.dirt.All()
	}
}

// Desired is all that node n is to do, as of v.
func Desired(v *pool.View, n fleet.Node, term, epoch int64) nodeproto.Desired {
	d := nodeproto.Desired{Term: term, Epoch: epoch, Revision: n.Revision, Drain: n.State == fleet.Draining || n.State == fleet.Removing}
	a, ok := v.Attempt(n.Attempt)
	if !ok {
		return d
	}
	for i, mem := range a.Members {
		if mem.Node == n.ID {
			w := nodeproto.Wanted{Attempt: a.ID, Fence: a.Fence, Member: i, Stop: a.Stop, Hold: pool.Holds(a)}
			switch a.Stop {
			case "":
			case queue.ByExit, queue.BySetup:
				w.Grace = pool.GangGrace
			default:
				w.Grace = pool.Grace
			}
			d.Attempts = append(d.Attempts, w)
		}
	}
	return d
}

// reported turns an agent's report into an event. Ages count from when it came. What
// was delivered before the restore that began the epoch is not: the agent sends it
// again when it hears of that.
func reported(s *session, now time.Time, epoch int64) pool.Event {
	r := pool.Report{Revision: s.report.Revision, Empty: s.report.Empty, Warnings: s.warnings, Address: s.address, Engine: s.engine}
	for _, p := range s.report.Attempts {
		x := pool.Progress{Attempt: p.Attempt, Fence: p.Fence, Phase: p.Phase, Detail: p.Detail, Image: clean(p.Image), Age: p.StartedAgo}
		if x.Age > 0 || p.Phase == queue.InRunning {
			x.Age += now.Sub(s.at)
		}
		if p.Phase == queue.Ended && p.Epoch != nil && *p.Epoch < epoch {
			x.Phase = queue.InFinalizing
		}
		if p.Exit != nil {
			x.Exit = *p.Exit
		}
		r.Attempts = append(r.Attempts, x)
	}
	return pool.Event{Kind: pool.Reported, Node: s.node, Report: r}
}

// What is kept of an agent's warnings.
const (
	maxWarnings = 10
	maxWarning  = 500 // bytes
)

// address is that of a hello, if it is one.
func address(h nodeproto.Hello) string {
	a, err := netip.ParseAddr(h.Address)
	if err != nil || !a.Is4() {
		return ""
	}
	return a.String()
}

// warnings are the sentences of a hello, one line each and not without end. How
// far jobs are kept apart is among them where it falls short.
func warnings(h nodeproto.Hello) []string {
	var out []string
	for _, w := range append(slices.Clip(isolation(h)), h.Warnings...) {
		if w = clean(w); w != "" && len(out) < maxWarnings && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// clean is a text of an agent's, on one line and not without end.
func clean(w string) string {
	w = strings.Join(strings.Fields(strings.ToValidUTF8(w, "?")), " ")
	if len(w) > maxWarning {
		w = strings.ToValidUTF8(w[:maxWarning-len("…")], "") + "…"
	}
	return w
}

// isolation is a sentence on it, unless it is whole, or the agent's own say it.
func isolation(h nodeproto.Hello) []string {
	told := func(w string) bool {
		return strings.Contains(w, "jobs apart") || strings.Contains(w, "kept apart")
	}
	switch {
	case h.Isolation == "user+landlock" || h.Isolation == "" || slices.ContainsFunc(h.Warnings, told):
		return nil
	case h.Isolation == "landlock":
		return []string{"Jobs have no users of their own on this node: Landlock alone keeps them apart."}
	}
	return []string{"This node does not keep jobs apart from each other by both users and Landlock."}
}

// noted are the actions that go into the activity log.
var noted = map[pool.Verb]bool{
	pool.Launch: true, pool.Drain: true, pool.Suspect: true, pool.Remove: true, pool.Start: true,
	pool.Stop: true, pool.Requeue: true, pool.End: true, pool.Delete: true,
}

// activity turns the actions of a plan into rows of the activity log, to be
// committed with it.
func (m *Machine) activity(now time.Time, p pool.Plan) []row.Change {
	var out []row.Change
	for _, a := range p.Actions {
		if !noted[a.Verb] {
			continue
		}
		body, err := json.Marshal(map[string]string{
			"time": now.UTC().Format(time.RFC3339Nano), "verb": string(a.Verb), "subject": subject(a), "why": a.Why,
		})
		if err != nil {
			panic("control: encode event: " + err.Error()) // strings always encode
		}
		m.events++
		sort := fmt.Sprintf("%s-%d-%09d", row.SortTime(now), m.cfg.Term, m.events)
		out = append(out, row.Put(row.Document{
			Kind: row.Event, ID: a.Cluster + "/events/" + sort, Parent: a.Cluster, Sort: sort, Body: body,
			Created: now, Modified: now, By: "ebb",
		}))
	}
	return out
}

func subject(a pool.Action) string {
	for _, s := range []string{a.Attempt, a.Run, a.Node} {
		if s != "" {
			return s
		}
	}
	return a.Cluster
}

// clause makes of an error a clause without a full stop.
func clause(err error) string { return strings.TrimRight(err.Error(), ".") }
