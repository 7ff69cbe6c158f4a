package testkit

import (
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Port is a port of 127.0.0.1 that the kernel gives nobody else while the test
// lasts, whether somebody listens on it or not: for servers that end and are
// started again.
type Port struct{ Address string }

// ReservePort binds one, until the test ends. Until somebody listens on it,
// connections to it are refused.
func ReservePort(t testing.TB) *Port {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	// Bound and never listening, it holds the number: the kernel passes over it
	// for those who ask for any port or dial out. Who names the port and says
	// SO_REUSEADDR, as every listener of Go does, may listen on it.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
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

// Listen listens on it; once more when the listener before is closed.
func (p *Port) Listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", p.Address)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}
