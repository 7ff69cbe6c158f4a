package compat_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// wire speaks plain HTTPS to a server, as the wire records have it: no client's
// kindness is in the way of what is sent and answered.
type wire struct {
	t      *testing.T
	http   *http.Client
	token  string
	base   string // https://127.0.0.1:PORT
	sub    string // ARM id
	group  string // ARM id
	ws     string // ARM id
	region string // /subscriptions/…/locations/westus2
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	raw    string
	body   any // JSON; numbers as json.Number
}

func newWire(t *testing.T, s *testkit.Server) *wire {
	t.Helper()
	f, err := client.Load(s.ClientFile)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	w := &wire{
		t: t, base: f.URL, sub: armid.Subscription(f.SubscriptionID), group: armid.Group(f.SubscriptionID, f.ResourceGroup),
		ws:   armid.Workspace(f.SubscriptionID, f.ResourceGroup, f.WorkspaceName),
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
	}
	w.region = w.sub + "/providers/" + armid.Provider + "/locations/westus2"
	t.Cleanup(w.http.CloseIdleConnections)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {f.ClientID}, "client_secret": {f.ClientSecret}, "scope": {f.URL + "/.default"}}
	resp, err := w.http.PostForm(f.URL+"/"+f.TenantID+"/oauth2/v2.0/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil || token.AccessToken == "" {
		t.Fatalf("no token: %d %v", resp.StatusCode, err)
	}
	w.token = token.AccessToken
	return w
}

// ask sends a request; at is a path with its query, or an absolute URL of the server's.
func (w *wire) ask(method, at, body string) reply {
	w.t.Helper()
	if strings.HasPrefix(at, "/") {
		at = w.base + at
	}
	if !strings.HasPrefix(at, w.base) {
		w.t.Fatalf("%s is not on the host that the client came by", at)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, at, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := reply{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if len(raw) > 0 {
		dec := json.NewDecoder(strings.NewReader(a.raw))
		dec.UseNumber()
		if err := dec.Decode(&a.body); err != nil {
			w.t.Fatalf("%s %s: %d is no JSON: %.300s", method, at, a.status, raw)
		}
	}
	return a
}

// want is ask, and checks the status.
func (w *wire) want(status int, method, at, body string) reply {
	w.t.Helper()
	a := w.ask(method, at, body)
	if a.status != status {
		w.t.Fatalf("%s %s = %d, want %d: %.1000s", method, at, a.status, status, a.raw)
	}
	return a
}

// settled polls the operation that an answer points to, as every client does, and
// returns its end.
func (w *wire) settled(a reply) reply {
	w.t.Helper()
	at := a.header.Get("Azure-AsyncOperation")
	if at == "" {
		w.t.Fatalf("there is no Azure-AsyncOperation: %d %v %.300s", a.status, a.header, a.raw)
	}
	if a.header.Get("Retry-After") == "" {
		w.t.Errorf("there is no Retry-After beside %s: clients wait 10 to 30 s", at)
	}
	var op reply
	testkit.Until(w.t, time.Minute, "the operation ends", func() bool {
		op = w.want(200, "GET", at, "")
		s, _ := op.at("status").(string)
		return s == "Succeeded" || s == "Failed" || s == "Canceled"
	})
	return op
}

// at reads a value by its path, as "properties.vmSize".
func (a reply) at(path string) any {
	v := a.body
	for k := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

var hole = regexp.MustCompile(`\{([^}]*)\}`)

// TestEveryRoute calls every address of the api-version 2025-12-01: what is not
// built says so by a 4xx; nothing is without a route, and nothing is a 5xx.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	w := newWire(t, testkit.Serve(t))
	file, err := os.Open(filepath.Join("testdata", "routes-2025-12-01.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) < 200 {
		t.Fatalf("%d routes, %v", len(rows), err)
	}
	parts := strings.Split(w.ws, "/")
	for _, row := range rows[1:] {
		operation, method, path := row[0], row[1], row[2]
		path = hole.ReplaceAllStringFunc(path, func(name string) string {
			switch name {
			case "{subscriptionId}":
				return parts[2]
			case "{resourceGroupName}":
				return parts[4]
			case "{location}":
				return "westus2"
			case "{workspaceName}":
				if operation == "workspaces_delete" {
					return "not-there"
				}
				return parts[8]
			}
			return "x1"
		})
		body := ""
		if method == "PUT" || method == "PATCH" || method == "POST" {
			body = "{}"
		}
		a := w.ask(method, path+"?api-version=2025-12-01&underlyingResourceAction=Delete", body)
		code, _ := a.at("error.code").(string)
		message, _ := a.at("error.message").(string)
		switch {
		case a.status >= 500, a.status == 405, code == "InvalidResourceType", code == "NotFound" && strings.HasPrefix(message, "There is nothing at"):
			t.Errorf("%s: %s %s has no answer: %d %s", operation, method, path, a.status, a.raw)
		case a.status >= 400 && (code == "" || message == ""):
			t.Errorf("%s: %s %s says no reason: %d %s", operation, method, path, a.status, a.raw)
		}
	}
}
