package workspaces

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Committer is a store that commits.
type Committer interface {
	Commit(ctx context.Context, changes ...row.Change) (int64, error)
}

// Commit commits what other families write, and holds the commit to there being
// the workspaces, or groups, that it lies in: a request that was let in before a
// deletion, and takes longer than that, leaves nothing behind.
func Commit(ctx context.Context, to Committer, changes ...row.Change) (int64, error) {
	scopes := scopesOf(changes)
	for _, k := range scopes {
		changes = append(changes[:len(changes):len(changes)], row.Need(k))
	}
	rev, err := to.Commit(ctx, changes...)
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Precondition {
		return rev, err
	}
	for _, k := range scopes {
		if k.ID == f.Target {
			return 0, fault.Coded(fault.NotFound, "ResourceNotFound", k.ID, "The %s was deleted before this could be kept in it.", strings.Replace(string(k.Kind), "resourcegroup", "resource group", 1))
		}
	}
	return rev, err
}

// scopesOf are the workspaces and groups that rows are written into.
func scopesOf(changes []row.Change) []row.Key {
	var scopes []row.Key
	for _, c := range changes {
		if c.Put == nil {
			continue
		}
		k := c.Put.Key()
		if k.Kind != row.Job && k.Kind != row.Cluster && !slices.Contains(within, k.Kind) {
			continue
		}
		if scope, ok := scopeOf(k.ID); ok && !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// scopeOf finds the workspace, or else the group, that a row lies in, by its id.
// The id itself is no scope: ids of deployments and locks, and what is put there for
// the first time, have more behind it.
func scopeOf(id string) (row.Key, bool) {
	rest, ok := strings.CutPrefix(id, "/subscriptions/")
	if !ok {
		return row.Key{}, false
	}
	words := strings.SplitN(rest, "/", 8) // S resourcegroups G providers NAMESPACE workspaces W …
	if len(words) < 4 || words[1] != "resourcegroups" {
		return row.Key{}, false
	}
	group := "/subscriptions/" + strings.Join(words[:3], "/")
	if len(words) == 8 && strings.EqualFold(words[4]+"/"+words[5], armid.WorkspaceType) {
		return row.Key{Kind: row.Workspace, ID: group + "/" + strings.Join(words[3:7], "/")}, true
	}
	return row.Key{Kind: row.ResourceGroup, ID: group}, true
}
