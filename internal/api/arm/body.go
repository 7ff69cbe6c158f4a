package arm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	// MaxBody is how much JSON a request may carry, in bytes: ARM's limit.
	MaxBody = 4 << 20
	// maxDepth is how deep JSON may nest. Azure's templates, the deepest honest
	// documents there are, stay under 100.
	maxDepth = 200
)

// ReadBody reads the body of a request of at most limit bytes.
func ReadBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, fault.Coded(fault.TooLarge, "RequestContentTooLarge", "", "The request content has %d bytes; at most %d are allowed.", r.ContentLength, limit)
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, tooLarge(err)
		}
		return nil, fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content could not be read to its end.")
	}
	if int64(len(b)) > limit {
		return nil, fault.Coded(fault.TooLarge, "RequestContentTooLarge", "", "The request content has more than the %d bytes that are allowed.", limit)
	}
	return b, nil
}

func tooLarge(err error) error {
	e, _ := errors.AsType[*http.MaxBytesError](err)
	return fault.Coded(fault.TooLarge, "RequestContentTooLarge", "", "The request content has more than the %d bytes that are allowed.", e.Limit)
}

// ReadJSON reads the body as one JSON value into v; properties that v lacks are
// ignored. What is not JSON, or not of v's types, is fault.Invalid and says where.
func ReadJSON(r *http.Request, v any) error {
	b, err := ReadBody(r, MaxBody)
	if err != nil {
		return err
	}
	return Decode(b, v)
}

// ReadDocument reads the body as a JSON object. Numbers stay as they were
// written (json.Number).
func ReadDocument(r *http.Request) (map[string]any, error) {
	b, err := ReadBody(r, MaxBody)
	if err != nil {
		return nil, err
	}
	return document(b, false)
}

// ReadPatch is ReadDocument for PATCH. It also takes a JSON string that holds
// the object: SDK v1's remove_identity encodes its body twice.
func ReadPatch(r *http.Request) (map[string]any, error) {
	b, err := ReadBody(r, MaxBody)
	if err != nil {
		return nil, err
	}
	return document(b, true)
}

func document(b []byte, twice bool) (map[string]any, error) {
	var v any
	if err := Decode(b, &v); err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok && twice {
		return document([]byte(s), false)
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content must be a JSON object, not %s.", jsonType(v))
	}
	return doc, nil
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	}
	return "a number"
}

// Decode reads one JSON value into v with the limits and errors of ReadJSON.
func Decode(b []byte, v any) error {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) // a byte order mark, from files written on Windows
	if len(bytes.TrimSpace(b)) == 0 {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content is empty; JSON is expected.")
	}
	if !utf8.Valid(b) {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content is not UTF-8.")
	}
	if at := tooDeep(b); at >= 0 {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content nests deeper than %d levels, at %s.", maxDepth, place(b, at))
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return malformed(b, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content goes on after its JSON value, at %s.", place(b, int(dec.InputOffset())))
	}
	return nil
}

func malformed(b []byte, err error) error {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content is not valid JSON: %s, at %s.", e, place(b, int(e.Offset)))
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", e.Field, "The value at %s is a %s, which does not fit this property.", place(b, int(e.Offset)), e.Value)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content is not valid JSON: it ends too early, at %s.", place(b, len(b)))
	}
	return fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request content does not fit: %s.", clip(err.Error()))
}

// place names a byte offset for people; the first line and offset are 1 and 0.
func place(b []byte, offset int) string {
	offset = min(max(offset, 0), len(b))
	return fmt.Sprintf("line %d, offset %d", 1+bytes.Count(b[:offset], []byte("\n")), offset)
}

// tooDeep returns the offset where JSON nests deeper than maxDepth, or -1.
func tooDeep(b []byte) int {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return i
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return -1
}
