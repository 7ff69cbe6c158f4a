package storage

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// conditions are a request's conditional headers.
type conditions struct {
	match, noneMatch string
	modified         time.Time // If-Modified-Since; zero: none
	unmodified       time.Time
}

// conditionsOf reads them. prefix is "x-ms-source-" for those of a copy's source.
func (c *call) conditionsOf(prefix string) (conditions, error) {
	h := c.r.Header
	out := conditions{match: h.Get(prefix + "If-Match"), noneMatch: h.Get(prefix + "If-None-Match")}
	for name, to := range map[string]*time.Time{"If-Modified-Since": &out.modified, "If-Unmodified-Since": &out.unmodified} {
		v := h.Get(prefix + name)
		if v == "" {
			continue
		}
		at, err := http.ParseTime(v)
		if err != nil {
			return conditions{}, headerValue(prefix + name)
		}
		*to = at
	}
	return out, nil
}

// failed says whether a blob, or nil for none, does not meet what must be so
// (412), or is as it must not be (304 or 412 or 409).
func (k conditions) failed(old *blob.Info) (unmet, same bool) {
	if old == nil {
		return k.match != "", false
	}
	tag := quote(old.ETag)
	at := old.Modified.Truncate(time.Second) // as precise as the header
	switch {
	case k.match != "" && !matches(k.match, tag), !k.unmodified.IsZero() && at.After(k.unmodified):
		return true, false
	case k.noneMatch != "":
		return false, matches(k.noneMatch, tag)
	}
	return false, !k.modified.IsZero() && !at.After(k.modified)
}

// mayRead checks the request's conditions for a read.
func (c *call) mayRead(info *blob.Info) error {
	k, err := c.conditionsOf("")
	if err != nil {
		return err
	}
	switch unmet, same := k.failed(info); {
	case unmet:
		return notMet()
	case strings.TrimSpace(k.noneMatch) == "*":
		return fault.Coded(fault.Invalid, "UnsatisfiableCondition", "", "The request includes an unsatisfiable condition for this operation.")
	case same:
		return errNotModified
	}
	return nil
}

// mayWrite checks the request's conditions, and its signature, against the blob
// that is there.
func (c *call) mayWrite() (func(old *blob.Info) error, error) {
	k, err := c.conditionsOf("")
	if err != nil {
		return nil, err
	}
	return func(old *blob.Info) error {
		switch unmet, same := k.failed(old); {
		case unmet:
			return notMet()
		case same && strings.TrimSpace(k.noneMatch) == "*":
			return exists()
		case same:
			return notMet()
		case old != nil && c.newOnly:
			return fault.Coded(fault.Forbidden, "AuthorizationPermissionMismatch", "", "This request is not authorized to perform this operation using this permission: it may create blobs, but not replace one.")
		}
		return nil
	}, nil
}

// absent is the answer where the blob is not there, by err: a condition that only
// a blob can meet is not met.
func (c *call) absent(err error, check func(*blob.Info) error) error {
	if !errors.Is(err, fault.NotFound) {
		return err
	}
	if unmet := check(nil); unmet != nil {
		return unmet
	}
	return err
}

// errNotModified is the 304 of a conditional read.
var errNotModified = errors.New("not modified")

func matches(header, tag string) bool {
	for m := range strings.SplitSeq(header, ",") {
		m = strings.TrimPrefix(strings.TrimSpace(m), "W/")
		if m == "*" || m == tag || quote(m) == tag {
			return true
		}
	}
	return false
}

func quote(etag string) string { return `"` + etag + `"` }
