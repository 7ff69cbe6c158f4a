package storage_test

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/storage"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/token"
)

// hostile are values that parsers stumble over.
var hostile = []string{"", " ", "\x00", "%", "%zz", "%2F", "..", "../../etc/passwd", "//", "\\", "'", "\"", "<", "&", "é", "\xff\xfe", "💾", "-1", "0", "99999999999999999999", "1e9", "NaN", "null", "{}", "[]", "*", `"*"`, "bytes=-", "bytes=0-",
	"bytes=5-1", "bytes=,", "AAAA", "====", "c", "b", "d", "bs", "rwdl", "2022-11-02", "0000-00-00", "9999-99-99", "Mon, 01 Jan 2001 00:00:00 GMT", "container", "list", "block", "blocklist", "metadata", "properties", "appendblock", "lease", "acl", "batch",
	"userdelegationkey", "service", "account", "true", "false", "multipart/mixed; boundary=x", "BlockBlob", "AppendBlob", "PageBlob", "https://localhost/" + container + "/a", "http://[", "Bearer user", "Bearer ", "SharedKey", "SharedKey :", "SharedKey " + "a:b:c", strings.Repeat("a", 3000)}

var mutatedHeaders = []string{"x-ms-blob-type", "x-ms-version", "x-ms-date", "Date", "Authorization", "Content-MD5", "x-ms-content-crc64", "x-ms-blob-content-md5", "x-ms-blob-content-type", "x-ms-meta-a", "x-ms-meta-", "x-ms-meta-1", "Range", "x-ms-range",
	"x-ms-range-get-content-md5", "x-ms-range-get-content-crc64", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "x-ms-copy-source", "x-ms-source-if-match", "x-ms-lease-id", "x-ms-access-tier", "x-ms-tags", "x-ms-encryption-key",
	"x-ms-blob-condition-appendpos", "x-ms-blob-condition-maxsize", "x-ms-delete-snapshots", "Content-Type", "x-ms-client-request-id", "Origin", "Host"}

var mutatedParameters = []string{"comp", "restype", "blockid", "blocklisttype", "prefix", "delimiter", "marker", "maxresults", "include", "timeout", "snapshot", "versionid", "sv", "sr", "sp", "se", "st", "sip", "spr", "si", "sig", "ss", "srt", "sdd", "skoid", "sktid", "skt", "ske", "sks", "skv", "rscd", "rsct"}

var mutatedBodies = []string{"", "x", "{}", "<", "<BlockList/>", "<BlockList><Latest>AAAA</Latest></BlockList>", "<BlockList><Latest>???</Latest></BlockList>", "<BlockList><Nonsense>AAAA</Nonsense></BlockList>", "<BlockList><Latest></BlockList>",
	`<?xml version="1.0" encoding="utf-7"?><BlockList/>`, `<!DOCTYPE x [<!ENTITY a "aaaa">]><BlockList><Latest>&a;</Latest></BlockList>`, "<KeyInfo><Start>x</Start></KeyInfo>", "<KeyInfo><Expiry>2026-01-02T04:04:05Z</Expiry></KeyInfo>",
	"--x\r\nContent-Type: application/http\r\n\r\nDELETE /" + container + "/a HTTP/1.1\r\n\r\n\r\n--x--\r\n", "--x\r\n\r\nGET / HTTP/1.1\r\n--x--", "--x", strings.Repeat("<a>", 2000), "\xff\xfe\x00", strings.Repeat("<BlockList>", 5000)}

// mutant is a request made of good and bad parts.
type mutant struct {
	method, path string
	query        url.Values
	raw          string // put behind the query as it is
	header       http.Header
	body         string
}

func (m mutant) String() string {
	return fmt.Sprintf("%s %q ?%s%s %q %.60q", m.method, m.path, m.query.Encode(), m.raw, m.header, m.body)
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// mutate makes a request that is right, and spoils a few of its parts.
func mutate(s *site, r *rand.Rand) mutant {
	m := mutant{header: http.Header{}, query: url.Values{}}
	good := []struct{ method, path, query, body string }{
		{"PUT", "/" + container + "/a", "", "content"}, {"GET", "/" + container + "/a", "", ""}, {"HEAD", "/" + container + "/a", "", ""}, {"DELETE", "/" + container + "/b", "", ""},
		{"PUT", "/" + container + "/a", "comp=block&blockid=" + url.QueryEscape(id(1)), "x"}, {"PUT", "/" + container + "/a", "comp=blocklist", blockList("Latest", id(1))}, {"GET", "/" + container + "/a", "comp=blocklist&blocklisttype=all", ""},
		{"PUT", "/" + container + "/a", "comp=metadata", ""}, {"PUT", "/" + container + "/a", "comp=properties", ""}, {"PUT", "/" + container + "/log", "comp=appendblock", "line"}, {"GET", "/" + container, "restype=container&comp=list", ""},
		{"PUT", "/" + account + "/box", "restype=container", ""}, {"GET", "/" + account + "/box", "restype=container", ""}, {"DELETE", "/" + account + "/box", "restype=container", ""}, {"PUT", "/" + account + "/box", "restype=container&comp=metadata", ""},
		{"GET", "/" + account + "/", "comp=list", ""}, {"GET", "/" + account + "/", "restype=service&comp=properties", ""}, {"POST", "/" + account + "/", "restype=service&comp=userdelegationkey", "<KeyInfo><Expiry>2026-01-02T04:04:05Z</Expiry></KeyInfo>"},
		{"POST", "/" + account + "/", "comp=batch", mutatedBodies[13]}, {"POST", "/" + account + "/" + container, "restype=container&comp=batch", mutatedBodies[13]}, {"PUT", "/" + container + "/copy", "", ""},
	}
	g := pick(r, good)
	m.method, m.path, m.body = g.method, g.path, g.body
	m.query, _ = url.ParseQuery(g.query)
	m.header.Set("x-ms-blob-type", "BlockBlob")
	m.header.Set("Content-Type", "multipart/mixed; boundary=x")
	switch r.IntN(4) {
	case 0, 1:
		m.header.Set("Authorization", "Bearer user")
	case 2:
		for k, v := range s.sas("", "racwdl") {
			m.query[k] = v
		}
	case 3:
		m.header.Set("x-ms-date", now.Format(http.TimeFormat))
		m.header.Set("Authorization", "SharedKey "+account+":"+base64.StdEncoding.EncodeToString([]byte(pick(r, hostile))))
	}
	for range r.IntN(4) {
		switch r.IntN(6) {
		case 0:
			m.header.Set(pick(r, mutatedHeaders), clean(pick(r, hostile)))
		case 1:
			m.query.Set(pick(r, mutatedParameters), pick(r, hostile))
		case 2:
			m.body = pick(r, mutatedBodies)
		case 3:
			m.path = pick(r, []string{m.path + "/" + pick(r, hostile), "/" + pick(r, hostile) + m.path, strings.Replace(m.path, "azureml", pick(r, hostile), 1), "/" + pick(r, hostile)})
		case 4:
			m.method = pick(r, []string{"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "MERGE"})
		case 5:
			m.raw = pick(r, []string{"&", "&&=", "&sv=1&sv=2", "&%zz", "&comp", "&=", "&sig=" + url.QueryEscape(pick(r, hostile))})
		}
	}
	return m
}

// clean makes a value that HTTP can carry in a header.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// checkMutant looks at what is promised of every answer.
func checkMutant(t *testing.T, h http.Handler, m mutant) int {
	t.Helper()
	u := &url.URL{Scheme: "https", Host: "localhost", Path: m.path, RawQuery: m.query.Encode() + m.raw}
	r := httptest.NewRequestWithContext(t.Context(), m.method, "https://localhost/", strings.NewReader(m.body))
	r.URL, r.RequestURI, r.Header, r.Host = u, u.RequestURI(), m.header, "localhost"
	if host := m.header.Get("Host"); host != "" {
		r.Host = host + ".blob.core.windows.net"
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	switch {
	case w.Code >= 500:
		t.Errorf("%d %s: %s", w.Code, w.Body, m)
	case w.Code >= 400 && m.method != http.MethodHead:
		var doc struct {
			XMLName       xml.Name `xml:"Error"`
			Code, Message string
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.Code == "" || doc.Message == "" || doc.Code != w.Header().Get("x-ms-error-code") {
			t.Errorf("%d is no error of Azure's: %v %q: %s", w.Code, err, w.Body, m)
		}
	}
	if w.Header().Get("x-ms-request-id") == "" || w.Code >= 400 && w.Header().Get("x-ms-error-code") == "" {
		t.Errorf("%d lacks a header: %v: %s", w.Code, w.Header(), m)
	}
	return w.Code
}

// inMemory is a folder in memory, where the machine has that: thousands of writes wait
// for no disk.
func inMemory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "ebb-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestMutations makes thousands of requests that are more or less wrong. The seed is
// in the environment, or new each time, and printed when something fails.
func TestMutations(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("EBB_SEED"); v != "" {
		seed, _ = strconv.ParseUint(v, 10, 64)
	}
	defer func() {
		if t.Failed() {
			t.Logf("run it again with EBB_SEED=%d", seed)
		}
	}()
	blobs, err := blob.Open(inMemory(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	keys, err := token.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, keys: keys}
	h := storage.Handler(storage.Service{Blobs: blobs, Keys: keys, Accounts: owners{}, Bearer: bearers, Now: func() time.Time { return now }})
	r := rand.New(rand.NewPCG(seed, 0))
	statuses := map[int]int{}
	for range 8000 {
		statuses[checkMutant(t, h, mutate(s, r))/100]++
		if t.Failed() {
			break
		}
	}
	if statuses[2] < 500 || statuses[4] < 2000 {
		t.Errorf("too one-sided to find anything: %v", statuses)
	}
}

func FuzzSharedKey(f *testing.F) {
	keys, err := token.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	blobs, err := blob.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	h := storage.Handler(storage.Service{Blobs: blobs, Keys: keys, Accounts: owners{}, Now: func() time.Time { return now }})
	at := now.Format(http.TimeFormat)
	good := httptest.NewRequest("GET", "https://localhost/"+container+"/a", nil)
	sign(good, account, at, "", keys.SharedKey(account, 1, 0))
	f.Add(good.Header.Get("Authorization"), at, "a", "x-ms-meta-a", "v")
	f.Add("SharedKeyLite "+account+":AAAA", at, "a", "x-ms-a-b", "")
	f.Add("SharedKey :", "", "%2F", "Content-Length", "0")
	f.Add("SharedKey", "now", "", "", "")
	f.Fuzz(func(t *testing.T, authorization, date, name, header, value string) {
		r := httptest.NewRequest("GET", "https://localhost/", nil)
		r.URL = &url.URL{Path: "/" + container + "/" + name}
		r.Header.Set("x-ms-version", "2021-08-06")
		r.Header.Set("x-ms-date", date)
		if header != "" {
			r.Header.Set(header, value)
		}
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		// Only what was signed passes: the one blob, without another header.
		if known := authorization == good.Header.Get("Authorization") && name == "a" && date == at; !known && w.Code != 400 && w.Code != 401 && w.Code != 403 && !(w.Code == 404 && !bytes.Contains(w.Body.Bytes(), []byte("BlobNotFound"))) {
			t.Errorf("%q passes for %q: %d", authorization, name, w.Code)
		}
	})
}
