package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

const (
	maxMessage  = 4 << 20 // bytes; a report has a line per attempt and a log's last lines in some
	helloWithin = 10 * time.Second
	// beat is how often the server pings; an agent that does not answer within
	// twice that is let go. Whether its node is silent is control's to judge.
	beat = 10 * time.Second
)

// connect serves one agent's connection from hello to end.
func (s *server) connect(w http.ResponseWriter, r *http.Request) (int, any, error) {
	node, err := s.node(r)
	if err != nil {
		return 0, nil, err
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return 0, nil, nil // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	h, err := readHello(ctx, conn)
	switch {
	case err != nil:
		conn.Close(websocket.StatusPolicyViolation, "a hello was expected")
		return 0, nil, nil
	case h.Node != node:
		conn.Close(nodeproto.CloseRefused, "the token is another node's")
		return 0, nil, nil
	}
	session, err := s.Sessions.Connect(ctx, h)
	if err != nil {
		s.Log.WarnContext(ctx, "agent refused", "node", node, "err", err)
		conn.Close(refusal(err))
		return 0, nil, nil
	}
	defer session.Close()
	for _, words := range h.Warnings {
		s.Log.WarnContext(ctx, "node warned", "node", node, "warning", words)
	}
	execs, detach := s.Execs.Attach(node)
	defer detach()
	s.pump(ctx, cancel, conn, session, execs)
	return 0, nil, nil
}

func readHello(ctx context.Context, conn *websocket.Conn) (nodeproto.Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloWithin)
	defer cancel()
	var h nodeproto.Hello
	_, b, err := conn.Read(ctx)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}

// refusal is the close code and reason (at most 123 bytes) of a refused hello.
func refusal(err error) (websocket.StatusCode, string) {
	code, words := websocket.StatusCode(nodeproto.CloseRefused), "refused"
	if errors.Is(err, fault.NotFound) {
		code = nodeproto.CloseGone
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		words = f.Msg[:min(len(f.Msg), 120)]
	}
	return code, words
}

// pump carries orders out and reports in until either side ends.
func (s *server) pump(ctx context.Context, cancel context.CancelFunc, conn *websocket.Conn, session Session, execs <-chan nodeproto.Exec) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.CloseNow() // before the wait: it ends the reader
	defer cancel()
	wg.Go(func() {
		defer cancel()
		for {
			_, b, err := conn.Read(ctx)
			if err != nil {
				return
			}
			var r nodeproto.Report
			if json.Unmarshal(b, &r) != nil {
				return
			}
			session.Alive()
			session.Report(r)
		}
	})
	wg.Go(func() {
		t := time.NewTicker(beat)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
			inner, stop := context.WithTimeout(ctx, 2*beat)
			err := conn.Ping(inner)
			stop()
			if err != nil {
				cancel()
				return
			}
			session.Alive()
		}
	})
	for {
		select {
		case d, ok := <-session.Desired():
			if !ok {
				conn.Close(nodeproto.CloseSuperseded, "there is a newer connection")
				return
			}
			if send(ctx, conn, nodeproto.Message{Desired: d}) != nil {
				return
			}
		case x := <-execs:
			if send(ctx, conn, nodeproto.Message{Exec: &x}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func send(ctx context.Context, conn *websocket.Conn, m nodeproto.Message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*beat)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, b)
}
