// Package resources keeps the ARM resources around machine learning as records:
// storage accounts, key vaults, registries, networks, user-assigned identities
// and the like. They are checked in form, shown and listed; nothing runs behind
// them, and nothing is made of them. [Namespaces] lists the types.
//
// Start at [Service.Put].
package resources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/merge"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Store is what the service needs of the store.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
	Get(ctx context.Context, k row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
}

// Groups is what the service needs of app/workspaces.
type Groups interface {
	Group(ctx context.Context, p access.Principal, sub, group string) (workspaces.Document, error)
	Subscription(ctx context.Context, p access.Principal, sub string) (workspaces.Document, error)
	Tenant(ctx context.Context) (string, error)
}

// Service answers for records.
type Service struct {
	Store  Store
	Groups Groups
	Now    func() time.Time // site clock, UTC
	NewID  func() string    // guids
}

// Document is a resource as ARM shows it, and the revision that its ETag is made of.
type Document struct {
	Body    map[string]any
	Rev     int64
	Created bool // by the write that this is the answer of
}

// Request is a PUT or PATCH.
type Request struct {
	ID   armid.ID
	Body map[string]any
	// Match, if set, is asked before anything is written (If-Match, If-None-Match).
	Match func(exists bool, rev int64) error
}

const tries = 16

// readOnly are what ARM adds to a resource.
var readOnly = []string{"id", "name", "type", "systemData", "etag"}

// Put makes a resource, or replaces it.
func (s *Service) Put(ctx context.Context, p access.Principal, req Request) (Document, error) {
	return s.write(ctx, p, req, func(have map[string]any) (map[string]any, error) { return maps.Clone(req.Body), nil })
}

// Patch changes a resource by a merge patch. Tags are replaced whole, as in Azure.
func (s *Service) Patch(ctx context.Context, p access.Principal, req Request) (Document, error) {
	return s.write(ctx, p, req, func(have map[string]any) (map[string]any, error) {
		if have == nil {
			return nil, missing(req.ID)
		}
		out := merge.Patch(have, req.Body)
		if tags, ok := req.Body["tags"]; ok {
			out["tags"] = tags
		}
		return out, nil
	})
}

// Get returns a resource.
func (s *Service) Get(ctx context.Context, p access.Principal, id armid.ID) (Document, error) {
	if _, _, err := typeOf(id.Provider, typeOfID(id)); err != nil {
		return Document{}, err
	}
	if err := may(p, id.String(), id.Type()+"/read", false); err != nil {
		return Document{}, err
	}
	if _, err := s.Groups.Group(ctx, p, id.Subscription, id.Group); err != nil {
		return Document{}, err
	}
	have, rev, err := s.read(ctx, id)
	if err != nil {
		return Document{}, err
	}
	return s.show(ctx, have, rev)
}

// List returns the records under a scope (a subscription, a group or a parent
// resource) of a type; an empty type means all of them.
func (s *Service) List(ctx context.Context, p access.Principal, scope armid.ID, typ string) ([]Document, error) {
	if _, err := s.Groups.Subscription(ctx, p, scope.Subscription); err != nil {
		return nil, err
	}
	if scope.Group != "" {
		if _, err := s.Groups.Group(ctx, p, scope.Subscription, scope.Group); err != nil {
			return nil, err
		}
	}
	if scope.Provider != "" {
		if _, _, err := s.read(ctx, scope); err != nil && !slices.Contains(implied, strings.ToLower(scope.Type())) {
			return nil, err
		}
	}
	if typ != "" {
		namespace, name, _ := strings.Cut(typ, "/")
		if _, _, err := typeOf(namespace, name); err != nil {
			return nil, err
		}
	}
	recs, err := s.all(ctx, row.Query{Kind: row.Resource, Prefix: scope.Key() + "/"})
	if err != nil {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	var docs []Document
	for _, rec := range recs {
		body, err := decode(rec)
		if err != nil {
			return nil, err
		}
		is, _ := body["type"].(string)
		id, _ := body["id"].(string)
		if is == "" || typ != "" && !strings.EqualFold(is, typ) || !p.May(id) { // without a type: a quota
			continue
		}
		doc, err := s.show(ctx, body, rec.Rev)
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// Delete removes a resource and what lies in it; false: it was not there.
func (s *Service) Delete(ctx context.Context, p access.Principal, req Request) (bool, error) {
	for try := 0; ; try++ {
		there, err := s.deleteOnce(ctx, p, req)
		if raced(err) && try < tries {
			continue
		}
		return there, err
	}
}

// raced reports whether somebody else was first, who asked for no such thing.
func raced(err error) bool {
	e, ok := errors.AsType[*fault.Error](err)
	return ok && e.Kind == fault.Precondition && e.Code == ""
}

func (s *Service) deleteOnce(ctx context.Context, p access.Principal, req Request) (bool, error) {
	id := req.ID
	if _, _, err := typeOf(id.Provider, typeOfID(id)); err != nil {
		return false, err
	}
	if err := may(p, id.String(), id.Type()+"/delete", true); err != nil {
		return false, err
	}
	if _, err := s.Groups.Group(ctx, p, id.Subscription, id.Group); err != nil {
		return false, err
	}
	_, rev, err := s.read(ctx, id)
	if err != nil {
		if errors.Is(err, fault.NotFound) {
			err = nil
		}
		return false, err
	}
	if req.Match != nil {
		if err := req.Match(true, rev); err != nil {
			return false, err
		}
	}
	changes, err := s.release(ctx, id)
	if err != nil {
		return false, err
	}
	changes = append(changes, s.event(p, id.Key(), "deleted"))
	for _, kind := range []row.Kind{row.Resource, row.Lock, row.Assignment} {
		below, err := s.all(ctx, row.Query{Kind: kind, Prefix: id.Key() + "/"})
		if err != nil {
			return false, fmt.Errorf("list what lies in %s: %w", id.Name(), err)
		}
		for _, rec := range below {
			changes = append(changes, row.Drop(rec.Row.Key()))
		}
	}
	if _, err := s.Store.Commit(ctx, append(changes, row.Drop(key(id)))...); err != nil {
		return false, fmt.Errorf("delete %s: %w", id.Name(), err)
	}
	return true, nil
}

// write does what Put and Patch share, and tries again when somebody else was first.
func (s *Service) write(ctx context.Context, p access.Principal, req Request, want func(map[string]any) (map[string]any, error)) (Document, error) {
	if err := may(p, req.ID.String(), req.ID.Type()+"/write", true); err != nil {
		return Document{}, err
	}
	for try := 0; ; try++ {
		doc, err := s.writeOnce(ctx, p, req, want)
		if raced(err) && try < tries {
			continue
		}
		return doc, err
	}
}

func (s *Service) writeOnce(ctx context.Context, p access.Principal, req Request, want func(map[string]any) (map[string]any, error)) (Document, error) {
	id, err := s.canonicalID(ctx, p, req.ID)
	if err != nil {
		return Document{}, err
	}
	have, rev, err := s.read(ctx, id)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return Document{}, err
	}
	if req.Match != nil {
		if err := req.Match(have != nil, rev); err != nil {
			return Document{}, err
		}
	}
	body, err := want(have)
	if err != nil {
		return Document{}, err
	}
	next, err := s.canonical(ctx, p, id, body, have)
	if err != nil {
		return Document{}, err
	}
	changes, err := s.children(ctx, p, id, next)
	if err != nil {
		return Document{}, err
	}
	doc, err := s.row(p, id, next)
	if err != nil {
		return Document{}, err
	}
	change := row.Create(doc)
	if have != nil {
		change = row.Update(doc, rev)
	}
	what := "updated"
	if have == nil {
		what = "created"
		claim, err := s.claim(ctx, id)
		if err != nil {
			return Document{}, err
		}
		changes = append(changes, claim...)
	}
	if rev, err = s.Store.Commit(ctx, append(changes, change, s.event(p, id.Key(), what))...); err != nil {
		return Document{}, fmt.Errorf("keep %s: %w", id.Name(), err)
	}
	out, err := s.show(ctx, next, rev)
	out.Created = have == nil
	return out, err
}

// canonicalID returns an id in Azure's spelling of its types, below the group as
// that was typed first. What it lies in must be there.
func (s *Service) canonicalID(ctx context.Context, p access.Principal, id armid.ID) (armid.ID, error) {
	ns, t, err := typeOf(id.Provider, typeOfID(id))
	if err != nil {
		return armid.ID{}, err
	}
	if id.Group == "" {
		return armid.ID{}, fault.Coded(fault.Invalid, "InvalidResourceId", id.String(), "A resource of type %s/%s lies in a resource group: /subscriptions/{id}/resourceGroups/{group}/providers/%s/%s/{name}.", ns.Name, t.Name, ns.Name, t.Name)
	}
	group, err := s.Groups.Group(ctx, p, id.Subscription, id.Group)
	if err != nil {
		return armid.ID{}, err
	}
	at, _ := group.Body["id"].(string)
	if parent := id.Parent(); parent.Provider != "" {
		above, _, err := s.read(ctx, parent)
		switch {
		case errors.Is(err, fault.NotFound) && slices.Contains(implied, strings.ToLower(parent.Type())):
		case errors.Is(err, fault.NotFound):
			return armid.ID{}, fault.Coded(fault.NotFound, "ParentResourceNotFound", parent.String(), "Failed to perform 'write' on resource(s) of type '%s/%s', because the parent resource '%s' could not be found.", ns.Name, t.Name, parent)
		case err != nil:
			return armid.ID{}, err
		default:
			at, _ = above["id"].(string)
			out, err := armid.Parse(at)
			if err != nil {
				return armid.ID{}, fmt.Errorf("id of %s: %w", parent, err)
			}
			return out.Child(t.Name[strings.LastIndexByte(t.Name, '/')+1:], id.Name()), nil
		}
	}
	if t.name != nil && !t.name.MatchString(id.Name()) {
		return armid.ID{}, fault.Coded(fault.Invalid, "InvalidResourceName", id.Name(), "The name '%.100s' is not valid for a resource of type %s/%s: it must have %s.", id.Name(), ns.Name, t.Name, t.rule)
	}
	if len(id.Name()) > 260 {
		return armid.ID{}, fault.Coded(fault.Invalid, "InvalidResourceName", id.Name()[:64], "The name of a resource must have at most 260 characters.")
	}
	return respell(at, ns.Name, t.Name, id)
}

// respell puts an id together below a group, in Azure's spelling.
func respell(group, namespace, typ string, id armid.ID) (armid.ID, error) {
	names := make([]string, 1+strings.Count(typ, "/"))
	for i, at := len(names)-1, id; i >= 0; i, at = i-1, at.Parent() {
		names[i] = at.Name()
	}
	path := group + "/providers/" + namespace
	for i, t := range strings.Split(typ, "/") {
		path += "/" + t + "/" + names[i]
	}
	out, err := armid.Parse(path)
	if err != nil {
		return armid.ID{}, fault.Coded(fault.Invalid, "InvalidResourceId", path, "The %s.", err)
	}
	return out, nil
}

func key(id armid.ID) row.Key { return row.Key{Kind: row.Resource, ID: id.Key()} }

// read returns a resource as it is kept; fault.NotFound.
func (s *Service) read(ctx context.Context, id armid.ID) (map[string]any, int64, error) {
	rec, err := s.Store.Get(ctx, key(id))
	if errors.Is(err, fault.NotFound) {
		return nil, 0, missing(id)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("get %s: %w", id.Name(), err)
	}
	body, err := decode(rec)
	if err != nil {
		return nil, 0, err
	}
	if body["type"] == nil {
		return nil, 0, missing(id)
	}
	return body, rec.Rev, nil
}

func missing(id armid.ID) error {
	return fault.Coded(fault.NotFound, "ResourceNotFound", id.String(), "The Resource '%s/%s' under resource group '%s' was not found.", id.Type(), id.Name(), id.Group)
}

func decode(rec row.Record) (map[string]any, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return nil, fmt.Errorf("resource row is a %T", rec.Row)
	}
	var body map[string]any
	d := json.NewDecoder(bytes.NewReader(doc.Body))
	d.UseNumber()
	if err := d.Decode(&body); err != nil {
		return nil, fmt.Errorf("decode %s: %w", doc.ID, err)
	}
	return body, nil
}

func (s *Service) row(p access.Principal, id armid.ID, body map[string]any) (row.Document, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return row.Document{}, fmt.Errorf("encode %s: %w", id.Name(), err)
	}
	now := s.Now()
	return row.Document{Kind: row.Resource, ID: id.Key(), Parent: id.Parent().Key(), Body: raw, Created: now, Modified: now, By: p.ID}, nil
}

func (s *Service) event(p access.Principal, id, what string) row.Change {
	now := s.Now()
	body, err := json.Marshal(map[string]string{"who": p.ID, "name": p.Name, "what": what, "when": now.Format(time.RFC3339Nano), "why": "Asked for by " + p.Name + "."})
	if err != nil {
		panic("resources: an event of strings cannot fail to encode: " + err.Error())
	}
	return row.Create(row.Document{Kind: row.Event, ID: s.NewID(), Parent: id, Sort: row.SortTime(now), Body: body, Created: now, Modified: now, By: p.ID})
}

// all reads every page of an answer.
func (s *Service) all(ctx context.Context, q row.Query) ([]row.Record, error) {
	var recs []row.Record
	for {
		page, err := s.Store.List(ctx, q)
		if err != nil {
			return nil, err
		}
		recs = append(recs, page.Records...)
		if page.Next == "" {
			return recs, nil
		}
		q.After = page.Next
	}
}

// may refuses what lies outside of p's scope, and every change to a run.
func may(p access.Principal, scope, action string, change bool) error {
	if p.May(scope) && (!change || p.Kind != access.RunIdentity) {
		return nil
	}
	return fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s'.", p.Name, p.ID, action, scope)
}
