package jobs

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/fault"
)

// A filter is what SDK v1 writes into runs:query: comparisons joined by and, or
// and parentheses. It looks like OData but quotes nothing: keys and values may
// hold spaces, dots and dashes, as in (Tags/my key eq a value).
type filter struct {
	op          string // "and", "or", "not"; else a comparison
	parts       []filter
	field, want string
	null        bool // want is the word null
}

// getter returns the value of a field: text, a time, nil for null or absent{};
// false: there is no such field.
type getter func(field string) (any, bool)

const filterDepth = 32

// parseFilter reads a filter; empty text matches everything.
func parseFilter(s string) (filter, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return filter{op: "and"}, nil
	}
	if len(s) > maxFilter {
		return filter{}, fault.Coded(fault.Invalid, "InvalidFilter", "filter", "The filter has %d bytes; at most %d are allowed.", len(s), maxFilter)
	}
	return parseOr(s, 0)
}

func badFilter(s string) error {
	return fault.Coded(fault.Invalid, "InvalidFilter", "filter", "The filter is not understood at %.80q; comparisons like (Status eq Completed), joined by and, or, not, are.", s)
}

func parseOr(s string, depth int) (filter, error) {
	if depth > filterDepth {
		return filter{}, badFilter(s)
	}
	for _, op := range []string{"or", "and"} {
		pieces := split(s, " "+op+" ")
		if len(pieces) == 1 {
			continue
		}
		f := filter{op: op}
		for _, p := range pieces {
			part, err := parseOr(p, depth+1)
			if err != nil {
				return filter{}, err
			}
			f.parts = append(f.parts, part)
		}
		return f, nil
	}
	s = strings.TrimSpace(s)
	if rest, ok := cutFold(s, "not "); ok {
		part, err := parseOr(rest, depth+1)
		return filter{op: "not", parts: []filter{part}}, err
	}
	if strings.HasPrefix(s, "(") && closes(s) == len(s)-1 {
		return parseOr(s[1:len(s)-1], depth+1)
	}
	return parseComparison(s)
}

func parseComparison(s string) (filter, error) {
	lower := strings.ToLower(s)
	at, found := len(s), ""
	for _, op := range []string{"eq", "ne", "gt", "ge", "lt", "le"} {
		if i := strings.Index(lower, " "+op+" "); i > 0 && i < at {
			at, found = i, op
		}
	}
	if found == "" {
		return filter{}, badFilter(s)
	}
	want := strings.TrimSpace(s[at+4:])
	f := filter{op: found, field: strings.TrimSpace(s[:at]), want: want, null: want == "null"}
	if len(want) >= 2 && (want[0] == '\'' || want[0] == '"') && want[len(want)-1] == want[0] {
		f.want = strings.ReplaceAll(want[1:len(want)-1], "''", "'")
	}
	return f, nil
}

// split cuts s at a word that stands outside parentheses and quotes.
func split(s, word string) []string {
	var out []string
	level, quoted, from := 0, false, 0
	lower := strings.ToLower(s)
	if len(lower) != len(s) { // a letter whose lower case is longer: words stay as they are
		lower = s
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'' && (quoted || i > 0 && s[i-1] == ' '):
			quoted = !quoted
		case quoted:
		case s[i] == '(':
			level++
		case s[i] == ')':
			level--
		case level == 0 && strings.HasPrefix(lower[i:], word):
			out = append(out, s[from:i])
			from = i + len(word)
			i = from - 2 // the word's last space may begin the next one
		}
	}
	return append(out, s[from:])
}

// closes returns where the parenthesis that s begins with ends.
func closes(s string) int {
	level := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			level++
		case ')':
			if level--; level == 0 {
				return i
			}
		}
	}
	return -1
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// match says whether the filter holds.
func (f *filter) match(get getter) (bool, error) {
	switch f.op {
	case "and", "or":
		for i := range f.parts {
			ok, err := f.parts[i].match(get)
			if err != nil || ok == (f.op == "or") {
				return ok, err
			}
		}
		return f.op == "and", nil
	case "not":
		ok, err := f.parts[0].match(get)
		return !ok, err
	}
	v, known := get(f.field)
	if !known {
		return false, fault.Coded(fault.Invalid, "InvalidFilter", "filter", "The filter asks for %.80q, which runs do not have.", f.field)
	}
	return f.compare(v)
}

func (f *filter) compare(v any) (bool, error) {
	switch v := v.(type) {
	case absent:
		return false, nil
	case nil:
		return f.null == (f.op == "eq") && (f.op == "eq" || f.op == "ne"), nil
	case time.Time:
		if f.null {
			return v.IsZero() == (f.op == "eq"), nil
		}
		want, err := parseTime(f.want)
		if err != nil {
			return false, fault.Coded(fault.Invalid, "InvalidFilter", "filter", "The filter compares %s with %.60q, which is no time.", f.field, f.want)
		}
		return !v.IsZero() && f.holds(v.Compare(want)), nil
	case string:
		if f.null {
			return f.op == "ne", nil
		}
		if strings.EqualFold(f.field, "status") {
			return f.holds(strings.Compare(strings.ToLower(v), strings.ToLower(f.want))), nil
		}
		return f.holds(strings.Compare(v, f.want)), nil
	}
	return false, nil
}

func (f *filter) holds(sign int) bool {
	switch f.op {
	case "eq":
		return sign == 0
	case "ne":
		return sign != 0
	case "gt":
		return sign > 0
	case "ge":
		return sign >= 0
	case "lt":
		return sign < 0
	}
	return sign <= 0
}

// parseTime reads ISO 8601 and what Python's str makes of a datetime; without a
// zone it is UTC.
func parseTime(s string) (time.Time, error) {
	var err error
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02"} {
		var t time.Time
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}

// trait answers for RunTypeV2: its orchestrator, or one of its traits.
func (b *Body) trait(key string) any {
	var t struct {
		Orchestrator string
		Traits       []string
	}
	if len(b.TypeV2) == 0 || json.Unmarshal(b.TypeV2, &t) != nil {
		return absent{}
	}
	if strings.EqualFold(key, "orchestrator") {
		return t.Orchestrator
	}
	if name, ok := cutFold(key, "traits/"); ok {
		for _, has := range t.Traits {
			if strings.EqualFold(has, name) {
				return has
			}
		}
	}
	return absent{}
}
