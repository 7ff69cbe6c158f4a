package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

// Container is a container of blobs at the server, with leave to use it.
type Container struct {
	c    *Client
	name string     // with a slash before it
	sas  url.Values // nil: the client's own token
}

// Container takes a container's signed address. Only the server's own are
// taken: the leave to write goes nowhere else.
func (c *Client) Container(sasURI string) (*Container, error) {
	u, err := url.Parse(sasURI)
	if err != nil || strings.Trim(u.Path, "/") == "" {
		return nil, fmt.Errorf("the address of a container is wanted, and this is %q", sasURI)
	}
	return &Container{c: c, name: "/" + strings.Trim(u.EscapedPath(), "/"), sas: u.Query()}, nil
}

func (s *Container) path(blob string, more url.Values) string {
	p := s.name
	if blob != "" {
		p += "/" + (&url.URL{Path: blob}).EscapedPath()
	}
	q := url.Values{}
	for _, values := range []url.Values{s.sas, more} {
		for k, v := range values {
			q[k] = v
		}
	}
	return p + "?" + q.Encode()
}

func (s *Container) request(method, blob string, more url.Values) request {
	return request{method: method, path: s.path(blob, more), public: s.sas != nil, header: http.Header{"X-Ms-Version": {"2021-08-06"}}}
}

const (
	whole     = 16 << 20 // files up to here go in one piece
	blockSize = 8 << 20
)

// Put writes a blob of size bytes; large ones go in blocks, so that a restart of
// the server costs one of them at most. Sent is told how far it came.
func (s *Container) Put(ctx context.Context, blob string, from io.ReaderAt, size int64, sent func(n int64)) error {
	if sent == nil {
		sent = func(int64) {}
	}
	if size <= whole {
		b, err := io.ReadAll(io.NewSectionReader(from, 0, size))
		if err != nil {
			return err
		}
		r := s.request(http.MethodPut, blob, nil)
		r.body = b
		r.header.Set("X-Ms-Blob-Type", "BlockBlob")
		if _, err := s.c.call(ctx, r); err != nil {
			return err
		}
		sent(size)
		return nil
	}
	var list bytes.Buffer
	list.WriteString("<BlockList>")
	for at := int64(0); at < size; at += blockSize {
		n := min(blockSize, size-at)
		b := make([]byte, n)
		if _, err := from.ReadAt(b, at); err != nil && err != io.EOF {
			return err
		}
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", at/blockSize))
		r := s.request(http.MethodPut, blob, url.Values{"comp": {"block"}, "blockid": {id}})
		r.body = b
		if _, err := s.c.call(ctx, r); err != nil {
			return err
		}
		sent(n)
		list.WriteString("<Latest>" + id + "</Latest>")
	}
	list.WriteString("</BlockList>")
	r := s.request(http.MethodPut, blob, url.Values{"comp": {"blocklist"}})
	r.body, r.contentType = list.Bytes(), "application/xml"
	_, err := s.c.call(ctx, r)
	return err
}

// Has reports whether a blob is there.
func (s *Container) Has(ctx context.Context, blob string) (bool, error) {
	_, err := s.c.call(ctx, s.request(http.MethodHead, blob, nil))
	if IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Get copies a blob to w. A server that goes away is asked for the rest.
func (s *Container) Get(ctx context.Context, blob string, w io.Writer) error {
	return s.c.download(ctx, s.request(http.MethodGet, blob, nil), w)
}

// Download copies what a signed address of the server leads to.
func (c *Client) Download(ctx context.Context, uri string, w io.Writer) error {
	path, err := own(uri)
	if err != nil {
		return err
	}
	return c.download(ctx, request{method: http.MethodGet, path: path, public: true}, w)
}

func (c *Client) download(ctx context.Context, r request, w io.Writer) error {
	var done int64
	err := c.rideOut(ctx, func() error {
		if done > 0 {
			r.header = r.header.Clone()
			if r.header == nil {
				r.header = http.Header{}
			}
			r.header.Set("Range", fmt.Sprintf("bytes=%d-", done))
		}
		resp, err := c.send(ctx, r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			return errorOf(resp, body)
		}
		if done > 0 && resp.StatusCode != http.StatusPartialContent {
			if _, err := io.CopyN(io.Discard, resp.Body, done); err != nil {
				return err
			}
		}
		return copyTo(w, resp.Body, &done)
	})
	if failed, ok := err.(*writeError); ok {
		return failed.error
	}
	return err
}

// copyTo keeps a failure of the writer apart from the network's.
func copyTo(w io.Writer, from io.Reader, done *int64) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			wrote, werr := w.Write(buf[:n])
			*done += int64(wrote)
			if werr != nil {
				return &writeError{werr}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Blob is one of a container's.
type Blob struct {
	Name string `xml:"Name"`
	Size int64  `xml:"Properties>Content-Length"`
}

// List yields the blobs whose names begin with a prefix.
func (s *Container) List(ctx context.Context, prefix string) iter.Seq2[Blob, error] {
	return func(yield func(Blob, error) bool) {
		q := url.Values{"restype": {"container"}, "comp": {"list"}, "prefix": {prefix}}
		for {
			a, err := s.c.call(ctx, s.request(http.MethodGet, "", q))
			var page struct {
				Blobs []Blob `xml:"Blobs>Blob"`
				Next  string `xml:"NextMarker"`
			}
			if err == nil {
				if err = xml.Unmarshal(a.Body, &page); err != nil {
					err = fmt.Errorf("read the list of blobs: %w", err)
				}
			}
			if err != nil {
				yield(Blob{}, err)
				return
			}
			for _, b := range page.Blobs {
				if !yield(b, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Set("marker", page.Next)
		}
	}
}
