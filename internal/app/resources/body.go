package resources

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// canonical checks a body and returns the resource as it is kept.
func (s *Service) canonical(ctx context.Context, p access.Principal, id armid.ID, body, have map[string]any) (map[string]any, error) {
	out := maps.Clone(body)
	if out == nil {
		out = map[string]any{}
	}
	for _, k := range readOnly {
		delete(out, k)
	}
	for k, v := range out { // null is as good as absent
		if v == nil {
			delete(out, k)
		}
	}
	out["id"], out["name"], out["type"] = id.String(), id.Name(), id.Type()
	if err := location(id, out, have); err != nil {
		return nil, err
	}
	if id.Parent().Provider == "" || out["tags"] != nil {
		tags, err := workspaces.CheckTags(out["tags"])
		if err != nil {
			return nil, err
		}
		out["tags"] = tags
	}
	tenant, err := s.Groups.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	if given, err := object(out, "identity"); err != nil {
		return nil, err
	} else if given != nil {
		old, _ := have["identity"].(map[string]any)
		if out["identity"], err = workspaces.Identity(given, old, tenant, s.NewID); err != nil {
			return nil, err
		}
	}
	if err := properties(id, out, tenant); err != nil {
		return nil, err
	}
	now := s.Now().UTC().Format(time.RFC3339Nano)
	by := map[bool]string{true: "User", false: "Application"}[p.Kind == access.User]
	data := map[string]any{"createdAt": now, "createdBy": p.ID, "createdByType": by}
	if old, ok := have["systemData"].(map[string]any); ok {
		data = maps.Clone(old)
	}
	data["lastModifiedAt"], data["lastModifiedBy"], data["lastModifiedByType"] = now, p.ID, by
	out["systemData"] = data
	return out, nil
}

// location is needed by what lies in a group itself; what lies in another resource has none.
func location(id armid.ID, out, have map[string]any) error {
	given, ok := out["location"].(string)
	if out["location"] != nil && !ok {
		return invalid("location", "The property 'location' must be a string.")
	}
	was, _ := have["location"].(string)
	if given == "" {
		given = was
	}
	typ := strings.ToLower(id.Type())
	switch {
	case given == "" && (id.Parent().Provider != "" || slices.Contains(global, typ)):
		delete(out, "location")
		return nil
	case given == "":
		return fault.Coded(fault.Invalid, "LocationRequired", "location", "The location property is required for this definition.")
	case strings.EqualFold(given, "global") && (id.Parent().Provider != "" || slices.Contains(global, typ)):
		out["location"] = "global"
		return nil
	}
	region, err := workspaces.CheckRegion(given, id.Type())
	if err != nil {
		return err
	}
	if was != "" && was != region {
		return fault.Coded(fault.Conflict, "InvalidResourceLocation", id.Name(),
			"The resource '%s' already exists in location '%s'. A resource with the same name cannot be created in location '%.64s'. Please select a new resource name.", id.Name(), was, given)
	}
	out["location"] = region
	return nil
}

// properties checks what means something, and adds what the service knows.
func properties(id armid.ID, out map[string]any, tenant string) error {
	given, err := object(out, "properties")
	if err != nil {
		return err
	}
	props := maps.Clone(given)
	if props == nil {
		props = map[string]any{}
	}
	out["properties"] = props
	switch typ := id.Type(); typ {
	case "Microsoft.ManagedIdentity/userAssignedIdentities":
		principal, client := workspaces.UserIdentity(id.String())
		out["properties"] = map[string]any{"tenantId": tenant, "principalId": principal, "clientId": client}
		return nil
	case "Microsoft.ManagedIdentity/" + federatedType:
		return federated(props)
	case "Microsoft.Network/virtualNetworks":
		if space, err := object(props, "addressSpace"); err != nil || space == nil {
			return invalid("properties.addressSpace", "A virtual network needs an address space: {\"addressPrefixes\": [\"10.0.0.0/16\"]}.")
		}
	}
	props["provisioningState"] = "Succeeded"
	return nil
}

// federated checks a federated credential, as the specification has it.
func federated(props map[string]any) error {
	issuer, _ := props["issuer"].(string)
	subject, _ := props["subject"].(string)
	audiences, _ := props["audiences"].([]any)
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "":
		return invalid("properties.issuer", "The property 'issuer' must be an https URL.")
	case subject == "":
		return invalid("properties.subject", "The property 'subject' is required.")
	case len(audiences) == 0:
		return invalid("properties.audiences", "The property 'audiences' must have an entry, such as api://AzureADTokenExchange.")
	}
	for _, a := range audiences {
		if _, ok := a.(string); !ok {
			return invalid("properties.audiences", "The property 'audiences' must be a list of strings.")
		}
	}
	return nil
}

// children takes the resources out of a list in the properties of next, and
// returns the changes that keep them as resources of their own.
func (s *Service) children(ctx context.Context, p access.Principal, id armid.ID, next map[string]any) ([]row.Change, error) {
	field := inline[strings.ToLower(id.Type())]
	props, _ := next["properties"].(map[string]any)
	listed, ok := props[field]
	if field == "" || !ok || listed == nil {
		return nil, nil
	}
	delete(props, field)
	entries, ok := listed.([]any)
	if !ok {
		return nil, invalid("properties."+field, "The property '%s' must be a list.", field)
	}
	have, err := s.all(ctx, row.Query{Kind: row.Resource, Prefix: id.Key() + "/" + strings.ToLower(field) + "/"})
	if err != nil {
		return nil, fmt.Errorf("list %s of %s: %w", field, id.Name(), err)
	}
	var changes []row.Change
	kept := map[string]bool{}
	for i, e := range entries {
		entry, _ := e.(map[string]any)
		name, _ := entry["name"].(string)
		if name == "" {
			return nil, invalid(fmt.Sprintf("properties.%s[%d].name", field, i), "Each entry of '%s' needs a name.", field)
		}
		child, err := armid.Parse(id.Child(field, name).String())
		if err != nil {
			return nil, invalid(fmt.Sprintf("properties.%s[%d].name", field, i), "The name '%.64s' is not valid.", name)
		}
		body, err := s.canonical(ctx, p, child, entry, nil)
		if err != nil {
			return nil, err
		}
		doc, err := s.row(p, child, body)
		if err != nil {
			return nil, err
		}
		kept[doc.ID] = true
		changes = append(changes, row.Put(doc))
	}
	for _, rec := range have {
		if k := rec.Row.Key(); !kept[k.ID] {
			changes = append(changes, row.Drop(k))
		}
	}
	return changes, nil
}

// show puts a resource together with those that are shown inside it.
func (s *Service) show(ctx context.Context, body map[string]any, rev int64) (Document, error) {
	id, _ := body["id"].(string)
	typ, _ := body["type"].(string)
	field := inline[strings.ToLower(typ)]
	if field == "" {
		return Document{Body: body, Rev: rev}, nil
	}
	recs, err := s.all(ctx, row.Query{Kind: row.Resource, Parent: armid.Key(id), Prefix: armid.Key(id) + "/" + strings.ToLower(field) + "/"})
	if err != nil {
		return Document{}, fmt.Errorf("list %s of %s: %w", field, id, err)
	}
	list := []any{}
	for _, rec := range recs {
		child, err := decode(rec)
		if err != nil {
			return Document{}, err
		}
		delete(child, "systemData")
		list = append(list, child)
	}
	out := maps.Clone(body)
	props, _ := body["properties"].(map[string]any)
	shown := maps.Clone(props)
	shown[field] = list
	out["properties"] = shown
	return Document{Body: out, Rev: rev}, nil
}

// object returns an object inside m, nil if there is none or it is null.
func object(m map[string]any, key string) (map[string]any, error) {
	switch v := m[key].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	}
	return nil, invalid(key, "The property '%s' must be an object.", key)
}

func invalid(target, format string, args ...any) *fault.Error {
	return fault.Coded(fault.Invalid, "InvalidPropertyValue", target, format, args...)
}
