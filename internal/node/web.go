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

	proxy  func(*http.Request) (*url.URL, error)                        // nil: the environment's
	lookup func(ctx context.Context, host string) ([]netip.Addr, error) // nil: the system's
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

// http returns a client that never reaches what is refused.
func (w *web) http() *http.Client {
	return &http.Client{
		Transport: w,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "https" || len(via) >= 10 {
				return &codeError{fmt.Sprintf("it leads on to %s://%s", r.URL.Scheme, r.URL.Host)}
			}
			return nil
		},
	}
}

// RoundTrip makes one request, of those that redirects lead to. Without a proxy the
// check is made of the address that is dialled, so no name can change its meaning in
// between; a proxy is told the address that was checked, and no name.
func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := w.named(r.URL.Hostname()); err != nil {
		return nil, err
	}
	ask := w.proxy
	if ask == nil {
		ask = http.ProxyFromEnvironment
	}
	proxy, err := ask(r)
	if err != nil {
		return nil, err
	}
	// One connection each: nothing is kept of it.
	t := &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.roots, ServerName: r.URL.Hostname()},
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: webStall, DisableKeepAlives: true,
	}
	if proxy == nil {
		t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, Control: w.dialled}).DialContext
		return t.RoundTrip(r)
	}
	through(t, proxy)
	if w.allowsAll() {
		return t.RoundTrip(r)
	}
	ip, err := w.resolve(r.Context(), r.URL.Hostname())
	if err != nil {
		return nil, err
	}
	port := r.URL.Port()
	if port == "" {
		port = "443"
	}
	to := r.Clone(r.Context())
	to.Host, to.URL.Host = r.URL.Host, net.JoinHostPort(ip.String(), port)
	res, err := t.RoundTrip(to)
	if res != nil {
		res.Request = r
	}
	return res, err
}

// dialled checks an address that is about to be dialled.
func (w *web) dialled(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !w.allows(at.Addr()) {
		return refused(address)
	}
	return nil
}

// through has all of a transport's connections go through a proxy, which may be
// private. One that speaks TLS has a name of its own in that, not the target's.
func through(t *http.Transport, proxy *url.URL) {
	plain := &net.Dialer{Timeout: 10 * time.Second}
	t.DialContext = plain.DialContext
	if proxy.Scheme == "https" {
		port := proxy.Port()
		if port == "" {
			port = "443"
		}
		t.DialContext = (&tls.Dialer{NetDialer: plain, Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.TLSClientConfig.RootCAs, ServerName: proxy.Hostname()}}).DialContext
		proxy = &url.URL{Scheme: "http", User: proxy.User, Host: net.JoinHostPort(proxy.Hostname(), port)}
	}
	t.Proxy = http.ProxyURL(proxy)
}

// named refuses a host that is an address but written so that only some read it as
// one, as 127.1, 2130706433 and 0x7f.1: no name ends in a number.
func (w *web) named(host string) error {
	host = strings.TrimSuffix(host, ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		if !w.allows(ip) {
			return refused(ip.String())
		}
		return nil
	}
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	if last == "" || strings.HasPrefix(last, "0x") || strings.Trim(last, "0123456789") == "" {
		return &codeError{fmt.Sprintf("its server %q is neither a name nor a whole address", host)}
	}
	return nil
}

// allowsAll reports whether there is nothing that may not be read. Only then a proxy
// may be trusted with a name that means nothing here.
func (w *web) allowsAll() bool {
	four, six := false, false
	for _, p := range w.networks {
		four = four || p.Bits() == 0 && p.Addr().Is4()
		six = six || p.Bits() == 0 && p.Addr().Is6()
	}
	return four && six
}

// resolve returns an address of a host, if all that it has may be read.
func (w *web) resolve(ctx context.Context, host string) (netip.Addr, error) {
	look := w.lookup
	if look == nil {
		look = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	found, err := look(ctx, host)
	if err == nil && len(found) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the node cannot look its server up, and would not know where the proxy leads (0.0.0.0/0 and ::/0 in local.input_networks allow that): %w", err)
	}
	best := found[0].Unmap()
	for _, ip := range found {
		if !w.allows(ip) {
			return netip.Addr{}, refused(ip.String())
		}
		if ip = ip.Unmap(); ip.Is4() && !best.Is4() {
			best = ip
		}
	}
	return best, nil
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
	if whole, ok := errors.AsType[*url.Error](err); ok {
		// It says the whole address, and what is behind the path may be a secret.
		return fmt.Errorf("%s%s: %w", u.Host, u.EscapedPath(), whole.Err)
	}
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
