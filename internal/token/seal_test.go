package token_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

func TestSealedSecretsOpenWhereTheyWereSealed(t *testing.T) {
	t.Parallel()
	keys, err := token.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := token.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := keys.Seal("/here", []byte("the secret"))
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatalf("Seal = %q, %v", sealed, err)
	}
	if again, err := keys.Seal("/here", []byte("the secret")); err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealed twice it is the same: %v", err)
	}
	if got, err := keys.Unseal("/here", sealed); err != nil || string(got) != "the secret" {
		t.Errorf("Unseal = %q, %v", got, err)
	}
	sealed[len(sealed)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"changed":    func() ([]byte, error) { return keys.Unseal("/here", sealed) },
		"elsewhere":  func() ([]byte, error) { return keys.Unseal("/there", sealed) },
		"other keys": func() ([]byte, error) { return other.Unseal("/here", sealed) },
		"no bytes":   func() ([]byte, error) { return keys.Unseal("/here", nil) },
	} {
		if got, err := open(); !errors.Is(err, fault.Conflict) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
