package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// APIVersion is the version of ARM's shapes that this client reads and writes.
const APIVersion = "2024-04-01"

// Patience is how long a request waits for a server that is being restarted.
const Patience = 30 * time.Second

// Options of a client. The zero value works.
type Options struct {
	// UserAgent names the program; default "ebb-client".
	UserAgent string
	// Patience is how long a request is repeated while the server is away;
	// 0: [Patience]; negative: not at all.
	Patience time.Duration
	// Warn takes the server's warnings (x-ebb-warning), each once; default: dropped.
	Warn func(string)
	// Waiting is called when a request waits for the server to come back,
	// before each repetition; default: nothing.
	Waiting func(err error)
	// Trace is told of every answer; default: nothing is.
	Trace func(method, path string, status int, took time.Duration)
}

// Client speaks to one server. It may be used by many goroutines.
type Client struct {
	file    File
	options Options
	http    *http.Client

	mu      sync.Mutex // guards what follows
	token   string
	renewAt time.Time
	warned  map[string]bool
}

// New returns a client of the server in f. It sends nothing yet.
func New(f File, o Options) (*Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read the server's CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the server's CA: %s holds no certificate", f.CA)
		}
	}
	if o.Patience == 0 {
		o.Patience = Patience
	}
	if o.UserAgent == "" {
		o.UserAgent = "ebb-client"
	}
	return &Client{file: f, options: o, warned: map[string]bool{}, http: &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     config,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			// Longer than the longest long poll (30 s), so that a server that
			// hangs is told from one that waits.
			ResponseHeaderTimeout: 90 * time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   64, // a call that finds none idle costs a handshake
		},
		// A redirect would carry the token to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// File returns what the client was made from.
func (c *Client) File() File { return c.file }

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one call. The path is of the server's own host; the body is kept
// as bytes, so that it can be sent again.
type request struct {
	method, path string
	body         []byte
	contentType  string
	public       bool        // no token
	header       http.Header // more than the usual ones
}

// Answer is the server's answer to a call that it took.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do calls the API: in (nil: no body) goes as JSON, and a 2xx answer's body
// into out (nil: dropped). The path may have a query; an api-version is added
// where there is none. Errors of the server are *[Error].
func (c *Client) Do(ctx context.Context, method, path string, in, out any) (Answer, error) {
	r := request{method: method, path: versioned(path)}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return Answer{}, fmt.Errorf("encode the request: %w", err)
		}
		r.body, r.contentType = b, "application/json"
	}
	a, err := c.call(ctx, r)
	if err != nil || out == nil || len(bytes.TrimSpace(a.Body)) == 0 {
		return a, err
	}
	if err := json.Unmarshal(a.Body, out); err != nil {
		return a, fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	return a, nil
}

func versioned(path string) string {
	if strings.Contains(path, "api-version=") || strings.HasPrefix(path, "/ebb/") {
		return path
	}
	if strings.Contains(path, "?") {
		return path + "&api-version=" + APIVersion
	}
	return path + "?api-version=" + APIVersion
}

// call sends r until it is answered, and reads the answer whole.
func (c *Client) call(ctx context.Context, r request) (Answer, error) {
	var a Answer
	err := c.rideOut(ctx, func() error {
		resp, err := c.send(ctx, r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		a = Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}
		c.warn(resp.Header)
		if resp.StatusCode >= 300 {
			return errorOf(resp, body)
		}
		return nil
	})
	return a, err
}

// rideOut repeats try while the server is away, for as long as the client has
// patience. Nothing else is repeated.
func (c *Client) rideOut(ctx context.Context, try func() error) error {
	var since time.Time // of the first failure in a row
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !away(err) {
			return c.unanswered(err)
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since)+pause > c.options.Patience {
			if _, ok := errors.AsType[*Error](err); ok {
				return err
			}
			return &Unreachable{URL: c.file.URL, Err: inner(err)}
		}
		if c.options.Waiting != nil {
			c.options.Waiting(err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// unanswered makes a time-out an [Unreachable]; it has taken its time already,
// and is not repeated.
func (c *Client) unanswered(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok && e.Timeout() {
		return &Unreachable{URL: c.file.URL, Err: inner(err)}
	}
	return err
}

// inner takes off what net/http puts before an error: the method and the whole
// URL, which say less than the server's address does.
func inner(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// away reports whether err is what a client sees of a server that is being
// restarted, or that says so itself.
func away(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable
	}
	for _, gone := range []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
	} {
		if errors.Is(err, gone) {
			return true
		}
	}
	// net/http keeps this error to itself.
	return strings.Contains(err.Error(), "server closed idle connection")
}

// send sends r once. A token that the server does not know any more (it was
// given other keys) is replaced, once.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	for again := true; ; again = false {
		req, err := http.NewRequestWithContext(ctx, r.method, c.file.URL+r.path, bytes.NewReader(r.body))
		if err != nil {
			return nil, fmt.Errorf("make the request: %w", err)
		}
		req.Header.Set("User-Agent", c.options.UserAgent)
		req.Header.Set("Accept", "application/json, */*;q=0.5")
		if r.contentType != "" {
			req.Header.Set("Content-Type", r.contentType)
		}
		for k, v := range r.header {
			req.Header[k] = v
		}
		var token string
		if !r.public {
			if token, err = c.bearer(ctx); err != nil {
				return nil, err
			}
			req.Header.Set("Authorization", "Bearer "+token)
		}
		began := time.Now()
		resp, err := c.http.Do(req)
		if err != nil {
			return nil, err
		}
		if c.options.Trace != nil {
			c.options.Trace(r.method, r.path, resp.StatusCode, time.Since(began))
		}
		if resp.StatusCode != http.StatusUnauthorized || r.public || !again {
			return resp, nil
		}
		drain(resp)
		c.forget(token)
	}
}

func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // only so that the connection can be kept
	resp.Body.Close()
}

func (c *Client) forget(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

// SignIn gets a token, unless the client has one: whether the server is the one
// of the client file, and takes its credential, is seen by it.
func (c *Client) SignIn(ctx context.Context) error {
	_, err := c.bearer(ctx)
	if err != nil && away(err) {
		return &Unreachable{URL: c.file.URL, Err: inner(err)}
	}
	return err
}

// bearer returns a token that is good for some time yet.
func (c *Client) bearer(ctx context.Context) (string, error) {
	c.mu.Lock()
	token, good := c.token, c.token != "" && time.Now().Before(c.renewAt)
	c.mu.Unlock()
	if good {
		return token, nil
	}
	form := url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {c.file.ClientID},
		"client_secret": {c.file.ClientSecret},
		"scope":         {"https://management.azure.com/.default"},
	}
	resp, err := c.send(ctx, request{
		method: http.MethodPost, path: "/" + url.PathEscape(c.file.TenantID) + "/oauth2/v2.0/token",
		body: []byte(form.Encode()), contentType: "application/x-www-form-urlencoded", public: true,
	})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode >= 300 {
		return "", errorOf(resp, body)
	}
	var t struct {
		Token   string      `json:"access_token"`
		Seconds json.Number `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &t); err != nil || t.Token == "" {
		return "", fmt.Errorf("get a token from %s: the answer holds none", c.file.URL)
	}
	seconds, _ := t.Seconds.Int64() // absent: renewed at the next call
	life := time.Duration(seconds) * time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	// A tenth of its life before the end, so that no request carries one that
	// expires on the way.
	c.token, c.renewAt = t.Token, time.Now().Add(life-min(life/10, 5*time.Minute))
	return t.Token, nil
}

func (c *Client) warn(h http.Header) {
	for _, w := range h.Values("X-Ebb-Warning") {
		c.mu.Lock()
		known := c.warned[w]
		c.warned[w] = true
		c.mu.Unlock()
		if !known && c.options.Warn != nil {
			c.options.Warn(w)
		}
	}
}

// own turns an absolute URL from an answer (nextLink, Azure-AsyncOperation)
// into a path of the server that this client trusts: the token goes nowhere else.
func own(link string) (string, error) {
	u, err := url.Parse(link)
	if err != nil || !strings.HasPrefix(u.EscapedPath(), "/") {
		return "", fmt.Errorf("follow %q: not a URL", link)
	}
	return u.RequestURI(), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
