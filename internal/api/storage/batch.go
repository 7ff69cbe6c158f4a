package storage

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	maxBatch      = 256
	maxBatchBytes = 4 << 20
)

// batch answers Blob Batch: up to 256 deletions, each a request of its own with
// what it proves, and each with an answer of its own.
func (c *call) batch() error {
	kind, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || !strings.EqualFold(kind, "multipart/mixed") || params["boundary"] == "" {
		return headerValue("Content-Type")
	}
	content, err := c.limited(maxBatchBytes)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	to := multipart.NewWriter(&out)
	if err := to.SetBoundary("batchresponse_" + requestID()); err != nil {
		return err
	}
	parts := multipart.NewReader(content, params["boundary"])
	for n := 0; ; n++ {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			if n == 0 {
				return badBatch("it has no parts")
			}
			break
		}
		if err != nil || n == maxBatch {
			return badBatch("it is no multipart document of at most 256 parts")
		}
		answer, err := c.one(part)
		if err != nil {
			return err
		}
		w, err := to.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/http"}, "Content-ID": {part.Header.Get("Content-ID")}})
		if err != nil {
			return err
		}
		if _, err := w.Write(answer); err != nil {
			return err
		}
	}
	if err := to.Close(); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "multipart/mixed; boundary="+to.Boundary())
	c.w.WriteHeader(http.StatusAccepted)
	_, _ = c.w.Write(out.Bytes()) // the client may have left
	return nil
}

func badBatch(why string) error {
	return fault.Coded(fault.Invalid, "InvalidInput", "", "One of the request inputs is not valid: the batch: %s.", why)
}

// one answers a part.
func (c *call) one(part *multipart.Part) ([]byte, error) {
	text, err := io.ReadAll(part)
	if err != nil {
		return nil, badBatch("a part breaks off")
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(bytes.TrimSpace(text), "\r\n\r\n"...))))
	if err != nil {
		return nil, badBatch("a part is no HTTP request")
	}
	r = r.WithContext(c.r.Context())
	r.Host, r.RemoteAddr = c.r.Host, c.r.RemoteAddr
	w := &recorder{header: http.Header{"X-Ms-Request-Id": {requestID()}, "X-Ms-Version": {c.w.Header().Get("x-ms-version")}}}
	sub := &call{Service: c.Service, w: w, r: r, q: r.URL.Query(), version: c.version}
	switch at := placeOf(r.Host, r.URL.Path); {
	case r.Method != http.MethodDelete || at.name == "" || sub.q.Get("comp") != "" || sub.q.Get("restype") != "":
		err = unsupported("anything but deletions of blobs in a batch")
	case at.account != c.account || c.container != "" && at.container != c.container:
		err = badBatch("a part is for another account or container")
	default:
		err = c.again(sub)
	}
	if err != nil {
		sub.fail(err)
	}
	return w.text(), nil
}

// recorder keeps the answer to a part.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) { w.status = status }

func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *recorder) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", w.status, http.StatusText(w.status))
	_ = w.header.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	b.Write(w.body.Bytes())
	return b.Bytes()
}
