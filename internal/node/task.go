package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner/pyenv"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// buildLog is where the making of an environment is told; Azure's name for it.
const buildLog = pyenv.ShownAs

// task does the work of one attempt. Its methods run one after the other, each
// ending in the event that its effect is to end in; ctx is the agent's.
type task struct {
	agent  *Agent
	id     string
	fence  int64
	member int
	dir    string
	quit   context.CancelFunc // of prepare

	asked    chan asked   // what came of ask; capacity 1
	recorded bool         // its end is on disk, as the shim left it
	spec     shim.Spec    // from prepare, for start
	calls    net.Listener // of "ebb rsh"; nil: none
	shipper  *shipper     // nil: not begun
	rest     func()       // ends the shipper's run and waits for it
}

func (t *task) send(ctx context.Context, e Event) { t.agent.send(ctx, e) }

func (t *task) journal(ctx context.Context) {
	taken := false
	t.agent.insist(ctx, "journal "+t.id, func() error {
		err := t.agent.journal.add(t.id)
		if errors.Is(err, fs.ErrExist) {
			taken, err = true, nil
		}
		return err
	})
	t.send(ctx, Journalled{t.id, taken})
}

// asked is an order, or why there is none.
type asked struct {
	order nodeproto.Order
	err   error
}

// ask asks the server for the order, ahead of prepare.
func (t *task) ask(ctx context.Context) {
	order, err := t.agent.server.order(ctx, t.id, t.fence)
	t.asked <- asked{order, err}
}

// order waits for what was asked, and asks again as often as need be.
func (t *task) order(ctx context.Context, say func(error)) (order nodeproto.Order, err error) {
	first := true
	err = persist(ctx, say, func() (err error) {
		if !first {
			order, err = t.agent.server.order(ctx, t.id, t.fence)
			return err
		}
		first = false
		select {
		case a := <-t.asked:
			order = a.order
			return a.err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return order, err
}

// prepare fetches order and code and makes the environment. inner ends when the
// attempt is to be stopped.
func (t *task) prepare(ctx, inner context.Context) {
	t.ship(ctx)
	err := t.make(ctx, inner)
	if err == nil {
		t.send(ctx, Prepared{Attempt: t.id, Image: t.spec.Image})
		return
	}
	exit := queue.Exit{Cause: queue.ByNodeLoss, Message: fmt.Sprintf("The node could not prepare the job: %v.", err), Ended: time.Now().UTC()}
	var refused *refusal
	var code *codeError
	switch {
	case errors.Is(err, errOver):
		t.send(ctx, Superseded{t.id})
	case errors.As(err, &refused):
		exit.Cause, exit.Message = queue.BySetup, "The job's code could not be made ready: "+strings.TrimSuffix(wordsOf(refused), ".")+"."
	case errors.As(err, &code):
		exit.Cause, exit.Message = queue.BySetup, fmt.Sprintf("The job's code could not be made ready: %v.", err)
	case fault.KindOf(err) != fault.Internal:
		exit.Cause, exit.Message = queue.BySetup, err.Error()
		if f, ok := errors.AsType[*fault.Error](err); ok {
			exit.Message = f.Msg
		}
	}
	if inner.Err() == nil {
		t.agent.Log.Warn("preparation failed", "attempt", t.id, "err", err)
	}
	t.send(ctx, Prepared{Attempt: t.id, Exit: &exit})
}

func (t *task) make(life, ctx context.Context) error {
	a := t.agent
	say := func(err error) { a.Log.Warn("server does not answer", "attempt", t.id, "err", err) }
	order, err := t.order(ctx, say)
	if err != nil {
		return err
	}
	work := filepath.Join(t.dir, "work")
	if order.Task.Code != "" {
		t.send(ctx, Noted{t.id, "fetching the code"})
		err := persist(ctx, say, func() error {
			if err := os.RemoveAll(work); err != nil { // of a try that was cut short
				return err
			}
			err := a.server.code(ctx, a.Config.Cache, order.Task.Code, work)
			if code := (*codeError)(nil); errors.As(err, &code) {
				return &refusal{words: code.words}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	if len(order.Task.Inputs) > 0 {
		t.send(ctx, Noted{t.id, "fetching the inputs"})
		away := func(input string, err error) {
			a.Log.Warn("an input does not come", "attempt", t.id, "input", input, "err", err)
		}
		if err := a.server.fetchInputs(ctx, a.Config.Cache, t.dir, order, say, away); err != nil {
			return err
		}
	}
	if b := order.Task.Environment.Build; b != nil && b.Key != "" {
		t.send(ctx, Noted{t.id, "fetching the build context of the environment"})
		if err := a.server.fetchContext(ctx, a.Config.Cache, t.dir, order, say); err != nil {
			return err
		}
	}
	t.send(ctx, Noted{t.id, "preparing the environment"})
	log := &lateFile{path: filepath.Join(t.dir, "log", filepath.FromSlash(buildLog))}
	defer log.close()
	if t.spec, err = a.preparer.Prepare(ctx, t.dir, order, log); err == nil {
		t.answer(life)
	}
	return err
}

// ship begins to ship the attempt's logs, unless it has begun.
func (t *task) ship(ctx context.Context) {
	if t.shipper != nil {
		return
	}
	a := t.agent
	dir := filepath.Join(t.dir, "log")
	_ = os.MkdirAll(dir, 0o700) // or else the shipper finds nothing until the shim makes it
	t.shipper = &shipper{
		server: a.server, attempt: t.id, fence: t.fence, member: t.member, dir: dir, log: a.Log, at: map[string]int64{},
		term: &a.term, asked: a.term.Load(),
		over: func() { a.work.Go(func() { a.send(ctx, Superseded{t.id}) }) },
	}
	inner, stop := context.WithCancel(ctx)
	w, done := newWatcher(), make(chan struct{})
	a.work.Go(w.run)
	a.work.Go(func() {
		defer w.close() // takes long; nobody waits for it
		defer close(done)
		t.shipper.run(inner, w)
	})
	t.rest = func() { stop(); <-done }
}

func (t *task) start(ctx context.Context) {
	if err := t.agent.holder.Start(t.dir, t.spec); err != nil {
		t.agent.Log.Error("shim did not start", "attempt", t.id, "err", err)
		t.send(ctx, Lost{t.id, fmt.Sprintf("The node could not start the job: %v.", err)})
		return
	}
	t.hold(ctx)
}

// hold watches a shim to its end.
func (t *task) hold(ctx context.Context) {
	h := t.agent.holder
	look := time.NewTicker(20 * time.Millisecond) // Start has waited: this is for a slow one, or one that was found
	defer look.Stop()
	for {
		st, err := h.Look(t.dir)
		if err == nil && st.Phase != shim.Running {
			break
		}
		if err == nil && st.Process != 0 {
			t.send(ctx, Began{t.id, st.Started})
			break
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
	var st shim.State
	t.agent.insist(ctx, "wait for the shim of "+t.id, func() (err error) { st, err = h.Wait(ctx, t.dir); return err })
	switch {
	case ctx.Err() != nil:
	case st.Phase == shim.Ended && !st.Record.Swept:
		t.recorded = true // before the event, so that Run's goroutine sees it
		t.send(ctx, Finished{t.id, st.Record.Exit})
	default:
		t.send(ctx, Lost{t.id, "The process that watches over the job died; what was left of the job was killed."})
	}
}

func (t *task) sweep(ctx context.Context) {
	var rec shim.Record
	t.agent.insist(ctx, "sweep "+t.id, func() (err error) {
		rec, err = endAttempt(ctx, t.agent.holder, t.dir, queue.ByNodeLoss)
		return err
	})
	if rec.Swept {
		t.send(ctx, Swept{Attempt: t.id})
		return
	}
	t.send(ctx, Swept{t.id, &rec.Exit})
}

// deliver sends what is left of the logs, then all of the outputs, to a server that
// is of an epoch, or of a later one that takes nothing of it for whole.
func (t *task) deliver(ctx context.Context, epoch int64) {
	t.ship(ctx) // an agent before us may have been the one that ran it
	t.rest()
	if t.calls != nil {
		t.calls.Close()
	}
	a := t.agent
	a.insist(ctx, "deliver the logs of "+t.id, func() error { return t.shipper.flush(ctx) })
	u := &uploader{server: a.server, attempt: t.id, fence: t.fence, member: t.member, epoch: epoch, log: a.Log}
	a.insist(ctx, "deliver the outputs of "+t.id, func() error { return u.all(ctx, filepath.Join(t.dir, "work")) })
	if well, err := t.well(ctx); err == nil {
		a.insist(ctx, "deliver the named outputs of "+t.id, func() error { return u.named(ctx, t.dir, well) })
	}
	if ctx.Err() == nil {
		t.send(ctx, Delivered{t.id, epoch})
	}
}

// well reports whether the process ended well, on which it depends what becomes of
// the outputs. It is asked for until it is known, or the attempt is another node's.
func (t *task) well(ctx context.Context) (well bool, err error) {
	a := t.agent
	err = persist(ctx, func(err error) { a.Log.Error("cannot tell how the process ended", "attempt", t.id, "err", err) }, func() error {
		st, err := a.holder.Look(t.dir)
		if err != nil {
			if _, gone := a.server.order(ctx, t.id, t.fence); errors.Is(gone, errOver) {
				return gone
			}
			return err
		}
		well = st.Record.Exit.Cause == queue.ByExit && st.Record.Exit.Code == 0
		return nil
	})
	return well, err
}

// lateFile is a file that is made by its first write.
type lateFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

func (l *lateFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil && len(b) > 0 {
		if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
			return 0, err
		}
		f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return 0, err
		}
		l.f = f
	}
	if l.f == nil {
		return 0, nil
	}
	return l.f.Write(b)
}

func (l *lateFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Close()
	}
}
