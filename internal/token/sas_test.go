package token_test

import (
	"encoding/base64"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

// TestKnownSignatures compares with signatures for the key of bytes 0 to 63:
// two that Microsoft's Python client (azure-storage-blob 12.13.1) made, and one
// worked out by hand from the documented string.
func TestKnownSignatures(t *testing.T) {
	t.Parallel()
	key := make([]byte, 64)
	for i := range key {
		key[i] = byte(i)
	}
	for name, c := range map[string]struct{ blob, query string }{
		"a blob, by the Python client, with most fields": {"dir/a file.txt", "st=2029-01-02T03%3A04%3A05Z&se=2030-01-02T03%3A04%3A05Z&sp=rw&sip=10.0.0.1-10.0.0.9&spr=https&sv=2021-08-06&sr=b&rscd=attachment%3B%20x&rsct=text/plain&sig=KpRKPFpGtdId7YjUQgy13szmm47FkX6vSE/TNdD3pEI%3D"},
		"a container, by the Python client":              {"", "se=2030-01-02T03%3A04%3A05Z&sp=rl&sv=2021-08-06&sr=c&sig=aW0JMnn0cxXALwpMG6Pgufn9zXhttNdIBaXi4LVN0og%3D"},
		"a blob, by hand, of the version made here":      {"dir/a file.txt", "sp=r&st=2029-01-02T03%3A04%3A05Z&se=2030-01-02T03%3A04%3A05Z&spr=https&sv=2022-11-02&sr=b&sig=9F6SOspJbPpulJ3G2EXCXcVgWo%2B2SsOSAbOjOVCUfIY%3D"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			if got := base64.StdEncoding.EncodeToString(token.SASSignature(key, "ebbacct", "box", c.blob, q)); got != q.Get("sig") {
				t.Errorf("the signature is %s, want %s", got, q.Get("sig"))
			}
		})
	}
}

// resign puts a true signature on q, as somebody who has the account's key can.
func resign(t *testing.T, account, container, blob string, q url.Values) url.Values {
	t.Helper()
	q.Set("sig", base64.StdEncoding.EncodeToString(token.SASSignature(keys(t).AccountKey(account), account, container, blob, q)))
	return q
}

func TestVerifySAS(t *testing.T) {
	t.Parallel()
	const (
		failed, mismatch, ip = "AuthenticationFailed", "AuthorizationPermissionMismatch", "AuthorizationSourceIPMismatch"
	)
	type request = token.SASRequest
	blob := request{Account: "acct", Container: "box", Blob: "a/b.txt", Need: "r"}
	from := func(s string) request { r := blob; r.IP = netip.MustParseAddr(s); return r }
	for name, c := range map[string]struct {
		sr     string            // what is signed: b: a/b.txt, c: box
		change map[string]string // of the signed parameters, before signing
		ask    request
		want   string
	}{
		"the blob":                             {"b", nil, blob, ""},
		"a blob in the container":              {"c", nil, blob, ""},
		"the container":                        {"c", nil, request{Account: "acct", Container: "box", Need: "l"}, ""},
		"another blob":                         {"b", nil, request{Account: "acct", Container: "box", Blob: "a/b.txt2", Need: "r"}, failed},
		"the blob in another case":             {"b", nil, request{Account: "acct", Container: "box", Blob: "A/b.txt", Need: "r"}, failed},
		"the container with a blob's":          {"b", nil, request{Account: "acct", Container: "box", Need: "r"}, failed},
		"another container":                    {"c", nil, request{Account: "acct", Container: "box2", Blob: "a/b.txt", Need: "r"}, failed},
		"another account":                      {"c", nil, request{Account: "acct2", Container: "box", Blob: "a/b.txt", Need: "r"}, failed},
		"what is not permitted":                {"b", nil, request{Account: "acct", Container: "box", Blob: "a/b.txt", Need: "w"}, mismatch},
		"one of what is needed":                {"b", map[string]string{"sp": "rc"}, request{Account: "acct", Container: "box", Blob: "a/b.txt", Need: "cw"}, ""},
		"nothing needed is nothing permitted":  {"b", nil, request{Account: "acct", Container: "box", Blob: "a/b.txt"}, mismatch},
		"no permissions":                       {"b", map[string]string{"sp": ""}, blob, mismatch},
		"a letter nobody knows":                {"b", map[string]string{"sp": "rQw"}, blob, failed},
		"at its end":                           {"b", map[string]string{"se": "2026-05-06T07:08:09Z"}, blob, failed},
		"a second before":                      {"b", map[string]string{"se": "2026-05-06T07:08:10Z"}, blob, ""},
		"an end in minutes":                    {"b", map[string]string{"se": "2026-05-06T07:09Z"}, blob, ""},
		"an end in days":                       {"b", map[string]string{"se": "2026-05-07"}, blob, ""},
		"an end in ticks":                      {"b", map[string]string{"se": "2026-05-06T07:08:09.0000001Z"}, blob, ""},
		"no end":                               {"b", map[string]string{"se": ""}, blob, failed},
		"an end that is no time":               {"b", map[string]string{"se": "never"}, blob, failed},
		"five minutes before its time":         {"b", map[string]string{"st": "2026-05-06T07:13:09Z"}, blob, ""},
		"longer before its time":               {"b", map[string]string{"st": "2026-05-06T07:13:10Z"}, blob, failed},
		"a beginning that is no time":          {"b", map[string]string{"st": "now"}, blob, failed},
		"an older version":                     {"b", map[string]string{"sv": "2019-02-02"}, blob, ""},
		"a newer version":                      {"b", map[string]string{"sv": "2025-11-05"}, blob, ""},
		"a version of another string":          {"b", map[string]string{"sv": "2015-04-05"}, blob, failed},
		"no version":                           {"b", map[string]string{"sv": ""}, blob, failed},
		"a version that is no date":            {"b", map[string]string{"sv": "2022-11-02\n"}, blob, failed},
		"a stored policy":                      {"b", map[string]string{"si": "p"}, blob, failed},
		"both protocols":                       {"b", map[string]string{"spr": "https,http"}, blob, ""},
		"http alone":                           {"b", map[string]string{"spr": "http"}, blob, failed},
		"a snapshot's":                         {"bs", nil, blob, failed},
		"its address":                          {"b", map[string]string{"sip": "10.0.0.7"}, from("10.0.0.7"), ""},
		"its address, as IPv6 writes it":       {"b", map[string]string{"sip": "10.0.0.7"}, from("::ffff:10.0.0.7"), ""},
		"another address":                      {"b", map[string]string{"sip": "10.0.0.7"}, from("10.0.0.8"), ip},
		"in its range":                         {"b", map[string]string{"sip": "10.0.0.7-10.0.0.9"}, from("10.0.0.9"), ""},
		"past its range":                       {"b", map[string]string{"sip": "10.0.0.7-10.0.0.9"}, from("10.0.0.10"), ip},
		"an unknown address":                   {"b", map[string]string{"sip": "10.0.0.7"}, blob, ip},
		"a range that is none":                 {"b", map[string]string{"sip": "x-y"}, from("10.0.0.8"), ip},
		"what the answer's headers are to say": {"b", map[string]string{"rscd": "attachment", "rsct": "text/plain", "ses": "scope"}, blob, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signed := "a/b.txt"
			if c.sr == "c" {
				signed = ""
			}
			q := keys(t).SAS("acct", "box", signed, "rl", now.Add(time.Hour))
			q.Set("sr", c.sr)
			for k, v := range c.change {
				q.Set(k, v)
			}
			resign(t, "acct", "box", signed, q)
			q.Set("comp", "block") // not covered, and every client adds some
			err := keys(t).CheckSAS(c.ask, q, now)
			e, _ := err.(*fault.Error)
			if (c.want == "") != (err == nil) || c.want != "" && (e == nil || e.Kind != fault.Forbidden || e.Code != c.want) {
				t.Errorf("CheckSAS = %v, want %q", err, c.want)
			}
		})
	}
}

// TestSASMutations changes every parameter, and every byte of its value, of a
// good signature without signing anew.
func TestSASMutations(t *testing.T) {
	t.Parallel()
	k := keys(t)
	good := resign(t, "acct", "box", "a", url.Values{"sv": {"2022-11-02"}, "sr": {"b"}, "sp": {"rw"}, "st": {"2026-05-06T07:00:00Z"}, "se": {"2026-05-06T08:00:00Z"}, "spr": {"https,http"}, "rscd": {"x"}})
	if err := k.VerifySAS("acct", "box", "a", "r", good, now); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	for _, name := range []string{"sv", "sr", "sp", "st", "se", "spr", "rscd", "sig"} {
		v := good.Get(name)
		changed := []string{"", v + "0", v + "\n"}
		for i := range len(v) {
			for _, b := range []byte{v[i] ^ 1, v[i] + 1, '0', '='} {
				changed = append(changed, v[:i]+string(rune(b))+v[i+1:])
			}
		}
		for _, to := range changed {
			q := url.Values{}
			for k, vs := range good {
				q[k] = vs
			}
			q[name] = []string{to}
			if to != v && k.VerifySAS("acct", "box", "a", "r", q, now) == nil {
				t.Errorf("%s changed from %q to %q passes", name, v, to)
			}
		}
		q, _ := url.ParseQuery(good.Encode() + "&" + url.Values{name: {v}}.Encode())
		if k.VerifySAS("acct", "box", "a", "r", q, now) == nil {
			t.Errorf("%s given twice passes", name)
		}
	}
	for _, name := range []string{"si", "sip", "ses", "rscc", "rsce", "rscl", "rsct"} {
		q, _ := url.ParseQuery(good.Encode() + "&" + name + "=x")
		if k.VerifySAS("acct", "box", "a", "r", q, now) == nil {
			t.Errorf("%s added passes", name)
		}
	}
}

func FuzzVerifySAS(f *testing.F) {
	k := keys(f)
	good := k.SAS("acct", "box", "a", "rl", now.Add(time.Hour)).Encode()
	f.Add(good)
	f.Add("sr=c&sv=2022-11-02&sig=%00")
	f.Add(strings.ReplaceAll(good, "sr=b", "sr=c"))
	f.Fuzz(func(t *testing.T, query string) {
		q, _ := url.ParseQuery(query)
		want, _ := url.ParseQuery(good)
		err := k.VerifySAS("acct", "box", "a", "r", q, now)
		if err == nil && q.Get("sig") != want.Get("sig") {
			t.Errorf("%q passes", query)
		}
		if err != nil && fault.KindOf(err) != fault.Forbidden {
			t.Errorf("%q = %v, which is not fault.Forbidden", query, err)
		}
	})
}
