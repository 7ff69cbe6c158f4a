package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// execPiece is how much output goes in one message, in bytes.
const execPiece = 32 << 10

// afterEnd is how long output is still taken once a command has ended: what it
// left running may hold its files for ever.
const afterEnd = time.Second

// exec serves one command from the dial to its end. It lasts at most as long as
// the agent, the job, and whoever asked.
func (a *Agent) exec(ctx context.Context, x nodeproto.Exec) {
	conn, err := a.dialExec(ctx, x.ID)
	if err != nil {
		a.Log.Warn("cannot serve a command", "attempt", x.Attempt, "err", err)
		return
	}
	defer conn.CloseNow()
	code, err := a.runExec(ctx, conn, x)
	end := nodeproto.ExecEnd{Code: code}
	if err != nil {
		end.Error = err.Error()
	}
	b, err := json.Marshal(end)
	if err != nil || sendExec(ctx, conn, nodeproto.ExecOver, b) != nil {
		return
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
}

func (a *Agent) dialExec(ctx context.Context, id string) (*websocket.Conn, error) {
	base, client, _, err := a.server.target()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*beat)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, base+nodeproto.Path+"execs/"+url.PathEscape(id), &websocket.DialOptions{
		HTTPClient: client,
		HTTPHeader: http.Header{"Authorization": {"Bearer " + a.Config.Token}},
	})
	return conn, err
}

func sendExec(ctx context.Context, conn *websocket.Conn, to nodeproto.Channel, b []byte) error {
	return conn.Write(ctx, websocket.MessageBinary, append([]byte{byte(to)}, b...))
}

// standard are a command's standard files: ours, and the ends that it opens.
type standard struct {
	in       *os.File
	out, err *os.File   // err: nil with a terminal
	theirs   []*os.File // input, output, error; the same one thrice with a terminal
}

func (s *standard) close() {
	for _, f := range append([]*os.File{s.in, s.out, s.err}, s.theirs...) {
		if f != nil {
			f.Close() // some twice, which does no harm
		}
	}
}

func openStandard(x nodeproto.Exec) (*standard, error) {
	if x.Terminal {
		return openTerminal(x.Rows, x.Cols)
	}
	s := &standard{}
	for _, give := range []func(r, w *os.File){
		func(r, w *os.File) { s.in, s.theirs = w, append(s.theirs, r) },
		func(r, w *os.File) { s.out, s.theirs = r, append(s.theirs, w) },
		func(r, w *os.File) { s.err, s.theirs = r, append(s.theirs, w) },
	} {
		r, w, err := os.Pipe()
		if err != nil {
			s.close()
			return nil, err
		}
		give(r, w)
	}
	return s, nil
}

// openTerminal makes a pseudo-terminal.
func openTerminal(rows, cols int) (*standard, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = resize(master, rows, cols)
	}
	var slave *os.File
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	return &standard{in: master, out: master, theirs: []*os.File{slave, slave, slave}}, nil
}

func resize(terminal *os.File, rows, cols int) error {
	if rows <= 0 || cols <= 0 {
		rows, cols = 24, 80
	}
	raw, err := terminal.SyscallConn() // Fd would make it block
	if err != nil {
		return err
	}
	var ierr error
	err = raw.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(cols)})
	})
	return errors.Join(err, ierr)
}

// runExec runs the command and carries its bytes. Its exit code is 126 or 127
// where it was not started.
func (a *Agent) runExec(ctx context.Context, conn *websocket.Conn, x nodeproto.Exec) (code int, err error) {
	const notStarted = 126
	if !plainName(x.ID) {
		return notStarted, errors.New("the command has no plain id")
	}
	s, err := openStandard(x)
	if err != nil {
		return notStarted, err
	}
	defer s.close()
	visit := shim.Visit{ID: x.ID, Argv: x.Argv, PID: os.Getpid(), Terminal: x.Terminal}
	for i, f := range s.theirs {
		raw, err := f.SyscallConn()
		if err != nil {
			return notStarted, err
		}
		if err := raw.Control(func(fd uintptr) { visit.Files[i] = int(fd) }); err != nil {
			return notStarted, err
		}
	}
	if x.Terminal && x.Term != "" {
		visit.Env = []string{"TERM=" + x.Term}
	}
	inner, cancel := context.WithTimeout(ctx, 2*beat)
	v, err := shim.Enter(inner, a.journal.path(x.Attempt), visit)
	cancel()
	if bad, ok := errors.AsType[*shim.BadCommand](err); ok {
		return bad.Code, bad
	}
	if err != nil {
		return notStarted, err
	}
	for _, f := range s.theirs {
		f.Close()
	}
	if x.Keep { // who asked may go away from here on
		_ = sendExec(ctx, conn, nodeproto.Stdout, nil)
	}
	return a.carryExec(ctx, conn, s, v, x.Keep)
}

// carryExec carries bytes until the command has ended, or nobody is there for it.
func (a *Agent) carryExec(ctx context.Context, conn *websocket.Conn, s *standard, v *shim.Visitor, keep bool) (int, error) {
	inner, gone := context.WithCancel(ctx)
	defer gone()
	go func() { // ends with the connection, which exec closes
		defer gone()
		s.takeInput(ctx, conn)
	}()
	var out sync.WaitGroup
	out.Go(func() { s.giveOutput(ctx, conn, nodeproto.Stdout, s.out) })
	if s.err != nil {
		out.Go(func() { s.giveOutput(ctx, conn, nodeproto.Stderr, s.err) })
	}
	code, err := v.Wait(inner)
	if err != nil && !keep {
		v.Kill()
		if inner.Err() != nil && ctx.Err() == nil {
			err = errors.New("nobody is there any more for the command's output")
		}
	}
	late := time.AfterFunc(afterEnd, s.close)
	out.Wait()
	late.Stop()
	return code, err
}

// takeInput gives the command what comes, until the connection ends.
func (s *standard) takeInput(ctx context.Context, conn *websocket.Conn) {
	conn.SetReadLimit(1 << 20)
	for {
		_, b, err := conn.Read(ctx)
		if err != nil || len(b) == 0 {
			return
		}
		switch nodeproto.Channel(b[0]) {
		case nodeproto.Stdin:
			_, _ = s.in.Write(b[1:]) // a command need not read
		case nodeproto.StdinEnd:
			if s.err == nil {
				_, _ = s.in.Write([]byte{4}) // Ctrl-D
			} else {
				_ = s.in.Close()
			}
		case nodeproto.Resize:
			var size nodeproto.ExecSize
			if json.Unmarshal(b[1:], &size) == nil && s.err == nil {
				_ = resize(s.in, size.Rows, size.Cols)
			}
		case nodeproto.Stdout, nodeproto.Stderr, nodeproto.ExecOver:
		}
	}
}

// giveOutput sends what the command writes until nobody holds the file. A
// terminal's end is EIO.
func (s *standard) giveOutput(ctx context.Context, conn *websocket.Conn, to nodeproto.Channel, from io.Reader) {
	b := make([]byte, execPiece)
	for {
		n, err := from.Read(b)
		if n > 0 && sendExec(ctx, conn, to, b[:n]) != nil || err != nil {
			return
		}
	}
}

// plainName reports whether a name may be part of a file's.
func plainName(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
