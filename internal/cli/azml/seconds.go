package azml

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

// Seconds is a time in whole seconds, which is how az writes one; a Go or an ISO
// 8601 duration (2m, PT2M) says the same. nil: not said.
type Seconds struct{ Value int64 }

// DecodeSpec reads one.
func (s *Seconds) DecodeSpec(n yamlspec.Node) (err error) {
	if !n.Scalar() {
		return n.Errorf("a time is wanted: seconds (120), or a duration (2m, PT2M)")
	}
	if s.Value, err = ParseSeconds(n.Text()); err != nil {
		return n.Errorf("%s", err)
	}
	return nil
}

// ParseSeconds reads seconds or a duration.
func ParseSeconds(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return int64(d / time.Second), nil
	}
	if n, ok := FromISO(text); ok {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no time: give seconds (120), or a duration (2m, PT2M)", text)
}

var iso = regexp.MustCompile(`^P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12})(?:\.\d+)?S)?)?$`)

// FromISO reads an ISO 8601 duration without years and months, in whole seconds.
func FromISO(text string) (int64, bool) {
	m := iso.FindStringSubmatch(strings.ToUpper(text))
	if m == nil || len(text) < 3 {
		return 0, false
	}
	var total int64
	for i, unit := range []int64{7 * 86400, 86400, 3600, 60, 1} {
		n, _ := strconv.ParseInt("0"+m[i+1], 10, 64) // digits only, by the pattern
		total += n * unit
	}
	return total, true
}

// ToISO writes seconds as ARM has them.
func ToISO(seconds int64) string { return fmt.Sprintf("PT%dS", seconds) }
