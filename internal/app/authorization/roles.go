package authorization

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// permissions is what a role lets its holders do.
type permissions struct {
	actions, notActions, dataActions []string
}

// builtin is a role that every tenant has, with its id in Azure.
type builtin struct {
	id, name, words string
	permissions
}

const learning = "Microsoft.MachineLearningServices/"

// builtins are Azure's own roles around machine learning. Their ids are in templates
// and scripts all over the world, and are those of
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles.
var builtins = []builtin{
	{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.", permissions{actions: []string{"*"}}},
	{"b24988ac-6180-42a0-ab88-20f7382dd24c", "Contributor", "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC.",
		permissions{actions: []string{"*"}, notActions: []string{"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write", "Microsoft.Authorization/elevateAccess/Action"}}},
	{"acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", "View all resources, but does not allow you to make any changes.", permissions{actions: []string{"*/read"}}},
	{"18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", "User Access Administrator", "Lets you manage user access to Azure resources.", permissions{actions: []string{"*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"}}},
	{"f58310d9-a9f6-439a-9e8d-f62e7b41a168", "Role Based Access Control Administrator", "Manage access to Azure resources by assigning roles using Azure RBAC.",
		permissions{actions: []string{"Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete", "*/read", "Microsoft.Support/*"}}},
	{"f6c7c914-8db3-469d-8ca1-694a8f32e121", "AzureML Data Scientist", "Can perform all actions within an Azure Machine Learning workspace, except for creating or deleting compute resources and modifying the workspace itself.",
		permissions{actions: []string{learning + "workspaces/*/read", learning + "workspaces/*/action", learning + "workspaces/*/delete", learning + "workspaces/*/write"},
			notActions: []string{learning + "workspaces/delete", learning + "workspaces/write", learning + "workspaces/computes/*/write", learning + "workspaces/computes/*/delete",
				learning + "workspaces/computes/listKeys/action", learning + "workspaces/listKeys/action", learning + "workspaces/hubs/write", learning + "workspaces/hubs/delete", learning + "workspaces/featurestores/write", learning + "workspaces/featurestores/delete"}}},
	{"e503ece1-11d0-4e8e-8e2c-7a6c3bf38815", "AzureML Compute Operator", "Can access and perform CRUD operations on Machine Learning Services managed compute resources (including Notebook VMs).",
		permissions{actions: []string{learning + "workspaces/computes/*", learning + "workspaces/notebooks/vm/*"}}},
	{"635dd51f-9968-44d3-b7fb-6d9a6bd613ae", "AzureML Metrics Writer (preview)", "Lets you write metrics to AzureML workspace.", permissions{actions: []string{learning + "workspaces/metrics/*/write"}}},
	{"1823dd4f-9b8c-4ab6-ab4e-7397a3684615", "AzureML Registry User", "Can perform all actions on Machine Learning Services Registry assets as well as get Registry resources.",
		permissions{actions: []string{learning + "registries/read", learning + "registries/assets/*"}}},
	{"f1a07417-d97a-45cb-824c-7a7467783830", "Managed Identity Operator", "Read and Assign User Assigned Identity.",
		permissions{actions: []string{"Microsoft.ManagedIdentity/userAssignedIdentities/*/read", "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", "Microsoft.Authorization/*/read"}}},
	{"e40ec5ca-96e0-45a2-b4ff-59039f2c2b59", "Managed Identity Contributor", "Create, Read, Update, and Delete User Assigned Identity.",
		permissions{actions: []string{"Microsoft.ManagedIdentity/userAssignedIdentities/read", "Microsoft.ManagedIdentity/userAssignedIdentities/write", "Microsoft.ManagedIdentity/userAssignedIdentities/delete", "Microsoft.Authorization/*/read"}}},
	{"ba92f5b4-2d11-453d-a403-e96b0029c9fe", "Storage Blob Data Contributor", "Allows for read, write and delete access to Azure Storage blob containers and data.",
		permissions{actions: []string{"Microsoft.Storage/storageAccounts/blobServices/containers/delete", "Microsoft.Storage/storageAccounts/blobServices/containers/read", "Microsoft.Storage/storageAccounts/blobServices/containers/write", "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"},
			dataActions: []string{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/*"}}},
	{"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", "Storage Blob Data Reader", "Allows for read access to Azure Storage blob containers and data.",
		permissions{actions: []string{"Microsoft.Storage/storageAccounts/blobServices/containers/read", "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"},
			dataActions: []string{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"}}},
	{"17d1049b-9a84-46fb-8f53-869881c3d3ab", "Storage Account Contributor", "Lets you manage storage accounts, including accessing storage account keys which provide full access to storage account data.",
		permissions{actions: []string{"Microsoft.Authorization/*/read", "Microsoft.Storage/storageAccounts/*"}}},
	{"7f951dda-4ed3-4680-a7ca-43fe172d538d", "AcrPull", "acr pull", permissions{actions: []string{"Microsoft.ContainerRegistry/registries/pull/read"}}},
	{"8311e382-0749-4cb8-b61a-304f252e45ec", "AcrPush", "acr push", permissions{actions: []string{"Microsoft.ContainerRegistry/registries/pull/read", "Microsoft.ContainerRegistry/registries/push/write"}}},
	{"4633458b-17de-408a-b874-0445c86b69e6", "Key Vault Secrets User", "Read secret contents.", permissions{dataActions: []string{"Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"}}},
	{"00482a5a-887f-4fb3-b363-3b7fe8e74483", "Key Vault Administrator", "Perform all data plane operations on a key vault and all objects in it, including certificates, keys, and secrets.",
		permissions{actions: []string{"Microsoft.Authorization/*/read", "Microsoft.KeyVault/vaults/*/read"}, dataActions: []string{"Microsoft.KeyVault/vaults/*"}}},
	{"4d97b98b-1d4f-4787-a291-c67834d212e7", "Network Contributor", "Lets you manage networks, but not access to them.", permissions{actions: []string{"Microsoft.Authorization/*/read", "Microsoft.Network/*"}}},
}

// builtinTime is when the first of them was made in Azure; none is older.
const builtinTime = "2015-02-02T21:55:09.8806423Z"

func (b builtin) body() map[string]any {
	list := func(l []string) []string { return append([]string{}, l...) } // never null
	return map[string]any{
		"name": b.id, "type": Namespace + "/roleDefinitions",
		"properties": map[string]any{
			"roleName": b.name, "type": "BuiltInRole", "description": b.words, "assignableScopes": []string{"/"},
			"permissions": []map[string]any{{"actions": list(b.actions), "notActions": list(b.notActions), "dataActions": list(b.dataActions), "notDataActions": []string{}}},
			"createdOn":   builtinTime, "updatedOn": builtinTime, "createdBy": nil, "updatedBy": nil,
		},
	}
}

// at completes a role with its id as seen from a scope: the subscription's, or the tenant's.
func at(scope string, role map[string]any) map[string]any {
	id, _ := armid.Parse(scope) // the root has no subscription
	prefix := ""
	if id.Subscription != "" {
		prefix = armid.Subscription(id.Subscription)
	}
	name, _ := role["name"].(string)
	role["id"] = prefix + "/providers/" + Namespace + "/roleDefinitions/" + name
	return role
}

// Roles returns the roles that can be assigned at a scope.
func (s *Service) Roles(ctx context.Context, p access.Principal, scope string) ([]map[string]any, error) {
	if err := may(p, scope, "roleDefinitions/read"); err != nil {
		return nil, err
	}
	if _, err := s.scope(ctx, scope); err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, b := range builtins {
		list = append(list, at(scope, b.body()))
	}
	own, err := s.ownRoles(ctx)
	if err != nil {
		return nil, err
	}
	for _, role := range own {
		for _, text := range assignable(role) {
			a, b := armid.Key(text), armid.Key(scope)
			if a == "" || under(a, b) || under(b, a) {
				list = append(list, at(scope, role))
				break
			}
		}
	}
	return list, nil
}

func (s *Service) ownRoles(ctx context.Context) ([]map[string]any, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Role})
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, rec := range recs {
		var body map[string]any
		if err := decode(rec, &body); err != nil {
			return nil, err
		}
		list = append(list, body)
	}
	return list, nil
}

func assignable(role map[string]any) []string {
	props, _ := role["properties"].(map[string]any)
	given, _ := props["assignableScopes"].([]any)
	var list []string
	for _, v := range given {
		if text, ok := v.(string); ok {
			list = append(list, text)
		}
	}
	return list
}

// Role returns a role by its guid.
func (s *Service) Role(ctx context.Context, p access.Principal, scope, id string) (map[string]any, error) {
	if err := may(p, scope, "roleDefinitions/read"); err != nil {
		return nil, err
	}
	for _, b := range builtins {
		if strings.EqualFold(b.id, id) {
			return at(scope, b.body()), nil
		}
	}
	role, err := s.get(ctx, row.Key{Kind: row.Role, ID: strings.ToLower(id)},
		fault.Coded(fault.NotFound, "RoleDefinitionDoesNotExist", id, "The specified role definition with ID '%.64s' does not exist.", id))
	if err != nil {
		return nil, err
	}
	return at(scope, role), nil
}

// PutRole makes a role of the tenant's own, or changes it.
func (s *Service) PutRole(ctx context.Context, p access.Principal, scope, id string, body map[string]any) (Document, error) {
	if err := may(p, scope, "roleDefinitions/write"); err != nil {
		return Document{}, err
	}
	if !armid.IsGUID(id) {
		return Document{}, fault.Coded(fault.Invalid, "InvalidRoleDefinitionId", id, "The role definition ID '%.64s' is not valid. The role definition ID must be a GUID.", id)
	}
	if slices.ContainsFunc(builtins, func(b builtin) bool { return strings.EqualFold(b.id, id) }) {
		return Document{}, fault.Coded(fault.Conflict, "BuiltInRoleDefinitionUpdateNotPermitted", id, "A role that Azure has built in cannot be changed.")
	}
	props, err := s.roleProperties(ctx, id, body)
	if err != nil {
		return Document{}, err
	}
	now := s.Now().UTC().Format(time.RFC3339Nano)
	props["createdOn"], props["updatedOn"], props["createdBy"], props["updatedBy"] = now, now, p.ID, p.ID
	role := map[string]any{"name": strings.ToLower(id), "type": Namespace + "/roleDefinitions", "properties": props}
	for try := 0; ; try++ {
		doc, err := s.put(ctx, p, row.Key{Kind: row.Role, ID: strings.ToLower(id)}, "", role)
		if !again(err, try) {
			if err == nil {
				doc.Body = at(scope, doc.Body)
			}
			return doc, err
		}
	}
}

// roleProperties checks the properties of a role of the tenant's own.
func (s *Service) roleProperties(ctx context.Context, id string, body map[string]any) (map[string]any, error) {
	given, _ := body["properties"].(map[string]any)
	name, _ := given["roleName"].(string)
	if name == "" || len(name) > 512 {
		return nil, invalid("properties.roleName", "The property 'roleName' is required, with at most 512 characters.")
	}
	words, _ := given["description"].(string)
	scopes := assignable(body)
	if len(scopes) == 0 {
		return nil, fault.Coded(fault.Invalid, "MissingAssignableScopes", "properties.assignableScopes", "The role needs 'assignableScopes': subscriptions or resource groups, by their ids.")
	}
	for _, scope := range scopes {
		if _, err := s.scope(ctx, scope); err != nil {
			return nil, err
		}
	}
	own, err := s.ownRoles(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range builtins {
		own = append(own, b.body())
	}
	for _, other := range own {
		props, _ := other["properties"].(map[string]any)
		if is, _ := props["roleName"].(string); strings.EqualFold(is, name) && other["name"] != strings.ToLower(id) {
			return nil, fault.Coded(fault.Conflict, "RoleDefinitionWithSameNameExists", name, "A role with the name '%s' exists already; its id is %v.", name, other["name"])
		}
	}
	perms, err := permissionsOf(given["permissions"])
	if err != nil {
		return nil, err
	}
	return map[string]any{"roleName": name, "type": "CustomRole", "description": words, "assignableScopes": scopes, "permissions": perms}, nil
}

func permissionsOf(v any) ([]map[string]any, error) {
	given, ok := v.([]any)
	if v != nil && !ok {
		return nil, invalid("properties.permissions", "The property 'permissions' must be a list.")
	}
	list := []map[string]any{}
	for _, e := range given {
		entry, ok := e.(map[string]any)
		if !ok {
			return nil, invalid("properties.permissions", "An entry of 'permissions' must be an object.")
		}
		one := map[string]any{}
		for _, k := range []string{"actions", "notActions", "dataActions", "notDataActions"} {
			actions, ok := entry[k].([]any)
			if entry[k] != nil && !ok || slices.ContainsFunc(actions, func(a any) bool { _, text := a.(string); return !text }) {
				return nil, invalid("properties.permissions."+k, "The property '%s' must be a list of strings.", k)
			}
			one[k] = append([]any{}, actions...)
		}
		list = append(list, one)
	}
	return list, nil
}

// DeleteRole removes a role of the tenant's own and returns it; nil: there was none.
func (s *Service) DeleteRole(ctx context.Context, p access.Principal, scope, id string) (map[string]any, error) {
	if err := may(p, scope, "roleDefinitions/delete"); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(builtins, func(b builtin) bool { return strings.EqualFold(b.id, id) }) {
		return nil, fault.Coded(fault.Conflict, "BuiltInRoleDefinitionDeleteNotPermitted", id, "A role that Azure has built in cannot be deleted.")
	}
	recs, err := s.assigned(ctx)
	if err != nil {
		return nil, err
	}
	for _, rec := range recs {
		var a assignment
		if err := decode(rec, &a); err != nil {
			return nil, err
		}
		if strings.HasSuffix(strings.ToLower(a.Properties.Role), "/"+strings.ToLower(id)) {
			return nil, fault.Coded(fault.Conflict, "RoleDefinitionHasAssignments", id, "There are assignments of the role '%s'; the first is '%s'. Delete them first.", id, a.ID)
		}
	}
	role, err := s.drop(ctx, p, row.Key{Kind: row.Role, ID: strings.ToLower(id)})
	if err != nil || role == nil {
		return nil, err
	}
	return at(scope, role), nil
}

// exists returns the id of the role that an assignment names.
func (s *Service) exists(ctx context.Context, p access.Principal, role string) (string, error) {
	guid := role[strings.LastIndexByte(role, '/')+1:]
	if !strings.Contains(strings.ToLower(role), strings.ToLower("/providers/"+Namespace+"/roleDefinitions/")) {
		return "", fault.Coded(fault.Invalid, "InvalidRoleDefinitionId", role, "'%.200s' is not the id of a role: /subscriptions/{id}/providers/%s/roleDefinitions/{guid}.", role, Namespace)
	}
	if _, err := s.Role(ctx, p, "", guid); err != nil {
		if errors.Is(err, fault.NotFound) {
			return "", fault.Coded(fault.Invalid, "RoleDefinitionDoesNotExist", role, "The specified role definition with ID '%.64s' does not exist.", guid)
		}
		return "", err
	}
	return strings.ToLower(guid), nil
}
