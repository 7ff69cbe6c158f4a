package jobs

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/ebb-compute/ebb/internal/fault"
)

// A search is what MLflow writes into runs/search: comparisons of metrics,
// params, tags and attributes, joined by AND, as in
//
//	metrics.loss < 0.3 AND params."batch size" = '8' AND attributes.status IN ('FINISHED', 'FAILED')
//
// There is no OR and there are no parentheses around comparisons, as in MLflow.
type search []clause

// subject is what a clause or an order is about.
type subject struct{ kind, name string } // kind: metric, param, tag, attribute

type clause struct {
	of     subject
	op     string   // "=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL"
	words  []string // what is compared with; several with IN
	number float64  // of the one word, where of is a number
}

// numeric attributes; times are in ms since 1970.
var numeric = map[string]bool{"start_time": true, "end_time": true, "creation_time": true, "last_update_time": true}

// attributes that may be asked for, by all the names that MLflow gives them.
var (
	runAttributes = map[string]string{
		"run_id": "run_id", "run id": "run_id", "run_name": "run_name", "run name": "run_name", "status": "status",
		"artifact_uri": "artifact_uri", "user_id": "user_id", "user": "user_id", "start_time": "start_time", "created": "start_time", "end_time": "end_time",
	}
	experimentAttributes = map[string]string{"name": "name", "creation_time": "creation_time", "last_update_time": "last_update_time", "experiment_id": "experiment_id"}
)

func badSearch(format string, args ...any) error {
	return fault.Coded(fault.Invalid, "INVALID_PARAMETER_VALUE", "filter", format, args...)
}

// token is a word of a search, a quoted text, or a sign.
type token struct {
	text string
	mark rune // 0: a word; '\'' or '"' or '`': quoted; else the sign itself
}

// tokens cuts a search. A sign of comparison is one token.
func tokens(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '\'' || c == '"' || c == '`':
			end := strings.IndexByte(s[i+1:], c)
			if end < 0 {
				return nil, badSearch("The filter has a quote at %.40q that nothing closes.", s[i:])
			}
			out = append(out, token{s[i+1 : i+1+end], rune(c)})
			i += end + 2
		case strings.IndexByte("(),", c) >= 0:
			out = append(out, token{string(c), rune(c)})
			i++
		case strings.IndexByte("=!<>", c) >= 0:
			n := 1
			if i+1 < len(s) && s[i+1] == '=' {
				n = 2
			}
			out = append(out, token{s[i : i+n], '='})
			i += n
		default:
			n := strings.IndexFunc(s[i:], func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("'\"`(),=!<>", r) })
			if n == 0 {
				return nil, badSearch("The filter is not understood at %.40q.", s[i:])
			}
			if n < 0 {
				n = len(s) - i
			}
			out = append(out, token{s[i : i+n], 0})
			i += n
		}
	}
	return out, nil
}

// reader goes through tokens.
type reader struct {
	in         []token
	attributes map[string]string
}

func (r *reader) next() (token, bool) {
	if len(r.in) == 0 {
		return token{}, false
	}
	t := r.in[0]
	r.in = r.in[1:]
	return t, true
}

// word takes the next token if it is one of these words.
func (r *reader) word(words ...string) bool {
	if len(r.in) > 0 && r.in[0].mark == 0 && slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, r.in[0].text) }) {
		r.in = r.in[1:]
		return true
	}
	return false
}

// parseSearch reads a filter over runs, or over experiments.
func parseSearch(s string, attributes map[string]string) (search, error) {
	if len(s) > maxFilter {
		return nil, badSearch("The filter has %d bytes; at most %d are allowed.", len(s), maxFilter)
	}
	in, err := tokens(s)
	if err != nil {
		return nil, err
	}
	r := &reader{in, attributes}
	var out search
	for len(r.in) > 0 {
		if len(out) > 0 && !r.word("and") {
			return nil, badSearch("The filter is not understood at %.40q: comparisons are joined by AND, and by nothing else.", r.in[0].text)
		}
		c, err := r.clause()
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// kinds by their names in searches.
var kinds = map[string]string{
	"metric": "metric", "metrics": "metric", "param": "param", "params": "param", "parameter": "param", "parameters": "param",
	"tag": "tag", "tags": "tag", "attr": "attribute", "attribute": "attribute", "attributes": "attribute", "run": "attribute",
}

// subject reads "metrics.x", "params.\"a b\"", "attributes.status" or "status".
func (r *reader) subject() (subject, error) {
	t, ok := r.next()
	if !ok || t.mark != 0 && t.mark != '`' && t.mark != '"' {
		return subject{}, badSearch("The filter misses the name of a metric, param, tag or attribute.")
	}
	prefix, name, dotted := strings.Cut(t.text, ".")
	kind, known := kinds[strings.ToLower(prefix)]
	switch {
	case t.mark != 0: // a quoted word is an attribute: "Run Name"
		kind, name = "attribute", t.text
	case dotted && known && name == "": // params."a b"
		q, ok := r.next()
		if !ok || q.mark != '`' && q.mark != '"' {
			return subject{}, badSearch("The filter names no key after %q.", t.text)
		}
		name = q.text
	case dotted && !known:
		return subject{}, badSearch("The filter asks for %.80q; metrics, params, tags and attributes can be asked for.", t.text)
	case !dotted:
		kind, name = "attribute", t.text
	}
	if kind != "attribute" {
		return subject{kind, name}, nil
	}
	own, known := r.attributes[strings.ToLower(name)]
	if !known {
		return subject{}, badSearch("The filter asks for the attribute %.80q, which there is not.", name)
	}
	return subject{kind, own}, nil
}

func (of subject) number() bool {
	return of.kind == "metric" || of.kind == "attribute" && numeric[of.name]
}

func (r *reader) clause() (c clause, err error) {
	if c.of, err = r.subject(); err != nil {
		return c, err
	}
	if c.op, err = r.operator(c.of); err != nil {
		return c, err
	}
	switch c.op {
	case "IS NULL", "IS NOT NULL":
		return c, nil
	case "IN", "NOT IN":
		c.words, err = r.list()
		return c, err
	}
	t, ok := r.next()
	if !ok || t.mark != 0 && t.mark != '\'' && t.mark != '"' {
		return c, badSearch("The filter compares %q with nothing.", c.of.name)
	}
	c.words = []string{t.text}
	if !c.of.number() {
		if t.mark == 0 {
			return c, badSearch("The filter compares %q with %.60q, which is to stand in quotes.", c.of.name, t.text)
		}
		return c, nil
	}
	if c.number, err = strconv.ParseFloat(t.text, 64); err != nil || t.mark != 0 {
		return c, badSearch("The filter compares %q with %.60q, which is no number.", c.of.name, t.text)
	}
	return c, nil
}

func (r *reader) operator(of subject) (string, error) {
	text := !of.number()
	switch {
	case r.word("like") && text:
		return "LIKE", nil
	case r.word("ilike") && text:
		return "ILIKE", nil
	case r.word("in") && text:
		return "IN", nil
	case r.word("not"):
		if r.word("in") && text {
			return "NOT IN", nil
		}
	case r.word("is"):
		not := r.word("not")
		if r.word("null") {
			return map[bool]string{false: "IS NULL", true: "IS NOT NULL"}[not], nil
		}
	default:
		t, _ := r.next()
		if t.mark == '=' && (t.text == "=" || t.text == "!=" || !text && t.text != "!" && t.text != "==") {
			return t.text, nil
		}
		return "", badSearch("The filter compares %q by %.20q; text takes =, !=, LIKE, ILIKE, IN and NOT IN, numbers take =, !=, <, <=, > and >=.", of.name, t.text)
	}
	return "", badSearch("The filter compares %q in a way that its kind does not take; text takes =, !=, LIKE, ILIKE, IN and NOT IN, numbers take =, !=, <, <=, > and >=.", of.name)
}

// list reads ('a', 'b').
func (r *reader) list() ([]string, error) {
	var out []string
	for want := '('; ; want = ',' {
		t, ok := r.next()
		if ok && want == ',' && t.mark == ')' {
			return out, nil
		}
		if !ok || t.mark != want {
			return nil, badSearch("The filter has a list that is not written as ('a', 'b').")
		}
		if t, ok = r.next(); !ok || t.mark != '\'' && t.mark != '"' {
			return nil, badSearch("The filter has a list of something else than texts in quotes.")
		}
		out = append(out, t.text)
	}
}

// value is what a run has of a subject.
type value struct {
	text   string
	number float64
}

// match says whether a run holds all clauses. What it does not have equals
// nothing and differs from nothing, as NULL in SQL.
func (s search) match(get func(subject) (value, bool)) bool {
	for i := range s {
		v, there := get(s[i].of)
		if !s[i].holds(v, there) {
			return false
		}
	}
	return true
}

func (c *clause) holds(v value, there bool) bool {
	switch {
	case c.op == "IS NULL":
		return !there
	case !there:
		return false
	case c.op == "IS NOT NULL":
		return true
	case c.of.number():
		return compareNumbers(v.number, c.op, c.number)
	}
	switch c.op {
	case "=":
		return v.text == c.words[0]
	case "!=":
		return v.text != c.words[0]
	case "LIKE":
		return like(v.text, c.words[0])
	case "ILIKE":
		return like(strings.ToLower(v.text), strings.ToLower(c.words[0]))
	case "IN":
		return slices.Contains(c.words, v.text)
	}
	return !slices.Contains(c.words, v.text)
}

func compareNumbers(a float64, op string, b float64) bool {
	switch op {
	case "=":
		return a == b
	case "!=":
		return a != b
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	}
	return a >= b
}

// like matches SQL's pattern: % is any text, _ any one character. It takes time
// in the product of the lengths at most, whatever the pattern.
func like(s, pattern string) bool {
	text, want := []rune(s), []rune(pattern)
	i, j, star, from := 0, 0, -1, 0
	for i < len(text) {
		switch {
		case j < len(want) && want[j] == '%':
			star, from = j, i
			j++
		case j < len(want) && (want[j] == '_' || want[j] == text[i]):
			i++
			j++
		case star >= 0:
			from++
			i, j = from, star+1
		default:
			return false
		}
	}
	for j < len(want) && want[j] == '%' {
		j++
	}
	return j == len(want)
}

// order is one of the things that results are sorted by.
type order struct {
	of   subject
	down bool
}

// parseOrder reads "metrics.loss DESC".
func parseOrder(s string, attributes map[string]string) (order, error) {
	if len(s) > maxFilter {
		return order{}, badSearch("The order has %d bytes; at most %d are allowed.", len(s), maxFilter)
	}
	in, err := tokens(s)
	if err != nil {
		return order{}, err
	}
	r := &reader{in, attributes}
	o := order{}
	if o.of, err = r.subject(); err != nil {
		return order{}, err
	}
	o.down = r.word("desc")
	if !o.down {
		r.word("asc")
	}
	if len(r.in) > 0 {
		return order{}, badSearch("The order %.80q is not understood; \"metrics.loss DESC\" is.", s)
	}
	return o, nil
}

// compare orders two values; what is missing or not a number comes last, up or down.
func (o order) compare(a value, hasA bool, b value, hasB bool) int {
	if o.of.number() {
		hasA, hasB = hasA && !math.IsNaN(a.number), hasB && !math.IsNaN(b.number)
	}
	sign := 0
	switch {
	case hasA != hasB:
		if hasA {
			return -1
		}
		return 1
	case !hasA:
		return 0
	case o.of.number() && a.number != b.number:
		sign = 1
		if a.number < b.number {
			sign = -1
		}
	case !o.of.number():
		sign = strings.Compare(a.text, b.text)
	}
	if o.down {
		sign = -sign
	}
	return sign
}
