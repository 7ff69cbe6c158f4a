package login

import (
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

// azureAudiences are what clients ask tokens for when they believe to talk to
// Azure. The last is not a slip: SDK v2 makes it of the name of a portal that
// is not under azure.com.
var azureAudiences = []string{"https://management.azure.com", "https://management.core.windows.net", "https://ml.azure.com", "https://storage.azure.com", "https://graph.microsoft.com", "https://ml.azure."}

// TokenChecker verifies access and run tokens. token.Keys is one.
type TokenChecker interface {
	Verify(tok string, audiences []string, now time.Time) (token.Claims, error)
	VerifyRun(tok string, now time.Time) (token.RunGrant, error)
}

// Verifier turns a bearer token into who is asking, for arm.Router.
type Verifier struct {
	// Living says whether an attempt of a run is not over. A run's token dies with
	// the attempt it was made for, long before it expires. Default: no attempt ends.
	Living func(run string, fence int64) bool

	keys      TokenChecker
	tenant    string
	audiences []string
	now       func() time.Time
}

var _ arm.Authenticator = (*Verifier)(nil)

// NewVerifier returns a verifier for the tokens of one tenant. origins are the
// server's own addresses ("https://localhost:8443"), which tokens may be made
// for besides Azure's; each counts with a slash at its end and without.
func NewVerifier(keys TokenChecker, tenant string, origins []string, now func() time.Time) *Verifier {
	v := &Verifier{keys: keys, tenant: tenant, now: now}
	for _, list := range [][]string{azureAudiences, origins} {
		for _, a := range list {
			a = strings.TrimSuffix(a, "/")
			v.audiences = append(v.audiences, a, a+"/")
		}
	}
	return v
}

// Verify checks a bearer token.
func (v *Verifier) Verify(tok string) (access.Principal, error) {
	if token.IsRun(tok) {
		g, err := v.keys.VerifyRun(tok, v.now())
		if err != nil {
			return access.Principal{}, err
		}
		// Runs without a cluster have no attempts: their fence is 0.
		if g.Fence != 0 && v.Living != nil && !v.Living(g.Run, g.Fence) {
			return access.Principal{}, fault.Coded(fault.Unauthorized, "InvalidAuthenticationToken", "", "The access token is invalid: the attempt of the run that it was made for is over.")
		}
		return access.Principal{ID: g.Run, Name: g.Name, Tenant: v.tenant, Kind: access.RunIdentity, Scope: strings.ToLower(g.Workspace), Run: g.Run, Fence: g.Fence}, nil
	}
	c, err := v.keys.Verify(tok, v.audiences, v.now())
	if err != nil {
		return access.Principal{}, err
	}
	if tid := c.String("tid"); !strings.EqualFold(tid, v.tenant) {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "InvalidAuthenticationTokenTenant", "",
			"The access token is from the wrong issuer: it is of the tenant '%.100s'. It must match the tenant '%s' of this server.", tid, v.tenant)
	}
	p := access.Principal{ID: c.String("oid"), App: c.String("appid"), Name: c.String("app_displayname"), Tenant: v.tenant, Kind: access.Application}
	if c.String("idtyp") == "user" {
		p.Kind = access.User
	}
	if p.ID == "" {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "InvalidAuthenticationToken", "", "The access token is invalid: it names nobody.")
	}
	return p, nil
}
