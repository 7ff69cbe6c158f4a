package node

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/launch"
	"github.com/ebb-compute/ebb/internal/node/runner"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// answer serves "ebb rsh" of an attempt that has several processes: it carries a
// command from the job's socket to the server, which brings it to the other
// member's agent. The job's user may do in all of its members' worlds what the job
// may.
func (t *task) answer(ctx context.Context) {
	folder := runner.AgentFolder(t.dir)
	if _, err := os.Stat(folder); err != nil || t.calls != nil {
		return
	}
	l, err := launch.Listen(folder, runner.AgentSocket)
	if err != nil {
		t.agent.Log.Error("cannot serve rsh", "attempt", t.id, "err", err)
		return
	}
	t.calls = l
	stop := context.AfterFunc(ctx, func() { l.Close() })
	t.agent.work.Go(func() {
		defer stop()
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			if !t.owns(conn) {
				conn.Close()
				continue
			}
			t.agent.work.Go(func() {
				defer conn.Close()
				if err := t.call(ctx, conn); err != nil && ctx.Err() == nil {
					t.agent.Log.Warn("rsh failed", "attempt", t.id, "err", err)
					b, _ := json.Marshal(nodeproto.ExecEnd{Code: 255, Error: err.Error()})
					_ = launch.WriteFrame(conn, append([]byte{byte(nodeproto.ExecOver)}, b...))
				}
			})
		}
	})
}

// owns reports whether the job's own user is at the other end: where there is no
// Landlock another job might find the socket.
func (t *task) owns(conn *net.UnixConn) bool {
	uid, err := launch.Peer(conn)
	if err != nil {
		return false
	}
	var st unix.Stat_t
	return unix.Lstat(filepath.Join(t.dir, "work"), &st) == nil && int(st.Uid) == uid
}

// maxCall bounds the line of a call, in bytes.
const maxCall = 1 << 17

// call carries one command's output back until it has ended. When the server goes
// away it ends too, and the command goes on.
func (t *task) call(ctx context.Context, conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(2 * beat))
	line, err := bufio.NewReader(io.LimitReader(conn, maxCall)).ReadBytes('\n')
	if err != nil {
		return nil //nolint:nilerr // it asked for nothing
	}
	_ = conn.SetReadDeadline(time.Time{})
	var c launch.Call
	if err := json.Unmarshal(line, &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with conn, which our caller closes
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	id := rand.Text() // the same one again is the same command, and started once
	inner, stop := context.WithTimeout(ctx, callWithin)
	defer stop()
	for begun := false; !begun; {
		var ws *websocket.Conn
		err := persist(inner, func(err error) { t.agent.Log.Warn("rsh waits", "attempt", t.id, "err", err) }, func() (err error) {
			ws, err = t.dialMember(inner, c, id)
			return err
		})
		if err != nil {
			return err
		}
		begun = carryFrames(ctx, conn, ws)
	}
	return nil
}

// callWithin is how long a call waits for a server or an agent that is away.
const callWithin = 2 * time.Minute

// carryFrames reports whether there was anything to carry: the command was begun.
func carryFrames(ctx context.Context, conn net.Conn, ws *websocket.Conn) (begun bool) {
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return begun || ctx.Err() != nil // the end; rsh knows what it means
		}
		begun = true
		if len(b) > 0 && launch.WriteFrame(conn, b) != nil {
			return true
		}
	}
}

// dialMember asks for the command. Its error is a *refusal where asking again
// does not help.
func (t *task) dialMember(ctx context.Context, c launch.Call, id string) (*websocket.Conn, error) {
	base, client, _, err := t.agent.server.target()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	q := url.Values{"id": {id}, "fence": {strconv.FormatInt(t.fence, 10)}, "arg": {"/bin/sh", "-c", c.Command}}
	ws, res, err := websocket.Dial(ctx, base+nodeproto.Path+"attempts/"+url.PathEscape(t.id)+"/members/"+strconv.Itoa(c.Member)+"/exec?"+q.Encode(),
		&websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{"Authorization": {"Bearer " + t.agent.Config.Token}}})
	if err != nil && res != nil && res.Body != nil {
		words, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
		r := &refusal{res.StatusCode, string(words)}
		if r.status < 500 && !strings.Contains(r.words, "NodeUnreachable") {
			return nil, &refusal{words: wordsOf(r)}
		}
		return nil, errors.New(wordsOf(r))
	}
	return ws, err
}
