package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
)

// Workspaces are the calls about the workspaces of a resource group, and not of
// the one that the client file names.
type Workspaces struct {
	c     *Client
	group string
}

// WorkspacesOf returns the calls about the workspaces of a resource group.
func (c *Client) WorkspacesOf(group string) Workspaces { return Workspaces{c, group} }

func (s Workspaces) path(name string) string {
	f := s.c.file
	f.ResourceGroup, f.WorkspaceName = s.group, name
	return f.Workspace()
}

// All yields the workspaces of the group.
func (s Workspaces) All(ctx context.Context) iter.Seq2[Workspace, error] {
	return all[Workspace](ctx, s.c, "/subscriptions/"+url.PathEscape(s.c.file.SubscriptionID)+"/resourceGroups/"+url.PathEscape(s.group)+
		"/providers/Microsoft.MachineLearningServices/workspaces")
}

// Get returns one workspace.
func (s Workspaces) Get(ctx context.Context, name string) (Workspace, error) {
	var got Workspace
	_, err := s.c.Do(ctx, http.MethodGet, s.path(name), nil, &got)
	return got, err
}

// Put makes a workspace.
func (s Workspaces) Put(ctx context.Context, name string, want any) (*Operation, error) {
	return s.change(ctx, http.MethodPut, s.path(name), want)
}

// Update merges a patch into a workspace.
func (s Workspaces) Update(ctx context.Context, name string, patch any) (*Operation, error) {
	return s.change(ctx, http.MethodPatch, s.path(name), patch)
}

// Delete removes a workspace and what is in it.
func (s Workspaces) Delete(ctx context.Context, name string) (*Operation, error) {
	return s.change(ctx, http.MethodDelete, s.path(name), nil)
}

// Act posts to one of a workspace's actions, as listKeys, and returns what it says.
func (s Workspaces) Act(ctx context.Context, name, action string) (map[string]any, error) {
	got := map[string]any{}
	_, err := s.c.Do(ctx, http.MethodPost, s.path(name)+"/"+action, nil, &got)
	return got, err
}

func (s Workspaces) change(ctx context.Context, method, path string, body any) (*Operation, error) {
	a, err := s.c.Do(ctx, method, path, body, nil)
	if err != nil {
		return nil, err
	}
	return s.c.operationOf(a)
}
