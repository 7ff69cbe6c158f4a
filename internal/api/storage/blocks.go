package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

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
// that size and is not written whole; a change of its metadata leaves it.
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
	if c.r.Header.Get("x-ms-copy-source") != "" {
		return unsupported("putting a block from a URL")
	}
	content, err := c.checked(maxBlock, false)
	if err != nil {
		return err
	}
	if c.r.ContentLength == 0 {
		return headerValue("Content-Length")
	}
	if err := errors.Join(c.ofBlocks(nil), c.sameLength(key)); err != nil {
		return err
	}
	if _, err := c.Blobs.Put(c.r.Context(), key, content, blob.Meta{}); err != nil {
		return err
	}
	if err := c.still(); err != nil {
		return errors.Join(err, c.dropBlocks(c.r.Context()))
	}
	c.sums(content)
	c.created()
	return nil
}

// ofBlocks refuses what is for block blobs where another kind of blob is: old, or
// the one that is there.
func (c *call) ofBlocks(old *blob.Info) error {
	if old == nil {
		info, err := c.Blobs.Stat(c.r.Context(), c.key())
		if errors.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		old = &info
	}
	if kindOf(*old) != blockBlob {
		return fault.Coded(fault.Conflict, "InvalidBlobType", "", "The blob type is invalid for this operation.")
	}
	return nil
}

// sameLength refuses a block whose id has another length than the ids of those
// staged: Azure does, and a client that counts on it would not notice here.
func (c *call) sameLength(key string) error {
	staged, err := c.Blobs.List(c.r.Context(), c.blocks(), "", 1)
	if err != nil || len(staged) == 0 || strings.HasSuffix(staged[0].Key, "/"+committedName) || len(staged[0].Key) == len(key) {
		return err
	}
	return fault.Coded(fault.Invalid, "InvalidBlobOrBlock", "", "The specified blob or block content is invalid: the ids of all blocks of a blob must have the same length.")
}

func (c *call) putBlockList() error {
	meta, err := c.meta()
	if err != nil {
		return err
	}
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	content, err := c.checked(maxBlockList, false)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	ctx := c.r.Context()
	pieces, blocks, err := c.gather(ctx, data)
	if err != nil {
		return err
	}
	info, err := c.Blobs.Concat(ctx, c.key(), pieces, blob.Write{Meta: meta, May: func(old *blob.Info) error {
		if old != nil && kindOf(*old) != blockBlob {
			return c.ofBlocks(old)
		}
		return may(old)
	}})
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Conflict && f.Code == "" {
		return fault.Coded(fault.Conflict, "InvalidBlockList", "", "A block was written while it was read.")
	}
	if err != nil {
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
	c.sums(content)
	return c.written(info)
}

// gather finds the blocks that a block list names.
func (c *call) gather(ctx context.Context, list []byte) ([]blob.Piece, []block, error) {
	var doc struct {
		XMLName xml.Name `xml:"BlockList"`
		Blocks  []struct {
			XMLName xml.Name
			ID      string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := xml.Unmarshal(list, &doc); err != nil {
		return nil, nil, badXML(err)
	}
	if len(doc.Blocks) > maxBlocks {
		return nil, nil, fault.Coded(fault.Invalid, "BlockListTooLong", "", "The block list may not contain more than 50,000 blocks.")
	}
	committed, err := c.committed(ctx)
	if err != nil {
		return nil, nil, err
	}
	var pieces []blob.Piece
	var blocks []block
	for _, b := range doc.Blocks {
		id := strings.TrimSpace(b.ID)
		p, ok := committed[id]
		switch kind := b.XMLName.Local; kind {
		case "Committed":
		case "Latest", "Uncommitted":
			key, err := c.blockKey(id)
			if err != nil {
				return nil, nil, err
			}
			info, err := c.Blobs.Stat(ctx, key)
			switch {
			case err == nil:
				p, ok = blob.Piece{Key: key, N: info.Size, ETag: info.ETag}, true
			case !errors.Is(err, fault.NotFound):
				return nil, nil, err
			case kind != "Latest":
				ok = false
			}
		default:
			return nil, nil, fault.Coded(fault.Invalid, "InvalidXmlNodeValue", "", "The XML node name specified in the request body is invalid: %.40s.", kind)
		}
		if !ok {
			return nil, nil, fault.Coded(fault.Invalid, "InvalidBlockList", "", "The specified block list is invalid: there is no block %.100s.", id)
		}
		pieces, blocks = append(pieces, p), append(blocks, block{id, p.N})
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
	if errors.Is(err, fault.NotFound) || err == nil && info.Written != m.ETag {
		return made{}, nil
	}
	return m, err
}

func (c *call) committed(ctx context.Context) (map[string]blob.Piece, error) {
	m, err := c.list(ctx)
	out := make(map[string]blob.Piece, len(m.Blocks))
	var off int64
	for _, b := range m.Blocks {
		out[b.ID] = blob.Piece{Key: c.key(), Off: off, N: b.Size}
		off += b.Size
	}
	return out, err
}

// dropBlocks forgets the blocks that were staged for a blob, and the list of
// those it was made of.
func (c *call) dropBlocks(ctx context.Context) error {
	for {
		staged, err := c.Blobs.List(ctx, c.blocks(), "", 1000)
		if err != nil || len(staged) == 0 {
			return err
		}
		for _, b := range staged {
			if err := c.Blobs.Delete(ctx, b.Key); err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
		}
	}
}

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

func (c *call) getBlockList() error {
	ctx := c.r.Context()
	want := strings.ToLower(c.q.Get("blocklisttype"))
	if want != "" && want != "committed" && want != "uncommitted" && want != "all" {
		return fault.Coded(fault.Invalid, "InvalidQueryParameterValue", "", "Value for one of the query parameters specified in the request URI is invalid: blocklisttype.")
	}
	info, statErr := c.Blobs.Stat(ctx, c.key())
	if statErr != nil && !errors.Is(statErr, fault.NotFound) {
		return statErr
	}
	if statErr == nil {
		if err := c.ofBlocks(&info); err != nil {
			return err
		}
	}
	var doc blockList
	if want != "uncommitted" {
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
	if statErr == nil {
		c.tagged(info)
	}
	c.w.Header().Set("x-ms-blob-content-length", strconv.FormatInt(info.Size, 10))
	c.send(http.StatusOK, marshal(doc))
	return nil
}
