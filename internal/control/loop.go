package control

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Store is what the loop needs of the store.
type Store interface {
	View() *pool.View
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
	Changed() <-chan struct{} // may drop
}

// What is gathered for less is not worth a timer, and for more is noticed.
const (
	gatherLeast = 500 * time.Microsecond
	gatherMost  = 5 * time.Millisecond
)

// How long an engine may take over one call before it counts as failed.
const callWithin = 2 * time.Minute

// Loop runs a [Machine]: it carries messages between it, the store, the engine
// and the agents' connections. Make it with its fields, then call Run once.
type Loop struct {
	Store        Store
	Engine       engine.Driver
	Now          func() time.Time // the site clock: it never goes back
	Token        func(node string) string
	Installation string
	Term         int64
	Epoch        int64 // of the installation: raised by a restore
	Restored     bool  // no loop has run since a restore
	Log          *slog.Logger
	Gather       time.Duration // how long wakes are gathered; default: as long as the last turn took, 5 ms at most
	Workers      int           // engine calls at once; default 16

	inbox  inbox
	lastID atomic.Int64
	aside  atomic.Pointer[map[string]engine.Seen] // quarantined; nil: not known
}

// Session is one agent's connection, as the server sees it.
type Session struct {
	id      int64
	loop    *Loop
	desired chan nodeproto.Desired
}

// Run keeps everything as it is wanted until ctx ends. Nodes and what they run
// go on without it.
func (l *Loop) Run(ctx context.Context) {
	r := &running{
		Loop: l, ctx: ctx, m: New(Config{Installation: l.Installation, Term: l.Term, Epoch: l.Epoch, Restored: l.Restored}),
		sessions: map[int64]*Session{}, waiting: map[int64]chan error{},
		slots: make(chan struct{}, orDefault(l.Workers, 16)),
	}
	wake := l.inbox.open()
	defer r.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-wake:
		case <-l.Store.Changed():
		}
		if !r.gather() {
			return
		}
		r.turn()
		timer.Reset(max(time.Millisecond, r.m.Next().Sub(l.Now())))
	}
}

// Connect brings an agent's hello, and returns its session once it is accepted.
func (l *Loop) Connect(ctx context.Context, h nodeproto.Hello) (*Session, error) {
	s := &Session{id: l.lastID.Add(1), loop: l, desired: make(chan nodeproto.Desired, 1)}
	answer := make(chan error, 1)
	posted := l.inbox.post(func(r *running) {
		r.sessions[s.id], r.waiting[s.id] = s, answer
		r.m.Connected(l.Now(), s.id, h)
	})
	if !posted {
		return nil, fault.New(fault.Unavailable, h.Node, "The server is starting or stopping.")
	}
	select {
	case err := <-answer:
		if err != nil {
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
}

// Desired yields what the node is to do; the latest replaces what was not yet
// read. It is closed when the connection is to end.
func (s *Session) Desired() <-chan nodeproto.Desired { return s.desired }

// Report brings what the agent has.
func (s *Session) Report(rep nodeproto.Report) {
	s.loop.inbox.post(func(r *running) { r.m.Reported(s.loop.Now(), s.id, rep) })
}

// Alive brings a sign of life.
func (s *Session) Alive() {
	s.loop.inbox.post(func(r *running) { r.m.Beat(s.loop.Now(), s.id) })
}

// Close tells that the connection has ended. It may be called more than once.
func (s *Session) Close() {
	s.loop.inbox.post(func(r *running) {
		r.m.Disconnected(s.loop.Now(), s.id)
		r.end(s.id)
	})
}

// running is a loop that runs. All of it belongs to Run's goroutine.
type running struct {
	*Loop
	ctx      context.Context
	m        *Machine
	sessions map[int64]*Session
	waiting  map[int64]chan error // connections not yet accepted
	slots    chan struct{}
	work     sync.WaitGroup
	took     time.Duration // the last turn
}

// gather takes what comes within a moment, so that one plan and one commit
// serve all of it. It returns false when ctx has ended. Most is gathered anyway
// while a commit is under way; beyond that a small house need not wait, and a
// large one spends half its time at most on turns.
func (r *running) gather() bool {
	if wait := orDefault(r.Gather, min(r.took, gatherMost)); wait >= gatherLeast {
		pause := time.NewTimer(wait)
		defer pause.Stop()
		select {
		case <-r.ctx.Done():
			return false
		case <-pause.C:
		}
	}
	for _, f := range r.inbox.take() {
		f(r)
	}
	return true
}

func (r *running) turn() {
	begun := time.Now()
	defer func() { r.took = time.Since(begun) }()
	for _, e := range r.m.Turn(r.Now(), r.Store.View()) {
		r.carry(e)
	}
	if r.m.aside != nil {
		aside := r.m.aside // never changed, only replaced
		r.aside.Store(&aside)
	}
}

// carry does one effect. None of them blocks: what takes time has a goroutine
// of its own, and its answer comes through the inbox.
func (r *running) carry(e Effect) {
	switch e := e.(type) {
	case Commit:
		r.work.Go(func() {
			_, err := r.Store.Commit(r.ctx, e.Changes...)
			r.inbox.post(func(r *running) { r.m.Committed(r.Now(), r.Store.View(), err) })
		})
	case Launch:
		e.Spec.Token = r.Token(e.Spec.Node)
		r.call(func(ctx context.Context) func(*running) {
			err := r.Engine.Launch(ctx, e.Spec)
			return func(r *running) { r.m.Launched(r.Now(), e.Spec.Node, err) }
		})
	case Remove:
		r.call(func(ctx context.Context) func(*running) {
			err := r.Engine.Remove(ctx, e.Node)
			return func(r *running) { r.m.Removed(r.Now(), e.Node, err) }
		})
	case List:
		r.call(func(ctx context.Context) func(*running) {
			all, err := r.Engine.List(ctx)
			return func(r *running) { r.m.Listed(r.Now(), all, err) }
		})
	case Measure:
		r.call(func(ctx context.Context) func(*running) {
			c, err := r.Engine.Capacity(ctx)
			return func(r *running) { r.m.Measured(r.Now(), c, err) }
		})
	case Admit:
		r.answer(e.Session, nil)
	case Refuse:
		r.answer(e.Session, e.Err)
		r.end(e.Session)
	case Send:
		if s, ok := r.sessions[e.Session]; ok {
			s.send(e.Desired)
		}
	case Close:
		r.Log.InfoContext(r.ctx, "closed session", "session", e.Session, "why", e.Why)
		r.end(e.Session)
	case Note:
		r.note(e)
	default:
		panic("control: unknown effect") // a machine we cannot read is a bug
	}
}

// call asks the engine something, a few at once.
func (r *running) call(ask func(context.Context) func(*running)) {
	r.work.Go(func() {
		select {
		case r.slots <- struct{}{}:
		case <-r.ctx.Done():
			return
		}
		defer func() { <-r.slots }()
		ctx, cancel := context.WithTimeout(r.ctx, callWithin)
		defer cancel()
		r.inbox.post(ask(ctx))
	})
}

func (r *running) note(n Note) {
	if n.Failed != nil {
		r.Log.WarnContext(r.ctx, "failed", "err", n.Failed)
		return
	}
	a := n.Action
	attrs := []any{"verb", a.Verb}
	for _, kv := range [][2]string{{"cluster", a.Cluster}, {"node", a.Node}, {"run", a.Run}, {"attempt", a.Attempt}, {"why", a.Why}} {
		if kv[1] != "" {
			attrs = append(attrs, kv[0], kv[1])
		}
	}
	r.Log.InfoContext(r.ctx, "acted", attrs...)
}

func (r *running) answer(session int64, err error) {
	if c, ok := r.waiting[session]; ok {
		delete(r.waiting, session)
		c <- err // has room for it
	}
}

// end forgets a session and closes its channel, once.
func (r *running) end(session int64) {
	if s, ok := r.sessions[session]; ok {
		delete(r.sessions, session)
		close(s.desired)
	}
	r.answer(session, fault.New(fault.Unavailable, "", "The connection was closed."))
}

func (r *running) stop() {
	r.inbox.close()
	for id := range r.sessions {
		r.end(id)
	}
	r.work.Wait()
}

// send puts d in place of what was not read. Only Run's goroutine calls it.
func (s *Session) send(d nodeproto.Desired) {
	select {
	case <-s.desired:
	default:
	}
	s.desired <- d
}

// inbox holds what others want Run's goroutine to do. It has no bound: whoever
// posts must never wait for a loop that may be waiting for them.
type inbox struct {
	mu   sync.Mutex
	is   bool // open
	todo []func(*running)
	wake chan struct{}
}

func (i *inbox) open() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.is, i.wake = true, make(chan struct{}, 1)
	return i.wake
}

func (i *inbox) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.is, i.todo = false, nil
}

// post hands f over, or reports false when nobody runs.
func (i *inbox) post(f func(*running)) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.is {
		return false
	}
	i.todo = append(i.todo, f)
	select {
	case i.wake <- struct{}{}:
	default:
	}
	return true
}

func (i *inbox) take() []func(*running) {
	i.mu.Lock()
	defer i.mu.Unlock()
	todo := i.todo
	i.todo = nil
	return todo
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
