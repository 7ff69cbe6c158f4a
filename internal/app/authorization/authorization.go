// Package authorization keeps locks, roles and their assignments, and knows who
// there is to assign them to.
//
// Locks are kept to: [Service.Check] refuses what a lock forbids, for every
// write that Resource Manager's addresses take. Roles are records as yet:
// whoever holds a credential of the server may do everything.
//
// Start at [Service.PutLock] and [Service.PutAssignment].
package authorization

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Namespace is the provider of what is kept here.
const Namespace = "Microsoft.Authorization"

// Store is what the service needs of the store.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
	Get(ctx context.Context, k row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
}

// Service answers for locks, roles and assignments.
type Service struct {
	Store Store
	Now   func() time.Time // site clock, UTC
	NewID func() string    // guids
}

// Document is a lock, a role or an assignment as ARM shows it.
type Document struct {
	Body    map[string]any
	Created bool // by the write that this is the answer of
}

// tries is how often a write is made again when somebody else was first.
const tries = 16

// scope finds what a lock or an assignment is put on, and returns its id as it
// was typed when it was made. The root is a scope of its own.
func (s *Service) scope(ctx context.Context, text string) (string, error) {
	if strings.Trim(text, "/") == "" {
		return "", nil
	}
	id, err := armid.Parse(text)
	if err != nil {
		return "", fault.Coded(fault.Invalid, "InvalidResourceId", text, "The %s.", err)
	}
	k := row.Key{Kind: row.Resource, ID: id.Key()}
	ws, inside := id.Workspace()
	switch {
	case id.Is("Microsoft.Resources/subscriptions"):
		k = row.Key{Kind: row.Subscription, ID: strings.ToLower(id.Subscription)}
	case id.Provider == "":
		k.Kind = row.ResourceGroup
	case id.Is(armid.ComputeType):
		k.Kind = row.Compute
	case inside:
		k = row.Key{Kind: row.Workspace, ID: ws.Key()}
	}
	rec, err := s.Store.Get(ctx, k)
	if errors.Is(err, fault.NotFound) {
		return "", fault.Coded(fault.NotFound, "ResourceNotFound", text, "The scope '%s' was not found.", text)
	}
	if err != nil {
		return "", fmt.Errorf("get scope %s: %w", text, err)
	}
	var body struct {
		ID       string
		Resource struct{ ID string }
	}
	if err := decode(rec, &body); err != nil {
		return "", err
	}
	if body.ID == "" {
		body.ID = body.Resource.ID
	}
	if inside && k.Kind == row.Workspace && id.Key() != ws.Key() { // a job, an asset
		body.ID += strings.TrimPrefix(id.String(), ws.String())
	}
	return body.ID, nil
}

func decode(rec row.Record, v any) error {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return fmt.Errorf("row is a %T", rec.Row)
	}
	d := json.NewDecoder(bytes.NewReader(doc.Body))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("decode %s %s: %w", doc.Kind, doc.ID, err)
	}
	return nil
}

// put keeps a document below a scope.
func (s *Service) put(ctx context.Context, p access.Principal, k row.Key, parent string, body map[string]any) (Document, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return Document{}, fmt.Errorf("encode %s: %w", k.ID, err)
	}
	now := s.Now()
	rec, err := s.Store.Get(ctx, k)
	created := errors.Is(err, fault.NotFound)
	if err != nil && !created {
		return Document{}, fmt.Errorf("get %s: %w", k.ID, err)
	}
	doc := row.Document{Kind: k.Kind, ID: k.ID, Parent: parent, Body: raw, Created: now, Modified: now, By: p.ID}
	change := row.Create(doc)
	if old, ok := rec.Row.(row.Document); ok {
		doc.Created = old.Created
		change = row.Update(doc, rec.Rev)
	}
	if _, err := s.Store.Commit(ctx, change, s.event(p, k.ID, map[bool]string{true: "created", false: "updated"}[created])); err != nil {
		return Document{}, fmt.Errorf("keep %s: %w", k.ID, err)
	}
	return Document{body, created}, nil
}

// drop removes a document and returns what it was; nil: nothing.
func (s *Service) drop(ctx context.Context, p access.Principal, k row.Key) (map[string]any, error) {
	rec, err := s.Store.Get(ctx, k)
	if errors.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", k.ID, err)
	}
	var body map[string]any
	if err := decode(rec, &body); err != nil {
		return nil, err
	}
	if _, err := s.Store.Commit(ctx, row.Drop(k), s.event(p, k.ID, "deleted")); err != nil {
		return nil, fmt.Errorf("delete %s: %w", k.ID, err)
	}
	return body, nil
}

func (s *Service) get(ctx context.Context, k row.Key, missing error) (map[string]any, error) {
	rec, err := s.Store.Get(ctx, k)
	if errors.Is(err, fault.NotFound) {
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", k.ID, err)
	}
	var body map[string]any
	return body, decode(rec, &body)
}

// all reads every page of an answer.
func (s *Service) all(ctx context.Context, q row.Query) ([]row.Record, error) {
	var recs []row.Record
	for {
		page, err := s.Store.List(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", q.Kind, err)
		}
		recs = append(recs, page.Records...)
		if page.Next == "" {
			return recs, nil
		}
		q.After = page.Next
	}
}

func (s *Service) event(p access.Principal, id, what string) row.Change {
	now := s.Now()
	body, err := json.Marshal(map[string]string{"who": p.ID, "name": p.Name, "what": what, "when": now.Format(time.RFC3339Nano), "why": "Asked for by " + p.Name + "."})
	if err != nil {
		panic("authorization: an event of strings cannot fail to encode: " + err.Error())
	}
	return row.Create(row.Document{Kind: row.Event, ID: s.NewID(), Parent: id, Sort: row.SortTime(now), Body: body, Created: now, Modified: now, By: p.ID})
}

// under reports whether a stored id is a scope or lies in it.
func under(id, scope string) bool { return id == scope || strings.HasPrefix(id, scope+"/") }

// may refuses what lies outside of p's scope, and every change to a run.
func may(p access.Principal, scope, action string) error {
	if p.May(scope) && (p.Kind != access.RunIdentity || strings.HasSuffix(action, "/read")) {
		return nil
	}
	return fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "The client '%s' with object id '%s' does not have authorization to perform action '%s/%s' over scope '%s'.", p.Name, p.ID, Namespace, action, scope)
}

func invalid(target, format string, args ...any) *fault.Error {
	return fault.Coded(fault.Invalid, "InvalidRequestContent", target, format, args...)
}

// again reports whether a write lost a race and is worth another try.
func again(err error, try int) bool { return errors.Is(err, fault.Precondition) && try < tries }
