package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/runner"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// errGone says that the node is no more: its folder is gone, or the server does
// not know it.
var errGone = errors.New("this node is gone")

// Main is "ebb node DIR": it serves the node until it is told to end, and
// returns the process's exit code.
func Main(args []string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: ebb node DIR")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	// An agent waits for disks and for the server. With more than one it spends a
	// quarter of its time on looking which of its threads has nothing to do.
	runtime.GOMAXPROCS(1)
	if err := serve(ctx, args[0], log); err != nil {
		log.Error("agent ended", "dir", args[0], "err", err)
		return 1
	}
	return 0
}

// serve makes the agent of the folder and runs it.
func serve(ctx context.Context, dir string, log *slog.Logger) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	cfg, err := readConfig(dir)
	if err != nil {
		return err
	}
	lock, err := takeLock(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	// The order matters: whoever removes the node writes this first and then
	// waits for the lock.
	if _, err := os.Stat(filepath.Join(dir, "removing")); err == nil {
		return errGone
	}
	srv := &server{file: cfg.Server, token: cfg.Token, bundle: filepath.Join(dir, "ca.pem"), web: web{networks: prefixes(cfg.Networks...)}}
	_, _, _, _ = srv.target() // writes the bundle, if the server has one
	ca := srv.bundle
	if _, err := os.Stat(ca); err != nil {
		ca = ""
	}
	run, err := runner.New(runner.Config{
		Cache: cfg.Cache, Hide: []string{filepath.Dir(cfg.Server)}, Read: cfg.Readable, CA: ca, GPUs: cfg.GPUs,
		Containers: runner.Containers{
			Use: cfg.Container.Use, Engine: cfg.Container.Engine, User: cfg.Container.User, Images: cfg.Images, Installation: cfg.Installation, Server: cfg.Server, Node: dir,
		},
	})
	if err != nil {
		return fmt.Errorf("look at the machine: %w", err)
	}
	a := &Agent{Dir: dir, Config: cfg, Log: log, server: srv, holder: shims{}, preparer: run}
	// Not at once: a node that is launched for a job has better things to do.
	a.work.Go(func() {
		if sleep(ctx, 2*time.Second) == nil {
			run.Warm(ctx)
		}
	})
	return a.Run(ctx)
}

// preparer is node/runner as the agent uses it.
type preparer interface {
	Isolation() string
	ContainerEngine() string // empty: none
	Warnings() []string
	Hurry() // an attempt comes
	Prepare(ctx context.Context, dir string, o nodeproto.Order, log io.Writer) (shim.Spec, error)
}

// Agent does what [Machine] decides. Made by [Main].
type Agent struct {
	Dir    string
	Config Config
	Log    *slog.Logger

	server   *server
	holder   holder
	preparer preparer

	journal   journal
	machine   Machine // only Run's goroutine
	events    chan Event
	told      chan struct{} // capacity 1: there is something new to report, that others wait for
	news      chan struct{} // capacity 1: there is something new to report
	published atomic.Pointer[published]
	tasks     map[string]*task // only Run's goroutine
	term      atomic.Int64     // the server's, highest seen in this life
	work      sync.WaitGroup
}

// published is the last report whose effects are on disk: nothing else may be
// said, or a crash would make it a lie.
type published struct {
	report nodeproto.Report
	at     time.Time
}

// Run serves the node until ctx ends (shims live on) or the node is no more
// (everything is stopped).
func (a *Agent) Run(ctx context.Context) error {
	a.journal = journal{dir: a.Dir}
	a.events, a.told, a.tasks = make(chan Event), make(chan struct{}, 1), map[string]*task{}
	a.news = make(chan struct{}, 1)
	found, err := a.find()
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer a.work.Wait()
	defer cancel(nil)
	a.step(ctx, found)
	l := &link{agent: a, process: rand.Text()}
	a.work.Go(func() {
		if err := l.run(ctx); errors.Is(err, errGone) {
			cancel(errGone)
		}
	})
	a.work.Go(func() {
		if err := a.watchFolder(ctx); errors.Is(err, errGone) {
			cancel(errGone)
		}
	})
	// What was built for the start is not needed again; nodes are many.
	debug.FreeOSMemory()
	for {
		select {
		case e := <-a.events:
			a.step(ctx, e)
		case <-ctx.Done():
			a.work.Wait()
			if errors.Is(context.Cause(ctx), errGone) {
				a.Log.Warn("node is gone, everything is stopped", "node", a.Config.Node)
				return a.endAll()
			}
			return nil
		}
	}
}

// find reads the journal and looks at every shim.
func (a *Agent) find() (Found, error) {
	memory, entries, ends, err := a.journal.read()
	if err != nil {
		return Found{}, err
	}
	f := Found{Memory: memory}
	for _, e := range entries {
		k := Kept{Attempt: e.Attempt, Fence: e.Fence, Member: e.Member}
		st, err := a.holder.Look(a.journal.path(e.Attempt))
		if err != nil {
			return f, fmt.Errorf("look at attempt %s: %w", e.Attempt, err)
		}
		k.Living, k.Started = st.Phase == shim.Running, st.Started
		t := a.task(k.Attempt, k.Fence, k.Member)
		if end, ok := ends[e.Attempt]; ok {
			k.Exit = &end.Exit
		} else if st.Phase == shim.Ended && !st.Record.Swept {
			k.Exit, t.recorded = &st.Record.Exit, true
		}
		k.Delivered, k.Epoch = e.Delivered, e.Epoch
		f.Attempts = append(f.Attempts, k)
	}
	return f, nil
}

// step lets the machine decide, does what it says, and publishes the report
// once that is on disk.
func (a *Agent) step(ctx context.Context, e Event) {
	if c, ok := e.(Came); ok {
		a.term.Store(max(a.term.Load(), c.Desired.Term)) // only here
	}
	before := a.machine.Changes()
	effects := a.machine.Step(time.Now().UTC(), e)
	a.take(ctx, effects)
	for _, effect := range effects {
		a.do(ctx, effect)
	}
	if f, ok := e.(Forgotten); ok {
		delete(a.tasks, f.Attempt)
		a.journal.forget(f.Attempt)
	}
	if a.machine.Changes() == before || ctx.Err() != nil {
		return
	}
	now := time.Now()
	r := a.machine.Report(now)
	a.published.Store(&published{r, now})
	tell := a.news
	if a.machine.Urgent() {
		tell = a.told
	}
	select {
	case tell <- struct{}{}:
	default:
	}
}

// take writes down which attempts are new here, before anything is done about
// them: with the Save that comes first, or if none does, now.
func (a *Agent) take(ctx context.Context, effects []Effect) {
	saved := true
	for _, effect := range effects {
		if e, ok := effect.(Journal); ok {
			a.journal.take(entry{Attempt: e.Attempt, Fence: e.Fence, Member: e.Member})
			t := a.task(e.Attempt, e.Fence, e.Member)
			a.work.Go(func() { t.ask(ctx) }) // changes nothing, so it need not wait for the disk
			a.work.Go(a.preparer.Hurry)
			saved = false
		}
	}
	for _, effect := range effects {
		_, saves := effect.(Save)
		saved = saved || saves
	}
	if !saved {
		m := a.journal.last.Memory
		a.insist(ctx, "save the memory", func() error { return a.journal.save(m) })
	}
}

// report is the published report, as of now.
func (a *Agent) report() nodeproto.Report {
	p := a.published.Load()
	r := p.report
	r.Attempts = append([]nodeproto.Progress(nil), r.Attempts...)
	for i := range r.Attempts {
		if r.Attempts[i].StartedAgo > 0 {
			r.Attempts[i].StartedAgo += time.Since(p.at)
		}
	}
	return r
}

// send hands an event to the machine, unless the agent is ending.
func (a *Agent) send(ctx context.Context, e Event) {
	select {
	case a.events <- e:
	case <-ctx.Done():
	}
}

// do begins one effect. What must be on disk before anything else is done here
// and now, for as long as it takes.
func (a *Agent) do(ctx context.Context, e Effect) {
	switch e := e.(type) {
	case Save:
		a.insist(ctx, "save the memory", func() error { return a.journal.save(e.Memory) })
	case Record:
		a.record(ctx, e)
	case Journal:
		t := a.task(e.Attempt, e.Fence, e.Member)
		a.work.Go(func() { t.journal(ctx) })
	case Prepare:
		t := a.tasks[e.Attempt]
		inner, quit := context.WithCancel(ctx)
		t.quit = quit
		a.work.Go(func() { defer quit(); t.prepare(ctx, inner) })
	case Quit:
		a.tasks[e.Attempt].quit()
	case Start:
		t := a.tasks[e.Attempt]
		a.work.Go(func() { t.start(ctx) })
	case Watch:
		t := a.tasks[e.Attempt]
		t.ship(ctx)
		t.answer(ctx)
		a.work.Go(func() { t.hold(ctx) })
	case Stop:
		t := a.tasks[e.Attempt]
		a.work.Go(func() {
			a.insist(ctx, "stop "+e.Attempt, func() error { return a.holder.Stop(t.dir, e.Cause, e.Grace) })
		})
	case Sweep:
		t := a.tasks[e.Attempt]
		a.work.Go(func() { t.sweep(ctx) })
	case Deliver:
		t := a.tasks[e.Attempt]
		a.work.Go(func() { t.deliver(ctx, e.Epoch) })
	case Forget:
		a.work.Go(func() {
			a.insist(ctx, "forget "+e.Attempt, func() error { return a.journal.drop(e.Attempt) })
			a.send(ctx, Forgotten{e.Attempt})
		})
	default:
		panic(fmt.Sprintf("node: unknown effect %T", e))
	}
}

// record keeps the end of an attempt, unless its shim has.
func (a *Agent) record(ctx context.Context, e Record) {
	switch {
	case e.Delivered:
		a.journal.delivered(e.Attempt, e.Epoch)
	case !a.tasks[e.Attempt].recorded:
		a.insist(ctx, "record the end of "+e.Attempt, func() error { return a.journal.end(e.Attempt, ending{e.Exit}) })
	}
}

// insist does what must be done, again and again if need be: a full disk heals.
func (a *Agent) insist(ctx context.Context, what string, f func() error) {
	_ = persist(ctx, func(err error) { a.Log.Error("cannot "+what, "err", err) }, f)
}

// task returns the worker of an attempt, made if need be.
func (a *Agent) task(id string, fence int64, member int) *task {
	if t, ok := a.tasks[id]; ok {
		return t
	}
	t := &task{agent: a, id: id, fence: fence, member: member, dir: a.journal.path(id), quit: func() {}, asked: make(chan asked, 1)}
	a.tasks[id] = t
	return t
}

// watchFolder looks now and then whether the node still has its folder.
func (a *Agent) watchFolder(ctx context.Context) error {
	for sleep(ctx, 5*time.Second) == nil {
		if _, err := os.Stat(filepath.Join(a.Dir, "node.json")); errors.Is(err, fs.ErrNotExist) {
			return errGone
		}
	}
	return nil
}

// endAll stops every attempt of a node that is no more.
func (a *Agent) endAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for id, t := range a.tasks {
		wg.Go(func() {
			if _, err := endAttempt(ctx, a.holder, t.dir, queue.ByNodeLoss); err != nil {
				a.Log.Error("attempt not ended", "attempt", id, "err", err)
			}
		})
	}
	wg.Wait()
	return nil
}
