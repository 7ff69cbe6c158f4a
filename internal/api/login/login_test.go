package login_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/login"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

const (
	tenant = "aaaaaaaa-0000-4000-8000-000000000001"
	app    = "bbbbbbbb-0000-4000-8000-000000000002"
	secret = "s3cret+/& of some length"
	own    = "localhost:8443"
	azure  = "login.microsoftonline.com"
	object = "cccccccc-0000-4000-8000-000000000003"
)

var now = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

var keys = sync.OnceValues(func() (*token.Keys, error) {
	dir, err := os.MkdirTemp("", "ebb-login-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return token.Open(dir)
})

// broken is a store that cannot answer.
type broken struct{}

func (broken) Check(context.Context, string, string, string) (access.Principal, error) {
	return access.Principal{}, errors.New("disk on fire")
}

type bench struct {
	*arm.Router
	keys     *token.Keys
	verifier *login.Verifier
}

func boot(t *testing.T, clients login.Clients) bench {
	t.Helper()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	if clients == nil {
		clients = login.Fixed{app: {Principal: access.Principal{ID: object, App: app, Name: "local", Tenant: tenant, Kind: access.Application}, SecretHash: login.HashSecret(secret)}}
	}
	at := func() time.Time { return now }
	v := login.NewVerifier(k, tenant, []string{"https://" + own}, at)
	rt := &arm.Router{Auth: v, Tenant: tenant, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	login.Register(rt, login.Services{Tenant: tenant, Clients: clients, Keys: k, Now: at})
	rt.Handle("GET /subscriptions", func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		return http.StatusOK, arm.Caller(r.Context()), nil
	})
	return bench{rt, k, v}
}

func (b bench) ask(r *http.Request, host string) *httptest.ResponseRecorder {
	r.Host = host
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

func (b bench) get(t *testing.T, host, path string) (int, map[string]any) {
	t.Helper()
	w := b.ask(httptest.NewRequest("GET", path, nil), host)
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatalf("GET %s = %d %s", path, w.Code, w.Body)
	}
	return w.Code, doc
}

func form(change map[string]string) url.Values {
	v := url.Values{"grant_type": {"client_credentials"}, "client_id": {app}, "client_secret": {secret}, "scope": {"https://management.azure.com//.default"}, "client_info": {"1"}}
	for k, s := range change {
		if v.Set(k, s); s == "" {
			v.Del(k)
		}
	}
	return v
}

func post(path string, v url.Values) *http.Request {
	r := httptest.NewRequest("POST", path, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return r
}

func claimsOf(t *testing.T, tok string) map[string]any {
	t.Helper()
	part := strings.Split(tok, ".")
	if len(part) != 3 {
		t.Fatalf("%q is no token", tok)
	}
	b, err := base64.RawURLEncoding.DecodeString(part[1])
	var c map[string]any
	if err != nil || json.Unmarshal(b, &c) != nil {
		t.Fatalf("%q holds no claims", tok)
	}
	return c
}

func TestTokens(t *testing.T) {
	t.Parallel()
	basic := func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(app), url.QueryEscape(secret)) }
	for name, c := range map[string]struct {
		host, path string
		change     map[string]string
		header     func(*http.Request)
		aud        string
		old        bool // the answer has the older form
	}{
		"SDK v1 in a custom cloud":          {own, "/adfs/" + tenant + "/oauth2/token", map[string]string{"scope": "https://" + own + "/.default"}, nil, "https://management.azure.com/", false},
		"with a slash too many":             {own, "/adfs/" + tenant + "/oauth2/token", map[string]string{"scope": "https://" + own + "//.default"}, nil, "https://management.azure.com/", false},
		"a tenant that is only called adfs": {own, "/adfs/oauth2/token", nil, nil, "https://management.azure.com/", false},
		"az after the trick for SDK v1":     {own, "/adfs/aad/" + tenant + "/oauth2/token", nil, nil, "https://management.azure.com/", false},
		"through ebb exec":                  {azure, "/" + tenant + "/oauth2/v2.0/token", nil, nil, "https://management.azure.com/", false},
		"a tenant in another case":          {azure, "/" + strings.ToUpper(tenant) + "/oauth2/v2.0/token?client-request-id=x", nil, nil, "https://management.azure.com/", false},
		"organizations":                     {azure, "/organizations/oauth2/v2.0/token", nil, nil, "https://management.azure.com/", false},
		"any scope":                         {own, "/" + tenant + "/oauth2/v2.0/token", map[string]string{"scope": "https://ml.azure./.default"}, nil, "https://ml.azure.", false},
		"MSAL for Go, with OpenID's scopes": {azure, "/" + tenant + "/oauth2/v2.0/token", map[string]string{"scope": "https://management.azure.com/.default openid offline_access profile"}, nil, "https://management.azure.com", false},
		"the older form":                    {azure, "/" + tenant + "/oauth2/token", map[string]string{"scope": "", "resource": "https://management.core.windows.net/"}, nil, "https://management.core.windows.net/", true},
		"HTTP Basic":                        {azure, "/" + tenant + "/oauth2/v2.0/token", map[string]string{"client_id": "", "client_secret": ""}, basic, "https://management.azure.com/", false},
		"a client id in upper case":         {azure, "/" + tenant + "/oauth2/v2.0/token", map[string]string{"client_id": strings.ToUpper(app)}, nil, "https://management.azure.com/", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := boot(t, nil)
			r := post(c.path, form(c.change))
			if c.header != nil {
				c.header(r)
			}
			w := b.ask(r, c.host)
			var got struct {
				TokenType string          `json:"token_type"`
				Expires   json.RawMessage `json:"expires_in"`
				ExpiresOn string          `json:"expires_on"`
				Token     string          `json:"access_token"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got.TokenType != "Bearer" {
				t.Fatalf("the answer is %d %s", w.Code, w.Body)
			}
			if want := map[bool]string{false: "3600", true: `"3600"`}[c.old]; string(got.Expires) != want || c.old != (got.ExpiresOn == fmt.Sprint(now.Add(time.Hour).Unix())) {
				t.Errorf("the times in %s are not of the form asked for", w.Body)
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Error("a token may be cached on its way")
			}
			claims := claimsOf(t, got.Token)
			for k, want := range map[string]any{"aud": c.aud, "tid": tenant, "oid": object, "sub": object, "appid": app, "idtyp": "app", "ver": "1.0", "exp": float64(now.Add(time.Hour).Unix())} {
				if claims[k] != want {
					t.Errorf("the claim %s is %v, want %v", k, claims[k], want)
				}
			}
			who, err := b.verifier.Verify(got.Token)
			if want := (access.Principal{ID: object, App: app, Name: "local", Tenant: tenant, Kind: access.Application}); err != nil || who != want {
				t.Errorf("the token is %+v, %v, want %+v", who, err, want)
			}
			r = httptest.NewRequest("GET", "/subscriptions", nil)
			r.Header.Set("Authorization", "Bearer "+got.Token)
			if w := b.ask(r, c.host); w.Code != 200 || !strings.Contains(w.Body.String(), object) {
				t.Errorf("used, it is answered %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestTokenRefusals(t *testing.T) {
	t.Parallel()
	path := "/" + tenant + "/oauth2/v2.0/token"
	for name, c := range map[string]struct {
		path   string
		change map[string]string
		header func(*http.Request)
		status int
		code   string
		number int
	}{
		"a wrong secret":             {path, map[string]string{"client_secret": "wrong"}, nil, 401, "invalid_client", 7000215},
		"a hash for a secret":        {path, map[string]string{"client_secret": login.HashSecret(secret)}, nil, 401, "invalid_client", 7000215},
		"no secret":                  {path, map[string]string{"client_secret": ""}, nil, 401, "invalid_client", 7000218},
		"a certificate":              {path, map[string]string{"client_secret": "", "client_assertion": "x.y.z"}, nil, 400, "invalid_request", 7000216},
		"an unknown client":          {path, map[string]string{"client_id": object}, nil, 400, "unauthorized_client", 700016},
		"no client":                  {path, map[string]string{"client_id": ""}, nil, 400, "invalid_request", 900144},
		"no grant":                   {path, map[string]string{"grant_type": ""}, nil, 400, "invalid_request", 900144},
		"another grant":              {path, map[string]string{"grant_type": "password"}, nil, 400, "unsupported_grant_type", 70003},
		"no scope":                   {path, map[string]string{"scope": ""}, nil, 400, "invalid_request", 900144},
		"a scope that is no app's":   {path, map[string]string{"scope": "https://management.azure.com/user"}, nil, 400, "invalid_scope", 1002012},
		"two scopes":                 {path, map[string]string{"scope": "https://a/.default https://b/.default"}, nil, 400, "invalid_scope", 1002012},
		"OpenID's scopes alone":      {path, map[string]string{"scope": "openid profile"}, nil, 400, "invalid_scope", 1002012},
		"a resource with a line end": {path, map[string]string{"scope": "", "resource": "a\r\nb"}, nil, 400, "invalid_resource", 500011},
		"a scope of nothing":         {path, map[string]string{"scope": "/.default"}, nil, 400, "invalid_request", 900144},
		"a scope without end":        {path, map[string]string{"scope": strings.Repeat("a", 999) + "/.default"}, nil, 400, "invalid_resource", 500011},
		"another tenant":             {"/" + object + "/oauth2/v2.0/token", nil, nil, 400, "invalid_tenant", 90002},
		"another tenant under adfs":  {"/adfs/" + object + "/oauth2/token", nil, nil, 400, "invalid_tenant", 90002},
		"JSON":                       {path, nil, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 400, "invalid_request", 900561},
		"Basic for somebody else":    {path, nil, func(r *http.Request) { r.SetBasicAuth(object, secret) }, 400, "invalid_request", 90023},
		"Basic with a bad escape":    {path, nil, func(r *http.Request) { r.SetBasicAuth("%zz", secret) }, 401, "invalid_client", 7000215},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := post(c.path, form(c.change))
			if c.header != nil {
				c.header(r)
			}
			w := boot(t, nil).ask(r, azure)
			var got struct {
				Error, Error_description, Trace_id, Timestamp string
				Error_codes                                   []int
			}
			err := json.Unmarshal(w.Body.Bytes(), &got)
			if err != nil || w.Code != c.status || got.Error != c.code || len(got.Error_codes) != 1 || got.Error_codes[0] != c.number || got.Trace_id == "" || got.Timestamp != "2026-05-06 07:08:09Z" {
				t.Fatalf("the answer is %d %s, want %d %s %d", w.Code, w.Body, c.status, c.code, c.number)
			}
			if want := fmt.Sprintf("AADSTS%d: ", c.number); !strings.HasPrefix(got.Error_description, want) {
				t.Errorf("%q does not begin with %s", got.Error_description, want)
			}
			if strings.Contains(w.Body.String(), secret) {
				t.Error("the answer repeats the secret")
			}
		})
	}
}

func TestTokenTroubles(t *testing.T) {
	t.Parallel()
	r := post("/"+tenant+"/oauth2/token", form(nil))
	if w := boot(t, broken{}).ask(r, azure); w.Code != 500 || strings.Contains(w.Body.String(), "fire") {
		t.Errorf("with a broken store the answer is %d %s", w.Code, w.Body)
	}
	b := boot(t, nil)
	if w := b.ask(post("/"+tenant+"/oauth2/token", form(map[string]string{"x": strings.Repeat("a", 70000)})), azure); w.Code != 413 {
		t.Errorf("a huge form is answered %d %s", w.Code, w.Body)
	}
	if w := b.ask(httptest.NewRequest("GET", "/"+tenant+"/oauth2/token", nil), azure); w.Code != 405 {
		t.Errorf("GET is answered %d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/common/oauth2/v2.0/authorize", "/adfs/x/oauth2/authorize"} {
		if w := b.ask(httptest.NewRequest("POST", path, nil), azure); w.Code != 400 || !strings.Contains(w.Body.String(), "NotImplemented") {
			t.Errorf("%s is answered %d %s", path, w.Code, w.Body)
		}
	}
	if _, err := (login.Fixed)(nil).Check(t.Context(), "", "", ""); !errors.Is(err, fault.NotFound) {
		t.Errorf("nobody set up, and Check = %v", err)
	}
}

// TestDiscovery follows each document to where it leads: a client that believes
// it must arrive.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	b := boot(t, nil)
	for path, want := range map[string]struct{ host, issuer, token string }{
		"/" + tenant + "/v2.0/.well-known/openid-configuration?":     {azure, "https://" + azure + "/" + tenant + "/v2.0", "/" + tenant + "/oauth2/v2.0/token"},
		"/common/v2.0/.well-known/openid-configuration":              {azure, "https://" + azure + "/common/v2.0", "/common/oauth2/v2.0/token"},
		"/" + tenant + "/.well-known/openid-configuration":           {azure, "https://sts.windows.net/" + tenant + "/", "/" + tenant + "/oauth2/token"},
		"/" + tenant + "/.well-known/openid-configuration#own":       {own, "https://" + own + "/" + tenant + "/", "/" + tenant + "/oauth2/token"},
		"/" + tenant + "/v2.0/.well-known/openid-configuration#own":  {own, "https://" + own + "/" + tenant + "/v2.0", "/" + tenant + "/oauth2/v2.0/token"},
		"/adfs/" + tenant + "/.well-known/openid-configuration":      {own, "https://" + own + "/adfs/" + tenant, "/adfs/" + tenant + "/oauth2/token"},
		"/adfs/.well-known/openid-configuration":                     {own, "https://" + own + "/adfs", "/adfs/oauth2/token"},
		"/adfs/aad/" + tenant + "/.well-known/openid-configuration":  {own, "https://" + own + "/adfs/aad/" + tenant, "/adfs/aad/" + tenant + "/oauth2/token"},
		"/adfs/" + tenant + "/v2.0/.well-known/openid-configuration": {own, "https://" + own + "/adfs/" + tenant + "/v2.0", "/adfs/" + tenant + "/oauth2/token"},
	} {
		path, _, _ := strings.Cut(path, "#")
		status, doc := b.get(t, want.host, path)
		if status != 200 || doc["issuer"] != want.issuer || doc["token_endpoint"] != "https://"+want.host+want.token {
			t.Errorf("%s on %s = %d %v, want %+v", path, want.host, status, doc, want)
			continue
		}
		at := func(name string) string { return strings.TrimPrefix(doc[name].(string), "https://"+want.host) }
		if w := b.ask(post(at("token_endpoint"), form(nil)), want.host); w.Code != 200 {
			t.Errorf("the token endpoint of %s is answered %d %s", path, w.Code, w.Body)
		}
		if _, set := b.get(t, want.host, at("jwks_uri")); len(set["keys"].([]any)) != 1 {
			t.Errorf("the keys of %s are %v", path, set)
		}
		if w := b.ask(httptest.NewRequest("GET", at("authorization_endpoint"), nil), want.host); !strings.Contains(w.Body.String(), "NotImplemented") {
			t.Errorf("the authorization endpoint of %s is answered %d %s", path, w.Code, w.Body)
		}
		if w := b.ask(post(at("device_authorization_endpoint"), nil), want.host); !strings.Contains(w.Body.String(), "client_id") {
			t.Errorf("the device endpoint of %s is answered %d %s", path, w.Code, w.Body)
		}
	}
	if status, doc := b.get(t, azure, "/"+object+"/v2.0/.well-known/openid-configuration"); status != 400 || doc["error"] != "invalid_tenant" {
		t.Errorf("another tenant's document is %d %v", status, doc)
	}
	status, doc := b.get(t, azure, "/common/discovery/instance?api-version=1.1&authorization_endpoint=x")
	if m, ok := doc["metadata"].([]any); status != 200 || !ok || !strings.Contains(fmt.Sprint(m), "login.windows.net") || doc["tenant_discovery_endpoint"] == nil {
		t.Errorf("instance discovery is %d %v", status, doc)
	}
	if _, doc := b.get(t, own, "/common/discovery/instance"); !strings.Contains(fmt.Sprint(doc["metadata"]), own) {
		t.Errorf("instance discovery on the own host is %v", doc)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	b := boot(t, nil)
	get := func(host, query string) string {
		w := b.ask(httptest.NewRequest("GET", "/metadata/endpoints"+query, nil), host)
		if w.Code != 200 {
			t.Errorf("on %s%s the answer is %d %s", host, query, w.Code, w.Body)
		}
		return strings.TrimSpace(w.Body.String())
	}
	for _, query := range []string{"?api-version=2019-05-01", "?Api-Version=2020-06-01", ""} {
		var list []map[string]any
		if err := json.Unmarshal([]byte(get(own, query)), &list); err != nil || len(list) != 2 {
			t.Fatalf("%s gives no list of both names: %v", query, err)
		}
		for i, name := range []string{"Ebb", "AzureCloud"} {
			c := list[i]
			auth := c["authentication"].(map[string]any)
			if c["name"] != name || c["resourceManager"] != "https://"+own || auth["loginEndpoint"] != "https://"+own+"/adfs/aad" || fmt.Sprint(auth["audiences"]) != "[https://"+own+"]" {
				t.Errorf("%s gives %v", query, c)
			}
			if suffix := c["suffixes"].(map[string]any)["storage"]; suffix != "core.x@"+own {
				t.Errorf("the storage suffix is %v", suffix)
			}
		}
	}
	for _, query := range []string{"?api-version=2022-09-01", "?api-version=2031-01-01"} {
		var c map[string]any
		if err := json.Unmarshal([]byte(get(own, query)), &c); err != nil || c["authentication"].(map[string]any)["loginEndpoint"] != "https://"+own {
			t.Errorf("%s gives %v, %v", query, c, err)
		}
	}
	if got := get(own, "?api-version=2015-01-01"); !strings.Contains(got, `"portalEndpoint":"https://`+own) || strings.HasPrefix(got, "[") {
		t.Errorf("2015-01-01 gives %s", got)
	}
	for _, query := range []string{"?api-version=2019-05-01", "?api-version=2022-09-01"} {
		got := get("management.azure.com", query)
		for _, want := range []string{`"resourceManager":"https://management.azure.com/"`, `"loginEndpoint":"https://login.microsoftonline.com/"`, `"storage":"core.windows.net"`} {
			if !strings.Contains(got, want) {
				t.Errorf("on Azure's name %s gives %s, without %s", query, got, want)
			}
		}
		if all := regexp.MustCompile(`localhost|8443"`).FindString(got); all != "" {
			t.Errorf("on Azure's name %s names %s", query, all)
		}
	}
}

func TestVerifier(t *testing.T) {
	t.Parallel()
	b := boot(t, nil)
	sign := func(change map[string]any) string {
		c := map[string]any{"aud": "https://management.azure.com", "exp": now.Add(time.Hour).Unix(), "tid": tenant, "oid": object}
		for k, v := range change {
			c[k] = v
		}
		tok, err := b.keys.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	run, err := b.keys.SignRun(token.RunGrant{Run: "r1", Workspace: "/Subscriptions/S", Name: "calm", Fence: 3, Expiry: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	node, err := b.keys.SignNode("n1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tok  string
		want access.Principal
		code string
	}{
		"an application":              {sign(nil), access.Principal{ID: object, Tenant: tenant, Kind: access.Application}, ""},
		"a person":                    {sign(map[string]any{"idtyp": "user"}), access.Principal{ID: object, Tenant: tenant, Kind: access.User}, ""},
		"for the server's own name":   {sign(map[string]any{"aud": "https://" + own + "/"}), access.Principal{ID: object, Tenant: tenant, Kind: access.Application}, ""},
		"for storage":                 {sign(map[string]any{"aud": "https://storage.azure.com"}), access.Principal{ID: object, Tenant: tenant, Kind: access.Application}, ""},
		"a run":                       {run, access.Principal{ID: "r1", Name: "calm", Tenant: tenant, Kind: access.RunIdentity, Scope: "/subscriptions/s", Run: "r1", Fence: 3}, ""},
		"for another service":         {sign(map[string]any{"aud": "https://vault.azure.net"}), access.Principal{}, "InvalidAuthenticationTokenAudience"},
		"of another tenant":           {sign(map[string]any{"tid": object}), access.Principal{}, "InvalidAuthenticationTokenTenant"},
		"of no tenant":                {sign(map[string]any{"tid": nil}), access.Principal{}, "InvalidAuthenticationTokenTenant"},
		"for nobody":                  {sign(map[string]any{"oid": ""}), access.Principal{}, "InvalidAuthenticationToken"},
		"late":                        {sign(map[string]any{"exp": now.Unix()}), access.Principal{}, "ExpiredAuthenticationToken"},
		"a node's token is no caller": {node, access.Principal{}, "InvalidAuthenticationToken"},
		"not a token":                 {"x", access.Principal{}, "InvalidAuthenticationToken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := b.verifier.Verify(c.tok)
			e, _ := err.(*fault.Error)
			if got != c.want || (c.code == "") != (err == nil) || c.code != "" && (e == nil || e.Code != c.code || e.Kind != fault.Unauthorized) {
				t.Errorf("Verify = %+v, %v, want %+v %s", got, err, c.want, c.code)
			}
		})
	}
}

func TestARunsTokenEndsWithItsAttempt(t *testing.T) {
	t.Parallel()
	b := boot(t, nil)
	b.verifier.Living = func(run string, fence int64) bool { return run == "r1" && fence == 4 }
	for name, c := range map[string]struct {
		grant token.RunGrant
		taken bool
	}{
		"of the attempt that lives":     {token.RunGrant{Run: "r1", Fence: 4}, true},
		"of the attempt before":         {token.RunGrant{Run: "r1", Fence: 3}, false},
		"of a run that is over":         {token.RunGrant{Run: "r2", Fence: 4}, false},
		"of a run that has no attempts": {token.RunGrant{Run: "r3"}, true},
	} {
		c.grant.Workspace, c.grant.Expiry = "/subscriptions/s", now.Add(time.Hour)
		tok, err := b.keys.SignRun(c.grant, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.verifier.Verify(tok); (err == nil) != c.taken || err != nil && !errors.Is(err, fault.Unauthorized) {
			t.Errorf("a token %s: %v, want taken %t", name, err, c.taken)
		}
	}
}

// FuzzToken posts any form: no panic, no 5xx, and no token without the secret.
func FuzzToken(f *testing.F) {
	f.Add("grant_type=client_credentials&client_id="+app+"&client_secret=x&scope=a/.default", "")
	f.Add("client_id=%zz", "Basic eDp5")
	f.Add("scope=\x00", "Basic !")
	k, err := keys()
	if err != nil {
		f.Fatal(err)
	}
	rt := &arm.Router{Log: slog.New(slog.DiscardHandler)}
	login.Register(rt, login.Services{Tenant: tenant, Clients: login.Fixed{app: {SecretHash: login.HashSecret(secret)}}, Keys: k, Now: func() time.Time { return now }})
	f.Fuzz(func(t *testing.T, body, authorization string) {
		r := httptest.NewRequest("POST", "/"+tenant+"/oauth2/v2.0/token", strings.NewReader(body))
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if w.Code >= 500 || w.Code == 200 {
			t.Errorf("%q with %q is answered %d %s", body, authorization, w.Code, w.Body)
		}
	})
}
