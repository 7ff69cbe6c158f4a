// Package arm has ARM's manners: routes in any case, errors, paging, the
// headers of long-running operations, host names in answers. It knows HTTP; it
// decides nothing.
package arm

import (
	"context"
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
)

// Handler serves one operation. The body is written as JSON (nil: no body); an
// error as ARM's error envelope. A handler that needs headers sets them on w
// before it returns; one that writes the body itself returns status 0.
type Handler func(w http.ResponseWriter, r *http.Request) (status int, body any, err error)

// Registrar takes routes. Patterns are "METHOD /path/{wildcard}/literal";
// literals match in any case, wildcards keep the case they came in
// (r.PathValue). A route takes only callers whose token is verified; Public
// ones take anybody and check what they need themselves.
type Registrar interface {
	Handle(pattern string, h Handler)
	Public(pattern string, h Handler)
}

type callerKey struct{}

// WithCaller returns ctx with the verified principal in it.
func WithCaller(ctx context.Context, p access.Principal) context.Context {
	return context.WithValue(ctx, callerKey{}, p)
}

// Caller returns who is asking. It panics on a public route, where nobody is known.
func Caller(ctx context.Context) access.Principal { return ctx.Value(callerKey{}).(access.Principal) }

// Hosts builds the URLs in an answer, so that they follow the host that the
// client came by: Azure's names through "ebb exec", the server's own otherwise.
type Hosts struct {
	own string // host:port the client connected to, when it is not one of Azure's names
}

// HostsOf reads the host of a request.
func HostsOf(r *http.Request) Hosts {
	host := strings.ToLower(r.Host)
	name, _, _ := strings.Cut(host, ":")
	if IsAzureName(name) {
		return Hosts{}
	}
	return Hosts{own: host}
}

// IsAzureName reports whether name is one that "ebb exec" leads to the server.
func IsAzureName(name string) bool {
	for _, suffix := range []string{"management.azure.com", "login.microsoftonline.com", "graph.microsoft.com", "ml.azure.com", ".api.azureml.ms", ".blob.core.windows.net"} {
		if name == strings.TrimPrefix(suffix, ".") || strings.HasSuffix(name, "."+strings.TrimPrefix(suffix, ".")) {
			return true
		}
	}
	return false
}

// ARM returns the base URL of Resource Manager, without a slash at its end.
func (h Hosts) ARM() string { return h.base("management.azure.com") }

// Login returns the base URL of the token endpoints.
func (h Hosts) Login() string { return h.base("login.microsoftonline.com") }

// Data returns the base URL of a region's workspace API.
func (h Hosts) Data(region string) string { return h.base(region + ".api.azureml.ms") }

// Studio returns the base URL of the web pages.
func (h Hosts) Studio() string { return h.base("ml.azure.com") }

// Blob returns the base URL of a storage account. On the server's own name the
// account is put in the user info: SDK v1 takes blob URLs apart as
// "account.blob.suffix" and puts them together again (reference/wire/sdk-v1.md,
// "Blob host rule").
func (h Hosts) Blob(account string) string {
	if h.own == "" {
		return "https://" + account + ".blob.core.windows.net"
	}
	return "https://" + account + ".blob.x@" + h.own
}

// Own returns the host and port of the server's own name that the client came
// by, or "" when it came by one of Azure's.
func (h Hosts) Own() string { return h.own }

func (h Hosts) base(azure string) string {
	if h.own == "" {
		return "https://" + azure
	}
	return "https://" + h.own
}
