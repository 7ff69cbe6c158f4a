package compat_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestPublicInputs lets jobs read what lies at https addresses. The site is on
// loopback, which a configuration has to allow.
func TestPublicInputs(t *testing.T) {
	t.Parallel()
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/titanic.csv" {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprint(w, "survived,age\n1,38\n")
	}))
	t.Cleanup(site.Close)
	roots := filepath.Join(t.TempDir(), "site.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	u := newUser(t, testkit.Serve(t, testkit.Env("SSL_CERT_FILE="+roots), testkit.Config("local:\n  input_networks: [127.0.0.0/8]\n")))
	file := path("public", "01_inputs.py")
	u.do(file, testkit.Binary(t), "exec", "--", ready(t, "venv", "v2"), file, site.URL)
}
