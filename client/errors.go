package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Error is a refusal by the server, in ARM's terms.
type Error struct {
	Status    int    // HTTP status; 0 for a long-running operation that failed
	Code      string // as "ResourceNotFound"
	Message   string
	Target    string
	Details   []Detail
	RequestID string // x-ms-request-id, which the server's log has too
}

// Detail is one line of an error's details.
type Detail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Target  string `json:"target"`
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	if e.Message == "" {
		fmt.Fprintf(&b, "the server answered %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Code != "" {
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	for _, d := range e.Details {
		fmt.Fprintf(&b, "\n  %s", d.Message)
	}
	return b.String()
}

// IsNotFound reports whether err says that the thing asked for is not there.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// Unreachable is the error of a request that got no answer within the
// client's patience.
type Unreachable struct {
	URL string
	Err error
}

func (e *Unreachable) Error() string { return fmt.Sprintf("no answer from %s: %v", e.URL, e.Err) }

// Unwrap gives what the network said.
func (e *Unreachable) Unwrap() error { return e.Err }

// envelope is ARM's error body. The OAuth endpoints have another.
type envelope struct {
	Error json.RawMessage `json:"error"`
	OAuth string          `json:"error_description"`
}

// errorOf reads an error answer. A body that is none of the known shapes (a
// proxy's page, say) still gives an error with the status.
func errorOf(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Ms-Request-Id")}
	var env envelope
	if json.Unmarshal(body, &env) != nil {
		return e
	}
	var code string
	if json.Unmarshal(env.Error, &code) == nil {
		e.Code, e.Message = code, env.OAuth
		return e
	}
	e.fill(env.Error)
	return e
}

// fill takes code, message and details from an ARM error object, which older
// operations nest once more.
func (e *Error) fill(raw json.RawMessage) {
	var body struct {
		Code    string          `json:"code"`
		Message string          `json:"message"`
		Target  string          `json:"target"`
		Details []Detail        `json:"details"`
		Error   json.RawMessage `json:"error"`
	}
	if json.Unmarshal(raw, &body) != nil {
		return
	}
	if body.Code == "" && len(body.Error) > 0 {
		e.fill(body.Error)
		return
	}
	e.Code, e.Message, e.Target, e.Details = body.Code, body.Message, body.Target, body.Details
}

// Problem is one entry of a resource's errors: an ARM ErrorResponse, with or
// without its "error" around it.
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// UnmarshalJSON takes both forms.
func (p *Problem) UnmarshalJSON(b []byte) error {
	var e Error
	e.fill(b)
	p.Code, p.Message = e.Code, e.Message
	return nil
}
