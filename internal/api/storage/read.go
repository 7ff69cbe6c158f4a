package storage

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// signed are the response headers that a signature may set, by its parameter.
var signed = map[string]string{
	"rscc": "Cache-Control", "rscd": "Content-Disposition", "rsce": "Content-Encoding", "rscl": "Content-Language", "rsct": "Content-Type",
}

// get answers Get Blob and Get Blob Properties.
func (c *call) get() error {
	info, err := c.Blobs.Stat(c.r.Context(), c.key())
	if err != nil {
		return err
	}
	if err := c.conditions(info, false); err != nil {
		c.describe(info)
		return err
	}
	off, n, partial, err := c.span(info.Size)
	if err != nil {
		return err
	}
	if c.r.Method == http.MethodHead {
		c.describe(info)
		c.w.Header().Set("Content-Length", strconv.FormatInt(info.Size, 10))
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	content, now, err := c.Blobs.Get(c.r.Context(), c.key(), off, n)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	if now.ETag != info.ETag { // written between the two calls: describe what is sent
		if info = now; off+n > now.Size {
			return fault.Coded(fault.Precondition, "ConditionNotMet", "", "The blob was written while it was read.")
		}
	}
	c.describe(info)
	h := c.w.Header()
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, info.Size))
		if md5 := h.Get("Content-MD5"); md5 != "" { // of the whole: under another name
			h.Set("x-ms-blob-content-md5", md5)
			h.Del("Content-MD5")
		}
	}
	c.w.WriteHeader(status)
	// It has its status already: what fails now shows as a body that is too short.
	if _, err := io.CopyN(c.w, content, n); err != nil && c.r.Context().Err() == nil {
		c.Log.WarnContext(c.r.Context(), "download broke off", "container", c.container, "error", err)
	}
	return nil
}

func (c *call) describe(info blob.Info) {
	h := c.w.Header()
	h.Set("ETag", quote(info.ETag))
	h.Set("Last-Modified", info.Modified.Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	if info.Meta.ContentType != "" {
		h.Set("Content-Type", info.Meta.ContentType)
	}
	if info.Meta.MD5 != nil {
		h.Set("Content-MD5", base64.StdEncoding.EncodeToString(info.Meta.MD5))
	}
	h.Set("x-ms-blob-type", "BlockBlob")
	h.Set("x-ms-lease-status", "unlocked")
	h.Set("x-ms-lease-state", "available")
	h.Set("x-ms-server-encrypted", "false")
	for k, v := range info.Meta.Metadata {
		if name, ok := stored[k]; ok {
			h.Set(name, v)
		} else {
			h[metaPrefix+k] = []string{v} // as it was spelt
		}
	}
	for parameter, name := range signed {
		if v := c.q.Get(parameter); v != "" {
			h.Set(name, v)
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
