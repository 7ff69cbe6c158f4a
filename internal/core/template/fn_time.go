package template

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// times are the functions of dates. The time they know is the deployment's.
var times = map[string]function{
	"utcNow":            fn(0, 1, utcNow),
	"dateTimeAdd":       fn(2, 3, dateTimeAdd),
	"dateTimeFromEpoch": fn(1, 1, dateTimeFromEpoch),
	"dateTimeToEpoch":   fn(1, 1, dateTimeToEpoch),
}

func utcNow(c *invocation, v []any) (any, error) {
	if c.place != inParameter {
		return nil, c.fail("it is only allowed in the default value of a parameter.")
	}
	layout := "yyyyMMddTHHmmssZ"
	if len(v) == 1 {
		s, err := c.text(v, 0)
		if err != nil {
			return nil, err
		}
		layout = s
	}
	return c.write(c.d.in.Now.UTC(), layout)
}

// layouts that a time is read in.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05", "20060102T150405Z0700", "20060102T150405", "2006-01-02", time.RFC1123}

func (c *invocation) time(s string) (time.Time, error) {
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, c.fail("'%s' is not a time in ISO 8601, such as 2026-01-31T12:00:00Z.", clip(s))
}

func dateTimeAdd(c *invocation, v []any) (any, error) {
	words, err := c.texts(v)
	if err != nil {
		return nil, err
	}
	t, err := c.time(words[0])
	if err != nil {
		return nil, err
	}
	if t, err = c.later(t, words[1]); err != nil {
		return nil, err
	}
	layout := "yyyy-MM-ddTHH:mm:ssZ"
	if len(words) == 3 {
		layout = words[2]
	} else if strings.IndexByte(words[0], '-') < 0 {
		layout = "yyyyMMddTHHmmssZ" // as utcNow() writes it
	}
	return c.write(t, layout)
}

// later adds an ISO 8601 duration, which may be negative.
func (c *invocation) later(t time.Time, duration string) (time.Time, error) {
	wrong := c.fail("'%s' is not a duration in ISO 8601, such as P3D or -PT1H30M.", clip(duration))
	s, sign := duration, 1
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		s, sign = rest, -1
	}
	s, ok := strings.CutPrefix(s, "P")
	if !ok || s == "" {
		return t, wrong
	}
	clock := false
	for s != "" {
		if s[0] == 'T' && !clock {
			clock, s = true, s[1:]
			continue
		}
		i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 || i > 6 {
			return t, wrong
		}
		n, _ := strconv.Atoi(s[:i])
		n *= sign
		switch unit := s[i]; {
		case unit == 'Y' && !clock && n > -10_000 && n < 10_000:
			t = months(t, 12*n)
		case unit == 'M' && !clock:
			t = months(t, n)
		case unit == 'W' && !clock:
			t = t.AddDate(0, 0, 7*n)
		case unit == 'D' && !clock:
			t = t.AddDate(0, 0, n)
		case unit == 'H' && clock:
			t = t.Add(time.Duration(n) * time.Hour)
		case unit == 'M' && clock:
			t = t.Add(time.Duration(n) * time.Minute)
		case unit == 'S' && clock:
			t = t.Add(time.Duration(n) * time.Second)
		default:
			return t, wrong
		}
		s = s[i+1:]
	}
	return t, nil
}

// months adds months as .NET does: the 31st becomes the last day of a shorter month.
func months(t time.Time, n int) time.Time {
	next := t.AddDate(0, n, 0)
	if next.Day() != t.Day() {
		next = next.AddDate(0, 0, -next.Day())
	}
	return next
}

func dateTimeFromEpoch(c *invocation, v []any) (any, error) {
	n, err := c.whole(v, 0)
	if err != nil {
		return nil, err
	}
	if n < -62135596800 || n > 253402300799 {
		return nil, c.fail("%d seconds do not lie in the years 1 to 9999.", n)
	}
	return time.Unix(n, 0).UTC().Format("2006-01-02T15:04:05Z"), nil
}

func dateTimeToEpoch(c *invocation, v []any) (any, error) {
	s, err := c.text(v, 0)
	if err != nil {
		return nil, err
	}
	t, err := c.time(s)
	return t.Unix(), err
}

// standard are .NET's formats of one letter.
var standard = map[string]string{
	"d": "MM/dd/yyyy", "D": "dddd, dd MMMM yyyy", "f": "dddd, dd MMMM yyyy HH:mm", "F": "dddd, dd MMMM yyyy HH:mm:ss", "g": "MM/dd/yyyy HH:mm", "G": "MM/dd/yyyy HH:mm:ss",
	"m": "MMMM dd", "M": "MMMM dd", "o": "yyyy-MM-ddTHH:mm:ss.fffffffK", "O": "yyyy-MM-ddTHH:mm:ss.fffffffK", "r": "ddd, dd MMM yyyy HH:mm:ss 'GMT'", "R": "ddd, dd MMM yyyy HH:mm:ss 'GMT'",
	"s": "yyyy-MM-ddTHH:mm:ss", "t": "HH:mm", "T": "HH:mm:ss", "u": "yyyy-MM-dd HH:mm:ssZ", "U": "dddd, dd MMMM yyyy HH:mm:ss", "y": "yyyy MMMM", "Y": "yyyy MMMM",
}

// fields are .NET's custom formats, and Go's for the same.
var fields = map[string]string{
	"yyyy": "2006", "yy": "06", "MMMM": "January", "MMM": "Jan", "MM": "01", "M": "1", "dddd": "Monday", "ddd": "Mon", "dd": "02", "d": "2",
	"HH": "15", "hh": "03", "h": "3", "mm": "04", "m": "4", "ss": "05", "s": "5", "tt": "PM", "K": "Z07:00", "zzz": "-07:00",
}

// write formats a time as .NET would.
func (c *invocation) write(t time.Time, layout string) (string, error) {
	if long, ok := standard[layout]; ok {
		layout = long
	}
	if t.Year() < 1 || t.Year() > 9999 {
		return "", c.fail("the year %d does not lie in 1 to 9999.", t.Year())
	}
	var b strings.Builder
	for i := 0; i < len(layout); {
		ch := layout[i]
		switch {
		case ch == '\'' || ch == '"':
			end := strings.IndexByte(layout[i+1:], ch)
			if end < 0 {
				return "", c.fail("the format '%s' has a quote that is not closed.", clip(layout))
			}
			b.WriteString(layout[i+1 : i+1+end])
			i += end + 2
		case ch == '\\' && i+1 < len(layout):
			b.WriteByte(layout[i+1])
			i += 2
		case ch == '%':
			i++
		default:
			n := 1
			for i+n < len(layout) && layout[i+n] == ch {
				n++
			}
			if err := c.part(&b, t, layout[i:i+n]); err != nil {
				return "", err
			}
			i += n
		}
	}
	return b.String(), nil
}

func (c *invocation) part(b *strings.Builder, t time.Time, run string) error {
	if goes, ok := fields[run]; ok {
		b.WriteString(t.Format(goes))
		return nil
	}
	switch ch := run[0]; {
	case run == "H":
		b.WriteString(strconv.Itoa(t.Hour()))
	case (ch == 'f' || ch == 'F') && len(run) <= 7:
		digits := fmt.Sprintf("%07d", t.Nanosecond()/100)[:len(run)]
		if ch == 'F' {
			digits = strings.TrimRight(digits, "0")
		}
		b.WriteString(digits)
	case strings.IndexByte("yMdhHmsftzKgF", ch) >= 0:
		return c.fail("the part '%s' of a time format is not part of Ebb.", clip(run))
	default:
		b.WriteString(run)
	}
	return nil
}
