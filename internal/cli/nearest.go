package cli

import (
	"fmt"
	"strings"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/near"
)

// shortened is an error whose details list more names than anybody reads, as
// that of an unknown size does: the nearest ones, and where all of them are.
func shortened(e *client.Error) (string, bool) {
	_, after, ok := strings.Cut(e.Message, "specified value ")
	if !ok || len(e.Details) != 1 {
		return "", false
	}
	names := strings.Split(e.Details[0].Message, ",")
	if len(names) < 20 {
		return "", false
	}
	wrong, _, _ := strings.Cut(after, " ")
	return fmt.Sprintf("there is no size %s (%s). Near to it are %s; \"ebb size list\" shows all %d.", wrong, e.Code, strings.Join(near.Names(wrong, names, 5), ", "), len(names)), true
}
