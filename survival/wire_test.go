package survival_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
)

// raw is a request as it goes over the wire: net/http's client would refuse to
// send most of what these tests do.
type raw struct {
	name           string
	method, target string
	host           string
	header         []field
	body           []byte
	cut            bool // the connection ends before the body is whole
}

type field struct{ name, value string }

func (r raw) clone() raw {
	r.header = append([]field(nil), r.header...)
	r.body = bytes.Clone(r.body)
	return r
}

func (r *raw) set(name, value string) {
	for i := range r.header {
		if strings.EqualFold(r.header[i].name, name) {
			r.header[i].value = value
			return
		}
	}
	r.header = append(r.header, field{name, value})
}

func (r *raw) drop(name string) {
	for i := range r.header {
		if strings.EqualFold(r.header[i].name, name) {
			r.header = append(r.header[:i], r.header[i+1:]...)
			return
		}
	}
}

func (r raw) get(name string) string {
	for _, f := range r.header {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

func (r raw) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.method, r.target, r.host)
	for _, f := range r.header {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
	}
	length := len(r.body)
	if r.cut {
		length += 10
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", length)
	b.Write(r.body)
	return b.Bytes()
}

// String shows enough of a request to send it again by hand.
func (r raw) String() string {
	text := fmt.Sprintf("%q", r.bytes())
	if token := strings.TrimPrefix(r.get("Authorization"), "Bearer "); len(token) > 40 {
		text = strings.ReplaceAll(text, token, token[:20]+"…")
	}
	if len(text) > 3000 {
		text = text[:1500] + " … " + text[len(text)-1500:]
	}
	return r.name + ": " + text
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// line is one kept-alive connection to the server.
type line struct {
	addr string
	conf *tls.Config
	conn *tls.Conn
	in   *bufio.Reader
}

func newLine(t *testing.T, f client.File) *line {
	t.Helper()
	u, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	l := &line{addr: u.Host, conf: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(l.hangUp)
	return l
}

func (l *line) hangUp() {
	if l.conn != nil {
		_ = l.conn.Close() // whatever was to be said has been
		l.conn = nil
	}
}

// givesUp is how long the server waits for a handshake, or for a request's header:
// then it closes the connection without a word. A machine that stood still for as
// long has nothing to do with the request, which is sent again.
const givesUp = 30 * time.Second

// send sends a request and reads the answer. A kept connection that the server
// has closed meanwhile is replaced, once.
func (l *line) send(r raw) (answer, error) {
	kept, began := l.conn != nil, time.Now()
	a, err := l.try(r)
	if err != nil && (kept || hungUp(err) && time.Since(began) >= givesUp) {
		l.hangUp()
		began = time.Now()
		a, err = l.try(r)
	}
	if err != nil {
		l.hangUp()
		err = fmt.Errorf("%w (after %v)", err, time.Since(began).Round(time.Millisecond))
	}
	return a, err
}

// hungUp reports whether the server closed the connection before it had answered.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (l *line) try(r raw) (answer, error) {
	if l.conn == nil {
		conn, err := tls.Dial("tcp", l.addr, l.conf)
		if err != nil {
			return answer{}, fmt.Errorf("connect: %w", err)
		}
		l.conn, l.in = conn, bufio.NewReader(conn)
	}
	if err := l.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{}, err
	}
	// The server may answer, and hang up, before it has read everything.
	wrote := make(chan error, 1)
	conn := l.conn
	go func() {
		_, err := conn.Write(r.bytes())
		if err == nil && r.cut {
			err = conn.CloseWrite()
		}
		wrote <- err
	}()
	resp, err := http.ReadResponse(l.in, &http.Request{Method: r.method})
	if err != nil {
		l.hangUp()
		<-wrote
		return answer{}, err
	}
	body, err := io.ReadAll(resp.Body)
	if resp.Close || r.cut || err != nil {
		l.hangUp()
	}
	if werr := <-wrote; werr != nil {
		l.hangUp()
	}
	return answer{resp.StatusCode, resp.Header, body}, err
}
