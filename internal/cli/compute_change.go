package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

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
	flags.Int("min-instances", 0, "nodes to keep at all times")
	flags.Int("max-instances", 0, "nodes at most")
	flags.Var(&f.idle, "idle-time-before-scale-down", "how long a node may stand idle: seconds, or as 2m")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`, instead of those it has")
	flags.StringP("identity-type", "i", "", "system_assigned, user_assigned or none")
	flags.StringSliceVar(&f.users, "user-assigned-identities", nil, "ARM `ids`, with commas between them")
	flags.StringArrayVar(&f.set, "set", nil, "`FIELD=VALUE ...`, as max_instances=2")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until it is done")
	a.completeNames(cmd, clusterNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		change, err := f.change(flags)
		if err != nil {
			return usageError{err}
		}
		return a.onCompute(cmd, f.name, args, func(ctx context.Context, c *client.Client, name string) error {
			return a.updateCompute(ctx, c, name, change, f.noWait)
		})
	}
	return cmd
}

// computeChange is what of a cluster is to be another; nil: as it is.
type computeChange struct {
	min, max    *int
	idle        *int64 // seconds
	tags        map[string]string
	identity    *client.Identity
	description *string
}

// change reads what the flags, and --set, are to change.
func (f *computeFlags) change(flags *pflag.FlagSet) (computeChange, error) {
	var ch computeChange
	doc := yamlspec.Empty()
	if err := f.overlay(doc, flags, nil); err != nil {
		return ch, err
	}
	var s azml.Compute
	if err := doc.Decode(&s); err != nil {
		return ch, err
	}
	any := false
	for _, field := range []string{"min_instances", "max_instances", "idle_time_before_scale_down", "tags", "identity", "description"} {
		any = any || doc.Has(field)
	}
	for _, field := range []string{"size", "tier", "location", "network_settings", "ssh_settings", "ssh_public_access_enabled", "enable_node_public_ip", "type"} {
		if doc.Has(field) {
			return ch, doc.Errorf(field, "it cannot be changed: make another cluster")
		}
	}
	if !any {
		return ch, errors.New("nothing to change: give --min-instances, --max-instances, --idle-time-before-scale-down, --tags or --identity-type")
	}
	if doc.Has("min_instances") {
		ch.min = &s.Min
	}
	if doc.Has("max_instances") {
		ch.max = &s.Max
	}
	if s.Idle != nil {
		ch.idle = &s.Idle.Value
	}
	if doc.Has("tags") {
		ch.tags = s.Tags
		if ch.tags == nil {
			ch.tags = map[string]string{}
		}
	}
	if doc.Has("description") {
		ch.description = &s.Description
	}
	var err error
	if doc.Has("identity") {
		ch.identity, err = s.Identity.ARM()
	}
	return ch, err
}

// patch makes the merge patch that turns now into what is wanted.
func (ch computeChange) patch(now client.Compute) map[string]any {
	// Azure takes scaleSettings whole: what is not named is sent as it is.
	scale := now.Properties.Properties.Scale
	if ch.min != nil {
		scale.Min = *ch.min
	}
	if ch.max != nil {
		scale.Max = *ch.max
	}
	if ch.idle != nil {
		scale.IdleAfter = azml.ToISO(*ch.idle)
	}
	properties := map[string]any{}
	if scale != now.Properties.Properties.Scale {
		properties = map[string]any{"computeType": "AmlCompute", "properties": map[string]any{"scaleSettings": scale}}
	}
	if ch.description != nil {
		properties["description"] = *ch.description
	}
	patch := map[string]any{"location": now.Location, "properties": properties}
	if ch.tags != nil {
		patch["tags"] = replaced(now.Tags, ch.tags)
	}
	if ch.identity != nil {
		patch["identity"] = ch.identity
	}
	return patch
}

func (a *app) updateCompute(ctx context.Context, c *client.Client, name string, ch computeChange, noWait bool) error {
	now, err := c.Computes().Get(ctx, name)
	if err != nil {
		return err
	}
	got, op, err := c.Computes().Update(ctx, name, ch.patch(now))
	if err := a.await(ctx, op, err, noWait, "Updating cluster "+name); err != nil {
		return err
	}
	if !noWait {
		if got, err = c.Computes().Get(ctx, name); err != nil {
			return err
		}
	}
	if ch.min != nil {
		a.noteCost(*ch.min)
	}
	return a.showCompute(got)
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
	a.nameFlag(cmd, &f.name, clusterNames)
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait until it is gone")
	return cmd
}

func (a *app) deleteCompute(ctx context.Context, c *client.Client, name string, f *computeFlags) error {
	// ARM answers 204 for one that is not there; a person should hear of a slip.
	if _, err := c.Computes().Get(ctx, name); err != nil {
		return err
	}
	if err := a.sure(ctx, f.yes, fmt.Sprintf("Delete cluster %s, its nodes and its running jobs?", name), "nothing was deleted"); err != nil {
		return err
	}
	op, err := c.Computes().Delete(ctx, name)
	return a.await(ctx, op, err, f.noWait, "Deleting cluster "+name)
}

// computeAttach is for what Ebb does not run; the server says so by its name.
func (a *app) computeAttach() *cobra.Command {
	var f computeFlags
	cmd := &cobra.Command{
		Use:     "attach --type TYPE --resource-id ID --name NAME",
		Short:   "Attach a machine or a Kubernetes cluster that is there",
		Example: "  ebb compute attach -n k8 --type kubernetes --resource-id /subscriptions/…/connectedClusters/k8\n  ebb compute attach -f vm.yml",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.createCompute(cmd, &f, args) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.name, "name", "n", "", "name of the compute")
	flags.StringVarP(&f.file, "file", "f", "", "YAML `file` in az ml's schema of an attached compute")
	flags.StringP("type", "t", "virtualmachine", "virtualmachine, kubernetes or synapsespark")
	flags.String("resource-id", "", "ARM id of what is attached")
	flags.Int("ssh-port", 22, "SSH port of a virtual machine")
	flags.String("admin-username", "", "administrator of a virtual machine")
	flags.String("admin-password", "", "password of the administrator")
	flags.String("namespace", "", "namespace of a Kubernetes cluster")
	flags.StringP("identity-type", "i", "", "system_assigned or user_assigned")
	flags.StringSliceVar(&f.users, "user-assigned-identities", nil, "ARM `ids`, with commas between them")
	flags.StringArrayVar(&f.set, "set", nil, "`FIELD=VALUE ...` over the file's")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until it is ready")
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	return cmd
}

// computeDetach lets go of an attached compute. A cluster is deleted instead,
// and the server says so.
func (a *app) computeDetach() *cobra.Command {
	var f computeFlags
	cmd := &cobra.Command{
		Use:     "detach NAME",
		Short:   "Let go of an attached compute",
		Example: "  ebb compute detach k8 --yes",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onCompute(cmd, f.name, args, func(ctx context.Context, c *client.Client, name string) error {
				if _, err := c.Computes().Get(ctx, name); err != nil {
					return err
				}
				if err := a.sure(ctx, f.yes, fmt.Sprintf("Detach %s?", name), "nothing was detached"); err != nil {
					return err
				}
				op, err := c.Computes().Detach(ctx, name)
				return a.await(ctx, op, err, f.noWait, "Detaching "+name)
			})
		},
	}
	a.nameFlag(cmd, &f.name, clusterNames)
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait until it is done")
	return cmd
}

// computePower starts, stops or restarts a compute instance.
func (a *app) computePower(verb string) *cobra.Command {
	var name string
	var noWait bool
	doing := map[string]string{"start": "Starting", "stop": "Stopping", "restart": "Restarting"}[verb]
	cmd := &cobra.Command{
		Use:     verb + " NAME",
		Short:   strings.ToUpper(verb[:1]) + verb[1:] + " a compute instance",
		Example: "  ebb compute " + verb + " notebook-1\n  ebb compute " + verb + " -n notebook-1 --no-wait",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onCompute(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				op, err := c.Computes().Power(ctx, name, verb)
				return a.await(ctx, op, err, noWait, doing+" "+name)
			})
		},
	}
	a.nameFlag(cmd, &name, clusterNames)
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	return cmd
}

// await waits for an operation that began, unless it is not to.
func (a *app) await(ctx context.Context, op *client.Operation, err error, noWait bool, doing string) error {
	if err != nil || noWait {
		return err
	}
	return a.during(ctx, doing, func(ctx context.Context, _ *progress) error { return op.Wait(ctx) })
}

// during shows what is being done until it is. Ctrl-C ends the waiting alone.
func (a *app) during(ctx context.Context, doing string, do func(context.Context, *progress) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := a.progress("%s", doing)
	err := do(ctx, p)
	p.end()
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(a.Stderr, "Stopped waiting; the server goes on with it.")
		return exitError{130}
	}
	return err
}

// sure asks whether something is to be done, unless the answer was given.
func (a *app) sure(ctx context.Context, yes bool, question, otherwise string) error {
	if yes {
		return nil
	}
	sure, err := a.ask(ctx, question)
	if err == nil && !sure {
		err = errors.New(otherwise)
	}
	return err
}

// onCompute runs do with a client and the cluster's name, and tells which
// clusters there are when that one is not.
func (a *app) onCompute(cmd *cobra.Command, flag string, args []string, do named) error {
	return a.onNamed(cmd, flag, args, do, noCluster)
}

// noCluster is the error for a cluster that is not there. Where even the list
// fails, the fault lies elsewhere (the workspace), and was stays.
func noCluster(ctx context.Context, c *client.Client, name string, was error) error {
	names, err := clusterNames(ctx, c)
	if err != nil {
		return was
	}
	return noneNamed("cluster", name, names, ". Make it: ebb compute create --name "+name)
}
