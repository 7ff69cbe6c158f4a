package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

func (a *app) workspaceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "workspace",
		Short:   "Make, change and look at workspaces",
		Example: "  ebb workspace list\n  ebb workspace show\n  ebb workspace create --name team-a",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.workspaceCreate(), a.workspaceList(), a.workspaceShow(), a.workspaceUpdate(), a.workspaceDelete(),
		a.workspaceAct("list-keys", "listKeys", "Show the keys of a workspace's parts"),
		a.workspaceAct("sync-keys", "resyncKeys", "Read the keys of a workspace's parts anew"),
		a.workspaceAct("diagnose", "diagnose", "Look for what is wrong with a workspace"))
	return cmd
}

// workspaceFields says which field of the schema a flag is.
var workspaceFields = map[string]string{
	"name": "name", "location": "location", "display-name": "display_name", "description": "description", "storage-account": "storage_account",
	"key-vault": "key_vault", "application-insights": "application_insights", "container-registry": "container_registry",
	"public-network-access": "public_network_access", "image-build-compute": "image_build_compute", "primary-user-assigned-identity": "primary_user_assigned_identity",
}

// workspaceFlags are those of create and update.
type workspaceFlags struct {
	file      string
	tags, set []string
	noWait    bool
}

func (f *workspaceFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringP("name", "n", "", "name of the workspace")
	flags.String("display-name", "", "name to show")
	flags.String("description", "", "what it is for")
	flags.String("application-insights", "", "ARM `id`")
	flags.String("container-registry", "", "ARM `id`")
	flags.String("public-network-access", "", "Enabled or Disabled")
	flags.String("image-build-compute", "", "cluster that builds images")
	flags.String("primary-user-assigned-identity", "", "ARM `id`")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`")
	flags.StringArrayVar(&f.set, "set", nil, "`FIELD=VALUE ...` over the file's")
	flags.StringVarP(&f.file, "file", "f", "", "YAML `file` in az ml's workspace schema")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait until it is ready")
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
}

// spec joins the file and the flags; -w names the workspace too.
func (f *workspaceFlags) spec(a *app, cmd *cobra.Command, args []string) (*azml.Workspace, error) {
	doc := yamlspec.Empty()
	var err error
	if f.file != "" {
		doc, err = yamlspec.Read(f.file)
	}
	if err == nil && a.workspace != "" {
		err = doc.Put("--workspace-name", a.workspace, "name")
	}
	if err == nil && len(args) > 0 {
		err = doc.Put("NAME", args[0], "name")
	}
	if err == nil {
		err = overlay(doc, cmd.Flags(), workspaceFields, f.tags, f.set)
	}
	w := &azml.Workspace{}
	if err == nil {
		err = doc.Decode(w)
	}
	return w, asUsage(err)
}

func (a *app) workspaceCreate() *cobra.Command {
	var f workspaceFlags
	cmd := &cobra.Command{
		Use:     "create --name NAME",
		Short:   "Make a workspace",
		Example: "  ebb workspace create --name team-a --location westus2\n  ebb workspace create -f workspace.yml --no-wait",
		Args:    cobra.MaximumNArgs(1),
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.StringP("location", "l", "", "region (default that of the client file's workspace)")
	flags.String("storage-account", "", "ARM `id`")
	flags.String("key-vault", "", "ARM `id`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w, err := f.spec(a, cmd, args)
		if err == nil && w.Name == "" {
			err = usagef("the workspace needs a name: --name NAME")
		}
		if err != nil {
			return err
		}
		return a.with(cmd, func(ctx context.Context, c *client.Client) error { return a.createWorkspace(ctx, c, w, f.noWait) })
	}
	return cmd
}

func (a *app) createWorkspace(ctx context.Context, c *client.Client, w *azml.Workspace, noWait bool) error {
	group := w.Group
	if group == "" || a.group != "" {
		group = c.File().ResourceGroup
	}
	if w.Location == "" {
		first, err := a.anyLocation(ctx, c)
		if err != nil {
			return err
		}
		w.Location = first
	}
	body := map[string]any{"location": w.Location, "properties": w.Properties(), "identity": map[string]any{"type": "SystemAssigned"}}
	if len(w.Tags) > 0 {
		body["tags"] = w.Tags
	}
	id, err := w.Identity.ARM()
	if err != nil {
		return usageError{err}
	}
	if id != nil {
		body["identity"] = id
	}
	all := c.WorkspacesOf(group)
	op, err := all.Put(ctx, w.Name, body)
	if err := a.await(ctx, op, err, noWait, "Creating workspace "+w.Name); err != nil {
		return err
	}
	got, err := all.Get(ctx, w.Name)
	if err != nil {
		return err
	}
	return a.print(workspaceShape(got))
}

// anyLocation is the region of a workspace that is there: where it is, another
// may be.
func (a *app) anyLocation(ctx context.Context, c *client.Client) (string, error) {
	for got, err := range c.Workspaces(ctx) {
		return got.Location, err
	}
	return "", usagef("in which region? Give --location, as westus2")
}

func (a *app) workspaceList() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the workspaces of the subscription, or with -g of a resource group",
		Example: "  ebb workspace list\n  ebb workspace list -g ebb --query '[].name' -o tsv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *client.Client) error {
				seq := c.Workspaces(ctx)
				if a.group != "" {
					seq = c.WorkspacesOf(a.group).All(ctx)
				}
				return printAll(a, seq, limit, workspaceShape, workspaceColumns, "No workspaces.")
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "max-results", "r", 0, "to show at most (default all)")
	return cmd
}

var workspaceColumns = []column{col("NAME", "name"), col("GROUP", "resource_group"), col("LOCATION", "location"), col("STATE", "provisioning_state"), col("DESCRIPTION", "description")}

// onWorkspace runs do with the name given as flag, as argument or by -w; without
// one it is the client file's.
func (a *app) onWorkspace(cmd *cobra.Command, flag string, args []string, do func(context.Context, client.Workspaces, string) error) error {
	return a.with(cmd, func(ctx context.Context, c *client.Client) error {
		name := c.File().WorkspaceName
		if flag != "" || len(args) > 0 {
			var err error
			if name, err = nameArg(cmd, flag, args); err != nil {
				return err
			}
		}
		err := do(ctx, c.WorkspacesOf(c.File().ResourceGroup), name)
		if !client.IsNotFound(err) {
			return err
		}
		if missing := missingPlace(ctx, c, name); missing != nil {
			return missing
		}
		return err
	})
}

func (a *app) workspaceShow() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "show [NAME]",
		Short:   "Show a workspace, by itself the client file's",
		Example: "  ebb workspace show\n  ebb workspace show --name team-a -g ebb",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onWorkspace(cmd, name, args, func(ctx context.Context, all client.Workspaces, name string) error {
				got, err := all.Get(ctx, name)
				if err != nil {
					return err
				}
				return a.print(workspaceShape(got))
			})
		},
	}
	a.nameFlag(cmd, &name, workspaceNames)
	return cmd
}

func (a *app) workspaceUpdate() *cobra.Command {
	var f workspaceFlags
	cmd := &cobra.Command{
		Use:     "update [NAME]",
		Short:   "Change a workspace's names, description, tags and parts",
		Example: "  ebb workspace update --name team-a --description 'team A' --tags owner=me",
		Args:    cobra.MaximumNArgs(1),
	}
	f.register(cmd)
	cmd.Flags().BoolP("update-dependent-resources", "u", false, "as az has it; a workspace's parts are records, and may change")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w, err := f.spec(a, cmd, args)
		if err != nil {
			return err
		}
		properties := w.Properties()
		if len(properties) == 0 && len(w.Tags) == 0 {
			return usagef("nothing to change: give --display-name, --description, --tags or --public-network-access")
		}
		return a.onWorkspace(cmd, w.Name, nil, func(ctx context.Context, all client.Workspaces, name string) error {
			body := map[string]any{"properties": properties}
			if len(w.Tags) > 0 {
				body["tags"] = w.Tags
			}
			op, err := all.Update(ctx, name, body)
			if err := a.await(ctx, op, err, f.noWait, "Updating workspace "+name); err != nil {
				return err
			}
			got, err := all.Get(ctx, name)
			if err != nil {
				return err
			}
			return a.print(workspaceShape(got))
		})
	}
	return cmd
}

func (a *app) workspaceDelete() *cobra.Command {
	var name string
	var yes, noWait, everything, purge bool
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a workspace, its clusters and its jobs",
		Example: "  ebb workspace delete team-a\n  ebb workspace delete --name team-a --yes --no-wait",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" && len(args) == 0 {
				if name = a.workspace; name == "" {
					return usagef("which one? Give its name, as in: %s NAME", cmd.CommandPath())
				}
			}
			return a.onWorkspace(cmd, name, args, func(ctx context.Context, all client.Workspaces, name string) error {
				if _, err := all.Get(ctx, name); err != nil {
					return err
				}
				if err := a.sure(ctx, yes, fmt.Sprintf("Delete workspace %s, its clusters and its jobs?", name), "nothing was deleted"); err != nil {
					return err
				}
				op, err := all.Delete(ctx, name)
				return a.await(ctx, op, err, noWait, "Deleting workspace "+name)
			})
		},
	}
	a.nameFlag(cmd, &name, workspaceNames)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is gone")
	cmd.Flags().BoolVar(&everything, "all-resources", false, "as az has it; a workspace's parts are records that go with it")
	cmd.Flags().BoolVarP(&purge, "permanently-delete", "p", false, "as az has it; deleting is for good")
	return cmd
}

func (a *app) workspaceAct(use, action, short string) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     use + " [NAME]",
		Short:   short,
		Example: "  ebb workspace " + use + " --name team-a",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onWorkspace(cmd, name, args, func(ctx context.Context, all client.Workspaces, name string) error {
				got, err := all.Act(ctx, name, action)
				if err != nil || len(got) == 0 {
					return err
				}
				return a.print(snaked(ordered(got, nil)))
			})
		},
	}
	a.nameFlag(cmd, &name, workspaceNames)
	cmd.Flags().Bool("no-wait", false, "as az has it")
	return cmd
}

// workspaceShape is a workspace as az ml prints it.
func workspaceShape(w client.Workspace) object {
	p := w.Properties
	o := object{{"name", w.Name}, {"id", w.ID}, {"location", w.Location}, {"resource_group", groupIn(w.ID)}, {"display_name", p.FriendlyName}}
	o.add("description", p.Description)
	o = append(o, field{"provisioning_state", p.ProvisioningState})
	for _, f := range []struct{ key, value string }{
		{"discovery_url", p.DiscoveryURL}, {"mlflow_tracking_uri", p.MLflow}, {"storage_account", p.Storage}, {"key_vault", p.Vault},
		{"application_insights", p.Insights}, {"container_registry", p.Registry}, {"public_network_access", p.Public}, {"workspace_id", p.WorkspaceID},
	} {
		o.add(f.key, f.value)
	}
	o.add("identity", identityShape(w.Identity))
	o.add("tags", w.Tags)
	return o
}

func groupIn(id string) string { return partOf(id, "resourceGroups") }

// partOf is the name that follows a kind in an id.
func partOf(id, kind string) string {
	parts := strings.Split(id, "/")
	for i, part := range parts[:max(len(parts)-1, 0)] {
		if strings.EqualFold(part, kind) {
			return parts[i+1]
		}
	}
	return ""
}

// snaked writes the keys of an answer as az ml does.
func snaked(v any) any {
	switch v := v.(type) {
	case object:
		for i := range v {
			v[i].Key, v[i].Value = snake(v[i].Key), snaked(v[i].Value)
		}
	case []any:
		for i := range v {
			v[i] = snaked(v[i])
		}
	}
	return v
}
