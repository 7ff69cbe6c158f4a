package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// errOver says that the server no longer knows the attempt, or has a newer one.
var errOver = errors.New("the attempt is over")

// refusal is an answer that will not change by asking again.
type refusal struct {
	status int
	words  string
}

func (r *refusal) Error() string {
	if r.status == 0 {
		return r.words
	}
	return fmt.Sprintf("the server answered %d: %s", r.status, r.words)
}

// server makes the agent's requests. It reads where the server is before each,
// so that a server that moved or renewed its certificate is found again.
type server struct {
	file   string // path of server.json
	token  string
	web    web    // for inputs that lie elsewhere
	bundle string // where a copy of the server's CA bundle is kept for jobs; empty: nowhere

	mu    sync.Mutex
	stamp string // of the file that http and at were made from
	at    Server
	http  *http.Client
}

// target returns the server's base URL and a client that trusts it.
func (s *server) target() (string, *http.Client, Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fi, err := os.Stat(s.file)
	if err != nil {
		return "", nil, Server{}, err
	}
	stamp := fmt.Sprint(fi.ModTime().UnixNano(), fi.Size())
	if s.http != nil && s.stamp == stamp {
		return s.at.URL, s.http, s.at, nil
	}
	var at Server
	if err := readJSON(s.file, &at); err != nil {
		return "", nil, Server{}, err
	}
	at.URL = strings.TrimSuffix(at.URL, "/")
	pem, err := at.PEM()
	if err != nil {
		return "", nil, Server{}, fmt.Errorf("read the server's certificate authority: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if pem != nil && s.bundle != "" {
		if err := keepBundle(s.bundle, pem); err != nil {
			return "", nil, Server{}, err
		}
	}
	if pem != nil {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return "", nil, Server{}, errors.New("the server's certificate authority holds no certificate")
		}
	}
	if s.http != nil {
		s.http.CloseIdleConnections()
	}
	// No proxy: the server is reached directly, as the file says. What it does not
	// answer is asked again: a machine that froze must not hold a log up for ever.
	s.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig: conf, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 2 * time.Minute,
	}}
	s.stamp, s.at = stamp, at
	return at.URL, s.http, at, nil
}

// keepBundle writes the copy for jobs where it is not the same already. Jobs have
// the file itself in their worlds, so it is written in place; a job that reads it
// meanwhile sees a part, so it is not written without need.
func keepBundle(path string, pem []byte) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, pem) {
		return nil
	}
	return os.WriteFile(path, pem, 0o644)
}

// do makes one request under nodeproto.Path. A 2xx answer is returned with its
// body open; otherwise the error is errOver, a *refusal, or one to try again after.
func (s *server) do(ctx context.Context, method, path string, q url.Values, body io.Reader, size int64) (*http.Response, error) {
	base, client, _, err := s.target()
	if err != nil {
		return nil, err
	}
	u := base + nodeproto.Path + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != nil {
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/octet-stream")
		if size == 0 {
			req.Body = http.NoBody
		}
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 || res.StatusCode == http.StatusConflict {
		return res, nil
	}
	defer res.Body.Close()
	words, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	switch c := res.StatusCode; {
	case c == http.StatusGone:
		return nil, errOver
	case c == http.StatusUnauthorized, c == http.StatusForbidden, c == http.StatusTooManyRequests, c == http.StatusRequestTimeout, c >= 500:
		// A refused token may be a server that is half restored; what runs
		// here is worth waiting for.
		return nil, fmt.Errorf("the server answered %d: %s", c, words)
	}
	return nil, &refusal{res.StatusCode, string(bytes.TrimSpace(words))}
}

// order asks what to run.
func (s *server) order(ctx context.Context, attempt string, fence int64) (nodeproto.Order, error) {
	var o nodeproto.Order
	res, err := s.do(ctx, "GET", "attempts/"+url.PathEscape(attempt)+"/task", url.Values{"fence": {strconv.FormatInt(fence, 10)}}, nil, 0)
	if err != nil {
		return o, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, 16<<20)).Decode(&o); err != nil {
		return o, fmt.Errorf("read the order: %w", err)
	}
	if o.Attempt != attempt || o.Fence != fence {
		return o, fmt.Errorf("asked for attempt %s at fence %d, was given %s at %d", attempt, fence, o.Attempt, o.Fence)
	}
	return o, nil
}

// backoff grows from 50 ms to 1 s, each with ±50 % of chance, so that a
// thousand agents do not come back at once.
type backoff struct{ next time.Duration }

func (b *backoff) wait(ctx context.Context) error {
	if b.next == 0 {
		b.next = 50 * time.Millisecond
	}
	d := b.next/2 + rand.N(b.next)
	b.next = min(b.next*2, time.Second)
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// persist calls f until it succeeds, is refused, or ctx ends. say is told of
// the first failure of a row.
func persist(ctx context.Context, say func(error), f func() error) error {
	var b backoff
	for first := true; ; first = false {
		err := f()
		var r *refusal
		if err == nil || errors.Is(err, errOver) || errors.As(err, &r) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if first {
			say(err)
		}
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
}
