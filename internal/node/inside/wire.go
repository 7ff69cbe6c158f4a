package inside

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// dial connects to who holds the container, and says what the connection is.
func dial(first string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path.Join(Folder, Socket)}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("reach the node: %w", err)
	}
	_ = unix.SetNonblock(fd, true) // so that reading waits in the poller
	f := os.NewFile(uintptr(fd), "node")
	if _, err := f.WriteString(first); err != nil {
		f.Close()
		return nil, fmt.Errorf("reach the node: %w", err)
	}
	return f, nil
}

// relay takes connections on loopback and carries each to the server.
func relay(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		return fmt.Errorf("listen on 127.0.0.1:%d for the server: %w", port, err)
	}
	go func() {
		for {
			conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
				continue
			}
			if err != nil {
				return
			}
			go carry(os.NewFile(uintptr(conn), "client"))
		}
	}()
	return nil
}

func carry(client *os.File) {
	defer client.Close()
	node, err := dial(string(Relay))
	if err != nil {
		return
	}
	defer node.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(client, node)
		shut(client)
	}()
	_, _ = io.Copy(node, client)
	shut(node)
	<-done
}

// shut tells the other side that nothing more comes.
func shut(f *os.File) {
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}

// enter fetches a visitor and starts what it wants.
func (p *process1) enter(id string) {
	e, files, err := fetch(id)
	if err == nil {
		_, bad := p.spawn(e.Argv, over(p.order.Env, e.Env), files, e.Terminal, id)
		for _, f := range files {
			f.Close()
		}
		if bad == nil {
			return // reap tells of its end
		}
		p.say(Word{Visit: id, Failed: bad.Error(), Code: bad.code})
		return
	}
	p.say(Word{Visit: id, Failed: err.Error(), Code: 126})
}

// fetch receives an [Entry] and its three files.
func fetch(id string) (e Entry, files [3]*os.File, err error) {
	node, err := dial(string(Visit) + id + "\n")
	if err != nil {
		return e, files, err
	}
	defer node.Close()
	conn, err := node.SyscallConn()
	if err != nil {
		return e, files, err
	}
	var text []byte
	var fds []int
	buf, oob := make([]byte, 32<<10), make([]byte, unix.CmsgSpace(3*4))
	for !bytes.HasSuffix(text, []byte("\n")) {
		var n, oobn int
		var rerr error
		err = conn.Read(func(fd uintptr) bool {
			n, oobn, _, _, rerr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err = errors.Join(err, rerr); err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			break
		}
		text = append(text, buf[:n]...)
		fds = append(fds, received(oob[:oobn])...)
	}
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err == nil && len(fds) != len(files) {
		err = errors.New("the visitor's files did not come")
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return e, files, fmt.Errorf("fetch the command: %w", err)
	}
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "standard "+strconv.Itoa(i))
	}
	return e, files, nil
}

func received(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// leave kills a visitor and its session.
func (p *process1) leave(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for session, has := range p.visitors {
		if has != id {
			continue
		}
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			if s, err := unix.Getsid(pid); err == nil && s == session {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}
