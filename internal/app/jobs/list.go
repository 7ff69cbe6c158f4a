package jobs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// Query asks for runs. Zero fields ask for nothing.
type Query struct {
	ExperimentID string // guid
	Compute      string // name
	Parent       string // run id: its children
	Form         Form   // set: only runs with a cluster are shown, whoever submitted them
	View         View   // empty: All
	Tag          string // "name" or "name=value"
	Property     string // "name" or "name=value"
	Active       bool   // only those that have not ended
	Filter       string // as SDK v1 writes it
	Oldest       bool   // oldest first; else newest first
	Top          int    // 0: 100; at most 1000
	After        string // cursor of the previous page
}

// List returns runs in order of submission, and the cursor of the next page.
// An order by start time is the order of submission too (docs/divergences.md).
func (s *Service) List(ctx context.Context, _ access.Principal, w Workspace, q Query) ([]*Job, string, error) {
	f, err := parseFilter(q.Filter)
	if err != nil {
		return nil, "", err
	}
	out := []*Job{}
	ask := row.Query{Kind: row.Job, Parent: w.Key(), Desc: !q.Oldest, After: q.After}
	next, err := walk(ctx, s.Store, ask, q.Top, s.runs(q.wants), func(d *found) (bool, error) {
		if d == nil {
			return false, nil
		}
		var j *Job
		ok, err := f.match(func(field string) (any, bool) {
			if v, known := d.body.field(field); known || err != nil {
				return v, known
			}
			if j == nil {
				if j, err = s.job(ctx, *d); err != nil {
					return nil, false
				}
			}
			return j.field(field)
		})
		if err != nil || !ok {
			return false, err
		}
		if j == nil {
			if j, err = s.job(ctx, *d); err != nil {
				return false, err
			}
		}
		if q.Active && j.Status.State.Final() {
			return false, nil
		}
		out = append(out, j)
		return true, nil
	})
	return out, next, err
}

// wants looks at what a document alone can tell.
func (q *Query) wants(b *Body) bool {
	switch {
	case q.ExperimentID != "" && !strings.EqualFold(b.ExperimentID, q.ExperimentID),
		q.Compute != "" && (b.Kind != Command || !strings.EqualFold(b.Target, q.Compute)),
		q.Parent != "" && !strings.EqualFold(b.Parent, q.Parent),
		q.Form == ARM && b.Kind != Command,
		q.View != "" && !q.View.shows(b.Archived),
		q.Tag != "" && !has(b.Tags, q.Tag),
		q.Property != "" && !has(b.Properties, q.Property):
		return false
	}
	return true
}

// has reports whether m holds "name" or "name=value".
func has(m map[string]string, want string) bool {
	k, v, valued := strings.Cut(want, "=")
	got, ok := m[k]
	return ok && (!valued || got == v)
}

// walk reads rows until top of them were taken, and returns the cursor behind
// the last one read; empty: there are no more. read makes of a page what take is
// given, one for each row.
func walk[T any](ctx context.Context, from Store, q row.Query, top int, read func(context.Context, []row.Record) ([]T, error), take func(T) (bool, error)) (string, error) {
	if top <= 0 {
		top = 100
	}
	top = min(top, 1000)
	for taken := 0; ; {
		q.Limit = max(top-taken, 50)
		page, err := from.List(ctx, q)
		if err != nil {
			return "", fmt.Errorf("list: %w", err)
		}
		items, err := read(ctx, page.Records)
		if err != nil {
			return "", err
		}
		for i, item := range items {
			ok, err := take(item)
			if err != nil {
				return "", err
			}
			if ok {
				taken++
			}
			if taken < top {
				continue
			}
			if i == len(items)-1 {
				return page.Next, nil
			}
			q.Limit = i + 1 // a page that ends here has the cursor that leads on from here
			page, err := from.List(ctx, q)
			if err != nil {
				return "", fmt.Errorf("list: %w", err)
			}
			return page.Next, nil
		}
		if page.Next == "" {
			return "", nil
		}
		q.After = page.Next
	}
}

// runs reads a page of runs, and what became of those that have ended with one
// query for all. Nil stands for one that is not wanted, or was deleted meanwhile.
func (s *Service) runs(wants func(*Body) bool) func(context.Context, []row.Record) ([]*found, error) {
	return func(ctx context.Context, page []row.Record) ([]*found, error) {
		view := s.Store.View()
		out := make([]*found, len(page))
		ended := map[string]int{} // index by id
		for i, r := range page {
			f, err := s.recall(r)
			if err != nil {
				return nil, err
			}
			if !wants(&f.body) {
				continue
			}
			out[i] = f
			if f.ended != nil {
				continue
			}
			if _, live := view.RunStatus(f.body.Run); !live {
				ended[f.body.Run] = i
			}
		}
		if len(ended) == 0 {
			return out, nil
		}
		statuses, err := s.Store.List(ctx, row.Query{Kind: row.RunStatus, IDs: slices.Sorted(maps.Keys(ended)), Limit: len(ended)})
		if err != nil {
			return nil, fmt.Errorf("list statuses: %w", err)
		}
		for _, r := range statuses.Records {
			st := r.Row.(queue.Status)
			f := *out[ended[st.ID]] // a copy: others may be looking at it
			f.ended = &st
			if out[ended[st.ID]] = &f; st.State.Final() {
				s.remember(&f) // nothing follows
			}
			delete(ended, st.ID)
		}
		for _, i := range ended {
			out[i] = nil
		}
		return out, nil
	}
}

// field returns what a document alone tells of a field of run history.
func (b *Body) field(name string) (any, bool) {
	lower := strings.ToLower(name)
	prefix, _, nested := strings.Cut(lower, "/")
	if nested {
		key := name[len(prefix)+1:]
		switch prefix {
		case "tags":
			v, ok := b.Tags[key]
			return optional(v, ok), true
		case "properties":
			v, ok := b.Properties[key]
			return optional(v, ok), true
		case "runtypev2":
			return b.trait(key), true
		}
		return nil, false
	}
	switch lower {
	case "runid", "name":
		return b.Name, true
	case "runnumber":
		return fmt.Sprint(b.Number), true
	case "parentrunid":
		return nullable(b.Parent), true
	case "rootrunid":
		return b.Root, true
	case "target":
		return nullable(b.Target), true
	case "runtype":
		return nullable(b.Type), true
	case "displayname":
		return b.DisplayName, true
	case "description":
		return b.Description, true
	case "scriptname":
		return b.Script, true
	case "experimentid":
		return b.ExperimentID, true
	case "runuuid":
		return b.Run, true
	case "userid":
		return b.Creator.ID, true
	case "createdby/username":
		return b.Creator.Name, true
	}
	return nil, false
}

// absent is the value of a key that a map does not have: it equals nothing, not
// even null. SDK v1 asks for "the tag exists" as (x ne null or x eq null).
type absent struct{}

// nullable is the value of a field that every run has, null where it is empty.
func nullable(v string) any {
	if v == "" {
		return nil
	}
	return v
}

func optional(v string, ok bool) any {
	if !ok {
		return absent{}
	}
	return v
}

// field returns what is not in the document.
func (j *Job) field(name string) (any, bool) {
	switch strings.ToLower(name) {
	case "status":
		return string(j.State()), true
	case "createdutc":
		return j.Created, true
	case "starttimeutc":
		return j.Status.Started, true
	case "endtimeutc":
		return j.Status.Ended, true
	case "lastmodifiedutc":
		return j.Modified, true
	}
	return nil, false
}
