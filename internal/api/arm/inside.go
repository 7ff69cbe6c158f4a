package arm

import (
	"bytes"
	"context"
	"net/http"
	"net/url"

	"github.com/ebb-compute/ebb/internal/core/access"
)

// insideKey marks a request that the server makes of itself. Nothing that comes
// in from outside can set it.
type insideKey struct{}

// Inside is a request that the server makes of itself, for a caller that it knows.
type Inside struct {
	Method, Host, Path string
	Query              url.Values
	Header             http.Header // may be nil
	Body               []byte
}

// Answered is what a request inside came to.
type Answered struct {
	Status int
	Header http.Header
	Body   []byte
}

// Call answers a request as if the caller had sent it: by the same routes, with
// the same checks and errors. A template's resources are put this way.
func (rt *Router) Call(ctx context.Context, who access.Principal, in Inside) (Answered, error) {
	u := url.URL{Scheme: "https", Host: in.Host, Path: in.Path, RawQuery: in.Query.Encode()}
	r, err := http.NewRequestWithContext(context.WithValue(ctx, insideKey{}, who), in.Method, "https://ebb.invalid/", bytes.NewReader(in.Body))
	if err != nil {
		return Answered{}, err
	}
	r.URL, r.Host, r.RequestURI = &u, in.Host, u.RequestURI()
	for k, v := range in.Header {
		r.Header[k] = v
	}
	r.Header.Set("Content-Type", "application/json")
	w := &kept{header: http.Header{}}
	rt.ServeHTTP(w, r)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return Answered{w.status, w.header, w.body.Bytes()}, ctx.Err()
}

// insider returns for whom the server makes a request of itself.
func insider(ctx context.Context) (access.Principal, bool) {
	who, ok := ctx.Value(insideKey{}).(access.Principal)
	return who, ok
}

// kept is an answer that is kept instead of sent.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *kept) Header() http.Header { return w.header }

func (w *kept) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

func (w *kept) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}
