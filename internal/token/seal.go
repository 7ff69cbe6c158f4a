package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/ebb-compute/ebb/internal/fault"
)

// sealer is the cipher for secrets at rest: AES-256-GCM under a key derived from
// the one that storage accounts' are derived from.
func (k *Keys) sealer() (cipher.AEAD, error) {
	mac := hmac.New(sha256.New, k.accounts)
	mac.Write([]byte("sealed at rest"))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("prepare to seal: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal encrypts a secret that is to be kept. about is where it is kept: sealed
// bytes that are moved elsewhere do not open.
func (k *Keys) Seal(about string, secret []byte) ([]byte, error) {
	c, err := k.sealer()
	if err != nil {
		return nil, err
	}
	return c.Seal(nil, nil, secret, []byte(about)), nil
}

// Unseal opens what [Keys.Seal] has made.
func (k *Keys) Unseal(about string, sealed []byte) ([]byte, error) {
	c, err := k.sealer()
	if err != nil {
		return nil, err
	}
	secret, err := c.Open(nil, nil, sealed, []byte(about))
	if err != nil {
		return nil, fault.New(fault.Conflict, about, "A secret does not open: the keys of this server are not those it was kept with. Restore the keys folder, or set the secret again.")
	}
	return secret, nil
}
