package storage_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/storage"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/token"
)

const (
	workspace = "22222222-2222-2222-2222-222222222222"
	container = "azureml-" + workspace
	foreign   = "azureml-33333333-3333-3333-3333-333333333333"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// site is a Blob service with real keys and a folder of its own.
type site struct {
	t    *testing.T
	keys *token.Keys
	srv  *httptest.Server
}

func newSite(t *testing.T) *site {
	t.Helper()
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	handler := storage.Handler(storage.Service{Blobs: blobs, Keys: keys, Now: func() time.Time { return now }})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !storage.Matches(r) {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.Close(); _ = blobs.Close() })
	return &site{t, keys, srv}
}

// sas is a query that allows permissions on a blob for an hour.
func (s *site) sas(name, permissions string) url.Values {
	return s.keys.SAS(armid.Account(workspace), container, name, permissions, now.Add(time.Hour))
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) code() string { return a.header.Get("x-ms-error-code") }

// do sends a request for a blob with a signature that allows everything; headers
// are pairs. A "Host" among them is the request's.
func (s *site) do(method, name, query, content string, headers ...string) answer {
	s.t.Helper()
	q := s.sas(name, "rcwd")
	more, err := url.ParseQuery(query)
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range more {
		q[k] = v
	}
	return s.send(method, "/"+container+"/"+(&url.URL{Path: name}).EscapedPath()+"?"+q.Encode(), content, headers...)
}

func (s *site) send(method, target, content string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.srv.URL+target, strings.NewReader(content))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.srv.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (s *site) put(name, content string, headers ...string) answer {
	s.t.Helper()
	return s.do("PUT", name, "", content, append([]string{"x-ms-blob-type", "BlockBlob"}, headers...)...)
}

// The calls of SDK v1's upload, header by header (reference/wire/sdk-v1.md, §9).
func TestSDKv1Upload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	content := "artifact!"
	a := s.do("PUT", "ExperimentRun/dcid.x/outputs/a b.txt", "timeout=30", content, "x-ms-blob-type", "BlockBlob", "If-None-Match", "*",
		"x-ms-version", "2021-08-06", "Content-Type", "application/octet-stream", "x-ms-client-request-id", "mine")
	sum := md5.Sum([]byte(content))
	if a.status != 201 || a.header.Get("Content-MD5") != base64.StdEncoding.EncodeToString(sum[:]) || a.header.Get("ETag") == "" ||
		a.header.Get("x-ms-version") != "2021-08-06" || a.header.Get("x-ms-client-request-id") != "mine" || len(a.header.Get("x-ms-request-id")) != 36 {
		t.Fatalf("PUT: %+v", a)
	}
	if _, err := time.Parse(http.TimeFormat, a.header.Get("Last-Modified")); err != nil {
		t.Error(err)
	}
	head := s.do("HEAD", "ExperimentRun/dcid.x/outputs/a b.txt", "", "")
	if head.status != 200 || head.header.Get("Content-Length") != "9" || head.header.Get("ETag") != a.header.Get("ETag") || head.header.Get("x-ms-blob-type") != "BlockBlob" || head.body != "" {
		t.Errorf("HEAD: %+v", head)
	}
	get := s.do("GET", "ExperimentRun/dcid.x/outputs/a b.txt", "", "")
	if get.status != 200 || get.body != content || get.header.Get("Content-Type") != "application/octet-stream" || get.header.Get("Last-Modified") != a.header.Get("Last-Modified") {
		t.Errorf("GET: %+v", get)
	}
	if again := s.put("ExperimentRun/dcid.x/outputs/a b.txt", "other", "If-None-Match", "*"); again.status != 409 || again.code() != "BlobAlreadyExists" {
		t.Errorf("second PUT: %+v", again)
	}
}

func TestBothWaysToABlob(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if a := s.put("a", "x"); a.status != 201 {
		t.Fatalf("%+v", a)
	}
	query := "?" + s.sas("a", "r").Encode()
	account := armid.Account(workspace)
	for name, tt := range map[string]struct {
		host, path string
		status     int
	}{
		"the server's own host":                 {"localhost:8443", "/" + container + "/a", 200},
		"the account's host":                    {account + ".blob.core.windows.net", "/" + container + "/a", 200},
		"the account's host with a port":        {strings.ToUpper(account) + ".blob.core.windows.net:443", "/" + container + "/a", 200},
		"another account's host":                {"other.blob.core.windows.net", "/" + container + "/a", 403},
		"a container of no workspace":           {account + ".blob.core.windows.net", "/plain/a", 403},
		"logs, which are not served here":       {account + ".blob.core.windows.net", "/logs-" + workspace + "/a", 404},
		"not a container at all":                {"localhost:8443", "/subscriptions/x", 418},
		"the account first, then its container": {"localhost:8443", "/" + account + "/" + container + "/a", 200},
	} {
		t.Run(name, func(t *testing.T) {
			query := query
			if tt.status == 418 {
				query = "?api-version=2021-07-01"
			}
			if a := s.send("GET", tt.path+query, "", "Host", tt.host); a.status != tt.status {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if a := s.put("a", "x"); a.status != 201 {
		t.Fatalf("%+v", a)
	}
	account := armid.Account(workspace)
	with := func(q url.Values, k, v string) url.Values { q.Set(k, v); return q }
	for name, tt := range map[string]struct {
		method, blob string
		q            url.Values
		status       int
		code         string
	}{
		"read with r":                          {"GET", "a", s.sas("a", "r"), 200, ""},
		"a container's signature":              {"GET", "a", s.keys.SAS(account, container, "", "r", now.Add(time.Hour)), 200, ""},
		"read with w only":                     {"GET", "a", s.sas("a", "w"), 403, "AuthorizationPermissionMismatch"},
		"delete with rcw":                      {"DELETE", "a", s.sas("a", "rcw"), 403, "AuthorizationPermissionMismatch"},
		"write with r":                         {"PUT", "b", s.sas("b", "r"), 403, "AuthorizationPermissionMismatch"},
		"create with c":                        {"PUT", "new", s.sas("new", "c"), 201, ""},
		"replace with c":                       {"PUT", "a", s.sas("a", "c"), 403, "AuthorizationPermissionMismatch"},
		"replace with w":                       {"PUT", "w", s.sas("w", "w"), 201, ""},
		"an expired one":                       {"GET", "a", s.keys.SAS(account, container, "a", "r", now.Add(-time.Second)), 403, "AuthenticationFailed"},
		"one for another blob":                 {"GET", "a", s.sas("b", "r"), 403, "AuthenticationFailed"},
		"one for another container":            {"GET", "a", s.keys.SAS(account, foreign, "a", "r", now.Add(time.Hour)), 403, "AuthenticationFailed"},
		"one with its permissions changed":     {"DELETE", "a", with(s.sas("a", "r"), "sp", "rd"), 403, "AuthenticationFailed"},
		"one with its expiry changed":          {"GET", "a", with(s.sas("a", "r"), "se", "2099-01-01T00:00:00Z"), 403, "AuthenticationFailed"},
		"one with a broken signature":          {"GET", "a", with(s.sas("a", "r"), "sig", "AAAA"), 403, "AuthenticationFailed"},
		"none":                                 {"GET", "a", url.Values{}, 401, "NoAuthenticationInformation"},
		"none, for a blob that is not there":   {"GET", "zz", url.Values{}, 401, "NoAuthenticationInformation"},
		"a good one, for what is not there":    {"GET", "zz", s.sas("zz", "r"), 404, "BlobNotFound"},
		"blocks are no way around it":          {"PUT", "b", with(s.sas("b", "r"), "comp", "block"), 403, "AuthorizationPermissionMismatch"},
		"block lists need a signature to read": {"GET", "a", with(s.sas("a", "w"), "comp", "blocklist"), 403, "AuthorizationPermissionMismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.send(tt.method, "/"+container+"/"+tt.blob+"?"+tt.q.Encode(), "x", "x-ms-blob-type", "BlockBlob")
			if a.status != tt.status || a.code() != tt.code {
				t.Errorf("%d %s, want %d %s", a.status, a.code(), tt.status, tt.code)
			}
			if tt.code == "" {
				return
			}
			var doc struct {
				XMLName xml.Name `xml:"Error"`
				Code    string
				Message string
			}
			if err := xml.Unmarshal([]byte(a.body), &doc); err != nil || doc.Code != tt.code || doc.Message == "" || a.header.Get("Content-Type") != "application/xml" {
				t.Errorf("the error is %q, %v", a.body, err)
			}
		})
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put("a", "0123456789")
	s.put("empty", "")
	for name, tt := range map[string]struct {
		blob         string
		headers      []string
		status       int
		body, ranged string
	}{
		"a part":                        {"a", []string{"Range", "bytes=2-4"}, 206, "234", "bytes 2-4/10"},
		"to the end":                    {"a", []string{"Range", "bytes=8-"}, 206, "89", "bytes 8-9/10"},
		"past the end":                  {"a", []string{"Range", "bytes=8-99"}, 206, "89", "bytes 8-9/10"},
		"x-ms-range before Range":       {"a", []string{"Range", "bytes=0-0", "x-ms-range", "bytes=1-1"}, 206, "1", "bytes 1-1/10"},
		"from behind the end":           {"a", []string{"Range", "bytes=10-"}, 416, "", "bytes */10"},
		"of an empty blob":              {"empty", []string{"x-ms-range", "bytes=0-33554431"}, 416, "", "bytes */0"},
		"backwards is none":             {"a", []string{"Range", "bytes=4-2"}, 200, "0123456789", ""},
		"another unit is none":          {"a", []string{"Range", "lines=1-2"}, 200, "0123456789", ""},
		"several parts are none":        {"a", []string{"Range", "bytes=0-1,4-5"}, 200, "0123456789", ""},
		"a number that is none is none": {"a", []string{"Range", "bytes=x-99999999999999999999"}, 200, "0123456789", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.do("GET", tt.blob, "", "", tt.headers...)
			if a.status != tt.status || a.header.Get("Content-Range") != tt.ranged || (tt.status < 300 && a.body != tt.body) {
				t.Errorf("%d %q %q, want %d %q %q", a.status, a.header.Get("Content-Range"), a.body, tt.status, tt.ranged, tt.body)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tag := s.put("a", "x").header.Get("ETag")
	past, future := "Mon, 01 Jan 2001 00:00:00 GMT", "Tue, 01 Jan 2999 00:00:00 GMT"
	for name, tt := range map[string]struct {
		method, blob, header, value string
		status                      int
	}{
		"read if it is the one":           {"GET", "a", "If-Match", tag, 200},
		"read if it is another":           {"GET", "a", "If-Match", `"0x0"`, 412},
		"read if it is not the one":       {"GET", "a", "If-None-Match", tag, 304},
		"properties if not the one":       {"HEAD", "a", "If-None-Match", `"0x0"`, 200},
		"read if written since":           {"GET", "a", "If-Modified-Since", past, 200},
		"read if written since tomorrow":  {"GET", "a", "If-Modified-Since", future, 304},
		"read if not written since":       {"GET", "a", "If-Unmodified-Since", past, 412},
		"write if it is another":          {"PUT", "a", "If-Match", `"0x0"`, 412},
		"write if not the one":            {"PUT", "a", "If-None-Match", tag, 412},
		"write if there is one":           {"PUT", "none", "If-Match", "*", 412},
		"delete if it is another":         {"DELETE", "a", "If-Match", `"0x0"`, 412},
		"write what is new if it is new":  {"PUT", "fresh", "If-None-Match", "*", 201},
		"commit blocks where a blob is":   {"BLOCKS", "a", "If-None-Match", "*", 409},
		"delete what is not there":        {"DELETE", "none", "If-Match", "*", 412},
		"an unquoted tag is taken as one": {"GET", "a", "If-Match", strings.Trim(tag, `"`), 200},
	} {
		t.Run(name, func(t *testing.T) {
			method, query, content := tt.method, "", "y"
			if method == "BLOCKS" {
				method, query, content = "PUT", "comp=blocklist", "<BlockList/>"
			}
			if a := s.do(method, tt.blob, query, content, "x-ms-blob-type", "BlockBlob", tt.header, tt.value); a.status != tt.status {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
	if a := s.do("GET", "a", "", ""); a.body != "x" || a.header.Get("ETag") != tag {
		t.Errorf("a refused write changed the blob: %+v", a)
	}
	if a := s.do("DELETE", "a", "", "", "If-Match", tag); a.status != 202 {
		t.Errorf("DELETE: %+v", a)
	}
	if a := s.do("GET", "a", "", ""); a.status != 404 {
		t.Errorf("GET after DELETE: %+v", a)
	}
}

func id(n int) string { return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "block-%04d", n)) }

// blockList is what clients send.
func blockList(kind string, ids ...string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?><BlockList>`)
	for _, id := range ids {
		fmt.Fprintf(&b, "<%s>%s</%s>", kind, id, kind)
	}
	return b.String() + "</BlockList>"
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	parts := []string{strings.Repeat("a", 4<<20), strings.Repeat("b", 4<<20), "tail"}
	for i := range slices.Backward(parts) { // the list gives the order, not the sending
		if a := s.do("PUT", "big", "comp=block&blockid="+url.QueryEscape(id(i)), parts[i]); a.status != 201 {
			t.Fatalf("block %d: %+v", i, a)
		}
	}
	if a := s.do("GET", "big", "", ""); a.status != 404 {
		t.Errorf("a blob of blocks that nobody listed: %+v", a)
	}
	if a := s.do("GET", "big", "comp=blocklist&blocklisttype=all", ""); a.status != 200 || strings.Count(a.body, "<Block>") != 3 || !strings.Contains(a.body, "<CommittedBlocks></CommittedBlocks>") {
		t.Errorf("block list before: %+v", a)
	}
	a := s.do("PUT", "big", "comp=blocklist", blockList("Latest", id(0), id(1), id(2)), "x-ms-blob-content-type", "text/plain", "x-ms-meta-Who", "me", "Content-Type", "application/xml")
	if a.status != 201 || a.header.Get("ETag") == "" {
		t.Fatalf("%+v", a)
	}
	get := s.do("GET", "big", "", "")
	if get.body != strings.Join(parts, "") || get.header.Get("Content-Type") != "text/plain" || get.header.Get("x-ms-meta-who") != "me" {
		t.Errorf("the blob has %d bytes, %v", len(get.body), get.header)
	}
	if a := s.do("GET", "big", "comp=blocklist&blocklisttype=all", ""); strings.Count(a.body, "<Block>") != 3 || !strings.Contains(a.body, "<UncommittedBlocks></UncommittedBlocks>") {
		t.Errorf("block list after: %s", a.body)
	}
	// A blob is changed by naming blocks that it has.
	if a := s.do("PUT", "big", "comp=blocklist", blockList("Committed", id(2), id(2))); a.status != 201 {
		t.Errorf("again: %+v", a)
	}
	if a := s.do("GET", "big", "", ""); a.body != "tailtail" {
		t.Errorf("the blob is now %.20q", a.body)
	}
	s.put("big", "whole")
	if a := s.do("PUT", "big", "comp=blocklist", blockList("Latest", id(2))); a.status != 400 || a.code() != "InvalidBlockList" {
		t.Errorf("blocks of a blob that was replaced: %+v", a)
	}
}

func TestBadRequestsWriteNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	block := []string{"x-ms-blob-type", "BlockBlob"}
	wrongMD5 := base64.StdEncoding.EncodeToString(make([]byte, 16))
	for name, tt := range map[string]struct {
		query, content string
		headers        []string
		status         int
		code           string
	}{
		"no type":                  {"", "x", nil, 400, "MissingRequiredHeader"},
		"a page blob":              {"", "", []string{"x-ms-blob-type", "PageBlob"}, 400, "NotImplemented"},
		"a type that is none":      {"", "", []string{"x-ms-blob-type", "Blob"}, 400, "InvalidHeaderValue"},
		"a full append blob":       {"", "x", []string{"x-ms-blob-type", "AppendBlob"}, 400, "InvalidHeaderValue"},
		"a wrong CRC64":            {"", "x", append(slices.Clone(block), "x-ms-content-crc64", "AAAAAAAAAAA="), 400, "Crc64Mismatch"},
		"both checksums":           {"", "x", append(slices.Clone(block), "x-ms-content-crc64", "AAAAAAAAAAA=", "Content-MD5", wrongMD5), 400, "Md5AndCrc64NotSupported"},
		"a wrong MD5 to be kept":   {"", "x", append(slices.Clone(block), "x-ms-blob-content-md5", wrongMD5), 400, "Md5Mismatch"},
		"a name of metadata":       {"", "x", append(slices.Clone(block), "x-ms-meta-a-b", "v"), 400, "InvalidMetadata"},
		"metadata in Latin-1":      {"", "x", append(slices.Clone(block), "x-ms-meta-a", "caf\xe9"), 400, "InvalidMetadata"},
		"metadata in UTF-8":        {"", "x", append(slices.Clone(block), "x-ms-meta-a", "café"), 400, "InvalidMetadata"},
		"a type in Latin-1":        {"", "x", append(slices.Clone(block), "x-ms-blob-content-type", "caf\xe9"), 400, "InvalidHeaderValue"},
		"a type in UTF-8":          {"", "x", append(slices.Clone(block), "Content-Type", "café"), 400, "InvalidHeaderValue"},
		"a language in Latin-1":    {"", "x", append(slices.Clone(block), "x-ms-blob-content-language", "caf\xe9"), 400, "InvalidHeaderValue"},
		"too much metadata":        {"", "x", append(slices.Clone(block), "x-ms-meta-a", strings.Repeat("v", 9<<10)), 400, "MetadataTooLarge"},
		"a lease":                  {"", "x", append(slices.Clone(block), "x-ms-lease-id", "1"), 412, "LeaseNotPresentWithBlobOperation"},
		"a customer's key":         {"", "x", append(slices.Clone(block), "x-ms-encryption-key", "1"), 400, "NotImplemented"},
		"a date that is none":      {"", "x", append(slices.Clone(block), "If-Modified-Since", "yesterday"), 400, "InvalidHeaderValue"},
		"a version that is none":   {"", "x", append(slices.Clone(block), "x-ms-version", "new"), 400, "InvalidHeaderValue"},
		"a wrong MD5":              {"", "x", append(slices.Clone(block), "Content-MD5", wrongMD5), 400, "Md5Mismatch"},
		"no MD5 at all":            {"", "x", append(slices.Clone(block), "Content-MD5", "??"), 400, "InvalidMd5"},
		"a block with a wrong MD5": {"comp=block&blockid=" + id(1), "x", []string{"Content-MD5", wrongMD5}, 400, "Md5Mismatch"},
		"a block without an id":    {"comp=block", "x", nil, 400, "InvalidQueryParameterValue"},
		"a block with a bad id":    {"comp=block&blockid=../..", "x", nil, 400, "InvalidQueryParameterValue"},
		"a list of no blocks":      {"comp=blocklist", blockList("Latest", id(7)), nil, 400, "InvalidBlockList"},
		"a list that is no XML":    {"comp=blocklist", "{}", nil, 400, "InvalidXmlDocument"},
		"a list with a bad id":     {"comp=blocklist", blockList("Latest", "../../x"), nil, 400, "InvalidQueryParameterValue"},
		"what is not built":        {"comp=lease", "", nil, 400, "NotImplemented"},
		"snapshots":                {"comp=snapshot", "", nil, 400, "NotImplemented"},
		"an old version of a blob": {"versionid=1", "", nil, 400, "NotImplemented"},
	} {
		t.Run(name, func(t *testing.T) {
			if a := s.do("PUT", "a", tt.query, tt.content, tt.headers...); a.status != tt.status || a.code() != tt.code {
				t.Errorf("%d %s, want %d %s", a.status, a.code(), tt.status, tt.code)
			}
		})
	}
	if a := s.do("GET", "a", "", ""); a.status != 404 {
		t.Errorf("something was written: %+v", a)
	}
	if a := s.do("GET", "a", "comp=blocklist&blocklisttype=uncommitted", ""); a.status != 404 {
		t.Errorf("a block was staged: %+v", a)
	}
}

func TestABodyWithoutALengthOrTooLongIsRefusedUnread(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, tt := range map[string]struct {
		length int64
		status int
	}{"no length": {-1, 411}, "too long": {5001 << 20, 413}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("PUT", "https://localhost/"+container+"/a?"+s.sas("a", "cw").Encode(), unread{t})
			r.ContentLength = tt.length
			r.Header.Set("x-ms-blob-type", "BlockBlob")
			w := httptest.NewRecorder()
			storage.Handler(storage.Service{Keys: s.keys, Now: func() time.Time { return now }}).ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("%d, want %d", w.Code, tt.status)
			}
		})
	}
}

type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	h := storage.Handler(storage.Service{Blobs: blobs, Keys: s.keys, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&log, nil))})
	put := func(w http.ResponseWriter) {
		r := httptest.NewRequest("PUT", "https://localhost/"+container+"/a?"+s.sas("a", "cw").Encode(), panicking{})
		r.ContentLength = 100
		r.Header.Set("x-ms-blob-type", "BlockBlob")
		h.ServeHTTP(w, r)
	}
	w := httptest.NewRecorder()
	put(w)
	if w.Code != 500 || w.Header().Get("x-ms-error-code") != "InternalError" || !strings.Contains(w.Body.String(), "<Code>InternalError</Code>") {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "panic=boom") || !strings.Contains(text, "storage_test.go") {
		t.Errorf("the log has no panic and where it was: %s", text)
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("boom") }

func TestABodyThatBreaksOffWritesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("PUT", "https://localhost/"+container+"/a?"+s.sas("a", "cw").Encode(), io.MultiReader(strings.NewReader("half"), broken{}))
	r.ContentLength = 100
	r.Header.Set("x-ms-blob-type", "BlockBlob")
	w := httptest.NewRecorder()
	storage.Handler(storage.Service{Blobs: blobs, Keys: s.keys, Now: func() time.Time { return now }}).ServeHTTP(w, r)
	if w.Code != 400 || w.Header().Get("x-ms-error-code") != "IncompleteBody" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if list, err := blobs.List(t.Context(), "", "", 0); err != nil || len(list) != 0 {
		t.Errorf("it left %+v, %v", list, err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestOneOfManyCreatesWins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var wg sync.WaitGroup
	statuses := make([]int, 8)
	for i := range statuses {
		wg.Go(func() { statuses[i] = s.put("a", fmt.Sprint(i), "If-None-Match", "*").status })
	}
	wg.Wait()
	slices.Sort(statuses)
	if statuses[0] != 201 || statuses[1] != 409 || statuses[7] != 409 {
		t.Errorf("%v, want one 201 and seven 409", statuses)
	}
}

func TestHeadersOfAnAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put("a", "<script>", "Content-Type", "text/html", "x-ms-blob-cache-control", "no-store", "x-ms-meta-k", "v")
	h := s.do("GET", "a", "", "").header
	if h.Get("Content-Type") != "text/html" || h.Get("Cache-Control") != "no-store" || h.Get("x-ms-meta-k") != "v" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("as it was put: %v", h)
	}
	q := s.sas("a", "r")
	q.Set("rsct", "text/plain")
	account := armid.Account(workspace)
	q.Set("sig", base64.StdEncoding.EncodeToString(token.SASSignature(s.keys.AccountKey(account), account, container, "a", q)))
	if a := s.send("GET", "/"+container+"/a?"+q.Encode(), ""); a.status != 200 || a.header.Get("Content-Type") != "text/plain" {
		t.Errorf("as the signature says: %+v", a)
	}
}
