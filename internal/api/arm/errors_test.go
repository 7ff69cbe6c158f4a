package arm_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/fault"
)

// An error does not send back the megabyte that it is about.
func TestErrorsAreShort(t *testing.T) {
	t.Parallel()
	huge := "x" + strings.Repeat("é", 1<<19)
	_, body := arm.ErrorOf(fault.New(fault.Invalid, huge, "The name %s is too long.", huge))
	for what, text := range map[string]string{"message": body.Error.Message, "target": body.Error.Target} {
		if len(text) > 20<<10 || len(text) < 1<<10 || !utf8.ValidString(text) || !strings.HasSuffix(text, "é…") {
			t.Errorf("its %s has %d bytes and ends in %q", what, len(text), text[max(0, len(text)-8):])
		}
	}
	if _, body := arm.ErrorOf(fault.New(fault.Invalid, "a/b", "It is short.")); body.Error.Message != "It is short." || body.Error.Target != "a/b" {
		t.Errorf("a short one is %+v", body)
	}
}
