package storage

import (
	"bytes"
	"crypto/md5" //nolint:gosec // as in meta.go
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc64"
	"io"

	"github.com/ebb-compute/ebb/internal/fault"
)

// crcHeader carries a CRC64 of Azure's polynomial, as the base64 of eight bytes, the
// lowest first.
const crcHeader = "x-ms-content-crc64"

var crcTable = crc64.MakeTable(0x9A6C9329AC4BC9B5)

func newCRC() hash.Hash64 { return crc64.New(crcTable) }

func sumOf(h hash.Hash64) string {
	return base64.StdEncoding.EncodeToString(binary.LittleEndian.AppendUint64(nil, h.Sum64()))
}

// checked reads content and, at its end, refuses it if its checksums are not those
// of the request: what reads it then writes nothing.
type checked struct {
	io.Reader
	md5     hash.Hash // nil: not asked for
	crc     hash.Hash64
	wantMD5 [][]byte
	wantCRC string // empty: any
}

// checked is the request's body, with its MD5 where asked for, or where the request has
// one; otherwise it has a CRC64.
func (c *call) checked(limit int64, withMD5 bool, more ...[]byte) (*checked, error) {
	content, err := c.limited(limit)
	if err != nil {
		return nil, err
	}
	out := &checked{Reader: content}
	for _, sum := range more {
		if sum != nil {
			out.wantMD5 = append(out.wantMD5, sum)
		}
	}
	if v := c.r.Header.Get("Content-MD5"); v != "" {
		sum, err := md5Of(v)
		if err != nil {
			return nil, err
		}
		out.wantMD5 = append(out.wantMD5, sum)
	}
	if v := c.r.Header.Get(crcHeader); v != "" {
		raw, err := base64.StdEncoding.DecodeString(v)
		if err != nil || len(raw) != crc64.Size {
			return nil, fault.Coded(fault.Invalid, "InvalidCrc64", "", "The CRC64 value specified in the request is invalid: it is not the base64 of 8 bytes.")
		}
		out.wantCRC = v
	}
	if len(out.wantMD5) > 0 && out.wantCRC != "" {
		return nil, fault.Coded(fault.Invalid, "Md5AndCrc64NotSupported", "", "A request may have an MD5 or a CRC64, and not both.")
	}
	if withMD5 || len(out.wantMD5) > 0 {
		out.md5 = md5.New() //nolint:gosec // as above
	}
	if out.wantCRC != "" || out.md5 == nil {
		out.crc = newCRC()
	}
	return out, nil
}

func (r *checked) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.md5 != nil {
		_, _ = r.md5.Write(p[:n]) // never fails
	}
	if r.crc != nil {
		_, _ = r.crc.Write(p[:n]) // never fails
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	for _, want := range r.wantMD5 {
		if !bytes.Equal(want, r.md5.Sum(nil)) {
			return n, fault.Coded(fault.Invalid, "Md5Mismatch", "", "The MD5 value specified in the request did not match with the MD5 value calculated by the server.")
		}
	}
	if r.wantCRC != "" && r.wantCRC != sumOf(r.crc) {
		return n, fault.Coded(fault.Invalid, "Crc64Mismatch", "", "The CRC64 value specified in the request did not match with the CRC64 value calculated by the server.")
	}
	return n, err
}

// sum is the MD5 of all that was read.
func (r *checked) sum() []byte { return r.md5.Sum(nil) }

// sums tells the client what was received.
func (c *call) sums(of *checked) {
	if of.md5 != nil {
		c.w.Header().Set("Content-MD5", base64.StdEncoding.EncodeToString(of.sum()))
	}
	if of.crc != nil {
		c.w.Header().Set(crcHeader, sumOf(of.crc))
	}
}
