// Package assets holds what runs are made of and what they leave: snapshots of
// code, artifacts, environments, and what has names and versions: code assets,
// data, models, components; and the datastores that all of it lies in. Bytes lie
// in the blob store under keys that the rows here name; the rows are what is true.
//
// Start at [Service.CreateSnapshot], [Service.PutVersion] and [Service.Locate].
package assets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Store is what assets needs of the store.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (rev int64, err error)
	Get(ctx context.Context, key row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
}

// Files is what assets needs of the blob store. A key is "container/name".
type Files interface {
	// Size returns how many bytes a blob has; fault.NotFound.
	Size(ctx context.Context, key string) (int64, error)
	// Put writes a blob whole.
	Put(ctx context.Context, key string, body io.Reader, contentType string) (size int64, err error)
	// Open reads a blob from off on, n bytes of it; negative: to its end.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// List returns the blobs whose keys begin with prefix, in order.
	List(ctx context.Context, prefix string) ([]Blob, error)
}

// Service is the use-cases. All fields but Curated are needed.
type Service struct {
	Store   Store
	Files   Files
	Secrets Sealer
	Curated *Curated         // nil: there are no curated environments
	Now     func() time.Time // site clock
	NewID   func() string    // a new guid
}

// Place is the workspace that assets lie in.
type Place struct {
	ID   string // ARM id
	GUID string // properties.workspaceId
}

func (w Place) key() string { return armid.Key(w.ID) }

// SnapshotContainer is the blob container of the workspace's code.
func (w Place) SnapshotContainer() string { return "snapshots-" + strings.ToLower(w.GUID) }

// ArtifactContainer is the blob container of the workspace's run files.
func (w Place) ArtifactContainer() string { return "azureml-" + strings.ToLower(w.GUID) }

// DatastoreContainer is the blob container of the default datastore.
func (w Place) DatastoreContainer() string { return "azureml-blobstore-" + strings.ToLower(w.GUID) }

// Owns reports whether a container is one that the workspace has without anybody
// having made it: those above, and those of uploads ([Service.NewUpload]). Others
// may end in the workspace's guid as well.
func (w Place) Owns(container string) bool {
	switch container {
	case w.SnapshotContainer(), w.ArtifactContainer(), w.DatastoreContainer():
		return true
	}
	guid := strings.ToLower(w.GUID)
	random, ok := strings.CutPrefix(container, UploadContainer)
	random, ok2 := strings.CutSuffix(random, "-"+guid)
	return ok && ok2 && len(random) == uploadDigits && strings.Trim(random, "0123456789abcdef") == ""
}

// tries is how often a write is made again when somebody else was first.
const tries = 16

func again(err error, try int) bool { return errors.Is(err, fault.Precondition) && try < tries }

// read reads a document's body into v.
func (s *Service) read(ctx context.Context, kind row.Kind, id string, v any) (row.Record, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: kind, ID: id})
	if err != nil {
		return rec, err
	}
	if err := decode(rec, v); err != nil {
		return rec, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	return rec, nil
}

// decode unpacks a row. What a client sent is given back as it was, also a
// number that no float64 holds.
func decode(rec row.Record, v any) error {
	d := json.NewDecoder(bytes.NewReader(rec.Row.(row.Document).Body))
	d.UseNumber()
	return d.Decode(v)
}

// document packs v as a row.
func (s *Service) document(p access.Principal, kind row.Kind, id, parent, sort string, v any) (row.Document, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return row.Document{}, fmt.Errorf("write %s %s: %w", kind, id, err)
	}
	now := s.Now().UTC()
	return row.Document{Kind: kind, ID: id, Parent: parent, Sort: sort, Body: body, Created: now, Modified: now, By: p.ID}, nil
}

// event is the activity log's line about one write.
func (s *Service) event(p access.Principal, about, what string) row.Change {
	now := s.Now().UTC()
	body, err := json.Marshal(map[string]string{"operation": what, "by": p.ID, "name": p.Name, "kind": string(p.Kind), "time": now.Format(time.RFC3339Nano)})
	if err != nil {
		panic("assets: an event cannot be written as JSON: " + err.Error())
	}
	return row.Create(row.Document{Kind: row.Event, ID: s.NewID(), Parent: strings.ToLower(about), Sort: row.SortTime(now), Body: body, Created: now, Modified: now, By: p.ID})
}
