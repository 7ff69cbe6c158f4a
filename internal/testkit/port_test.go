package testkit_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
	"golang.org/x/sys/unix"
)

// only lets the kernel choose no port but one, where it has IP_LOCAL_PORT_RANGE.
func only(t *testing.T, address string) func(_, _ string, c syscall.RawConn) error {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, port|port<<16)
		}); cerr != nil {
			return cerr
		}
		return err
	}
}

// takers are the ways in which another process comes by a port of the kernel's choice.
var takers = map[string]func(t *testing.T, address, peer string) error{
	"listens on any port": func(t *testing.T, address, _ string) error {
		l, err := (&net.ListenConfig{Control: only(t, address)}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err == nil {
			l.Close()
		}
		return err
	},
	"dials out": func(t *testing.T, address, peer string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := (&net.Dialer{Control: only(t, address)}).DialContext(ctx, "tcp", peer)
		if err == nil {
			c.Close()
		}
		return err
	},
}

// Between the end of a server and its next start nobody comes by its port.
func TestPortIsKept(t *testing.T) {
	t.Parallel()
	peer := testkit.ReservePort(t)
	peer.Listen(t)
	at := map[string]func(t *testing.T) string{
		"a reserved port": func(t *testing.T) string {
			p := testkit.ReservePort(t)
			p.Listen(t).Close()
			return p.Address
		},
		"the port of a server that was killed": func(t *testing.T) string {
			s := testkit.Serve(t)
			s.Kill()
			return s.URL[len("https://"):]
		},
	}
	for name, address := range at {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := address(t)
			for taker, take := range takers {
				err := take(t, address, peer.Address)
				if errors.Is(err, unix.ENOPROTOOPT) {
					testkit.RealPart(t, "a kernel with IP_LOCAL_PORT_RANGE")
				}
				// In use, or no address that could be assigned.
				if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
					t.Errorf("who %s: %v, want it refused: %s is kept", taker, err, address)
				}
			}
		})
	}
}
