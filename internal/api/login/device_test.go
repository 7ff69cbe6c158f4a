package login_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/login"
	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
)

// azClient is the id that az signs in with.
const azClient = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

// house is the routes on the real use-cases, with a clock that is set by hand.
type house struct {
	bench
	t      *testing.T
	client workspaces.Client
	clock  *atomic.Int64
	ws     *workspaces.Service
}

func newHouse(t *testing.T) *house {
	t.Helper()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, clock: &atomic.Int64{}}
	at := func() time.Time { return now.Add(time.Duration(h.clock.Load())) }
	var n atomic.Int64
	ws := &workspaces.Service{Store: &apptest.Store{}, Now: at, NewID: func() string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n.Add(1)) }, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if h.client, err = ws.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := login.NewVerifier(k, h.client.TenantID, []string{"https://" + own}, at)
	rt := &arm.Router{Auth: v, Tenant: h.client.TenantID, Log: ws.Log}
	login.Register(rt, login.Services{Tenant: h.client.TenantID, URL: "https://" + own, Clients: ws, Devices: ws, Keys: k, Now: at})
	h.bench, h.ws = bench{rt, k, v}, ws
	return h
}

func (h *house) form(path string, v url.Values) (int, map[string]any) {
	h.t.Helper()
	w := h.ask(post(path, v), own)
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		h.t.Fatalf("%s is answered %d %s", path, w.Code, w.Body)
	}
	return w.Code, doc
}

func (h *house) begin() (device, user string) {
	h.t.Helper()
	code, doc := h.form("/organizations/oauth2/v2.0/devicecode", url.Values{"client_id": {azClient}, "scope": {"https://" + own + "//.default offline_access openid profile"}})
	if code != 200 || doc["verification_uri"] != "https://"+own+"/devicelogin" || doc["expires_in"] != 900.0 || doc["message"] == "" {
		h.t.Fatalf("the device endpoint answers %d %v", code, doc)
	}
	return doc["device_code"].(string), doc["user_code"].(string)
}

// poll asks as often as a client does.
func (h *house) poll(device string) (int, map[string]any) {
	h.clock.Add(int64(time.Second))
	return h.form("/organizations/oauth2/v2.0/token", url.Values{"client_id": {azClient}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device}, "client_info": {"1"},
		"scope": {"https://" + own + "//.default offline_access openid profile"}})
}

func TestDeviceCode(t *testing.T) {
	t.Parallel()
	byPage := func(h *house, user string) {
		w := h.ask(httptest.NewRequest("GET", "/devicelogin?code="+user, nil), own)
		if w.Code != 200 || !strings.Contains(w.Body.String(), `value="`+user+`"`) || !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			h.t.Errorf("the page is %d %s", w.Code, w.Body)
		}
		typed := strings.ToLower(user[:4] + "-" + user[4:])
		for secret, want := range map[string]int{"wrong": 401, h.client.Secret: 200} {
			w := h.ask(post("/devicelogin", url.Values{"user_code": {typed}, "client_id": {h.client.ClientID}, "client_secret": {secret}}), own)
			if w.Code != want || strings.Contains(w.Body.String(), secret) {
				h.t.Errorf("the form with %q is answered %d %s", secret, w.Code, w.Body)
			}
		}
	}
	byToken := func(h *house, user string) {
		_, doc := h.form("/"+h.client.TenantID+"/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {h.client.ClientID}, "client_secret": {h.client.Secret}, "scope": {"https://" + own + "/.default"}})
		r := httptest.NewRequest("POST", "/ebb/v1/login/device", strings.NewReader(`{"code":"`+user+`"}`))
		r.Header.Set("Authorization", "Bearer "+doc["access_token"].(string))
		if w := h.ask(r, own); w.Code != 200 {
			h.t.Errorf("approving is answered %d %s", w.Code, w.Body)
		}
	}
	for name, approve := range map[string]func(*house, string){"on the page": byPage, "by ebb device approve": byToken} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			device, user := h.begin()
			if code, doc := h.poll(device); code != 400 || doc["error"] != "authorization_pending" {
				t.Errorf("before anybody approved: %d %v", code, doc)
			}
			approve(h, user)
			code, doc := h.poll(device)
			if code != 200 {
				t.Fatalf("approved: %d %v", code, doc)
			}
			who, err := h.verifier.Verify(doc["access_token"].(string))
			if err != nil || who.Kind != access.User || who.ID != h.client.ObjectID {
				t.Errorf("the token is %+v, %v", who, err)
			}
			id := claimsOf(t, doc["id_token"].(string))
			if id["aud"] != azClient || id["tid"] != h.client.TenantID || id["preferred_username"] == "" || id["iss"] != "https://"+own+"/"+h.client.TenantID+"/v2.0" {
				t.Errorf("the id token says %v", id)
			}
			info, err := base64.RawURLEncoding.DecodeString(doc["client_info"].(string))
			if err != nil || !strings.Contains(string(info), `"utid":"`+h.client.TenantID) {
				t.Errorf("client_info is %s, %v", info, err)
			}
			if code, doc := h.poll(device); doc["error"] != "bad_verification_code" {
				t.Errorf("a code that was used is answered %d %v", code, doc)
			}
			h.refresh(doc["refresh_token"].(string))
		})
	}
}

// refresh renews a sign-in, for another audience too.
func (h *house) refresh(tok string) {
	h.t.Helper()
	ask := func(tok string) (int, map[string]any) {
		return h.form("/"+h.client.TenantID+"/oauth2/v2.0/token", url.Values{"client_id": {azClient}, "grant_type": {"refresh_token"}, "refresh_token": {tok}, "scope": {"https://graph.microsoft.com//.default offline_access"}})
	}
	code, doc := ask(tok)
	if code != 200 || doc["refresh_token"] == nil {
		h.t.Fatalf("a refresh is answered %d %v", code, doc)
	}
	if aud := claimsOf(h.t, doc["access_token"].(string))["aud"]; aud != "https://graph.microsoft.com/" {
		h.t.Errorf("the token is for %v", aud)
	}
	if _, err := h.verifier.Verify(tok); err == nil {
		h.t.Error("a refresh token passes for an access token")
	}
	for _, bad := range []string{"", "x", doc["access_token"].(string)} {
		if code, doc := ask(bad); code != 400 {
			h.t.Errorf("refreshing with %.20q is answered %d %v", bad, code, doc)
		}
	}
	h.clock.Add(int64(91 * 24 * time.Hour))
	if code, doc := ask(tok); doc["error"] != "invalid_grant" {
		h.t.Errorf("a refresh after three months is answered %d %v", code, doc)
	}
}

// TestASignInEndsWithTheSecretBehindIt: as long as the secret works by which it was
// approved, and no longer, however often it is renewed.
func TestASignInEndsWithTheSecretBehindIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	device, user := h.begin()
	if w := h.ask(post("/devicelogin", url.Values{"user_code": {user}, "client_id": {h.client.ClientID}, "client_secret": {h.client.Secret}}), own); w.Code != 200 {
		t.Fatalf("approving it: %d %s", w.Code, w.Body)
	}
	_, doc := h.poll(device)
	tok, _ := doc["refresh_token"].(string)
	renew := func() (int, map[string]any) {
		return h.form("/"+h.client.TenantID+"/oauth2/v2.0/token", url.Values{"client_id": {azClient}, "grant_type": {"refresh_token"}, "refresh_token": {tok}})
	}
	for made, want := range []int{200, 200, 400} { // the secret before the newest works too
		code, doc := renew()
		if code != want || want == 400 && doc["error"] != "invalid_grant" {
			t.Fatalf("after %d new secrets: %d %v, want %d", made, code, doc, want)
		}
		if want == 200 {
			tok = doc["refresh_token"].(string)
		}
		if _, err := h.ws.NewSecret(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeviceCodeEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	device, user := h.begin()
	h.poll(device)
	h.clock.Add(-int64(time.Second)) // so that the next poll comes at the same moment
	if code, doc := h.poll(device); code != 400 || doc["error"] != "slow_down" {
		t.Errorf("asked twice at once: %d %v", code, doc)
	}
	h.clock.Add(int64(16 * time.Minute))
	if code, doc := h.poll(device); code != 400 || doc["error"] != "expired_token" {
		t.Errorf("after its time: %d %v", code, doc)
	}
	w := h.ask(post("/devicelogin", url.Values{"user_code": {user}, "client_id": {h.client.ClientID}, "client_secret": {h.client.Secret}}), own)
	if w.Code != 404 {
		t.Errorf("approving it late is answered %d %s", w.Code, w.Body)
	}
	if code, doc := h.poll("x"); doc["error"] != "bad_verification_code" {
		t.Errorf("a code of nobody's: %d %v", code, doc)
	}
	for range 2 { // what cannot be a code is not remembered: it could be of any length
		h.clock.Add(-int64(time.Second))
		if code, doc := h.poll(strings.Repeat("x", 60_000)); doc["error"] != "bad_verification_code" {
			t.Errorf("a code as long as a form: %d %v", code, doc)
		}
	}
}

// TestRefreshNeedsARefreshToken asks for an access token with the audience of those.
func TestRefreshNeedsARefreshToken(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, doc := h.form("/"+h.client.TenantID+"/oauth2/token", url.Values{"client_id": {h.client.ClientID}, "client_secret": {h.client.Secret}, "grant_type": {"client_credentials"}, "resource": {"ebb/refresh"}})
	tok, _ := doc["access_token"].(string)
	if tok == "" {
		t.Fatalf("there is no token: %v", doc)
	}
	code, doc := h.form("/"+h.client.TenantID+"/oauth2/v2.0/token", url.Values{"client_id": {azClient}, "grant_type": {"refresh_token"}, "refresh_token": {tok}})
	if code != 400 || doc["error"] != "invalid_grant" {
		t.Errorf("it refreshes: %d %v", code, doc)
	}
}

func TestManagedIdentity(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	key := h.client.ClientID + ":" + h.client.Secret
	const imds = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com/"
	for name, c := range map[string]struct {
		path   string
		header []string
		status int
	}{
		"App Service":              {"/msi/token?api-version=2019-08-01&resource=https://management.azure.com/", []string{"X-IDENTITY-HEADER", key}, 200},
		"with its client id":       {"/msi/token?api-version=2019-08-01&resource=https://management.azure.com/&client_id=" + h.client.ClientID, []string{"X-IDENTITY-HEADER", key}, 200},
		"a compute":                {"/msi/token?api-version=2017-09-01&resource=https://management.azure.com/", []string{"Secret", key}, 200},
		"the machine's, by path":   {"/imds/" + key + imds, []string{"Metadata", "true"}, 200},
		"the machine's, by header": {imds, []string{"Metadata", "true", "X-IDENTITY-HEADER", key}, 200},
		"no secret":                {"/msi/token?resource=https://management.azure.com/", nil, 401},
		"a wrong secret":           {"/msi/token?resource=https://management.azure.com/", []string{"X-IDENTITY-HEADER", key + "x"}, 401},
		"the machine's, by nobody": {imds, []string{"Metadata", "true"}, 401},
		"without Metadata":         {"/imds/" + key + imds, nil, 400},
		"forwarded":                {"/imds/" + key + imds, []string{"Metadata", "true", "X-Forwarded-For", "10.0.0.1"}, 400},
		"no resource":              {"/msi/token", []string{"X-IDENTITY-HEADER", key}, 400},
		"another identity":         {"/msi/token?resource=https://management.azure.com/&client_id=" + app, []string{"X-IDENTITY-HEADER", key}, 400},
	} {
		r := httptest.NewRequest("GET", c.path, nil)
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		w := h.ask(r, own)
		if w.Code != c.status || strings.Contains(w.Body.String(), h.client.Secret) {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, c.status)
			continue
		}
		var got struct {
			Token   string `json:"access_token"`
			Expires string `json:"expires_on"`
			Problem string `json:"error"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || (c.status == 200) == (got.Problem != "") {
			t.Errorf("%s: %v, %s", name, err, w.Body)
		}
		if c.status == 200 {
			if who, err := h.verifier.Verify(got.Token); err != nil || who.ID != h.client.ObjectID || got.Expires == "" {
				t.Errorf("%s gives %+v, %v", name, who, err)
			}
		}
	}
}
