// Package workspaces keeps what everything else lies in: the tenant, its
// subscriptions, resource groups and workspaces, and the credentials of clients.
// [Service.Seed] makes one of each on the first start.
//
// It knows no HTTP: documents leave it without the parts that depend on the
// host a client came by (api/mgmt adds discoveryUrl).
package workspaces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Store is what the service needs of the store.
type Store interface {
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
	Get(ctx context.Context, k row.Key) (row.Record, error)
	List(ctx context.Context, q row.Query) (row.Page, error)
}

// Service answers for subscriptions, resource groups, workspaces and clients.
type Service struct {
	Store  Store
	Now    func() time.Time // site clock, UTC
	NewID  func() string    // guids
	Log    *slog.Logger     // default: slog.Default()
	Region string           // of the first workspace; default westus2
	Files  Files            // forgotten with their workspace; default: none are

	once sync.Once
	wake chan struct{} // by waker
}

// Info is what other families need to know of a workspace.
type Info struct {
	ID           string // ARM id, as it was typed when it was made
	Key          string // ID in lower case, as rows have it
	Name         string
	GUID         string // properties.workspaceId
	Region       string // normalised
	Subscription string
	Group        string
	Tenant       string
}

// Document is a resource as ARM shows it, and the revision that its ETag is made of.
type Document struct {
	Body map[string]any
	Rev  int64

	by string // who wrote it last
}

// workspaceBody is the stored form of a workspace; api sees it through [Document].
type workspaceBody struct {
	Tenant   string         `json:"tenant"`
	Resource map[string]any `json:"resource"`
}

// Lookup finds a workspace by its ARM id, in any case. What is missing is named
// as Azure names it: the subscription, the group, or the workspace.
func (s *Service) Lookup(ctx context.Context, id string) (Info, error) {
	w, err := armid.ParseWorkspace(id)
	if err != nil {
		return Info{}, fault.Coded(fault.Invalid, "InvalidResourceId", id, "The %s.", err)
	}
	_, info, err := s.find(ctx, w)
	return info, err
}

// LookupGUID finds a workspace by its guid.
func (s *Service) LookupGUID(ctx context.Context, guid string) (Info, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Workspace})
	if err != nil {
		return Info{}, fmt.Errorf("list workspaces: %w", err)
	}
	for _, rec := range recs {
		_, info, err := read(rec)
		if err != nil {
			return Info{}, err
		}
		if strings.EqualFold(info.GUID, guid) {
			return info, nil
		}
	}
	return Info{}, fault.Coded(fault.NotFound, "WorkspaceNotFound", guid, "There is no workspace with the id '%s'.", guid)
}

func (s *Service) find(ctx context.Context, w armid.ID) (Document, Info, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Workspace, ID: w.Key()})
	if err == nil {
		return read(rec)
	}
	if !errors.Is(err, fault.NotFound) {
		return Document{}, Info{}, fmt.Errorf("get workspace %s: %w", w.Name(), err)
	}
	if _, err := s.group(ctx, w.Subscription, w.Group); err != nil {
		return Document{}, Info{}, err
	}
	return Document{}, Info{}, fault.Coded(fault.NotFound, "ResourceNotFound", w.String(),
		"The Resource '%s/%s' under resource group '%s' was not found.", armid.WorkspaceType, w.Name(), w.Group)
}

func read(rec row.Record) (Document, Info, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return Document{}, Info{}, fmt.Errorf("workspace row is a %T", rec.Row)
	}
	var b workspaceBody
	if err := decode(doc, &b); err != nil {
		return Document{}, Info{}, err
	}
	text, _ := b.Resource["id"].(string)
	id, err := armid.ParseWorkspace(text)
	if err != nil {
		return Document{}, Info{}, fmt.Errorf("decode workspace %s: %w", doc.ID, err)
	}
	props, _ := b.Resource["properties"].(map[string]any)
	guid, _ := props["workspaceId"].(string)
	region, _ := b.Resource["location"].(string)
	return Document{b.Resource, rec.Rev, doc.By}, Info{
		ID: id.String(), Key: id.Key(), Name: id.Name(), GUID: guid, Region: armid.Region(region),
		Subscription: id.Subscription, Group: id.Group, Tenant: b.Tenant,
	}, nil
}

// Get returns a workspace.
func (s *Service) Get(ctx context.Context, p access.Principal, id string) (Document, error) {
	w, err := armid.ParseWorkspace(id)
	if err != nil {
		return Document{}, fault.Coded(fault.Invalid, "InvalidResourceId", id, "The %s.", err)
	}
	if err := may(p, w.String(), armid.WorkspaceType+"/read"); err != nil {
		return Document{}, err
	}
	doc, _, err := s.find(ctx, w)
	return doc, err
}

// List returns the workspaces of a subscription, or of one of its groups (empty: all).
func (s *Service) List(ctx context.Context, p access.Principal, sub, group string) ([]Document, error) {
	q := row.Query{Kind: row.Workspace, Prefix: strings.ToLower(armid.Subscription(sub)) + "/"}
	if group == "" {
		if _, err := s.subscription(ctx, sub); err != nil {
			return nil, err
		}
	} else {
		if _, err := s.group(ctx, sub, group); err != nil {
			return nil, err
		}
		q = row.Query{Kind: row.Workspace, Parent: strings.ToLower(armid.Group(sub, group))}
	}
	recs, err := s.all(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	var docs []Document
	for _, rec := range recs {
		doc, info, err := read(rec)
		if err != nil {
			return nil, err
		}
		if p.May(info.ID) {
			docs = append(docs, doc)
		}
	}
	return docs, nil
}

// Subscriptions returns every subscription that p may see.
func (s *Service) Subscriptions(ctx context.Context, p access.Principal) ([]Document, error) {
	return s.visible(ctx, p, row.Query{Kind: row.Subscription})
}

// Subscription returns one subscription.
func (s *Service) Subscription(ctx context.Context, p access.Principal, sub string) (Document, error) {
	if err := may(p, armid.Subscription(sub), "Microsoft.Resources/subscriptions/read"); err != nil {
		return Document{}, err
	}
	return s.subscription(ctx, sub)
}

// Groups returns the resource groups of a subscription.
func (s *Service) Groups(ctx context.Context, p access.Principal, sub string) ([]Document, error) {
	if _, err := s.subscription(ctx, sub); err != nil {
		return nil, err
	}
	return s.visible(ctx, p, row.Query{Kind: row.ResourceGroup, Parent: strings.ToLower(armid.Subscription(sub))})
}

// Group returns one resource group.
func (s *Service) Group(ctx context.Context, p access.Principal, sub, group string) (Document, error) {
	if err := may(p, armid.Group(sub, group), "Microsoft.Resources/subscriptions/resourceGroups/read"); err != nil {
		return Document{}, err
	}
	return s.group(ctx, sub, group)
}

// visible returns the documents that p may see.
func (s *Service) visible(ctx context.Context, p access.Principal, q row.Query) ([]Document, error) {
	recs, err := s.all(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", q.Kind, err)
	}
	var docs []Document
	for _, rec := range recs {
		doc, err := plain(rec)
		if err != nil {
			return nil, err
		}
		if id, _ := doc.Body["id"].(string); p.May(id) {
			docs = append(docs, doc)
		}
	}
	return docs, nil
}

func (s *Service) subscription(ctx context.Context, sub string) (Document, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.Subscription, ID: strings.ToLower(sub)})
	if errors.Is(err, fault.NotFound) {
		return Document{}, fault.Coded(fault.NotFound, "SubscriptionNotFound", "", "The subscription '%s' could not be found.", sub)
	}
	if err != nil {
		return Document{}, fmt.Errorf("get subscription %s: %w", sub, err)
	}
	return plain(rec)
}

func (s *Service) group(ctx context.Context, sub, group string) (Document, error) {
	if _, err := s.subscription(ctx, sub); err != nil {
		return Document{}, err
	}
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.ResourceGroup, ID: strings.ToLower(armid.Group(sub, group))})
	if errors.Is(err, fault.NotFound) {
		return Document{}, fault.Coded(fault.NotFound, "ResourceGroupNotFound", "", "Resource group '%s' could not be found.", group)
	}
	if err != nil {
		return Document{}, fmt.Errorf("get resource group %s: %w", group, err)
	}
	return plain(rec)
}

func plain(rec row.Record) (Document, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return Document{}, fmt.Errorf("document row is a %T", rec.Row)
	}
	var body map[string]any
	if err := decode(doc, &body); err != nil {
		return Document{}, err
	}
	return Document{body, rec.Rev, doc.By}, nil
}

// all reads every page of an answer: there are few of these resources.
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

func may(p access.Principal, scope, action string) error {
	if p.May(scope) {
		return nil
	}
	return fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s'.", p.Name, p.ID, action, scope)
}
