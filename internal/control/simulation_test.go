package control_test

import (
	"container/heap"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/control"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/engine/sim"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/store/storetest"
)

var (
	oneSeed = flag.Uint64("seed", 0, "replay one seed of the simulation, with its story")
	seeds   = flag.Uint64("seeds", 1000, "how many seeds of the simulation to try")
)

const installation = "2f1b0c62-0000-4000-8000-000000000001"

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// Faults happen for so long; after that everything must come to rest.
const (
	faultsFor = 90 * time.Second
	restBy    = 40 * time.Minute
)

// TestSimulation runs the control plane, the agents and the shims of a whole
// installation on one heap of events. The same seed is the same history.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *oneSeed != 0 {
		w := newWorld(*oneSeed)
		w.story = func(s string) { t.Log(s) }
		w.play()
		for _, f := range w.failed {
			t.Error(f)
		}
		return
	}
	var mu sync.Mutex
	bad, total := 0, stats{}
	var wg sync.WaitGroup
	for lane := range uint64(2) {
		wg.Go(func() {
			for seed := 1 + lane; seed <= *seeds; seed += 2 {
				w := newWorld(seed)
				w.play()
				mu.Lock()
				total.add(w.stats)
				if len(w.failed) > 0 && bad < 5 {
					bad++
					t.Errorf("seed %d (replay: go test ./internal/control -run TestSimulation -seed=%d -v): %s", seed, seed, strings.Join(w.failed, "; "))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds: %+v", *seeds, total)
	// A simulation in which nothing happens proves nothing.
	if *seeds >= 100 && (total.crashes == 0 || total.deaths == 0 || total.requeued == 0 || total.lost == 0 || total.failedCommits == 0 || total.cancelled == 0 || total.gangs == 0 || total.led == 0) {
		t.Errorf("some fault never happened: %+v", total)
	}
}

// TestSameSeedSameHistory is what makes a seed worth printing.
func TestSameSeedSameHistory(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 3; seed++ {
		var first, second strings.Builder
		for _, b := range []*strings.Builder{&first, &second} {
			w := newWorld(seed)
			w.story = func(s string) { b.WriteString(s + "\n") }
			w.play()
		}
		if first.String() != second.String() {
			t.Errorf("seed %d: two plays differ", seed)
		}
		if first.Len() == 0 {
			t.Errorf("seed %d: nothing happened", seed)
		}
	}
}

type stats struct {
	runs, crashes, deaths, lost, requeued, failedCommits, cancelled, deleted, completed int
	gangs, led                                                                          int // of those completed
}

func (s *stats) add(o stats) {
	s.runs += o.runs
	s.crashes += o.crashes
	s.deaths += o.deaths
	s.lost += o.lost
	s.requeued += o.requeued
	s.failedCommits += o.failedCommits
	s.cancelled += o.cancelled
	s.deleted += o.deleted
	s.completed += o.completed
	s.gangs += o.gangs
	s.led += o.led
}

// event is something that happens at a time.
type event struct {
	at  time.Time
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if c := e[i].at.Compare(e[j].at); c != 0 {
		return c < 0
	}
	return e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// server is one life of the server.
type server struct {
	w      *world
	m      *control.Machine
	turnAt time.Time // zero: none is due
	behind time.Duration
}

// now is the site clock. A life that begins after a crash may find the wall clock
// set back, and then does not know of the last minute.
func (s *server) now() time.Time { return s.w.now.Add(-s.behind) }

// job is a run as its user knows it.
type job struct {
	run       queue.Run
	length    time.Duration
	code      int
	badSetup  bool
	cancelled time.Time
}

type world struct {
	rnd      *rand.Rand
	now      time.Time
	heap     events
	seq      int
	store    *storetest.Model
	engine   *sim.Engine
	server   *server
	machines map[string]*machine
	conns    int64
	peers    map[int64]*machine
	runs     map[string]*job // acknowledged
	exits    map[string][]queue.Exit
	ready    map[string]int       // members that were prepared, by attempt
	broke    map[string]time.Time // when the first process failed, by attempt
	clusters []string
	deleted  map[string]bool
	fence    int64
	faults   bool // this seed has them
	turnView *pool.View
	last     map[row.Key]row.Row // what was committed, for the checks
	stats    stats
	failed   []string
	story    func(string)
}

func newWorld(seed uint64) *world {
	w := &world{
		rnd: rand.New(rand.NewPCG(seed, 3)), now: noon, store: storetest.NewModel(), machines: map[string]*machine{},
		peers: map[int64]*machine{}, runs: map[string]*job{}, exits: map[string][]queue.Exit{},
		ready: map[string]int{}, broke: map[string]time.Time{},
		deleted: map[string]bool{}, last: map[row.Key]row.Row{},
	}
	w.faults = seed%4 != 0
	w.engine = &sim.Engine{Started: w.nodeStarted, Stopped: w.nodeStopped}
	if w.rnd.IntN(3) == 0 {
		w.engine.Room = 2 + w.rnd.IntN(4)
	}
	if w.rnd.IntN(3) == 0 {
		w.engine.Has = engine.Capacity{VCPUs: 4 * (2 + w.rnd.IntN(5))}
	} else {
		w.engine.Has = engine.Capacity{VCPUs: 8, Oversubscribe: true}
	}
	w.engine.Fail = func(op sim.Op, _ string) error {
		if w.chance(0.05) {
			return fault.New(fault.Unavailable, "", "the engine has a bad day at %s", op)
		}
		return nil
	}
	w.store.Fail = func([]row.Change) error {
		if w.chance(0.02) {
			w.stats.failedCommits++
			return fault.New(fault.Unavailable, "", "the disk is full")
		}
		return nil
	}
	return w
}

func (w *world) fail(format string, args ...any) {
	w.tell("BROKEN: "+format, args...)
	w.failed = append(w.failed, fmt.Sprintf("at %v: ", w.now.Sub(noon))+fmt.Sprintf(format, args...))
}

func (w *world) tell(format string, args ...any) {
	if w.story != nil {
		w.story(fmt.Sprintf("%12v  ", w.now.Sub(noon)) + fmt.Sprintf(format, args...))
	}
}

// troubled reports whether faults happen now.
func (w *world) troubled() bool { return w.faults && w.now.Sub(noon) < faultsFor }

func (w *world) chance(p float64) bool { return w.troubled() && w.rnd.Float64() < p }

func (w *world) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(w.rnd.Int64N(int64(most-least)))
}

func (w *world) after(least, most time.Duration, f func()) {
	w.seq++
	heap.Push(&w.heap, event{w.now.Add(w.between(least, most)), w.seq, f})
}

// message delivers something over the network: late, twice, or not at all.
func (w *world) message(f func()) {
	if w.chance(0.03) {
		w.stats.lost++
		return
	}
	w.after(0, 20*time.Millisecond, f)
	if w.chance(0.03) {
		w.after(0, 5*time.Second, f)
	}
}

// play runs the history to its rest and checks what must hold then.
func (w *world) play() {
	w.startServer()
	w.plan()
	for len(w.heap) > 0 && len(w.failed) == 0 {
		e := heap.Pop(&w.heap).(event)
		if e.at.Sub(noon) > restBy {
			w.fail("no rest after %v: %s", restBy, strings.Join(w.unrest(), ", "))
			return
		}
		w.now = e.at
		e.do()
		if w.now.Sub(noon) > faultsFor+5*time.Second && w.seq%64 == 0 && len(w.unrest()) == 0 {
			break
		}
	}
	w.checkEnd()
}

// ---- the server

func (w *world) startServer() {
	w.server = &server{w: w, m: control.New(control.Config{Installation: installation, Term: w.store.Term(), Check: w.checkDirt})}
	w.server.wake()
}

// crash kills the server between any two steps. What it had sent is sent.
func (w *world) crash() {
	w.stats.crashes++
	w.tell("server dies")
	w.server = nil
	for _, id := range slices.Sorted(maps.Keys(w.peers)) {
		m := w.peers[id]
		m.conn = 0
		m.dial()
	}
	w.peers = map[int64]*machine{}
	w.after(500*time.Millisecond, 20*time.Second, func() {
		w.store.Reopen()
		w.tell("server starts, term %d", w.store.Term())
		w.startServer()
		w.server.behind = w.between(0, time.Minute)
	})
}

// toServer lets the living server handle something.
func (w *world) toServer(f func(*server)) {
	if w.server == nil {
		return
	}
	f(w.server)
	w.server.wake()
}

// wake makes the server turn within a moment.
func (s *server) wake() { s.turnIn(time.Millisecond) }

func (s *server) turnIn(d time.Duration) {
	at := s.w.now.Add(d)
	if !s.turnAt.IsZero() && !at.Before(s.turnAt) {
		return
	}
	s.turnAt = at
	s.w.after(d, d, func() {
		if s.w.server != s || !s.turnAt.Equal(at) {
			return
		}
		s.turnAt = time.Time{}
		s.w.turnView = s.w.store.View()
		for _, e := range s.m.Turn(s.now(), s.w.turnView) {
			if s.w.chance(0.004) {
				s.w.crash()
				return
			}
			s.carry(e)
		}
		if next := s.m.Next(); !next.IsZero() {
			s.turnIn(max(time.Millisecond, next.Sub(s.now())))
		}
	})
}

// mine runs f later, if this life of the server still lasts.
func (s *server) mine(least, most time.Duration, f func()) {
	s.w.after(least, most, func() {
		if s.w.server == s {
			f()
			s.wake()
		}
	})
}

func (s *server) carry(e control.Effect) {
	w := s.w
	switch e := e.(type) {
	case control.Commit:
		view := w.turnView
		s.mine(time.Millisecond, 4*time.Millisecond, func() {
			if w.chance(0.01) {
				w.crash() // before the commit
				return
			}
			_, err := w.store.Commit(context.Background(), e.Changes...)
			if err == nil {
				w.committed(view, e.Changes)
			}
			if w.chance(0.01) {
				w.crash() // after it
				return
			}
			s.mine(0, 2*time.Millisecond, func() { s.m.Committed(s.now(), w.store.View(), err) })
		})
	case control.Launch:
		w.after(time.Millisecond, 100*time.Millisecond, func() {
			err := w.engine.Launch(context.Background(), e.Spec)
			if err == nil && w.chance(0.05) {
				err = errors.New("the answer was lost")
			}
			s.mine(0, 100*time.Millisecond, func() { s.m.Launched(s.now(), e.Spec.Node, err) })
		})
	case control.Remove:
		w.after(time.Millisecond, 100*time.Millisecond, func() {
			err := w.remove(e.Node)
			s.mine(0, 100*time.Millisecond, func() { s.m.Removed(s.now(), e.Node, err) })
		})
	case control.List:
		w.after(time.Millisecond, 50*time.Millisecond, func() {
			all, err := w.engine.List(context.Background())
			s.mine(0, 50*time.Millisecond, func() { s.m.Listed(s.now(), all, err) })
		})
	case control.Measure:
		s.mine(0, 50*time.Millisecond, func() {
			c, err := w.engine.Capacity(context.Background())
			s.m.Measured(s.now(), c, err)
		})
	case control.Admit:
	case control.Refuse:
		w.cut(e.Session)
	case control.Close:
		w.cut(e.Session)
	case control.Send:
		w.message(func() {
			if m, ok := w.peers[e.Session]; ok && !m.dead {
				m.step(cameEvent(e.Desired))
			}
		})
	case control.Note:
		if e.Failed != nil {
			w.tell("failed: %v", e.Failed)
		} else {
			w.tell("%s", e.Action)
		}
	}
}

// cut ends a connection from the server's side.
func (w *world) cut(session int64) {
	w.after(0, 20*time.Millisecond, func() {
		if m, ok := w.peers[session]; ok {
			delete(w.peers, session)
			if m.conn == session {
				m.conn = 0
				m.later(time.Second, time.Second, m.dial)
			}
		}
	})
}

// ---- nodes

func (w *world) nodeStarted(spec engine.Spec) {
	m := &machine{w: w, id: spec.Node, disk: map[string]*folder{}, mute: w.chance(0.03)}
	if _, again := w.machines[spec.Node]; again && w.machines[spec.Node].agent != nil {
		w.fail("node %s starts a second time", spec.Node)
	}
	w.machines[spec.Node] = m
	if !m.mute {
		w.after(20*time.Millisecond, time.Second, m.boot)
	}
}

// nodeStopped is the end of the agent; what it ran is ended by remove.
func (w *world) nodeStopped(id string) {
	if m, ok := w.machines[id]; ok {
		m.crash(false)
	}
}

func (w *world) remove(id string) error {
	m, ok := w.machines[id]
	if ok && !m.dead && !w.faults && m.busy() {
		w.fail("node %s is removed while it runs something", id)
	}
	err := w.engine.Remove(context.Background(), id)
	if err == nil && ok {
		m.dead = true
		m.off()
	}
	return err
}

func (m *machine) busy() bool {
	for _, f := range m.disk {
		if f.alive {
			return true
		}
	}
	return false
}

// processes checks what must hold whenever a process starts.
func (w *world) processes(nodeID, attempt string) {
	w.tell("process of %s starts on %s", attempt, nodeID)
	if nodes := w.runs[runOf(attempt)].run.Nodes; w.ready[attempt] < nodes {
		w.fail("%s starts on %s while %d of its %d members are prepared", attempt, nodeID, w.ready[attempt], nodes)
	}
	for id, m := range w.machines {
		for other, f := range m.disk {
			switch {
			case !f.alive || id == nodeID && other == attempt:
			case id == nodeID:
				w.fail("node %s runs %s and %s at once", id, attempt, other)
			case other != attempt && runOf(other) == runOf(attempt):
				w.fail("run %s runs twice at once: as %s on %s and as %s on %s", runOf(attempt), attempt, nodeID, other, id)
			}
		}
	}
}

func runOf(attempt string) string { return attempt[:strings.LastIndexByte(attempt, '.')] }

// ---- users and faults

func (w *world) plan() {
	for i := range 1 + w.rnd.IntN(3) {
		w.after(0, 5*time.Second, func() { w.createCluster(i) })
	}
	for i := range 3 + w.rnd.IntN(12) {
		w.after(5*time.Second, 70*time.Second, func() { w.submit(i) })
	}
	for range w.rnd.IntN(4) {
		w.after(10*time.Second, 80*time.Second, w.cancelOne)
	}
	for range w.rnd.IntN(3) {
		w.after(10*time.Second, 80*time.Second, w.resizeOne)
	}
	if w.rnd.IntN(3) == 0 {
		w.after(20*time.Second, 85*time.Second, w.deleteOne)
	}
	if !w.faults {
		return
	}
	for range 6 {
		w.after(5*time.Second, faultsFor, w.trouble)
	}
}

// trouble is one fault out of the blue.
func (w *world) trouble() {
	ids := slices.Sorted(maps.Keys(w.machines))
	if len(ids) == 0 {
		return
	}
	m := w.machines[ids[w.rnd.IntN(len(ids))]]
	switch w.rnd.IntN(6) {
	case 0:
		if w.server != nil {
			w.crash()
		}
	case 1: // the node loses power
		w.stats.deaths++
		w.tell("power of %s fails", m.id)
		w.engine.Kill(m.id, "the power went out")
		m.crash(true)
	case 2: // only the agent dies; its shims go on
		w.stats.deaths++
		w.tell("agent of %s is killed", m.id)
		w.engine.Kill(m.id, "the agent was killed")
	case 3: // the agent is upgraded
		if !m.dead && m.agent != nil {
			w.tell("agent of %s restarts", m.id)
			m.hangUp()
			m.boot()
		}
	case 4: // the network is gone for a while
		if !m.dead && m.agent != nil {
			w.tell("%s is cut off", m.id)
			m.hangUp()
			m.dials = true // nobody answers
			w.after(time.Second, 50*time.Second, func() { m.dials = false; m.dial() })
		}
	case 5: // something is left by a crash before history began
		w.engine.Add(fmt.Sprintf("stray-%d", w.rnd.IntN(1000)))
	}
}

// ask commits a user's wish through the living server. An error is an answer
// too: then nothing was promised.
func (w *world) ask(changes ...row.Change) bool {
	if w.server == nil {
		return false
	}
	if _, err := w.store.Commit(context.Background(), changes...); err != nil {
		return false
	}
	w.committed(nil, changes)
	w.server.wake()
	return true
}

func (w *world) createCluster(i int) {
	id := fmt.Sprintf("/workspaces/w/computes/c%d", i)
	c := fleet.Cluster{
		ID: id, Name: fmt.Sprintf("c%d", i), Prefix: fmt.Sprintf("c%d", i), Workspace: "/workspaces/w",
		Size: fleet.Size{Name: "STANDARD_D", VCPUs: 4}, Max: 1 + w.rnd.IntN(5), IdleAfter: w.between(0, 20*time.Second), Generation: 1, Created: w.now,
	}
	c.Min = w.rnd.IntN(min(c.Max, 2) + 1)
	ok := w.ask(
		row.Create(c), row.Create(row.Document{Kind: row.Compute, ID: id, Body: []byte("{}")}),
		row.Create(fleet.Status{ID: id, Provisioning: operation.Creating, Allocation: fleet.Resizing, Since: w.now}),
		row.Create(operation.Operation{ID: "op-create-" + c.Name, Target: id, Generation: 1, Status: operation.InProgress, Started: w.now}),
	)
	if !ok {
		w.after(time.Second, 2*time.Second, func() { w.createCluster(i) })
		return
	}
	w.clusters = append(w.clusters, id)
	w.tell("user creates %s, %d to %d nodes, idle %v", c.Name, c.Min, c.Max, c.IdleAfter)
}

// some returns a cluster that is not being deleted.
func (w *world) some() (fleet.Cluster, bool) {
	if len(w.clusters) == 0 {
		return fleet.Cluster{}, false
	}
	c, ok := w.store.View().Cluster(w.clusters[w.rnd.IntN(len(w.clusters))])
	return c, ok && !c.Deleting
}

func (w *world) submit(i int) {
	c, ok := w.some()
	if !ok {
		return
	}
	j := &job{length: w.between(10*time.Millisecond, 15*time.Second)}
	j.run = queue.Run{
		ID: fmt.Sprintf("run%02d", i), Name: fmt.Sprintf("run%02d", i), Document: fmt.Sprintf("run%02d", i), Cluster: c.ID,
		Nodes: 1 + w.rnd.IntN(c.Max), Priority: w.rnd.IntN(2), Submitted: w.now,
	}
	if w.engine.Room > 0 {
		j.run.Nodes = 1
	}
	if j.run.Nodes > 1 && w.rnd.IntN(2) == 0 {
		j.run.Leaders = 1 + w.rnd.IntN(j.run.Nodes-1)
	}
	switch w.rnd.IntN(8) {
	case 0:
		j.code = 3
	case 1:
		j.badSetup = true
	case 2:
		j.run.TimeLimit = w.between(time.Second, 20*time.Second)
	}
	if w.ask(row.Create(j.run), row.Create(queue.Status{ID: j.run.ID, Document: j.run.ID, State: queue.Queued, Since: w.now})) {
		w.stats.runs++
		w.runs[j.run.ID] = j
		w.tell("user submits %s to %s: %d nodes for %v", j.run.ID, c.Name, j.run.Nodes, j.length)
	}
}

func (w *world) cancelOne() {
	ids := slices.Sorted(maps.Keys(w.runs))
	if len(ids) == 0 {
		return
	}
	j := w.runs[ids[w.rnd.IntN(len(ids))]]
	if s := w.status(j.run.ID); s.State.Final() || !j.cancelled.IsZero() {
		return
	}
	r := j.run
	r.Cancel, r.CancelWhy = true, "The user thought better of it."
	if w.ask(row.Put(r)) {
		w.tell("user cancels %s", r.ID)
		j.run, j.cancelled = r, w.now
	}
}

func (w *world) resizeOne() {
	c, ok := w.some()
	if !ok {
		return
	}
	c.Max = 1 + w.rnd.IntN(5)
	c.Min = min(c.Min, c.Max)
	c.Generation++
	if w.ask(row.Put(c), row.Create(operation.Operation{
		ID: fmt.Sprintf("op-%s-%d", c.Name, c.Generation), Target: c.ID, Generation: c.Generation, Status: operation.InProgress, Started: w.now,
	})) {
		w.tell("user resizes %s: %d to %d nodes", c.Name, c.Min, c.Max)
	}
}

func (w *world) deleteOne() {
	c, ok := w.some()
	if !ok {
		return
	}
	c.Deleting = true
	c.Generation++
	if w.ask(row.Put(c), row.Create(operation.Operation{
		ID: fmt.Sprintf("op-%s-delete", c.Name), Target: c.ID, Generation: c.Generation, Status: operation.InProgress, Started: w.now,
	})) {
		w.stats.deleted++
		w.deleted[c.ID] = true
		w.tell("user deletes %s", c.Name)
	}
}
