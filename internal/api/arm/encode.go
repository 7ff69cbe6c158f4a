package arm

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// JSON is a body that is encoded already: it may be kept and answered again. It
// must not be changed.
type JSON []byte

// Encode encodes a body as answers are.
func Encode(body any) (JSON, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(body)
	return buf.Bytes(), err
}

// PageOf is [Page] of encoded items. They are put together as they are: looking
// through them once more, as encoding/json does, is most of what a page costs.
func PageOf(r *http.Request, items []JSON, next string) (JSON, error) {
	var buf bytes.Buffer
	size := 1 << 10 // for what is around them
	for _, item := range items {
		size += len(item)
	}
	buf.Grow(size)
	buf.WriteString(`{"value":[`)
	for i, item := range items {
		if i > 0 {
			buf.WriteByte(',')
		}
		buf.Write(bytes.TrimSuffix(item, []byte("\n")))
	}
	buf.WriteByte(']')
	if link := nextLink(r, next); link != "" {
		text, err := Encode(link)
		if err != nil {
			return nil, err
		}
		buf.WriteString(`,"nextLink":`)
		buf.Write(bytes.TrimSuffix(text, []byte("\n")))
	}
	buf.WriteString("}\n")
	return buf.Bytes(), nil
}
