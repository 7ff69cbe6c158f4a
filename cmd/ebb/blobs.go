package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/data"
	"github.com/ebb-compute/ebb/internal/api/nodes"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// appender is the blob store as api/nodes sees it.
type appender struct {
	data.Store
	blobs *blob.Store
}

func (a appender) Append(ctx context.Context, key string, offset int64, text []byte) (int64, error) {
	return a.blobs.Append(ctx, key, offset, text)
}

// Stat implements nodes.Blobs.
func (a appender) Stat(ctx context.Context, key string) (nodes.Blob, error) {
	info, err := a.blobs.Stat(ctx, key)
	return nodes.Blob{Key: info.Key, Size: info.Size, ETag: info.ETag, Written: info.Written}, err
}

// Below implements nodes.Blobs.
func (a appender) Below(ctx context.Context, key string) ([]nodes.Blob, error) {
	var out []nodes.Blob
	if info, err := a.blobs.Stat(ctx, key); err == nil {
		out = append(out, nodes.Blob{Key: info.Key, Size: info.Size, ETag: info.ETag})
	} else if k := fault.KindOf(err); k != fault.NotFound && k != fault.Invalid { // a folder's key may be no blob's
		return nil, err
	}
	const pageSize = 1000
	prefix := strings.TrimSuffix(key, "/") + "/"
	for after := ""; ; {
		page, err := a.blobs.List(ctx, prefix, after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, b := range page {
			out = append(out, nodes.Blob{Key: b.Key, Size: b.Size, ETag: b.ETag})
		}
		if len(page) < pageSize {
			return out, nil
		}
		after = page[len(page)-1].Key
	}
}

// Read implements nodes.Blobs.
func (a appender) Read(ctx context.Context, key, etag string) (io.ReadCloser, error) {
	r, info, err := a.blobs.Get(ctx, key, 0, -1)
	if err == nil && info.ETag != etag {
		return nil, errors.Join(fault.New(fault.Precondition, key, "The blob is another one by now."), r.Close())
	}
	return r, err
}

// Check implements nodes.Blobs.
func (a appender) Check(key string) error { return blob.Check(key) }

// Move implements nodes.Blobs.
func (a appender) Move(ctx context.Context, from, to string) error {
	return a.blobs.Move(ctx, from, to)
}

// MoveAll implements nodes.Blobs.
func (a appender) MoveAll(ctx context.Context, from, to string) error {
	return a.blobs.MoveAll(ctx, from, to)
}

// Delete implements nodes.Blobs.
func (a appender) Delete(ctx context.Context, key string) error { return a.blobs.Delete(ctx, key) }
