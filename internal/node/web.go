package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/runner"
)

// Bounds of what is read from the web.
const (
	maxWebBytes = 64 << 30
	webTries    = 5
	webStall    = time.Minute // without a byte
)

// web reads public addresses for jobs. It reads what anybody may: an agent is
// trusted by its network more than a job is, so private addresses are refused,
// whatever names and redirects lead to them.
type web struct {
	networks []netip.Prefix // private ones that may be read all the same
	roots    *x509.CertPool // nil: the system's

	once    sync.Once
	client  *http.Client
	proxies sync.Map // host:port of proxies, which may be private
}

// special are ranges that no public server has, besides those that netip knows;
// 168.63.129.16 is how Azure's own machines reach their host.
var special = prefixes("0.0.0.0/8", "100.64.0.0/10", "168.63.129.16/32", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10")

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func (w *web) allows(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, p := range w.networks {
		if p.Contains(ip) {
			return true
		}
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return ip.IsGlobalUnicast() && !ip.IsPrivate()
}

func refused(ip string) error {
	return &codeError{fmt.Sprintf("its server has the address %s, which is not public; private networks that inputs may come from are named in the server's configuration (local.input_networks)", ip)}
}

// http returns a client that never reaches what is refused. The check is made of
// the address that is dialled, so no name can change its meaning in between.
func (w *web) http() *http.Client {
	w.once.Do(func() {
		check := func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !w.allows(at.Addr()) {
				return refused(address)
			}
			return nil
		}
		direct := &net.Dialer{Timeout: 10 * time.Second, Control: check}
		proxy := &net.Dialer{Timeout: 10 * time.Second}
		w.client = &http.Client{
			Transport: &http.Transport{
				Proxy: w.proxy, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.roots},
				TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: webStall, DisableKeepAlives: true,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					if _, ok := w.proxies.Load(address); ok {
						return proxy.DialContext(ctx, network, address)
					}
					return direct.DialContext(ctx, network, address)
				},
			},
			CheckRedirect: func(r *http.Request, via []*http.Request) error {
				if r.URL.Scheme != "https" || len(via) >= 10 {
					return &codeError{fmt.Sprintf("it leads on to %s://%s", r.URL.Scheme, r.URL.Host)}
				}
				return nil
			},
		}
	})
	return w.client
}

// proxy is the environment's. What it would be asked for is checked by the name, as
// far as that is known here; it may be known to the proxy alone.
func (w *web) proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if u == nil || err != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupNetIP(r.Context(), "ip", r.URL.Hostname())
	for _, ip := range found {
		if err == nil && !w.allows(ip) {
			return nil, refused(ip.String())
		}
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "socks5": "1080"}[u.Scheme]
	}
	if port == "" {
		port = "80"
	}
	w.proxies.Store(net.JoinHostPort(u.Hostname(), port), true)
	return u, nil
}

// fetch puts the file of an input into the folder to.
func (w *web) fetch(ctx context.Context, to string, in queue.Input) error {
	u, err := url.Parse(in.Public)
	if err != nil {
		return &codeError{"it is not an address"}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, in.Public, nil)
	if err != nil {
		return &codeError{"it is not an address"}
	}
	res, err := w.http().Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
		return fmt.Errorf("%s answered %s", u.Host, res.Status)
	case res.StatusCode != http.StatusOK:
		return &codeError{fmt.Sprintf("%s answered %s; only what anybody may read can be an input by its address", u.Host, res.Status)}
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if in.Mode == queue.ReadOnlyMount {
		mode = 0o444
	}
	name := fileOf(u)
	f, err := os.OpenFile(filepath.Join(to, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	stall := time.AfterFunc(webStall, cancel)
	defer stall.Stop()
	n, err := io.Copy(f, &alive{io.LimitReader(res.Body, maxWebBytes+1), stall})
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if n > maxWebBytes {
		return &codeError{fmt.Sprintf("it has more than %d bytes", int64(maxWebBytes))}
	}
	return os.WriteFile(to+runner.FileSuffix, []byte(name), 0o600)
}

// alive puts off the end of patience with every byte.
type alive struct {
	io.Reader
	stall *time.Timer
}

func (a *alive) Read(b []byte) (int, error) {
	n, err := a.Reader.Read(b)
	if n > 0 {
		a.stall.Reset(webStall)
	}
	return n, err
}

// fileOf is what a file is called that came from an address.
func fileOf(u *url.URL) string {
	name := path.Base(path.Clean("/" + u.Path))
	if name == "/" || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
		return "data"
	}
	return name
}
