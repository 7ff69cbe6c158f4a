package container

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/inside"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

// Names in the attempt's folder, which is our working folder.
const (
	runFolder     = "run"
	visitorSocket = "container.sock"
)

// host is this side of what the container sees: its output, its connections.
type host struct {
	dir    string // the attempt's folder
	spec   Spec
	words  chan<- inside.Word
	out    *os.File
	copied chan struct{}
	inner  *net.UnixListener // of the container
	outer  *net.UnixListener // of visitors

	mu      sync.Mutex
	control net.Conn // nil: not connected yet
	peer    int      // process 1, as we have it
	guests  map[string]*guest
}

// openHost makes what the container will see.
func openHost(spec Spec, words chan<- inside.Word) (h *host, err error) {
	h = &host{spec: spec, words: words, copied: make(chan struct{}), guests: map[string]*guest{}}
	if h.dir, err = os.Getwd(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(runFolder, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	pipe, socket := filepath.Join(runFolder, inside.Output), filepath.Join(runFolder, inside.Socket)
	if err := unix.Mkfifo(pipe, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make the pipe for output: %w", err)
	}
	// Both ends are open here, so that there is no end before we say so.
	fd, err := unix.Open(pipe, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the pipe for output: %w", err)
	}
	h.out = os.NewFile(uintptr(fd), pipe)
	if h.inner, err = listen(socket); err != nil {
		return nil, err
	}
	if h.outer, err = listen(visitorSocket); err != nil {
		return nil, err
	}
	for _, name := range []string{pipe, socket} {
		if err := give(name, spec.user()); err != nil {
			return nil, err
		}
	}
	go h.copy()
	go accept(h.inner, h.serve)
	go accept(h.outer, h.receive)
	return h, nil
}

func listen(name string) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
}

// give lets the container's user open a file: it is its alone, or where nobody
// knows who that is everybody's who finds it.
func give(name, user string) error {
	uid, gid, _ := strings.Cut(user, ":")
	u, uerr := strconv.Atoi(uid)
	g, gerr := strconv.Atoi(gid)
	if uerr != nil || gerr != nil {
		return os.Chmod(name, 0o666)
	}
	if os.Getuid() != 0 {
		return nil // it is who we are
	}
	return os.Chown(name, u, g)
}

func accept(l *net.UnixListener, serve func(*net.UnixConn)) {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many files, which pass
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go serve(conn)
	}
}

// copy takes the job's output until it is told that nobody of the job is left.
func (h *host) copy() {
	defer close(h.copied)
	_, err := io.Copy(os.Stdout, h.out)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	conn, err := h.out.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	_ = conn.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return
			}
			if _, err := os.Stdout.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}

// close takes what output there still is, and ends.
func (h *host) close() {
	_ = h.inner.Close()
	_ = h.outer.Close()
	_ = h.out.SetReadDeadline(time.Unix(1, 0))
	<-h.copied
}

// serve answers one connection of the container's.
func (h *host) serve(conn *net.UnixConn) {
	in := bufio.NewReader(conn)
	switch kind, err := in.ReadByte(); {
	case err != nil:
		conn.Close()
	case kind == inside.Control:
		h.listen(conn, in)
	case kind == inside.Relay:
		h.relay(conn, in)
	case kind == inside.Visit:
		id, err := in.ReadString('\n')
		if err == nil {
			h.handOver(conn, strings.TrimSuffix(id, "\n"))
		}
		conn.Close()
	default:
		conn.Close()
	}
}

// listen serves process 1, which connects before anything of the job's runs.
func (h *host) listen(conn *net.UnixConn, in io.Reader) {
	h.mu.Lock()
	if h.control != nil {
		h.mu.Unlock()
		conn.Close()
		return
	}
	h.control, h.peer = conn, peer(conn)
	err := json.NewEncoder(conn).Encode(inside.Order{Argv: h.spec.Argv, Env: h.spec.Env, Dir: h.spec.Dir, Port: h.spec.Port})
	h.mu.Unlock()
	words := json.NewDecoder(in)
	for err == nil {
		var w inside.Word
		if err = words.Decode(&w); err == nil {
			h.words <- w
		}
	}
}

// peer is the process at the other end.
func peer(conn *net.UnixConn) (pid int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(c.Pid)
		}
	})
	return pid
}

// process is process 1; 0: nobody knows.
func (h *host) process() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.peer
}

// tell says something to process 1.
func (h *host) tell(w inside.Word) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.control != nil {
		_ = json.NewEncoder(h.control).Encode(w)
	}
}

// relay carries a connection to the server, wherever that is now.
func (h *host) relay(conn *net.UnixConn, in io.Reader) {
	defer conn.Close()
	address, err := serverAddress(h.spec.Server)
	if err != nil {
		return
	}
	to, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(conn, to)
		_ = conn.CloseWrite()
	}()
	_, _ = io.Copy(to, in)
	_ = to.(*net.TCPConn).CloseWrite()
	<-done
}

func serverAddress(file string) (string, error) {
	var at struct {
		URL string `json:"url"`
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(b, &at); err != nil {
		return "", err
	}
	u, err := url.Parse(at.URL)
	if err != nil {
		return "", err
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443"), nil
	}
	return u.Host, nil
}

// --- visitors ---

// guest is a visitor that waits to be let in, or is in.
type guest struct {
	conn  *net.UnixConn
	entry []byte
	files []int
}

// visitRequest is what "ebb contain enter" sends, with three files.
type visitRequest struct {
	ID string `json:"id"`
	inside.Entry
}

// receive takes a visitor, and lets it go when it leaves.
func (h *host) receive(conn *net.UnixConn) {
	defer conn.Close()
	text, fds, err := readWithFiles(conn)
	var v visitRequest
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	entry, merr := json.Marshal(v.Entry)
	if err != nil || merr != nil || len(fds) != 3 || v.ID == "" {
		closeAll(fds)
		return
	}
	g := &guest{conn: conn, entry: append(entry, '\n'), files: fds}
	h.mu.Lock()
	h.guests[v.ID] = g
	h.mu.Unlock()
	h.tell(inside.Word{Enter: v.ID})
	_, _ = conn.Read(make([]byte, 1)) // until it is killed, or answered
	h.tell(inside.Word{Leave: v.ID})
	h.mu.Lock()
	delete(h.guests, v.ID)
	closeAll(g.files)
	h.mu.Unlock()
}

// handOver gives a visitor's files to process 1.
func (h *host) handOver(conn *net.UnixConn, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.guests[id]
	if g == nil || g.files == nil {
		return
	}
	_ = writeWithFiles(conn, g.entry, g.files) // who does not get it says so
	closeAll(g.files)
	g.files = nil
}

// visited tells a visitor how its command ended.
func (h *host) visited(w inside.Word) {
	h.mu.Lock()
	g := h.guests[w.Visit]
	h.mu.Unlock()
	if g != nil {
		_ = json.NewEncoder(g.conn).Encode(w)
		_ = g.conn.CloseRead() // ends receive
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func writeWithFiles(conn *net.UnixConn, text []byte, fds []int) error {
	n, _, err := conn.WriteMsgUnix(text, unix.UnixRights(fds...), nil)
	if err == nil && n < len(text) {
		_, err = conn.Write(text[n:])
	}
	return err
}

// readWithFiles reads one line and the files that come with it.
func readWithFiles(conn *net.UnixConn) (text []byte, fds []int, err error) {
	buf, oob := make([]byte, 32<<10), make([]byte, unix.CmsgSpace(3*4))
	for len(text) == 0 || text[len(text)-1] != '\n' {
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return nil, fds, errors.Join(err, io.ErrUnexpectedEOF)
		}
		text = append(text, buf[:n]...)
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return nil, fds, err
		}
		for i := range messages {
			if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
				fds = append(fds, got...)
			}
		}
	}
	return text, fds, nil
}

// enter is "ebb contain enter": it gives its standard files to the container's
// process 1, and ends as the command that this starts with them. The command is
// that of the visit's file, which the agent wrote.
func enter(dir, id string) int {
	const notStarted = 126
	w, err := visit(dir, id)
	if err != nil {
		fmt.Fprintln(os.Stderr, "The command could not enter the container:", err)
		return notStarted
	}
	if w.Failed != "" {
		fmt.Fprintln(os.Stderr, w.Failed)
	}
	return w.Code
}

func visit(dir, id string) (w inside.Word, err error) {
	if err := os.Chdir(dir); err != nil {
		return w, err
	}
	b, err := os.ReadFile("visit-" + id + ".json")
	if err != nil {
		return w, err
	}
	var v shim.Visit
	if err := json.Unmarshal(b, &v); err != nil {
		return w, err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: visitorSocket, Net: "unix"})
	if err != nil {
		return w, err
	}
	defer conn.Close()
	text, err := json.Marshal(visitRequest{ID: id, Entry: inside.Entry{Argv: v.Argv, Env: v.Env, Terminal: v.Terminal}})
	if err != nil {
		return w, err
	}
	text = append(text, '\n')
	if err := writeWithFiles(conn, text, []int{0, 1, 2}); err != nil {
		return w, err
	}
	if err := json.NewDecoder(conn).Decode(&w); err != nil {
		return w, errors.New("the job ended")
	}
	return w, nil
}
