package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
)

// systemIdentity is v1's word for the identity that a cluster has of itself.
const systemIdentity = "[system]"

// computeTargetCommand is "az ml computetarget", the grammar of v1. What it
// sends and shows is what SDK v1 does: "az ml" of that time was made of it.
func (a *app) computeTargetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "computetarget",
		Short:   "Compute clusters in the grammar of az ml v1",
		Example: "  ebb ml computetarget create amlcompute -n cpu --max-nodes 4 -s STANDARD_D3_V2\n  ebb ml computetarget list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	create := group("create", "Make a compute target", "  ebb ml computetarget create amlcompute -n cpu --max-nodes 4 -s STANDARD_D3_V2")
	create.AddCommand(a.v1Create(), a.v1CreateInstance())
	update := group("update", "Change a compute target", "  ebb ml computetarget update amlcompute -n cpu --max-nodes 8")
	update.AddCommand(a.v1Update())
	aml := group("amlcompute", "Identities of a cluster", "  ebb ml computetarget amlcompute identity show -n cpu")
	identity := group("identity", "Assign, remove and show identities", "  ebb ml computetarget amlcompute identity assign --name cpu '[system]'")
	identity.AddCommand(a.v1Identity("assign"), a.v1Identity("remove"), a.v1IdentityShow())
	aml.AddCommand(identity)
	instance := group("computeinstance", "Start and stop compute instances", "  ebb ml computetarget computeinstance stop -n notebook-1")
	instance.AddCommand(a.computePower("start"), a.computePower("stop"), a.computePower("restart"))
	for _, name := range []string{"aks", "kubernetes", "datafactory"} {
		create.AddCommand(notBuiltCommand("az ml computetarget create", name, "Compute targets of the kind "+name))
	}
	update.AddCommand(notBuiltCommand("az ml computetarget update", "aks", "Compute targets of the kind aks"))
	cmd.AddCommand(create, update, aml, instance, a.v1List(), a.v1Show(), a.v1Delete("delete"), a.v1Delete("detach"),
		notBuiltCommand("az ml computetarget", "attach", "Attached compute targets"),
		notBuiltCommand("az ml computetarget", "get-credentials", "Credentials of compute targets"))
	return cmd
}

// group is a command that only holds others.
func group(use, short, example string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
}

// v1Flags are those of create and update.
type v1Flags struct {
	name, size, priority, location, description string
	min, max                                    int
	idle                                        seconds
	tags, identities                            []string
	vnet, vnetGroup, subnet                     string
	user, password, key, login                  string
	metadata                                    string
	noWait                                      bool
}

// v1Common registers what every command of v1 has.
func (f *v1Flags) v1Common(a *app, cmd *cobra.Command) {
	if strings.HasPrefix(cmd.Short, "Make") {
		cmd.Flags().StringVarP(&f.name, "name", "n", "", "its name: 3 to 32 letters, digits and '-'")
	} else {
		a.nameFlag(cmd, &f.name, clusterNames)
	}
	cmd.Flags().String("path", "", "folder of a config.json, as az has it; -w and -g say the same")
	cmd.Flags().StringVarP(&f.metadata, "output-metadata-file", "t", "", "`file` to write the answer to, too")
	cmd.Flags().BoolP("verbose-output", "v", false, "as az has it; all is shown")
}

func (a *app) v1Create() *cobra.Command {
	var f v1Flags
	cmd := &cobra.Command{
		Use:   "amlcompute --name NAME --vm-size SIZE --max-nodes N",
		Short: "Make a cluster",
		Example: `  ebb ml computetarget create amlcompute -n cpu --min-nodes 1 --max-nodes 1 -s STANDARD_D3_V2 --location westus2
  ebb ml computetarget create amlcompute --name lowpriocluster --vm-size Standard_NC6 --max-nodes 5 --vm-priority lowpriority
  ebb ml computetarget create amlcompute --name cpu-cluster --vm-size Standard_NC6 --max-nodes 5 --assign-identity '[system]'`,
		Args: cobra.NoArgs,
	}
	f.v1Common(a, cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.size, "vm-size", "s", "", "kind of machine")
	flags.IntVar(&f.max, "max-nodes", 0, "nodes at most")
	flags.IntVar(&f.min, "min-nodes", 0, "nodes to keep at all times")
	flags.Var(&f.idle, "idle-seconds-before-scaledown", "how long a node may stand idle (default 1800, as SDK v1 has it)")
	flags.StringVar(&f.priority, "vm-priority", "dedicated", "dedicated or lowpriority")
	flags.StringVarP(&f.location, "location", "l", "", "region (default the workspace's)")
	flags.StringVar(&f.description, "description", "", "what it is for")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`")
	flags.StringArrayVar(&f.identities, "assign-identity", nil, "'[system]', or ARM `ids`")
	flags.StringVar(&f.vnet, "vnet-name", "", "virtual network")
	flags.StringVar(&f.vnetGroup, "vnet-resourcegroup-name", "", "resource group of the virtual network (default the workspace's)")
	flags.StringVar(&f.subnet, "subnet-name", "", "subnet of the virtual network")
	flags.StringVarP(&f.user, "admin-username", "u", "", "administrator that SSH lets in")
	flags.StringVarP(&f.password, "admin-user-password", "p", "", "password of the administrator")
	flags.StringVarP(&f.key, "admin-user-ssh-key", "k", "", "SSH public key of the administrator, or a file that holds it")
	flags.StringVar(&f.login, "remote-login-port-public-access", "NotSpecified", "Enabled, Disabled or NotSpecified")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until it is ready")
	a.completeSizes(cmd, "vm-size")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needs(cmd, "name", "vm-size", "max-nodes"); err != nil {
			return err
		}
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			want, err := f.cluster(ctx, c)
			if err != nil {
				return err
			}
			a.showing(v1Shape, f.metadata)
			said := map[string]bool{}
			for _, k := range keepable {
				said[k.field] = flags.Changed(strings.TrimPrefix(k.v1, "--"))
			}
			return a.makeCluster(ctx, c, f.name, want, flags.Changed("remote-login-port-public-access"), said, f.noWait)
		})
	}
	return cmd
}

// cluster makes the document that SDK v1 would send.
func (f *v1Flags) cluster(ctx context.Context, c *client.Client) (want client.Compute, err error) {
	priority, ok := map[string]string{"dedicated": "Dedicated", "lowpriority": "LowPriority", "low_priority": "LowPriority"}[strings.ToLower(f.priority)]
	if !ok {
		return want, usagef("no --vm-priority %q; there are: dedicated, lowpriority", f.priority)
	}
	login := ""
	for _, word := range []string{"Enabled", "Disabled", "NotSpecified"} {
		if strings.EqualFold(word, f.login) {
			login = word
		}
	}
	if login == "" {
		return want, usagef("no --remote-login-port-public-access %q; there are: Enabled, Disabled, NotSpecified", f.login)
	}
	aml := client.AmlCompute{VMSize: f.size, VMPriority: priority, RemoteLogin: login,
		Scale: client.ScaleSettings{Min: f.min, Max: f.max, IdleAfter: azml.ToISO(f.idleOr(1800))}}
	if aml.Subnet, err = f.network(c.File()); err != nil {
		return want, err
	}
	who := client.UserAccount{Name: f.user, Key: f.key, Password: f.password}
	if aml.User, err = azml.Administrator(who, ".", "--admin-user-ssh-key", "--admin-user-password"); err != nil {
		return want, usageError{err}
	}
	tags, err := pairs("--tags", f.tags)
	if err != nil {
		return want, err
	}
	if f.location, err = regionOf(ctx, c, f.location); err != nil {
		return want, err
	}
	want = client.Compute{Location: f.location, Tags: tags, Properties: client.ComputeProperties{
		ComputeType: "AmlCompute", ComputeLocation: f.location, Description: f.description, Properties: aml}}
	if len(f.identities) > 0 {
		want.Identity, err = v1IdentityOf(f.identities)
	}
	return want, err
}

func (f *v1Flags) idleOr(otherwise int64) int64 {
	if f.idle.set {
		return f.idle.value
	}
	return otherwise
}

func (f *v1Flags) network(file client.File) (*client.Ref, error) {
	if f.vnet == "" && f.subnet == "" && f.vnetGroup == "" {
		return nil, nil
	}
	if f.vnet == "" || f.subnet == "" {
		return nil, usagef("a network needs both --vnet-name and --subnet-name")
	}
	group := f.vnetGroup
	if group == "" {
		group = file.ResourceGroup
	}
	return azml.Subnet(file, group, f.vnet, f.subnet), nil
}

// v1IdentityOf makes ARM's identity of '[system]' or of ids.
func v1IdentityOf(words []string) (*client.Identity, error) {
	var ids []string
	kind := ""
	for _, word := range words {
		if strings.EqualFold(word, systemIdentity) {
			kind = "system_assigned"
			continue
		}
		ids = append(ids, word)
	}
	if kind != "" && len(ids) > 0 {
		return nil, usagef("a cluster has one system-assigned identity ('[system]') or user-assigned ones, not both")
	}
	id, err := azml.Identity(kind, ids)
	return id, asUsage(err)
}

// v1CreateInstance makes a compute instance; the server says if it does not
// have such.
func (a *app) v1CreateInstance() *cobra.Command {
	var f v1Flags
	cmd := &cobra.Command{
		Use:     "computeinstance --name NAME --vm-size SIZE",
		Short:   "Make a compute instance",
		Example: "  ebb ml computetarget create computeinstance -n notebook-1 -s STANDARD_D3_V2",
		Args:    cobra.NoArgs,
	}
	f.v1Common(a, cmd)
	cmd.Flags().StringVarP(&f.size, "vm-size", "s", "", "kind of machine")
	cmd.Flags().StringVarP(&f.location, "location", "l", "", "region (default the workspace's)")
	cmd.Flags().StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`")
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait until it is ready")
	a.completeSizes(cmd, "vm-size")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needs(cmd, "name", "vm-size"); err != nil {
			return err
		}
		tags, err := pairs("--tags", f.tags)
		if err != nil {
			return err
		}
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			if f.location, err = regionOf(ctx, c, f.location); err != nil {
				return err
			}
			a.showing(v1Shape, f.metadata)
			return a.putCompute(ctx, c, f.name, map[string]any{"location": f.location, "tags": tags, "properties": map[string]any{
				"computeType": "ComputeInstance", "properties": map[string]any{"vmSize": f.size}}}, "Creating "+f.name, f.noWait)
		})
	}
	return cmd
}

func (a *app) v1Update() *cobra.Command {
	var f v1Flags
	cmd := &cobra.Command{
		Use:     "amlcompute --name NAME",
		Short:   "Change a cluster's nodes, idle time and tags",
		Example: "  ebb ml computetarget update amlcompute -n cpu --min-nodes 0 --max-nodes 8 --idle-seconds-before-scaledown 300",
		Args:    cobra.MaximumNArgs(1),
	}
	f.v1Common(a, cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.max, "max-nodes", 0, "nodes at most")
	flags.IntVar(&f.min, "min-nodes", 0, "nodes to keep at all times")
	flags.Var(&f.idle, "idle-seconds-before-scaledown", "how long a node may stand idle")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`, instead of those it has")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until it is done")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var ch computeChange
		if flags.Changed("min-nodes") {
			ch.min = &f.min
		}
		if flags.Changed("max-nodes") {
			ch.max = &f.max
		}
		if f.idle.set {
			ch.idle = &f.idle.value
		}
		if flags.Changed("tags") {
			var err error
			if ch.tags, err = pairs("--tags", f.tags); err != nil {
				return err
			}
		}
		if ch.min == nil && ch.max == nil && ch.idle == nil && ch.tags == nil {
			return usagef("nothing to change: give --min-nodes, --max-nodes, --idle-seconds-before-scaledown or --tags")
		}
		return a.onCompute(cmd, f.name, args, func(ctx context.Context, c *client.Client, name string) error {
			a.showing(v1Shape, f.metadata)
			return a.updateCompute(ctx, c, name, ch, f.noWait)
		})
	}
	return cmd
}

func (a *app) v1List() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the compute targets of the workspace",
		Example: "  ebb ml computetarget list\n  ebb ml computetarget list -o table",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *client.Client) error {
				inner := func(keys ...string) func(object) string {
					return func(o object) string {
						for _, k := range keys[:len(keys)-1] {
							o, _ = o.get(k).(object)
						}
						return plainCell(o.get(keys[len(keys)-1]))
					}
				}
				return printAll(a, c.Computes().All(ctx), 0, v1Shape, []column{col("NAME", "name"), {"TYPE", inner("properties", "computeType")}, col("LOCATION", "location"),
					{"SIZE", inner("properties", "properties", "vmSize")}, {"STATE", inner("properties", "provisioningState")}}, "No compute targets.")
			})
		},
	}
	cmd.Flags().String("path", "", "folder of a config.json, as az has it; -w and -g say the same")
	cmd.Flags().BoolP("verbose-output", "v", false, "as az has it; all is shown")
	return cmd
}

func (a *app) v1Show() *cobra.Command {
	var f v1Flags
	cmd := &cobra.Command{
		Use:     "show --name NAME",
		Short:   "Show a compute target",
		Example: "  ebb ml computetarget show -n cpu --query properties.status.currentNodeCount",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onCompute(cmd, f.name, args, func(ctx context.Context, c *client.Client, name string) error {
				got, err := c.Computes().Get(ctx, name)
				if err != nil {
					return err
				}
				a.showing(v1Shape, f.metadata)
				return a.showCompute(got)
			})
		},
	}
	f.v1Common(a, cmd)
	return cmd
}

// v1Delete deletes without asking, as v1 did.
func (a *app) v1Delete(verb string) *cobra.Command {
	var f v1Flags
	short := "Delete a cluster and its nodes; its jobs are cancelled"
	if verb == "detach" {
		short = "Let go of an attached compute target"
	}
	cmd := &cobra.Command{
		Use:     verb + " --name NAME",
		Short:   short,
		Example: "  ebb ml computetarget " + verb + " -n cpu",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onCompute(cmd, f.name, args, func(ctx context.Context, c *client.Client, name string) error {
				if _, err := c.Computes().Get(ctx, name); err != nil {
					return err
				}
				if verb == "detach" {
					op, err := c.Computes().Detach(ctx, name)
					return a.await(ctx, op, err, f.noWait, "Detaching "+name)
				}
				op, err := c.Computes().Delete(ctx, name)
				return a.await(ctx, op, err, f.noWait, "Deleting cluster "+name)
			})
		},
	}
	f.v1Common(a, cmd)
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait until it is gone")
	return cmd
}

// showing says in which shape computes are shown from here on, and to which file
// the answer goes besides.
func (a *app) showing(shape func(client.Compute) object, metadata string) {
	a.shape, a.metadata = shape, metadata
}

// showCompute shows a compute in the grammar's shape.
func (a *app) showCompute(c client.Compute) error {
	if a.shape != nil {
		return a.show(a.shape(c))
	}
	return a.show(computeShape(c))
}

// show is print, and writes --output-metadata-file where it was given.
func (a *app) show(o object) error {
	if a.metadata != "" {
		var b bytes.Buffer
		err := writeJSON(&b, o)
		if err == nil {
			err = os.WriteFile(a.metadata, b.Bytes(), 0o644)
		}
		if err != nil {
			return fmt.Errorf("--output-metadata-file: %w", err)
		}
	}
	return a.print(o)
}
