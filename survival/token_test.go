package survival_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// forger makes tokens that the server must refuse. It has read the server's own
// key, which no attacker has: a token of its making differs from a good one in
// nothing but what its name says.
type forger struct {
	good   string
	header map[string]any
	claims map[string]any
	own    *rsa.PrivateKey // the server's
	alien  *rsa.PrivateKey
}

// alien is made once: an RSA key takes a while.
var alien = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newForger(t *testing.T, dir, good string) *forger {
	t.Helper()
	f := &forger{good: good}
	parts := strings.Split(good, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", good)
	}
	for i, into := range []*map[string]any{&f.header, &f.claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	paths, err := filepath.Glob(filepath.Join(dir, "keys", "rs256-*.pem"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no key of the server: %v", err)
	}
	text, err := os.ReadFile(paths[len(paths)-1])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	f.own = key.(*rsa.PrivateKey)
	if f.alien, err = alien(); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *forger) sign(key *rsa.PrivateKey, header, claims map[string]any) string {
	signing := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(signing))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // a key of ours
	}
	return signing + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func part(v map[string]any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a map of strings and numbers
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// with returns a copy of m with one value changed; nil takes it away.
func with(m map[string]any, key string, value any) map[string]any {
	m = maps.Clone(m)
	if m[key] = value; value == nil {
		delete(m, key)
	}
	return m
}

// all returns every forged token by what is wrong with it.
func (f *forger) all() map[string]string {
	past := time.Now().Add(-time.Hour).Unix()
	none := part(with(f.header, "alg", "none")) + "." + part(f.claims) + "."
	hs := part(with(f.header, "alg", "HS256")) + "." + part(f.claims)
	public, err := x509.MarshalPKIXPublicKey(&f.own.PublicKey)
	if err != nil {
		panic(err) // a key of ours
	}
	mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	mac.Write([]byte(hs))
	last := f.good[len(f.good)-8:]
	return map[string]string{
		"an expired one":                      f.sign(f.own, f.header, with(with(f.claims, "exp", past), "nbf", past-60)),
		"one that is not valid yet":           f.sign(f.own, f.header, with(f.claims, "nbf", time.Now().Add(time.Hour).Unix())),
		"one without an end":                  f.sign(f.own, f.header, with(f.claims, "exp", nil)),
		"a foreign key's":                     f.sign(f.alien, f.header, f.claims),
		"a foreign key's with its own id":     f.sign(f.alien, with(f.header, "kid", "other"), f.claims),
		"another tenant's":                    f.sign(f.own, f.header, with(f.claims, "tid", "00000000-0000-0000-0000-000000000000")),
		"another audience's":                  f.sign(f.own, f.header, with(f.claims, "aud", "https://vault.azure.net")),
		"algorithm none":                      none,
		"HS256 with the public key as secret": hs + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
		"a broken signature":                  f.good[:len(f.good)-8] + string([]byte{last[1], last[0]}) + last[2:] + "A",
		"no JWT at all":                       "hello",
		"two parts of three":                  f.good[:strings.LastIndexByte(f.good, '.')],
		"other claims under a good signature": f.good[:strings.IndexByte(f.good, '.')] + "." + part(with(f.claims, "oid", "root")) + f.good[strings.LastIndexByte(f.good, '.'):],
		"a very long one":                     strings.Repeat("eyJ", 20000),
	}
}
