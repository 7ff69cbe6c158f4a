package cli_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/cli"
)

// internet is a proxy of the user's that counts who wants to leave, and lets nobody.
func internet(t *testing.T, left *atomic.Int64) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		left.Add(1)
		http.Error(w, "not from here", http.StatusForbidden)
	}))
	t.Cleanup(s.Close)
	return "https_proxy=" + s.URL
}

func newTestProxy(t *testing.T, s *server, environ ...string) *cli.Proxy {
	t.Helper()
	p, err := cli.NewProxy(s.client, environ...)
	if err != nil {
		t.Fatal(err)
	}
	p.Impatient()
	t.Cleanup(p.Close)
	return p
}

// connect asks the proxy for a tunnel to an account, and returns its status and,
// where it refuses, its words.
func connect(p *cli.Proxy, account string) (int, string, error) {
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // only a test that fails takes so long
	host := account + ".blob.core.windows.net:443"
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\n", host, host, p.Auth())
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return resp.StatusCode, "", nil
	}
	words, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(words), err
}

// Only the server's whole answer sends an account's requests to the real Azure:
// they carry what is meant for the server, keys among it.
func TestWhoseAnAccountIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		want   string // ours, real or refused
	}{
		"it may be had":                  {200, `{"nameAvailable":true}`, "real"},
		"it is taken":                    {200, `{"nameAvailable":false,"reason":"AlreadyExists"}`, "ours"},
		"nobody known asks":              {401, `{"error":{"code":"InvalidAuthenticationToken","message":"who?"}}`, "refused"},
		"who asks may not":               {403, `{"error":{"code":"AuthorizationFailed","message":"no"}}`, "refused"},
		"there is no such subscription":  {404, `{"error":{"code":"SubscriptionNotFound","message":"no"}}`, "refused"},
		"too many ask":                   {429, `{"error":{"code":"TooManyRequests","message":"later"}}`, "refused"},
		"the server is broken":           {500, `{"error":{"code":"InternalServerError","message":"x"}}`, "refused"},
		"something in front is":          {502, "<html>Bad Gateway</html>", "refused"},
		"the server is closing":          {503, `{"error":{"code":"ServiceUnavailable","message":"x"}}`, "refused"},
		"it answers nothing":             {200, "", "refused"},
		"a page, and no answer":          {200, "<html>Sign in to the network</html>", "refused"},
		"an answer to another question":  {200, `{"value":[]}`, "refused"},
		"half of an answer":              {200, `{"nameAvailable":fal`, "refused"},
		"no, for a reason nobody knows":  {200, `{"nameAvailable":false}`, "refused"},
		"accepted, to be answered later": {202, `{"nameAvailable":true}`, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.names = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}
			var left atomic.Int64
			p := newTestProxy(t, s, internet(t, &left), "NO_PROXY=127.0.0.1")
			status, words, err := connect(p, "someaccount")
			if err != nil {
				t.Fatal(err)
			}
			got := "refused"
			switch {
			case left.Load() > 0:
				got = "real"
			case status == http.StatusOK:
				got = "ours"
			}
			if got != c.want {
				t.Errorf("the account is %s, want %s: %d %s", got, c.want, status, words)
			}
			if got == "refused" && (status != http.StatusBadGateway || !strings.Contains(words, "whether it has the storage account someaccount")) {
				t.Errorf("refused with %d %s", status, words)
			}
		})
	}
}

// A name that the server is slow to answer for holds up no other.
func TestAccountsAreAskedForAtOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	second := make(chan struct{})
	var asked atomic.Int64
	s.names = func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			select {
			case <-second:
			case <-r.Context().Done():
			}
		} else {
			close(second)
		}
		reply(w, map[string]any{"nameAvailable": false, "reason": "AlreadyExists"})
	}
	p := newTestProxy(t, s)
	type result struct {
		status int
		words  string
		err    error
	}
	results := make(chan result)
	for _, account := range []string{"oneaccount", "twoaccount"} {
		go func() {
			status, words, err := connect(p, account)
			results <- result{status, words, err}
		}()
	}
	for range 2 {
		if got := <-results; got.status != http.StatusOK || got.err != nil {
			t.Errorf("a tunnel: %d %s %v", got.status, got.words, got.err)
		}
	}
	// What is there stays: it is asked for once.
	if status, _, err := connect(p, "oneaccount"); status != http.StatusOK || err != nil || asked.Load() != 2 {
		t.Errorf("again: %d, %v, with %d questions", status, err, asked.Load())
	}
}
