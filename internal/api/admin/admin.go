// Package admin is what whoever runs the server asks it: is it well, how busy is
// it, what is it doing, remove what is over. None of it is Azure's.
//
//	GET  /ebb/v1/admin/health   open to all: nothing in it is secret
//	GET  /metrics               from loopback, or with a token that owns the tenant
//	GET  /debug/pprof/…         with such a token
//	POST /ebb/v1/admin/prune    with such a token
//	GET  /ebb/v1/admin/quarantine             nodes that a restored state does not know
//	POST /ebb/v1/admin/quarantine/{node}/end  both with such a token
//
// Start at [Register].
package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/retention"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Pruner is app/retention.
type Pruner interface {
	Prune(ctx context.Context, p access.Principal, dry bool, wishes ...retention.Wish) ([]retention.Set, error)
}

// Services is what the routes need. All fields are required.
type Services struct {
	Version string
	Ping    func(ctx context.Context) error // whether the store answers
	Auth    arm.Authenticator
	Metrics *Metrics
	Pruner  Pruner
	// Quarantine lists the nodes that are in no row, and End makes one go.
	Quarantine func() []Quarantined
	End        func(ctx context.Context, node string) error
}

type server struct{ Services }

// Register adds the routes.
func Register(reg arm.Registrar, s Services) {
	v := &server{s}
	reg.Public("GET /ebb/v1/admin/health", v.health)
	reg.Public("GET /metrics", v.metrics)
	reg.Handle("POST /ebb/v1/admin/prune", v.prune)
	reg.Handle("GET /ebb/v1/admin/quarantine", v.quarantine)
	reg.Handle("POST /ebb/v1/admin/quarantine/{node}/end", v.endQuarantined)
	reg.Handle("GET /debug/pprof", v.profile)
	reg.Handle("GET /debug/pprof/{name}", v.profile)
}

// pingWithin is how long a store may take to answer before it counts as ill.
const pingWithin = 5 * time.Second

// health answers 200 only when the store does.
func (s *server) health(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pingWithin)
	defer cancel()
	if err := s.Ping(ctx); err != nil {
		return http.StatusServiceUnavailable, map[string]string{"status": "unavailable", "version": s.Version, "why": "the store does not answer"}, nil
	}
	return http.StatusOK, map[string]string{"status": "ok", "version": s.Version}, nil
}

func (s *server) metrics(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if !local(r) {
		kind, tok, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(kind, "Bearer") {
			return 0, nil, fault.Coded(fault.Unauthorized, "AuthenticationFailed", "", "Metrics are given to loopback addresses, or for a bearer token.")
		}
		p, err := s.Auth.Verify(strings.TrimSpace(tok))
		if err != nil {
			return 0, nil, err
		}
		if err := owner(p); err != nil {
			return 0, nil, err
		}
	}
	s.Metrics.handler.ServeHTTP(w, r)
	return 0, nil, nil
}

// local reports whether a request comes from this machine.
func local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// owner refuses runs, and whoever is confined to a part of the tenant.
func owner(p access.Principal) error {
	if p.Kind == access.RunIdentity || !p.May("/") {
		return fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "This is for those who own the whole tenant.")
	}
	return nil
}

func (s *server) profile(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if err := owner(arm.Caller(r.Context())); err != nil {
		return 0, nil, err
	}
	switch name := r.PathValue("name"); name {
	case "":
		pprof.Index(w, r)
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Handler(name).ServeHTTP(w, r)
	}
	return 0, nil, nil
}

// pruneRequest is the body of a prune, as client.Prune sends it.
type pruneRequest struct {
	Kinds            []retention.Kind `json:"kinds"`
	OlderThanSeconds *int64           `json:"olderThanSeconds"`
	MaxSizeBytes     *int64           `json:"maxSizeBytes"`
	DryRun           bool             `json:"dryRun"`
}

type prunedSet struct {
	Kind      retention.Kind `json:"kind"`
	Removed   int64          `json:"removed"`
	Bytes     int64          `json:"bytes"`
	KeptBytes int64          `json:"keptBytes"`
}

func (s *server) prune(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var in pruneRequest
	if err := arm.ReadJSON(r, &in); err != nil {
		return 0, nil, err
	}
	bound, err := in.bound()
	if err != nil {
		return 0, nil, err
	}
	if len(in.Kinds) == 0 {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidKind", "kinds", "Say what is to be pruned.")
	}
	var wishes []retention.Wish
	for _, k := range in.Kinds {
		if !slices.Contains(retention.Kinds(), k) {
			return 0, nil, fault.Coded(fault.Invalid, "InvalidKind", "kinds", "%.40q is not something that can be pruned; %v are.", k, retention.Kinds())
		}
		wishes = append(wishes, retention.Wish{Kind: k, Bound: bound})
	}
	sets, err := s.Pruner.Prune(r.Context(), arm.Caller(r.Context()), in.DryRun, wishes...)
	if err != nil {
		return 0, nil, err
	}
	out := make([]prunedSet, 0, len(sets))
	for _, one := range sets {
		out = append(out, prunedSet{one.Kind, one.Removed, one.Bytes, one.Kept})
	}
	return http.StatusOK, map[string]any{"dryRun": in.DryRun, "value": out}, nil
}

// bound reads the bounds. Without an age a size is the only one; without
// either, any age is too old.
func (in pruneRequest) bound() (retention.Bound, error) {
	b := retention.Unbounded
	const most = int64(1<<63-1) / int64(time.Second)
	switch {
	case in.OlderThanSeconds != nil && (*in.OlderThanSeconds < 0 || *in.OlderThanSeconds > most):
		return b, fault.Coded(fault.Invalid, "InvalidAge", "olderThanSeconds", "%d is not an age in seconds.", *in.OlderThanSeconds)
	case in.OlderThanSeconds != nil:
		b.Age = time.Duration(*in.OlderThanSeconds) * time.Second
	case in.MaxSizeBytes == nil:
		b.Age = 0
	}
	if in.MaxSizeBytes != nil {
		if *in.MaxSizeBytes < 0 {
			return b, fault.Coded(fault.Invalid, "InvalidSize", "maxSizeBytes", "%d is not a size in bytes.", *in.MaxSizeBytes)
		}
		b.Size = *in.MaxSizeBytes
	}
	return b, nil
}
