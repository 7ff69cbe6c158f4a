package testkit

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Port is a port of 127.0.0.1 that no other process can take, whether somebody
// listens on it or not: for servers that end and are started again.
type Port struct{ Address string }

// ReservePort binds one, until the test ends. Until [Port.Listen], connections
// to it are refused.
func ReservePort(t testing.TB) *Port {
	t.Helper()
	// Bound and never listening: it holds the number, beside who listens.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := share(fd); err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	return &Port{fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)}
}

// share lets sockets of one user be bound to the same port.
func share(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }

// Listen listens on it; once more when the listener before is closed.
func (p *Port) Listen(t testing.TB) net.Listener {
	t.Helper()
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = share(int(fd)) }); cerr != nil {
			return cerr
		}
		return err
	}}
	ln, err := shared.Listen(context.Background(), "tcp", p.Address)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}
