package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/nodes"
	"github.com/ebb-compute/ebb/internal/api/storage"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/retention"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/cache"
)

// blockLife is how long pieces of an unfinished upload stay: Azure's week.
const blockLife = 7 * 24 * time.Hour

// retention is app/retention with this machine's folders.
func (s *server) retention() *retention.Service {
	dir := filepath.Join(s.conf.Data, "cache")
	return &retention.Service{
		Store: s.store, Files: prunable{s.blobs}, Now: s.clock.Now, NewID: newID, Log: s.log,
		Envs:   folder{cache.Envs{Dir: filepath.Join(dir, "envs"), Nodes: filepath.Join(s.conf.Data, "nodes")}},
		Copies: folder{cache.Code{Dir: filepath.Join(dir, "snapshots")}},
	}
}

// keepTidy removes what the configuration's retention says, and checks that the
// database and what is held in memory of it still agree: some minutes after the
// start, and then once a day.
func (s *server) keepTidy(ctx context.Context) {
	timer := time.NewTimer(10 * time.Minute)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		itself := access.Principal{ID: s.seed.ClientID, Name: "daily prune", Kind: access.Application}
		if _, err := s.retention().Prune(ctx, itself, false, s.wishes()...); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "daily prune failed", "err", err)
		}
		if err := s.store.Verify(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "store not as it should be", "err", err)
		}
		timer.Reset(24 * time.Hour)
	}
}

// wishes are the configuration's. Copies of code stay as long as environments:
// both can be made again.
func (s *server) wishes() []retention.Wish {
	age := func(kind retention.Kind, d time.Duration) retention.Wish {
		w := retention.Wish{Kind: kind, Bound: retention.Unbounded}
		if d > 0 {
			w.Bound.Age = d
		}
		return w
	}
	r := s.conf.Retention
	envs := age(retention.Environments, time.Duration(r.Environments))
	if r.EnvironmentsMaxGiB > 0 {
		envs.Bound.Size = int64(r.EnvironmentsMaxGiB * (1 << 30))
	}
	return []retention.Wish{
		age(retention.Logs, time.Duration(r.Logs)), envs, age(retention.Snapshots, time.Duration(r.Snapshots)),
		age(retention.Copies, time.Duration(r.Environments)), age(retention.Blocks, blockLife), age(retention.Events, time.Duration(r.Events)),
	}
}

// prunable is the blob store as retention sees it.
type prunable struct{ blobs *blob.Store }

// stubbed marks a blob whose content was pruned.
const stubbed = "ebb_pruned"

// List implements [retention.Files].
func (p prunable) List(ctx context.Context, prefix string) ([]retention.Blob, error) {
	const pageSize = 1000
	var out []retention.Blob
	for after := ""; ; {
		page, err := p.blobs.List(ctx, prefix, after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, b := range page {
			out = append(out, retention.Blob{Key: b.Key, Size: b.Size, Modified: b.Modified, Stub: b.Meta.Metadata[stubbed] != ""})
		}
		if len(page) < pageSize {
			return out, nil
		}
		after = page[len(page)-1].Key
	}
}

// Delete implements [retention.Files].
func (p prunable) Delete(ctx context.Context, key string) error {
	if err := p.blobs.Delete(ctx, key); err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// Stub implements [retention.Files].
func (p prunable) Stub(ctx context.Context, key, words string) error {
	_, err := p.blobs.Put(ctx, key, strings.NewReader(words), blob.Meta{ContentType: "text/plain", Metadata: map[string]string{stubbed: "true"}})
	return err
}

// Forget implements [workspaces.Files]: a workspace's containers end in its guid, or
// were made in its account. They are closed first: what is being sent to them has
// not come yet.
func (p prunable) Forget(ctx context.Context, guid string) error {
	p.blobs.Retire(strings.ToLower(guid))
	p.blobs.Retire(armid.Account(guid)) // the records of containers that were made in it
	of := assets.Place{GUID: guid}
	uploads, err := p.uploads(ctx, of)
	if err != nil {
		return err
	}
	all := append(uploads, of.SnapshotContainer(), of.ArtifactContainer(), of.DatastoreContainer(), nodes.LogContainer(guid), nodes.AsideContainer(guid), nodes.NoteContainer(guid))
	if err := storage.Forget(ctx, p.blobs, armid.Account(guid)); err != nil {
		return err
	}
	for _, container := range all {
		list, err := p.List(ctx, container+"/")
		if err != nil {
			return err
		}
		for _, b := range list {
			if err := p.Delete(ctx, b.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// uploads are the containers of a workspace that code was sent to.
func (p prunable) uploads(ctx context.Context, of assets.Place) ([]string, error) {
	list, err := p.List(ctx, assets.UploadContainer)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, b := range list {
		if container, _, _ := strings.Cut(b.Key, "/"); of.Owns(container) && !slices.Contains(out, container) {
			out = append(out, container)
		}
	}
	return out, nil
}

// folder is a folder of the machine's cache as retention sees it.
type folder struct {
	of interface {
		List() ([]cache.Entry, error)
		Remove(id string) (bool, error)
	}
}

// List implements [retention.Cache].
func (f folder) List(context.Context) ([]retention.Item, error) {
	entries, err := f.of.List()
	items := make([]retention.Item, 0, len(entries))
	for _, e := range entries {
		items = append(items, retention.Item{ID: e.ID, Bytes: e.Bytes, At: e.Used, Held: e.Held})
	}
	return items, err
}

// Remove implements [retention.Cache].
func (f folder) Remove(_ context.Context, id string) (bool, error) { return f.of.Remove(id) }
