package login

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	grantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
	grantRefresh = "refresh_token"
	// interval is how often clients are asked to look whether they are approved, in seconds.
	interval = 1
	// refreshLife is how long a sign-in lasts that is used: Entra's.
	refreshLife = 90 * 24 * time.Hour
	// refreshAudience keeps a refresh token from passing for an access token.
	refreshAudience = "ebb/refresh"
	refreshIssuer   = "ebb"
	devicePath      = "/devicelogin"
	// mostCode is longer than any device code, in bytes.
	mostCode = 256
)

// Devices keeps the sign-ins that wait for a person.
type Devices interface {
	BeginDevice(ctx context.Context) (workspaces.Device, error)
	TakeDevice(ctx context.Context, code string) (access.Principal, error)
	ApproveDevice(ctx context.Context, p access.Principal, user string) error
	Known(ctx context.Context, clientID, mark string) (access.Principal, error)
	Mark(ctx context.Context, clientID string) (string, error)
}

func registerDevice(reg arm.Registrar, s Services) {
	reg.Public("GET "+devicePath, s.page)
	reg.Public("POST "+devicePath, s.approve)
	reg.Handle("POST /ebb/v1/login/device", s.approveByToken)
}

// devicecode begins a sign-in that a person approves elsewhere (RFC 8628).
func (s Services) devicecode(w http.ResponseWriter, r *http.Request) (int, any, error) {
	w.Header().Set("Cache-Control", "no-store")
	if tenant := r.PathValue("tenant"); !s.known(tenant) {
		return s.refuse(w, r, noTenant(tenant))
	}
	form, bad, err := readForm(r)
	if err != nil {
		return 0, nil, err
	}
	if bad == nil && form.Get("client_id") == "" {
		bad = new(missing("client_id"))
	}
	if bad != nil {
		return s.refuse(w, r, *bad)
	}
	d, err := s.Devices.BeginDevice(r.Context())
	if err != nil {
		return 0, nil, err
	}
	page := arm.HostsOf(r).Login() + devicePath
	if arm.HostsOf(r).Own() == "" { // a browser is not led: it would ask Microsoft
		page = s.URL + devicePath
	}
	seconds := int(d.Expires.Sub(s.Now()).Seconds())
	return http.StatusOK, map[string]any{
		"device_code": d.Code, "user_code": d.User, "verification_uri": page, "verification_url": page, "verification_uri_complete": page + "?code=" + d.User,
		"expires_in": seconds, "interval": interval,
		"message": fmt.Sprintf("To sign in, use a web browser to open the page %s and enter the code %s to authenticate, or run: ebb device approve %s", page, d.User, d.User),
	}, nil
}

// person answers the grants of those who signed in as a person.
func (s Services) person(w http.ResponseWriter, r *http.Request, form url.Values) (int, any, error) {
	who, mark, bad, err := s.signedIn(r, form)
	if err != nil {
		return 0, nil, err
	}
	if bad != nil {
		return s.refuse(w, r, *bad)
	}
	audience := form.Get("resource")
	if audience == "" {
		audience = armAudience
		for _, scope := range strings.Fields(form.Get("scope")) {
			if at := strings.LastIndexByte(scope, '/'); at > len("https://") { // the last part is a permission: .default, user_impersonation
				audience = scope[:at]
			}
		}
	}
	if !plausible(audience) {
		return s.refuse(w, r, badAudience)
	}
	status, body, err := s.issue(r, form, who, audience)
	if err != nil {
		return status, body, err
	}
	answer, _ := body.(map[string]any)
	return http.StatusOK, answer, s.addPerson(r, form, who, mark, answer)
}

// signedIn returns whose grant a form holds, and the mark of the secret that it is
// good as long as.
func (s Services) signedIn(r *http.Request, form url.Values) (_ access.Principal, mark string, _ *refusal, _ error) {
	if form.Get("grant_type") == grantRefresh {
		return s.refreshed(r, form.Get("refresh_token"))
	}
	code := form.Get("device_code")
	if code == "" {
		code = form.Get("code") // the older form
	}
	if code == "" {
		return access.Principal{}, "", new(missing("device_code")), nil
	}
	if len(code) > mostCode { // none that was given, and nothing to remember
		return access.Principal{}, "", new(badCode), nil
	}
	if s.polls.tooOften(code, s.Now()) {
		return access.Principal{}, "", &refusal{http.StatusBadRequest, "slow_down", 70016, fmt.Sprintf("OAuth 2.0 device flow error. Ask every %d seconds.", interval)}, nil
	}
	who, err := s.Devices.TakeDevice(r.Context(), code)
	switch fault.KindOf(err) {
	case fault.Conflict:
		return who, "", &refusal{http.StatusBadRequest, "authorization_pending", 70016, "OAuth 2.0 device flow error. Authorization is pending. Continue polling."}, nil
	case fault.Precondition:
		return who, "", &refusal{http.StatusBadRequest, "expired_token", 70020, "The provided value for the input parameter 'device_code' has expired. Sign in again."}, nil
	case fault.NotFound:
		return who, "", new(badCode), nil
	}
	if err == nil {
		mark, err = s.Devices.Mark(r.Context(), who.App)
	}
	return who, mark, nil, err
}

var badCode = refusal{http.StatusBadRequest, "bad_verification_code", 70019, "The device code is not one that this server gave, or was used before."}

// refreshed returns whom a refresh token was made for, while the client that
// approved it is there, with the secret that it had.
func (s Services) refreshed(r *http.Request, tok string) (_ access.Principal, mark string, _ *refusal, _ error) {
	if tok == "" {
		return access.Principal{}, "", new(missing("refresh_token")), nil
	}
	refused := &refusal{http.StatusBadRequest, "invalid_grant", 700082, "The refresh token is not valid any more. Sign in again."}
	claims, err := s.Keys.Verify(tok, []string{refreshAudience}, s.Now())
	if err != nil || claims.String("iss") != refreshIssuer { // an access token may be asked for with any audience
		return access.Principal{}, "", refused, nil
	}
	mark = claims.String("sec") // the next token has it too: a sign-in is not renewed for ever
	who, err := s.Devices.Known(r.Context(), claims.String("appid"), mark)
	if fault.KindOf(err) == fault.NotFound {
		return access.Principal{}, "", refused, nil
	}
	who.Kind = access.User
	return who, mark, nil, err
}

// addPerson adds what MSAL wants to know of a person.
func (s Services) addPerson(r *http.Request, form url.Values, who access.Principal, mark string, answer map[string]any) error {
	now := s.Now()
	refresh, err := s.Keys.Sign(map[string]any{
		"aud": refreshAudience, "iss": refreshIssuer, "iat": now.Unix(), "exp": now.Add(refreshLife).Unix(), "oid": who.ID, "appid": who.App, "tid": s.Tenant, "sec": mark, "uti": uuid.NewString(),
	})
	if err != nil {
		return err
	}
	id, err := s.Keys.Sign(map[string]any{
		"aud": form.Get("client_id"), "iss": arm.HostsOf(r).Login() + "/" + s.Tenant + "/v2.0", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(s.Life).Unix(),
		"oid": who.ID, "sub": who.ID, "tid": s.Tenant, "name": who.Name, "preferred_username": who.UserName(), "uti": uuid.NewString(), "ver": "2.0",
	})
	if err != nil {
		return err
	}
	info, err := json.Marshal(map[string]string{"uid": who.ID, "utid": s.Tenant})
	if err != nil {
		return fmt.Errorf("encode client_info: %w", err)
	}
	answer["refresh_token"], answer["id_token"], answer["client_info"] = refresh, id, base64.RawURLEncoding.EncodeToString(info)
	answer["scope"] = form.Get("scope")
	return nil
}

//go:embed device.html
var deviceHTML string

// devicePage shows a form, or one sentence.
var devicePage = template.Must(template.New("device").Parse(deviceHTML))

type pageData struct{ Code, Client, Said, Problem string }

func (s Services) show(w http.ResponseWriter, status int, d pageData) (int, any, error) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = devicePage.Execute(w, d) // what cannot be written any more is the client's loss
	return 0, nil, nil
}

func (s Services) page(w http.ResponseWriter, r *http.Request) (int, any, error) {
	return s.show(w, http.StatusOK, pageData{Code: arm.Query(r, "code")})
}

// approve takes the form: the code, and a client's id and secret as a proof. As
// the secret is in each form, no other site can send one for a person.
func (s Services) approve(w http.ResponseWriter, r *http.Request) (int, any, error) {
	form, bad, err := readForm(r)
	if err != nil {
		return 0, nil, err
	}
	if bad != nil {
		return s.show(w, bad.status, pageData{Problem: bad.text})
	}
	d := pageData{Code: form.Get("user_code"), Client: form.Get("client_id")}
	who, err := s.Clients.Check(r.Context(), s.Tenant, d.Client, form.Get("client_secret"))
	switch fault.KindOf(err) {
	case fault.NotFound, fault.Unauthorized:
		d.Problem = "The client id and secret do not belong together. Both are in client.json."
		return s.show(w, http.StatusUnauthorized, d)
	}
	if err == nil {
		err = s.Devices.ApproveDevice(r.Context(), who, d.Code)
	}
	switch {
	case fault.KindOf(err) == fault.NotFound:
		d.Problem = err.Error()
		return s.show(w, http.StatusNotFound, d)
	case err != nil:
		return 0, nil, err
	}
	return s.show(w, http.StatusOK, pageData{Said: "Signed in as " + who.Name + ". You can close this page."})
}

// approveByToken is "ebb device approve".
func (s Services) approveByToken(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var body struct {
		Code string `json:"code"`
	}
	if err := arm.ReadJSON(r, &body); err != nil {
		return 0, nil, err
	}
	who := arm.Caller(r.Context())
	if err := s.Devices.ApproveDevice(r.Context(), who, body.Code); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]string{"as": who.Name}, nil
}
