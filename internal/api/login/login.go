// Package login is the part of Microsoft Entra that clients meet: cloud
// metadata, discovery, the token endpoints, the endpoints of managed identities,
// and the keys that verify tokens. It knows one tenant, this server's, and three
// grants: a client's secret, a device code that a person approves, and the
// refreshing of that; others are refused by name.
//
// Every URL in an answer follows the host that the client came by: through
// "ebb exec" those are login.microsoftonline.com and management.azure.com.
package login

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/token"
)

// Services is what logging in needs.
type Services struct {
	Tenant  string // guid
	URL     string // the server's own, for people's browsers
	Clients Clients
	Devices Devices
	Keys    Signer
	Now     func() time.Time
	Life    time.Duration // of a token; default: an hour, as Entra's

	polls *polls
}

// grants are the kinds of proof that the token endpoint takes.
var grants = []string{grantClientCredentials, grantDevice, grantRefresh}

// Clients knows who may log in. A client that does not exist is
// fault.NotFound, a secret that is not its own fault.Unauthorized. It compares
// secrets in constant time.
type Clients interface {
	Check(ctx context.Context, tenant, clientID, secret string) (access.Principal, error)
}

// Signer signs claims, verifies what it signed, and publishes the keys to verify them with.
type Signer interface {
	Sign(claims map[string]any) (string, error)
	Verify(tok string, audiences []string, now time.Time) (token.Claims, error)
	JWKS() any
}

// Authorities below which a tenant's endpoints lie. The adfs ones keep MSAL off
// the internet: it takes a first segment "adfs" for a server of the company's
// own and does not ask login.microsoftonline.com whether it is genuine. SDK v1
// puts the tenant where "aad" is, az behind it, and AZURE_TENANT_ID=adfs leaves
// it out.
var authorities = []string{"/{tenant}", "/adfs", "/adfs/{tenant}", "/adfs/aad/{tenant}"}

// Register adds the routes.
func Register(reg arm.Registrar, s Services) {
	if s.Life == 0 {
		s.Life = time.Hour
	}
	s.polls = &polls{}
	reg.Public("GET /metadata/endpoints", s.metadata)
	reg.Public("GET /{tenant}/discovery/instance", s.instance)
	for _, a := range authorities {
		reg.Public("GET "+a+"/.well-known/openid-configuration", s.discovery(a, ""))
		reg.Public("GET "+a+"/v2.0/.well-known/openid-configuration", s.discovery(a, "/v2.0"))
		reg.Public("GET "+a+"/discovery/keys", s.keys)
		reg.Public("GET "+a+"/discovery/v2.0/keys", s.keys)
		reg.Public("POST "+a+"/oauth2/token", s.token)
		reg.Public("POST "+a+"/oauth2/v2.0/token", s.token)
		for _, version := range []string{"/oauth2/", "/oauth2/v2.0/"} {
			reg.Public("POST "+a+version+"devicecode", s.devicecode)
			arm.NotBuilt(reg, a+version+"authorize", "Signing in by a browser that comes back (use a device code)")
		}
	}
	registerDevice(reg, s)
	registerIdentity(reg, s)
}

// known reports whether a tenant of a path is ours. "common" and
// "organizations" stand for the caller's own tenant, and there is one only;
// "adfs" and "aad" are the stand-ins of authorities.
func (s Services) known(tenant string) bool {
	switch strings.ToLower(tenant) {
	case "", "common", "organizations", "adfs", "aad", strings.ToLower(s.Tenant):
		return true
	}
	return false
}

// discovery answers with the OpenID Connect document of an authority.
func (s Services) discovery(authority, version string) arm.Handler {
	return func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		tenant := r.PathValue("tenant")
		if !s.known(tenant) {
			return s.refuse(w, r, noTenant(tenant))
		}
		login := arm.HostsOf(r).Login()
		base := login + strings.Replace(authority, "{tenant}", tenant, 1)
		issuer := base + version
		switch {
		case strings.HasPrefix(authority, "/adfs"):
			version = "" // AD FS has one version of everything
		case version == "":
			issuer = issuerOf(r, s.Tenant)
		}
		return http.StatusOK, map[string]any{
			"issuer":                                issuer,
			"authorization_endpoint":                base + "/oauth2" + version + "/authorize",
			"token_endpoint":                        base + "/oauth2" + version + "/token",
			"device_authorization_endpoint":         base + "/oauth2" + version + "/devicecode",
			"jwks_uri":                              base + "/discovery" + version + "/keys",
			"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
			"grant_types_supported":                 grants,
			"response_types_supported":              []string{"code", "id_token", "token"},
			"response_modes_supported":              []string{"query", "fragment", "form_post"},
			"subject_types_supported":               []string{"pairwise"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
			"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
			"claims_supported":                      []string{"sub", "iss", "aud", "exp", "iat", "nbf", "tid", "oid", "appid", "idtyp", "ver"},
			"cloud_instance_name":                   "microsoftonline.com",
		}, nil
	}
}

// issuerOf is who signs: Entra's own name where the client believes to talk to
// Entra, and otherwise the address whose discovery document has the keys.
func issuerOf(r *http.Request, tenant string) string {
	login := arm.HostsOf(r).Login()
	if login == azureLogin {
		return "https://sts.windows.net/" + tenant + "/"
	}
	return login + "/" + tenant + "/"
}

const azureLogin = "https://login.microsoftonline.com"

// instance tells MSAL that the authority it was given is genuine.
func (s Services) instance(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	login := arm.HostsOf(r).Login()
	names := []string{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"}
	preferred, cached := names[0], names[1]
	if login != azureLogin {
		preferred = strings.TrimPrefix(login, "https://")
		names, cached = []string{preferred}, preferred
	}
	return http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": login + "/" + r.PathValue("tenant") + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  []any{map[string]any{"preferred_network": preferred, "preferred_cache": cached, "aliases": names}},
	}, nil
}

func (s Services) keys(http.ResponseWriter, *http.Request) (int, any, error) {
	return http.StatusOK, s.Keys.JWKS(), nil
}
