package storage

import (
	"bytes"
	"crypto/md5" //nolint:gosec // as in meta.go
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// signed are the response headers that a signature may set, by its parameter.
var signed = map[string]string{
	"rscc": "Cache-Control", "rscd": "Content-Disposition", "rsce": "Content-Encoding", "rscl": "Content-Language", "rsct": "Content-Type",
}

// get answers Get Blob, Get Blob Properties and Get Blob Metadata.
func (c *call) get() error {
	content, info, err := c.Blobs.Get(c.r.Context(), c.key(), 0, -1)
	if err != nil {
		return c.absent(err, c.mayRead)
	}
	defer func() { _ = content.Close() }()
	if err := c.mayRead(&info); err != nil {
		if errors.Is(err, errNotModified) {
			c.tagged(info)
		}
		return err
	}
	h := c.w.Header()
	if c.q.Get("comp") == "metadata" {
		c.tagged(info)
		c.showMetadata(info.Meta.Metadata)
		h.Set("Content-Length", "0")
		return nil
	}
	off, n, partial, err := c.span(info.Size)
	if err != nil {
		return err
	}
	if c.r.Method == http.MethodHead {
		c.describe(info)
		h.Set("Content-Length", strconv.FormatInt(info.Size, 10))
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	if _, err := content.Seek(off, io.SeekStart); err != nil {
		return err
	}
	part := io.LimitReader(content, n)
	c.describe(info)
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, info.Size))
		if sum := h.Get("Content-MD5"); sum != "" { // of the whole: under another name
			h.Set("x-ms-blob-content-md5", sum)
			h.Del("Content-MD5")
		}
	}
	if part, err = c.summed(part, n, partial); err != nil {
		return err
	}
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	c.w.WriteHeader(status)
	// It has its status already: what fails now shows as a body that is too short.
	if err := c.pour(part, n); err != nil && c.r.Context().Err() == nil {
		c.Log.WarnContext(c.r.Context(), "download broke off", "container", c.container, "error", err)
	}
	return nil
}

// chunks carry blobs out. One is larger than what TLS sends at once, and small
// enough for a thousand downloads.
var chunks = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// pour writes n bytes of r. io.Copy would do so 32 KiB at a time, and cannot pass
// them to the kernel through TLS.
func (c *call) pour(r io.Reader, n int64) error {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	sent, err := io.CopyBuffer(struct{ io.Writer }{c.w}, struct{ io.Reader }{r}, *buf)
	if err == nil && sent < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// maxSummed is how long a part may be whose checksum is asked for.
const maxSummed = 4 << 20

// summed adds the checksums of a part that the client asked for.
func (c *call) summed(part io.Reader, n int64, partial bool) (io.Reader, error) {
	wants := func(name string) bool { return strings.EqualFold(c.r.Header.Get(name), "true") }
	asMD5, asCRC := wants("x-ms-range-get-content-md5"), wants("x-ms-range-get-content-crc64")
	switch {
	case !asMD5 && !asCRC:
		return part, nil
	case asMD5 && asCRC:
		return nil, headerValue("x-ms-range-get-content-crc64")
	case !partial:
		return nil, headerValue("x-ms-range-get-content-md5")
	case n > maxSummed:
		return nil, fault.Coded(fault.Invalid, "OutOfRangeInput", "", "The range whose checksum is asked for may have 4 MiB at most.")
	}
	text, err := io.ReadAll(part)
	if err != nil {
		return nil, err
	}
	if asMD5 {
		sum := md5.Sum(text) //nolint:gosec // as above
		c.w.Header().Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
	} else {
		sum := newCRC()
		_, _ = sum.Write(text) // never fails
		c.w.Header().Set(crcHeader, sumOf(sum))
	}
	return bytes.NewReader(text), nil
}

func (c *call) describe(info blob.Info) {
	c.tagged(info)
	h := c.w.Header()
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	if info.Meta.ContentType != "" {
		h.Set("Content-Type", info.Meta.ContentType)
	}
	if info.Meta.MD5 != nil {
		h.Set("Content-MD5", base64.StdEncoding.EncodeToString(info.Meta.MD5))
	}
	h.Set("x-ms-blob-type", kindOf(info))
	h.Set("x-ms-creation-time", info.Created.Format(http.TimeFormat))
	h.Set("x-ms-lease-status", "unlocked")
	h.Set("x-ms-lease-state", "available")
	h.Set("x-ms-server-encrypted", "false")
	c.showMetadata(info.Meta.Metadata)
	for k, v := range info.Meta.Metadata {
		if name, ok := stored[k]; ok {
			h.Set(name, v)
		}
	}
	for parameter, name := range signed {
		if v := c.q.Get(parameter); v != "" && c.cred.kind == bySignature {
			h.Set(name, v)
		}
	}
}

func (c *call) showMetadata(metadata map[string]string) {
	for k, v := range metadata {
		if !strings.HasPrefix(k, ":") {
			c.w.Header()[metaPrefix+k] = []string{v} // as it was spelt
		}
	}
}

// span reads the range that is asked for. As in Azure x-ms-range goes before
// Range, and what is no range of one part is taken for none.
func (c *call) span(size int64) (off, n int64, partial bool, err error) {
	header := c.r.Header.Get("x-ms-range")
	if header == "" {
		header = c.r.Header.Get("Range")
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	from, err1 := strconv.ParseUint(first, 10, 63)
	to, err2 := uint64(max(size, 1)-1), error(nil)
	if last != "" {
		to, err2 = strconv.ParseUint(last, 10, 63)
	}
	if !strings.HasPrefix(header, "bytes=") || !ok || err1 != nil || err2 != nil || to < from && last != "" {
		return 0, size, false, nil
	}
	if from >= uint64(size) {
		c.w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		return 0, 0, false, fault.Coded(fault.Invalid, "InvalidRange", "", "The range specified is invalid for the current size of the resource.")
	}
	to = min(to, uint64(size)-1)
	return int64(from), int64(to-from) + 1, true, nil
}

func (c *call) delete() error {
	switch v := strings.ToLower(c.r.Header.Get("x-ms-delete-snapshots")); v {
	case "", "include": // there are none
	case "only":
		return unsupported("blob snapshots and versions")
	default:
		return headerValue("x-ms-delete-snapshots")
	}
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	if err := c.Blobs.DeleteIf(c.r.Context(), c.key(), may); err != nil {
		return c.absent(err, may)
	}
	if err := c.dropBlocks(c.r.Context()); err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	c.w.Header().Set("x-ms-delete-type-permanent", "true")
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}
