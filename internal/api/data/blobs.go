package data

import (
	"context"
	"io"

	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/blob"
)

// Store is the blob store as [Blobs] and [assets.Files] want it.
type Store struct{ Blobs *blob.Store }

var _ Blobs = Store{}

// Size implements [Blobs].
func (s Store) Size(ctx context.Context, key string) (int64, error) {
	info, err := s.Blobs.Stat(ctx, key)
	return info.Size, err
}

// Put implements [Blobs].
func (s Store) Put(ctx context.Context, key string, body io.Reader, contentType string) (int64, error) {
	info, err := s.Blobs.Put(ctx, key, body, blob.Meta{ContentType: contentType})
	return info.Size, err
}

// Open implements [Blobs].
func (s Store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, _, err := s.Blobs.Get(ctx, key, off, n)
	return r, err
}

// List implements [Blobs].
func (s Store) List(ctx context.Context, prefix string) ([]assets.Blob, error) {
	const pageSize = 1000
	var out []assets.Blob
	for after := ""; ; {
		page, err := s.Blobs.List(ctx, prefix, after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, b := range page {
			out = append(out, assets.Blob{Key: b.Key, Size: b.Size, Written: b.Written})
		}
		if len(page) < pageSize {
			return out, nil
		}
		after = page[len(page)-1].Key
	}
}
