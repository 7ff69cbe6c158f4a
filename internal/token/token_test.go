package token_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

var now = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

// shared keys: making RSA keys takes a tenth of a second.
var shared = sync.OnceValues(func() (*token.Keys, error) {
	dir, err := os.MkdirTemp("", "ebb-token-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return token.Open(dir)
})

func keys(t testing.TB) *token.Keys {
	t.Helper()
	k, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func claims(change map[string]any) map[string]any {
	c := map[string]any{"aud": "https://management.azure.com/", "sub": "me", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func sign(t testing.TB, k *token.Keys, c map[string]any) string {
	t.Helper()
	tok, err := k.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func codeOf(err error) string {
	if e, ok := err.(*fault.Error); ok && e.Kind == fault.Unauthorized {
		return e.Code
	}
	return fmt.Sprint(err)
}

var audiences = []string{"https://management.azure.com/", "https://management.azure.com"}

func TestVerify(t *testing.T) {
	t.Parallel()
	const (
		bad, expired, audience = "InvalidAuthenticationToken", "ExpiredAuthenticationToken", "InvalidAuthenticationTokenAudience"
	)
	for name, c := range map[string]struct {
		change map[string]any
		after  time.Duration
		want   string // a code; "<nil>": taken
	}{
		"a fresh token":                      {nil, 0, "<nil>"},
		"in its last second":                 {nil, time.Hour - time.Second, "<nil>"},
		"at its end":                         {nil, time.Hour, expired},
		"five minutes before its time":       {nil, -5 * time.Minute, "<nil>"},
		"longer before its time":             {nil, -5*time.Minute - time.Second, bad},
		"without an end":                     {map[string]any{"exp": nil}, 0, bad},
		"with an end that is text":           {map[string]any{"exp": "9999999999"}, 0, bad},
		"with an end beyond all":             {map[string]any{"exp": 1e300}, 0, bad},
		"with a beginning that is text":      {map[string]any{"nbf": "now"}, 0, bad},
		"without a beginning":                {map[string]any{"nbf": nil}, 0, "<nil>"},
		"for one of several audiences":       {map[string]any{"aud": []string{"x", "https://management.azure.com"}}, 0, "<nil>"},
		"for another":                        {map[string]any{"aud": "https://graph.microsoft.com"}, 0, audience},
		"for a part of it":                   {map[string]any{"aud": "https://management.azure.co"}, 0, audience},
		"for it in another case":             {map[string]any{"aud": "HTTPS://management.azure.com"}, 0, audience},
		"for nobody":                         {map[string]any{"aud": nil}, 0, audience},
		"for an audience that is a number":   {map[string]any{"aud": 7}, 0, audience},
		"an expired one for another is late": {map[string]any{"aud": "x"}, 2 * time.Hour, expired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tok := sign(t, keys(t), claims(c.change))
			for range 2 { // the second answer comes from the cache
				got, err := keys(t).Verify(tok, audiences, now.Add(c.after))
				if codeOf(err) != c.want {
					t.Errorf("Verify = %v, want %s", err, c.want)
				}
				if err == nil && got.String("sub") != "me" {
					t.Errorf("the claims are %v", got)
				}
			}
		})
	}
}

// forge makes a token with any header, signed by whatever sig does.
func forge(header, payload string, sig func(signed string) []byte) string {
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	return signed + "." + b64(sig(signed))
}

func TestForgeries(t *testing.T) {
	t.Parallel()
	k := keys(t)
	good := sign(t, k, claims(nil))
	public := k.JWKS().(jose.JSONWebKeySet).Keys[0]
	der, err := x509.MarshalPKIXPublicKey(public.Key)
	if err != nil {
		t.Fatal(err)
	}
	pub := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	payload := string(body)
	hs := func(secret []byte) func(string) []byte {
		return func(s string) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write([]byte(s))
			return m.Sum(nil)
		}
	}
	rs := func(s string) []byte {
		d := sha256.Sum256([]byte(s))
		b, err := rsa.SignPKCS1v15(rand.Reader, other, crypto.SHA256, d[:])
		if err != nil {
			t.Error(err)
		}
		return b
	}
	kid := `"kid":"` + public.KeyID + `"`
	run, err := k.SignRun(token.RunGrant{Run: "r", Workspace: "w", Expiry: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	part := strings.Split(good, ".")
	for name, tok := range map[string]string{
		"alg none":                      forge(`{"alg":"none",`+kid+`}`, payload, func(string) []byte { return nil }),
		"alg None":                      forge(`{"alg":"None",`+kid+`}`, payload, func(string) []byte { return nil }),
		"HS256 with the public key":     forge(`{"alg":"HS256",`+kid+`}`, payload, hs(pub)),
		"HS256 with its DER":            forge(`{"alg":"HS256",`+kid+`}`, payload, hs(der)),
		"another key with our id":       forge(`{"alg":"RS256",`+kid+`}`, payload, rs),
		"another key with its own id":   forge(`{"alg":"RS256","kid":"x"}`, payload, rs),
		"another key without an id":     forge(`{"alg":"RS256"}`, payload, rs),
		"a header with a key in it":     forge(`{"alg":"RS256",`+kid+`,"jwk":{"kty":"oct","k":"AA"}}`, payload, rs),
		"an extension we do not know":   forge(`{"alg":"RS256",`+kid+`,"crit":["x"],"x":1}`, payload, rs),
		"a run's token":                 run,
		"another payload":               part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":9999999999}`)) + "." + part[2],
		"no signature":                  part[0] + "." + part[1] + ".",
		"two parts":                     part[0] + "." + part[1],
		"four parts":                    good + ".x",
		"a line end within":             good[:9] + "\n" + good[9:],
		"padding":                       good + "=",
		"JSON serialisation":            `{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`,
		"nothing":                       "",
		"a megabyte":                    strings.Repeat("a", 1<<20),
		"claims that are not an object": forge(`{"alg":"RS256",`+kid+`}`, `[]`, rs),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c, err := k.Verify(tok, audiences, now); codeOf(err) != "InvalidAuthenticationToken" {
				t.Errorf("Verify = %v, %v", c, err)
			}
		})
	}
	if _, err := k.Verify(good, nil, now); codeOf(err) != "InvalidAuthenticationTokenAudience" {
		t.Errorf("for no audience at all, Verify = %v", err)
	}
}

// TestMutations changes every byte of each sort of token: none may pass.
func TestMutations(t *testing.T) {
	t.Parallel()
	k := keys(t)
	run, err := k.SignRun(token.RunGrant{Run: "r", Workspace: "w", Expiry: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	node, err := k.SignNode("n1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tok    string
		verify func(string) error
	}{
		"access": {sign(t, k, claims(nil)), func(s string) error { _, err := k.Verify(s, audiences, now); return err }},
		"run":    {run, func(s string) error { _, err := k.VerifyRun(s, now); return err }},
		"node":   {node, func(s string) error { _, err := k.VerifyNode(s); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.verify(c.tok); err != nil {
				t.Fatalf("unchanged: %v", err)
			}
			for i := range len(c.tok) {
				for _, b := range []byte{c.tok[i] ^ 1, c.tok[i] ^ 2, 'A', 'z', '.', '='} {
					if b == c.tok[i] {
						continue
					}
					changed := c.tok[:i] + string(rune(b)) + c.tok[i+1:]
					if c.verify(changed) == nil {
						t.Fatalf("byte %d changed from %q to %q passes", i, c.tok[i], b)
					}
				}
				if c.verify(c.tok[:i]) == nil {
					t.Fatalf("cut after %d bytes it passes", i)
				}
			}
		})
	}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	k := keys(t)
	g := token.RunGrant{Run: "6f", Workspace: "/subscriptions/s/x", Experiment: "Exp", Name: "calm_1", Fence: 1<<62 + 1, Expiry: now.Add(time.Hour)}
	run, err := k.SignRun(g, now)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.VerifyRun(run, now.Add(time.Minute)); err != nil || got != g {
		t.Errorf("VerifyRun = %+v, %v, want %+v", got, err, g)
	}
	if !token.IsRun(run) || token.IsRun(sign(t, k, claims(nil))) || token.IsRun("x") {
		t.Error("IsRun does not tell runs' tokens from others")
	}
	if _, err := k.VerifyRun(run, now.Add(time.Hour)); codeOf(err) != "ExpiredAuthenticationToken" {
		t.Errorf("at its end VerifyRun = %v", err)
	}
	if _, err := k.VerifyRun(run, now.Add(-time.Hour)); codeOf(err) != "InvalidAuthenticationToken" {
		t.Errorf("before its time VerifyRun = %v", err)
	}
	if _, err := k.VerifyNode(run); err == nil {
		t.Error("a run's token passes for a node's")
	}
	node, err := k.SignNode("n1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.VerifyNode(node); err != nil || got != "n1" {
		t.Errorf("VerifyNode = %q, %v", got, err)
	}
	if _, err := k.VerifyRun(node, now); err == nil || token.IsRun(node) {
		t.Error("a node's token passes for a run's")
	}
	if _, err := k.VerifyRun(sign(t, k, claims(map[string]any{"aud": "ebb/run"})), now); err == nil {
		t.Error("an access token passes for a run's")
	}
	for name, g := range map[string]token.RunGrant{"no run": {Workspace: "w", Expiry: g.Expiry}, "no workspace": {Run: "r", Expiry: g.Expiry}, "no time": {Run: "r", Workspace: "w", Expiry: now}} {
		if _, err := k.SignRun(g, now); err == nil {
			t.Errorf("a token with %s was signed", name)
		}
	}
	// SDK v1 reads exp from the middle part without a check.
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(run, ".")[1])
	var c struct{ Exp int64 }
	if err != nil || json.Unmarshal(b, &c) != nil || c.Exp != g.Expiry.Unix() {
		t.Errorf("exp reads as %d in %s, %v", c.Exp, b, err)
	}
}

func TestOpenKeepsKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	open := func() *token.Keys {
		t.Helper()
		k, err := token.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := open()
	tok := sign(t, first, claims(nil))
	node, err := first.SignNode("n")
	if err != nil {
		t.Fatal(err)
	}
	again := open()
	if _, err := again.Verify(tok, audiences, now); err != nil {
		t.Errorf("after a restart Verify = %v", err)
	}
	if _, err := again.VerifyNode(node); err != nil {
		t.Errorf("after a restart VerifyNode = %v", err)
	}
	if string(again.AccountKey("a")) != string(first.AccountKey("A")) || string(first.AccountKey("a")) == string(first.AccountKey("b")) || len(first.AccountKey("a")) != 64 {
		t.Error("account keys must be 64 bytes, stay, and differ between accounts")
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("the folder holds %v, %v", files, err)
	}
	for _, f := range files {
		if st, err := f.Info(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), st.Mode(), err)
		}
	}
	// A second key: new tokens by it, old ones still good.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rs256-000002.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	rotated := open()
	set := rotated.JWKS().(jose.JSONWebKeySet)
	young := sign(t, rotated, claims(nil))
	if len(set.Keys) != 2 || !set.Keys[0].IsPublic() || !set.Keys[1].IsPublic() {
		t.Errorf("the key set is %+v, want two public keys", set)
	}
	for name, tok := range map[string]string{"old": tok, "young": young} {
		if _, err := rotated.Verify(tok, audiences, now); err != nil {
			t.Errorf("the %s token: %v", name, err)
		}
	}
	if _, err := first.Verify(young, audiences, now); codeOf(err) != "InvalidAuthenticationToken" {
		t.Errorf("with an unknown key id, Verify = %v", err)
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := token.Open(dir); err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{
		"rs256-000001.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"ed25519.pem":      "",
		"accounts.key":     "c2hvcnQ=",
	} {
		path := filepath.Join(dir, file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := token.Open(dir); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("with %s damaged, Open = %v; want an error that names it", file, err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	k := &token.Keys{}
	most := 0
	for i := range 10_000 {
		most = max(most, token.Remember(k, fmt.Sprint(i)))
		if i%100 == 0 && i > 0 && !token.Remembered(k, "0") {
			t.Fatalf("a token in use was forgotten after %d others", i)
		}
	}
	if most > 4096 || !token.Remembered(k, "9999") || token.Remembered(k, "1") {
		t.Errorf("the cache grew to %d tokens, or does not hold the last ones alone", most)
	}
}

func FuzzVerify(f *testing.F) {
	k := keys(f)
	f.Add(sign(f, k, claims(nil)))
	f.Add("a.b.c")
	f.Add("..")
	f.Add(forge(`{"alg":"RS256","crit":["b64"],"b64":false}`, `{}`, func(string) []byte { return nil }))
	good := sign(f, k, claims(nil))
	f.Fuzz(func(t *testing.T, tok string) {
		_, err := k.Verify(tok, audiences, now)
		if err == nil && tok != good {
			if part := strings.Split(tok, "."); len(part) != 3 || !strings.Contains(good, part[0]) {
				t.Errorf("%q passes", tok)
			}
		}
		if err != nil && codeOf(err) == fmt.Sprint(err) {
			t.Errorf("Verify(%q) = %v, which is no fault", tok, err)
		}
		if _, err := k.VerifyRun(tok, now); err == nil {
			t.Errorf("%q passes for a run's", tok)
		}
		token.IsRun(tok)
	})
}
