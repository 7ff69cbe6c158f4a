package retention

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// orphanAge is how long bytes that belong to no snapshot stay: their upload may
// be under way.
const orphanAge = 24 * time.Hour

// snapshot is the part of its document that matters here.
type snapshot struct {
	row   row.Document
	files []file
	used  time.Time
	held  bool
}

type file struct {
	Key  string `json:"key"`
	Size int64  `json:"size"`
}

// snapshots drops the rows first and the bytes after: who finds the row finds
// the bytes, too.
func (s *Service) snapshots(ctx context.Context, b Bound, dry bool) (Set, error) {
	all, err := s.readSnapshots(ctx)
	if err != nil {
		return Set{}, err
	}
	removed := map[string]row.Document{}
	set, err := s.remove(Wish{Snapshots, b}, snapshotItems(all), dry, func(id string) (bool, error) {
		if _, err := s.Store.Commit(ctx, row.Drop(row.Key{Kind: row.Snapshot, ID: id})); err != nil {
			return false, err
		}
		removed[id] = all[id].row
		return true, nil
	})
	if err != nil || len(removed) == 0 {
		return set, err
	}
	return set, s.sweep(ctx, removed, all)
}

// snapshotItems counts bytes that several snapshots share for the newest: when
// the oldest go first, that is what becomes free.
func snapshotItems(all map[string]*snapshot) []Item {
	list := make([]*snapshot, 0, len(all))
	for _, one := range all {
		list = append(list, one)
	}
	slices.SortFunc(list, func(x, y *snapshot) int { return cmp.Or(y.used.Compare(x.used), cmp.Compare(y.row.ID, x.row.ID)) })
	counted := map[string]bool{}
	items := make([]Item, 0, len(list))
	for _, one := range list {
		it := Item{ID: one.row.ID, At: one.used, Held: one.held}
		for _, f := range one.files {
			if !counted[f.Key] {
				counted[f.Key] = true
				it.Bytes += f.Size
			}
		}
		items = append(items, it)
	}
	return items
}

// readSnapshots reads every snapshot, and when a job last used it.
func (s *Service) readSnapshots(ctx context.Context) (map[string]*snapshot, error) {
	all := map[string]*snapshot{}
	err := s.each(ctx, row.Snapshot, func(r row.Record) error {
		d := r.Row.(row.Document)
		var body struct {
			Files []file `json:"files"`
		}
		if err := json.Unmarshal(d.Body, &body); err != nil {
			return fmt.Errorf("read snapshot %s: %w", d.ID, err)
		}
		all[d.ID] = &snapshot{row: d, files: body.Files, used: d.Created}
		return nil
	})
	if err != nil {
		return nil, err
	}
	states := map[string]queue.Status{}
	err = s.each(ctx, row.RunStatus, func(r row.Record) error {
		st := r.Row.(queue.Status)
		states[st.ID] = st
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, s.each(ctx, row.Job, func(r row.Record) error {
		d := r.Row.(row.Document)
		var body struct {
			Run      string `json:"run"`
			Snapshot string `json:"snapshot"`
		}
		if err := json.Unmarshal(d.Body, &body); err != nil {
			return fmt.Errorf("read job %s: %w", d.ID, err)
		}
		of, ok := all[d.Parent+"/snapshots/"+strings.ToLower(body.Snapshot)]
		if !ok {
			return nil
		}
		st, known := states[body.Run]
		of.held = of.held || known && !st.State.Final()
		for _, t := range []time.Time{d.Created, st.Ended} {
			if t.After(of.used) {
				of.used = t
			}
		}
		return nil
	})
}

// sweep looks once more, after a moment, for who came to use a snapshot while
// its row was dropped: it is put back. Then bytes that no snapshot names go.
func (s *Service) sweep(ctx context.Context, removed map[string]row.Document, before map[string]*snapshot) error {
	settle := time.NewTimer(cmp.Or(s.Settle, 3*time.Second))
	defer settle.Stop()
	select {
	case <-settle.C:
	case <-ctx.Done():
		return ctx.Err() // the next prune finds the bytes as orphans
	}
	err := s.each(ctx, row.Job, func(r row.Record) error {
		d := r.Row.(row.Document)
		var body struct {
			Snapshot string `json:"snapshot"`
		}
		if err := json.Unmarshal(d.Body, &body); err != nil {
			return fmt.Errorf("read job %s: %w", d.ID, err)
		}
		id := d.Parent + "/snapshots/" + strings.ToLower(body.Snapshot)
		was, gone := removed[id]
		if !gone || !d.Created.After(before[id].used) {
			return nil
		}
		delete(removed, id)
		_, err := s.Store.Commit(ctx, row.Put(was))
		return err
	})
	if err != nil {
		return err
	}
	now, err := s.readSnapshots(ctx)
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for _, one := range now {
		for _, f := range one.files {
			named[f.Key] = true
		}
	}
	dropped := map[string]bool{}
	for id := range removed {
		for _, f := range before[id].files {
			dropped[f.Key] = true
		}
	}
	blobs, err := s.Files.List(ctx, "snapshots-")
	if err != nil {
		return err
	}
	for _, b := range blobs {
		if !named[b.Key] && (dropped[b.Key] || s.Now().Sub(b.Modified) > orphanAge) {
			if err := s.Files.Delete(ctx, b.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// each calls do with every row of a kind.
func (s *Service) each(ctx context.Context, kind row.Kind, do func(row.Record) error) error {
	for after := ""; ; {
		page, err := s.Store.List(ctx, row.Query{Kind: kind, After: after})
		if err != nil {
			return fmt.Errorf("list %s: %w", kind, err)
		}
		for _, r := range page.Records {
			if err := do(r); err != nil {
				return err
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}
