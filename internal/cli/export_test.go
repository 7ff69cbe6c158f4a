package cli

import (
	"net/url"
	"time"
)

// Names that tests of the proxy's rules need.
var (
	Leads        = leads
	WithoutAzure = withoutAzure
	BytesOf      = bytesOf
	MadeUpName   = madeUpName
	Spread       = spread
)

// Via says through which proxy a host is reached: "" is directly.
func Via(env map[string]string, scheme, host, port string) (string, error) {
	u, err := upstreamsOf(func(k string) string { return env[k] })
	if err != nil {
		return "", err
	}
	var proxy *url.URL
	if proxy = u.http; scheme == "https" {
		proxy = u.https
	}
	if proxy == nil || u.direct(host, port) {
		return "", nil
	}
	return proxy.Host, nil
}

// Proxy is the proxy of "ebb exec", for tests that speak to it themselves.
type Proxy struct{ p *proxy }

// NewProxy serves one, in an environment of the variables given.
func NewProxy(clientFile string, environ ...string) (*Proxy, error) {
	a := newApp(Options{Environ: append([]string{"EBB_CLIENT=" + clientFile}, environ...)})
	f, err := a.file()
	if err != nil {
		return nil, err
	}
	up, err := upstreamsOf(a.getenv)
	if err != nil {
		return nil, err
	}
	p, err := newProxy(f, up, "", "")
	return &Proxy{p}, err
}

// Address is where it listens.
func (p *Proxy) Address() string { return p.p.listener.Addr().String() }

// Auth is the header that it lets in.
func (p *Proxy) Auth() string { return basic(proxyUser, p.p.secret) }

// Impatient makes it ask a server once about an account.
func (p *Proxy) Impatient() { p.p.known.patience = -1 }

// Close ends it.
func (p *Proxy) Close() { p.p.close() }

// Outage is what the proxy knows of a server that is away.
type Outage struct{ o outage }

// NewOutage is one with that much patience.
func NewOutage(patience time.Duration) *Outage { return &Outage{outage{patience: patience}} }

// Failed notes a failure at that time.
func (o *Outage) Failed(at time.Time) (left, first bool) { return o.o.failed(at) }

// Over notes an answer.
func (o *Outage) Over() { o.o.over() }
