package workspaces

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Files is what the service needs of the blob store.
type Files interface {
	// Forget removes every blob of the workspace with that guid. Repeating it is harmless.
	Forget(ctx context.Context, guid string) error
}

// within are the kinds whose rows lie inside a workspace or a group, by their id.
// (A test compares them with those of package row.)
var within = []row.Kind{
	row.Experiment, row.Environment, row.Asset, row.Snapshot, row.Artifact, row.Metric, row.Compute, row.Resource, row.Lock, row.Assignment,
	row.Deployment, row.DeploymentContent, row.DeploymentOperation,
}

// outside are the kinds that go another way, or stay.
var outside = []row.Kind{
	row.Subscription, row.ResourceGroup, row.Workspace, // marked, and dropped last
	row.Job, row.Task, row.Run, row.RunStatus, row.Attempt, // dropJobs
	row.Cluster, row.ClusterStatus, row.Node, // control's, once a cluster is marked
	row.Operation, row.Event, row.Datum, row.Role, // say what was, or are the tenant's
}

const (
	batch = 500 // rows dropped in one commit
	// look is how often a deletion is looked at while clusters are on their way out.
	look = 100 * time.Millisecond
	// patience after a pass that failed: the disk may be full.
	patience = 5 * time.Second
	// lookback is how long a scope is looked at once more after it is gone: a write
	// that was let in before the deletion may be committed after it.
	lookback = 5 * time.Second
)

// leave marks a group or workspace as going, and wakes who removes it.
func (s *Service) leave(ctx context.Context, p access.Principal, k row.Key, sub string) (operation.Operation, error) {
	for try := 0; ; try++ {
		rec, err := s.Store.Get(ctx, k)
		if errors.Is(err, fault.NotFound) {
			_, err = s.subscription(ctx, sub)
			return operation.Operation{}, err
		}
		if err != nil {
			return operation.Operation{}, fmt.Errorf("get %s: %w", k.ID, err)
		}
		change, region, err := s.marked(rec, p)
		if err != nil {
			return operation.Operation{}, err
		}
		op := operation.Operation{
			ID: strings.ToLower(s.NewID()), Target: k.ID, Scope: sub, Location: region, Status: operation.InProgress, Started: s.Now(),
		}
		_, err = s.Store.Commit(ctx, change, row.Create(op), s.event(p, k.ID, "deleting", "Asked for by "+p.Name+"."))
		if again(err, try) {
			continue
		}
		if err != nil {
			return operation.Operation{}, fmt.Errorf("delete %s: %w", k.ID, err)
		}
		s.nudge()
		return op, nil
	}
}

// marked is the change that says a group or workspace is going.
func (s *Service) marked(rec row.Record, p access.Principal) (row.Change, string, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return row.Change{}, "", fmt.Errorf("row is a %T", rec.Row)
	}
	var body map[string]any
	if err := decode(doc, &body); err != nil {
		return row.Change{}, "", err
	}
	resource := body
	if doc.Kind == row.Workspace {
		resource, _ = body["resource"].(map[string]any)
	}
	props, err := object(resource, "properties")
	if err != nil || props == nil {
		return row.Change{}, "", fmt.Errorf("%s %s has no properties", doc.Kind, doc.ID)
	}
	props["provisioningState"] = string(operation.Deleting)
	if doc.Body, err = json.Marshal(body); err != nil {
		return row.Change{}, "", fmt.Errorf("encode %s: %w", doc.ID, err)
	}
	doc.Modified, doc.By = s.Now(), p.ID
	region, _ := resource["location"].(string)
	return row.Update(doc, rec.Rev), armid.Region(region), nil
}

// waker is nudged when there is something to remove.
func (s *Service) waker() chan struct{} {
	s.once.Do(func() { s.wake = make(chan struct{}, 1) })
	return s.wake
}

func (s *Service) nudge() {
	select {
	case s.waker() <- struct{}{}:
	default: // one is waiting already
	}
}

// Run removes what is marked as going until ctx ends. Every step is recorded
// before the next, so that a server that was killed goes on where it was.
func (s *Service) Run(ctx context.Context) {
	for {
		left, err := s.Sweep(ctx)
		again := look
		if err != nil && ctx.Err() == nil {
			s.logger().WarnContext(ctx, "deletion not finished", "err", err)
			again = patience
		}
		strays, err2 := s.Strays(ctx)
		if err2 != nil && ctx.Err() == nil {
			s.logger().WarnContext(ctx, "strays not removed", "err", err2)
		}
		var timer <-chan time.Time
		switch {
		case left || err != nil:
			timer = time.After(again)
		case strays || err2 != nil:
			timer = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.waker():
		case <-timer:
		}
	}
}

// Sweep takes every deletion as far as it will go now, and reports whether one
// is left that waits for its clusters.
func (s *Service) Sweep(ctx context.Context) (left bool, err error) {
	groups, err := s.all(ctx, row.Query{Kind: row.ResourceGroup})
	if err != nil {
		return false, fmt.Errorf("list resource groups: %w", err)
	}
	going := map[string]bool{}
	for _, rec := range groups {
		doc, err := plain(rec)
		if err != nil {
			return false, err
		}
		if state(doc.Body) == string(operation.Deleting) {
			going[rec.Row.Key().ID] = true
		}
	}
	spaces, err := s.all(ctx, row.Query{Kind: row.Workspace})
	if err != nil {
		return false, fmt.Errorf("list workspaces: %w", err)
	}
	for _, rec := range spaces {
		gone, marked, err := s.sweepWorkspace(ctx, rec, going)
		if err != nil {
			return false, err
		}
		if parent, _ := rec.Row.Index(); !gone && marked {
			left, going[parent] = true, false
		}
	}
	for group, ready := range going {
		if !ready {
			continue
		}
		if err := s.dropGroup(ctx, group); err != nil {
			return false, err
		}
	}
	return left, nil
}

// sweepWorkspace goes on with a workspace that is going, or whose group is.
func (s *Service) sweepWorkspace(ctx context.Context, rec row.Record, groups map[string]bool) (gone, marked bool, err error) {
	doc, info, err := read(rec)
	if err != nil {
		return false, false, err
	}
	parent, _ := rec.Row.Index()
	_, inGroup := groups[parent]
	if state(doc.Body) != string(operation.Deleting) {
		if !inGroup {
			return false, false, nil
		}
		change, _, err := s.marked(rec, access.Principal{ID: doc.by})
		if err != nil {
			return false, true, err
		}
		if _, err := s.Store.Commit(ctx, change); err != nil {
			return false, true, fmt.Errorf("mark workspace %s: %w", info.Name, err)
		}
	}
	left, err := s.markClusters(ctx, info)
	if err != nil || left > 0 {
		return false, true, err
	}
	return true, true, s.dropWorkspace(ctx, info)
}

// markClusters tells control to remove the clusters of a workspace, and counts
// those that are there.
func (s *Service) markClusters(ctx context.Context, info Info) (int, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Cluster, Prefix: info.Key + "/computes/"})
	if err != nil {
		return 0, fmt.Errorf("list clusters: %w", err)
	}
	for _, rec := range recs {
		c, ok := rec.Row.(fleet.Cluster)
		if !ok || c.Deleting {
			continue
		}
		c.Deleting = true
		c.Generation++
		if _, err := s.Store.Commit(ctx, row.Update(c, rec.Rev)); err != nil && !errors.Is(err, fault.Precondition) {
			return 0, fmt.Errorf("delete cluster %s: %w", c.Name, err)
		}
	}
	return len(recs), nil
}

// dropWorkspace removes what lies in a workspace without clusters, its files,
// and at last the workspace.
func (s *Service) dropWorkspace(ctx context.Context, info Info) error {
	if err := s.dropJobs(ctx, info.Key); err != nil {
		return err
	}
	if err := s.dropWithin(ctx, info.Key); err != nil {
		return err
	}
	if s.Files != nil {
		if err := s.Files.Forget(ctx, info.GUID); err != nil {
			return fmt.Errorf("remove the files of workspace %s: %w", info.Name, err)
		}
	}
	return s.dropLast(ctx, row.Key{Kind: row.Workspace, ID: info.Key}, row.Drop(AccountKey(armid.Account(info.GUID))))
}

func (s *Service) dropGroup(ctx context.Context, group string) error {
	if err := s.dropWithin(ctx, group); err != nil {
		return err
	}
	return s.dropLast(ctx, row.Key{Kind: row.ResourceGroup, ID: group})
}

// dropLast drops the row itself and ends the operations that wait for it.
func (s *Service) dropLast(ctx context.Context, k row.Key, with ...row.Change) error {
	changes := append(with, row.Drop(k), s.event(access.Principal{Name: "ebb"}, k.ID, "deleted", "All that was in it is gone."))
	ops, err := s.all(ctx, row.Query{Kind: row.Operation, Parent: k.ID})
	if err != nil {
		return fmt.Errorf("list operations: %w", err)
	}
	for _, rec := range ops {
		if op, ok := rec.Row.(operation.Operation); ok && !op.Status.Final() {
			op.Status, op.Ended = operation.Succeeded, s.Now()
			changes = append(changes, row.Put(op))
		}
	}
	changes = append(changes, departure(k, s.Now()))
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return fmt.Errorf("drop %s: %w", k.ID, err)
	}
	s.logger().InfoContext(ctx, "deleted", "id", k.ID)
	return nil
}

// departedPrefix begins the rows of scopes that went not long ago, and were not
// looked at since. They are rows, so that a server that was killed looks.
const departedPrefix = "departed/"

func departure(k row.Key, now time.Time) row.Change {
	body, err := json.Marshal(departed{k.Kind, k.ID})
	if err != nil {
		panic("workspaces: two strings cannot fail to encode: " + err.Error())
	}
	return row.Put(row.Document{Kind: row.Datum, ID: departedPrefix + string(k.Kind) + k.ID, Body: body, Created: now, Modified: now})
}

// departed is the stored form of a scope that is gone.
type departed struct {
	Kind row.Kind `json:"kind"`
	ID   string   `json:"id"`
}

// Strays removes what came into a scope while it went, and reports whether there
// is one to look at again.
func (s *Service) Strays(ctx context.Context) (bool, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Datum, Prefix: departedPrefix})
	if err != nil {
		return true, fmt.Errorf("list what is gone: %w", err)
	}
	watched := false
	for _, rec := range recs {
		doc, ok := rec.Row.(row.Document)
		if !ok {
			return true, fmt.Errorf("what is gone is a %T", rec.Row)
		}
		var d departed
		if err := decode(doc, &d); err != nil {
			return true, err
		}
		forget, err := s.cleared(ctx, row.Key{Kind: d.Kind, ID: d.ID}, doc.Modified)
		if err != nil {
			return true, err
		}
		if !forget {
			watched = true
			continue
		}
		if _, err := s.Store.Commit(ctx, row.Change{Drop: doc.Key(), If: row.Condition{Rev: rec.Rev}}); err != nil && !errors.Is(err, fault.Precondition) {
			return true, fmt.Errorf("forget that %s is gone: %w", d.ID, err)
		}
	}
	return watched, nil
}

// cleared removes what lies in a scope that is gone since then, and reports whether
// it need not be looked at again.
func (s *Service) cleared(ctx context.Context, k row.Key, since time.Time) (bool, error) {
	_, err := s.Store.Get(ctx, k)
	if err == nil {
		return true, nil // made again: what is in it is its own
	}
	if !errors.Is(err, fault.NotFound) {
		return false, fmt.Errorf("get %s: %w", k.ID, err)
	}
	if k.Kind == row.Workspace {
		left, err := s.markClusters(ctx, Info{Key: k.ID})
		if err != nil {
			return false, err
		}
		if err := s.dropJobs(ctx, k.ID); err != nil {
			return false, err
		}
		if left > 0 { // a cluster's own rows are control's to drop
			return false, nil
		}
	}
	return s.Now().Sub(since) >= lookback, s.dropWithin(ctx, k.ID)
}

// dropWithin drops the rows whose ids begin with that of a scope.
func (s *Service) dropWithin(ctx context.Context, scope string) error {
	for _, kind := range within {
		if err := s.dropAll(ctx, row.Query{Kind: kind, Prefix: scope + "/"}, nil); err != nil {
			return err
		}
	}
	return nil
}

// dropJobs drops the runs of a workspace with all that belongs to them. A run's
// document is the last of its rows to go, as it names the others.
func (s *Service) dropJobs(ctx context.Context, workspace string) error {
	return s.dropAll(ctx, row.Query{Kind: row.Job, Parent: workspace}, func(doc row.Document) ([]row.Change, error) {
		var body struct {
			Run string `json:"run"`
		}
		if err := decode(doc, &body); err != nil {
			return nil, err
		}
		var changes []row.Change
		for _, kind := range []row.Kind{row.Task, row.RunStatus, row.Run} {
			changes = append(changes, row.Drop(row.Key{Kind: kind, ID: body.Run}))
		}
		tries, err := s.all(ctx, row.Query{Kind: row.Attempt, Parent: body.Run})
		if err != nil {
			return nil, fmt.Errorf("list attempts of %s: %w", body.Run, err)
		}
		for _, rec := range tries {
			changes = append(changes, row.Drop(rec.Row.Key()))
		}
		return changes, nil
	})
}

// dropAll drops what a query finds, and with each row what more says.
func (s *Service) dropAll(ctx context.Context, q row.Query, more func(row.Document) ([]row.Change, error)) error {
	q.Limit = batch
	for {
		page, err := s.Store.List(ctx, q)
		if err != nil {
			return fmt.Errorf("list %s: %w", q.Kind, err)
		}
		if len(page.Records) == 0 {
			return nil
		}
		var changes []row.Change
		for _, rec := range page.Records {
			if doc, ok := rec.Row.(row.Document); ok && more != nil {
				extra, err := more(doc)
				if err != nil {
					return err
				}
				changes = append(changes, extra...)
			}
			changes = append(changes, row.Drop(rec.Row.Key()))
		}
		if _, err := s.Store.Commit(ctx, changes...); err != nil {
			return fmt.Errorf("drop %s rows: %w", q.Kind, err)
		}
	}
}

// Operation returns an operation by its id, under the subscription its URL names.
func (s *Service) Operation(ctx context.Context, p access.Principal, sub, id string) (operation.Operation, error) {
	missing := fault.Coded(fault.NotFound, "OperationNotFound", id, "The operation '%.64s' was not found.", id)
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Operation, ID: strings.ToLower(id)})
	if errors.Is(err, fault.NotFound) {
		return operation.Operation{}, missing
	}
	if err != nil {
		return operation.Operation{}, fmt.Errorf("get operation %s: %w", id, err)
	}
	op, ok := rec.Row.(operation.Operation)
	if !ok || !strings.EqualFold(op.Scope, sub) {
		return operation.Operation{}, missing
	}
	return op, may(p, op.Target, "Microsoft.Resources/subscriptions/operationresults/read")
}

// Alive refuses writes to what lies in a group or workspace that is being deleted.
func (s *Service) Alive(ctx context.Context, id armid.ID) error {
	if id.Group == "" {
		return nil
	}
	doc, err := s.group(ctx, id.Subscription, id.Group)
	if err == nil && state(doc.Body) == string(operation.Deleting) {
		return beingDeleted("resource group", id.Group)
	}
	if err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	ws, ok := id.Workspace()
	if !ok {
		return nil
	}
	doc, _, err = s.find(ctx, ws)
	if err == nil && state(doc.Body) == string(operation.Deleting) {
		return beingDeleted("workspace", ws.Name())
	}
	if errors.Is(err, fault.NotFound) {
		return nil // the handler says so in its own words
	}
	return err
}
