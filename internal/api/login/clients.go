package login

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Client is an application that may log in.
type Client struct {
	Principal  access.Principal
	SecretHash string // of HashSecret
}

// Fixed is a set of clients by client id, in lower case. The zero value lets nobody in.
type Fixed map[string]Client

var _ Clients = Fixed(nil)

// Check finds a client and compares its secret.
func (f Fixed) Check(_ context.Context, _, clientID, secret string) (access.Principal, error) {
	c, ok := f[strings.ToLower(clientID)]
	if !ok {
		return access.Principal{}, fault.New(fault.NotFound, "", "There is no such client.")
	}
	if !SameSecret(secret, c.SecretHash) {
		return access.Principal{}, fault.New(fault.Unauthorized, "", "The secret is not the client's.")
	}
	return c.Principal, nil
}

// HashSecret returns what to keep of a secret that was made at random and is
// long: a plain SHA-256 needs no salt and no slowness for those.
func HashSecret(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// SameSecret compares a secret with a hash of HashSecret, in constant time.
func SameSecret(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(hash)) == 1
}
