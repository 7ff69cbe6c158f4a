package storage

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Azure's content check; it guards against accidents only
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// metaPrefix begins the headers that are kept as metadata. Azure keeps their case.
const metaPrefix = "x-ms-meta-"

// stored are further properties of a blob. They lie among its metadata under
// names that no header can have.
var stored = map[string]string{
	":encoding": "Content-Encoding", ":language": "Content-Language", ":disposition": "Content-Disposition", ":cache": "Cache-Control",
}

var storedFrom = map[string]string{
	":encoding": "x-ms-blob-content-encoding", ":language": "x-ms-blob-content-language", ":disposition": "x-ms-blob-content-disposition", ":cache": "x-ms-blob-cache-control",
}

// put answers Put Blob.
func (c *call) put() error {
	switch kind := c.r.Header.Get("x-ms-blob-type"); {
	case kind == "":
		return fault.Coded(fault.Invalid, "MissingRequiredHeader", "", "The header x-ms-blob-type is missing.")
	case !strings.EqualFold(kind, "BlockBlob"):
		return unsupported("blobs of type " + kind)
	case c.r.Header.Get("x-ms-copy-source") != "":
		return unsupported("copying from a URL")
	}
	meta, err := c.meta()
	if err != nil {
		return err
	}
	content, err := c.limited(maxPut)
	if err != nil {
		return err
	}
	checked, err := c.checked(content)
	if err != nil {
		return err
	}
	if meta.MD5 == nil {
		meta.MD5 = checked.want
	}
	info, err := c.replace(c.r.Context(), checked, meta)
	if err != nil {
		return err
	}
	if err := c.dropBlocks(c.r.Context()); err != nil {
		return err
	}
	c.written(info, checked.sum.Sum(nil))
	return nil
}

// replace writes the blob if the request's conditions and its signature allow it.
func (c *call) replace(ctx context.Context, content io.Reader, meta blob.Meta) (blob.Info, error) {
	old, err := c.Blobs.Stat(ctx, c.key())
	switch {
	case err == nil:
		if err := c.conditions(old, true); err != nil {
			return blob.Info{}, err
		}
		if c.newOnly {
			return blob.Info{}, fault.Coded(fault.Forbidden, "AuthorizationPermissionMismatch", "", "This request is not authorized to perform this operation using this permission: it may create blobs, but not replace one.")
		}
	case !errors.Is(err, fault.NotFound):
		return blob.Info{}, err
	case c.r.Header.Get("If-Match") != "":
		return blob.Info{}, fault.Coded(fault.Precondition, "ConditionNotMet", "", "The condition specified using HTTP conditional header(s) is not met.")
	}
	if c.newOnly || c.r.Header.Get("If-None-Match") == "*" {
		return c.Blobs.Create(ctx, c.key(), content, meta) // of many at once, one wins
	}
	return c.Blobs.Put(ctx, c.key(), content, meta)
}

func (c *call) written(info blob.Info, md5sum []byte) {
	h := c.w.Header()
	h.Set("ETag", quote(info.ETag))
	h.Set("Last-Modified", info.Modified.Format(http.TimeFormat))
	if md5sum != nil {
		h.Set("Content-MD5", base64.StdEncoding.EncodeToString(md5sum))
	}
	h.Set("x-ms-request-server-encrypted", "false")
	h.Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusCreated)
}

// meta reads what the client says of the blob.
func (c *call) meta() (blob.Meta, error) {
	h := c.r.Header
	m := blob.Meta{ContentType: h.Get("x-ms-blob-content-type"), Metadata: map[string]string{}}
	if m.ContentType == "" && c.q.Get("comp") == "" { // of a block list it is the XML's
		m.ContentType = h.Get("Content-Type")
	}
	if v := h.Get("x-ms-blob-content-md5"); v != "" {
		sum, err := md5Of(v)
		if err != nil {
			return blob.Meta{}, err
		}
		m.MD5 = sum
	}
	for name, values := range h {
		if key, ok := strings.CutPrefix(strings.ToLower(name), metaPrefix); ok && key != "" {
			m.Metadata[key] = strings.Join(values, ",")
		}
	}
	for key, name := range storedFrom {
		if v := h.Get(name); v != "" {
			m.Metadata[key] = v
		}
	}
	if len(m.Metadata) == 0 {
		m.Metadata = nil
	}
	return m, nil
}

func md5Of(header string) ([]byte, error) {
	sum, err := base64.StdEncoding.DecodeString(header)
	if err != nil || len(sum) != md5.Size {
		return nil, fault.Coded(fault.Invalid, "InvalidMd5", "", "The MD5 value specified is not the base64 of 16 bytes.")
	}
	return sum, nil
}

// checked reads content and, at its end, refuses it if its MD5 is not the
// request's: what reads it then writes nothing.
type checked struct {
	io.Reader
	sum  hash.Hash
	want []byte // nil: any
}

func (c *call) checked(content io.Reader) (*checked, error) {
	sum := md5.New() //nolint:gosec // as above
	out := &checked{Reader: io.TeeReader(content, sum), sum: sum}
	if v := c.r.Header.Get("Content-MD5"); v != "" {
		want, err := md5Of(v)
		if err != nil {
			return nil, err
		}
		out.want = want
	}
	return out, nil
}

func (r *checked) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) && r.want != nil && !bytes.Equal(r.want, r.sum.Sum(nil)) {
		return n, fault.Coded(fault.Invalid, "Md5Mismatch", "", "The MD5 value specified in the request did not match with the MD5 value calculated by the server.")
	}
	return n, err
}

// blocks is where the blocks of a blob lie until they are made a blob: in a
// container that no URL can name.
func (c *call) blocks() string {
	sum := sha256.Sum256([]byte(c.key()))
	return "$blocks/" + hex.EncodeToString(sum[:]) + "/"
}

// committedName is the name of a blob's list of blocks, beside those staged,
// whose names are hexadecimal.
const committedName = "committed"

// made says which blocks a blob was made of. It counts only while the blob has
// that ETag.
type made struct {
	ETag   string
	Blocks []block
}

type block struct {
	ID   string // as the client spelt it: base64
	Size int64
}

func (c *call) blockKey(id string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(id)
	if err != nil || len(raw) == 0 || len(raw) > 64 {
		return "", fault.Coded(fault.Invalid, "InvalidQueryParameterValue", "blockid", "The id of a block must be the base64 of 1 to 64 bytes.")
	}
	return c.blocks() + hex.EncodeToString(raw), nil
}

func (c *call) putBlock() error {
	key, err := c.blockKey(c.q.Get("blockid"))
	if err != nil {
		return err
	}
	content, err := c.limited(maxBlock)
	if err != nil {
		return err
	}
	checked, err := c.checked(content)
	if err != nil {
		return err
	}
	if _, err := c.Blobs.Put(c.r.Context(), key, checked, blob.Meta{}); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-MD5", base64.StdEncoding.EncodeToString(checked.sum.Sum(nil)))
	h.Set("x-ms-request-server-encrypted", "false")
	h.Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// piece is one block to be made part of a blob: n bytes from off on of key.
type piece struct {
	key    string
	off, n int64
}

func (c *call) putBlockList() error {
	meta, err := c.meta()
	if err != nil {
		return err
	}
	content, err := c.limited(maxBlockList)
	if err != nil {
		return err
	}
	checked, err := c.checked(content)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(checked)
	if err != nil {
		return err
	}
	ctx := c.r.Context()
	pieces, blocks, err := c.gather(ctx, data)
	if err != nil {
		return err
	}
	whole := &chain{ctx: ctx, blobs: c.Blobs, pieces: pieces}
	info, err := c.replace(ctx, whole, meta)
	if err = errors.Join(err, whole.Close()); err != nil {
		return err
	}
	// The blob is there. Its list of blocks is a convenience: without it, clients
	// must send all blocks again to change it.
	if err := c.dropBlocks(ctx); err != nil {
		return err
	}
	list, err := json.Marshal(made{ETag: info.ETag, Blocks: blocks})
	if err != nil {
		return err
	}
	if _, err := c.Blobs.Put(ctx, c.blocks()+committedName, bytes.NewReader(list), blob.Meta{}); err != nil {
		return err
	}
	c.written(info, nil)
	return nil
}

// gather finds the blocks that a block list names.
func (c *call) gather(ctx context.Context, list []byte) ([]piece, []block, error) {
	var doc struct {
		XMLName xml.Name `xml:"BlockList"`
		Blocks  []struct {
			XMLName xml.Name
			ID      string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := xml.Unmarshal(list, &doc); err != nil {
		return nil, nil, fault.Coded(fault.Invalid, "InvalidXmlDocument", "", "The block list is not the XML that it should be: %s.", err)
	}
	if len(doc.Blocks) > maxBlocks {
		return nil, nil, fault.Coded(fault.Invalid, "BlockListTooLong", "", "The block list may not contain more than 50,000 blocks.")
	}
	committed, err := c.committed(ctx)
	if err != nil {
		return nil, nil, err
	}
	var pieces []piece
	var blocks []block
	for _, b := range doc.Blocks {
		p, ok := committed[b.ID]
		if kind := b.XMLName.Local; kind != "Committed" {
			key, err := c.blockKey(b.ID)
			if err != nil {
				return nil, nil, err
			}
			info, err := c.Blobs.Stat(ctx, key)
			switch {
			case err == nil:
				p, ok = piece{key, 0, info.Size}, true
			case !errors.Is(err, fault.NotFound):
				return nil, nil, err
			case kind != "Latest":
				ok = false
			}
		}
		if !ok {
			return nil, nil, fault.Coded(fault.Invalid, "InvalidBlockList", "", "The specified block list is invalid: there is no block %s.", b.ID)
		}
		pieces, blocks = append(pieces, p), append(blocks, block{b.ID, p.n})
	}
	return pieces, blocks, nil
}

// list reads which blocks the blob was made of, if it was.
func (c *call) list(ctx context.Context) (made, error) {
	r, _, err := c.Blobs.Get(ctx, c.blocks()+committedName, 0, -1)
	if errors.Is(err, fault.NotFound) {
		return made{}, nil
	}
	if err != nil {
		return made{}, err
	}
	var m made
	err = errors.Join(json.NewDecoder(r).Decode(&m), r.Close())
	if err != nil {
		return made{}, err
	}
	info, err := c.Blobs.Stat(ctx, c.key())
	if errors.Is(err, fault.NotFound) || err == nil && info.ETag != m.ETag {
		return made{}, nil
	}
	return m, err
}

func (c *call) committed(ctx context.Context) (map[string]piece, error) {
	m, err := c.list(ctx)
	out := make(map[string]piece, len(m.Blocks))
	var off int64
	for _, b := range m.Blocks {
		out[b.ID] = piece{c.key(), off, b.Size}
		off += b.Size
	}
	return out, err
}

// chain reads pieces one after the other, with one open at a time.
type chain struct {
	ctx    context.Context
	blobs  *blob.Store
	pieces []piece
	now    io.ReadCloser
}

func (r *chain) Read(p []byte) (int, error) {
	for {
		if r.now == nil {
			if len(r.pieces) == 0 {
				return 0, io.EOF
			}
			next := r.pieces[0]
			content, info, err := r.blobs.Get(r.ctx, next.key, next.off, next.n)
			if err != nil {
				return 0, err
			}
			if info.Size < next.off+next.n {
				return 0, errors.Join(fault.Coded(fault.Conflict, "InvalidBlockList", "", "A block was written while it was read."), content.Close())
			}
			r.now, r.pieces = content, r.pieces[1:]
		}
		n, err := r.now.Read(p)
		if errors.Is(err, io.EOF) {
			err = r.now.Close()
			r.now = nil
			if n == 0 && err == nil {
				continue
			}
		}
		return n, err
	}
}

// Close closes the piece at which reading broke off.
func (r *chain) Close() error {
	if r.now == nil {
		return nil
	}
	return r.now.Close()
}

func (c *call) getBlockList() error {
	ctx := c.r.Context()
	want := strings.ToLower(c.q.Get("blocklisttype"))
	type xmlBlock struct {
		Name string
		Size int64
	}
	type xmlBlocks struct{ Block []xmlBlock }
	type blockList struct {
		XMLName     xml.Name   `xml:"BlockList"`
		Committed   *xmlBlocks `xml:"CommittedBlocks"`
		Uncommitted *xmlBlocks `xml:"UncommittedBlocks"`
	}
	info, statErr := c.Blobs.Stat(ctx, c.key())
	if statErr != nil && !errors.Is(statErr, fault.NotFound) {
		return statErr
	}
	var doc blockList
	if want == "" || want == "committed" || want == "all" {
		m, err := c.list(ctx)
		if err != nil {
			return err
		}
		doc.Committed = &xmlBlocks{}
		for _, b := range m.Blocks {
			doc.Committed.Block = append(doc.Committed.Block, xmlBlock{b.ID, b.Size})
		}
	}
	staged, err := c.Blobs.List(ctx, c.blocks(), "", maxBlocks)
	if err != nil {
		return err
	}
	var uncommitted []xmlBlock
	for _, b := range staged {
		if raw, err := hex.DecodeString(strings.TrimPrefix(b.Key, c.blocks())); err == nil {
			uncommitted = append(uncommitted, xmlBlock{base64.StdEncoding.EncodeToString(raw), b.Size})
		}
	}
	if statErr != nil && len(uncommitted) == 0 {
		return statErr
	}
	if want == "uncommitted" || want == "all" {
		doc.Uncommitted = &xmlBlocks{uncommitted}
	}
	out, err := xml.Marshal(doc)
	if err != nil {
		return err
	}
	h := c.w.Header()
	if statErr == nil {
		h.Set("ETag", quote(info.ETag))
		h.Set("Last-Modified", info.Modified.Format(http.TimeFormat))
	}
	h.Set("Content-Type", "application/xml")
	_, err = c.w.Write(append([]byte(xml.Header), out...))
	if err != nil && ctx.Err() == nil {
		c.Log.WarnContext(ctx, "download broke off", "container", c.container, "error", err)
	}
	return nil
}
