// Package fault gives errors a kind that callers may act on and a sentence that
// users may see. It knows no HTTP: api/arm maps kinds to statuses.
//
// A fault's message is safe to show. Anything that is not a fault is internal:
// it is logged whole and shown as "internal error".
package fault

import (
	"errors"
	"fmt"
)

// Kind says what went wrong, in terms any layer understands.
type Kind string

// The kinds of fault. One table in api/arm turns them into HTTP statuses.
const (
	Invalid      Kind = "invalid"       // the request cannot be right, now or later: 400
	Unauthorized Kind = "unauthorized"  // nobody known is asking: 401
	Forbidden    Kind = "forbidden"     // somebody known may not: 403
	NotFound     Kind = "not found"     // 404
	Conflict     Kind = "conflict"      // it clashes with what is: 409
	Precondition Kind = "precondition"  // an ETag or revision does not match: 412
	TooLarge     Kind = "too large"     // 413
	Exhausted    Kind = "exhausted"     // quota or capacity: 409 at the API
	Unsupported  Kind = "not supported" // Ebb, or this engine, does not have it: 400 NotImplemented
	Unavailable  Kind = "unavailable"   // the disk is full, the store is closing: 503
	Internal     Kind = "internal"
)

// Error is a fault: a kind, a code clients know, what it is about, and words.
type Error struct {
	Kind    Kind
	Code    string   // ARM error code, as "InvalidPropertyValue"; empty: the kind's own
	Target  string   // what it is about: a resource id, a property path; may be empty
	Msg     string   // one or more whole sentences, for the user
	Details []Detail // more about it; may be nil
}

// Detail is one line of an error's details.
type Detail struct{ Code, Target, Msg string }

func (e *Error) Error() string {
	if e.Target == "" {
		return e.Msg
	}
	return e.Target + ": " + e.Msg
}

// Is makes errors.Is(err, fault.NotFound) work through any wrapping.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// Error lets a Kind stand as the target of errors.Is.
func (k Kind) Error() string { return string(k) }

// New returns a fault of kind k about target, with the kind's own code.
func New(k Kind, target, format string, args ...any) *Error {
	return &Error{Kind: k, Target: target, Msg: fmt.Sprintf(format, args...)}
}

// Coded returns a fault of kind k with an ARM error code of its own.
func Coded(k Kind, code, target, format string, args ...any) *Error {
	return &Error{Kind: k, Code: code, Target: target, Msg: fmt.Sprintf(format, args...)}
}

// KindOf returns the kind of the outermost fault in err, or Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
