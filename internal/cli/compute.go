package cli

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-compute/ebb/client"
)

// computeFlags are those of create and update.
type computeFlags struct {
	name, file, kind               string
	size, tier                     string
	min, max                       int
	idle                           seconds
	location, description          string
	tags                           []string
	identity                       string
	userIdentities                 []string
	vnet, subnet                   string
	adminUser, sshKey, adminSecret string
	sshPublic                      bool
	noWait, yes                    bool
}

func (a *app) computeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "compute",
		Short:   "Make, change and look at compute clusters",
		Example: "  ebb compute create --name cpu-cluster --max-instances 4\n  ebb compute list\n  ebb compute show cpu-cluster -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.computeCreate(), a.computeList(), a.computeShow(), a.computeUpdate(), a.computeDelete(), a.computeNodes())
	return cmd
}

func (a *app) computeCreate() *cobra.Command {
	var f computeFlags
	cmd := &cobra.Command{
		Use:   "create --name NAME",
		Short: "Make a cluster",
		Long: `Make a cluster, and wait until it is ready to take jobs.

A name and nothing else makes a cluster of 0 to 4 nodes of Standard_DS3_v2
that lets idle nodes go after 120 seconds. A file in az ml's compute schema
says the same in YAML; flags win over it.`,
		Example: `  ebb compute create --name cpu-cluster --max-instances 4
  ebb compute create -n gpu --size Standard_NC6s_v3 --max-instances 2 --tier low_priority
  ebb compute create -n small --min-instances 1 --idle-time-before-scale-down 2m --tags team=vision
  ebb compute create -f cluster.yml --no-wait`,
		Args: cobra.MaximumNArgs(1),
	}
	flags := cmd.Flags()
	f.register(flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.createCompute(cmd, &f, args) }
	a.completeSizes(cmd)
	_ = cmd.RegisterFlagCompletionFunc("tier", cobra.FixedCompletions([]string{"dedicated", "low_priority"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("identity-type", cobra.FixedCompletions([]string{"system_assigned", "user_assigned"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	return cmd
}

func (f *computeFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&f.name, "name", "n", "", "name of the cluster: 3 to 32 letters, digits and '-'")
	flags.StringVarP(&f.file, "file", "f", "", "YAML `file` in az ml's compute schema")
	flags.StringVarP(&f.kind, "type", "t", "amlcompute", "kind of compute; amlcompute is the one there is")
	flags.StringVar(&f.size, "size", "", "kind of machine, as \"ebb size list\" shows them (default Standard_DS3_v2)")
	flags.IntVar(&f.min, "min-instances", 0, "nodes to keep at all times")
	flags.IntVar(&f.max, "max-instances", 4, "nodes at most")
	flags.Var(&f.idle, "idle-time-before-scale-down", "how long a node may stand idle: seconds, or as 2m (default 120)")
	flags.StringVar(&f.tier, "tier", "", "dedicated or low_priority (default dedicated)")
	flags.StringVarP(&f.location, "location", "l", "", "region (default the workspace's)")
	flags.StringVar(&f.description, "description", "", "what it is for")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE`; may be given again")
	flags.StringVarP(&f.identity, "identity-type", "i", "", "system_assigned or user_assigned")
	flags.StringSliceVar(&f.userIdentities, "user-assigned-identities", nil, "ARM `ids`, with commas between them")
	flags.StringVar(&f.vnet, "vnet-name", "", "virtual network, where --subnet is a name")
	flags.StringVar(&f.subnet, "subnet", "", "subnet: its name, or its ARM id")
	flags.StringVar(&f.adminUser, "admin-username", "", "administrator that SSH lets in")
	flags.StringVar(&f.sshKey, "ssh-key-value", "", "SSH public key of the administrator, or a file that holds it")
	flags.StringVar(&f.adminSecret, "admin-password", "", "password of the administrator")
	flags.BoolVar(&f.sshPublic, "ssh-public-access-enabled", false, "open the SSH port to the public")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until it is ready")
}

func (a *app) createCompute(cmd *cobra.Command, f *computeFlags, args []string) error {
	spec, err := f.spec(cmd.Flags(), args)
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	if spec.Location == "" {
		ws, err := c.Workspace(ctx)
		if err != nil {
			return fmt.Errorf("look up the workspace: %w", err)
		}
		spec.Location = ws.Location
	}
	want, err := spec.body(c.File())
	if err != nil {
		return err
	}
	doing := "Creating cluster %s"
	if there, err := c.Computes().Get(ctx, spec.Name); err == nil {
		doing = "Cluster %s exists; bringing it to what was asked for"
		if spec.SSHPublic == nil {
			// It cannot change, and another client may have made the cluster otherwise.
			want.Properties.Properties.RemoteLogin = there.Properties.Properties.RemoteLogin
		}
	}
	p := a.progress(doing, spec.Name)
	made, op, err := c.Computes().Create(ctx, spec.Name, want)
	if err == nil && !f.noWait {
		if err = op.Wait(ctx); err == nil {
			made, err = c.Computes().Get(ctx, spec.Name)
		}
	}
	p.end()
	if err != nil {
		return err
	}
	a.noteCost(spec)
	return a.print(computeShape(made))
}

// aboutMin matches a warning about the minimum of nodes.
var aboutMin = regexp.MustCompile(`(?i)\bmin(imum|[ _-]|NodeCount)`)

// noteCost says what a minimum means, where the server has not.
func (a *app) noteCost(spec computeSpec) {
	for _, w := range a.warned {
		if aboutMin.MatchString(w) {
			return
		}
	}
	if spec.Min > 0 {
		fmt.Fprintf(a.Stderr, "NOTE: %d node(s) stay on, and are paid for, also when there is no job; --min-instances 0 lets them all go.\n", spec.Min)
	}
}

func (a *app) computeList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the clusters of the workspace",
		Example: "  ebb compute list\n  ebb compute list --query '[].{name: name, nodes: current_node_count}' -o tsv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := client.Collect(c.Computes().All(cmd.Context()))
			if err != nil {
				return err
			}
			shapes := make([]object, len(list))
			for i, compute := range list {
				shapes[i] = computeShape(compute)
			}
			return a.printList(shapes, computeColumns, "No clusters yet. Make one: ebb compute create --name cpu-cluster")
		},
	}
}

func (a *app) computeShow() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one cluster",
		Example: "  ebb compute show cpu-cluster\n  ebb compute show --name cpu-cluster --query allocation_state -o tsv",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onCompute(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				got, err := c.Computes().Get(ctx, name)
				if err != nil {
					return err
				}
				return a.print(computeShape(got))
			})
		},
	}
	a.nameFlag(cmd, &name, a.clusterNames)
	return cmd
}

func (a *app) computeNodes() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "nodes NAME",
		Aliases: []string{"list-nodes"},
		Short:   "List the nodes of a cluster",
		Example: "  ebb compute nodes cpu-cluster\n  ebb compute nodes cpu-cluster -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onCompute(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				nodes, err := c.Computes().Nodes(ctx, name)
				if err != nil {
					return err
				}
				list := make([]object, len(nodes))
				for i, n := range nodes {
					list[i] = nodeShape(n)
				}
				if err := a.printList(list, nodeColumns, fmt.Sprintf("%s has no nodes now. It rises when a job is submitted.", name)); err != nil {
					return err
				}
				a.noteNodes(nodes)
				return nil
			})
		},
	}
	a.nameFlag(cmd, &name, a.clusterNames)
	return cmd
}

func (a *app) computeUpdate() *cobra.Command {
	var f computeFlags
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change how far a cluster rises and falls, its tags, its identity",
		Long: `Change how far a cluster rises and falls, its tags, its identity.

What is not named stays as it is. --tags replaces all tags. The size, tier,
region and network of a cluster cannot be changed: make another one.`,
		Example: `  ebb compute update cpu-cluster --max-instances 8
  ebb compute update -n cpu-cluster --min-instances 1 --idle-time-before-scale-down 600
  ebb compute update cpu-cluster --identity-type system_assigned`,
		Args: cobra.MaximumNArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.name, "name", "n", "", "name of the cluster")
	flags.IntVar(&f.min, "min-instances", 0, "nodes to keep at all times")
	flags.IntVar(&f.max, "max-instances", 0, "nodes at most")
	flags.Var(&f.idle, "idle-time-before-scale-down", "how long a node may stand idle: seconds, or as 2m")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE`; may be given again")
	flags.StringVarP(&f.identity, "identity-type", "i", "", "system_assigned, user_assigned or none")
	flags.StringSliceVar(&f.userIdentities, "user-assigned-identities", nil, "ARM `ids`, with commas between them")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until it is done")
	a.completeNames(cmd, a.clusterNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		patch, err := f.patch(flags)
		if err != nil {
			return err
		}
		return a.onCompute(cmd, f.name, args, func(ctx context.Context, c *client.Client, name string) error {
			return a.updateCompute(ctx, c, name, patch, &f, flags)
		})
	}
	return cmd
}

// patch makes the part of the update that does not depend on what is.
func (f *computeFlags) patch(flags *pflag.FlagSet) (map[string]any, error) {
	patch := map[string]any{}
	if flags.Changed("tags") {
		tags, err := pairs("--tags", f.tags)
		if err != nil {
			return nil, err
		}
		patch["tags"] = tags
	}
	if flags.Changed("identity-type") || flags.Changed("user-assigned-identities") {
		id, err := identityOf(f.identity, f.userIdentities)
		if err != nil {
			return nil, err
		}
		patch["identity"] = id
	}
	scale := flags.Changed("min-instances") || flags.Changed("max-instances") || f.idle.set
	if len(patch) == 0 && !scale {
		return nil, usagef("nothing to change: give --min-instances, --max-instances, --idle-time-before-scale-down, --tags or --identity-type")
	}
	return patch, nil
}

func (a *app) updateCompute(ctx context.Context, c *client.Client, name string, patch map[string]any, f *computeFlags, flags *pflag.FlagSet) error {
	now, err := c.Computes().Get(ctx, name)
	if err != nil {
		return err
	}
	// Azure takes scaleSettings whole: what is not named is sent as it is.
	scale := now.Properties.Properties.Scale
	if flags.Changed("min-instances") {
		scale.Min = f.min
	}
	if flags.Changed("max-instances") {
		scale.Max = f.max
	}
	if f.idle.set {
		scale.IdleAfter = toISO(f.idle.value)
	}
	properties := map[string]any{}
	if scale != now.Properties.Properties.Scale {
		properties = map[string]any{"computeType": "AmlCompute", "properties": map[string]any{"scaleSettings": scale}}
	}
	patch["location"], patch["properties"] = now.Location, properties
	if old := now.Tags; patch["tags"] != nil {
		patch["tags"] = replaced(old, patch["tags"].(map[string]string))
	}
	p := a.progress("Updating cluster %s", name)
	got, op, err := c.Computes().Update(ctx, name, patch)
	if err == nil && !f.noWait {
		if err = op.Wait(ctx); err == nil {
			got, err = c.Computes().Get(ctx, name)
		}
	}
	p.end()
	if err != nil {
		return err
	}
	if flags.Changed("min-instances") {
		a.noteCost(computeSpec{Min: scale.Min})
	}
	return a.print(computeShape(got))
}

// replaced is the merge patch that turns old into want: what is gone is null.
func replaced(old, want map[string]string) map[string]any {
	patch := map[string]any{}
	for k := range old {
		patch[k] = nil
	}
	for k, v := range want {
		patch[k] = v
	}
	return patch
}

func (a *app) computeDelete() *cobra.Command {
	var f computeFlags
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a cluster and its nodes; its jobs are cancelled",
		Example: "  ebb compute delete cpu-cluster\n  ebb compute delete --name cpu-cluster --yes --no-wait",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onCompute(cmd, f.name, args, func(ctx context.Context, c *client.Client, name string) error {
				return a.deleteCompute(ctx, c, name, &f)
			})
		},
	}
	a.nameFlag(cmd, &f.name, a.clusterNames)
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait until it is gone")
	return cmd
}

func (a *app) deleteCompute(ctx context.Context, c *client.Client, name string, f *computeFlags) error {
	// ARM answers 204 for one that is not there; a person should hear of a slip.
	if _, err := c.Computes().Get(ctx, name); err != nil {
		return err
	}
	if !f.yes {
		sure, err := a.ask(ctx, fmt.Sprintf("Delete cluster %s, its nodes and its running jobs?", name))
		if err != nil {
			return err
		}
		if !sure {
			return fmt.Errorf("nothing was deleted")
		}
	}
	op, err := c.Computes().Delete(ctx, name)
	if err != nil || f.noWait {
		return err
	}
	p := a.progress("Deleting cluster %s", name)
	err = op.Wait(ctx)
	p.end()
	return err
}

// onCompute runs do with a client and the cluster's name, and tells which
// clusters there are when that one is not.
func (a *app) onCompute(cmd *cobra.Command, flag string, args []string, do named) error {
	return a.onNamed(cmd, flag, args, do, a.noCluster)
}

// noCluster is the error for a cluster that is not there. Where even the list
// fails, the fault lies elsewhere (the workspace), and was stays.
func (a *app) noCluster(ctx context.Context, c *client.Client, name string, was error) error {
	list, err := client.Collect(c.Computes().All(ctx))
	if err != nil {
		return was
	}
	if len(list) == 0 {
		return notFound{fmt.Errorf("no cluster named %s; there is none yet. Make it: ebb compute create --name %s", name, name)}
	}
	names := make([]string, len(list))
	for i, compute := range list {
		names[i] = compute.Name
	}
	return notFound{fmt.Errorf("no cluster named %s; there are: %s", name, strings.Join(names, ", "))}
}
