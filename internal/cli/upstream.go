package cli

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// upstreams are the proxies that the user's own environment names: where hosts
// that are not led to the server went before, and still go.
type upstreams struct {
	https, http *url.URL // nil: direct
	except      []string // NO_PROXY, in lower case
}

// upstreamsOf reads the proxy variables as curl and requests do: lower case
// wins, ALL_PROXY stands in for both.
func upstreamsOf(getenv func(string) string) (upstreams, error) {
	either := func(name string) string {
		if v := getenv(strings.ToLower(name)); v != "" {
			return v
		}
		return getenv(name)
	}
	var u upstreams
	for _, p := range []struct {
		name string
		to   **url.URL
	}{{"HTTPS_PROXY", &u.https}, {"HTTP_PROXY", &u.http}} {
		text := either(p.name)
		if text == "" {
			text = either("ALL_PROXY")
		}
		if text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		proxy, err := url.Parse(text)
		if err != nil || proxy.Host == "" {
			// Not shown: there may be a password in it.
			return u, fmt.Errorf("%s is not the URL of a proxy", p.name)
		}
		switch proxy.Scheme {
		case "http", "https", "socks5", "socks5h":
		default:
			return u, fmt.Errorf("%s: proxies of kind %q are not known; http, https and socks5 are", p.name, proxy.Scheme)
		}
		*p.to = proxy
	}
	u.except = noProxy(either("NO_PROXY"))
	return u, nil
}

func noProxy(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

// direct reports whether NO_PROXY, or being this machine itself, lets a host
// go without a proxy.
func (u upstreams) direct(host, port string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	addr, err := netip.ParseAddr(host)
	isAddr := err == nil
	if host == "localhost" || isAddr && addr.Unmap().IsLoopback() {
		return true
	}
	for _, entry := range u.except {
		if entry == "*" {
			return true
		}
		if h, p, err := net.SplitHostPort(entry); err == nil {
			if p != port {
				continue
			}
			entry = h
		}
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			if isAddr && prefix.Contains(addr.Unmap()) {
				return true
			}
			continue
		}
		entry = strings.TrimPrefix(strings.TrimPrefix(entry, "*"), ".")
		if entry != "" && (host == entry || !isAddr && strings.HasSuffix(host, "."+entry)) {
			return true
		}
	}
	return false
}

// forHTTP is the proxy of a plain http request, for http.Transport.
func (u upstreams) forHTTP(r *http.Request) (*url.URL, error) {
	port := r.URL.Port()
	if port == "" {
		port = "80"
	}
	if u.http == nil || u.direct(r.URL.Hostname(), port) {
		return nil, nil
	}
	return u.http, nil
}

// dialTimeout bounds the making of one connection, a proxy's answer included.
const dialTimeout = 30 * time.Second

// dial opens a TCP stream to host:port, through the user's proxy where one is
// meant for it.
func (u upstreams) dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	var d net.Dialer
	if u.https == nil || u.direct(host, port) {
		return d.DialContext(ctx, "tcp", address)
	}
	conn, err := d.DialContext(ctx, "tcp", hostPort(u.https))
	if err != nil {
		return nil, fmt.Errorf("reach the proxy %s: %w", u.https.Host, err)
	}
	// The handshakes below know no context: closing the connection ends them.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	through, err := u.handshake(ctx, conn, host, port)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("through the proxy %s: %w", u.https.Host, err)
	}
	return through, nil
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme])
}

func (u upstreams) handshake(ctx context.Context, conn net.Conn, host, port string) (net.Conn, error) {
	switch u.https.Scheme {
	case "socks5", "socks5h":
		return conn, socks5(conn, u.https.User, host, port)
	case "https":
		secure := tls.Client(conn, &tls.Config{ServerName: u.https.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	return connect(conn, u.https.User, net.JoinHostPort(host, port))
}

// connect asks an HTTP proxy for a tunnel.
func connect(conn net.Conn, user *url.Userinfo, address string) (net.Conn, error) {
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user != nil {
		password, _ := user.Password()
		r.Header.Set("Proxy-Authorization", basic(user.Username(), password))
	}
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("it answered %s", resp.Status)
	}
	return &readConn{Conn: conn, in: in}, nil // a server that speaks first may be in the buffer already
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// readConn reads what a buffer has, then the connection. What it reads it
// acknowledges at once: Python's urllib3 sends head and body of a request in
// two writes with Nagle's algorithm on when it speaks to a proxy, and waits for
// the first to be acknowledged; a delayed acknowledgement costs 40 ms each time.
type readConn struct {
	net.Conn
	in io.Reader
}

func (c *readConn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	acknowledge(c.Conn)
	return n, err
}

// acknowledge sends what acknowledgements are held back. The kernel forgets the
// option, so it is set after each read; elsewhere than on Linux it is not there.
func acknowledge(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
}

// CloseWrite says that no more comes, and leaves the other way open.
func (c *readConn) CloseWrite() error { return closeWrite(c.Conn) }

// socks5 asks for a tunnel as RFC 1928 and 1929 say. Names are left to the
// proxy to look up.
func socks5(conn net.Conn, user *url.Userinfo, host, port string) error {
	methods := []byte{5, 1, 0}
	if user != nil {
		methods = []byte{5, 2, 0, 2}
	}
	if _, err := conn.Write(methods); err != nil {
		return err
	}
	var chosen [2]byte
	if _, err := io.ReadFull(conn, chosen[:]); err != nil {
		return err
	}
	switch {
	case chosen[1] == 2 && user != nil:
		password, _ := user.Password()
		if err := socksLogin(conn, user.Username(), password); err != nil {
			return err
		}
	case chosen[1] != 0:
		return errors.New("it takes none of the ways to log in that we have")
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return err
	}
	if len(host) > 255 {
		return errors.New("the host's name is too long for it")
	}
	ask := append([]byte{5, 1, 0, 3, byte(len(host))}, host...)
	if addr, err := netip.ParseAddr(host); err == nil {
		kind := byte(4)
		if addr = addr.Unmap(); addr.Is4() {
			kind = 1
		}
		ask = append([]byte{5, 1, 0, kind}, addr.AsSlice()...)
	}
	if _, err := conn.Write(append(ask, byte(n>>8), byte(n))); err != nil {
		return err
	}
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if head[1] != 0 {
		return fmt.Errorf("it refused, with code %d", head[1])
	}
	// The address it bound, of which one byte is read, and the port.
	rest := map[byte]int{1: 4 - 1 + 2, 4: 16 - 1 + 2, 3: int(head[4]) + 2}[head[3]]
	_, err = io.CopyN(io.Discard, conn, int64(rest))
	return err
}

func socksLogin(conn net.Conn, user, password string) error {
	if len(user) > 255 || len(password) > 255 {
		return errors.New("user or password is too long for it")
	}
	ask := append([]byte{1, byte(len(user))}, user...)
	ask = append(append(ask, byte(len(password))), password...)
	if _, err := conn.Write(ask); err != nil {
		return err
	}
	var answer [2]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if answer[1] != 0 {
		return errors.New("it refused the user and password")
	}
	return nil
}
