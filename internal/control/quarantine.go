package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/fault"
)

// A server that was restored to an older state finds nodes that it does not know,
// or that hold what it does not know. They are quarantined: not killed, for what
// they run is somebody's work, and not adopted, for nobody here knows what it is.
// They stay until a person ends them; what they take of the machine counts.

// StockKey is the row that says for which epoch stock was taken.
var StockKey = row.Key{Kind: row.Datum, ID: "stock"}

// StockOf reads it.
func StockOf(d row.Document) int64 {
	n, _ := strconv.ParseInt(string(d.Body), 10, 64)
	return n
}

// older reports whether a node without a row is not ours to remove: it was
// launched before a restore, or for another installation. What is of this epoch
// and has no row is what a crash left.
func (m *Machine) older(n engine.Seen) bool {
	if _, ok := m.view.Node(n.Node); ok || m.nodes[n.Node] != nil || m.orphans[n.Node] || m.dropped[n.Node] {
		return false
	}
	return n.Epoch != m.cfg.Epoch || n.Installation != "" && n.Installation != m.cfg.Installation
}

// takeStock holds what was restored against what the engine has, once.
func (m *Machine) takeStock(now time.Time, all []engine.Seen) {
	if m.writing != nil {
		return
	}
	var held []pool.Held
	for _, n := range all {
		if n.Installation == "" || n.Installation == m.cfg.Installation { // another's node has our names by chance
			held = append(held, pool.Held{Node: n.Node, Attempts: n.Attempts, Unknown: n.Unknown})
		}
	}
	plan := pool.Stock(m.view, held, now)
	aside := map[string]engine.Seen{}
	dropped := map[string]bool{}
	for _, c := range plan.Changes {
		if c.Put == nil && c.Drop.Kind == row.Node {
			dropped[c.Drop.ID] = true
		}
	}
	for _, n := range all {
		if _, ok := m.view.Node(n.Node); !ok || dropped[n.Node] {
			aside[n.Node] = n
		}
	}
	m.writing = &batch{plan: plan, aside: aside}
	done := row.Document{
		Kind: StockKey.Kind, ID: StockKey.ID, Body: []byte(strconv.FormatInt(m.cfg.Epoch, 10)), Created: now, Modified: now, By: "ebb",
	}
	m.do(Commit{Changes: slices.Concat(plan.Changes, m.activity(now, plan), []row.Change{row.Put(done)})})
}

// stocked begins the ordinary life.
func (m *Machine) stocked(now time.Time, b *batch) {
	m.stock = false
	for _, c := range b.plan.Changes {
		if c.Put == nil && c.Drop.Kind == row.Node {
			m.forget(c.Drop.ID)
		}
	}
	m.setAside(b.aside)
	m.dirt.All()
	for _, id := range slices.Sorted(maps.Keys(m.nodes)) {
		m.tend(now, id)
	}
}

// setAside replaces what is quarantined, and says what is new.
func (m *Machine) setAside(aside map[string]engine.Seen) {
	before := m.taken()
	for _, id := range slices.Sorted(maps.Keys(aside)) {
		if _, ok := m.aside[id]; !ok {
			m.do(Note{Failed: fmt.Errorf("node %s is quarantined: %s", id, m.whyAside(aside[id]))})
		}
	}
	if m.aside = aside; m.taken() != before {
		m.dirt.All()
	}
}

// taken is what quarantined nodes take of the machine.
func (m *Machine) taken() (z fleet.Size) {
	for _, n := range m.aside {
		z.VCPUs += n.Size.VCPUs
		z.MemoryGiB += n.Size.MemoryGiB
		z.GPUs += n.Size.GPUs
	}
	return z
}

func (m *Machine) whyAside(n engine.Seen) string { return whyAside(n, m.cfg.Installation) }

func whyAside(n engine.Seen, installation string) string {
	holds := "It holds no job."
	if len(n.Attempts) > 0 {
		holds = "It holds " + strings.Join(n.Attempts, ", ") + ", which may go on and stays in its folder."
	}
	if n.Unknown {
		holds = "What it holds cannot be read on its machine."
	}
	if n.Installation != "" && n.Installation != installation {
		return "It was launched for another installation, " + n.Installation + ". " + holds
	}
	return "The state that this server was restored to does not know it as it is. " + holds
}

// Quarantined is a node that the engine has and that is in no row.
type Quarantined struct {
	Node     string
	Cluster  string // name, as it was launched for
	Alive    bool
	Size     fleet.Size
	Attempts []string
	Why      string // whole sentences
}

// Quarantine lists what is quarantined, by id.
func (l *Loop) Quarantine() []Quarantined {
	var out []Quarantined
	aside := l.aside.Load()
	if aside == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(*aside)) {
		n := (*aside)[id]
		out = append(out, Quarantined{id, n.Cluster, n.Alive, n.Size, n.Attempts, whyAside(n, l.Installation)})
	}
	return out
}

// Aside reports whether a node is to be let alone: it is quarantined, or after a
// restore nobody has looked yet. It may ask again.
func (l *Loop) Aside(node string) bool {
	aside := l.aside.Load()
	if aside == nil {
		return l.Epoch > 0
	}
	_, ok := (*aside)[node]
	return ok
}

// End makes a quarantined node go, with all that it runs; [fault.NotFound] if there
// is none of that id.
func (l *Loop) End(ctx context.Context, node string) error {
	aside := l.aside.Load()
	if aside == nil {
		return fault.New(fault.Unavailable, node, "The server has not looked yet at what nodes there are.")
	}
	if _, ok := (*aside)[node]; !ok {
		return fault.New(fault.NotFound, node, "No node %q is quarantined.", node)
	}
	if err := l.Engine.Remove(ctx, node); err != nil {
		return err
	}
	l.inbox.post(func(r *running) { r.m.ended(node) })
	return nil
}

// ended forgets a node that is gone.
func (m *Machine) ended(node string) {
	aside := maps.Clone(m.aside)
	delete(aside, node)
	m.setAside(aside)
	m.listAgain = true
}
