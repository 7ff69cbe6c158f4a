package arm

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

// RetryAfter is how long clients are asked to wait before they look again, in
// seconds. Without it on every answer of a poll, they wait 10 to 30.
const RetryAfter = "1"

// defaultVersion is the api-version put into links when the client gave none.
const defaultVersion = "2022-10-01"

// Async sets the headers of a long-running operation: Azure-AsyncOperation to
// the path that tells its state and Location to the one that gives its result
// (empty: no Location). Both are absolute, on the host the client came by.
func Async(w http.ResponseWriter, r *http.Request, statusPath, resultPath string) {
	w.Header().Set("Azure-AsyncOperation", link(r, statusPath))
	w.Header().Set("Retry-After", RetryAfter)
	if resultPath != "" {
		Later(w, r, resultPath)
	}
}

// Later sets the headers of an answer that has yet to come: Location is the path
// that gives it, with 202 until it does.
func Later(w http.ResponseWriter, r *http.Request, resultPath string) {
	w.Header().Set("Location", link(r, resultPath))
	w.Header().Set("Retry-After", RetryAfter)
}

// link is the absolute URL of a path, with the api-version of the request.
func link(r *http.Request, path string) string {
	version := Query(r, "api-version")
	if version == "" {
		version = defaultVersion
	}
	return HostsOf(r).ARM() + path + "?" + url.Values{"api-version": {version}}.Encode()
}

// List is a page of resources. A last page has no nextLink at all: SDK v1
// follows a null one.
type List[T any] struct {
	Value    []T    `json:"value"`
	NextLink string `json:"nextLink,omitempty"`
}

// Page returns items as an answer. next is what the following page is asked
// with (as $skipToken; see SkipToken), empty on the last one.
func Page[T any](r *http.Request, items []T, next string) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{Value: items, NextLink: nextLink(r, next)}
}

func nextLink(r *http.Request, next string) string {
	if next == "" {
		return ""
	}
	q := r.URL.Query()
	for k := range q {
		if strings.EqualFold(k, "$skipToken") || strings.EqualFold(k, "$skip") {
			q.Del(k)
		}
	}
	q.Set("$skipToken", next)
	u := url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path, RawQuery: q.Encode()}
	return u.String()
}

// SkipToken returns where the page that r asks for begins, as Page wrote it.
func SkipToken(r *http.Request) string { return Query(r, "$skipToken") }

// Query returns the first value of a query parameter whose name matches in any case.
func Query(r *http.Request, name string) string {
	for k, v := range r.URL.Query() {
		if strings.EqualFold(k, name) && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// ETag returns the entity tag of a document at a revision.
func ETag(rev int64) string { return `"` + strconv.FormatInt(rev, 16) + `"` }

// Match checks If-Match and If-None-Match of a write by ARM's rules
// (arm-rpc/v1.0): what does not hold is fault.Precondition. An If-Match on
// something absent fails for PUT alone: PATCH then says 404 and DELETE 204,
// which is their handlers' to say.
func Match(r *http.Request, target string, exists bool, etag string) error {
	if want := r.Header.Get("If-Match"); want != "" {
		switch {
		case !exists && r.Method == http.MethodPut:
			return fault.Coded(fault.Precondition, "PreconditionFailed", target, "If-Match asks for a resource that is there, and there is none.")
		case exists && !tagIn(want, etag):
			return fault.Coded(fault.Precondition, "PreconditionFailed", target, "The resource has changed since it was read: its ETag is %s and not %s.", etag, clip(want))
		}
	}
	if not := r.Header.Get("If-None-Match"); not != "" && exists && tagIn(not, etag) {
		return fault.Coded(fault.Precondition, "PreconditionFailed", target, "If-None-Match asks that the resource is not there as it is, and it is.")
	}
	return nil
}

// NotModified reports whether a GET may be answered with 304.
func NotModified(r *http.Request, etag string) bool {
	want := r.Header.Get("If-None-Match")
	return want != "" && tagIn(want, etag)
}

// tagIn reports whether a list of entity tags names etag. Tags compare weakly,
// and some clients send them without quotes.
func tagIn(list, etag string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		if tag == "*" || tag == strings.Trim(strings.TrimPrefix(etag, "W/"), `"`) {
			return true
		}
	}
	return false
}
