package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/testkit"
	"github.com/ebb-compute/ebb/internal/token"
)

// callers is how many requests for blobs are under way at once.
const callers = 16

// blobService is one that is measured: the address of a container, and what its
// signature adds to it.
type blobService struct {
	container, sas string
	client         *http.Client
	pid            int // of the server
}

// blobs measures reads and writes of blobs beside Azurite, in turns. Both speak
// HTTPS (TLS 1.3, HTTP/1.1, connections kept) to the same Go client, and both have
// their files on the same disk; ours are synced before they are acknowledged, and
// Azurite's are not. The client runs on the same cores and deciphers what it reads: of
// large blobs it costs as much as the server, so what the servers' own processors
// spend on a blob is a row of its own.
func blobs(t *testing.T, s *testkit.Server) []line {
	ours := ebbBlobs(t, s)
	theirs, why := azuriteBlobs(t)
	if theirs == nil {
		return []line{{"blobs beside Azurite", "-", why, "-", ""}}
	}
	var table []line
	for _, m := range []struct {
		what string
		size int
		read bool
		goal string
	}{
		{"64 KB blobs read", 64 << 10, true, "≥ 3 ×"},
		{"64 KB blobs written", 64 << 10, false, "≥ 1 ×"},
		{"8 MB blobs read", 8 << 20, true, "≥ 1.5 ×"},
		{"8 MB blobs written", 8 << 20, false, "≥ 1.5 ×"},
	} {
		const rounds = 5
		if m.read {
			ours.fill(t, m.size)
			theirs.fill(t, m.size)
		}
		var a, b, cpuA, cpuB []time.Duration // per blob
		for range rounds {                   // in turns: what else the machine does hits both
			took, cpu := ours.each(t, m.size, m.read)
			a, cpuA = append(a, took), append(cpuA, cpu)
			took, cpu = theirs.each(t, m.size, m.read)
			b, cpuB = append(b, took), append(cpuB, cpu)
		}
		mine, peer := median(a), median(b)
		table = append(table, line{
			fmt.Sprintf("%s, %d at once, HTTPS", m.what, callers), rate(mine, m.size), "Azurite " + rate(peer, m.size), ratio(peer, mine), m.goal,
		}, line{"  CPU of the server for each", ms(median(cpuA)), "Azurite " + ms(median(cpuB)), ratio(median(cpuB), median(cpuA)), ""})
	}
	return table
}

func rate(each time.Duration, size int) string {
	n := 1 / each.Seconds()
	return fmt.Sprintf("%.0f/s, %.0f MB/s", n, n*float64(size)/1e6)
}

// fill writes what is to be read: a blob for each caller.
func (b *blobService) fill(t *testing.T, size int) {
	data := make([]byte, size)
	_, _ = rand.Read(data) // never fails
	for i := range callers {
		b.put(t, fmt.Sprintf("%d/%d", size, i), data)
	}
}

// each is how long a blob takes when callers of them are under way, and what the
// server's processors spend on it.
func (b *blobService) each(t *testing.T, size int, read bool) (took, cpu time.Duration) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data) // never fails
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var done atomic.Int64
	var wg sync.WaitGroup
	begun, spent := time.Now(), cpuOf(t, b.pid)
	for w := range callers {
		wg.Go(func() {
			buf := make([]byte, 256<<10)
			name := fmt.Sprintf("%d/%d", size, w)
			for ctx.Err() == nil {
				if read {
					b.get(t, name, size, buf)
				} else {
					b.put(t, name, data)
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	n := time.Duration(max(1, done.Load()))
	return time.Since(begun) / n, (cpuOf(t, b.pid) - spent) / n
}

// cpuOf is what a process has used of the processors, by proc(5).
func cpuOf(t *testing.T, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name, which may have spaces
	fields := strings.Fields(rest)
	const utime, stime, tick = 11, 12, 10 * time.Millisecond
	var ticks int64
	for _, f := range []string{fields[utime], fields[stime]} {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

func (b *blobService) put(t *testing.T, name string, data []byte) {
	req, err := http.NewRequest(http.MethodPut, b.container+"/"+name+"?"+b.sas, bytes.NewReader(data))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("x-ms-blob-type", "BlockBlob")
	req.Header.Set("x-ms-version", "2021-08-06")
	if _, err := b.do(req, http.StatusCreated, nil); err != nil {
		t.Errorf("put %s: %v", name, err)
	}
}

func (b *blobService) get(t *testing.T, name string, size int, buf []byte) {
	req, err := http.NewRequest(http.MethodGet, b.container+"/"+name+"?"+b.sas, nil)
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("x-ms-version", "2021-08-06")
	n, err := b.do(req, http.StatusOK, buf)
	if err == nil && n != int64(size) {
		err = fmt.Errorf("it has %d bytes, not %d", n, size)
	}
	if err != nil {
		t.Errorf("get %s: %v", name, err)
	}
}

func (b *blobService) do(req *http.Request, want int, buf []byte) (int64, error) {
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, buf)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return n, err
	}
	if resp.StatusCode != want {
		return n, fmt.Errorf("%s %s", resp.Status, resp.Header.Get("x-ms-error-code"))
	}
	return n, nil
}

// overHTTPS is the client of both.
func overHTTPS(t *testing.T, roots *x509.CertPool) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: callers, DisableCompression: true, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func ebbBlobs(t *testing.T, s *testkit.Server) *blobService {
	c := s.Client()
	ws, err := c.Workspace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.Open(filepath.Join(s.Dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(c.File().CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	container := "azureml-blobstore-" + ws.Properties.WorkspaceID
	sas := keys.SAS(armid.Account(ws.Properties.WorkspaceID), container, "", "rcw", time.Now().Add(time.Hour))
	return &blobService{s.URL + "/" + container, sas.Encode(), overHTTPS(t, roots), s.PID()}
}

// azuriteBlobs starts Azurite in a folder of its own; without it, it says why.
func azuriteBlobs(t *testing.T) (*blobService, string) {
	const account, key = "devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
	setup := exec.Command(filepath.Join(testkit.Root(), "scripts", "setup"), "npm", "azurite")
	modules, err := setup.Output()
	if err != nil {
		return nil, "no Azurite on this machine"
	}
	dir := t.TempDir()
	roots := selfSigned(t, dir)
	cmd := exec.Command("node", filepath.Join(strings.TrimSpace(string(modules)), "node_modules", "azurite", "dist", "src", "blob", "main.js"), "--blobHost", "127.0.0.1", "--blobPort", "0",
		"--location", dir, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--cert", filepath.Join(dir, "cert.pem"), "--key", filepath.Join(dir, "key.pem"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		return nil, err.Error()
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address := ""
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		if m := regexp.MustCompile(`listens on (https://\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
	}
	if address == "" {
		t.Fatal("Azurite did not listen")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(text string) string {
		m := hmac.New(sha256.New, raw)
		m.Write([]byte(text))
		return base64.StdEncoding.EncodeToString(m.Sum(nil))
	}
	q := url.Values{"sv": {"2021-08-06"}, "ss": {"b"}, "srt": {"sco"}, "sp": {"rcw"}, "se": {time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")}}
	q.Set("sig", sign(strings.Join([]string{account, q.Get("sp"), q.Get("ss"), q.Get("srt"), "", q.Get("se"), "", "", q.Get("sv"), ""}, "\n")+"\n"))
	b := &blobService{address + "/" + account + "/bench", q.Encode(), overHTTPS(t, roots), cmd.Process.Pid}
	req, err := http.NewRequest(http.MethodPut, b.container+"?restype=container&"+b.sas, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.do(req, http.StatusCreated, nil); err != nil {
		t.Fatalf("make Azurite's container: %v", err)
	}
	return b, ""
}

// selfSigned leaves a certificate of the kind that Ebb has (P-256) in dir.
func selfSigned(t *testing.T, dir string) *x509.CertPool {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	return pool
}
