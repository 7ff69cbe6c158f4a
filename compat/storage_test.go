package compat_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/testkit"
	"github.com/ebb-compute/ebb/internal/token"
)

// peer is a Blob service with an account whose key we have: Ebb, or Azurite.
type peer struct {
	name, url, account string
	key                []byte
	client             *http.Client
	etags              map[string]string // by the name of the step that saved it
}

// ebbBlobs is the Blob service of a server, with its workspace's account.
func ebbBlobs(t testing.TB, s *testkit.Server) *peer {
	t.Helper()
	c := s.Client()
	f := c.File()
	ws, err := c.Workspace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.Open(filepath.Join(s.Dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	account := armid.Account(ws.Properties.WorkspaceID)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &peer{"ebb", s.URL, account, keys.SharedKey(account, 1, 0), &http.Client{Transport: transport}, map[string]string{}}
}

// azuriteKey is the key that all Azurites have.
const azuriteKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

var azuriteListens = regexp.MustCompile(`listens on (https?://\S+)`)

// azurite starts one in a folder of its own.
func azurite(t testing.TB) *peer {
	t.Helper()
	modules := ready(t, "npm", "azurite")
	cmd := exec.Command("node", filepath.Join(modules, "node_modules", "azurite", "dist", "src", "blob", "main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", "0", "--location", t.TempDir(), "--skipApiVersionCheck", "--disableTelemetry", "--loose")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		testkit.RealPart(t, "Azurite: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	at := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if m := azuriteListens.FindStringSubmatch(lines.Text()); m != nil {
				at <- m[1]
			}
		}
		close(at)
	}()
	select {
	case address, ok := <-at:
		if !ok {
			t.Fatal("Azurite ended before it listened")
		}
		key, err := base64.StdEncoding.DecodeString(azuriteKey)
		if err != nil {
			t.Fatal(err)
		}
		return &peer{"azurite", address, "devstoreaccount1", key, &http.Client{Transport: &http.Transport{DisableCompression: true}}, map[string]string{}}
	case <-time.After(60 * time.Second):
		t.Fatal("Azurite did not listen within 60 s")
	}
	return nil
}

// blobReply is what is compared of an answer.
type blobReply struct {
	status int
	code   string
	header map[string]string
	body   string
	etag   string
}

// read are the headers that clients read. Of those that differ by nature only
// whether they are there counts.
var (
	readHeaders = []string{"Content-Type", "Content-Range", "Content-MD5", "Accept-Ranges", "Cache-Control", "Content-Encoding", "Content-Language", "Content-Disposition",
		"x-ms-blob-type", "x-ms-lease-state", "x-ms-lease-status", "x-ms-copy-status", "x-ms-copy-progress", "x-ms-blob-append-offset", "x-ms-client-request-id", "x-ms-blob-content-md5",
		"x-ms-blob-content-length", "x-ms-content-crc64", "x-ms-version"}
	thereHeaders = []string{"ETag", "Last-Modified", "x-ms-request-id", "Date", "x-ms-copy-id"}
)

// send makes one request of a step, with the credential that it asks for.
func (p *peer) send(t testing.TB, s blobStep) blobReply {
	t.Helper()
	target := p.url + "/" + p.account
	if s.path != "" {
		target += "/" + s.path
	}
	q, err := url.ParseQuery(s.query)
	if err != nil {
		t.Fatal(err)
	}
	if s.sas != nil {
		maps.Copy(q, s.sas(p))
	}
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(t.Context(), s.method, target, strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-ms-version", "2021-08-06")
	req.Header.Set("x-ms-date", time.Now().UTC().Format(http.TimeFormat))
	req.Header.Set("x-ms-client-request-id", "mine")
	for i := 0; i+1 < len(s.headers); i += 2 {
		v := s.headers[i+1]
		if name, ok := strings.CutPrefix(v, "etag:"); ok {
			v = p.etags[name]
		}
		req.Header.Set(s.headers[i], strings.ReplaceAll(v, "{service}", p.url+"/"+p.account))
	}
	if s.sas == nil && !s.anonymous {
		p.sign(req, q)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatalf("%s: %s: %v", p.name, s.name, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %s: %v", p.name, s.name, err)
	}
	_ = resp.Body.Close()
	return p.reply(t, s, resp, body)
}

func (p *peer) reply(t testing.TB, s blobStep, resp *http.Response, body []byte) blobReply {
	t.Helper()
	out := blobReply{status: resp.StatusCode, code: resp.Header.Get("x-ms-error-code"), header: map[string]string{}, etag: resp.Header.Get("ETag")}
	p.etags[s.name] = out.etag
	for _, h := range readHeaders {
		if v := resp.Header.Get(h); v != "" {
			out.header[h] = v
		}
	}
	for h := range resp.Header {
		if strings.HasPrefix(strings.ToLower(h), "x-ms-meta-") {
			out.header[strings.ToLower(h)] = resp.Header.Get(h)
		}
	}
	for _, h := range thereHeaders {
		if resp.Header.Get(h) != "" {
			out.header[h] = "there"
		}
	}
	switch {
	case resp.StatusCode >= 400: // its words are each one's own
		var doc struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
		}
		if len(body) > 0 && (xml.Unmarshal(body, &doc) != nil || doc.Code != out.code) && p.name == "ebb" {
			t.Errorf("%s: the error is no Error xmlElement with the code %s: %s", s.name, out.code, body)
		}
		delete(out.header, "Content-Type")
	case strings.Contains(resp.Header.Get("Content-Type"), "xml") && s.method == http.MethodGet && strings.Contains(s.query, "comp="):
		out.body = blobShape(body)
		out.header["Content-Type"] = "XML"
	default:
		out.body = string(body)
	}
	return out
}

// xmlElement is any XML.
type xmlElement struct {
	XMLName  xml.Name
	Text     string       `xml:",chardata"`
	Children []xmlElement `xml:",any"`
}

// volatileXML are elements whose text is each server's own, and which
// clients hand back or show.
var volatileXML = regexp.MustCompile(`^(Etag|Last-Modified|Creation-Time|NextMarker|Marker|CopyId|CopySource|CopyCompletionTime)$`)

// blobShape writes an XML answer with one line for each leaf that has a text.
func blobShape(text []byte) string {
	var root xmlElement
	if err := xml.Unmarshal(text, &root); err != nil {
		return string(text)
	}
	var lines []string
	var walk func(path string, e xmlElement)
	walk = func(path string, e xmlElement) {
		path += "/" + e.XMLName.Local
		content := strings.TrimSpace(e.Text)
		if volatileXML.MatchString(e.XMLName.Local) && content != "" {
			content = "…"
		}
		if len(e.Children) == 0 && content != "" {
			lines = append(lines, path+"="+content)
		}
		children := slices.Clone(e.Children)
		if e.XMLName.Local == "Properties" || e.XMLName.Local == "Metadata" {
			slices.SortStableFunc(children, func(a, b xmlElement) int { return strings.Compare(a.XMLName.Local, b.XMLName.Local) })
		}
		for _, c := range children {
			walk(path, c)
		}
	}
	walk("", root)
	return strings.Join(lines, "\n")
}

// sign puts a shared key's Authorization on a request.
func (p *peer) sign(r *http.Request, q url.Values) {
	length := ""
	if r.ContentLength > 0 {
		length = fmt.Sprint(r.ContentLength)
	}
	h := r.Header.Get
	lines := []string{r.Method, h("Content-Encoding"), h("Content-Language"), length, h("Content-MD5"), h("Content-Type"), "",
		h("If-Modified-Since"), h("If-Match"), h("If-None-Match"), h("If-Unmodified-Since"), h("Range")}
	var names []string
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-ms-") {
			names = append(names, lower)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		lines = append(lines, name+":"+h(name))
	}
	text := strings.Join(lines, "\n") + "\n/" + p.account + r.URL.EscapedPath()
	for _, name := range slices.Sorted(maps.Keys(q)) {
		text += "\n" + strings.ToLower(name) + ":" + strings.Join(q[name], ",")
	}
	r.Header.Set("Authorization", "SharedKey "+p.account+":"+p.mac(text))
}

func (p *peer) mac(text string) string {
	m := hmac.New(sha256.New, p.key)
	m.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// serviceSAS signs for a container, or for a blob in it.
func serviceSAS(container, blob string, change url.Values) func(p *peer) url.Values {
	return func(p *peer) url.Values {
		q := url.Values{"sv": {"2021-08-06"}, "sr": {"c"}, "sp": {"rwdl"}, "se": {time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")}}
		resource := "/blob/" + p.account + "/" + container
		if blob != "" {
			q.Set("sr", "b")
			resource += "/" + blob
		}
		maps.Copy(q, change)
		g := q.Get
		q.Set("sig", p.mac(strings.Join([]string{g("sp"), g("st"), g("se"), resource, g("si"), g("sip"), g("spr"), g("sv"), g("sr"), "", g("ses"), g("rscc"), g("rscd"), g("rsce"), g("rscl"), g("rsct")}, "\n")))
		return q
	}
}

// accountSAS signs for an account.
func accountSAS(change url.Values) func(p *peer) url.Values {
	return func(p *peer) url.Values {
		q := url.Values{"sv": {"2021-08-06"}, "ss": {"b"}, "srt": {"sco"}, "sp": {"rwdlc"}, "se": {time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")}}
		maps.Copy(q, change)
		g := q.Get
		q.Set("sig", p.mac(strings.Join([]string{p.account, g("sp"), g("ss"), g("srt"), g("st"), g("se"), g("sip"), g("spr"), g("sv"), g("ses")}, "\n")+"\n"))
		return q
	}
}

// compare says in a line each how two answers differ.
func compareBlobs(ours, theirs blobReply) []string {
	var out []string
	if ours.status != theirs.status || ours.code != theirs.code {
		out = append(out, fmt.Sprintf("ebb %d %s, azurite %d %s", ours.status, ours.code, theirs.status, theirs.code))
		return out // the rest follows
	}
	names := slices.Sorted(maps.Keys(ours.header))
	names = append(names, slices.Sorted(maps.Keys(theirs.header))...)
	slices.Sort(names)
	for _, h := range slices.Compact(names) {
		if ours.header[h] != theirs.header[h] {
			out = append(out, fmt.Sprintf("%s: ebb %q, azurite %q", h, ours.header[h], theirs.header[h]))
		}
	}
	if ours.body != theirs.body {
		out = append(out, "body: "+differInLines(ours.body, theirs.body))
	}
	return out
}

// differ names the lines that only one of two texts has.
func differInLines(ours, theirs string) string {
	a, b := strings.Split(ours, "\n"), strings.Split(theirs, "\n")
	var out []string
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, fmt.Sprintf("only ebb %.80s", l))
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, fmt.Sprintf("only azurite %.80s", l))
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) == 0 {
		return fmt.Sprintf("order: %.200q, %.200q", ours, theirs)
	}
	return strings.Join(out, "; ")
}

// TestStorageSDK runs azure-storage-blob with every kind of credential.
func TestStorageSDK(t *testing.T) {
	t.Parallel()
	u := newUser(t, testkit.Serve(t, testkit.OnPath()))
	file := path("storage", "01_sdk.py")
	if r := u.do(file, testkit.Binary(t), "exec", "--", ready(t, "venv", "v2"), file); !strings.Contains(r.Stdout, "every way in works") {
		t.Errorf("%s\n%s", r.Stdout, r.Stderr)
	}
}
