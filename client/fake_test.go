package client_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

const ws = "/subscriptions/sub/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/main"

// fake is a server that gives tokens, and answers the rest as a test says.
type fake struct {
	*httptest.Server
	port   *testkit.Port
	tokens atomic.Int64 // given so far
	file   client.File
}

func serve(t *testing.T, mux *http.ServeMux) *fake {
	t.Helper()
	f := &fake{port: testkit.ReservePort(t)}
	mux.HandleFunc("POST /tenant/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_id") != "id" || r.FormValue("client_secret") != "secret" || r.FormValue("grant_type") != "client_credentials" {
			w.WriteHeader(http.StatusUnauthorized)
			reply(w, map[string]any{"error": "invalid_client", "error_description": "who is that?"})
			return
		}
		f.tokens.Add(1)
		reply(w, map[string]any{"access_token": "token", "expires_in": 3600, "token_type": "Bearer"})
	})
	f.Server = &httptest.Server{Listener: f.port.Listen(t), Config: &http.Server{Handler: mux}}
	f.StartTLS()
	t.Cleanup(f.Server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	f.file = client.File{URL: f.URL, CA: ca, TenantID: "tenant", ClientID: "id", ClientSecret: "secret",
		SubscriptionID: "sub", ResourceGroup: "ebb", WorkspaceName: "main"}
	return f
}

func (f *fake) client(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	c, err := client.New(f.file, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // the client sees what is missing
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Ms-Request-Id", "r-1")
	w.WriteHeader(status)
	reply(w, map[string]any{"error": map[string]any{"code": code, "message": message, "details": []any{}}})
}

// reopen starts a server that was closed again, at its address.
func (f *fake) reopen(t *testing.T, h http.Handler) {
	t.Helper()
	again := &httptest.Server{Listener: f.port.Listen(t), Config: &http.Server{Handler: h}, TLS: f.TLS}
	again.StartTLS()
	t.Cleanup(again.Close)
}
