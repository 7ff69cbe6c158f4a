package storage

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// maxResults is how many blobs one answer of List Blobs has at most, and where
// the client names no number.
const maxResults = 5000

// beyond is greater than any byte of a name in UTF-8.
const beyond = "\xff"

// listing is the answer to List Blobs.
type listing struct {
	XMLName         xml.Name `xml:"EnumerationResults"`
	ServiceEndpoint string   `xml:",attr"`
	ContainerName   string   `xml:",attr"`
	Prefix          string   `xml:",omitempty"`
	Marker          string   `xml:",omitempty"`
	MaxResults      int      `xml:",omitempty"`
	Delimiter       string   `xml:",omitempty"`
	Blobs           struct{ Items []any }
	NextMarker      string
}

// nameXML is a blob's name; one that XML cannot carry goes percent-encoded, as
// in Azure from version 2021-02-12 on.
type nameXML struct {
	Encoded bool   `xml:",attr,omitempty"`
	Text    string `xml:",chardata"`
}

type prefixXML struct {
	XMLName xml.Name `xml:"BlobPrefix"`
	Name    nameXML
}

type blobXML struct {
	XMLName    xml.Name `xml:"Blob"`
	Name       nameXML
	Properties propertiesXML
	Metadata   *metadataXML
}

type propertiesXML struct {
	Created            string `xml:"Creation-Time"`
	LastModified       string `xml:"Last-Modified"`
	Etag               string
	ContentLength      int64  `xml:"Content-Length"`
	ContentType        string `xml:"Content-Type"`
	ContentEncoding    string `xml:"Content-Encoding"`
	ContentLanguage    string `xml:"Content-Language"`
	ContentMD5         string `xml:"Content-MD5"`
	CacheControl       string `xml:"Cache-Control"`
	ContentDisposition string `xml:"Content-Disposition"`
	BlobType           string
	LeaseStatus        string
	LeaseState         string
	ServerEncrypted    bool
}

// metadataXML has an element for each name.
type metadataXML struct{ Items []metaXML }

type metaXML struct {
	XMLName xml.Name
	Value   string `xml:",chardata"`
}

func nameOf(s string) nameXML {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\t' || r == unicode.ReplacementChar || r == 0xFFFE || r == 0xFFFF
	}) {
		return nameXML{Encoded: true, Text: url.PathEscape(s)}
	}
	return nameXML{Text: s}
}

// listBlobs answers List Blobs. The marker is the last name that was shown, or the
// end of the last prefix.
func (c *call) listBlobs() error {
	top, err := c.top()
	if err != nil {
		return err
	}
	marker, err := base64.RawURLEncoding.DecodeString(c.q.Get("marker"))
	if err != nil {
		return badMarker()
	}
	out := listing{ContainerName: c.container, Prefix: c.q.Get("prefix"), Marker: c.q.Get("marker"), Delimiter: c.q.Get("delimiter"),
		ServiceEndpoint: c.endpoint()}
	if c.q.Get("maxresults") != "" {
		out.MaxResults = top
	}
	if err := c.fill(&out, string(marker), top); err != nil {
		return err
	}
	c.send(http.StatusOK, marshal(out))
	return nil
}

func badMarker() error {
	return fault.Coded(fault.Invalid, "OutOfRangeInput", "", "One of the request inputs is out of range: the marker is not one that this server gave.")
}

func (c *call) top() (int, error) {
	s := c.q.Get("maxresults")
	if s == "" {
		return maxResults, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fault.Coded(fault.Invalid, "OutOfRangeQueryParameterValue", "", "One of the query parameters specified in the request URI is outside the permissible range: maxresults must be at least 1.")
	}
	return min(n, maxResults), nil
}

// fill puts the next top blobs and prefixes after marker into out.
func (c *call) fill(out *listing, marker string, top int) error {
	root := c.box + "/"
	withMeta := strings.Contains(c.q.Get("include"), "metadata")
	for after, more := marker, true; more; {
		batch := min(top-len(out.Blobs.Items)+1, 1000)
		page, err := c.Blobs.List(c.r.Context(), root+out.Prefix, root+after, batch)
		if err != nil {
			return err
		}
		more = len(page) == batch
		for _, info := range page {
			if len(out.Blobs.Items) == top {
				out.NextMarker = base64.RawURLEncoding.EncodeToString([]byte(after))
				return nil
			}
			name := strings.TrimPrefix(info.Key, root)
			if folder, ok := c.folder(name, out.Prefix, out.Delimiter); ok {
				out.Blobs.Items = append(out.Blobs.Items, prefixXML{Name: nameOf(folder)})
				after, more = folder+beyond, true // the rest of it is not looked at
				break
			}
			out.Blobs.Items = append(out.Blobs.Items, entry(name, info, withMeta))
			after = name
		}
	}
	return nil
}

// folder is the part of a name up to the first delimiter behind the prefix.
func (c *call) folder(name, prefix, delimiter string) (string, bool) {
	if delimiter == "" {
		return "", false
	}
	before, _, ok := strings.Cut(name[len(prefix):], delimiter)
	return prefix + before + delimiter, ok
}

func entry(name string, info blob.Info, withMeta bool) blobXML {
	b := blobXML{Name: nameOf(name), Properties: propertiesXML{
		LastModified: info.Modified.UTC().Format(http.TimeFormat), Etag: info.ETag, ContentLength: info.Size, ContentType: info.Meta.ContentType,
		BlobType: kindOf(info), Created: info.Created.UTC().Format(http.TimeFormat), LeaseStatus: "unlocked", LeaseState: "available",
	}}
	if b.Properties.ContentType == "" {
		b.Properties.ContentType = "application/octet-stream"
	}
	if info.Meta.MD5 != nil {
		b.Properties.ContentMD5 = base64.StdEncoding.EncodeToString(info.Meta.MD5)
	}
	place := map[string]*string{"Content-Encoding": &b.Properties.ContentEncoding, "Content-Language": &b.Properties.ContentLanguage,
		"Cache-Control": &b.Properties.CacheControl, "Content-Disposition": &b.Properties.ContentDisposition}
	if withMeta {
		b.Metadata = metadataOf(info.Meta.Metadata)
	}
	for k, v := range info.Meta.Metadata {
		if to := place[stored[k]]; to != nil {
			*to = v
		}
	}
	return b
}

// metadataOf is metadata as lists show it.
func metadataOf(metadata map[string]string) *metadataXML {
	out := &metadataXML{}
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		if identifier.MatchString(k) {
			out.Items = append(out.Items, metaXML{xml.Name{Local: k}, metadata[k]})
		}
	}
	return out
}
