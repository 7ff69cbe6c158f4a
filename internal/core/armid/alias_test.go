package armid_test

import (
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/armid"
)

func TestAliases(t *testing.T) {
	t.Parallel()
	for _, blob := range []string{"ExperimentRun/dcid.r/outputs/a b#c%20é.txt", "a?b", "日本/語", " ", "%2e%2e/x", ".named/a b"} {
		alias := armid.Alias(blob)
		if alias == blob || strings.Trim(alias, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") != "" {
			t.Errorf("Alias(%q) = %q, which a URL escapes", blob, alias)
		}
		if got := armid.Unalias(alias); got != blob {
			t.Errorf("Unalias(%q) = %q, want %q", alias, got, blob)
		}
	}
	for what, name := range map[string]string{
		"a plain name": "outputs/model.pkl", "no alias": ".named/!", "an alias of what needs none": ".named/YWJj", "an alias with a bit set that means nothing": ".named/YSBi_1",
		"of no text": ".named/_w", "too long": strings.Repeat("é", 400),
	} {
		if got := armid.Unalias(armid.Alias(name)); got != name {
			t.Errorf("%s: %q became %q", what, name, got)
		}
	}
}
