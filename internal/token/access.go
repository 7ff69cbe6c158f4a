package token

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ebb-compute/ebb/internal/fault"
)

// maxToken is the longest token looked at, in bytes.
const maxToken = 16 << 10

// Claims are what an access token says. They are shared between requests and
// must not be changed.
type Claims map[string]any

// String returns a claim that is text, or "".
func (c Claims) String(name string) string {
	s, _ := c[name].(string)
	return s
}

// Time returns a claim that is a moment in seconds since 1970.
func (c Claims) Time(name string) (time.Time, bool) {
	f, ok := c[name].(float64)
	if !ok || f < 0 || f > 1e11 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0).UTC(), true
}

// audiences returns aud, which is one text or several.
func (c Claims) audiences() []string {
	switch aud := c["aud"].(type) {
	case string:
		return []string{aud}
	case []any:
		var all []string
		for _, a := range aud {
			if s, ok := a.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// Sign returns claims as a JWT signed with the newest RSA key.
func (k *Keys) Sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode the claims: %w", err)
	}
	return compact(k.signer, payload)
}

func compact(s jose.Signer, payload []byte) (string, error) {
	signed, err := s.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	tok, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("write a token: %w", err)
	}
	return tok, nil
}

// Verify checks an access token: that one of our RSA keys signed it, that it is
// for exactly one of audiences, and that now is within its time.
func (k *Keys) Verify(tok string, audiences []string, now time.Time) (Claims, error) {
	claims, ok := k.seen.get(tok)
	if !ok {
		payload, err := k.open(tok, jose.RS256)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(payload, &claims); err != nil || claims == nil {
			return nil, invalid("its claims are not a JSON object")
		}
		k.seen.put(tok, claims)
	}
	if err := claims.within(now); err != nil {
		return nil, err
	}
	has := claims.audiences()
	if !slices.ContainsFunc(has, func(a string) bool { return slices.Contains(audiences, a) }) {
		return nil, fault.Coded(fault.Unauthorized, "InvalidAuthenticationTokenAudience", "",
			"The access token has been obtained for wrong audience or resource '%.200s'. It should exactly match with one of the allowed audiences '%s'.",
			strings.Join(has, ","), strings.Join(audiences, "','"))
	}
	return claims, nil
}

func (c Claims) within(now time.Time) error {
	exp, ok := c.Time("exp")
	if !ok {
		return invalid("it has no expiry")
	}
	if !now.Before(exp) {
		return expired(exp, now)
	}
	if nbf, ok := c.Time("nbf"); ok && nbf.After(now.Add(Skew)) || !ok && c["nbf"] != nil {
		return invalid("it is not valid yet")
	}
	return nil
}

func expired(exp, now time.Time) error {
	return fault.Coded(fault.Unauthorized, "ExpiredAuthenticationToken", "", "The access token expiry UTC time '%s' is earlier than current UTC time '%s'.",
		exp.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

func invalid(why string) error {
	return fault.Coded(fault.Unauthorized, "InvalidAuthenticationToken", "", "The access token is invalid: %s.", why)
}

// open returns the payload of a token that one of our keys for alg signed. The
// algorithm is the caller's, never the token's own word: "none", or HS256 with
// a public key as its secret, is refused before any key is looked at.
func (k *Keys) open(tok string, alg jose.SignatureAlgorithm) ([]byte, error) {
	if !canonical(tok) {
		return nil, invalid("it is not a JSON Web Token")
	}
	jws, err := jose.ParseSignedCompact(tok, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return nil, invalid(fmt.Sprintf("it is not a JSON Web Token signed with %s", alg))
	}
	id := jws.Signatures[0].Protected.KeyID
	key := k.public(alg, id)
	if key == nil {
		return nil, invalid("no key of this server has the id that it names")
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, invalid("its signature does not match")
	}
	return payload, nil
}

func (k *Keys) public(alg jose.SignatureAlgorithm, id string) any {
	if alg == jose.EdDSA {
		return k.ed.Public()
	}
	for _, r := range k.rsa {
		if r.id == id {
			return &r.key.PublicKey
		}
	}
	return nil
}

// canonical reports whether tok is three parts in the one spelling that base64
// has for their bytes. Decoders skip line ends and ignore the last bits, so
// that a token would have many spellings, each a new entry for any list of
// tokens seen or revoked.
func canonical(tok string) bool {
	if len(tok) > maxToken || strings.ContainsAny(tok, "\r\n") {
		return false
	}
	parts := strings.Split(tok, ".")
	if len(parts) != 3 {
		return false
	}
	for _, p := range parts {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return false
		}
	}
	return true
}
