package storage

import (
	"crypto/md5" //nolint:gosec // Azure's content check; it guards against accidents only
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// metaPrefix begins the headers that are kept as metadata.
const metaPrefix = "x-ms-meta-"

// maxMeta is how much metadata a blob or container may have, names and values.
const maxMeta = 8 << 10 // bytes

// stored are further properties of a blob. They lie among its metadata under
// names that no header can have.
var stored = map[string]string{
	":encoding": "Content-Encoding", ":language": "Content-Language", ":disposition": "Content-Disposition", ":cache": "Cache-Control",
	":copyid": "x-ms-copy-id", ":copysource": "x-ms-copy-source", ":copystatus": "x-ms-copy-status", ":copytime": "x-ms-copy-completion-time", ":copyprogress": "x-ms-copy-progress",
}

// settable are those of them that a client gives, by the header that does it.
var settable = map[string]string{
	":encoding": "x-ms-blob-content-encoding", ":language": "x-ms-blob-content-language", ":disposition": "x-ms-blob-content-disposition", ":cache": "x-ms-blob-cache-control",
}

// kind is where the type of a blob lies; a block blob's is not written down.
const (
	kindKey    = ":kind"
	blockBlob  = "BlockBlob"
	appendBlob = "AppendBlob"
)

func kindOf(info blob.Info) string {
	if k := info.Meta.Metadata[kindKey]; k != "" {
		return k
	}
	return blockBlob
}

// identifier is a name of metadata, as Azure allows it: others would be no XML.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// metadata reads the metadata of a request. Names are lower-case: what a client
// wrote is lost on the way, since HTTP's headers have no case.
func (c *call) metadata() (map[string]string, error) {
	out := map[string]string{}
	size := 0
	for name, values := range c.r.Header {
		key, ok := strings.CutPrefix(strings.ToLower(name), metaPrefix)
		if !ok {
			continue
		}
		if key == "" {
			return nil, fault.Coded(fault.Invalid, "EmptyMetadataKey", "", "The key for one of the metadata key-value pairs is empty.")
		}
		if !identifier.MatchString(key) {
			return nil, fault.Coded(fault.Invalid, "InvalidMetadata", "", "The metadata specified is invalid. It has characters that are not permitted: '%.80q' is no identifier.", key)
		}
		out[key] = strings.Join(values, ",")
		if !ascii(out[key]) {
			return nil, fault.Coded(fault.Invalid, "InvalidMetadata", "", "The metadata specified is invalid. It has characters that are not permitted: the value of '%.80q' is not all ASCII. Encode it, in base64 for example.", key)
		}
		size += len(key) + len(out[key])
	}
	if size > maxMeta {
		return nil, fault.Coded(fault.Invalid, "MetadataTooLarge", "", "The size of the specified metadata exceeds the maximum size permitted.")
	}
	return out, nil
}

// ascii reports whether a value may be a header's again, whoever reads it.
func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// meta reads what the client says of the blob.
func (c *call) meta() (blob.Meta, error) {
	metadata, err := c.metadata()
	if err != nil {
		return blob.Meta{}, err
	}
	m := blob.Meta{Metadata: metadata}
	if err := c.properties(&m); err != nil {
		return blob.Meta{}, err
	}
	if m.ContentType == "" && c.q.Get("comp") == "" { // of a block list it is the XML's
		if m.ContentType = c.r.Header.Get("Content-Type"); !ascii(m.ContentType) {
			return blob.Meta{}, headerValue("Content-Type")
		}
	}
	if len(m.Metadata) == 0 {
		m.Metadata = nil
	}
	return m, nil
}

// properties reads the blob's HTTP headers into m.
func (c *call) properties(m *blob.Meta) error {
	h := c.r.Header
	if m.ContentType = h.Get("x-ms-blob-content-type"); !ascii(m.ContentType) {
		return headerValue("x-ms-blob-content-type")
	}
	if v := h.Get("x-ms-blob-content-md5"); v != "" {
		sum, err := md5Of(v)
		if err != nil {
			return err
		}
		m.MD5 = sum
	}
	for key, name := range settable {
		if v := h.Get(name); v != "" {
			if !ascii(v) {
				return headerValue(name)
			}
			m.Metadata[key] = v
		}
	}
	return nil
}

func md5Of(header string) ([]byte, error) {
	sum, err := base64.StdEncoding.DecodeString(header)
	if err != nil || len(sum) != md5.Size {
		return nil, fault.Coded(fault.Invalid, "InvalidMd5", "", "The MD5 value specified in the request is invalid: it is not the base64 of 16 bytes.")
	}
	return sum, nil
}

// setMetadata answers Set Blob Metadata: all of it is replaced.
func (c *call) setMetadata() error {
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	return c.amend(func(old blob.Info) (blob.Meta, error) {
		m := old.Meta
		for k, v := range m.Metadata {
			if strings.HasPrefix(k, ":") {
				metadata[k] = v
			}
		}
		m.Metadata = metadata
		return m, nil
	})
}

// setProperties answers Set Blob Properties: what is not given is cleared.
func (c *call) setProperties() error {
	for _, name := range []string{"x-ms-blob-content-length", "x-ms-blob-sequence-number", "x-ms-sequence-number-action"} {
		if c.r.Header.Get(name) != "" {
			return unsupported("page blobs")
		}
	}
	return c.amend(func(old blob.Info) (blob.Meta, error) {
		m := blob.Meta{Metadata: map[string]string{}}
		for k, v := range old.Meta.Metadata {
			if settable[k] == "" {
				m.Metadata[k] = v
			}
		}
		return m, c.properties(&m)
	})
}

func (c *call) amend(change func(old blob.Info) (blob.Meta, error)) error {
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	info, err := c.Blobs.Amend(c.r.Context(), c.key(), func(old blob.Info) (blob.Meta, error) {
		if err := may(&old); err != nil {
			return blob.Meta{}, err
		}
		return change(old)
	})
	if err != nil {
		return c.absent(err, may)
	}
	c.tagged(info)
	c.w.Header().Set("x-ms-request-server-encrypted", "false")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// tagged says which state of a blob an answer is about.
func (c *call) tagged(info blob.Info) {
	c.w.Header().Set("ETag", quote(info.ETag))
	c.w.Header().Set("Last-Modified", info.Modified.Format(http.TimeFormat))
}
