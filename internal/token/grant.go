package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Audiences keep a run's token from passing for a node's.
const (
	runAudience  = "ebb/run"
	nodeAudience = "ebb/node"
)

// RunGrant is what a run may prove about itself: one attempt of one run.
type RunGrant struct {
	Run        string // guid
	Workspace  string // lower-case ARM id
	Experiment string
	Name       string
	Fence      int64 // of the attempt
	Expiry     time.Time
}

// grant is a run or node token's claims. SDK v1 reads exp of a run's.
type grant struct {
	Issuer     string `json:"iss"`
	Audience   string `json:"aud"`
	Subject    string `json:"sub"`
	IssuedAt   int64  `json:"iat,omitempty"`
	NotBefore  int64  `json:"nbf,omitempty"`
	Expiry     int64  `json:"exp,omitempty"`
	Workspace  string `json:"workspace,omitempty"`
	Experiment string `json:"experiment,omitempty"`
	Name       string `json:"run_name,omitempty"`
	Fence      int64  `json:"fence,omitempty"`
}

// SignRun returns a token for a run.
func (k *Keys) SignRun(g RunGrant, now time.Time) (string, error) {
	if g.Run == "" || g.Workspace == "" || !g.Expiry.After(now) {
		return "", errors.New("sign a run's token: it names no run, no workspace or no time to come")
	}
	return k.signGrant(grant{Issuer: "ebb", Audience: runAudience, Subject: g.Run, IssuedAt: now.Unix(), NotBefore: now.Unix(), Expiry: g.Expiry.Unix(),
		Workspace: strings.ToLower(g.Workspace), Experiment: g.Experiment, Name: g.Name, Fence: g.Fence})
}

// VerifyRun returns what a run's token grants. Whether the fence is still the
// run's own is for the caller to compare.
func (k *Keys) VerifyRun(tok string, now time.Time) (RunGrant, error) {
	g, err := k.openGrant(tok, runAudience)
	if err != nil {
		return RunGrant{}, err
	}
	exp := time.Unix(g.Expiry, 0).UTC()
	if !now.Before(exp) {
		return RunGrant{}, expired(exp, now)
	}
	if time.Unix(g.NotBefore, 0).After(now.Add(Skew)) {
		return RunGrant{}, invalid("it is not valid yet")
	}
	return RunGrant{Run: g.Subject, Workspace: g.Workspace, Experiment: g.Experiment, Name: g.Name, Fence: g.Fence, Expiry: exp}, nil
}

// IsRun reports whether tok claims to be a run's, by what it says and without
// a check: it tells which of the Verify methods to ask.
func IsRun(tok string) bool {
	if !canonical(tok) {
		return false
	}
	jws, err := jose.ParseSignedCompact(tok, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return false
	}
	var g grant
	return json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &g) == nil && g.Audience == runAudience
}

// SignNode returns the token of a node's agent. It has no end of its own: it is
// good while the node is in the store.
func (k *Keys) SignNode(node string) (string, error) {
	if node == "" {
		return "", errors.New("sign a node's token: it names no node")
	}
	return k.signGrant(grant{Issuer: "ebb", Audience: nodeAudience, Subject: node})
}

// VerifyNode returns the node that a token was made for.
func (k *Keys) VerifyNode(tok string) (string, error) {
	g, err := k.openGrant(tok, nodeAudience)
	return g.Subject, err
}

func (k *Keys) signGrant(g grant) (string, error) {
	payload, err := json.Marshal(g)
	if err != nil {
		return "", fmt.Errorf("encode a grant: %w", err)
	}
	return compact(k.edSigner, payload)
}

func (k *Keys) openGrant(tok, audience string) (grant, error) {
	g, ok := k.grants.get(tok)
	if !ok {
		payload, err := k.open(tok, jose.EdDSA)
		if err != nil {
			return grant{}, err
		}
		if err := json.Unmarshal(payload, &g); err != nil {
			return grant{}, invalid("it was made for something else")
		}
		k.grants.put(tok, g)
	}
	if g.Audience != audience || g.Subject == "" {
		return grant{}, invalid("it was made for something else")
	}
	return g, nil
}
