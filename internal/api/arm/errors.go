package arm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Answers longer than this are logged: ARM's contract allows 8 MB.
const maxAnswer = 8 << 20

// methodNotAllowed has no fault kind: only HTTP knows methods.
const methodNotAllowed = "MethodNotAllowed"

// statusClientGone is logged, as nginx does, when nobody is left to read the answer.
const statusClientGone = 499

// table is the one place where kinds of fault become statuses and codes.
var table = map[fault.Kind]struct {
	status int
	code   string
}{
	fault.Invalid:      {http.StatusBadRequest, "BadRequest"},
	fault.Unauthorized: {http.StatusUnauthorized, "AuthenticationFailed"},
	fault.Forbidden:    {http.StatusForbidden, "AuthorizationFailed"},
	fault.NotFound:     {http.StatusNotFound, "ResourceNotFound"},
	fault.Conflict:     {http.StatusConflict, "Conflict"},
	fault.Precondition: {http.StatusPreconditionFailed, "PreconditionFailed"},
	fault.TooLarge:     {http.StatusRequestEntityTooLarge, "RequestEntityTooLarge"},
	fault.Exhausted:    {http.StatusConflict, "QuotaExceeded"},
	fault.Unsupported:  {http.StatusBadRequest, "NotImplemented"},
	fault.Unavailable:  {http.StatusServiceUnavailable, "ServiceUnavailable"},
	fault.Internal:     {http.StatusInternalServerError, "InternalServerError"},
}

// Envelope is an ARM error body. Details is always an array: without it SDK v1
// raises a TypeError instead of the message.
type Envelope struct {
	Error ErrorBody `json:"error"`
}

// ErrorBody is what ARM says about an error, or about a detail of one.
type ErrorBody struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target,omitempty"`
	Details []ErrorBody `json:"details"`
}

// ErrorOf maps an error to its status and body. What is not a fault becomes
// "internal error": its text is for the log alone.
func ErrorOf(err error) (int, Envelope) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = tooLarge(err)
	}
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind == fault.Internal {
		return http.StatusInternalServerError, internalError()
	}
	row, ok := table[e.Kind]
	if !ok {
		return http.StatusInternalServerError, internalError()
	}
	status, code := row.status, row.code
	if e.Code != "" {
		code = e.Code
	}
	if code == methodNotAllowed {
		status = http.StatusMethodNotAllowed
	}
	body := ErrorBody{Code: code, Message: short(e.Msg, maxMessage), Target: short(e.Target, maxTarget), Details: make([]ErrorBody, 0, len(e.Details))}
	for _, d := range e.Details {
		body.Details = append(body.Details, ErrorBody{Code: d.Code, Message: d.Msg, Target: d.Target, Details: []ErrorBody{}})
	}
	return status, Envelope{body}
}

// How much of an error is shown: what is longer repeats what was sent.
const maxMessage, maxTarget = 16 << 10, 4 << 10

// short cuts a text that is longer, in no letter's middle.
func short(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func internalError() Envelope {
	return Envelope{ErrorBody{Code: table[fault.Internal].code, Message: "internal error", Details: []ErrorBody{}}}
}

// fail writes err as the answer, or gives up where half of one is out already.
func (rt *Router) fail(w *recorder, r *http.Request, x *exchange, err error) {
	status, body := ErrorOf(err)
	if status == http.StatusInternalServerError {
		if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
			w.status = statusClientGone
			return
		}
		rt.logger().ErrorContext(r.Context(), "failed", "request", x.id, "route", x.pattern, "error", err)
	}
	if w.status != 0 {
		panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
	}
	if status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "5")
	}
	rt.writeError(w, r, status, body)
}

func (rt *Router) writeError(w http.ResponseWriter, r *http.Request, status int, body Envelope) {
	w.Header().Set("x-ms-error-code", body.Error.Code)
	if err := rt.write(w, r, status, body); err != nil {
		rt.logger().DebugContext(r.Context(), "lost the client", "error", err)
	}
}

// write sends body as JSON; nil is no body at all.
func (rt *Router) write(w http.ResponseWriter, r *http.Request, status int, body any) error {
	if body == nil {
		w.Header().Set("Content-Length", "0")
		if status == http.StatusNoContent || status == http.StatusNotModified {
			w.Header().Del("Content-Length")
		}
		w.WriteHeader(status)
		return nil
	}
	text, ready := body.(JSON)
	if !ready {
		var err error
		if text, err = Encode(body); err != nil {
			return fmt.Errorf("encode the answer of %s: %w", r.Pattern, err)
		}
	}
	if len(text) > maxAnswer {
		rt.logger().WarnContext(r.Context(), "answered at length", "route", r.Pattern, "bytes", len(text))
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		rt.logger().DebugContext(r.Context(), "lost the client", "error", err)
	}
	return nil
}
