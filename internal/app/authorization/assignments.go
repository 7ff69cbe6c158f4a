package authorization

import (
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

// assignment is the part of an assignment that is looked at.
type assignment struct {
	ID         string `json:"id"`
	Properties struct {
		Role      string `json:"roleDefinitionId"`
		Principal string `json:"principalId"`
		Condition string `json:"condition"`
	} `json:"properties"`
}

// principalTypes are what a role can be assigned to.
var principalTypes = []string{"User", "Group", "ServicePrincipal", "ForeignGroup", "Device"}

func assignmentKey(scope, name string) row.Key {
	return row.Key{Kind: row.Assignment, ID: armid.Key(scope + "/providers/" + Namespace + "/roleAssignments/" + name)}
}

// PutAssignment gives a role to a principal at a scope. An assignment is never
// changed: the same again is fine, another under its name is refused.
func (s *Service) PutAssignment(ctx context.Context, p access.Principal, scope, name string, body map[string]any) (Document, error) {
	if err := may(p, scope, "roleAssignments/write"); err != nil {
		return Document{}, err
	}
	on, err := s.scope(ctx, scope)
	if err != nil {
		return Document{}, err
	}
	if !armid.IsGUID(name) {
		return Document{}, fault.Coded(fault.Invalid, "InvalidRoleAssignmentId", name, "The role assignment ID '%.64s' is not valid. The role assignment ID must be a GUID.", name)
	}
	props, err := s.assignmentProperties(ctx, p, on, body)
	if err != nil {
		return Document{}, err
	}
	made := map[string]any{"id": on + "/providers/" + Namespace + "/roleAssignments/" + strings.ToLower(name), "name": strings.ToLower(name), "type": Namespace + "/roleAssignments", "properties": props}
	for try := 0; ; try++ {
		have, err := s.conflict(ctx, on, name, props)
		if err != nil || have != nil {
			return Document{Body: have}, err
		}
		doc, err := s.put(ctx, p, assignmentKey(on, name), armid.Key(on), made)
		if !again(err, try) {
			return doc, err
		}
	}
}

// conflict looks for an assignment of that name, or of the same role to the same
// principal. One that says the same under the same name is returned.
func (s *Service) conflict(ctx context.Context, on, name string, props map[string]any) (map[string]any, error) {
	recs, err := s.assigned(ctx)
	if err != nil {
		return nil, err
	}
	for _, rec := range recs {
		if parent, _ := rec.Row.Index(); parent != armid.Key(on) {
			continue
		}
		var a assignment
		if err := decode(rec, &a); err != nil {
			return nil, err
		}
		same := strings.EqualFold(a.Properties.Role, fmt.Sprint(props["roleDefinitionId"])) && strings.EqualFold(a.Properties.Principal, fmt.Sprint(props["principalId"]))
		named := rec.Row.Key() == assignmentKey(on, name)
		switch {
		case named && same:
			var body map[string]any
			return body, decode(rec, &body)
		case named:
			return nil, fault.Coded(fault.Conflict, "RoleAssignmentUpdateNotPermitted", name, "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
		case same:
			return nil, fault.Coded(fault.Conflict, "RoleAssignmentExists", a.ID, "The role assignment already exists. The ID of the existing role assignment is %s.", a.ID[strings.LastIndexByte(a.ID, '/')+1:])
		}
	}
	return nil, nil
}

func (s *Service) assignmentProperties(ctx context.Context, p access.Principal, on string, body map[string]any) (map[string]any, error) {
	given, _ := body["properties"].(map[string]any)
	role, _ := given["roleDefinitionId"].(string)
	guid, err := s.exists(ctx, p, role)
	if err != nil {
		return nil, err
	}
	principal, _ := given["principalId"].(string)
	if !armid.IsGUID(principal) {
		return nil, fault.Coded(fault.Invalid, "InvalidPrincipalId", "properties.principalId", "The Principal ID '%.64s' is not valid. Principal ID must be a GUID.", principal)
	}
	typ, err := s.principalType(ctx, given["principalType"], principal)
	if err != nil {
		return nil, err
	}
	now := s.Now().UTC().Format(time.RFC3339Nano)
	id, _ := armid.Parse(on) // on is an id that is kept
	out := map[string]any{
		"roleDefinitionId": armid.Subscription(id.Subscription) + "/providers/" + Namespace + "/roleDefinitions/" + guid, "principalId": strings.ToLower(principal), "principalType": typ,
		"scope": on, "condition": nil, "conditionVersion": nil, "description": nil, "delegatedManagedIdentityResourceId": nil,
		"createdOn": now, "updatedOn": now, "createdBy": p.ID, "updatedBy": p.ID,
	}
	for _, k := range []string{"condition", "conditionVersion", "description", "delegatedManagedIdentityResourceId"} {
		if text, ok := given[k].(string); ok && text != "" {
			out[k] = text
		}
	}
	return out, nil
}

// principalType is what the request says, or what the directory knows.
func (s *Service) principalType(ctx context.Context, given any, principal string) (string, error) {
	typed, _ := given.(string)
	for _, t := range principalTypes {
		if strings.EqualFold(t, typed) {
			return t, nil
		}
	}
	if typed != "" {
		return "", invalid("properties.principalType", "'%.64s' is not a type of principal: %s.", typed, strings.Join(principalTypes, ", "))
	}
	who, err := s.Directory(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range who {
		if strings.EqualFold(e.ID, principal) {
			return "ServicePrincipal", nil
		}
	}
	return "", fault.Coded(fault.Invalid, "PrincipalNotFound", principal,
		"Principal %s does not exist in the directory of this server. If it is to come later, say what it is: \"principalType\": \"ServicePrincipal\".", principal)
}

// Assignment returns one assignment.
func (s *Service) Assignment(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error) {
	if err := may(p, scope, "roleAssignments/read"); err != nil {
		return nil, err
	}
	return s.get(ctx, assignmentKey(scope, name), fault.Coded(fault.NotFound, "RoleAssignmentNotFound", name, "The role assignment '%.64s' is not found.", name))
}

// DeleteAssignment removes an assignment and returns it; nil: there was none.
func (s *Service) DeleteAssignment(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error) {
	if err := may(p, scope, "roleAssignments/delete"); err != nil {
		return nil, err
	}
	return s.drop(ctx, p, assignmentKey(scope, name))
}

// assigned returns every assignment, and drops those of clusters that are gone:
// control removes a cluster and knows of no assignments, and another cluster of
// its name must not come into them.
func (s *Service) assigned(ctx context.Context) ([]row.Record, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Assignment})
	if err != nil {
		return nil, err
	}
	var kept []row.Record
	for _, rec := range recs {
		doc, ok := rec.Row.(row.Document)
		if id, err := armid.Parse(doc.Parent); !ok || err != nil || !id.Is(armid.ComputeType) {
			kept = append(kept, rec)
			continue
		}
		on, err := s.Store.Get(ctx, row.Key{Kind: row.Compute, ID: doc.Parent})
		if err != nil && !errors.Is(err, fault.NotFound) {
			return nil, fmt.Errorf("get %s: %w", doc.Parent, err)
		}
		if made, ok := on.Row.(row.Document); ok && !made.Created.After(doc.Created) {
			kept = append(kept, rec)
			continue
		}
		if _, err := s.Store.Commit(ctx, row.Drop(doc.Key())); err != nil {
			return nil, fmt.Errorf("drop %s: %w", doc.ID, err)
		}
	}
	return kept, nil
}

// Wanted picks assignments.
type Wanted struct {
	Principal string // object id; empty: any
	AtScope   bool   // at the scope and above it, not below
}

// Assignments returns the assignments that hold at a scope or below it.
func (s *Service) Assignments(ctx context.Context, p access.Principal, scope string, want Wanted) ([]map[string]any, error) {
	if err := may(p, scope, "roleAssignments/read"); err != nil {
		return nil, err
	}
	on, err := s.scope(ctx, scope)
	if err != nil {
		return nil, err
	}
	recs, err := s.assigned(ctx)
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, rec := range recs {
		var a assignment
		if err := decode(rec, &a); err != nil {
			return nil, err
		}
		parent, _ := rec.Row.Index()
		if !under(armid.Key(on), parent) && (want.AtScope || !under(parent, armid.Key(on))) {
			continue
		}
		if want.Principal != "" && !strings.EqualFold(want.Principal, a.Properties.Principal) {
			continue
		}
		var body map[string]any
		if err := json.Unmarshal(rec.Row.(row.Document).Body, &body); err != nil {
			return nil, fmt.Errorf("decode %s: %w", a.ID, err)
		}
		list = append(list, body)
	}
	return list, nil
}
