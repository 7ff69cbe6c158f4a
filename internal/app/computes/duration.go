package computes

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// iso matches durations of weeks, days and below: months and years have no length.
var iso = regexp.MustCompile(`^P(?:(\d{1,9})W|(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:[.,]\d{1,9})?S)?)?)$`)

// Duration reads an ISO 8601 duration such as PT2M or P1DT12H, to the whole second.
func Duration(s string) (time.Duration, error) {
	m := iso.FindStringSubmatch(s)
	if m == nil || s == "P" || s[len(s)-1] == 'T' {
		return 0, fmt.Errorf("%.64q is not an ISO 8601 duration such as PT120S or PT2M", s)
	}
	var total int64 // seconds; five terms of nine digits cannot overflow
	for i, unit := range []int64{7 * 24 * 3600, 24 * 3600, 3600, 60, 1} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseInt(m[i+1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%.64q is not a duration: %w", s, err)
		}
		total += n * unit
	}
	if total > longestIdle {
		return 0, fmt.Errorf("%.64q is longer than ten years", s)
	}
	return time.Duration(total) * time.Second, nil
}
