package arm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

const goodToken = "good"

type auth struct{}

func (auth) Verify(token string) (access.Principal, error) {
	if token != goodToken {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "ExpiredAuthenticationToken", "", "The access token has expired.")
	}
	return access.Principal{ID: "me"}, nil
}

func newRouter(t *testing.T) *arm.Router {
	t.Helper()
	return &arm.Router{Auth: auth{}, Tenant: "T", Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// echo answers with the pattern and the wildcards named.
func echo(pattern string, names ...string) arm.Handler {
	return func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		out := pattern
		for _, n := range names {
			out += " " + n + "=" + r.PathValue(n)
		}
		return http.StatusOK, out, nil
	}
}

func ask(h http.Handler, method, target, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	path, query, _ := strings.Cut(target, "?")
	r.URL.RawQuery = query
	if u, err := r.URL.Parse(path); err == nil && strings.Contains(path, "%") {
		r.URL.Path, r.URL.RawPath = u.Path, u.RawPath
	} else {
		r.URL.Path = path
	}
	r.Host = "localhost:8443"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func errorOf(t *testing.T, w *httptest.ResponseRecorder) arm.ErrorBody {
	t.Helper()
	var e arm.Envelope
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("the answer %q is no error envelope: %v", w.Body, err)
	}
	if !strings.Contains(w.Body.String(), `"details":[`) {
		t.Errorf("the envelope %s has no details array", w.Body)
	}
	return e.Error
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	rt := newRouter(t)
	for pattern, names := range map[string][]string{
		"GET /subscriptions/{sub}/resourceGroups/{rg}":               {"sub", "rg"},
		"GET /subscriptions/{sub}":                                   {"sub"},
		"PUT /subscriptions/{sub}":                                   {"sub"},
		"GET /{tenant}/v2.0/.well-known/openid-configuration":        {"tenant"},
		"GET /adfs/{tenant}/.well-known/openid-configuration":        {"tenant"},
		"GET /{container}/{blob...}":                                 {"container", "blob"},
		"GET /history/v1.0/runs:query":                               nil,
		"/any/{method}":                                              {"method"},
		"POST /hyperdrive/v1.0/subscriptions/{sub}/experiments/{ex}": {"sub", "ex"},
		"GET /": nil,
	} {
		rt.Handle(pattern, echo(pattern, names...))
	}
	for name, c := range map[string]struct{ method, path, want string }{
		"a literal in another case":                       {"GET", "/SUBSCRIPTIONS/AbC/resourcegroups/My-RG", "GET /subscriptions/{sub}/resourceGroups/{rg} sub=AbC rg=My-RG"},
		"double slashes and one at the end":               {"GET", "//subscriptions//AbC/", "GET /subscriptions/{sub} sub=AbC"},
		"an escaped slash divides":                        {"POST", "/hyperdrive/v1.0/subscriptions%2Fabc%2Fexperiments%2Fx", "POST /hyperdrive/v1.0/subscriptions/{sub}/experiments/{ex} sub=abc ex=x"},
		"an escaped space is a space":                     {"GET", "/subscriptions/a%20b", "GET /subscriptions/{sub} sub=a b"},
		"an escape is decoded once":                       {"GET", "/subscriptions/a%252Fb", "GET /subscriptions/{sub} sub=a%2Fb"},
		"a query with any api-version":                    {"GET", "/subscriptions/a?api-version=1999-01-01&x", "GET /subscriptions/{sub} sub=a"},
		"the leftmost literal wins":                       {"GET", "/adfs/v2.0/.well-known/openid-configuration", "GET /adfs/{tenant}/.well-known/openid-configuration tenant=v2.0"},
		"a wildcard where no literal fits":                {"GET", "/contoso/v2.0/.well-known/openid-configuration", "GET /{tenant}/v2.0/.well-known/openid-configuration tenant=contoso"},
		"the rest keeps its slashes and case":             {"GET", "/box/A/b/C.txt", "GET /{container}/{blob...} container=box blob=A/b/C.txt"},
		"the rest takes what a longer literal leaves":     {"GET", "/box/v2.0/.well-known/other", "GET /{container}/{blob...} container=box blob=v2.0/.well-known/other"},
		"a literal with a colon":                          {"GET", "/history/v1.0/runs:query", "GET /history/v1.0/runs:query"},
		"HEAD is answered by GET":                         {"HEAD", "/subscriptions/a", "GET /subscriptions/{sub} sub=a"},
		"a pattern without method takes any":              {"LOCK", "/any/x", "/any/{method} method=x"},
		"the root":                                        {"GET", "/", "GET /"},
		"a dot in a name is a name":                       {"GET", "/subscriptions/..a", "GET /subscriptions/{sub} sub=..a"},
		"a letter that only looks like one is no literal": {"GET", "/\u017fubscriptions/a", "GET /{container}/{blob...} container=\u017fubscriptions blob=a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ask(rt, c.method, c.path, goodToken)
			var got string
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got != c.want {
				t.Errorf("%s %s = %d %s, want %q", c.method, c.path, w.Code, w.Body, c.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	rt := newRouter(t)
	ok := func(http.ResponseWriter, *http.Request) (int, any, error) { return 200, "ok", nil }
	rt.Handle("GET /subscriptions/{sub}", ok)
	rt.Handle("DELETE /subscriptions/{sub}", ok)
	rt.Handle("GET /{container}/{blob...}", ok)
	rt.Public("GET /public", ok)
	arm.NotBuilt(rt, "/subscriptions/{sub}/providers/Microsoft.Network", "Virtual networks")
	arm.NotBuilt(rt, "POST /subscriptions/{sub}/start", "Starting")
	for name, c := range map[string]struct {
		method, path, token string
		status              int
		code, says          string
	}{
		"dots":                           {"GET", "/subscriptions/../x", goodToken, 400, "InvalidRequestUri", ".."},
		"escaped dots":                   {"GET", "/subscriptions/%2e%2e/x", goodToken, 400, "InvalidRequestUri", ".."},
		"dots behind an escaped slash":   {"GET", "/box/a%2F..%2Fb", goodToken, 400, "InvalidRequestUri", ".."},
		"one dot":                        {"GET", "/box/./b", goodToken, 400, "InvalidRequestUri", "."},
		"NUL":                            {"GET", "/box/a%00b", goodToken, 400, "InvalidRequestUri", "control"},
		"a line end":                     {"GET", "/box/a%0ab", goodToken, 400, "InvalidRequestUri", "control"},
		"not UTF-8":                      {"GET", "/box/%ff", goodToken, 400, "InvalidRequestUri", "UTF-8"},
		"without end":                    {"GET", "/box/" + strings.Repeat("a", 9000), goodToken, 400, "InvalidRequestUri", "8192"},
		"a type nobody has":              {"GET", "/subscriptions/a/providers/Microsoft.Foo/bars?api-version=2020-02-02", goodToken, 404, "InvalidResourceType", "'bars' could not be found in the namespace 'Microsoft.Foo' for api version '2020-02-02'"},
		"a type below, in the singular":  {"PUT", "/subscriptions/a/providers/Microsoft.Foo/workspaces/main/compute/c", goodToken, 404, "InvalidResourceType", "'workspaces/compute' could not be found in the namespace 'Microsoft.Foo' for api version ''. Did you mean 'workspaces/computes'?"},
		"a type below that nobody has":   {"PUT", "/subscriptions/a/providers/Microsoft.Foo/workspaces/main/thing/c", goodToken, 404, "InvalidResourceType", "'workspaces/thing' could"},
		"an address nobody has":          {"GET", "/subscriptions/a/other", goodToken, 404, "NotFound", "/subscriptions/a/other"},
		"a blob is not looked for there": {"GET", "/subscriptions/a/b/c/d", goodToken, 404, "NotFound", "nothing"},
		"the root when nobody has it":    {"GET", "/", goodToken, 404, "NotFound", "/"},
		"a wrong method":                 {"PATCH", "/subscriptions/a", goodToken, 405, "MethodNotAllowed", "DELETE, GET, HEAD"},
		"what is not built":              {"PUT", "/subscriptions/a/providers/microsoft.network", goodToken, 400, "NotImplemented", "Not part of Ebb yet: Virtual networks."},
		"below what is not built":        {"PUT", "/subscriptions/a/providers/microsoft.network/x/y", "", 400, "NotImplemented", "Virtual networks"},
		"an action not built":            {"POST", "/subscriptions/a/start", "", 400, "NotImplemented", "Starting"},
		"no token":                       {"GET", "/subscriptions/a", "", 401, "AuthenticationFailed", "missing"},
		"a bad token":                    {"GET", "/subscriptions/a", "old", 401, "ExpiredAuthenticationToken", "expired"},
		"an empty token":                 {"GET", "/subscriptions/a", " ", 401, "AuthenticationFailedInvalidHeader", "invalid format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ask(rt, c.method, c.path, c.token)
			e := errorOf(t, w)
			if w.Code != c.status || e.Code != c.code || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s %s = %d %+v, want %d %s with %q", c.method, c.path, w.Code, e, c.status, c.code, c.says)
			}
			if allow := w.Header().Get("Allow"); (c.status == 405) != (allow == "DELETE, GET, HEAD") {
				t.Errorf("Allow is %q on a %d", allow, c.status)
			}
			const challenge = `Bearer authorization_uri="https://localhost:8443/T"`
			if got := w.Header().Get("WWW-Authenticate"); (c.status == 401) != strings.HasPrefix(got, challenge) {
				t.Errorf("WWW-Authenticate is %q on a %d", got, c.status)
			}
		})
	}
	if w := ask(rt, "GET", "/public", ""); w.Code != 200 {
		t.Errorf("a public route without a token = %d, want 200", w.Code)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	rt := newRouter(t)
	rt.Public("GET /x", func(http.ResponseWriter, *http.Request) (int, any, error) { return 200, nil, nil })
	r := httptest.NewRequest("GET", "/x", nil)
	r.Header.Set("x-ms-client-request-id", "mine")
	r.Header.Set("x-ms-correlation-request-id", "ours")
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	if w.Header().Get("x-ms-client-request-id") != "" {
		t.Error("the client's id came back though nobody asked for it")
	}
	if w.Header().Get("x-ms-correlation-request-id") != "ours" || w.Header().Get("x-ms-request-id") == "" {
		t.Errorf("headers are %v", w.Header())
	}
	r.Header.Set("x-ms-return-client-request-id", "True")
	r.Header.Set("x-ms-correlation-request-id", "bad\x01")
	w = httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	if w.Header().Get("x-ms-client-request-id") != "mine" {
		t.Error("the client's id did not come back")
	}
	if got := w.Header().Get("x-ms-correlation-request-id"); got != w.Header().Get("x-ms-request-id") {
		t.Errorf("a bad correlation id became %q, want the request's own id", got)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	detailed := fault.Coded(fault.Conflict, "ScopeLocked", "/a/b", "It is locked.")
	detailed.Details = []fault.Detail{{Code: "Lock", Target: "l", Msg: "by me"}}
	for name, c := range map[string]struct {
		err    error
		status int
		want   string
	}{
		"a fault has its kind's code":   {fault.New(fault.NotFound, "x", "No x."), 404, `{"error":{"code":"ResourceNotFound","message":"No x.","target":"x","details":[]}}`},
		"a code of its own wins":        {fmt.Errorf("wrapped: %w", fault.Coded(fault.Invalid, "InvalidPropertyValue", "", "No.")), 400, `{"error":{"code":"InvalidPropertyValue","message":"No.","details":[]}}`},
		"details come along":            {detailed, 409, `{"error":{"code":"ScopeLocked","message":"It is locked.","target":"/a/b","details":[{"code":"Lock","message":"by me","target":"l","details":[]}]}}`},
		"quota":                         {fault.New(fault.Exhausted, "", "Full."), 409, `{"error":{"code":"QuotaExceeded","message":"Full.","details":[]}}`},
		"not built is no 5xx":           {fault.New(fault.Unsupported, "", "No."), 400, `{"error":{"code":"NotImplemented","message":"No.","details":[]}}`},
		"a kind nobody knows":           {fault.New("odd", "", "secret"), 500, `{"error":{"code":"InternalServerError","message":"internal error","details":[]}}`},
		"an internal fault keeps quiet": {fault.New(fault.Internal, "", "secret"), 500, `{"error":{"code":"InternalServerError","message":"internal error","details":[]}}`},
		"any other error keeps quiet":   {errors.New("password is x"), 500, `{"error":{"code":"InternalServerError","message":"internal error","details":[]}}`},
		"a body past its limit":         {fmt.Errorf("read: %w", &http.MaxBytesError{Limit: 9}), 413, `{"error":{"code":"RequestContentTooLarge","message":"The request content has more than the 9 bytes that are allowed.","details":[]}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt := newRouter(t)
			rt.Public("GET /x", func(http.ResponseWriter, *http.Request) (int, any, error) { return 0, nil, c.err })
			w := ask(rt, "GET", "/x", "")
			if got := strings.TrimSpace(w.Body.String()); w.Code != c.status || got != c.want {
				t.Errorf("%v is answered %d %s, want %d %s", c.err, w.Code, got, c.status, c.want)
			}
		})
	}
}

func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	rt := newRouter(t)
	rt.Log = slog.New(slog.DiscardHandler)
	rt.Public("GET /early", func(http.ResponseWriter, *http.Request) (int, any, error) { panic("boom") })
	rt.Public("GET /late", func(w http.ResponseWriter, _ *http.Request) (int, any, error) {
		w.WriteHeader(200)
		panic("boom")
	})
	if w := ask(rt, "GET", "/early", ""); w.Code != 500 || errorOf(t, w).Message != "internal error" {
		t.Errorf("a panic is answered %d %s", w.Code, w.Body)
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("a panic after half an answer = %v, want the connection dropped", p)
		}
	}()
	ask(rt, "GET", "/late", "")
}

func TestBadPatternsPanic(t *testing.T) {
	t.Parallel()
	for name, patterns := range map[string][]string{
		"twice":                     {"GET /a/{b}", "GET /A/{c}"},
		"a rest in the middle":      {"GET /{a...}/b"},
		"half a wildcard":           {"GET /{a"},
		"a wildcard within a name":  {"GET /x{a}"},
		"no path":                   {"GET"},
		"a wildcard without a name": {"GET /{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Errorf("%v registered", patterns)
				}
			}()
			rt := newRouter(t)
			for _, p := range patterns {
				rt.Public(p, nil)
			}
		})
	}
}

// FuzzSegments holds what every caller builds on: segments are whole, safe
// names, and canonicalising is idempotent.
func FuzzSegments(f *testing.F) {
	for _, s := range []string{"/a/b", "//a//B/", "/a/../b", "/a/%2e%2e", "a\x00b", "/\xff", "", "/....//", "/a/./b"} {
		f.Add(s)
	}
	rt := &arm.Router{Auth: auth{}, Log: slog.New(slog.DiscardHandler)}
	rt.Public("GET /a/{b}/c", echo("c", "b"))
	rt.Public("GET /{a}/{rest...}", echo("rest", "a", "rest"))
	f.Fuzz(func(t *testing.T, path string) {
		segments, err := arm.Segments(path)
		if w := ask(rt, "GET", path, ""); w.Code >= 500 {
			t.Errorf("%q is answered %d %s", path, w.Code, w.Body)
		}
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("Segments(%q) = %v, want fault.Invalid", path, err)
			}
			return
		}
		for _, s := range segments {
			if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00\n\r") {
				t.Errorf("Segments(%q) has the segment %q", path, s)
			}
		}
		again, err := arm.Segments("/" + strings.Join(segments, "/"))
		if err != nil || strings.Join(again, "/") != strings.Join(segments, "/") {
			t.Errorf("Segments(%q) = %q, and of that %q, %v", path, segments, again, err)
		}
	})
}
