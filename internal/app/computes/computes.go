// Package computes makes, changes, shows and removes AmlCompute clusters and compute
// instances, and tells what sizes there are and what is used of them. It stores wishes; control makes
// them true, and what is shown is the wish with control's status beside it.
//
// A compute is one document, kept as it came with its unknown properties, in a
// canonical form ([Service.Put]); fleet.Cluster is derived from it in the same
// commit. Reference: reference/AMLCOMPUTE.md, reference/wire/sdk-v1.md §2 and §3.
package computes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// MinNodesNote is said where a cluster is made that never goes down to zero.
const MinNodesNote = "The minimum is above 0: that many nodes keep running, and cost, even while no job runs. Set the minimum to 0 to pay for nothing while the cluster is idle."

// Store is what the service needs of the store.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
	Get(ctx context.Context, k row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
	View() *pool.View
}

// Workspaces is what the service needs to know of what computes lie in.
type Workspaces interface {
	Lookup(ctx context.Context, id string) (workspaces.Info, error)
	Subscription(ctx context.Context, p access.Principal, sub string) (workspaces.Document, error)
}

// Service answers for computes.
type Service struct {
	Store      Store
	Workspaces Workspaces
	Now        func() time.Time // site clock, UTC
	NewID      func() string    // guids
	Log        *slog.Logger     // default: slog.Default()
	Pool       string           // the engine instance that runs new clusters; default "local"
	Large      []string         // subscriptions, workspaces and computes whose clusters may have more than [fleet.MostInTouch] nodes; default none
}

// Document is a compute as ARM shows it. Rev is the revision of the wish, never
// of the status: ETags are made of it.
type Document struct {
	Body map[string]any
	Rev  int64
}

// Request is a PUT or PATCH.
type Request struct {
	Workspace string         // ARM id, any case
	Name      string         // as typed
	Body      map[string]any // JSON; numbers as json.Number
	// Match, if set, is asked before anything is written whether the compute may be
	// changed as it is (If-Match and If-None-Match).
	Match func(exists bool, rev int64) error
	// CreateOnly is how templates put: what exists may be repeated and not changed.
	CreateOnly bool
	// Check is how what-if puts: what would be refused is, and nothing is written.
	Check bool
}

// Result is what became of a write.
type Result struct {
	Document
	Created      bool
	Operation    string // guid of the operation to wait for; empty: nothing had to change
	Subscription string // the operation lies under, with Region
	Region       string
	Warnings     []string // whole sentences for whoever asked
}

// stored is the body of a [row.Compute] document.
type stored struct {
	ID             string         `json:"id"` // as typed
	Name           string         `json:"name"`
	Region         string         `json:"region"`
	Prefix         string         `json:"prefix"` // the cluster's: no other ever has it
	Tenant         string         `json:"tenant"`
	CreatedBy      string         `json:"createdBy"`
	CreatedByType  string         `json:"createdByType"`
	ModifiedBy     string         `json:"modifiedBy"`
	ModifiedByType string         `json:"modifiedByType"`
	Resource       map[string]any `json:"resource"` // canonical, without anything read-only

	Owner string `json:"owner,omitempty"` // of an instance: object id of who made it
	Last  last   `json:"last,omitzero"`   // of an instance: what was last done to it
}

func (c stored) computeType() string {
	props, _ := c.Resource["properties"].(map[string]any)
	t, _ := props["computeType"].(string)
	return t
}

// saved is a compute as it was read: its document, its wish, and their revisions.
type saved struct {
	stored
	doc        row.Document
	rev        int64
	cluster    fleet.Cluster
	clusterRev int64
}

// attempts at a write that others keep overtaking.
const attempts = 4

// load reads a compute. What is missing is fault.NotFound.
func (s *Service) load(ctx context.Context, info workspaces.Info, name string) (saved, error) {
	key := strings.ToLower(armid.Compute(info.ID, name))
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Compute, ID: key})
	if errors.Is(err, fault.NotFound) {
		return saved{}, fault.Coded(fault.NotFound, "ResourceNotFound", armid.Compute(info.ID, name),
			"The compute '%s' was not found in the workspace '%s'. 'ebb compute list' shows those that are there.", name, info.Name)
	}
	if err != nil {
		return saved{}, fmt.Errorf("get compute %s: %w", name, err)
	}
	c, err := decode(rec)
	if err != nil {
		return saved{}, err
	}
	wish, err := s.Store.Get(ctx, row.Key{Kind: row.Cluster, ID: key})
	if errors.Is(err, fault.NotFound) {
		return saved{}, fault.Coded(fault.NotFound, "ResourceNotFound", c.ID, "The compute '%s' has just been deleted.", name)
	}
	if err != nil {
		return saved{}, fmt.Errorf("get cluster %s: %w", name, err)
	}
	var ok bool
	if c.cluster, ok = wish.Row.(fleet.Cluster); !ok {
		return saved{}, fmt.Errorf("cluster row is a %T", wish.Row)
	}
	c.clusterRev = wish.Rev
	return c, nil
}

func decode(rec row.Record) (saved, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return saved{}, fmt.Errorf("compute row is a %T", rec.Row)
	}
	c := saved{doc: doc, rev: rec.Rev}
	dec := json.NewDecoder(bytes.NewReader(doc.Body))
	dec.UseNumber()
	if err := dec.Decode(&c.stored); err != nil {
		return saved{}, fmt.Errorf("decode compute %s: %w", doc.ID, err)
	}
	return c, nil
}

// enter finds the workspace and asks whether p may do something to a compute in it.
func (s *Service) enter(ctx context.Context, p access.Principal, workspace, verb string) (workspaces.Info, error) {
	if err := may(p, workspace, verb); err != nil {
		return workspaces.Info{}, err
	}
	return s.Workspaces.Lookup(ctx, workspace)
}

// may refuses what lies outside of p's scope, and every change to a run: a job
// may look at the cluster it runs on, not alter it.
func may(p access.Principal, scope, verb string) error {
	if p.May(scope) && (verb == "read" || p.Kind != access.RunIdentity) {
		return nil
	}
	return fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "The client '%s' with object id '%s' does not have authorization to perform action '%s/%s' over scope '%s'.",
		p.Name, p.ID, armid.ComputeType, verb, scope)
}

// Get returns a compute.
func (s *Service) Get(ctx context.Context, p access.Principal, workspace, name string) (Document, error) {
	info, err := s.enter(ctx, p, workspace, "read")
	if err != nil {
		return Document{}, err
	}
	c, err := s.load(ctx, info, name)
	if err != nil {
		return Document{}, err
	}
	return showOnce(s.Store.View(), c), nil
}

// List returns one page of a workspace's computes by name, and where the next begins.
func (s *Service) List(ctx context.Context, p access.Principal, workspace, after string, limit int) ([]Listed, string, error) {
	info, err := s.enter(ctx, p, workspace, "read")
	if err != nil {
		return nil, "", err
	}
	page, err := s.Store.List(ctx, row.Query{Kind: row.Compute, Parent: info.Key, After: after, Limit: limit})
	if err != nil {
		return nil, "", fmt.Errorf("list computes: %w", err)
	}
	view := s.Store.View()
	list := make([]Listed, len(page.Records))
	for i, rec := range page.Records {
		list[i] = listed(view, rec)
	}
	return list, page.Next, nil
}

// Node is one line of listNodes.
type Node struct {
	ID    string
	State string // Azure's word
	Run   string // run id as clients know it; empty: none

	Warnings []string // sentences on what jobs do without there
	Engine   string   // of containers, as "Docker 28.2.2"; empty: jobs are processes there
}

// Nodes returns one page of a compute's nodes, oldest first, and where the next
// begins: after is the id of the last node of the page before, which may be gone.
func (s *Service) Nodes(ctx context.Context, p access.Principal, workspace, name, after string, limit int) (nodes []Node, next string, err error) {
	info, err := s.enter(ctx, p, workspace, "read")
	if err != nil {
		return nil, "", err
	}
	c, err := s.load(ctx, info, name)
	if err != nil {
		return nil, "", err
	}
	number := int64(-1) // nodes are numbered as they come
	if after != "" {
		if number, err = strconv.ParseInt(strings.TrimPrefix(after, c.Prefix+"-"), 10, 64); err != nil {
			return nil, "", fault.Coded(fault.Invalid, "InvalidSkipToken", "$skipToken", "'%.64s' is no node of '%s'. Take the nextLink as it is.", after, c.Name)
		}
	}
	view := s.Store.View()
	for _, n := range view.NodesOf(c.doc.ID) {
		if n.Number <= number {
			continue
		}
		if len(nodes) == limit {
			return nodes, nodes[limit-1].ID, nil
		}
		node := Node{ID: n.ID, State: n.State.Azure(), Warnings: n.Warnings, Engine: n.Engine}
		if a, ok := view.Attempt(n.Attempt); ok {
			if r, ok := view.Run(a.Run); ok {
				node.Run = r.Name
			}
		}
		nodes = append(nodes, node)
	}
	return nodes, "", nil
}

// Delete marks a compute as going; control cancels its runs, removes its nodes and
// then its rows. It returns no operation when there is nothing to delete. action is
// underlyingResourceAction; empty means Delete.
func (s *Service) Delete(ctx context.Context, p access.Principal, workspace, name, action string, match func(exists bool, rev int64) error) (Result, error) {
	switch {
	case strings.EqualFold(action, "Detach"):
		return Result{}, fault.Coded(fault.Invalid, "UserError", name, "Detach is for computes that were attached, and there are none here. Delete it instead: underlyingResourceAction=Delete.")
	case action != "" && !strings.EqualFold(action, "Delete"):
		return Result{}, fault.Coded(fault.Invalid, "InvalidParameter", "underlyingResourceAction", "underlyingResourceAction must be Delete or Detach, not '%.64s'.", action)
	}
	info, err := s.enter(ctx, p, workspace, "delete")
	if err != nil {
		return Result{}, err
	}
	for range attempts {
		c, err := s.load(ctx, info, name)
		if errors.Is(err, fault.NotFound) {
			return Result{}, nil
		}
		if err != nil {
			return Result{}, err
		}
		if match != nil {
			if err := match(true, c.rev); err != nil {
				return Result{}, err
			}
		}
		res, err := s.remove(ctx, p, info, c)
		if !errors.Is(err, fault.Precondition) {
			return res, err
		}
	}
	return Result{}, busy(name)
}

func (s *Service) remove(ctx context.Context, p access.Principal, info workspaces.Info, c saved) (Result, error) {
	wish := c.cluster
	var changes []row.Change
	if !wish.Deleting {
		wish.Deleting = true
		wish.Generation++
		changes = append(changes, s.event(p, c.ID, "deleted", "Asked for by "+p.Name+"."))
	}
	op := s.operation(info, c.doc.ID, c.Region, wish.Generation)
	changes = append(changes, row.Update(wish, c.clusterRev), row.Create(op))
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return Result{}, fmt.Errorf("delete compute %s: %w", c.Name, err)
	}
	return Result{Operation: op.ID, Subscription: op.Scope, Region: op.Location}, nil
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
	if !ok {
		return operation.Operation{}, fmt.Errorf("operation row is a %T", rec.Row)
	}
	if !strings.EqualFold(op.Scope, sub) {
		return operation.Operation{}, missing
	}
	if err := may(p, op.Target, "read"); err != nil {
		return operation.Operation{}, err
	}
	return op, nil
}

// Target returns the compute that an operation was about, or fault.NotFound once it is gone.
func (s *Service) Target(ctx context.Context, p access.Principal, op operation.Operation) (Document, error) {
	id, err := armid.Parse(op.Target)
	if err != nil {
		return Document{}, fmt.Errorf("target of operation %s: %w", op.ID, err)
	}
	return s.Get(ctx, p, id.Parent().String(), id.Name())
}

func (s *Service) operation(info workspaces.Info, target, region string, generation int64) operation.Operation {
	return operation.Operation{
		ID: strings.ToLower(s.NewID()), Target: target, Scope: info.Subscription, Location: region,
		Generation: generation, Status: operation.InProgress, Started: s.Now(),
	}
}

// event is one line of the activity log.
func (s *Service) event(p access.Principal, id, what, why string) row.Change {
	now := s.Now()
	body, err := json.Marshal(map[string]string{"who": p.ID, "name": p.Name, "what": what, "when": now.Format(time.RFC3339Nano), "why": why})
	if err != nil {
		panic("computes: an event of strings cannot fail to encode: " + err.Error())
	}
	return row.Create(row.Document{
		Kind: row.Event, ID: s.NewID(), Parent: strings.ToLower(id), Sort: row.SortTime(now),
		Body: body, Created: now, Modified: now, By: p.ID,
	})
}

func busy(name string) error {
	return fault.Coded(fault.Conflict, "Conflict", name, "The compute '%s' is being changed by others at the same time. Try again in a second.", name)
}
