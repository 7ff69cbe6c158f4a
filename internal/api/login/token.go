package login

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	grantClientCredentials = "client_credentials"
	// maxForm is the longest form read, in bytes; federated assertions take a few thousand.
	maxForm = 64 << 10
	// maxAudience is the longest audience a token is made for, in bytes.
	maxAudience = 512
	armAudience = "https://management.azure.com/"
)

// refusal is an error of the token endpoint, in Entra's words and numbers.
type refusal struct {
	status int
	error  string // the OAuth code
	number int    // AADSTS…
	text   string
}

func noTenant(tenant string) refusal {
	return refusal{http.StatusBadRequest, "invalid_tenant", 90002, fmt.Sprintf("Tenant '%.100s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant)}
}

func missing(parameter string) refusal {
	return refusal{http.StatusBadRequest, "invalid_request", 900144, fmt.Sprintf("The request body must contain the following parameter: '%s'.", parameter)}
}

// refuse writes a refusal in Entra's form, which is not ARM's.
func (s Services) refuse(w http.ResponseWriter, r *http.Request, e refusal) (int, any, error) {
	trace, now := w.Header().Get("x-ms-request-id"), s.Now().UTC().Format("2006-01-02 15:04:05Z")
	correlation := arm.Query(r, "client-request-id")
	if _, err := uuid.Parse(correlation); err != nil {
		correlation = trace
	}
	return e.status, map[string]any{
		"error":             e.error,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", e.number, e.text, trace, correlation, now),
		"error_codes":       []int{e.number},
		"timestamp":         now,
		"trace_id":          trace,
		"correlation_id":    correlation,
		"error_uri":         fmt.Sprintf("%s/error?code=%d", arm.HostsOf(r).Login(), e.number),
	}, nil
}

// token answers both versions of the endpoint. What differs between them is
// asked by parameter, not by path: SDK v1 sends the newer form to the older
// path.
func (s Services) token(w http.ResponseWriter, r *http.Request) (int, any, error) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	if tenant := r.PathValue("tenant"); !s.known(tenant) {
		return s.refuse(w, r, noTenant(tenant))
	}
	form, bad, err := readForm(r)
	if err != nil {
		return 0, nil, err
	}
	if bad != nil {
		return s.refuse(w, r, *bad)
	}
	if g := form.Get("grant_type"); g == grantDevice || g == "device_code" || g == grantRefresh {
		return s.person(w, r, form)
	}
	audience, bad := s.admit(form)
	if bad != nil {
		return s.refuse(w, r, *bad)
	}
	id := form.Get("client_id")
	who, err := s.Clients.Check(r.Context(), s.Tenant, id, form.Get("client_secret"))
	switch fault.KindOf(err) {
	case fault.NotFound:
		return s.refuse(w, r, refusal{http.StatusBadRequest, "unauthorized_client", 700016,
			fmt.Sprintf("Application with identifier '%.100s' was not found in the directory '%s'. This can happen if the application has not been installed by the administrator of the tenant.", id, s.Tenant)})
	case fault.Unauthorized:
		return s.refuse(w, r, refusal{http.StatusUnauthorized, "invalid_client", 7000215,
			fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%.100s'.", id)})
	}
	if err != nil {
		return 0, nil, fmt.Errorf("check the client %.100q: %w", id, err)
	}
	return s.issue(r, form, who, audience)
}

// readForm reads the parameters, with the client's id and secret from HTTP
// Basic where they are not in the form.
func readForm(r *http.Request) (url.Values, *refusal, error) {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if t, _, err := mime.ParseMediaType(ct); err != nil || t != "application/x-www-form-urlencoded" {
			return nil, &refusal{http.StatusBadRequest, "invalid_request", 900561, "The endpoint only accepts requests with the content type 'application/x-www-form-urlencoded'."}, nil
		}
	}
	b, err := arm.ReadBody(r, maxForm)
	if err != nil {
		return nil, nil, err
	}
	form, err := url.ParseQuery(string(b))
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, "invalid_request", 900971, "The request body is not a form."}, nil
	}
	if user, password, ok := r.BasicAuth(); ok {
		id, err := url.QueryUnescape(user) // RFC 6749 §2.3.1
		secret, err2 := url.QueryUnescape(password)
		if err != nil || err2 != nil {
			return nil, &refusal{http.StatusUnauthorized, "invalid_client", 7000215, "The 'Authorization' header does not hold a form-encoded client id and secret."}, nil
		}
		if was := form.Get("client_id"); was != "" && was != id {
			return nil, &refusal{http.StatusBadRequest, "invalid_request", 90023, "The client id of the 'Authorization' header is not that of the request body."}, nil
		}
		form.Set("client_id", id)
		form.Set("client_secret", secret)
	}
	return form, nil, nil
}

// admit checks all but who asks, and returns the audience asked for.
func (s Services) admit(form url.Values) (string, *refusal) {
	for _, name := range []string{"grant_type", "client_id"} {
		if form.Get(name) == "" {
			return "", new(missing(name))
		}
	}
	if g := form.Get("grant_type"); g != grantClientCredentials {
		return "", &refusal{http.StatusBadRequest, "unsupported_grant_type", 70003, fmt.Sprintf("The app requested an unsupported grant type '%.100s'. Ebb has: %s.", g, strings.Join(grants, ", "))}
	}
	if form.Get("client_secret") == "" {
		if form.Get("client_assertion") != "" {
			return "", &refusal{http.StatusBadRequest, "invalid_request", 7000216, "Client certificates and federated credentials are not part of Ebb yet. Use 'client_secret'."}
		}
		return "", &refusal{http.StatusUnauthorized, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."}
	}
	audience := form.Get("resource")
	if scope := form.Get("scope"); audience == "" && scope != "" {
		var ok bool
		if audience, ok = resourceOf(scope); !ok {
			return "", &refusal{http.StatusBadRequest, "invalid_scope", 1002012, fmt.Sprintf("The provided value for scope %.200q is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", scope)}
		}
	}
	if audience == "" {
		return "", new(missing("scope"))
	}
	if !plausible(audience) {
		return "", new(badAudience)
	}
	return audience, nil
}

var badAudience = refusal{http.StatusBadRequest, "invalid_resource", 500011, "The resource principal is longer than any that is known, or has characters that none has."}

// plausible reports whether a token can be made for an audience.
func plausible(audience string) bool {
	return audience != "" && len(audience) <= maxAudience && !strings.ContainsFunc(audience, func(r rune) bool { return r <= ' ' || r > '~' })
}

// resourceOf returns the one resource that a scope names. The scopes of OpenID
// Connect mean nothing for an application, but MSAL for Go sends them along.
func resourceOf(scope string) (string, bool) {
	all := slices.DeleteFunc(strings.Fields(scope), func(s string) bool {
		return s == "openid" || s == "profile" || s == "email" || s == "offline_access"
	})
	if len(all) != 1 {
		return "", false
	}
	return strings.CutSuffix(all[0], "/.default")
}

func (s Services) issue(r *http.Request, form url.Values, who access.Principal, audience string) (int, any, error) {
	tok, exp, err := s.sign(r, who, audience)
	if err != nil {
		return 0, nil, err
	}
	seconds := int64(s.Life.Seconds())
	body := map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": tok}
	if form.Get("resource") != "" { // the older form has numbers as text
		text := func(n int64) string { return strconv.FormatInt(n, 10) }
		body["expires_in"], body["ext_expires_in"] = text(seconds), text(seconds)
		body["expires_on"], body["not_before"], body["resource"] = text(exp.Unix()), text(s.Now().Unix()), audience
	}
	return http.StatusOK, body, nil
}

// sign makes an access token.
func (s Services) sign(r *http.Request, who access.Principal, audience string) (string, time.Time, error) {
	now := s.Now()
	exp := now.Add(s.Life)
	claims := map[string]any{
		"aud": audienceOf(r, audience), "iss": issuerOf(r, s.Tenant), "iat": now.Unix(), "nbf": now.Unix(), "exp": exp.Unix(),
		"appid": who.App, "appidacr": "1", "app_displayname": who.Name, "idp": issuerOf(r, s.Tenant), "idtyp": "app",
		"oid": who.ID, "sub": who.ID, "tid": s.Tenant, "uti": uuid.NewString(), "ver": "1.0",
	}
	if who.Kind == access.User {
		claims["idtyp"], claims["appidacr"], claims["scp"] = "user", "0", "user_impersonation"
		claims["name"], claims["unique_name"], claims["upn"] = who.Name, who.UserName(), who.UserName()
	}
	tok, err := s.Keys.Sign(claims)
	return tok, exp, err
}

// audienceOf is what a token is made for. A server may be reached by names
// that it does not know, through a forwarded port for one: asked for the very
// host that the request came by, it makes the token for Resource Manager.
func audienceOf(r *http.Request, asked string) string {
	u, err := url.Parse(asked)
	if err == nil && u.Scheme == "https" && strings.EqualFold(u.Host, r.Host) && strings.Trim(u.Path, "/") == "" {
		return armAudience
	}
	return asked
}
