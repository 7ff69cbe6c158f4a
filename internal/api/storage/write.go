package storage

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// put answers Put Blob and Copy Blob.
func (c *call) put() error {
	kind := c.r.Header.Get("x-ms-blob-type")
	switch source := c.r.Header.Get("x-ms-copy-source"); {
	case source != "" && kind == "":
		return c.copyBlob(source)
	case source != "":
		return unsupported("putting a blob from a URL; Copy Blob copies within an account")
	case kind == "":
		return missingHeader("x-ms-blob-type")
	case strings.EqualFold(kind, appendBlob):
		return c.createAppendBlob()
	case strings.EqualFold(kind, "PageBlob"):
		return unsupported("page blobs")
	case !strings.EqualFold(kind, blockBlob):
		return headerValue("x-ms-blob-type")
	}
	meta, err := c.meta()
	if err != nil {
		return err
	}
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	content, err := c.checked(maxPut, true, meta.MD5)
	if err != nil {
		return err
	}
	info, err := c.Blobs.Replace(c.r.Context(), c.key(), content, blob.Write{Meta: meta, May: may, Sum: content.sum})
	if err != nil {
		return err
	}
	if err := c.dropBlocks(c.r.Context()); err != nil {
		return err
	}
	c.sums(content)
	return c.written(info)
}

// written is the answer to a write of a blob. The container may have been deleted
// meanwhile: then nobody can reach what was written.
func (c *call) written(info blob.Info) error {
	if err := c.still(); err != nil {
		return err
	}
	c.tagged(info)
	c.created()
	return nil
}

func (c *call) created() {
	h := c.w.Header()
	h.Set("x-ms-request-server-encrypted", "false")
	h.Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusCreated)
}

func (c *call) createAppendBlob() error {
	meta, err := c.meta()
	if err != nil {
		return err
	}
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	content, err := c.limited(0)
	if err != nil {
		return fault.Coded(fault.Invalid, "InvalidHeaderValue", "Content-Length", "An append blob is made empty: the Content-Length must be 0.")
	}
	if meta.Metadata == nil {
		meta.Metadata = map[string]string{}
	}
	meta.Metadata[kindKey] = appendBlob
	info, err := c.Blobs.Replace(c.r.Context(), c.key(), content, blob.Write{Meta: meta, May: may})
	if err != nil {
		return err
	}
	if err := c.dropBlocks(c.r.Context()); err != nil {
		return err
	}
	return c.written(info)
}

// appendBlock answers Append Block.
func (c *call) appendBlock() error {
	if c.r.Header.Get("x-ms-copy-source") != "" {
		return unsupported("appending from a URL")
	}
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	limits := map[string]int64{"x-ms-blob-condition-appendpos": -1, "x-ms-blob-condition-maxsize": -1}
	for name := range limits {
		if v := c.r.Header.Get(name); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				return headerValue(name)
			}
			limits[name] = n
		}
	}
	content, err := c.checked(maxAppend, false)
	if err != nil {
		return err
	}
	if c.r.ContentLength == 0 {
		return headerValue("Content-Length")
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	var at int64
	info, err := c.Blobs.Extend(c.r.Context(), c.key(), data, func(old *blob.Info) error {
		if err := may(old); err != nil && !c.newOnly {
			return err
		}
		if kindOf(*old) != appendBlob {
			return fault.Coded(fault.Conflict, "InvalidBlobType", "", "The blob type is invalid for this operation.")
		}
		at = old.Size
		switch want, most := limits["x-ms-blob-condition-appendpos"], limits["x-ms-blob-condition-maxsize"]; {
		case want >= 0 && want != at:
			return fault.Coded(fault.Precondition, "AppendPositionConditionNotMet", "", "The append position condition specified was not met.")
		case most >= 0 && at+int64(len(data)) > most:
			return fault.Coded(fault.Precondition, "MaxBlobSizeConditionNotMet", "", "The max blob size condition specified was not met.")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.still(); err != nil {
		return err
	}
	c.sums(content)
	c.tagged(info)
	c.w.Header().Set("x-ms-blob-append-offset", strconv.FormatInt(at, 10))
	c.created()
	return nil
}

// copyBlob answers Copy Blob, for a source of the same account: it has ended when
// the answer comes.
func (c *call) copyBlob(source string) error {
	from, q, err := c.sourceOf(source)
	if err != nil {
		return err
	}
	s := &call{Service: c.Service, w: c.w, r: c.r, q: q, account: from.account, container: from.container, name: from.name, cred: c.cred}
	if c.cred.kind == bySignature || q.Get("sig") != "" {
		if q.Get("sig") == "" {
			return fault.Coded(fault.Forbidden, "CannotVerifyCopySource", "", "This request is not authorized to read the copy source: its URL has no signature.")
		}
		if err := s.checkSAS(operation{need: "r"}); err != nil {
			return err
		}
	}
	if err := s.enter(); err != nil {
		return err
	}
	old, err := c.Blobs.Stat(c.r.Context(), s.key())
	if errors.Is(err, fault.NotFound) {
		return fault.Coded(fault.NotFound, "BlobNotFound", "", "The specified blob does not exist: it is the copy's source.")
	}
	if err != nil {
		return err
	}
	k, err := c.conditionsOf("x-ms-source-")
	if err != nil {
		return err
	}
	if unmet, same := k.failed(&old); unmet || same {
		return fault.Coded(fault.Precondition, "SourceConditionNotMet", "", "The source condition specified using HTTP conditional header(s) is not met.")
	}
	return c.copied(source, s.key(), old)
}

func (c *call) copied(source, key string, old blob.Info) error {
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	meta := old.Meta
	if len(metadata) == 0 {
		metadata = map[string]string{}
		for k, v := range old.Meta.Metadata {
			metadata[k] = v
		}
	} else {
		for k, v := range old.Meta.Metadata {
			if settable[k] != "" || k == kindKey {
				metadata[k] = v
			}
		}
	}
	source, _, _ = strings.Cut(source, "?") // its signature is nobody's who reads the copy
	size := strconv.FormatInt(old.Size, 10)
	metadata[":copyid"], metadata[":copysource"], metadata[":copystatus"] = requestID(), source, "success"
	metadata[":copytime"], metadata[":copyprogress"] = c.Now().UTC().Format(http.TimeFormat), size+"/"+size
	meta.Metadata = metadata
	info, err := c.Blobs.Concat(c.r.Context(), c.key(), []blob.Piece{{Key: key, N: old.Size, ETag: old.ETag}}, blob.Write{Meta: meta, May: may})
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Conflict && f.Code == "" {
		return fault.Coded(fault.Precondition, "SourceConditionNotMet", "", "The source was written while it was copied.")
	}
	if err != nil {
		return err
	}
	if err := c.dropBlocks(c.r.Context()); err != nil {
		return err
	}
	if err := c.still(); err != nil {
		return err
	}
	c.tagged(info)
	h := c.w.Header()
	h.Set("x-ms-copy-id", metadata[":copyid"])
	h.Set("x-ms-copy-status", "success")
	h.Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}
