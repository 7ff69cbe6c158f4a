package pki_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/pki"
)

func ensure(t *testing.T, dir string, now func() time.Time, names ...string) *pki.CA {
	t.Helper()
	ca, err := pki.Ensure(dir, names, now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// served is the certificate a client is shown.
func served(t *testing.T, ca *pki.CA) *x509.Certificate {
	t.Helper()
	c, err := ca.TLSConfig().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

var names = []string{"localhost", "127.0.0.1", "::1", "10.1.2.3", "ebb.example.org", "management.azure.com", "login.microsoftonline.com", "graph.microsoft.com",
	"ml.azure.com", "westus2.api.azureml.ms", "ebb0123.blob.core.windows.net"}

func TestServerCertificate(t *testing.T) {
	t.Parallel()
	ca := ensure(t, t.TempDir(), time.Now, "10.1.2.3", "Ebb.Example.org", "0.0.0.0", "[::1]")
	for _, n := range names {
		if _, err := served(t, ca).Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: n}); err != nil {
			t.Errorf("%s is refused: %v", n, err)
		}
		if net.ParseIP(n) == nil && strings.Contains(n, "azure") && !arm.IsAzureName(n) {
			t.Errorf("%s is no Azure name to api/arm", n)
		}
	}
	for _, n := range []string{"portal.azure.com", "azure.com", "example.org", "10.1.2.4", "127.0.0.2"} {
		if _, err := served(t, ca).Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: n}); err == nil {
			t.Errorf("the certificate is good for %s", n)
		}
	}
}

func TestFilesStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := ensure(t, dir, time.Now)
	if st, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's file is %v, %v; want mode 0600", st, err)
	}
	if again := ensure(t, dir, time.Now); !bytes.Equal(first.PEM(), again.PEM()) {
		t.Error("the authority changed at the second start")
	}
	wider := ensure(t, dir, time.Now, "ebb.example.org")
	if bytes.Equal(first.PEM(), wider.PEM()) {
		t.Error("the authority did not learn its new name")
	}
	if _, err := served(t, first).Verify(x509.VerifyOptions{Roots: wider.Pool(), DNSName: "localhost"}); err != nil {
		t.Errorf("a certificate of before is refused under the new authority: %v", err)
	}
	if narrower := ensure(t, dir, time.Now); !bytes.Equal(wider.PEM(), narrower.PEM()) {
		t.Error("the authority was made anew for fewer names")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("the folder holds %v, %v; want the key and the certificate alone", left, err)
	}
}

func TestCrashesAndDamage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(dir string) error
		says   string // "": it goes on
	}{
		"a key without its certificate": {func(d string) error { return os.Remove(d + "/ca.pem") }, ""},
		"a certificate without its key": {func(d string) error { return os.Remove(d + "/ca.key") }, "without its key"},
		"a key that is none":            {func(d string) error { return os.WriteFile(d+"/ca.key", []byte("x"), 0o600) }, "no PEM key"},
		"an empty certificate":          {func(d string) error { return os.WriteFile(d+"/ca.pem", nil, 0o600) }, "no PEM certificate"},
		"a temporary file of a crash":   {func(d string) error { return os.WriteFile(d+"/.ca.pem.1", []byte("x"), 0o600) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ensure(t, dir, time.Now)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			ca, err := pki.Ensure(dir, nil, time.Now)
			if c.says == "" {
				if err != nil {
					t.Fatalf("Ensure = %v", err)
				}
				if _, err := served(t, ca).Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "localhost"}); err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Ensure = %v, want %q", err, c.says)
			}
		})
	}
	if _, err := pki.Ensure(t.TempDir(), []string{"a b"}, time.Now); err == nil {
		t.Error("a name with a space is taken")
	}
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	dir, at := t.TempDir(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := func() time.Time { return at }
	ca := ensure(t, dir, now)
	first := served(t, ca)
	if life := first.NotAfter.Sub(first.NotBefore); life > 398*24*time.Hour {
		t.Errorf("the certificate lives %v; clients take 398 days", life)
	}
	at = at.Add(24 * time.Hour)
	if served(t, ca) != first {
		t.Error("a fresh certificate was renewed")
	}
	for week := range 430 {
		at = at.Add(7 * 24 * time.Hour)
		if _, err := served(t, ca).Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "localhost", CurrentTime: at.Add(48 * time.Hour)}); err != nil {
			t.Fatalf("in week %d: %v", week, err)
		}
	}
	before := ca.PEM()
	if ca = ensure(t, dir, now); bytes.Equal(before, ca.PEM()) {
		t.Error("an authority near its end was not made anew")
	}
	at = at.Add(-24 * time.Hour)
	if _, err := served(t, ca).Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "localhost", CurrentTime: at}); err != nil {
		t.Errorf("after the clock went back a day: %v", err)
	}
}

// foreign signs a certificate for a name outside the constraints with the
// authority's own key, as somebody who stole it would.
func foreign(t *testing.T, dir, name string) *tls.Certificate {
	t.Helper()
	decode := func(file string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	caKey, err := x509.ParsePKCS8PrivateKey(decode("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	caCert, err := x509.ParseCertificate(decode("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{name}}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.DNSNames, tmpl.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, caCert, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, caCert.Raw}, PrivateKey: key, Leaf: leaf}
}

func listen(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.NotFoundHandler()}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return l.Addr().String()
}

// TestClients asks real TLS stacks: each must take the server's certificate
// under a name of Azure's, and refuse what the authority may not sign.
func TestClients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := ensure(t, dir, time.Now)
	bundle := filepath.Join(dir, "bundle.pem")
	if err := ca.Bundle(bundle); err != nil {
		t.Fatal(err)
	}
	cfg := ca.TLSConfig()
	good := listen(t, cfg)
	bad := map[string]string{}
	for _, n := range []string{"bank.example.com", "azure.com", "192.0.2.1"} {
		bad[n] = listen(t, &tls.Config{Certificates: []tls.Certificate{*foreign(t, dir, n)}})
	}
	clients := map[string]func(ctx context.Context, addr, name string) (string, error){
		"Go": func(ctx context.Context, addr, name string) (string, error) {
			b, err := os.ReadFile(bundle)
			if err != nil {
				return "", err
			}
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(b)
			c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: name}}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return err.Error(), err
			}
			return "", c.Close()
		},
		"python3": func(ctx context.Context, addr, name string) (string, error) {
			host, port, _ := net.SplitHostPort(addr)
			return output(exec.CommandContext(ctx, "python3", "-c", `import socket, ssl, sys
host, port, name, ca = sys.argv[1:]
c = ssl.create_default_context(cafile=ca)
c.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
with socket.create_connection((host, int(port))) as s, c.wrap_socket(s, server_hostname=name): pass`, host, port, name, bundle))
		},
		"openssl": func(ctx context.Context, addr, name string) (string, error) {
			verify := "-verify_hostname"
			if net.ParseIP(name) != nil {
				verify = "-verify_ip"
			}
			return output(exec.CommandContext(ctx, "openssl", "s_client", "-connect", addr, "-servername", "localhost", "-CAfile", bundle, verify, name, "-verify_return_error", "-brief"))
		},
		"node": func(ctx context.Context, addr, name string) (string, error) {
			host, port, _ := net.SplitHostPort(addr)
			cmd := exec.CommandContext(ctx, "node", "-e", `const tls = require("tls"), [host, port, name] = process.argv.slice(1);
const s = tls.connect({host, port, servername: require("net").isIP(name) ? "" : name, checkServerIdentity: (_, c) => tls.checkServerIdentity(name, c)}, () => s.end());
s.on("error", e => { console.error(e.code, e.message); process.exit(1) });`, host, port, name)
			cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+bundle)
			return output(cmd)
		},
	}
	for name, try := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(name); err != nil && name != "Go" {
				t.Skipf("this machine has no %s", name)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for _, n := range []string{"localhost", "127.0.0.1", "management.azure.com", "ebb0123.blob.core.windows.net"} {
				if out, err := try(ctx, good, n); err != nil {
					t.Errorf("%s is refused: %v: %s", n, err, out)
				}
			}
			for n, addr := range bad {
				out, err := try(ctx, addr, n)
				if err == nil {
					t.Errorf("%s, which the authority must not speak for, is taken", n)
				}
				if s := strings.ToLower(out); !strings.Contains(s, "permitted") {
					t.Errorf("%s is refused for another reason: %s", n, out)
				}
			}
		})
	}
}

func output(cmd *exec.Cmd) (string, error) {
	cmd.Stdin = strings.NewReader("")
	b, err := cmd.CombinedOutput()
	return string(b), err
}

func TestBundle(t *testing.T) {
	dir := t.TempDir()
	ca := ensure(t, dir, time.Now)
	other := ensure(t, t.TempDir(), time.Now)
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "mine.pem")
	if err := os.WriteFile(mine, fmt.Appendf(nil, "# a comment\n%s%s", other.PEM(), key), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", mine)
	path := filepath.Join(dir, "bundle.pem")
	for range 2 {
		if err := ca.Bundle(path); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if want := append(other.PEM(), ca.PEM()...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the bundle is %s, %v; want the user's authority and ours, and no key", got, err)
		}
	}
	t.Setenv("SSL_CERT_FILE", filepath.Join(dir, "absent"))
	if err := ca.Bundle(path); err == nil {
		t.Error("an SSL_CERT_FILE that is not there went unsaid")
	}
}
