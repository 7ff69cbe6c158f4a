package arm

import (
	"strings"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Longest path that is looked at. ARM ids with every name at its limit stay
// under 2,000 bytes; blob names may have 1,024 characters, each of up to 4 bytes.
const maxPath = 8 << 10

// Segments canonicalises a decoded path (http.Request.URL.Path, where %2F has
// become a slash) and takes it apart. Runs of slashes count as one and a slash
// at the end as none: `az resource` and `az lock` send both. Letters keep
// their case. Paths that can only be meant to confuse are fault.Invalid.
func Segments(path string) ([]string, error) {
	if len(path) > maxPath {
		return nil, fault.Coded(fault.Invalid, "InvalidRequestUri", "", "The path has %d bytes; at most %d are allowed.", len(path), maxPath)
	}
	if !utf8.ValidString(path) {
		return nil, fault.Coded(fault.Invalid, "InvalidRequestUri", "", "The path is not UTF-8.")
	}
	segments := make([]string, 0, 16)
	for s := range strings.SplitSeq(path, "/") {
		switch {
		case s == "":
			continue
		case s == "." || s == "..":
			return nil, fault.Coded(fault.Invalid, "InvalidRequestUri", "", "The path must not contain %q as a segment.", s)
		case strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }):
			return nil, fault.Coded(fault.Invalid, "InvalidRequestUri", "", "The path must not contain control characters.")
		}
		segments = append(segments, s)
	}
	return segments, nil
}

// lower lowers ASCII letters only, so that no other letter can pass for one.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if b[j] >= 'A' && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
