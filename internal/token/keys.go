// Package token makes and checks what callers prove themselves with: access
// tokens (RS256, for anybody to verify through JWKS), run and node tokens
// (Ed25519, for Ebb alone, 20 times cheaper), and the keys and shared access
// signatures of storage accounts. It takes the time and knows no HTTP.
//
// What it refuses is a fault with the code that Azure has for the reason.
package token

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Skew is how far in the future a token or signature may begin: clocks of
// machines differ, and a clock may be set back. Ends are exact.
const Skew = 5 * time.Minute

const (
	rsaBits     = 2048
	rsaPrefix   = "rs256-" // then a number: the highest signs, all verify
	edFile      = "ed25519.pem"
	accountFile = "accounts.key"
	secretBytes = 64
)

// Keys are a server's keys. Its methods may be called at the same time.
type Keys struct {
	rsa      []rsaKey // oldest first; the last one signs
	signer   jose.Signer
	ed       ed25519.PrivateKey
	edSigner jose.Signer
	accounts []byte // what the keys of storage accounts are derived from
	seen     cache[Claims]
	grants   cache[grant]
}

type rsaKey struct {
	id  string
	key *rsa.PrivateKey
}

// Open loads the keys of dir and makes those that are missing, each whole or
// not at all. Files have mode 0600.
func Open(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the keys: %w", err)
	}
	k := &Keys{}
	if err := k.openRSA(dir); err != nil {
		return nil, err
	}
	ed, err := ensure(filepath.Join(dir, edFile), func() (crypto.PrivateKey, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	})
	if err != nil {
		return nil, err
	}
	var ok bool
	if k.ed, ok = ed.(ed25519.PrivateKey); !ok {
		return nil, fmt.Errorf("%s holds a %T, not an Ed25519 key", edFile, ed)
	}
	if k.edSigner, err = newSigner(jose.EdDSA, k.ed, "ebb"); err != nil {
		return nil, err
	}
	k.accounts, err = ensureSecret(filepath.Join(dir, accountFile))
	return k, err
}

func (k *Keys) openRSA(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, rsaPrefix+"*.pem"))
	if err != nil {
		return fmt.Errorf("list the signing keys: %w", err)
	}
	slices.Sort(files)
	if len(files) == 0 {
		files = []string{filepath.Join(dir, rsaPrefix+"000001.pem")}
	}
	for _, f := range files {
		key, err := ensure(f, func() (crypto.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, rsaBits) })
		if err != nil {
			return err
		}
		r, ok := key.(*rsa.PrivateKey)
		if !ok || r.N.BitLen() < rsaBits {
			return fmt.Errorf("%s holds no RSA key of %d bits", f, rsaBits)
		}
		print, err := (&jose.JSONWebKey{Key: &r.PublicKey}).Thumbprint(crypto.SHA256)
		if err != nil {
			return fmt.Errorf("name the key of %s: %w", f, err)
		}
		k.rsa = append(k.rsa, rsaKey{id: base64.RawURLEncoding.EncodeToString(print), key: r})
	}
	last := k.rsa[len(k.rsa)-1]
	k.signer, err = newSigner(jose.RS256, last.key, last.id)
	return err
}

func newSigner(alg jose.SignatureAlgorithm, key any, id string) (jose.Signer, error) {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("prepare to sign with %s: %w", alg, err)
	}
	return s, nil
}

// JWKS returns the public keys that verify access tokens, as they are published.
func (k *Keys) JWKS() any {
	set := jose.JSONWebKeySet{}
	for _, r := range k.rsa {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: &r.key.PublicKey, KeyID: r.id, Algorithm: string(jose.RS256), Use: "sig"})
	}
	return set
}

// AccountKey returns the shared key of a storage account. It is derived, so
// that nothing is to be stored and a new workspace has one at once.
func (k *Keys) AccountKey(account string) []byte {
	mac := hmac.New(sha512.New, k.accounts)
	mac.Write([]byte("storage account\n" + strings.ToLower(account)))
	return mac.Sum(nil)
}

func ensure(path string, generate func() (crypto.PrivateKey, error)) (crypto.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := generate()
		if err != nil {
			return nil, fmt.Errorf("make the key of %s: %w", path, err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encode the key of %s: %w", path, err)
		}
		return key, create(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM key", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return key, nil
}

func ensureSecret(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret := make([]byte, secretBytes)
		if _, err := rand.Read(secret); err != nil {
			return nil, fmt.Errorf("draw a secret: %w", err)
		}
		return secret, create(path, []byte(base64.StdEncoding.EncodeToString(secret)+"\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret of the accounts: %w", err)
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(secret) != secretBytes {
		return nil, fmt.Errorf("%s does not hold %d bytes in base64", path, secretBytes)
	}
	return secret, nil
}

// create puts a file in place, whole and on disk, with mode 0600.
func create(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // has mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close(), f.Close())
}
