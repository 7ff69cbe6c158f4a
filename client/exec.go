package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/coder/websocket"
)

// Exec is a command to run inside a running job: same user, files, limits and
// environment.
type Exec struct {
	Command  []string
	Node     int       // which of the job's nodes, from 0
	Stdin    io.Reader // nil: empty
	Stdout   io.Writer
	Stderr   io.Writer // with Terminal nothing comes here
	Terminal bool
	Term     string // kind of terminal, as "xterm-256color"
	Rows     int
	Cols     int
	Resize   <-chan [2]int // new rows and columns; nil: never
}

// Channels of the messages, as the server's internal/nodeproto has them.
const (
	execStdin = iota
	execStdinEnd
	execResize
	execStdout
	execStderr
	execOver
)

// ErrExecLost says that the connection ended before the command did, which was
// killed.
var ErrExecLost = errors.New("the connection to the command was lost")

// Exec runs a command inside a running job, and returns its exit code. When ctx
// ends the command is killed.
func (s Jobs) Exec(ctx context.Context, name string, x Exec) (code int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := s.dialExec(ctx, name, x)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(1 << 20)
	go x.sendInput(ctx, conn) // a read of a terminal cannot be taken back: it may outlive us
	go x.sendSizes(ctx, conn)
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return 0, fmt.Errorf("%w: %w", ErrExecLost, err)
		}
		if len(b) == 0 {
			continue
		}
		switch b[0] {
		case execStdout:
			err = writeTo(x.Stdout, b[1:])
		case execStderr:
			err = writeTo(x.Stderr, b[1:])
		case execOver:
			var end struct {
				Code  int    `json:"code"`
				Error string `json:"error"`
			}
			if err := json.Unmarshal(b[1:], &end); err != nil {
				return 0, fmt.Errorf("read how the command ended: %w", err)
			}
			if end.Error != "" {
				return end.Code, errors.New(end.Error)
			}
			return end.Code, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func writeTo(w io.Writer, b []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(b)
	return err
}

func (s Jobs) dialExec(ctx context.Context, name string, x Exec) (*websocket.Conn, error) {
	q := url.Values{"arg": x.Command}
	if x.Node > 0 {
		q.Set("node", strconv.Itoa(x.Node))
	}
	if x.Terminal {
		q.Set("tty", "true")
		q.Set("term", x.Term)
		q.Set("rows", strconv.Itoa(x.Rows))
		q.Set("cols", strconv.Itoa(x.Cols))
	}
	var conn *websocket.Conn
	err := s.c.rideOut(ctx, func() error {
		token, err := s.c.bearer(ctx)
		if err != nil {
			return err
		}
		got, resp, err := websocket.Dial(ctx, s.c.file.URL+"/ebb/v1"+s.path(name)+"/exec?"+q.Encode(), &websocket.DialOptions{
			HTTPClient: s.c.http,
			HTTPHeader: http.Header{"Authorization": {"Bearer " + token}, "User-Agent": {s.c.options.UserAgent}},
		})
		if err != nil && resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			body, rerr := io.ReadAll(resp.Body)
			if rerr != nil {
				return rerr
			}
			return errorOf(resp, body)
		}
		conn = got
		return err
	})
	return conn, err
}

func (x Exec) sendInput(ctx context.Context, conn *websocket.Conn) {
	if x.Stdin != nil {
		b := make([]byte, 1+32<<10)
		b[0] = execStdin
		for {
			n, err := x.Stdin.Read(b[1:])
			if n > 0 && conn.Write(ctx, websocket.MessageBinary, b[:1+n]) != nil {
				return
			}
			if err != nil {
				break
			}
		}
	}
	_ = conn.Write(ctx, websocket.MessageBinary, []byte{execStdinEnd})
}

func (x Exec) sendSizes(ctx context.Context, conn *websocket.Conn) {
	for {
		select {
		case size := <-x.Resize:
			b, err := json.Marshal(map[string]int{"rows": size[0], "cols": size[1]})
			if err != nil || conn.Write(ctx, websocket.MessageBinary, append([]byte{execResize}, b...)) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
