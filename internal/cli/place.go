package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/client"
)

// placed asks, after a refusal, whether the workspace that the command was about
// is there at all. If not it says which are, whatever it was that the server
// missed first.
func (a *app) placed(ctx context.Context, was error) error {
	e, ok := errors.AsType[*client.Error](was)
	if !ok || ctx.Err() != nil || e.Status != http.StatusNotFound && !strings.Contains(e.Code, "Subscription") {
		return was
	}
	c, err := a.connect()
	if err != nil {
		return was
	}
	defer c.Close()
	missing := missingPlace(ctx, c, c.File().WorkspaceName)
	if missing == nil {
		return was
	}
	return notFound{fmt.Errorf("%w%s", missing, a.placedBy(c.File()))}
}

// missingPlace is nil for a workspace that is there, and where nobody can tell.
func missingPlace(ctx context.Context, c *client.Client, workspace string) error {
	f := c.File()
	all, err := client.Collect(c.Workspaces(ctx))
	if err != nil {
		ids, err := namesOf(c.Subscriptions(ctx), 0, func(s client.Place) string { return s.ID[strings.LastIndexByte(s.ID, '/')+1:] })
		if err != nil || holds(ids, f.SubscriptionID) {
			return nil
		}
		return noneNamed("subscription", f.SubscriptionID, ids, "")
	}
	for _, w := range all {
		if strings.EqualFold(w.Name, workspace) && strings.EqualFold(groupIn(w.ID), f.ResourceGroup) {
			return nil
		}
	}
	groups, err := groupNames(ctx, c)
	switch {
	case err != nil:
		return nil
	case !holds(groups, f.ResourceGroup):
		return noneNamed("resource group", f.ResourceGroup, groups, "")
	}
	label := func(name, group string) string { return name + " (group " + group + ")" }
	labels := make([]string, len(all))
	for i, w := range all {
		labels[i] = label(w.Name, groupIn(w.ID))
	}
	return noneNamed("workspace", label(workspace, f.ResourceGroup), labels, "")
}

// placedBy says who chose the workspace, where the command line did not.
func (a *app) placedBy(f client.File) string {
	switch {
	case a.workspace != "" || a.group != "" || a.subscription != "":
		return ""
	case a.from != "":
		return "\nThe workspace was not named here but by " + a.from + "; -w, -g and --subscription name another."
	}
	return "\nThe workspace was named by " + f.Path + "; -w, -g and --subscription name another."
}

func groupNames(ctx context.Context, c *client.Client) ([]string, error) {
	return namesOf(c.Groups(ctx), 0, func(g client.Place) string { return g.Name })
}

func workspaceNames(ctx context.Context, c *client.Client) ([]string, error) {
	return namesOf(c.Workspaces(ctx), 0, func(w client.Workspace) string { return w.Name })
}

func holds(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}
