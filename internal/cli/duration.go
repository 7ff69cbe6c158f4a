package cli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// seconds is a flag that takes whole seconds, as az does, or a Go or ISO 8601
// duration: 120, 2m, PT2M.
type seconds struct {
	value int64
	set   bool
}

func (s *seconds) String() string {
	if !s.set {
		return ""
	}
	return strconv.FormatInt(s.value, 10)
}

// Set implements pflag.Value.
func (s *seconds) Set(text string) error {
	n, err := parseSeconds(text)
	s.value, s.set = n, err == nil
	return err
}

// Type implements pflag.Value.
func (s *seconds) Type() string { return "seconds" }

func parseSeconds(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return int64(d / time.Second), nil
	}
	if n, ok := fromISO(text); ok {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no time: give seconds (120), or a duration (2m, PT2M)", text)
}

var iso = regexp.MustCompile(`^P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12})(?:\.\d+)?S)?)?$`)

// fromISO reads an ISO 8601 duration without years and months, in whole seconds.
func fromISO(text string) (int64, bool) {
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

func toISO(seconds int64) string { return fmt.Sprintf("PT%dS", seconds) }

// bytesOf reads a size: 500, 10M, 2GiB. Powers of 1024, as du and df.
func bytesOf(text string) (int64, error) {
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B"), "I")
	shift := 0
	if i := strings.IndexByte("KMGTP", lastByte(t)); i >= 0 {
		shift = 10 * (i + 1)
		t = t[:len(t)-1]
	}
	f, err := strconv.ParseFloat(t, 64)
	if err != nil || f < 0 || f*float64(int64(1)<<shift) > 1<<62 {
		return 0, fmt.Errorf("%q is no size: give bytes, or 500M, 10G", text)
	}
	return int64(f * float64(int64(1)<<shift)), nil
}

func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}
