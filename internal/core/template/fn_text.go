package template

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// texts are the functions of strings. Those that work on arrays too are in lists.
var texts = map[string]function{
	"base64":          fn(1, 1, text1(func(_ *invocation, s string) (any, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil })),
	"base64ToString":  fn(1, 1, text1(func(c *invocation, s string) (any, error) { return unbase64(c, s) })),
	"base64ToJson":    fn(1, 1, text1(base64ToJSON)),
	"dataUri":         fn(1, 1, text1(dataURI)),
	"dataUriToString": fn(1, 1, text1(dataURIToString)),
	"json":            fn(1, 1, text1(parseJSON)),
	"toLower":         fn(1, 1, text1(func(_ *invocation, s string) (any, error) { return strings.ToLower(s), nil })),
	"toUpper":         fn(1, 1, text1(func(_ *invocation, s string) (any, error) { return strings.ToUpper(s), nil })),
	"trim":            fn(1, 1, text1(func(_ *invocation, s string) (any, error) { return strings.TrimSpace(s), nil })),
	"uriComponent": fn(1, 1, text1(func(_ *invocation, s string) (any, error) {
		return strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), nil
	})),
	"uriComponentToString": fn(1, 1, text1(uriComponentToString)),
	"startsWith": fn(2, 2, text2(func(_ *invocation, s, with string) (any, error) {
		return strings.HasPrefix(strings.ToLower(s), strings.ToLower(with)), nil
	})),
	"endsWith": fn(2, 2, text2(func(_ *invocation, s, with string) (any, error) {
		return strings.HasSuffix(strings.ToLower(s), strings.ToLower(with)), nil
	})),
	"uri":          fn(2, 2, text2(joinURI)),
	"string":       fn(1, 1, toText),
	"replace":      fn(3, 3, replace),
	"split":        fn(2, 2, split),
	"join":         fn(2, 2, join),
	"substring":    fn(2, 3, substring),
	"padLeft":      fn(2, 3, padLeft),
	"format":       fn(1, -1, format),
	"guid":         fn(1, -1, guid),
	"uniqueString": fn(1, -1, uniqueString),
	"newGuid":      fn(0, 0, newGUID),
	"fail":         fn(1, 1, text1(func(_ *invocation, s string) (any, error) { return nil, bad("The template fails on purpose: %s", s) })),
}

func text1(f func(*invocation, string) (any, error)) values {
	return func(c *invocation, v []any) (any, error) {
		s, err := c.text(v, 0)
		if err != nil {
			return nil, err
		}
		return f(c, s)
	}
}

func text2(f func(c *invocation, a, b string) (any, error)) values {
	return func(c *invocation, v []any) (any, error) {
		s, err := c.texts(v)
		if err != nil {
			return nil, err
		}
		return f(c, s[0], s[1])
	}
}

func unbase64(c *invocation, s string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || !utf8.Valid(b) {
		return "", c.fail("'%s' is not text in base64.", clip(s))
	}
	return string(b), nil
}

func base64ToJSON(c *invocation, s string) (any, error) {
	t, err := unbase64(c, s)
	if err != nil {
		return nil, err
	}
	return parseJSON(c, t)
}

func parseJSON(c *invocation, s string) (any, error) {
	if err := c.room(8 * len(s)); err != nil {
		return nil, err
	}
	v, err := decode(s)
	if err != nil {
		return nil, c.fail("'%s' is not JSON: %s.", clip(s), err)
	}
	return v, nil
}

func dataURI(_ *invocation, s string) (any, error) {
	return "data:text/plain;charset=utf8;base64," + base64.StdEncoding.EncodeToString([]byte(s)), nil
}

func dataURIToString(c *invocation, s string) (any, error) {
	head, data, ok := strings.Cut(s, ",")
	if !ok || !strings.HasPrefix(lower(head), "data:") {
		return nil, c.fail("'%s' is not a data URI.", clip(s))
	}
	if strings.HasSuffix(lower(head), ";base64") {
		return unbase64(c, data)
	}
	return uriComponentToString(c, data)
}

func uriComponentToString(c *invocation, s string) (any, error) {
	t, err := url.PathUnescape(s)
	if err != nil || !utf8.ValidString(t) {
		return nil, c.fail("'%s' is not an encoded URI component.", clip(s))
	}
	return t, nil
}

func joinURI(c *invocation, base, relative string) (any, error) {
	b, err := url.Parse(base)
	if err != nil || !b.IsAbs() {
		return nil, c.fail("'%s' is not an absolute URI.", clip(base))
	}
	r, err := url.Parse(relative)
	if err != nil {
		return nil, c.fail("'%s' is not a URI.", clip(relative))
	}
	return b.ResolveReference(r).String(), nil
}

func toText(c *invocation, v []any) (any, error) {
	if err := c.roomFor(v[0]); err != nil {
		return nil, err
	}
	return show(v[0]), nil
}

func replace(c *invocation, v []any) (any, error) {
	s, err := c.texts(v)
	if err != nil {
		return nil, err
	}
	if s[1] == "" {
		return nil, c.fail("argument 2, what is replaced, must not be empty.")
	}
	if err := c.room(strings.Count(s[0], s[1]) * len(s[2])); err != nil {
		return nil, err
	}
	return strings.ReplaceAll(s[0], s[1], s[2]), nil
}

func split(c *invocation, v []any) (any, error) {
	s, err := c.text(v, 0)
	if err != nil {
		return nil, err
	}
	delimiters, ok := v[1].([]any)
	if !ok {
		delimiters = []any{v[1]}
	}
	parts := []string{s}
	for _, d := range delimiters {
		by, ok := d.(string)
		if !ok {
			return nil, c.wrong(d, 1, "a string or an array of strings")
		}
		if by == "" {
			continue
		}
		var next []string
		for _, p := range parts {
			if err := c.room(len(p)); err != nil {
				return nil, err
			}
			next = append(next, strings.Split(p, by)...)
		}
		parts = next
	}
	out := make([]any, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return out, nil
}

func join(c *invocation, v []any) (any, error) {
	l, err := c.list(v, 0)
	if err != nil {
		return nil, err
	}
	by, err := c.text(v, 1)
	if err != nil {
		return nil, err
	}
	words, size := make([]string, len(l)), 0
	for i, x := range l {
		switch x.(type) {
		case []any, map[string]any, lambda:
			return nil, c.fail("element %d must be a string, not %s.", i, typeName(x))
		}
		words[i] = show(x)
		size += len(words[i]) + len(by)
	}
	if err := c.room(size); err != nil {
		return nil, err
	}
	return strings.Join(words, by), nil
}

func substring(c *invocation, v []any) (any, error) {
	s, err := c.text(v, 0)
	if err != nil {
		return nil, err
	}
	r := []rune(s)
	from, err := c.whole(v, 1)
	if err != nil {
		return nil, err
	}
	n := int64(len(r)) - from
	if len(v) == 3 {
		if n, err = c.whole(v, 2); err != nil {
			return nil, err
		}
	}
	if from < 0 || n < 0 || from > int64(len(r)) || n > int64(len(r))-from {
		return nil, c.fail("start %d and length %d do not lie in a string of %d characters.", from, n, len(r))
	}
	return string(r[from : from+n]), nil
}

func padLeft(c *invocation, v []any) (any, error) {
	switch v[0].(type) {
	case string, int64:
	default:
		return nil, c.wrong(v[0], 0, "a string or a whole number")
	}
	s := show(v[0])
	n, err := c.whole(v, 1)
	if err != nil {
		return nil, err
	}
	pad := " "
	if len(v) == 3 {
		if pad, err = c.text(v, 2); err != nil {
			return nil, err
		}
	}
	if utf8.RuneCountInString(pad) != 1 || n < 0 || n > maxExpression {
		return nil, c.fail("argument 2 must be from 0 to %d and argument 3 one character.", maxExpression)
	}
	missing := int(n) - utf8.RuneCountInString(s)
	if missing <= 0 {
		return s, nil
	}
	if err := c.room(missing * len(pad)); err != nil {
		return nil, err
	}
	return strings.Repeat(pad, missing) + s, nil
}

// guids is the name space of guid(): with it, the same arguments give the guid
// that they give in Azure (RFC 9562, version 5).
var guids = [16]byte{0x11, 0xfb, 0x06, 0xfb, 0x71, 0x2d, 0x4d, 0xdd, 0x98, 0xc7, 0xe7, 0x1b, 0xbd, 0x58, 0x88, 0x30}

func guid(c *invocation, v []any) (any, error) {
	words, err := c.texts(v)
	if err != nil {
		return nil, err
	}
	return guidOf(joined(words)), nil
}

func guidOf(s string) string {
	sum := sha1.Sum(append(guids[:], s...))
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x50, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// uniqueString returns 13 characters of Azure's alphabet. Azure's hash is another:
// what depends on the very characters differs from there.
func uniqueString(c *invocation, v []any) (any, error) {
	words, err := c.texts(v)
	if err != nil {
		return nil, err
	}
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	sum := sha256.Sum256([]byte(joined(words)))
	var out [13]byte
	for i := range out {
		out[i] = alphabet[sum[i]&31]
	}
	return string(out[:]), nil
}

// newGUID is made of the deployment's seed, so that a deployment that goes on
// after a restart gets the same ones again.
func newGUID(c *invocation, _ []any) (any, error) {
	if c.place != inParameter {
		return nil, c.fail("it is only allowed in the default value of a parameter.")
	}
	c.d.guids++
	return guidOf(fmt.Sprintf("%s %d", c.d.in.Seed, c.d.guids)), nil
}
