package assets

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Environments of SDK v1 may bring the password of a registry. It is kept, and
// shown, sealed: who sends back what was read changes nothing by it.

// SealedPassword begins a registry's password that is sealed; base64 follows.
const SealedPassword = "ebb-sealed:"

// AboutRegistry is what the password of a registry is sealed for: it opens for no
// other registry, and in no other workspace.
func AboutRegistry(workspace, address string) string {
	return strings.ToLower(workspace) + "/registries/" + strings.ToLower(address)
}

// Conceal seals the password of the registry in an environment of SDK v1's, if
// there is one in clear.
func (s *Service) Conceal(w Place, definition map[string]any) error {
	reg, at := registryOf(definition)
	password, _ := reg[at].(string)
	if password == "" || strings.HasPrefix(password, SealedPassword) {
		return nil
	}
	sealed, err := s.Secrets.Seal(AboutRegistry(w.key(), textOf(reg, "address")), []byte(password))
	if err != nil {
		return fmt.Errorf("seal a registry's password: %w", err)
	}
	reg[at] = SealedPassword + base64.StdEncoding.EncodeToString(sealed)
	return nil
}

// registryOf is the registry in an environment, and the key of its password. Keys
// match in any case.
func registryOf(definition map[string]any) (reg map[string]any, password string) {
	docker, _ := member(definition, "docker").(map[string]any)
	reg, _ = member(docker, "baseImageRegistry").(map[string]any)
	for k := range reg {
		if strings.EqualFold(k, "password") {
			return reg, k
		}
	}
	return reg, "password"
}

func member(m map[string]any, key string) any {
	for k, v := range m {
		if strings.EqualFold(k, key) {
			return v
		}
	}
	return nil
}

func textOf(m map[string]any, key string) string {
	text, _ := member(m, key).(string)
	return text
}

// comparable is an environment with a word that is the same for the same password,
// however it is sealed.
func (s *Service) comparable(w Place, definition map[string]any) map[string]any {
	reg, at := registryOf(definition)
	password, _ := reg[at].(string)
	sealed, ok := strings.CutPrefix(password, SealedPassword)
	if !ok {
		return definition
	}
	word := "another"
	if text, err := base64.StdEncoding.DecodeString(sealed); err == nil {
		if clear, err := s.Secrets.Unseal(AboutRegistry(w.key(), textOf(reg, "address")), text); err == nil {
			sum := sha256.Sum256(clear)
			word = hex.EncodeToString(sum[:])
		}
	}
	out := copied(definition).(map[string]any)
	reg, at = registryOf(out)
	reg[at] = word
	return out
}

// copied is a JSON value with maps of its own.
func copied(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = copied(v)
	}
	return out
}

// FindContext finds where the files of a build's context lie.
func (s *Service) FindContext(ctx context.Context, w Place, b *queue.Build) error {
	if b == nil || b.URI == "" {
		return nil
	}
	if lower := strings.ToLower(b.URI); strings.Contains(lower, ".git") && !strings.Contains(lower, ".blob.") && !strings.HasPrefix(lower, "azureml:") {
		return fault.New(fault.Unsupported, "environment.build", "The feature \"build contexts from Git\" (%.300q) is not built; give a folder of your machine as the context, which the client uploads.", b.URI)
	}
	at, err := s.Locate(ctx, w, b.URI)
	if err != nil {
		return fmt.Errorf("find the build context: %w", err)
	}
	b.Key = at.Key()
	return nil
}
