package compat_test

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// step is one request, made to both services one after the other.
type blobStep struct {
	name, method, path, query, body string
	headers                         []string
	sas                             func(p *peer) url.Values
	anonymous                       bool
}

const longAgo, farAhead = "Mon, 01 Jan 2001 00:00:00 GMT", "Tue, 01 Jan 2099 00:00:00 GMT"

func blockID(n int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "block-%04d", n))
}

func blockDoc(kind string, ids ...string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?><BlockList>`)
	for _, id := range ids {
		fmt.Fprintf(&b, "<%s>%s</%s>", kind, id, kind)
	}
	return b.String() + "</BlockList>"
}

func md5Base64(text string) string {
	sum := md5.Sum([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// block is what makes a Put a Put Blob.
func asBlock(more ...string) []string {
	return append([]string{"x-ms-blob-type", "BlockBlob"}, more...)
}

// hostileBlobs are names that servers mix up, lose or write elsewhere.
var hostileBlobs = []string{"a b", "é", "日本語/ü.txt", "a%2Fb", "a%2fb", "100%25", "a+b", "a&b=c?d", "..%2F..%2Fetc", "a/./b", "-rf", "~", "a;b", "a:b", "'\"<>", "x.b", "tmp", "a//b", "dir/", "#", strings.Repeat("n", 1000), "💾"}

func blobSteps() []blobStep {
	put, get, head, del := http.MethodPut, http.MethodGet, http.MethodHead, http.MethodDelete
	const c = "oracle"
	all := []blobStep{
		{name: "make a container", method: put, path: c, query: "restype=container", headers: []string{"x-ms-meta-team", "vision"}},
		{name: "make it again", method: put, path: c, query: "restype=container"},
		{name: "a container with a bad name", method: put, path: "Bad_Name", query: "restype=container"},
		{name: "a container with two hyphens", method: put, path: "a--b", query: "restype=container"},
		{name: "its properties", method: get, path: c, query: "restype=container"},
		{name: "its properties by HEAD", method: head, path: c, query: "restype=container"},
		{name: "its metadata", method: get, path: c, query: "restype=container&comp=metadata"},
		{name: "its metadata is set", method: put, path: c, query: "restype=container&comp=metadata", headers: []string{"x-ms-meta-team", "speech", "x-ms-meta-n", "1"}},
		{name: "its metadata afterwards", method: get, path: c, query: "restype=container&comp=metadata"},
		{name: "properties of none", method: get, path: "nobody", query: "restype=container"},
		{name: "its policies", method: get, path: c, query: "restype=container&comp=acl"},
		{name: "account information", method: get, query: "restype=account&comp=properties"},

		{name: "put", method: put, path: c + "/a", body: "0123456789", headers: asBlock("Content-Type", "text/plain", "x-ms-meta-who", "me", "x-ms-blob-cache-control", "no-store", "x-ms-blob-content-language", "de", "x-ms-blob-content-encoding", "x", "x-ms-blob-content-disposition", "inline")},
		{name: "get", method: get, path: c + "/a"},
		{name: "head", method: head, path: c + "/a"},
		{name: "metadata", method: get, path: c + "/a", query: "comp=metadata"},
		{name: "put in a container that is not there", method: put, path: "nobody/a", body: "x", headers: asBlock()},
		{name: "get from a container that is not there", method: get, path: "nobody/a"},
		{name: "get nothing", method: get, path: c + "/none"},
		{name: "head nothing", method: head, path: c + "/none"},
		{name: "delete nothing", method: del, path: c + "/none"},
		{name: "put without a type", method: put, path: c + "/b", body: "x"},
		{name: "put a type that is none", method: put, path: c + "/b", body: "x", headers: []string{"x-ms-blob-type", "Nonsense"}},
		{name: "put an empty blob", method: put, path: c + "/empty", headers: asBlock()},
		{name: "get it", method: get, path: c + "/empty"},
		{name: "a range of it", method: get, path: c + "/empty", headers: []string{"x-ms-range", "bytes=0-9"}},
		{name: "put with its MD5", method: put, path: c + "/md5", body: "x", headers: asBlock("Content-MD5", md5Base64("x"))},
		{name: "put with another MD5", method: put, path: c + "/md5", body: "x", headers: asBlock("Content-MD5", md5Base64("y"))},
		{name: "put with no MD5 at all", method: put, path: c + "/md5", body: "x", headers: asBlock("Content-MD5", "??")},
		{name: "put with the MD5 to be kept", method: put, path: c + "/md5", body: "x", headers: asBlock("x-ms-blob-content-md5", md5Base64("x"))},
		{name: "put with another to be kept", method: put, path: c + "/md5", body: "x", headers: asBlock("x-ms-blob-content-md5", md5Base64("y"))},
		{name: "overwrite", method: put, path: c + "/a2", body: "second", headers: asBlock()},
		{name: "metadata with a hyphen", method: put, path: c + "/b", body: "x", headers: asBlock("x-ms-meta-a-b", "v")},
	}
	for name, h := range map[string][]string{
		"a part": {"Range", "bytes=2-4"}, "to the end": {"Range", "bytes=8-"}, "past the end": {"Range", "bytes=8-99"}, "x-ms-range first": {"Range", "bytes=0-0", "x-ms-range", "bytes=1-1"},
		"from behind the end": {"Range", "bytes=10-"}, "backwards": {"Range", "bytes=4-2"}, "the last byte": {"x-ms-range", "bytes=9-9"}, "all of it": {"x-ms-range", "bytes=0-9"},
		"of another unit": {"Range", "lines=1-2"}, "of several": {"Range", "bytes=0-1,4-5"}, "a part with its MD5": {"x-ms-range", "bytes=2-4", "x-ms-range-get-content-md5", "true"},
	} {
		all = append(all, blobStep{name: "range: " + name, method: get, path: c + "/a", headers: h})
	}
	slices.SortStableFunc(all[len(all)-11:], func(a, b blobStep) int { return strings.Compare(a.name, b.name) })
	for _, w := range []struct{ what, header, value string }{
		{"the one", "If-Match", "etag:put"}, {"another", "If-Match", `"0x0"`}, {"any", "If-Match", "*"}, {"not the one", "If-None-Match", "etag:put"}, {"not another", "If-None-Match", `"0x0"`}, {"none", "If-None-Match", "*"},
		{"changed since long ago", "If-Modified-Since", longAgo}, {"changed since tomorrow", "If-Modified-Since", farAhead}, {"the same since long ago", "If-Unmodified-Since", longAgo}, {"the same since tomorrow", "If-Unmodified-Since", farAhead},
	} {
		h := []string{w.header, w.value}
		all = append(all,
			blobStep{name: "read if " + w.what, method: get, path: c + "/a", headers: h},
			blobStep{name: "head if " + w.what, method: head, path: c + "/a", headers: h},
			blobStep{name: "read nothing if " + w.what, method: get, path: c + "/none", headers: h},
			blobStep{name: "write nothing new if " + w.what, method: put, path: c + "/cond-" + w.header, body: "x", headers: asBlock(h...)},
			blobStep{name: "overwrite if " + w.what, method: put, path: c + "/a2", body: "second", headers: asBlock(strings.ReplaceAll(w.header, "etag:put", "etag:overwrite"), strings.ReplaceAll(w.value, "etag:put", "etag:overwrite"))},
			blobStep{name: "set metadata if " + w.what, method: put, path: c + "/a3", query: "comp=metadata", headers: append(slices.Clone(h), "x-ms-meta-k", "v")},
			blobStep{name: "delete nothing if " + w.what, method: del, path: c + "/none", headers: h},
		)
	}
	all = append(all, blockSteps(c)...)
	all = append(all, changeSteps(c)...)
	for i, name := range hostileBlobs {
		path := c + "/hostile/" + (&url.URL{Path: name}).EscapedPath()
		if strings.Contains(name, "%") {
			path = c + "/hostile/" + name // as it is on the wire
		}
		path = strings.NewReplacer("?", "%3F", "#", "%23", ";", "%3B").Replace(path)
		all = append(all,
			blobStep{name: fmt.Sprintf("hostile %02d put %.20s", i, name), method: put, path: path, body: fmt.Sprint("content ", i), headers: asBlock()},
			blobStep{name: fmt.Sprintf("hostile %02d get %.20s", i, name), method: get, path: path})
	}
	all = append(all, listSteps(c)...)
	all = append(all, signatureSteps(c)...)
	return append(all,
		blobStep{name: "delete", method: del, path: c + "/a"},
		blobStep{name: "get what was deleted", method: get, path: c + "/a"},
		blobStep{name: "delete the container", method: del, path: c, query: "restype=container"},
		blobStep{name: "get from what was deleted", method: get, path: c + "/empty"},
		blobStep{name: "delete it again", method: del, path: c, query: "restype=container"},
	)
}

func blockSteps(c string) []blobStep {
	put, get := http.MethodPut, http.MethodGet
	id := func(n int) string { return url.QueryEscape(blockID(n)) }
	return []blobStep{
		{name: "stage a block", method: put, path: c + "/blocks", query: "comp=block&blockid=" + id(1), body: "one"},
		{name: "stage another, with its MD5", method: put, path: c + "/blocks", query: "comp=block&blockid=" + id(2), body: "two", headers: []string{"Content-MD5", md5Base64("two")}},
		{name: "stage with a wrong MD5", method: put, path: c + "/blocks", query: "comp=block&blockid=" + id(3), body: "two", headers: []string{"Content-MD5", md5Base64("three")}},
		{name: "stage an empty block", method: put, path: c + "/blocks", query: "comp=block&blockid=" + id(3)},
		{name: "stage with an id of another length", method: put, path: c + "/blocks", query: "comp=block&blockid=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte("short"))), body: "x"},
		{name: "stage without an id", method: put, path: c + "/blocks", query: "comp=block", body: "x"},
		{name: "stage with an id that is none", method: put, path: c + "/blocks", query: "comp=block&blockid=..%2F..", body: "x"},
		{name: "a blob of blocks nobody listed", method: get, path: c + "/blocks"},
		{name: "the blocks staged", method: get, path: c + "/blocks", query: "comp=blocklist&blocklisttype=all"},
		{name: "commit a block nobody staged", method: put, path: c + "/blocks", query: "comp=blocklist", body: blockDoc("Latest", blockID(1), blockID(9))},
		{name: "commit no XML", method: put, path: c + "/blocks", query: "comp=blocklist", body: "{}"},
		{name: "commit", method: put, path: c + "/blocks", query: "comp=blocklist", body: blockDoc("Latest", blockID(2), blockID(1)), headers: []string{"x-ms-blob-content-type", "text/plain", "x-ms-meta-k", "v"}},
		{name: "the blob of blocks", method: get, path: c + "/blocks"},
		{name: "the blocks committed", method: get, path: c + "/blocks", query: "comp=blocklist&blocklisttype=all"},
		{name: "commit them in another order", method: put, path: c + "/blocks", query: "comp=blocklist", body: blockDoc("Committed", blockID(1), blockID(2), blockID(1))},
		{name: "the blob in another order", method: get, path: c + "/blocks"},
		{name: "commit nothing", method: put, path: c + "/nothing", query: "comp=blocklist", body: blockDoc("Latest")},
		{name: "the blob of nothing", method: get, path: c + "/nothing"},
		{name: "commit where a blob must not be", method: put, path: c + "/blocks", query: "comp=blocklist", body: blockDoc("Committed", blockID(1)), headers: []string{"If-None-Match", "*"}},
		{name: "blocks of no blob", method: get, path: c + "/none", query: "comp=blocklist&blocklisttype=all"},
		{name: "blocks of no type", method: get, path: c + "/blocks", query: "comp=blocklist&blocklisttype=x"},
		{name: "blocks of a blob that was put whole", method: get, path: c + "/a", query: "comp=blocklist&blocklisttype=all"},
	}
}

func changeSteps(c string) []blobStep {
	put, get, head := http.MethodPut, http.MethodGet, http.MethodHead
	return []blobStep{
		{name: "put what is changed", method: put, path: c + "/change", body: "content", headers: asBlock("Content-Type", "text/plain", "x-ms-meta-a", "1", "x-ms-meta-b", "2", "x-ms-blob-cache-control", "no-store")},
		{name: "set its metadata", method: put, path: c + "/change", query: "comp=metadata", headers: []string{"x-ms-meta-a", "3"}},
		{name: "set its metadata if it was as it was", method: put, path: c + "/change", query: "comp=metadata", headers: []string{"x-ms-meta-a", "4", "If-Match", "etag:put what is changed"}},
		{name: "get with other metadata", method: get, path: c + "/change"},
		{name: "set its properties", method: put, path: c + "/change", query: "comp=properties", headers: []string{"x-ms-blob-content-type", "text/html", "x-ms-blob-content-language", "de"}},
		{name: "head with other properties", method: head, path: c + "/change"},
		{name: "set properties of nothing", method: put, path: c + "/none", query: "comp=properties"},
		{name: "set metadata of nothing", method: put, path: c + "/none", query: "comp=metadata"},
		{name: "no metadata is none", method: put, path: c + "/change", query: "comp=metadata"},
		{name: "get without metadata", method: get, path: c + "/change"},
		{name: "copy", method: put, path: c + "/copy", headers: []string{"x-ms-copy-source", "{service}/" + c + "/change"}},
		{name: "get the copy", method: get, path: c + "/copy"},
		{name: "copy with other metadata", method: put, path: c + "/copy2", headers: []string{"x-ms-copy-source", "{service}/" + c + "/change", "x-ms-meta-new", "1"}},
		{name: "get that copy", method: get, path: c + "/copy2"},
		{name: "copy nothing", method: put, path: c + "/copy3", headers: []string{"x-ms-copy-source", "{service}/" + c + "/none"}},
		{name: "copy no address", method: put, path: c + "/copy3", headers: []string{"x-ms-copy-source", "nonsense"}},
		{name: "copy if the source is another", method: put, path: c + "/copy3", headers: []string{"x-ms-copy-source", "{service}/" + c + "/change", "x-ms-source-if-match", `"0x0"`}},
		{name: "copy where none may be", method: put, path: c + "/copy", headers: []string{"x-ms-copy-source", "{service}/" + c + "/change", "If-None-Match", "*"}},
		{name: "copy onto itself", method: put, path: c + "/change", headers: []string{"x-ms-copy-source", "{service}/" + c + "/change"}},
		{name: "make an append blob", method: put, path: c + "/log", headers: []string{"x-ms-blob-type", "AppendBlob"}},
		{name: "append", method: put, path: c + "/log", query: "comp=appendblock", body: "line 1\n"},
		{name: "append at a place", method: put, path: c + "/log", query: "comp=appendblock", body: "line 2\n", headers: []string{"x-ms-blob-condition-appendpos", "7"}},
		{name: "append at another place", method: put, path: c + "/log", query: "comp=appendblock", body: "line 3\n", headers: []string{"x-ms-blob-condition-appendpos", "7"}},
		{name: "append no more than fits", method: put, path: c + "/log", query: "comp=appendblock", body: "line 3\n", headers: []string{"x-ms-blob-condition-maxsize", "15"}},
		{name: "append to a block blob", method: put, path: c + "/change", query: "comp=appendblock", body: "x"},
		{name: "append to nothing", method: put, path: c + "/none", query: "comp=appendblock", body: "x"},
		{name: "get what was appended", method: get, path: c + "/log"},
		{name: "make it if there is none", method: put, path: c + "/log", headers: []string{"x-ms-blob-type", "AppendBlob", "If-None-Match", "*"}},
		{name: "stage a block of an append blob", method: put, path: c + "/log", query: "comp=block&blockid=" + url.QueryEscape(blockID(1)), body: "x"},
		{name: "a lease that nobody has", method: put, path: c + "/change", query: "comp=metadata", headers: []string{"x-ms-lease-id", "11111111-1111-1111-1111-111111111111"}},
	}
}

func listSteps(c string) []blobStep {
	all := []blobStep{}
	for i, name := range []string{"l/1", "l/2", "l/d/1", "l/d/2", "l/d0", "l/e/1", "l/ü&<>"} {
		all = append(all, blobStep{name: fmt.Sprintf("list: put %d", i), method: http.MethodPut, path: c + "/" + (&url.URL{Path: name}).EscapedPath(), body: name, headers: asBlock("x-ms-meta-n", fmt.Sprint(i), "Content-Type", "text/plain")})
	}
	for _, q := range []string{"prefix=l/", "prefix=l/&delimiter=/", "prefix=l/d", "prefix=l/d/&delimiter=/", "prefix=nobody", "prefix=l/&include=metadata", "prefix=l/&maxresults=2", "prefix=l/&delimiter=/&maxresults=2",
		"prefix=l/&delimiter=d", "maxresults=0", "maxresults=-1", "maxresults=x", "prefix=l/&maxresults=5000", "prefix=l/&maxresults=5001", "include=nonsense&prefix=l/d", "prefix=l/&include=copy,metadata,uncommittedblobs"} {
		all = append(all, blobStep{name: "list " + q, method: http.MethodGet, path: c, query: "restype=container&comp=list&" + q})
	}
	return append(all, blobStep{name: "list nobody", method: http.MethodGet, path: "nobody", query: "restype=container&comp=list"},
		blobStep{name: "containers", method: http.MethodGet, query: "comp=list&prefix=oracle"},
		blobStep{name: "containers with metadata", method: http.MethodGet, query: "comp=list&prefix=oracle&include=metadata"},
		blobStep{name: "containers, none of them", method: http.MethodGet, query: "comp=list&prefix=nobody"},
		blobStep{name: "containers, too few", method: http.MethodGet, query: "comp=list&maxresults=0"},
	)
}

func signatureSteps(c string) []blobStep {
	get, put := http.MethodGet, http.MethodPut
	list := "restype=container&comp=list&prefix=l/d"
	with := func(kv ...string) url.Values {
		q := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			q.Set(kv[i], kv[i+1])
		}
		return q
	}
	spoil := func(make func(p *peer) url.Values, k, v string) func(p *peer) url.Values {
		return func(p *peer) url.Values { q := make(p); q.Set(k, v); return q }
	}
	return []blobStep{
		{name: "anonymous", method: get, path: c + "/a", anonymous: true},
		{name: "anonymous, of nothing", method: get, path: c + "/none", anonymous: true},
		{name: "a broken Authorization", method: get, path: c + "/a", anonymous: true, headers: []string{"Authorization", "Nonsense"}},
		{name: "another's shared key", method: get, path: c + "/a", anonymous: true, headers: []string{"Authorization", "SharedKey somebody:AAAA"}},
		{name: "a wrong shared key", method: get, path: c + "/a", anonymous: true, headers: []string{"Authorization", "SharedKey devstoreaccount1:AAAA"}},
		{name: "sas: a blob's", method: get, path: c + "/a", sas: serviceSAS(c, "a", nil)},
		{name: "sas: a container's", method: get, path: c + "/a", sas: serviceSAS(c, "", nil)},
		{name: "sas: another blob's", method: get, path: c + "/a", sas: serviceSAS(c, "b", nil)},
		{name: "sas: another container's", method: get, path: c + "/a", sas: serviceSAS("other", "", nil)},
		{name: "sas: list", method: get, path: c, query: list, sas: serviceSAS(c, "", nil)},
		{name: "sas: list with a blob's", method: get, path: c, query: list, sas: serviceSAS(c, "a", nil)},
		{name: "sas: list without l", method: get, path: c, query: list, sas: serviceSAS(c, "", with("sp", "r"))},
		{name: "sas: read without r", method: get, path: c + "/a", sas: serviceSAS(c, "", with("sp", "wd"))},
		{name: "sas: write without w", method: put, path: c + "/new", body: "x", headers: asBlock(), sas: serviceSAS(c, "", with("sp", "r"))},
		{name: "sas: create with c", method: put, path: c + "/new", body: "x", headers: asBlock(), sas: serviceSAS(c, "", with("sp", "c"))},
		{name: "sas: replace with c", method: put, path: c + "/new", body: "x", headers: asBlock(), sas: serviceSAS(c, "", with("sp", "c"))},
		{name: "sas: expired", method: get, path: c + "/a", sas: serviceSAS(c, "", with("se", "2020-01-01T00:00:00Z"))},
		{name: "sas: not yet", method: get, path: c + "/a", sas: serviceSAS(c, "", with("st", "2098-01-01T00:00:00Z", "se", "2099-01-01T00:00:00Z"))},
		{name: "sas: of another address", method: get, path: c + "/a", sas: serviceSAS(c, "", with("sip", "10.0.0.1"))},
		{name: "sas: of this address", method: get, path: c + "/a", sas: serviceSAS(c, "", with("sip", "127.0.0.1"))},
		{name: "sas: permissions changed", method: http.MethodDelete, path: c + "/a", sas: spoil(serviceSAS(c, "", with("sp", "r")), "sp", "rd")},
		{name: "sas: no signature", method: get, path: c + "/a", sas: spoil(serviceSAS(c, "", nil), "sig", "AAAA")},
		{name: "sas: a stored policy", method: get, path: c + "/a", sas: serviceSAS(c, "", with("si", "policy"))},
		{name: "sas: the answer's headers", method: get, path: c + "/a", sas: serviceSAS(c, "", with("rsct", "text/html", "rscd", "attachment", "rscc", "max-age=1"))},
		{name: "sas: container properties", method: get, path: c, query: "restype=container", sas: serviceSAS(c, "", nil)},
		{name: "sas: delete the container", method: http.MethodDelete, path: c, query: "restype=container", sas: serviceSAS(c, "", nil)},
		{name: "account sas: a blob", method: get, path: c + "/a", sas: accountSAS(nil)},
		{name: "account sas: list", method: get, path: c, query: list, sas: accountSAS(nil)},
		{name: "account sas: containers", method: get, query: "comp=list&prefix=oracle", sas: accountSAS(nil)},
		{name: "account sas: container properties", method: get, path: c, query: "restype=container", sas: accountSAS(nil)},
		{name: "account sas: without objects", method: get, path: c + "/a", sas: accountSAS(with("srt", "sc"))},
		{name: "account sas: without the service", method: get, path: c + "/a", sas: accountSAS(with("ss", "q"))},
		{name: "account sas: without r", method: get, path: c + "/a", sas: accountSAS(with("sp", "w"))},
		{name: "account sas: expired", method: get, path: c + "/a", sas: accountSAS(with("se", "2020-01-01T00:00:00Z"))},
		{name: "account sas: services changed", method: get, path: c + "/a", sas: spoil(accountSAS(with("ss", "q")), "ss", "b")},
		{name: "account sas: make a container", method: put, path: "oracle2", query: "restype=container", sas: accountSAS(nil)},
		{name: "account sas: delete it", method: http.MethodDelete, path: "oracle2", query: "restype=container", sas: accountSAS(nil)},
	}
}

// TestStorageBesideAzurite makes the same requests of Ebb and of Azurite. Where the
// answers differ the difference is in storageDifferences, with a reason, and it is
// there still: a reason for what no longer differs fails the test.
func TestStorageBesideAzurite(t *testing.T) {
	t.Parallel()
	ours, theirs := ebbBlobs(t, testkit.Serve(t)), azurite(t)
	seen, found := map[string]bool{}, map[int]bool{}
	for _, s := range blobSteps() {
		if seen[s.name] {
			t.Fatalf("two steps are named %q", s.name)
		}
		seen[s.name] = true
		got := compareBlobs(ours.send(t, s), theirs.send(t, s))
		var unexplained []string
		for _, line := range got {
			if i := explainedDifference(s.name, line); i >= 0 {
				found[i] = true
			} else {
				unexplained = append(unexplained, line)
			}
		}
		if len(unexplained) > 0 {
			t.Errorf("%s:\n\t%s", s.name, strings.Join(unexplained, "\n\t"))
		}
	}
	for i, d := range storageDifferences {
		if !found[i] {
			t.Errorf("no longer so: %s, %s (%s)", d.step, d.line, d.reason)
		}
	}
}
