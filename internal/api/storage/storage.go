// Package storage answers the part of Azure's Blob REST interface that the SDKs
// use for a workspace's files: block and append blobs, their metadata and
// properties, conditions, ranges, copies within an account, lists, containers.
// What it lacks is refused by name (route.go).
//
// Access is by shared access signature (of a blob, directory, container, account
// or user delegation), by an account's shared key, or by bearer token (auth.go).
//
// A request comes by one of several ways (address.go): to
// account.blob.core.windows.net, through "ebb exec", or to the server's own host,
// where a workspace's container says the account, or the path begins with it.
package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

// Keys checks signatures. token.Keys is one.
type Keys interface {
	CheckSAS(want token.SASRequest, q url.Values, now time.Time) error
	SharedKey(account string, n, generation int) []byte
	DelegationKey(account string, d token.Delegation) []byte
}

// Account is what is to be known of a storage account.
type Account struct {
	Unique      string   // its name, and what tells it from another of that name before or after it
	Scope       string   // the ARM id that says who may touch it: its workspace's, or its own
	Containers  []string // that it has without anybody having made them, and shows
	Generations [2]int   // of its keys 1 and 2
	// Owns reports whether the account has a container without anybody having made
	// it, shown or not. Default: those of Containers.
	Owns func(container string) bool
}

// Accounts finds storage accounts. [fault.NotFound] where there is none of that name.
type Accounts interface {
	Account(ctx context.Context, name string) (Account, error)
}

// Service is what the handler works on.
type Service struct {
	Blobs    *blob.Store
	Keys     Keys
	Accounts Accounts                                   // default: there are none, and signatures of the server's own are all that counts
	Bearer   func(tok string) (access.Principal, error) // default: no bearer token counts
	Tenant   string                                     // where bearer tokens come from
	Now      func() time.Time                           // the site's clock
	Log      *slog.Logger                               // default: nothing is logged
}

// The largest bodies, by Azure's limits of version 2019-12-12.
const (
	maxPut       = 5000 << 20 // bytes of a Put Blob
	maxBlock     = 4000 << 20 // bytes of a Put Block
	maxAppend    = 4 << 20    // bytes of an Append Block; Azure's limit until 2022-11-02
	maxBlockList = 8 << 20    // bytes of XML
	maxBlocks    = 50_000
	version      = "2021-08-06" // of the interface, where the client names none
)

// Handler serves the requests that [Matches].
func Handler(s Service) http.Handler {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("x-ms-request-id", requestID())
		h.Set("x-ms-version", version)
		if id := r.Header.Get("x-ms-client-request-id"); id != "" && len(id) <= 1024 {
			h.Set("x-ms-client-request-id", id)
		}
		// A blob is its writer's, not ours: a page among them must not act in our name.
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
		out := &begun{ResponseWriter: w}
		c := &call{Service: s, w: out, r: r, q: r.URL.Query(), again: (*call).serve}
		defer func() {
			if p := recover(); p != nil {
				c.recovered(p, out.yes)
			}
		}()
		if err := c.serve(); err != nil {
			c.fail(err)
		}
	})
}

// begun knows whether an answer has begun.
type begun struct {
	http.ResponseWriter
	yes bool
}

func (w *begun) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *begun) WriteHeader(status int) {
	w.yes = w.yes || status >= http.StatusOK
	w.ResponseWriter.WriteHeader(status)
}

func (w *begun) Write(p []byte) (int, error) {
	w.yes = true
	return w.ResponseWriter.Write(p)
}

// call is one request.
type call struct {
	Service
	w http.ResponseWriter
	r *http.Request
	q url.Values

	account, container, name string
	rooted                   bool // the path begins with the account
	box                      string
	cred                     credential
	owner                    *Account // once it was looked up
	newOnly                  bool     // the signature allows new blobs only

	version string            // of the interface that the client speaks; empty: it does not say
	again   func(*call) error // serve, for the parts of a batch
}

// key is the blob's in the store, once its container is known to be there.
func (c *call) key() string { return c.box + "/" + c.name }

func (c *call) serve() error {
	if v := c.r.Header.Get("x-ms-version"); v != "" {
		if _, err := time.Parse(time.DateOnly, v); err != nil {
			return headerValue("x-ms-version")
		}
		c.version = v
		c.w.Header().Set("x-ms-version", v)
	}
	if err := c.address(); err != nil {
		return err
	}
	op, err := c.route()
	if err != nil {
		return err
	}
	if err := c.authorise(op); err != nil {
		return err
	}
	if c.container != "" && !op.makes {
		if err := c.enter(); err != nil {
			return err
		}
	}
	if c.box == c.container && strings.HasPrefix(c.box, runFiles) && !strings.HasPrefix(c.box, openContainer) {
		c.name = armid.Unalias(c.name) // what was signed is the alias
	}
	if err := c.known(); err != nil {
		return err
	}
	return op.do(c)
}

// who is the address that asks; zero where it is not known.
func (c *call) who() netip.Addr {
	at, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr()
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// unsupported is the answer for what is not built.
func unsupported(feature string) error {
	return fault.Coded(fault.Unsupported, "NotImplemented", "", "The Blob service of this server does not have: %s.", feature)
}
