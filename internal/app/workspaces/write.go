package workspaces

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

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/merge"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Request is a PUT or PATCH of a workspace.
type Request struct {
	ID   string         // ARM id, as typed
	Body map[string]any // JSON; numbers as json.Number
	// Match, if set, is asked before anything is written whether the workspace may
	// be changed as it is (If-Match and If-None-Match).
	Match func(exists bool, rev int64) error
}

// Result is what became of a write. The operation is over already.
type Result struct {
	Document
	Operation operation.Operation
}

// stamp is how Azure ML writes the time of a workspace's creation.
const stamp = "2006-01-02T15:04:05.0000000+00:00"

// readOnly are properties that the service sets: what a client read is sent back
// by its updates, and counts for nothing.
var readOnly = []string{
	"workspaceId", "provisioningState", "creationTime", "discoveryUrl", "mlFlowTrackingUri", "tenantId", "isPrivateLinkEnabled", "privateLinkCount",
	"serviceProvisionedResourceGroup", "notebookInfo", "privateEndpointConnections", "storageHnsEnabled", "studioEndpoint", "agentsEndpointUri", "workspaceHubConfig",
}

// references are properties that name another resource, by its type. It need not
// be there: a workspace's own storage is the server's.
var references = map[string]string{
	"storageAccount": "Microsoft.Storage/storageAccounts", "keyVault": "Microsoft.KeyVault/vaults",
	"applicationInsights": "Microsoft.Insights/components", "containerRegistry": "Microsoft.ContainerRegistry/registries",
}

// fixed are properties that an existing workspace keeps.
var fixed = []string{"storageAccount", "keyVault", "hbiWorkspace", "encryption"}

// Put makes a workspace, or replaces what can be changed of the one of that name.
func (s *Service) Put(ctx context.Context, p access.Principal, req Request) (Result, error) {
	return s.write(ctx, p, req, func(have map[string]any) map[string]any {
		body := maps.Clone(req.Body)
		if have == nil {
			return body
		}
		if body["identity"] == nil { // Azure keeps it: a workspace is never without
			body["identity"] = have["identity"]
		}
		for _, k := range []string{"sku", "kind"} {
			if body[k] == nil {
				body[k] = have[k]
			}
		}
		return body
	})
}

// Patch changes the workspace of that name by a merge patch.
func (s *Service) Patch(ctx context.Context, p access.Principal, req Request) (Result, error) {
	return s.write(ctx, p, req, func(have map[string]any) map[string]any {
		if have == nil {
			return nil
		}
		patch := maps.Clone(req.Body)
		if tags, ok := patch["tags"]; ok { // replaced whole, as Azure does
			have = maps.Clone(have)
			have["tags"] = tags
			delete(patch, "tags")
		}
		return merge.Patch(have, patch)
	})
}

// write does what Put and Patch share: who may, what is there, and another try
// when somebody else was first. want makes of what exists (nil: nothing does)
// what there should be (nil: it must exist).
func (s *Service) write(ctx context.Context, p access.Principal, req Request, want func(map[string]any) map[string]any) (Result, error) {
	id, err := armid.ParseWorkspace(req.ID)
	if err != nil {
		return Result{}, fault.Coded(fault.Invalid, "InvalidResourceId", req.ID, "The %s.", err)
	}
	if err := mayChange(p, id.String(), armid.WorkspaceType+"/write"); err != nil {
		return Result{}, err
	}
	for try := 0; ; try++ {
		res, err := s.writeOnce(ctx, p, id, req, want)
		if !again(err, try) || code(err) != "" {
			return res, err
		}
	}
}

func (s *Service) writeOnce(ctx context.Context, p access.Principal, id armid.ID, req Request, want func(map[string]any) map[string]any) (Result, error) {
	have, info, err := s.find(ctx, id)
	exists := err == nil
	if err != nil && code(err) != "ResourceNotFound" {
		return Result{}, err
	}
	if req.Match != nil {
		if err := req.Match(exists, have.Rev); err != nil {
			return Result{}, err
		}
	}
	body := want(have.Body)
	switch {
	case body == nil:
		return Result{}, err
	case exists && state(have.Body) == string(operation.Deleting):
		return Result{}, beingDeleted("workspace", info.Name)
	case !exists:
		if err := armid.CheckWorkspace(id.Name()); err != nil {
			return Result{}, fault.Coded(fault.Invalid, "InvalidResourceName", id.Name(), "%s.", sentence(err))
		}
	}
	next, group, err := s.canonical(ctx, p, id, body, have.Body)
	if err != nil {
		return Result{}, err
	}
	return s.save(ctx, p, id, next, have, exists, group)
}

func (s *Service) save(ctx context.Context, p access.Principal, id armid.ID, next map[string]any, have Document, exists bool, group int64) (Result, error) {
	tenant, err := s.Tenant(ctx)
	if err != nil {
		return Result{}, err
	}
	raw, err := json.Marshal(workspaceBody{tenant, next})
	if err != nil {
		return Result{}, fmt.Errorf("encode workspace %s: %w", id.Name(), err)
	}
	now := s.Now()
	doc := row.Document{Kind: row.Workspace, ID: id.Key(), Parent: id.Parent().Key(), Body: raw, Created: now, Modified: now, By: p.ID}
	region, _ := next["location"].(string)
	op := operation.Operation{ID: strings.ToLower(s.NewID()), Target: id.Key(), Scope: id.Subscription, Location: region, Status: operation.Succeeded, Started: now, Ended: now}
	changes := []row.Change{row.Create(op)}
	if exists {
		rec, err := s.Store.Get(ctx, doc.Key())
		if err != nil {
			return Result{}, fmt.Errorf("get workspace %s: %w", id.Name(), err)
		}
		if old, ok := rec.Row.(row.Document); ok {
			doc.Created = old.Created
		}
		changes = append(changes, row.Update(doc, have.Rev), s.event(p, doc.ID, "updated", "Asked for by "+p.Name+"."))
	} else {
		// As the group was when it was looked at: one that is being deleted would
		// leave the workspace behind, in no group.
		changes = append(changes, row.Same(row.Key{Kind: row.ResourceGroup, ID: doc.Parent}, group), row.Create(doc),
			row.Put(AccountOwner(account(next), doc.Key(), now)), s.event(p, doc.ID, "created", "Asked for by "+p.Name+"."))
	}
	rev, err := s.Store.Commit(ctx, changes...)
	if err != nil {
		return Result{}, fmt.Errorf("keep workspace %s: %w", id.Name(), err)
	}
	return Result{Document{next, rev, p.ID}, op}, nil
}

// account is the name of a workspace's own storage account.
func account(resource map[string]any) string {
	props, _ := resource["properties"].(map[string]any)
	guid, _ := props["workspaceId"].(string)
	return armid.Account(guid)
}

// canonical checks a body and returns the resource as it is kept, and
// the revision of its group.
func (s *Service) canonical(ctx context.Context, p access.Principal, id armid.ID, body, have map[string]any) (_ map[string]any, groupRev int64, err error) {
	group, err := s.group(ctx, id.Subscription, id.Group)
	if err != nil {
		return nil, 0, err
	}
	if state(group.Body) == string(operation.Deleting) {
		return nil, 0, beingDeleted("resource group", id.Group)
	}
	parent, _ := group.Body["id"].(string) // as the group was typed first
	region, _ := have["location"].(string)
	out := map[string]any{"id": parent + "/providers/" + armid.WorkspaceType + "/" + id.Name(), "name": id.Name(), "type": armid.WorkspaceType}
	if have != nil {
		out["id"], out["name"] = have["id"], have["name"]
	}
	if out["location"], err = place(body["location"], region, armid.WorkspaceType, id.Name()); err != nil {
		return nil, 0, err
	}
	if out["tags"], err = CheckTags(body["tags"]); err != nil {
		return nil, 0, err
	}
	if out["kind"], err = kindOf(body["kind"]); err != nil {
		return nil, 0, err
	}
	if out["sku"], err = skuOf(body); err != nil {
		return nil, 0, err
	}
	if out["identity"], err = s.identity(ctx, body, have); err != nil {
		return nil, 0, err
	}
	if out["properties"], err = s.properties(ctx, id, body, have); err != nil {
		return nil, 0, err
	}
	out["systemData"] = s.systemData(p, have)
	return out, group.Rev, nil
}

func kindOf(v any) (string, error) {
	text, ok := v.(string)
	switch {
	case v == nil, text == "", strings.EqualFold(text, "Default"):
		return "Default", nil
	case !ok:
		return "", invalid("kind", "The property 'kind' must be a string.")
	}
	for _, other := range []string{"Hub", "Project", "FeatureStore"} {
		if strings.EqualFold(text, other) {
			return "", fault.Coded(fault.Unsupported, "NotImplemented", "kind", "Workspaces of kind %s are not part of Ebb; those of kind Default are.", other)
		}
	}
	return "", invalid("kind", "'%.64s' is not a kind of workspace: Default.", text)
}

func skuOf(body map[string]any) (map[string]any, error) {
	given, err := object(body, "sku")
	if err != nil {
		return nil, err
	}
	sku := map[string]any{"name": "Basic", "tier": "Basic"}
	for k, v := range given {
		if s, ok := v.(string); (k == "name" || k == "tier") && (!ok || s == "") {
			return nil, invalid("sku."+k, "The property 'sku.%s' must be a string.", k)
		}
		sku[k] = v
	}
	return sku, nil
}

// identity is the workspace's own principal, unless another is asked for.
func (s *Service) identity(ctx context.Context, body, have map[string]any) (map[string]any, error) {
	given, err := object(body, "identity")
	if err != nil {
		return nil, err
	}
	if given == nil {
		given = map[string]any{"type": "SystemAssigned"}
	}
	tenant, err := s.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	old, _ := have["identity"].(map[string]any)
	return Identity(given, old, tenant, s.NewID)
}

// Identity checks the identity of a resource and says who it is. The principal
// that the resource has of its own stays the same for as long as it has one.
func Identity(given, old map[string]any, tenant string, newID func() string) (map[string]any, error) {
	typed, ok := given["type"].(string)
	if given["type"] != nil && !ok {
		return nil, invalid("identity.type", "The property 'identity.type' must be a string.")
	}
	flat := strings.Split(strings.ToLower(strings.ReplaceAll(typed, " ", "")), ",")
	system, user := slices.Contains(flat, "systemassigned"), slices.Contains(flat, "userassigned")
	if len(flat) == 1 && flat[0] == "none" {
		return map[string]any{"type": "None"}, nil
	}
	if !system && !user || len(flat) > 2 {
		return nil, invalid("identity.type", "'%.64s' is not a type of identity: SystemAssigned, UserAssigned, 'SystemAssigned,UserAssigned' or None.", typed)
	}
	out := map[string]any{}
	var names []string
	if system {
		names = append(names, "SystemAssigned")
		out["principalId"], out["tenantId"] = newID(), tenant
		if was, ok := old["principalId"].(string); ok {
			out["principalId"] = was
		}
	}
	if user {
		names = append(names, "UserAssigned")
		users, err := userIdentities(given)
		if err != nil {
			return nil, err
		}
		out["userAssignedIdentities"] = users
	}
	out["type"] = strings.Join(names, ",")
	return out, nil
}

func userIdentities(given map[string]any) (map[string]any, error) {
	const typ = "Microsoft.ManagedIdentity/userAssignedIdentities"
	users, err := object(given, "userAssignedIdentities")
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for id, v := range users {
		parsed, err := armid.Parse(id)
		if err != nil || !parsed.Is(typ) || parsed.Group == "" {
			return nil, invalid("identity.userAssignedIdentities", "'%.300s' is not the id of a user-assigned identity: /subscriptions/{id}/resourceGroups/{group}/providers/%s/{name}.", id, typ)
		}
		if v != nil {
			principal, client := UserIdentity(id)
			out[id] = map[string]any{"principalId": principal, "clientId": client}
		}
	}
	if len(out) == 0 {
		return nil, invalid("identity.userAssignedIdentities", "The identity type UserAssigned needs at least one user-assigned identity, by its resource id.")
	}
	return out, nil
}

// properties checks the properties. Those that it does not know are kept as they came.
func (s *Service) properties(ctx context.Context, id armid.ID, body, have map[string]any) (map[string]any, error) {
	given, err := object(body, "properties")
	if err != nil {
		return nil, err
	}
	old, _ := have["properties"].(map[string]any)
	out := maps.Clone(given)
	if out == nil {
		out = map[string]any{}
	}
	for _, k := range readOnly {
		delete(out, k)
	}
	for _, k := range fixed {
		if out[k] == nil && old[k] != nil {
			out[k] = old[k]
		}
	}
	if err := checkProperties(out); err != nil {
		return nil, err
	}
	guid, created := s.NewID(), s.Now().UTC().Format(stamp)
	if old != nil {
		guid, _ = old["workspaceId"].(string)
		created, _ = old["creationTime"].(string)
	}
	for k := range references {
		if out[k] == nil {
			out[k] = nil // shown as null: clients ask for the keys
		}
	}
	if out["storageAccount"] == nil {
		out["storageAccount"] = armid.Group(id.Subscription, id.Group) + "/providers/" + references["storageAccount"] + "/" + armid.Account(guid)
	}
	tenant, err := s.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	maps.Copy(out, map[string]any{
		"workspaceId": guid, "creationTime": created, "provisioningState": string(operation.Succeeded), "tenantId": tenant,
		"storageHnsEnabled": false, "isPrivateLinkEnabled": false,
	})
	if old != nil {
		return out, unchanged(id.Name(), old, out)
	}
	return out, nil
}

// checkProperties checks the words that mean something, and brings them into Azure's spelling.
func checkProperties(out map[string]any) error {
	for _, k := range []string{"friendlyName", "description", "imageBuildCompute", "primaryUserAssignedIdentity"} {
		if v, ok := out[k]; ok && v == nil {
			delete(out, k)
		} else if _, isText := v.(string); ok && !isText {
			return invalid("properties."+k, "The property '%s' must be a string.", k)
		}
	}
	for k, typ := range references {
		if err := checkReference(out, k, typ); err != nil {
			return err
		}
	}
	for _, k := range []string{"hbiWorkspace", "v1LegacyMode"} {
		switch word, _ := out[k].(string); {
		case out[k] == nil, strings.EqualFold(word, "false"): // SDK v2's own template writes a word
			out[k] = false
		case strings.EqualFold(word, "true"):
			out[k] = true
		}
		if _, ok := out[k].(bool); !ok {
			return invalid("properties."+k, "The property '%s' must be true or false.", k)
		}
	}
	access, _ := out["publicNetworkAccess"].(string)
	switch {
	case out["publicNetworkAccess"] == nil, strings.EqualFold(access, "Enabled"):
		out["publicNetworkAccess"] = "Enabled"
	case strings.EqualFold(access, "Disabled"):
		out["publicNetworkAccess"] = "Disabled"
	default:
		return invalid("properties.publicNetworkAccess", "The property 'publicNetworkAccess' must be Enabled or Disabled.")
	}
	keys, err := object(out, "encryption")
	if err != nil {
		return err
	}
	if status, _ := keys["status"].(string); strings.EqualFold(status, "Enabled") {
		return fault.Coded(fault.Unsupported, "NotImplemented", "properties.encryption", "Encryption with keys of your own is not part of Ebb.")
	}
	return nil
}

// checkReference checks a property that names another resource. An empty one names none.
func checkReference(out map[string]any, key, typ string) error {
	switch v := out[key].(type) {
	case nil:
	case string:
		if v == "" {
			out[key] = nil
			return nil
		}
		id, err := armid.Parse(v)
		if err != nil || !id.Is(typ) || id.Group == "" {
			return invalid("properties."+key, "'%.300s' is not the id of a resource of type %s: /subscriptions/{id}/resourceGroups/{group}/providers/%s/{name}.", v, typ, typ)
		}
	default:
		return invalid("properties."+key, "The property '%s' must be the id of a resource of type %s.", key, typ)
	}
	return nil
}

// unchanged refuses other values of what an existing workspace keeps.
func unchanged(name string, old, next map[string]any) error {
	for _, k := range fixed {
		a, err := json.Marshal(old[k])
		if err != nil {
			return fmt.Errorf("encode %s: %w", k, err)
		}
		b, err := json.Marshal(next[k])
		if err != nil {
			return fmt.Errorf("encode %s: %w", k, err)
		}
		was, _ := old[k].(string)
		is, _ := next[k].(string)
		if !bytes.Equal(a, b) && (was == "" || !armid.Equal(was, is)) {
			return fault.Coded(fault.Invalid, "PropertyChangeNotAllowed", "properties."+k, "The property '%s' of the existing workspace '%s' cannot be changed: it is %.300s.", k, name, a)
		}
	}
	return nil
}

func (s *Service) systemData(p access.Principal, have map[string]any) map[string]any {
	now := s.Now().UTC().Format(time.RFC3339Nano)
	data := map[string]any{"createdAt": now, "createdBy": p.ID, "createdByType": creator(p)}
	if old, ok := have["systemData"].(map[string]any); ok {
		data = maps.Clone(old)
	}
	data["lastModifiedAt"], data["lastModifiedBy"], data["lastModifiedByType"] = now, p.ID, creator(p)
	return data
}

// Delete marks a workspace as going: its clusters go first, and their jobs are
// stopped ([Service.Run]). It returns no operation where there is no such workspace.
func (s *Service) Delete(ctx context.Context, p access.Principal, req Request) (operation.Operation, error) {
	id, err := armid.ParseWorkspace(req.ID)
	if err != nil {
		return operation.Operation{}, fault.Coded(fault.Invalid, "InvalidResourceId", req.ID, "The %s.", err)
	}
	if err := mayChange(p, id.String(), armid.WorkspaceType+"/delete"); err != nil {
		return operation.Operation{}, err
	}
	if req.Match != nil {
		doc, _, err := s.find(ctx, id)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return operation.Operation{}, err
		}
		if err := req.Match(err == nil, doc.Rev); err != nil {
			return operation.Operation{}, err
		}
	}
	return s.leave(ctx, p, row.Key{Kind: row.Workspace, ID: id.Key()}, id.Subscription)
}
