package computes

import (
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// stamp is how Azure ML writes times in computes.
const stamp = "2006-01-02T15:04:05.000000+00:00"

// show puts a compute together: the wish as it is kept, and what became of it.
// Every key that SDK v1 asks for is there (reference/wire/sdk-v1.md §2).
func (s *Service) show(c saved) Document {
	c.Resource, _ = clone(c.Resource).(map[string]any)
	return showOnce(s.Store.View(), c)
}

// showOnce is show for a c that nobody needs any more: a copy is a good part of what
// showing one costs.
func showOnce(view *pool.View, c saved) Document {
	wish, ok := view.Cluster(c.doc.ID)
	if !ok {
		wish = c.cluster // dropped since the document was read, or listed
	}
	status, ok := view.ClusterStatus(c.doc.ID)
	if !ok {
		status = fleet.Status{ID: c.doc.ID, Provisioning: operation.Deleting, Allocation: fleet.Steady, Since: c.doc.Modified}
		wish.Deleting = true
	}
	out := c.Resource
	out["id"], out["name"], out["type"] = c.ID, c.Name, armid.ComputeType
	out["systemData"] = map[string]any{
		"createdBy": c.CreatedBy, "createdByType": c.CreatedByType, "createdAt": c.doc.Created.UTC().Format(stamp),
		"lastModifiedBy": c.ModifiedBy, "lastModifiedByType": c.ModifiedByType, "lastModifiedAt": c.doc.Modified.UTC().Format(stamp),
	}
	if id, ok := out["identity"].(map[string]any); ok {
		principals(id, c)
	}
	props, _ := out["properties"].(map[string]any)
	for k, v := range map[string]any{
		"createdOn": c.doc.Created.UTC().Format(stamp), "modifiedOn": c.doc.Modified.UTC().Format(stamp),
		"provisioningState": string(provisioning(wish, status)), "provisioningErrors": nil, "resourceId": nil, "isAttachedCompute": false,
	} {
		props[k] = v
	}
	null(props, "description")
	if status.Provisioning == operation.Failed {
		props["provisioningErrors"] = problems(status.Errors)
	}
	inner, _ := props["properties"].(map[string]any)
	if wish.Instance {
		showInstance(inner, c, wish, status, view.NodesOf(c.doc.ID))
		return Document{out, c.rev}
	}
	null(inner, "subnet", "virtualMachineImage")
	allocation(inner, status, view.NodesOf(c.doc.ID))
	return Document{out, c.rev}
}

// Listed is a compute of a list, not yet put together.
type Listed struct {
	ID      string // lower-case
	Version Version
	Show    func() (Document, error)
}

// Version is equal (==) for one compute in two lists only if Show gives the same.
type Version struct {
	rev  int64
	mark pool.ClusterMark
}

func listed(view *pool.View, rec row.Record) Listed {
	id := rec.Row.Key().ID
	return Listed{id, Version{rec.Rev, view.ClusterMark(id)}, func() (Document, error) {
		c, err := decode(rec)
		if err != nil {
			return Document{}, err
		}
		return showOnce(view, c), nil
	}}
}

// null shows what is not set as null: SDK v1 asks for some of these keys, and the
// examples of the specification have the others.
func null(m map[string]any, keys ...string) {
	for _, k := range keys {
		if _, ok := m[k]; !ok {
			m[k] = nil
		}
	}
}

// provisioning is the state that a reader should see: a wish that control has
// not taken in yet is on its way, whatever became of the one before.
func provisioning(wish fleet.Cluster, status fleet.Status) operation.State {
	switch {
	case wish.Deleting:
		return operation.Deleting
	case status.Provisioning.Final() && status.Observed < wish.Generation:
		return operation.Updating
	}
	return status.Provisioning
}

// allocation adds what control and the nodes say.
func allocation(inner map[string]any, status fleet.Status, nodes []fleet.Node) {
	counts := map[string]any{"idleNodeCount": 0, "runningNodeCount": 0, "preparingNodeCount": 0, "unusableNodeCount": 0, "leavingNodeCount": 0, "preemptedNodeCount": 0}
	for _, n := range nodes {
		key := n.State.Azure() + "NodeCount"
		was, _ := counts[key].(int)
		counts[key] = was + 1
	}
	inner["allocationState"] = string(status.Allocation)
	inner["allocationStateTransitionTime"] = status.Since.UTC().Format(stamp)
	inner["currentNodeCount"], inner["targetNodeCount"] = len(nodes), status.Target
	inner["nodeStateCounts"] = counts
	inner["errors"] = nil // SDK v1 stops waiting when there are any
	if len(status.Errors) > 0 {
		inner["errors"] = problems(status.Errors)
	}
}

// problems are ErrorResponses.
func problems(of []fleet.Problem) []any {
	list := []any{}
	for _, p := range of {
		list = append(list, map[string]any{"error": map[string]any{"code": p.Code, "message": p.Message, "details": []any{}}})
	}
	return list
}

// principals adds who each identity is. Identities need not exist yet: the guids
// are made from their ids, and so stay the same. A system-assigned one lives and ends with
// its cluster, whose prefix no other cluster ever has.
func principals(id map[string]any, c saved) {
	switch id["type"] {
	case "SystemAssigned":
		id["principalId"], id["tenantId"] = workspaces.GUID("system", c.Prefix), c.Tenant
	case "UserAssigned":
		users, _ := id["userAssignedIdentities"].(map[string]any)
		for user := range users {
			principal, client := workspaces.UserIdentity(user)
			users[user] = map[string]any{"principalId": principal, "clientId": client}
		}
	}
}
