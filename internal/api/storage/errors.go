package storage

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

func exists() error {
	return fault.Coded(fault.Conflict, "BlobAlreadyExists", "", "The specified blob already exists.")
}

func notMet() error {
	return fault.Coded(fault.Precondition, "ConditionNotMet", "", "The condition specified using HTTP conditional header(s) is not met.")
}

func headerValue(name string) error {
	return fault.Coded(fault.Invalid, "InvalidHeaderValue", name, "The value for one of the HTTP headers is not in the correct format: %s.", name)
}

func missingHeader(name string) error {
	return fault.Coded(fault.Invalid, "MissingRequiredHeader", name, "An HTTP header that's mandatory for this request is not specified: %s.", name)
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
	"UnsupportedHttpVerb":        http.StatusMethodNotAllowed,
}

func (c *call) fail(err error) {
	if errors.Is(err, errNotModified) {
		c.w.Header().Set("x-ms-error-code", "ConditionNotMet")
		c.w.WriteHeader(http.StatusNotModified)
		return
	}
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		f = internal()
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
	if f.Kind == fault.Unauthorized && c.Tenant != "" { // where to ask, for clients that do not know the tenant
		h.Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/"+c.Tenant+"/oauth2/authorize resource_id=https://storage.azure.com")
	}
	h.Set("x-ms-error-code", to.code)
	body := marshal(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: to.code, Message: f.Msg + "\nRequestId:" + h.Get("x-ms-request-id") + "\nTime:" + c.Now().UTC().Format("2006-01-02T15:04:05.0000000Z")})
	c.send(to.status, body)
}

func internal() *fault.Error {
	return &fault.Error{Kind: fault.Internal, Msg: "The server encountered an internal error. Please retry the request."}
}

// recovered answers for code that panicked, if nothing has been answered yet.
func (c *call) recovered(p any, begun bool) {
	if p == http.ErrAbortHandler {
		panic(p) // net/http's own way to drop a connection
	}
	c.Log.ErrorContext(c.r.Context(), "panicked", "method", c.r.Method, "container", c.container, "panic", p, "stack", string(debug.Stack()))
	if begun {
		panic(http.ErrAbortHandler) // half an answer is out: the client must not take it for a whole one
	}
	c.fail(internal())
}

// marshal writes a document of ours as XML. It is made of structs, strings and
// numbers: it cannot fail.
func marshal(doc any) []byte {
	text, err := xml.Marshal(doc)
	if err != nil {
		panic("storage: write XML: " + err.Error())
	}
	return append([]byte(xml.Header), text...)
}

// send answers with XML.
func (c *call) send(status int, text []byte) {
	h := c.w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(text) // the client may have left
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

// document reads the request's body as XML into doc; nothing at all is what doc
// is already.
func (c *call) document(limit int64, doc any) error {
	content, err := c.limited(limit)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(content)
	if err != nil || strings.TrimSpace(string(text)) == "" {
		return err
	}
	if err := xml.Unmarshal(text, doc); err != nil {
		return badXML(err)
	}
	return nil
}

func badXML(err error) error {
	return fault.Coded(fault.Invalid, "InvalidXmlDocument", "", "XML specified is not syntactically valid: %s.", err)
}
