package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
)

// v1Identity assigns or removes identities; they stand as words after the name,
// or behind --identities.
func (a *app) v1Identity(verb string) *cobra.Command {
	var f v1Flags
	short := map[string]string{"assign": "Give a cluster identities", "remove": "Take identities from a cluster"}[verb]
	cmd := &cobra.Command{
		Use:     verb + " --name NAME IDENTITY …",
		Short:   short + ": '[system]', or ARM ids",
		Example: "  ebb ml computetarget amlcompute identity " + verb + " --name cpu-cluster '[system]'\n  ebb ml computetarget amlcompute identity " + verb + " --name cpu-cluster /subscriptions/…/userAssignedIdentities/trainer",
		Args:    cobra.ArbitraryArgs,
	}
	f.v1Common(a, cmd)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.Flags().StringArrayVar(&f.identities, "identities", nil, "'[system]', or ARM `ids`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		words := append(f.identities, args...)
		if f.name == "" {
			return usagef("which cluster? Give --name NAME")
		}
		if len(words) == 0 && verb == "assign" {
			words = []string{systemIdentity}
		}
		return a.onCompute(cmd, f.name, nil, func(ctx context.Context, c *client.Client, name string) error {
			now, err := c.Computes().Get(ctx, name)
			if err != nil {
				return err
			}
			var identity any
			if verb == "assign" {
				identity, err = v1IdentityOf(words)
			} else {
				identity, err = withoutIdentities(now, words)
			}
			if err != nil {
				return err
			}
			got, op, err := c.Computes().Update(ctx, name, map[string]any{"location": now.Location, "properties": map[string]any{}, "identity": identity})
			if err := a.await(ctx, op, err, false, "Updating cluster "+name); err != nil {
				return err
			}
			if got, err = c.Computes().Get(ctx, name); err != nil {
				return err
			}
			a.showing(nil, f.metadata)
			return a.show(v1IdentityShape(got))
		})
	}
	return cmd
}

// withoutIdentities is the merge patch that takes identities from a cluster: all
// of them where none is named.
func withoutIdentities(now client.Compute, words []string) (any, error) {
	if now.Identity == nil || now.Identity.Type == "" || strings.EqualFold(now.Identity.Type, "None") {
		return nil, fmt.Errorf("%s has no identity", now.Name)
	}
	none := map[string]any{"type": "None"}
	if len(words) == 0 {
		return none, nil
	}
	asked, err := v1IdentityOf(words)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(asked.Type, now.Identity.Type) {
		return nil, fmt.Errorf("%s has no such identity; its identity is %s", now.Name, now.Identity.Type)
	}
	gone := map[string]any{}
	for id := range asked.UserAssigned {
		for has := range now.Identity.UserAssigned {
			if strings.EqualFold(id, has) {
				gone[has] = nil
			}
		}
	}
	switch {
	case len(gone) < len(asked.UserAssigned):
		return nil, fmt.Errorf("%s does not have all of these identities; it has: %s", now.Name, strings.Join(sortedKeys(now.Identity.UserAssigned), ", "))
	case len(gone) == len(now.Identity.UserAssigned):
		return none, nil
	}
	return map[string]any{"type": "UserAssigned", "userAssignedIdentities": gone}, nil
}

func (a *app) v1IdentityShow() *cobra.Command {
	var f v1Flags
	cmd := &cobra.Command{
		Use:     "show --name NAME",
		Short:   "Show a cluster's identities",
		Example: "  ebb ml computetarget amlcompute identity show --name cpu-cluster",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onCompute(cmd, f.name, args, func(ctx context.Context, c *client.Client, name string) error {
				got, err := c.Computes().Get(ctx, name)
				if err != nil {
					return err
				}
				a.showing(nil, f.metadata)
				return a.show(v1IdentityShape(got))
			})
		},
	}
	f.v1Common(a, cmd)
	return cmd
}
