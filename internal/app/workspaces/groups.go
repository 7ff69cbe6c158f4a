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
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	groupType   = "Microsoft.Resources/resourceGroups"
	groupAction = "Microsoft.Resources/subscriptions/resourceGroups/"
)

// tries is how often a write is made again when somebody else was first.
const tries = 16

func again(err error, try int) bool { return errors.Is(err, fault.Precondition) && try < tries }

// PutGroup makes a resource group, or changes the one of that name.
func (s *Service) PutGroup(ctx context.Context, p access.Principal, sub, name string, body map[string]any) (doc Document, created bool, err error) {
	if err := mayChange(p, armid.Group(sub, name), groupAction+"write"); err != nil {
		return Document{}, false, err
	}
	if err := armid.CheckGroup(name); err != nil {
		return Document{}, false, fault.Coded(fault.Invalid, "InvalidResourceGroupName", name, "%s.", sentence(err))
	}
	for try := 0; ; try++ {
		doc, created, err = s.putGroup(ctx, p, sub, name, body)
		if !again(err, try) {
			return doc, created, err
		}
	}
}

func (s *Service) putGroup(ctx context.Context, p access.Principal, sub, name string, body map[string]any) (Document, bool, error) {
	have, doc, err := s.groupRow(ctx, sub, name)
	created := err != nil
	if code(err) == "ResourceGroupNotFound" {
		if have, err = s.newGroup(ctx, sub, name); err != nil {
			return Document{}, false, err
		}
		doc = row.Document{Kind: row.ResourceGroup, ID: strings.ToLower(armid.Group(sub, name)), Parent: strings.ToLower(armid.Subscription(sub)), Created: s.Now()}
	} else if err != nil {
		return Document{}, false, err
	}
	was, _ := have.Body["location"].(string)
	location, err := place(body["location"], was, groupType, name)
	if err != nil {
		return Document{}, false, err
	}
	tags, err := CheckTags(body["tags"])
	if err != nil {
		return Document{}, false, err
	}
	have.Body["location"], have.Body["tags"] = location, tags
	if m, ok := body["managedBy"].(string); ok && m != "" {
		have.Body["managedBy"] = m
	}
	out, err := s.saveGroup(ctx, p, have, doc, created)
	return out, created, err
}

// newGroup is the body of a group that is not there yet, below the name of its
// subscription as that was typed first.
func (s *Service) newGroup(ctx context.Context, sub, name string) (Document, error) {
	doc, err := s.subscription(ctx, sub)
	if err != nil {
		return Document{}, err
	}
	id, _ := doc.Body["subscriptionId"].(string)
	return Document{Body: map[string]any{
		"id": armid.Group(id, name), "name": name, "type": groupType, "properties": map[string]any{"provisioningState": string(operation.Succeeded)},
	}}, nil
}

// PatchGroup changes the tags of a resource group, and nothing else.
func (s *Service) PatchGroup(ctx context.Context, p access.Principal, sub, name string, body map[string]any) (Document, error) {
	if err := mayChange(p, armid.Group(sub, name), groupAction+"write"); err != nil {
		return Document{}, err
	}
	for try := 0; ; try++ {
		have, doc, err := s.groupRow(ctx, sub, name)
		if err != nil {
			return Document{}, err
		}
		if given, ok := body["tags"]; ok {
			if have.Body["tags"], err = CheckTags(given); err != nil {
				return Document{}, err
			}
		}
		if n, ok := body["name"].(string); ok && !strings.EqualFold(n, name) {
			return Document{}, fault.Coded(fault.Invalid, "InvalidResourceGroupName", name, "The name of a resource group cannot be changed.")
		}
		out, err := s.saveGroup(ctx, p, have, doc, false)
		if !again(err, try) {
			return out, err
		}
	}
}

// groupRow reads a group that is not on its way out, with the row it is kept in.
func (s *Service) groupRow(ctx context.Context, sub, name string) (Document, row.Document, error) {
	have, err := s.group(ctx, sub, name)
	if err != nil {
		return Document{}, row.Document{}, err
	}
	if state(have.Body) == string(operation.Deleting) {
		return Document{}, row.Document{}, beingDeleted("resource group", name)
	}
	rec, err := s.Store.Get(ctx, row.Key{Kind: row.ResourceGroup, ID: strings.ToLower(armid.Group(sub, name))})
	if err != nil {
		return Document{}, row.Document{}, fmt.Errorf("get resource group %s: %w", name, err)
	}
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return Document{}, row.Document{}, fmt.Errorf("resource group row is a %T", rec.Row)
	}
	have, err = plain(rec)
	return have, doc, err
}

func (s *Service) saveGroup(ctx context.Context, p access.Principal, have Document, doc row.Document, created bool) (Document, error) {
	raw, err := json.Marshal(have.Body)
	if err != nil {
		return Document{}, fmt.Errorf("encode %s: %w", doc.ID, err)
	}
	doc.Body, doc.Modified, doc.By = raw, s.Now(), p.ID
	change, what := row.Update(doc, have.Rev), "updated"
	if created {
		change, what = row.Create(doc), "created"
	}
	rev, err := s.Store.Commit(ctx, change, s.event(p, doc.ID, what, "Asked for by "+p.Name+"."))
	if err != nil {
		return Document{}, fmt.Errorf("keep %s: %w", doc.ID, err)
	}
	return Document{have.Body, rev, p.ID}, nil
}

// DeleteGroup marks a group as going: what lies in it goes first ([Service.Run]).
// It returns no operation where there is no such group.
func (s *Service) DeleteGroup(ctx context.Context, p access.Principal, sub, name string) (operation.Operation, error) {
	if err := mayChange(p, armid.Group(sub, name), groupAction+"delete"); err != nil {
		return operation.Operation{}, err
	}
	return s.leave(ctx, p, row.Key{Kind: row.ResourceGroup, ID: strings.ToLower(armid.Group(sub, name))}, sub)
}

// event is one line of the activity log.
func (s *Service) event(p access.Principal, id, what, why string) row.Change {
	now := s.Now()
	body, err := json.Marshal(map[string]string{"who": p.ID, "name": p.Name, "what": what, "when": now.Format(time.RFC3339Nano), "why": why})
	if err != nil {
		panic("workspaces: an event of strings cannot fail to encode: " + err.Error())
	}
	return row.Create(row.Document{
		Kind: row.Event, ID: s.NewID(), Parent: strings.ToLower(id), Sort: row.SortTime(now), Body: body, Created: now, Modified: now, By: p.ID,
	})
}

// state is properties.provisioningState of a resource.
func state(resource map[string]any) string {
	props, _ := resource["properties"].(map[string]any)
	text, _ := props["provisioningState"].(string)
	return text
}

func code(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Code
	}
	return ""
}

func beingDeleted(what, name string) error {
	c := "Conflict"
	if what == "resource group" {
		c = "ResourceGroupBeingDeleted"
	}
	return fault.Coded(fault.Conflict, c, name, "The %s '%s' is being deleted and cannot be changed. Its name is free once a GET of it answers 404.", what, name)
}
