// Package storage answers the part of Azure's Blob REST interface that the SDKs
// use for a workspace's files: Put Blob, Put Block, Put Block List, Get Block
// List, Get Blob, its properties, Delete Blob, List Blobs. Access is by shared access
// signature (SAS) only.
//
// A request comes by one of two ways: to account.blob.core.windows.net, through
// "ebb exec", or to the server's own host, where the container alone says the
// account (reference/wire/sdk-v1.md, "Blob host rule").
package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Keys checks signatures. need lists permission letters of which any one is enough.
type Keys interface {
	VerifySAS(account, container, blob, need string, q url.Values, now time.Time) error
}

// Service is what the handler works on.
type Service struct {
	Blobs *blob.Store
	Keys  Keys
	Now   func() time.Time // the site's clock
	Log   *slog.Logger     // default: nothing is logged
}

// The largest bodies, by Azure's limits of version 2019-12-12.
const (
	maxPut       = 5000 << 20 // bytes of a Put Blob
	maxBlock     = 4000 << 20 // bytes of a Put Block
	maxBlockList = 8 << 20    // bytes of XML
	maxBlocks    = 50_000
	version      = "2021-08-06" // of the interface, where the client names none
)

const azureSuffix = ".blob.core.windows.net"

// logContainers hold job logs, which are served by the workspace API only.
const logContainers = "logs-"

// Matches reports whether a request is for this package: its host is a storage
// account's, or its path begins with a container of this server.
func Matches(r *http.Request) bool {
	if _, ok := azureAccount(r); ok {
		return true
	}
	container, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	_, ok := armid.AccountOfContainer(container)
	return ok
}

func azureAccount(r *http.Request) (string, bool) {
	host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
	return strings.CutSuffix(host, azureSuffix)
}

// Handler serves the requests that [Matches].
func Handler(s Service) http.Handler {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("x-ms-request-id", requestID())
		h.Set("x-ms-version", version)
		if v := r.Header.Get("x-ms-version"); v != "" {
			if _, err := time.Parse(time.DateOnly, v); err == nil {
				h.Set("x-ms-version", v)
			}
		}
		if id := r.Header.Get("x-ms-client-request-id"); id != "" && len(id) <= 1024 {
			h.Set("x-ms-client-request-id", id)
		}
		// A blob is its writer's, not ours: a page among them must not act in our name.
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
		c := &call{Service: s, w: w, r: r, q: r.URL.Query()}
		if err := c.serve(); err != nil {
			c.fail(err)
		}
	})
}

// call is one request.
type call struct {
	Service
	w                        http.ResponseWriter
	r                        *http.Request
	q                        url.Values
	account, container, name string
	newOnly                  bool // the signature allows new blobs only
}

func (c *call) key() string { return c.container + "/" + c.name }

func (c *call) serve() error {
	if err := c.address(); err != nil {
		return err
	}
	verb, comp := c.r.Method, c.q.Get("comp")
	var do func() error
	need := "r"
	switch {
	case c.name == "" && verb == http.MethodGet && comp == "list" && c.q.Get("restype") == "container":
		do, need = c.listBlobs, "l"
	case c.name == "" || c.q.Get("restype") != "":
		return unsupported("operations on containers")
	case c.q.Get("snapshot") != "" || c.q.Get("versionid") != "":
		return unsupported("blob snapshots and versions")
	case (verb == http.MethodGet || verb == http.MethodHead) && comp == "":
		do = c.get
	case verb == http.MethodGet && comp == "blocklist":
		do = c.getBlockList
	case verb == http.MethodDelete && comp == "":
		do, need = c.delete, "d"
	case verb == http.MethodPut && comp == "":
		do, need = c.put, "cw"
	case verb == http.MethodPut && comp == "block":
		do, need = c.putBlock, "cw"
	case verb == http.MethodPut && comp == "blocklist":
		do, need = c.putBlockList, "cw"
	default:
		return unsupported(strings.TrimSpace(verb + " " + comp))
	}
	if err := c.authorise(need); err != nil {
		return err
	}
	return do()
}

// address reads account, container and blob from host and path.
func (c *call) address() error {
	path := strings.TrimPrefix(c.r.URL.Path, "/")
	c.container, c.name, _ = strings.Cut(path, "/")
	account, ok := armid.AccountOfContainer(c.container)
	if host, azure := azureAccount(c.r); azure && host != account {
		ok = false
	}
	if !ok || strings.HasPrefix(c.container, logContainers) {
		return fault.Coded(fault.NotFound, "ContainerNotFound", "", "The specified container does not exist.")
	}
	c.account = account
	return nil
}

func (c *call) authorise(need string) error {
	if c.q.Get("sig") == "" {
		return fault.Coded(fault.Unauthorized, "NoAuthenticationInformation", "", "Server failed to authenticate the request. This server takes shared access signatures only, and this request has none.")
	}
	now := c.Now()
	if need != "cw" {
		return c.Keys.VerifySAS(c.account, c.container, c.name, need, c.q, now)
	}
	if c.Keys.VerifySAS(c.account, c.container, c.name, "w", c.q, now) == nil {
		return nil
	}
	c.newOnly = true
	return c.Keys.VerifySAS(c.account, c.container, c.name, "c", c.q, now)
}

func (c *call) delete() error {
	info, err := c.Blobs.Stat(c.r.Context(), c.key())
	if err != nil {
		return err
	}
	if err := c.conditions(info, true); err != nil {
		return err
	}
	if err := c.Blobs.Delete(c.r.Context(), c.key()); err != nil {
		return err
	}
	if err := c.dropBlocks(c.r.Context()); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// conditions checks the conditional headers against a blob that is there.
func (c *call) conditions(info blob.Info, write bool) error {
	h := c.r.Header
	tag := quote(info.ETag)
	modified := info.Modified.Truncate(time.Second) // as precise as the header
	notMet := fault.Coded(fault.Precondition, "ConditionNotMet", "", "The condition specified using HTTP conditional header(s) is not met.")
	if m := h.Get("If-Match"); m != "" && !matches(m, tag) {
		return notMet
	}
	if t, err := http.ParseTime(h.Get("If-Unmodified-Since")); err == nil && modified.After(t) {
		return notMet
	}
	same := false
	if m := h.Get("If-None-Match"); m != "" {
		same = matches(m, tag)
		if same && m == "*" && write {
			return exists()
		}
	} else if t, err := http.ParseTime(h.Get("If-Modified-Since")); err == nil {
		same = !modified.After(t)
	}
	switch {
	case !same:
		return nil
	case write:
		return notMet
	}
	return errNotModified
}

// errNotModified is the 304 of a conditional read.
var errNotModified = errors.New("not modified")

func matches(header, tag string) bool {
	for m := range strings.SplitSeq(header, ",") {
		m = strings.TrimPrefix(strings.TrimSpace(m), "W/")
		if m == "*" || m == tag || quote(m) == tag {
			return true
		}
	}
	return false
}

func quote(etag string) string { return `"` + etag + `"` }

func exists() error {
	return fault.Coded(fault.Conflict, "BlobAlreadyExists", "", "The specified blob already exists.")
}

func unsupported(feature string) error {
	return fault.Coded(fault.Unsupported, "NotImplemented", "", "The Blob service of this server does not have: %s.", feature)
}

// statuses maps kinds of fault to Azure's answers. Never 5xx for what is not
// built: clients repeat those for minutes.
var statuses = map[fault.Kind]struct {
	status int
	code   string
}{
	fault.Invalid:      {http.StatusBadRequest, "InvalidInput"},
	fault.Unauthorized: {http.StatusUnauthorized, "NoAuthenticationInformation"},
	fault.Forbidden:    {http.StatusForbidden, "AuthenticationFailed"},
	fault.NotFound:     {http.StatusNotFound, "BlobNotFound"},
	fault.Conflict:     {http.StatusConflict, "BlobAlreadyExists"},
	fault.Precondition: {http.StatusPreconditionFailed, "ConditionNotMet"},
	fault.TooLarge:     {http.StatusRequestEntityTooLarge, "RequestBodyTooLarge"},
	fault.Exhausted:    {http.StatusConflict, "InsufficientAccountPermissions"},
	fault.Unsupported:  {http.StatusBadRequest, "NotImplemented"},
	fault.Unavailable:  {http.StatusServiceUnavailable, "ServerBusy"},
	fault.Internal:     {http.StatusInternalServerError, "InternalError"},
}

// coded are the few codes whose status is not their kind's.
var coded = map[string]int{
	"InvalidRange":               http.StatusRequestedRangeNotSatisfiable,
	"MissingContentLengthHeader": http.StatusLengthRequired,
}

func (c *call) fail(err error) {
	if errors.Is(err, errNotModified) {
		c.w.WriteHeader(http.StatusNotModified)
		return
	}
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		f = &fault.Error{Kind: fault.Internal, Msg: "The server encountered an internal error. Please retry the request."}
		if c.r.Context().Err() == nil {
			c.Log.ErrorContext(c.r.Context(), "request failed", "container", c.container, "error", err)
		}
	}
	to := statuses[f.Kind]
	if f.Code != "" {
		to.code = f.Code
	}
	if s, ok := coded[f.Code]; ok {
		to.status = s
	}
	h := c.w.Header()
	for _, name := range []string{"Content-Length", "ETag", "Last-Modified", "Content-MD5", "Content-Encoding"} {
		h.Del(name) // those of the blob
	}
	h.Set("x-ms-error-code", to.code)
	h.Set("Content-Type", "application/xml")
	body, _ := xml.Marshal(struct { // strings only: it cannot fail
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: to.code, Message: f.Msg + "\nRequestId:" + h.Get("x-ms-request-id") + "\nTime:" + c.Now().UTC().Format("2006-01-02T15:04:05.0000000Z")})
	body = append([]byte(xml.Header), body...)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(to.status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(body) // the client may have left
	}
}

// body is the request's, whose errors are the client's and not the disk's.
type body struct{ io.Reader }

func (b body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return n, err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return n, tooLarge()
	}
	return n, fault.Coded(fault.Invalid, "IncompleteBody", "", "The request's body ended before its Content-Length.")
}

func tooLarge() error {
	return fault.Coded(fault.TooLarge, "RequestBodyTooLarge", "", "The request body is too large and exceeds the maximum permissible limit.")
}

// limited returns the request's body, refusing one without a length or over limit.
func (c *call) limited(limit int64) (io.Reader, error) {
	switch n := c.r.ContentLength; {
	case n < 0:
		return nil, fault.Coded(fault.Invalid, "MissingContentLengthHeader", "", "The request has no Content-Length.")
	case n > limit:
		return nil, tooLarge()
	}
	return body{http.MaxBytesReader(c.w, c.r.Body, limit)}, nil
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// dropBlocks forgets the blocks that were staged for a blob, and the list of
// those it was made of.
func (c *call) dropBlocks(ctx context.Context) error {
	for {
		staged, err := c.Blobs.List(ctx, c.blocks(), "", 1000)
		if err != nil || len(staged) == 0 {
			return err
		}
		for _, b := range staged {
			if err := c.Blobs.Delete(ctx, b.Key); err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
		}
	}
}
