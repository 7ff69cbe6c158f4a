// Package jobs holds the use-cases of runs: submit, cancel, watch, list, tag,
// and the experiments and metrics that belong to them. SDK v1 runs and ARM jobs
// are projections of one document; their words are api's.
//
// app writes a run's document, its [queue.Run] and, for runs without a cluster,
// its [queue.Status]; what becomes of the others is control's.
//
// Start at [Service.Submit].
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/memo"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Store is what jobs needs of the store.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (rev int64, err error)
	Get(ctx context.Context, key row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
	// View is what is live, in memory. What a caller has committed is in it.
	View() *pool.View
}

// Service is the use-cases. All fields but Log are needed.
type Service struct {
	Store Store
	Now   func() time.Time // site clock
	NewID func() string    // a new guid
	Log   *slog.Logger     // nil: says nothing

	numbers numbers
	arrival arrival
	turns   turns
	known   memo.Map[string, int64, *found] // by id and revision of the document
}

// tries is how often a write is made again when somebody else was first.
const tries = 16

// Workspace is where jobs live.
type Workspace struct {
	ID       string // ARM id as typed at creation
	GUID     string // properties.workspaceId
	Name     string
	Location string // region, normalised
}

// Key is the id by which rows refer to the workspace.
func (w Workspace) Key() string { return armid.Key(w.ID) }

// Subscription is the id of the subscription the workspace lies in.
func (w Workspace) Subscription() string { return segment(w.ID, 1) }

// Group is the name of the resource group the workspace lies in.
func (w Workspace) Group() string { return segment(w.ID, 3) }

// segment returns the i-th part between the slashes of an ARM id.
func segment(id string, i int) string {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	if i >= len(parts) {
		return ""
	}
	return parts[i]
}

// Workspace returns the workspace with an ARM id, if p may touch it. A run may
// touch only its own: another is not found, so that ids cannot be probed.
func (s *Service) Workspace(ctx context.Context, p access.Principal, id string) (Workspace, error) {
	missing := fault.Coded(fault.NotFound, "ResourceNotFound", id, "The Resource '%s/%s' under resource group '%s' was not found.", armid.WorkspaceType, segment(id, 7), segment(id, 3))
	if !p.May(id) {
		return Workspace{}, missing
	}
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Workspace, ID: armid.Key(id)})
	if errors.Is(err, fault.NotFound) {
		return Workspace{}, missing
	}
	if err != nil {
		return Workspace{}, fmt.Errorf("read workspace: %w", err)
	}
	var doc struct {
		Resource struct {
			ID, Name, Location string
			Properties         struct {
				WorkspaceID string `json:"workspaceId"`
			}
		}
	}
	if err := json.Unmarshal(rec.Row.(row.Document).Body, &doc); err != nil {
		return Workspace{}, fmt.Errorf("read workspace %s: %w", id, err)
	}
	body := doc.Resource
	if body.ID == "" || body.Properties.WorkspaceID == "" {
		return Workspace{}, fmt.Errorf("read workspace %s: its id or guid is missing", id)
	}
	return Workspace{ID: body.ID, GUID: strings.ToLower(body.Properties.WorkspaceID), Name: body.Name, Location: armid.Region(body.Location)}, nil
}

// event is the activity log's line about one write.
func (s *Service) event(p access.Principal, about, what, why string) row.Change {
	now := s.Now().UTC()
	id := s.NewID()
	body, err := json.Marshal(map[string]string{"operation": what, "by": p.ID, "name": p.Name, "kind": string(p.Kind), "why": why, "time": now.Format(time.RFC3339Nano)})
	if err != nil {
		panic("jobs: an event cannot be written as JSON: " + err.Error())
	}
	return row.Create(row.Document{Kind: row.Event, ID: id, Parent: strings.ToLower(about), Sort: row.SortTime(now), Body: body, Created: now, Modified: now, By: p.ID})
}

// ownRun refuses a run's principal: it may write only its own run and that
// run's children.
func ownRun(p access.Principal, what string) error {
	if p.Kind == access.RunIdentity {
		return fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "A run's token may not %s; it may write only its own run and the children of that run.", what)
	}
	return nil
}

// mayWrite tells whether p may change the run: anybody but a run's principal
// may; that one only its own run and those that descend from it.
func mayWrite(p access.Principal, b *Body) error {
	if p.Kind != access.RunIdentity || p.Run == b.Run {
		return nil
	}
	for _, a := range b.Ancestors {
		if a == p.Run {
			return nil
		}
	}
	return ownRun(p, fmt.Sprintf("change the run %q", b.Name))
}

// again reports whether a write lost a race and is worth another try.
func again(err error, try int) bool { return errors.Is(err, fault.Precondition) && try < tries }

// numbers hands out run numbers: 1, 2, ... per experiment. The last one is kept
// in memory and written with every run, so that a number needs no read.
type numbers struct {
	mu   sync.Mutex
	last map[string]int // by experiment guid
}

// next returns the number of a new run, reading the last one where needed.
func (n *numbers) next(experiment string, read func() (int, error)) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last = map[string]int{}
	}
	last, known := n.last[experiment]
	if !known {
		var err error
		if last, err = read(); err != nil {
			return 0, err
		}
	}
	n.last[experiment] = last + 1
	return last + 1, nil
}

// arrival hands out places in the order of arrival: they only grow, also over
// restarts, as they follow the site clock.
type arrival struct {
	mu   sync.Mutex
	last int64
}

func (a *arrival) next(now time.Time) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = max(a.last+1, now.UnixNano())
	return fmt.Sprintf("%020d", a.last)
}

// turns lets one at a time change a run: who reads, changes and writes back
// would otherwise lose against others, and try again, and lose again.
type turns struct{ of [64]sync.Mutex }

// take waits for a run's turn, and returns what ends it.
func (t *turns) take(run string) (done func()) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(run))
	m := &t.of[h.Sum32()%uint32(len(t.of))]
	m.Lock()
	return m.Unlock
}
