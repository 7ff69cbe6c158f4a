// Package retention removes what is over: logs of ended jobs, environments and
// code that nothing uses, uploads that were given up, old events. What a job
// that is not over needs always stays.
//
// [Choose] decides and does no I/O; [Service.Prune] gathers, asks it, and
// removes.
package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Kind is a kind of thing that is pruned.
type Kind string

// The kinds, in the order in which they are pruned.
const (
	Logs         Kind = "logs"      // of jobs that have ended; an item is a job
	Environments Kind = "envs"      // venvs in the machine's cache
	Snapshots    Kind = "snapshots" // code, with its bytes: clients that know one by its id must send it anew
	Copies       Kind = "cache"     // the nodes' copies of code: fetched again when needed
	Blocks       Kind = "blocks"    // pieces of uploads that nobody finished
	Events       Kind = "events"    // activity log
)

// Kinds lists all of them.
func Kinds() []Kind { return []Kind{Logs, Environments, Snapshots, Copies, Blocks, Events} }

// Store keeps the rows.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
	Get(ctx context.Context, k row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
}

// Blob is what is known of bytes under a key.
type Blob struct {
	Key      string
	Size     int64
	Modified time.Time
	Stub     bool // written by Files.Stub
}

// Files keeps bytes.
type Files interface {
	// List returns all blobs whose keys begin with prefix, in order.
	List(ctx context.Context, prefix string) ([]Blob, error)
	// Delete removes a blob; none there is no error.
	Delete(ctx context.Context, key string) error
	// Stub replaces a blob by a few words.
	Stub(ctx context.Context, key, words string) error
}

// Cache is a folder of the machine that can be made again from what is kept
// elsewhere.
type Cache interface {
	List(ctx context.Context) ([]Item, error)
	// Remove removes an item unless it is in use by now.
	Remove(ctx context.Context, id string) (removed bool, err error)
}

// Service prunes. All fields but Log and Settle are required.
type Service struct {
	Store  Store
	Files  Files
	Envs   Cache
	Copies Cache
	Now    func() time.Time
	NewID  func() string
	Log    *slog.Logger
	// Settle is how long after a snapshot's row the bytes go: whoever was just
	// about to use it is looked for once more. Default 3 s.
	Settle time.Duration
}

// Wish is how much of a kind may stay.
type Wish struct {
	Kind  Kind
	Bound Bound
}

// Set is what went of a kind, or would have.
type Set struct {
	Kind    Kind
	Removed int64
	Bytes   int64
	Kept    int64 // bytes
}

// Prune removes what the wishes say, or with dry only counts it. What went
// before an error is gone.
func (s *Service) Prune(ctx context.Context, p access.Principal, dry bool, wishes ...Wish) ([]Set, error) {
	if p.Kind == access.RunIdentity || !p.May("/") {
		return nil, fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "A job may not prune the server.")
	}
	sets := make([]Set, 0, len(wishes))
	for _, w := range wishes {
		set, err := s.prune(ctx, w, dry)
		if err != nil {
			return nil, fmt.Errorf("prune %s: %w", w.Kind, err)
		}
		sets = append(sets, set)
		if set.Removed == 0 || dry {
			continue
		}
		if err := s.tell(ctx, p, set); err != nil {
			return nil, fmt.Errorf("prune %s: %w", w.Kind, err)
		}
	}
	return sets, nil
}

func (s *Service) prune(ctx context.Context, w Wish, dry bool) (Set, error) {
	switch w.Kind {
	case Logs:
		return s.logs(ctx, w.Bound, dry)
	case Environments:
		return s.cache(ctx, s.Envs, w, dry)
	case Snapshots:
		return s.snapshots(ctx, w.Bound, dry)
	case Copies:
		return s.cache(ctx, s.Copies, w, dry)
	case Blocks:
		return s.blocks(ctx, w.Bound, dry)
	case Events:
		return s.events(ctx, w.Bound, dry)
	}
	return Set{}, fault.Coded(fault.Invalid, "InvalidKind", "kinds", "%.40q is not something that can be pruned. It is one of: %s.", w.Kind, kindWords())
}

func kindWords() string {
	var words []string
	for _, k := range Kinds() {
		words = append(words, string(k))
	}
	return strings.Join(words, ", ")
}

// tell writes down what went.
func (s *Service) tell(ctx context.Context, p access.Principal, set Set) error {
	if s.Log != nil {
		s.Log.InfoContext(ctx, "pruned", "kind", set.Kind, "removed", set.Removed, "bytes", set.Bytes, "left", set.Kept)
	}
	now := s.Now().UTC()
	body, err := json.Marshal(map[string]any{
		"operation": "prune " + string(set.Kind), "by": p.ID, "name": p.Name, "kind": string(p.Kind), "time": now.Format(time.RFC3339Nano),
		"removed": set.Removed, "bytes": set.Bytes,
	})
	if err != nil {
		return err
	}
	_, err = s.Store.Commit(ctx, row.Put(row.Document{
		Kind: row.Event, ID: s.NewID(), Parent: "/", Sort: row.SortTime(now), Body: body, Created: now, Modified: now, By: p.ID,
	}))
	return err
}

// remove chooses among items and removes them one after the other.
func (s *Service) remove(w Wish, items []Item, dry bool, do func(id string) (bool, error)) (Set, error) {
	gone, left := Choose(items, w.Bound, s.Now())
	set := Set{Kind: w.Kind, Kept: left}
	for _, it := range gone {
		removed := true
		if !dry {
			var err error
			if removed, err = do(it.ID); err != nil {
				return set, err
			}
		}
		if removed {
			set.Removed++
			set.Bytes += it.Bytes
		} else {
			set.Kept += it.Bytes
		}
	}
	return set, nil
}

func (s *Service) cache(ctx context.Context, c Cache, w Wish, dry bool) (Set, error) {
	items, err := c.List(ctx)
	if err != nil {
		return Set{}, err
	}
	return s.remove(w, items, dry, func(id string) (bool, error) { return c.Remove(ctx, id) })
}

// logs replaces the logs of ended jobs by a line that says so: a reader who
// comes later learns what became of them.
func (s *Service) logs(ctx context.Context, b Bound, dry bool) (Set, error) {
	blobs, err := s.Files.List(ctx, "logs-")
	if err != nil {
		return Set{}, err
	}
	of := map[string][]Blob{} // by "logs-W/RUN"
	for _, blob := range blobs {
		parts := strings.SplitN(blob.Key, "/", 3)
		if len(parts) == 3 && !blob.Stub {
			job := parts[0] + "/" + parts[1]
			of[job] = append(of[job], blob)
		}
	}
	var items []Item
	known := map[string]bool{}
	for job, list := range of {
		it := Item{ID: job}
		for _, blob := range list {
			it.Bytes += blob.Size
			if blob.Modified.After(it.At) {
				it.At = blob.Modified
			}
		}
		_, run, _ := strings.Cut(job, "/")
		rec, err := s.Store.Get(ctx, row.Key{Kind: row.RunStatus, ID: run})
		switch {
		case errors.Is(err, fault.NotFound): // the job was deleted
		case err != nil:
			return Set{}, err
		default:
			st := rec.Row.(queue.Status)
			known[job], it.Held = true, !st.State.Final()
			if !st.Ended.IsZero() {
				it.At = st.Ended
			}
		}
		items = append(items, it)
	}
	return s.remove(Wish{Logs, b}, items, dry, func(job string) (bool, error) {
		return true, s.dropLogs(ctx, of[job], known[job])
	})
}

// dropLogs removes a job's logs. One of each name stays as a stub, if the job
// is still there to be asked about.
func (s *Service) dropLogs(ctx context.Context, blobs []Blob, stubs bool) error {
	said := map[string]bool{}
	for _, blob := range blobs {
		parts := strings.SplitN(blob.Key, "/", 4) // logs-W, run, attempt, name
		if !stubs || len(parts) < 4 || said[parts[3]] {
			if err := s.Files.Delete(ctx, blob.Key); err != nil {
				return err
			}
			continue
		}
		said[parts[3]] = true
		words := fmt.Sprintf("[ebb] this log was pruned on %s\n", s.Now().UTC().Format(time.DateOnly))
		if err := s.Files.Stub(ctx, blob.Key, words); err != nil {
			return err
		}
	}
	return nil
}

// blocks removes pieces of uploads. The list of a finished blob's pieces, which
// lies beside them, stays as long as its blob.
func (s *Service) blocks(ctx context.Context, b Bound, dry bool) (Set, error) {
	blobs, err := s.Files.List(ctx, "$blocks/")
	if err != nil {
		return Set{}, err
	}
	var items []Item
	for _, blob := range blobs {
		if !strings.HasSuffix(blob.Key, "/committed") {
			items = append(items, Item{ID: blob.Key, Bytes: blob.Size, At: blob.Modified})
		}
	}
	return s.remove(Wish{Blocks, b}, items, dry, func(key string) (bool, error) { return true, s.Files.Delete(ctx, key) })
}

// events drops old events, a page at a time: there may be very many.
func (s *Service) events(ctx context.Context, b Bound, dry bool) (Set, error) {
	set := Set{Kind: Events}
	if b.Age < 0 {
		return set, nil
	}
	limit := s.Now().Add(-b.Age)
	for after := ""; ; {
		page, err := s.Store.List(ctx, row.Query{Kind: row.Event, After: after})
		if err != nil {
			return set, err
		}
		var drops []row.Change
		for _, r := range page.Records {
			d := r.Row.(row.Document)
			if d.Created.After(limit) {
				continue
			}
			drops = append(drops, row.Drop(d.Key()))
			set.Removed, set.Bytes = set.Removed+1, set.Bytes+int64(len(d.Body))
		}
		if len(drops) > 0 && !dry {
			if _, err := s.Store.Commit(ctx, drops...); err != nil {
				return set, err
			}
		}
		// In order of time: a page that kept some is the last with old ones.
		if page.Next == "" || len(drops) < len(page.Records) {
			return set, nil
		}
		after = page.Next
	}
}
