package mgmt

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/deployments"
	"github.com/ebb-compute/ebb/internal/core/access"
)

// Inside makes requests of this server for deployments: each resource of a
// template is put by the same route, with the same checks and errors, as if its
// caller had put it.
type Inside struct{ Router *arm.Router }

// Do implements [deployments.Calls].
func (i Inside) Do(ctx context.Context, p access.Principal, c deployments.Call) (deployments.Answer, error) {
	u, err := url.Parse(c.Path)
	if err != nil {
		return deployments.Answer{Status: http.StatusBadRequest, Body: errorBody("InvalidRequestUri", "'%.300s' is not an address: %v.", c.Path, err)}, nil
	}
	in := arm.Inside{Method: c.Method, Host: c.Host, Path: u.Path, Query: u.Query(), Header: http.Header{}}
	if c.Version != "" && in.Query.Get("api-version") == "" {
		in.Query.Set("api-version", c.Version)
	}
	if c.Create {
		in.Header.Set(createOnlyHeader, "true")
	}
	if c.Check {
		in.Header.Set(checkHeader, "true")
	}
	if c.Body != nil {
		if in.Body, err = json.Marshal(c.Body); err != nil {
			return deployments.Answer{}, fmt.Errorf("encode the body of %s %s: %w", c.Method, c.Path, err)
		}
	}
	got, err := i.Router.Call(ctx, p, in)
	if err != nil {
		return deployments.Answer{}, err
	}
	ans := deployments.Answer{Status: got.Status, Async: got.Header.Get("Azure-AsyncOperation"), Location: got.Header.Get("Location")}
	if len(got.Body) > 0 {
		if err := arm.Decode(got.Body, &ans.Body); err != nil {
			return ans, fmt.Errorf("read the answer of %s %s: %w", c.Method, c.Path, err)
		}
	}
	return ans, nil
}

func errorBody(code, format string, args ...any) map[string]any {
	return map[string]any{"error": map[string]any{"code": code, "message": fmt.Sprintf(format, args...), "details": []any{}}}
}
