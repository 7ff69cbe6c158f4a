package schema

import (
	"bytes"
	"io"
	"net/http"

	"github.com/ebb-compute/ebb/internal/api/arm"
)

// version is the api-version that schema.json is of.
const version = "2024-04-01"

// Checked returns a registrar whose routes are called only with bodies that the
// specification allows. Routes that it does not know are left as they are.
func Checked(reg arm.Registrar) arm.Registrar { return checked{reg} }

type checked struct{ arm.Registrar }

// Handle implements [arm.Registrar].
func (c checked) Handle(pattern string, h arm.Handler) {
	t := Body(pattern)
	if t == nil {
		c.Registrar.Handle(pattern, h)
		return
	}
	c.Registrar.Handle(pattern, func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		if v := arm.Query(r, "api-version"); v != version && v != "" {
			return h(w, r)
		}
		b, err := arm.ReadBody(r, arm.MaxBody)
		if err != nil {
			return 0, nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		// What is no JSON object is the handler's to refuse, or to take: SDK v1 puts
		// the object into a string.
		var v map[string]any
		if err := arm.Decode(b, &v); err == nil {
			if err := t.Check(v); err != nil {
				return 0, nil, err
			}
		}
		return h(w, r)
	})
}
