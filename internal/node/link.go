package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// beat is how often an agent says that it lives; a server that does not answer
// a ping within twice that is left.
const beat = 5 * time.Second

// gatherNews is how long news that nobody waits for is held back, so that a job
// of a moment costs the server two reports and not eight.
const gatherNews = 20 * time.Millisecond

// link keeps the agent's connection to the server.
type link struct {
	agent   *Agent
	process string // random: tells this life of the agent from others
	boff    backoff
}

// run dials, serves, and dials again, until ctx ends or the server says that
// the node is gone.
func (l *link) run(ctx context.Context) error {
	said := ""
	for {
		err := l.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errGone) {
			return err
		}
		if words := err.Error(); words != said { // once, not once a second for hours
			said = words
			l.agent.Log.Warn("no connection to the server", "node", l.agent.Config.Node, "err", err)
		}
		if l.boff.wait(ctx) != nil {
			return nil
		}
	}
}

// serve is one connection: hello, then orders in and reports out.
func (l *link) serve(ctx context.Context) error {
	life := ctx // commands in jobs outlive a connection
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	if err := write(ctx, conn, l.hello()); err != nil {
		return gone(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.CloseNow() // before the wait: it ends the reader
	wg.Go(func() { cancel(l.read(ctx, life, conn)) })
	wg.Go(func() {
		for sleep(ctx, beat) == nil {
			inner, stop := context.WithTimeout(ctx, 2*beat)
			if err := conn.Ping(inner); err != nil {
				cancel(fmt.Errorf("the server does not answer: %w", err))
			}
			stop()
		}
	})
	t := time.NewTicker(beat)
	defer t.Stop()
	var gathered <-chan time.Time
	for {
		select {
		case <-l.agent.told:
		case <-gathered:
		case <-l.agent.news:
			if gathered == nil {
				gathered = time.After(gatherNews)
			}
			continue
		case <-t.C:
		case <-ctx.Done():
			return gone(context.Cause(ctx))
		}
		gathered = nil
		if err := write(ctx, conn, l.agent.report()); err != nil {
			// The reader knows why the server closed, if it did.
			wg.Wait()
			return gone(context.Cause(ctx))
		}
	}
}

func (l *link) dial(ctx context.Context) (*websocket.Conn, error) {
	base, client, _, err := l.agent.server.target()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*beat)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, base+nodeproto.Path+"connect", &websocket.DialOptions{
		HTTPClient: client,
		HTTPHeader: http.Header{"Authorization": {"Bearer " + l.agent.Config.Token}},
	})
	if err != nil {
		if res != nil && res.StatusCode == http.StatusGone {
			return nil, errGone
		}
		return nil, err
	}
	conn.SetReadLimit(4 << 20)
	return conn, nil
}

func (l *link) hello() nodeproto.Hello {
	a := l.agent
	h := nodeproto.Hello{
		Version: nodeproto.Version, Node: a.Config.Node, Installation: a.Config.Installation, Software: software(),
		Boot: bootID(), Process: l.process, Isolation: a.preparer.Isolation(), Engine: a.preparer.ContainerEngine(), Address: a.Config.Address, Report: a.report(),
	}
	h.Warnings = append(append(h.Warnings, a.Config.Warnings...), a.preparer.Warnings()...)
	return h
}

func (l *link) read(ctx, life context.Context, conn *websocket.Conn) error {
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var m nodeproto.Message
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		l.boff = backoff{}
		if m.Exec != nil {
			l.agent.work.Go(func() { l.agent.exec(life, *m.Exec) })
			continue
		}
		l.agent.send(ctx, Came{m.Desired})
	}
}

// gone makes errGone of the close code that says so.
func gone(err error) error {
	if websocket.CloseStatus(err) == nodeproto.CloseGone {
		return errGone
	}
	return err
}

func write(ctx context.Context, conn *websocket.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*beat)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, b)
}

// software is the version of the binary, as the build knows it.
func software() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}
