package survival_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// mutator spoils good requests, the same way for the same seed.
type mutator struct {
	*rand.Rand
	tokens []string // that are not good
	hosts  []string // that are not this server's own
}

// spoil returns r with one to three things wrong with it.
func (m *mutator) spoil(r raw) raw {
	r = r.clone()
	for range 1 + m.IntN(3) {
		switch n := m.IntN(20); {
		case n < 2:
			m.method(&r)
		case n < 6:
			m.path(&r)
		case n < 9:
			m.query(&r)
		case n < 12:
			m.head(&r)
		case n < 14:
			m.bearer(&r)
		default:
			m.content(&r)
		}
	}
	if r.method == "DELETE" && lasting(r.target) {
		r.method = "PATCH"
	}
	return r
}

// lasting reports whether a target is what most of the good requests are about:
// the group, the workspace, or a cluster with jobs. Those stay.
func lasting(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	parts := strings.FieldsFunc(strings.ToLower(path), func(r rune) bool { return r == '/' })
	if len(parts) < 2 {
		return false
	}
	kind, name := parts[len(parts)-2], parts[len(parts)-1]
	return kind == "resourcegroups" || kind == "workspaces" || kind == "computes" && strings.HasPrefix(name, "cpu-")
}

func pick[T any](m *mutator, list ...T) T { return list[m.IntN(len(list))] }

func (m *mutator) method(r *raw) {
	r.method = pick(m, "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "FOO", strings.Repeat("M", 3000), "P\x00T", "GE T")
}

// segments that somebody may try.
var segments = []string{"..", ".", "%2e%2e", "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd", "%2F", "", "a%2Fb", "%00", "%zz", "%", "%C0%AF", "%ff%fe", "ünï", "\xff\xfe", "💥", "%F0%9F%92%A5",
	"%E2%80%AE", "%0d%0aX-Evil:%20yes", "a;b=c", "-1", "0", "null", "undefined", "None", "*", "$metadata", "a:b", "con", "~", "%5c..%5c", "'", "%22", "<b>", "{ws}",
	"00000000-0000-0000-0000-000000000000", "providers", "workspaces", "runs", "%20", "+", "a\tb"}

func (m *mutator) path(r *raw) {
	path, query, has := strings.Cut(r.target, "?")
	parts := strings.Split(path, "/")
	i := m.IntN(len(parts))
	switch m.IntN(11) {
	case 0, 1, 2:
		parts[i] = pick(m, segments...)
	case 3:
		parts = slices.Insert(parts, i, pick(m, segments...))
	case 4:
		parts = slices.Delete(parts, i, i+1)
	case 5:
		parts[i] = strings.ToUpper(parts[i])
	case 6:
		parts[i] = strings.ToLower(parts[i])
	case 7:
		parts[i] = strings.Repeat(pick(m, "a", "%41", "ü", "../"), 1+m.IntN(5000))
	case 8:
		parts[i] = url.PathEscape(url.PathEscape(parts[i] + pick(m, segments...)))
	case 9:
		parts = append(parts, pick(m, segments...), pick(m, segments...))
	default:
		j := m.IntN(len(parts))
		parts[i], parts[j] = parts[j], parts[i]
	}
	path = strings.Join(parts, pick(m, "/", "/", "/", "/", "/", "//", "%2F"))
	if path == "" || m.IntN(30) > 0 && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if r.target = path; has {
		r.target += "?" + query
	}
}

// values that somebody may try in a query, a header or a body.
var values = []string{"", "0", "-1", "1", "99999999999999999999", "1e9", "NaN", "true", "null", "%zz", "%00", "%ff", "..%2F..", "x%20y", "%E2%80%AE", "PT5S", "-PT5S", "PT99999999999H",
	"2026-99-99", "2024-04-01", "9999-12-31T23:59:59Z", "'", "(((((", "name eq 'x'", "(a eq null)", "b", "rwdl", "block", "blocklist", "AAAA", "====", "user_logs/../../x", "/etc/passwd", "*", "🙂"}

var parameters = []string{"api-version", "$top", "$skip", "$skipToken", "$filter", "$orderby", "wait", "offset", "name", "runId", "fence", "member", "comp", "restype", "blockid", "blocklisttype",
	"snapshot", "sig", "se", "sp", "sr", "sv", "st", "spr", "sip", "underlyingResourceAction", "listViewType", "jobType", "tag", "continuationToken", "expandChildren", "path", ""}

func (m *mutator) query(r *raw) {
	path, query, _ := strings.Cut(r.target, "?")
	parts := strings.Split(query, "&")
	i := m.IntN(len(parts))
	key, _, _ := strings.Cut(parts[i], "=")
	switch m.IntN(7) {
	case 0, 1:
		parts[i] = key + "=" + pick(m, values...)
	case 2:
		parts = append(parts, pick(m, parameters...)+"="+pick(m, values...))
	case 3:
		parts = append(parts, parts...)
	case 4:
		parts = slices.Delete(parts, i, i+1)
	case 5:
		parts[i] += pick(m, "%", ";", "&&&", "=", "%00", "\xff", "#x", strings.Repeat("q", 1+m.IntN(9000)))
	default:
		parts[i] = strings.ToUpper(parts[i])
	}
	// A space would end the request line: then it is net/http that answers.
	query = strings.Join(parts, "&")
	if m.IntN(20) > 0 {
		query = strings.ReplaceAll(query, " ", "%20")
	}
	r.target = path + "?" + query
}

func (m *mutator) head(r *raw) {
	long := strings.Repeat(pick(m, "h", "ü", "a, "), 1+m.IntN(20000))
	name := pick(m, "Content-Type", "Accept", "If-Match", "If-None-Match", "If-Modified-Since", "Range", "x-ms-range", "x-ms-date", "x-ms-version", "x-ms-blob-type", "x-ms-blob-content-type",
		"x-ms-blob-content-md5", "x-ms-meta-a", "x-ms-meta-ü", "Content-MD5", "Content-Encoding", "Content-Range", "Referer", "Origin", "Cookie", "X-Forwarded-For", "X-HTTP-Method-Override",
		"x-ms-client-request-id", "x-ms-return-client-request-id", "x-ms-correlation-request-id", "User-Agent", "Accept-Language", "Upgrade", "Expect", "x-ms-copy-source", "x-ms-lease-id", "Metadata", "")
	value := pick(m, append([]string{"*", `"etag"`, "bytes=5-1", "bytes=0-0,3-", "bytes=-99999999999999999999", "bytes=99999999999-", "gzip", "text/html; charset=\"", "application/json; charset=utf-7",
		"multipart/form-data", "multipart/form-data; boundary=x", "application/xml", "100-continue", "websocket", "PageBlob", "Thu, 99 Foo", "a\r\n b", "\x01", long}, values...)...)
	switch m.IntN(8) {
	case 0:
		if len(r.header) > 0 {
			r.drop(r.header[m.IntN(len(r.header))].name)
		}
	case 1:
		r.header = append(r.header, field{name, value}, field{name, value})
	case 2:
		r.host = pick(m, m.hosts...)
	default:
		if name == "" && m.IntN(4) > 0 {
			name = "X-Odd"
		}
		r.set(name, value)
	}
}

func (m *mutator) bearer(r *raw) {
	tok := pick(m, m.tokens...)
	switch m.IntN(8) {
	case 0:
		r.drop("Authorization")
	case 1:
		r.set("Authorization", pick(m, "", "Bearer", "Bearer ", "Basic OjpQ", "Basic !!!", "bearer  x", "SharedKey a:b", "SharedKeyLite x", "Negotiate x", "\x00", "Bearer a b c", "Bearer ..", "Bearer "+strings.Repeat(".", 500)))
	case 2:
		good := strings.TrimPrefix(r.get("Authorization"), "Bearer ")
		if good != "" {
			i := m.IntN(len(good))
			tok = good[:i] + pick(m, "", "A", "-", "=", ".") + good[min(i+1, len(good)):]
		}
		r.set("Authorization", "Bearer "+tok)
	default:
		r.set("Authorization", "Bearer "+tok)
	}
}

// content spoils a body: JSON by its meaning or by its bytes, the rest by its bytes.
func (m *mutator) content(r *raw) {
	var tree any
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.UseNumber()
	if len(r.body) > 0 && d.Decode(&tree) == nil && m.IntN(4) > 0 {
		r.body = m.tree(tree)
		return
	}
	if len(r.body) == 0 {
		r.body = []byte(pick(m, "", "", "{}", "[]", "null", "x", "{", `{"a":`, "\xff\xfe\x00", strings.Repeat("[", 10000)))
		return
	}
	i := m.IntN(len(r.body))
	switch m.IntN(7) {
	case 0:
		r.body = r.body[:i]
	case 1:
		r.body, r.cut = r.body[:i], true
	case 2:
		r.body = slices.Concat(r.body[:i], []byte(pick(m, "\xff", "\xc0\xaf", "\xed\xa0\x80", "\x00", "\ufeff", "\\ud800", "\\", `"`, "}", "]]]")), r.body[i:])
	case 3:
		r.body[i] ^= byte(1 << m.IntN(8))
	case 4:
		r.body = slices.Concat(r.body, r.body)
	case 5:
		r.body = bytes.Repeat(r.body, 1+m.IntN(200))
	default:
		r.body = []byte("\ufeff" + string(r.body))
	}
}

// bombs are put where a value was, as they are: not all of them are JSON.
var bombs = []string{"null", "true", "0", "-1", "1.5", "1e999", "-1e999", "1e-999", "123456789012345678901234567890", "9223372036854775808", "-0", "01", "NaN", `""`, `"x"`, `"\ud800"`, `"\u0000"`,
	`"../../../etc/passwd"`, `"a/b\\c"`, `"💥"`, `"PT-5S"`, `"PT99999999999H"`, `"P1Y"`, `"2026-99-99T99:99:99Z"`, `"0001-01-01T00:00:00Z"`, `"%s%n%x"`, `"$(id)"`, `"${{inputs.none}}"`, `"${{"`, "[]", "{}", "[null]",
	`{"":null}`, `[[[[{}]]]]`, `{"a":1,"a":2}`, `{"type":"x"}`, "\"\xff\xfe\"", "'x'", "", `"` + "\n" + `"`}

func (m *mutator) bomb() string {
	switch m.IntN(40) {
	case 0:
		return strings.Repeat("[", 10000) + strings.Repeat("]", 10000)
	case 1:
		return strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000)
	case 2:
		return `"` + strings.Repeat(pick(m, "x", "ü", "/", " "), 1+m.IntN(300000)) + `"`
	case 3:
		return "[" + strings.Repeat("null,", 5000) + "{}]"
	case 4:
		return strings.Repeat("9", 1+m.IntN(5000))
	case 5:
		var b strings.Builder
		for i := range 500 {
			fmt.Fprintf(&b, `,"k%d":{"k":"v"}`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	return pick(m, bombs...)
}

const here = "@@here@@" // stands for a bomb while JSON is written

// tree spoils one value of a JSON document.
func (m *mutator) tree(tree any) []byte {
	var places []func(any)
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			keys := sorted(v)
			for _, k := range keys {
				places = append(places, func(to any) { v[k] = to })
				walk(v[k])
			}
			places = append(places, func(any) {
				v[pick(m, "unknown", "", "__proto__", "Tags", "PROPERTIES", strings.Repeat("k", 2000))] = here
			})
			if len(keys) > 0 {
				places = append(places, func(any) { delete(v, keys[m.IntN(len(keys))]) })
			}
		case []any:
			for i := range v {
				places = append(places, func(to any) { v[i] = to })
				walk(v[i])
			}
		}
	}
	walk(tree)
	places = append(places, func(to any) { tree = to })
	for range 1 + m.IntN(2) {
		places[m.IntN(len(places))](here)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		panic(err) // it came from JSON
	}
	for bytes.Contains(text, []byte(here)) {
		text = bytes.Replace(text, []byte(strconv.Quote(here)), []byte(m.bomb()), 1)
	}
	if m.IntN(10) == 0 && len(text) > 2 && text[0] == '{' { // every key twice
		text = slices.Concat(text[:len(text)-1], []byte(","), text[1:])
	}
	return text
}
