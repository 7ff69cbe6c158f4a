package template_test

import (
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/template"
)

// TestAmpleIsALimit meets the limits that a server has; scripts have smaller ones.
func TestAmpleIsALimit(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"[map(range(0, 10000), lambda('i', map(range(0, 10000), lambda('j', 1))))]": "more than 500000 steps",
		"[map(range(0, 4000), lambda('i', padLeft('', 10000)))]":                    "more than 32 MB",
		"[map(range(0, 1500), lambda('i', padLeft('', 10000)))]":                    "",
	} {
		in := input()
		in.Limits = template.Limits{}
		in.Template["outputs"] = map[string]any{"o": map[string]any{"type": "array", "value": value}}
		_, err := template.New(in)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", value, err, want)
		}
	}
}
