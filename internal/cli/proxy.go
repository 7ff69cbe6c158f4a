package cli

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ebb-compute/ebb/client"
)

// proxyUser is the user name of the proxy; its secret is the password.
const proxyUser = "ebb"

// proxy is an HTTP proxy on loopback, for those who know its secret. It leads
// Azure's names to the server as raw TCP (the server ends the TLS), and takes
// everything else where it went before.
type proxy struct {
	server string // host:port
	up     upstreams
	secret string
	away   outage // while the server is being restarted
	known  accounts
	gaveUp func(error) // told once in each outage, when patience is at its end; nil: nobody is

	listener net.Listener
	http     http.Server
	plain    *http.Transport
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	conns  map[net.Conn]bool // taken over from the HTTP server
}

// ownAccount matches the storage accounts that Ebb makes: "ebb" and 20 hex
// digits. Of others the server is asked ([accounts]).
var ownAccount = regexp.MustCompile(`^ebb[0-9a-f]{20}\.blob\.core\.windows\.net$`)

// ledNames are the hosts led to the server; with a dot in front, all below too.
var ledNames = []string{"management.azure.com", "login.microsoftonline.com", "graph.microsoft.com", ".api.azureml.ms", "ml.azure.com", ".ml.azure.com"}

// leads reports whether a host is one that goes to the server, by its name alone.
func leads(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, name := range ledNames {
		if host == name || name[0] == '.' && strings.HasSuffix(host, name) {
			return true
		}
	}
	return ownAccount.MatchString(host)
}

// newProxy listens on a free port of 127.0.0.1 (or on address) and serves until
// it is closed. An empty secret is replaced by a random one.
func newProxy(f client.File, up upstreams, address, secret string) (*proxy, error) {
	u, err := url.Parse(f.URL)
	if err != nil {
		return nil, fmt.Errorf("read the server's URL: %w", err)
	}
	if address == "" {
		address = "127.0.0.1:0"
	}
	if secret == "" {
		secret = newSecret()
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	p := &proxy{known: accounts{file: f}, server: serverAddress(u), up: up, secret: secret, away: outage{patience: client.Patience}, listener: ln, conns: map[net.Conn]bool{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.plain = &http.Transport{Proxy: up.forHTTP, DisableCompression: true, IdleConnTimeout: time.Minute}
	// Quiet: what goes wrong is told to the child in the answer, and standard
	// error is the child's.
	quiet := log.New(io.Discard, "", 0)
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.Host, r.Out.URL.RawQuery = r.In.Host, r.In.URL.RawQuery },
		Transport:     p.plain,
		FlushInterval: -1, // a stream is passed on as it comes
		ErrorLog:      quiet,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, err error) { refuse(w, http.StatusBadGateway, err.Error()) },
	}
	p.http = http.Server{Handler: p.handler(forward), ReadHeaderTimeout: 30 * time.Second, ErrorLog: quiet}
	p.running.Go(func() { _ = p.http.Serve(ln) }) // ends with Close
	return p, nil
}

func newSecret() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails, by its documentation
	return hex.EncodeToString(b)
}

func serverAddress(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "443")
}

// url is what the proxy variables are set to.
func (p *proxy) url() string {
	return "http://" + proxyUser + ":" + p.secret + "@" + p.listener.Addr().String()
}

// close ends every connection and waits for what served them.
func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.http.Close()
	p.running.Wait()
	p.plain.CloseIdleConnections()
	p.known.close()
}

// keep notes a connection for close; false when it is too late.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) handler(forward http.Handler) http.HandlerFunc {
	want := []byte(basic(proxyUser, p.secret))
	return func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), want) != 1 {
			w.Header().Set("Proxy-Authenticate", `Basic realm="ebb exec"`)
			refuse(w, http.StatusProxyAuthRequired, "this proxy serves the child of one ebb exec")
			return
		}
		switch {
		case r.Method == http.MethodConnect:
			p.tunnel(w, r)
		case r.URL.Scheme != "http" || r.URL.Host == "":
			refuse(w, http.StatusBadRequest, "this is a proxy: ask for a whole http URL")
		case leads(r.URL.Hostname()):
			// Never to the internet: what is in it was meant for the server.
			refuse(w, http.StatusForbidden, r.URL.Hostname()+" is led to the Ebb server, which speaks https only")
		default:
			forward.ServeHTTP(w, r)
		}
	}
}

// refuse answers in words that curl -v and a log show.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, "ebb exec: "+why)
}

func (p *proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		refuse(w, http.StatusBadRequest, "CONNECT needs host:port")
		return
	}
	var out net.Conn
	led := leads(host)
	if !led && port == "443" {
		led, err = p.known.has(r.Context(), host)
	}
	switch {
	case err != nil: // what is meant for the server must not go elsewhere
	case led && port == "443":
		out, err = p.dialServer(r.Context())
	default:
		out, err = p.up.dial(r.Context(), r.Host)
	}
	if err != nil {
		refuse(w, http.StatusBadGateway, err.Error())
		return
	}
	if !p.keep(out) {
		out.Close()
		return
	}
	defer p.drop(out)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	if !p.keep(conn) {
		conn.Close()
		return
	}
	defer p.drop(conn)
	// The server's Close no longer waits for a hijacked connection; we do.
	p.running.Add(1)
	defer p.running.Done()
	_ = conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	splice(&readConn{Conn: conn, in: buffered.Reader}, out)
}

// dialServer waits for a server that is being restarted: clients differ in how
// they take a refusal from a proxy, and none of them waits half a minute.
func (p *proxy) dialServer(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.away.patience+dialTimeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	for {
		conn, err := p.up.dial(ctx, p.server)
		if err == nil {
			p.away.over()
			return conn, nil
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("reach the Ebb server: %w", err)
		}
		left, first := p.away.failed(time.Now())
		if first && p.gaveUp != nil {
			p.gaveUp(err)
		}
		if !left {
			return nil, fmt.Errorf("reach the Ebb server: %w", err)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, fmt.Errorf("reach the Ebb server: %w", err)
		}
	}
}

// splice copies both ways until both have ended. The end of one way is passed
// on, and the other stays open: a client that has sent all may still be read to.
func splice(a, b net.Conn) {
	var both sync.WaitGroup
	copyTo := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if err != nil {
			// Broken, not ended: neither way is of use any more.
			to.Close()
			from.Close()
			return
		}
		_ = closeWrite(to) // it may be gone already
	}
	both.Go(func() { copyTo(b, a) })
	copyTo(a, b)
	both.Wait()
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
