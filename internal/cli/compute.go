package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

// computeFlags are those of create and update that are not a field of the schema.
type computeFlags struct {
	name, file  string
	tags, set   []string
	users       []string
	idle        seconds
	noWait, yes bool

	said map[string]bool // the fields of keepable that file and flags have
}

// computeFields says which field of the schema a flag is.
var computeFields = map[string]string{
	"type": "type", "size": "size", "tier": "tier", "min-instances": "min_instances", "max-instances": "max_instances",
	"idle-time-before-scale-down": "idle_time_before_scale_down", "location": "location", "description": "description",
	"identity-type": "identity.type", "vnet-name": "network_settings.vnet_name", "subnet": "network_settings.subnet",
	"admin-username": "ssh_settings.admin_username", "ssh-key-value": "ssh_settings.ssh_key_value",
	"admin-password": "ssh_settings.admin_password", "ssh-public-access-enabled": "ssh_public_access_enabled",
	"enable-node-public-ip": "enable_node_public_ip", "resource-id": "resource_id", "ssh-port": "ssh_settings.ssh_port",
	"namespace": "namespace", "idle-time-before-shutdown-minutes": "idle_time_before_shutdown_minutes", "idle-time-before-shutdown": "idle_time_before_shutdown", "enable-sso": "enable_sso",
	"user-object-id": "create_on_behalf_of.user_object_id", "user-tenant-id": "create_on_behalf_of.user_tenant_id",
}

func (a *app) computeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "compute",
		Short:   "Make, change and look at compute clusters",
		Example: "  ebb compute create --name cpu-cluster --max-instances 4\n  ebb compute list\n  ebb compute show cpu-cluster -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.computeCreate(), a.computeList(), a.computeShow(), a.computeUpdate(), a.computeDelete(), a.computeNodes(),
		a.sizeList("list-sizes", "ebb compute list-sizes"), a.usageOf("list-usage", "ebb compute list-usage"),
		a.computeAttach(), a.computeDetach(), a.computePower("start"), a.computePower("stop"), a.computePower("restart"),
		notBuiltCommand("az ml compute", "connect-ssh", "SSH connections to computes"), notBuiltCommand("az ml compute", "enable-sso", "Sign-ins to computes"))
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
says the same in YAML; flags win over it. A cluster that is there is brought to
all of it, as az does: what is not named becomes the default, which a note says
before. "ebb compute update" changes only what is named.`,
		Example: `  ebb compute create --name cpu-cluster --max-instances 4
  ebb compute create -n gpu --size Standard_NC6s_v3 --max-instances 2 --tier low_priority
  ebb compute create -n small --min-instances 1 --idle-time-before-scale-down 2m --tags team=vision
  ebb compute create -f cluster.yml --no-wait`,
		Args: cobra.MaximumNArgs(1),
	}
	flags := cmd.Flags()
	f.register(flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.createCompute(cmd, &f, args) }
	a.completeSizes(cmd, "size")
	_ = cmd.RegisterFlagCompletionFunc("tier", cobra.FixedCompletions([]string{"dedicated", "low_priority"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("identity-type", cobra.FixedCompletions([]string{"system_assigned", "user_assigned"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	return cmd
}

func (f *computeFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&f.name, "name", "n", "", "name of the cluster: 3 to 32 letters, digits and '-'")
	flags.StringVarP(&f.file, "file", "f", "", "YAML `file` in az ml's compute schema")
	flags.StringP("type", "t", "amlcompute", "kind of compute: amlcompute (a cluster) or computeinstance")
	flags.String("size", "", "kind of machine, as \"ebb size list\" shows them (default Standard_DS3_v2)")
	flags.Int("min-instances", 0, "nodes to keep at all times")
	flags.Int("max-instances", 4, "nodes at most")
	flags.Var(&f.idle, "idle-time-before-scale-down", "how long a node may stand idle: seconds, or as 2m (default 120)")
	flags.String("tier", "", "dedicated or low_priority (default dedicated)")
	flags.StringP("location", "l", "", "region (default the workspace's)")
	flags.String("description", "", "what it is for")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`")
	flags.StringP("identity-type", "i", "", "system_assigned or user_assigned")
	flags.StringSliceVar(&f.users, "user-assigned-identities", nil, "ARM `ids`, with commas between them")
	flags.String("vnet-name", "", "virtual network, where --subnet is a name")
	flags.String("subnet", "", "subnet: its name, or its ARM id")
	flags.String("admin-username", "", "administrator that SSH lets in")
	flags.String("ssh-key-value", "", "SSH public key of the administrator, or a file that holds it")
	flags.String("admin-password", "", "password of the administrator")
	flags.Bool("ssh-public-access-enabled", false, "open the SSH port to the public")
	flags.Bool("enable-node-public-ip", true, "give nodes a public address")
	flags.Int("idle-time-before-shutdown-minutes", 0, "how long a compute instance may stand idle")
	flags.String("idle-time-before-shutdown", "", "the same, as PT30M")
	flags.Bool("enable-sso", true, "single sign-on to a compute instance")
	flags.String("user-object-id", "", "whom a compute instance is for")
	flags.String("user-tenant-id", "", "tenant of whom a compute instance is for")
	flags.StringArrayVar(&f.set, "set", nil, "`FIELD=VALUE ...` over the file's, as max_instances=2")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until it is ready")
}

// spec joins the file and the flags; flags win.
func (f *computeFlags) spec(flags *pflag.FlagSet, args []string) (azml.ComputeSpec, error) {
	doc := yamlspec.Empty()
	var err error
	if f.file != "" {
		if doc, err = yamlspec.Read(f.file); err != nil {
			return nil, usageError{err}
		}
	}
	if flags.Changed("type") || !doc.Has("type") {
		err = doc.Put("--type", flags.Lookup("type").Value.String(), "type")
	}
	if err == nil {
		err = f.overlay(doc, flags, args)
	}
	f.said = map[string]bool{}
	for _, k := range keepable {
		f.said[k.field] = doc.Has(k.field)
	}
	if most := flags.Lookup("max-instances"); err == nil && f.file == "" && most != nil && !doc.Has("max_instances") && strings.EqualFold(doc.Top("type"), "amlcompute") {
		// The file's default is the schema's (1), and the flag's is the SDK's.
		err = doc.Put("--max-instances", most.Value.String(), "max_instances")
	}
	var s azml.ComputeSpec
	if err == nil {
		s, err = azml.ReadCompute(doc)
	}
	if err == nil && s.Base().Name == "" {
		err = errors.New("the cluster needs a name: --name NAME")
	}
	return s, asUsage(err)
}

// overlay puts the flags over the document.
func (f *computeFlags) overlay(doc *yamlspec.Doc, flags *pflag.FlagSet, args []string) error {
	if len(args) > 0 {
		if f.name != "" && f.name != args[0] {
			return fmt.Errorf("two names: %q and %q", f.name, args[0])
		}
		f.name = args[0]
	}
	if f.name != "" {
		if err := doc.Put("--name", f.name, "name"); err != nil {
			return err
		}
	}
	if flags.Changed("user-assigned-identities") {
		if err := doc.PutList("--user-assigned-identities", f.users, "identity", "user_assigned_identities"); err != nil {
			return err
		}
	}
	return overlay(doc, flags, computeFields, f.tags, f.set)
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
	base := spec.Base()
	if base.Location, err = regionOf(ctx, c, base.Location); err != nil {
		return err
	}
	want, err := spec.Document(c.File())
	if err != nil {
		return usageError{err}
	}
	if cluster, ok := spec.(*azml.Compute); ok {
		return a.makeCluster(ctx, c, base.Name, want.(client.Compute), cluster.SSHPublic != nil, f.said, f.noWait)
	}
	return a.putCompute(ctx, c, base.Name, want, "Creating "+base.Name, f.noWait)
}

// makeCluster makes a cluster, or brings one that is there to what is wanted: all
// of it, as az does, so that what was not said becomes the default.
func (a *app) makeCluster(ctx context.Context, c *client.Client, name string, want client.Compute, sshSaid bool, said map[string]bool, noWait bool) error {
	doing := "Creating cluster " + name
	if there, err := c.Computes().Get(ctx, name); err == nil {
		doing = "Cluster " + name + " exists; bringing it to what was asked for"
		a.noteResets(there, want, said)
		if !sshSaid {
			// It cannot change, and another client may have made the cluster otherwise.
			want.Properties.Properties.RemoteLogin = there.Properties.Properties.RemoteLogin
		}
	}
	err := a.putCompute(ctx, c, name, want, doing, noWait)
	if err == nil {
		a.noteCost(want.Properties.Properties.Scale.Min)
	}
	return err
}

// keepable is what creating a cluster anew sets back where it is not said.
var keepable = []struct {
	field, what string
	flag, v1    string // to say it with
	of          func(client.Compute) string
}{
	{"min_instances", "min instances", "--min-instances", "--min-nodes", func(c client.Compute) string { return strconv.Itoa(c.Properties.Properties.Scale.Min) }},
	{"max_instances", "max instances", "--max-instances", "--max-nodes", func(c client.Compute) string { return strconv.Itoa(c.Properties.Properties.Scale.Max) }},
	{"idle_time_before_scale_down", "idle time", "--idle-time-before-scale-down", "--idle-seconds-before-scaledown", func(c client.Compute) string {
		n, _ := azml.FromISO(c.Properties.Properties.Scale.IdleAfter)
		return fmt.Sprintf("%d s", n)
	}},
	{"tags", "tags", "--tags", "--tags", func(c client.Compute) string { return cmp.Or(plainCell(c.Tags), "none") }},
}

// noteResets says beforehand what becomes the default because nobody said it.
func (a *app) noteResets(there, want client.Compute, said map[string]bool) {
	for _, k := range keepable {
		flag := k.flag
		if a.shape != nil { // v1's grammar
			flag = k.v1
		}
		if is, be := k.of(there), k.of(want); is != be && !said[k.field] {
			fmt.Fprintf(a.Stderr, "NOTE: %s %s → %s (default); name %s to keep it.\n", k.what, is, be, flag)
		}
	}
}

// putCompute makes a compute, waits unless told not to, and shows it.
func (a *app) putCompute(ctx context.Context, c *client.Client, name string, body any, doing string, noWait bool) error {
	made, op, err := c.Computes().Create(ctx, name, body)
	if err := a.await(ctx, op, err, noWait, doing); err != nil {
		return err
	}
	if !noWait {
		if made, err = c.Computes().Get(ctx, name); err != nil {
			return err
		}
	}
	return a.showCompute(made)
}

// aboutMin matches a warning about the minimum of nodes.
var aboutMin = regexp.MustCompile(`(?i)\bmin(imum|[ _-]|NodeCount)`)

// noteCost says what a minimum means, where the server has not.
func (a *app) noteCost(nodes int) {
	for _, w := range a.warned {
		if aboutMin.MatchString(w) {
			return
		}
	}
	if nodes > 0 {
		minFlag := "--min-instances"
		if a.shape != nil { // v1's grammar
			minFlag = "--min-nodes"
		}
		fmt.Fprintf(a.Stderr, "NOTE: %d node(s) stay on, and are paid for, also when there is no job; %s 0 lets them all go.\n", nodes, minFlag)
	}
}

func (a *app) computeList() *cobra.Command {
	var kind string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the clusters of the workspace",
		Example: "  ebb compute list\n  ebb compute list --query '[].{name: name, nodes: current_node_count}' -o tsv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *client.Client) error {
				shape := func(got client.Compute) object {
					if !fits(got.Properties.ComputeType, kind) {
						return nil
					}
					return computeShape(got)
				}
				none := "No clusters yet. Make one: ebb compute create --name cpu-cluster"
				if kind != "" {
					none = "No computes of the kind " + kind + "."
				}
				return printAll(a, c.Computes().All(ctx), limit, shape, computeColumns, none)
			})
		},
	}
	cmd.Flags().StringVarP(&kind, "type", "t", "", "only computes of this kind: amlcompute or computeinstance")
	cmd.Flags().IntVarP(&limit, "max-results", "r", 0, "to show at most (default all)")
	return cmd
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
				return a.showCompute(got)
			})
		},
	}
	a.nameFlag(cmd, &name, clusterNames)
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
				a.tellQuarantine(ctx, c, name)
				return nil
			})
		},
	}
	a.nameFlag(cmd, &name, clusterNames)
	return cmd
}
