package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/cli/azml"
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
	n, err := azml.ParseSeconds(text)
	s.value, s.set = n, err == nil
	return err
}

// Type implements pflag.Value.
func (s *seconds) Type() string { return "seconds" }

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
