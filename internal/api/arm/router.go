package arm

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Authenticator turns the bearer token of a request into who is asking. What
// it refuses is a fault.Unauthorized with Azure's code for the reason.
type Authenticator interface {
	Verify(token string) (access.Principal, error)
}

// Router answers HTTP with ARM's manners. Routes are registered before the
// first request and never after it.
type Router struct {
	Auth   Authenticator
	Log    *slog.Logger  // default: slog.Default()
	Tenant string        // named in the challenge of a 401
	NewID  func() string // makes request ids; default: random UUIDs
	// Guard may refuse a request of a verified caller before its handler sees it;
	// default: nothing is refused.
	Guard func(r *http.Request) error
	// Observe is told of every answer, with the route's pattern; default: nobody is.
	Observe func(route string, status int, took time.Duration)

	routes tree
}

var _ Registrar = (*Router)(nil)

// Handle registers a route for callers whose token is verified. A pattern is
// "METHOD /path/{wildcard}/literal"; without a method it takes any;
// {name...} at the end takes one or more segments.
func (rt *Router) Handle(pattern string, h Handler) { rt.routes.add(pattern, false, h) }

// Public registers a route that anybody may call.
func (rt *Router) Public(pattern string, h Handler) { rt.routes.add(pattern, true, h) }

// NotBuilt answers pattern, and everything below it, with a 400 that names the
// feature. It is a 4xx because clients retry a 5xx for minutes.
func NotBuilt(reg Registrar, pattern, feature string) {
	h := func(http.ResponseWriter, *http.Request) (int, any, error) {
		return 0, nil, fault.Coded(fault.Unsupported, "NotImplemented", "", "Not part of Ebb yet: %s.", feature)
	}
	reg.Public(pattern, h)
	if !strings.HasSuffix(pattern, "...}") {
		reg.Public(strings.TrimSuffix(pattern, "/")+"/{below...}", h)
	}
}

// exchange is what is learned about a request while it is answered: the log
// line is written from it.
type exchange struct {
	id      string
	pattern string
	caller  string
}

func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	x := &exchange{id: rt.newID(), pattern: "none"}
	out := &recorder{ResponseWriter: w}
	x.headers(out.Header(), r.Header)
	defer func() {
		took := time.Since(began)
		rt.log(r, out, x, took)
		if rt.Observe != nil {
			rt.Observe(x.pattern, out.status, took)
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			rt.recovered(out, r, x, p)
		}
	}()
	if err := rt.serve(out, r, x); err != nil {
		rt.fail(out, r, x, err)
	}
}

// headers sets what every answer carries. Date is net/http's.
func (x *exchange) headers(out, in http.Header) {
	out.Set("x-ms-request-id", x.id)
	out.Set("x-ms-correlation-request-id", x.id)
	if id := in.Get("x-ms-correlation-request-id"); plainID(id) {
		out.Set("x-ms-correlation-request-id", id)
	}
	if id := in.Get("x-ms-client-request-id"); plainID(id) && strings.EqualFold(in.Get("x-ms-return-client-request-id"), "true") {
		out.Set("x-ms-client-request-id", id)
	}
	out.Set("X-Content-Type-Options", "nosniff")
	out.Set("Cache-Control", "no-cache")
}

// plainID reports whether an id of a client's making may be echoed.
func plainID(id string) bool {
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

func (rt *Router) serve(w http.ResponseWriter, r *http.Request, x *exchange) error {
	segments, err := Segments(r.URL.Path)
	if err != nil {
		return err
	}
	found, values := rt.routes.find(segments)
	if found == nil {
		return noRoute(r, segments)
	}
	to := found.of(r.Method)
	if to == nil {
		w.Header().Set("Allow", found.allow())
		return fault.Coded(fault.Invalid, methodNotAllowed, "", "%s is not allowed here; allowed: %s.", clip(r.Method), found.allow())
	}
	x.pattern = to.pattern
	ctx := r.Context()
	if !to.public {
		who, err := rt.authenticate(r)
		if err != nil {
			rt.challenge(w, r, err)
			return err
		}
		x.caller = who.ID
		ctx = WithCaller(ctx, who)
	}
	u := *r.URL
	u.Path, u.RawPath = "/"+strings.Join(segments, "/"), ""
	r = r.WithContext(ctx)
	r.URL, r.Pattern = &u, to.pattern
	for i, name := range to.names {
		r.SetPathValue(name, values[i])
	}
	if rt.Guard != nil && !to.public {
		if err := rt.Guard(r); err != nil {
			return err
		}
	}
	status, body, err := to.handler(w, r)
	if err != nil {
		return err
	}
	if status == 0 {
		return nil
	}
	return rt.write(w, r, status, body)
}

func noRoute(r *http.Request, segments []string) error {
	for i := len(segments) - 3; i >= 0; i-- {
		if strings.EqualFold(segments[i], "providers") {
			return UnknownType(segments[i+1], segments[i+2:], r.URL.Query().Get("api-version"))
		}
	}
	return fault.Coded(fault.NotFound, "NotFound", "", "There is nothing at %s %s on this server.", clip(r.Method), clip("/"+strings.Join(segments, "/")))
}

// children are the types below a workspace that are easily written in the singular.
var children = []string{"computes", "jobs", "codes", "environments", "models", "components", "datastores"}

// UnknownType refuses a type of resource by its whole name: rest are the segments
// of the address behind the namespace, types and names in turn.
func UnknownType(namespace string, rest []string, version string) error {
	var types []string
	for i := 0; i < len(rest); i += 2 {
		types = append(types, rest[i])
	}
	hint := ""
	if len(types) == 2 && strings.EqualFold(types[0], "workspaces") {
		for _, c := range children {
			if strings.EqualFold(types[1]+"s", c) {
				hint = " Did you mean 'workspaces/" + c + "'?"
			}
		}
	}
	return fault.Coded(fault.NotFound, "InvalidResourceType", "", "The resource type '%s' could not be found in the namespace '%s' for api version '%s'.%s",
		clip(strings.Join(types, "/")), clip(namespace), clip(version), hint)
}

// clip shortens what a client sent, for use in a message.
func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func (rt *Router) authenticate(r *http.Request) (access.Principal, error) {
	if who, ok := insider(r.Context()); ok {
		return who, nil
	}
	header := r.Header.Get("Authorization")
	if header == "" {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "AuthenticationFailed", "", "Authentication failed. The 'Authorization' header is missing.")
	}
	scheme, token, _ := strings.Cut(header, " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "AuthenticationFailedInvalidHeader", "", "Authentication failed. The 'Authorization' header is provided in an invalid format: a bearer token is expected.")
	}
	return rt.Auth.Verify(token)
}

func (rt *Router) challenge(w http.ResponseWriter, r *http.Request, err error) {
	if fault.KindOf(err) != fault.Unauthorized {
		return
	}
	c := `Bearer authorization_uri="` + HostsOf(r).Login() + "/" + rt.Tenant + `"`
	if e, ok := errors.AsType[*fault.Error](err); ok && r.Header.Get("Authorization") != "" {
		c += `, error="invalid_token", error_description="` + strings.ReplaceAll(e.Msg, `"`, "'") + `"`
	}
	w.Header().Set("WWW-Authenticate", c)
}

func (rt *Router) recovered(w *recorder, r *http.Request, x *exchange, p any) {
	if p == http.ErrAbortHandler {
		panic(p) // net/http's own way to drop a connection
	}
	rt.logger().ErrorContext(r.Context(), "panicked", "request", x.id, "route", x.pattern, "panic", p, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out: the client must not take it for a whole one
	}
	rt.writeError(w, r, http.StatusInternalServerError, internalError())
}

func (rt *Router) log(r *http.Request, w *recorder, x *exchange, took time.Duration) {
	level := slog.LevelInfo
	if w.status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	rt.logger().LogAttrs(context.WithoutCancel(r.Context()), level, "answered", slog.String("request", x.id), slog.String("method", clip(r.Method)),
		slog.String("route", x.pattern), slog.Int("status", w.status), slog.Duration("took", took), slog.String("caller", x.caller), slog.Int64("bytes", w.bytes))
}

func (rt *Router) logger() *slog.Logger {
	if rt.Log == nil {
		return slog.Default()
	}
	return rt.Log
}

func (rt *Router) newID() string {
	if rt.NewID == nil {
		return uuid.NewString()
	}
	return rt.NewID()
}

// recorder remembers what was answered. http.NewResponseController and the
// WebSocket upgrade reach the writer below through Unwrap.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}
