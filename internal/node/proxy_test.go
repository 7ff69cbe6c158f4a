package node_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node"
)

// tunnel is a proxy that leads every CONNECT to one server.
type tunnel struct {
	url   *url.URL
	mu    sync.Mutex
	wants []string // what it was asked for
}

func newTunnel(t *testing.T, to string, certificates ...tls.Certificate) *tunnel {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tunnel{url: &url.URL{Scheme: "http", Host: l.Addr().String()}}
	if len(certificates) > 0 {
		p.url.Scheme = "https"
		l = tls.NewListener(l, &tls.Config{Certificates: certificates})
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { defer c.Close(); p.serve(c, to) })
		}
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
	return p
}

func (p *tunnel) serve(c net.Conn, to string) {
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.wants = append(p.wants, r.Method+" "+r.Host)
	p.mu.Unlock()
	s, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer s.Close()
	if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() { _, _ = io.Copy(s, in); s.Close() }()
	_, _ = io.Copy(c, s)
}

func (p *tunnel) asked() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.wants, ", ")
}

// A proxy is asked for the address that was checked, and for nothing else: it could
// read another meaning into a name.
func TestPublicInputsThroughAProxy(t *testing.T) {
	t.Parallel()
	site, roots, _ := website(t)
	public, private := netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("10.1.2.3")
	for name, tt := range map[string]struct {
		address  string
		found    []netip.Addr // empty: the name is not known
		networks []string
		asked    string // of the proxy
		says     string // empty: the file comes
	}{
		"a public name":                          {"https://example.com/data/titanic.csv", []netip.Addr{public}, nil, "CONNECT 93.184.216.34:443", ""},
		"one that moves on":                      {"https://example.com:8443/moved", []netip.Addr{public}, nil, "CONNECT 93.184.216.34:8443, CONNECT 93.184.216.34:8443", ""},
		"a name that is private here":            {"https://example.com/data/titanic.csv", []netip.Addr{public, private}, nil, "", "10.1.2.3, which is not public"},
		"a name in a network that is allowed":    {"https://example.com/data/titanic.csv", []netip.Addr{private}, []string{"10.0.0.0/8"}, "CONNECT 10.1.2.3:443", ""},
		"a name that only the proxy knows":       {"https://example.com/data/titanic.csv", nil, nil, "", "local.input_networks"},
		"that, where everything is allowed":      {"https://example.com/data/titanic.csv", nil, []string{"0.0.0.0/0", "::/0"}, "CONNECT example.com:443", ""},
		"a private address":                      {"https://10.1.2.3/x", nil, nil, "", "10.1.2.3, which is not public"},
		"a private address with a dot":           {"https://10.1.2.3./x", nil, nil, "", "10.1.2.3, which is not public"},
		"one that leads to a machine's metadata": {"https://example.com/metadata", []netip.Addr{public}, nil, "CONNECT 93.184.216.34:443", "169.254.169.254, which is not public"},
		"an address as one number":               {"https://2130706433/x", []netip.Addr{public}, nil, "", "neither a name nor a whole address"},
		"an address as hexadecimals":             {"https://0x7f.0x1/x", []netip.Addr{public}, nil, "", "neither a name nor a whole address"},
		"an address with octals":                 {"https://0177.0.0.1/x", []netip.Addr{public}, nil, "", "neither a name nor a whole address"},
		"an address with too few numbers":        {"https://127.1/x", []netip.Addr{public}, nil, "", "neither a name nor a whole address"},
		"that, with a dot":                       {"https://127.1./x", []netip.Addr{public}, nil, "", "neither a name nor a whole address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTunnel(t, strings.TrimPrefix(site, "https://"))
			w := node.Web{Roots: roots, Networks: tt.networks, Proxy: p.url, Lookup: func(host string) ([]netip.Addr, error) {
				if ip, err := netip.ParseAddr(host); err == nil {
					return []netip.Addr{ip}, nil
				}
				if len(tt.found) == 0 {
					return nil, errors.New("no such host")
				}
				return tt.found, nil
			}}
			dir := t.TempDir()
			err := w.Fetch(t.Context(), dir, at(tt.address, queue.ReadOnlyMount))
			if got := p.asked(); got != tt.asked {
				t.Errorf("the proxy was asked for %q, want %q", got, tt.asked)
			}
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, want %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "inputs/d", filepath.Base(tt.address))); err != nil || string(b) != "a,b\n" {
				t.Errorf("the file is %q, %v", b, err)
			}
		})
	}
}

// A proxy that speaks TLS shows who it is by its own name.
func TestPublicInputsThroughAProxyThatSpeaksTLS(t *testing.T) {
	t.Parallel()
	site, roots, _ := website(t)
	own := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(own.Close)
	p := newTunnel(t, strings.TrimPrefix(site, "https://"), own.TLS.Certificates...)
	w := node.Web{Roots: roots, Proxy: p.url, Lookup: func(string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil }}
	err := w.Fetch(t.Context(), t.TempDir(), at("https://example.com/data/titanic.csv", queue.ReadOnlyMount))
	if err != nil || p.asked() != "CONNECT 93.184.216.34:443" {
		t.Errorf("%v; the proxy was asked for %q", err, p.asked())
	}
}

// A SAS is a secret: neither the job's error nor the node's log has it, and the log
// does not say of our server what another did.
func TestNothingIsSaidOfASignature(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close() // nobody answers there
	site, roots, _ := website(t)
	for name, tt := range map[string]struct {
		address, says string
		roots         *x509.CertPool
	}{
		"nobody answers":           {"https://" + dead + "/data/a.csv?sv=1&sig=geheim#frag", dead + "/data/a.csv", nil},
		"a certificate is unknown": {site + "/data/titanic.csv?sig=geheim", "/data/titanic.csv", x509.NewCertPool()},
		"a name and a password":    {strings.Replace(site, "https://", "https://who:geheim@", 1) + "/data/a.csv", "/data/a.csv", x509.NewCertPool()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := ""
			w := node.Web{Roots: tt.roots, Networks: []string{loopback}, Say: func(server bool, err error) {
				said += err.Error()
				if server {
					t.Errorf("our server is said not to answer: %v", err)
				}
			}}
			err := w.Fetch(t.Context(), t.TempDir(), at(tt.address, queue.ReadOnlyMount))
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("the job is told %v", err)
			}
			if !strings.Contains(said, tt.says) || strings.Contains(said, "geheim") {
				t.Errorf("the log is told %q", said)
			}
		})
	}
	for _, path := range []string{"/secret?sig=geheim", "/moved-not?sig=geheim"} {
		err := node.FetchPublic(t.Context(), t.TempDir(), roots, at(site+path, queue.ReadOnlyMount), loopback)
		if err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
