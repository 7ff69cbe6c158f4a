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

func (a *app) datastoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "datastore",
		Short:   "Make and look at datastores: where data lies",
		Example: "  ebb datastore list\n  ebb datastore show workspaceblobstore\n  ebb datastore create -f store.yml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.datastoreCreate(), a.datastoreList(), a.datastoreShow(), a.datastoreUpdate(), a.datastoreDelete())
	return cmd
}

func (a *app) datastoreCreate() *cobra.Command {
	var name, file string
	var tags, set []string
	cmd := &cobra.Command{
		Use:     "create --file FILE",
		Short:   "Make a datastore, or replace one",
		Example: "  ebb datastore create -f store.yml\n  ebb datastore create -f store.yml --name other --set container_name=c2",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("which file? Give --file store.yml, in az ml's datastore schema")
			}
			doc, err := yamlspec.Read(file)
			if err == nil {
				err = overlay(doc, cmd.Flags(), map[string]string{"name": "name"}, tags, set)
			}
			var d azml.Datastore
			if err == nil {
				err = doc.Decode(&d)
			}
			var properties map[string]any
			if err == nil {
				properties, err = d.ARM()
			}
			if err == nil && d.Name == "" {
				err = fmt.Errorf("name: a datastore needs one")
			}
			if err != nil {
				return asUsage(err)
			}
			return a.with(cmd, func(ctx context.Context, c *client.Client) error {
				got, err := c.Datastores().Put(ctx, d.Name, properties)
				if err != nil {
					return err
				}
				return a.print(datastoreShape(got))
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML `file` in az ml's datastore schema")
	cmd.Flags().StringVarP(&name, "name", "n", "", "its name")
	cmd.Flags().StringArrayVar(&tags, "tags", nil, "`KEY=VALUE ...`")
	cmd.Flags().StringArrayVar(&set, "set", nil, "`FIELD=VALUE ...` over the file's")
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	return cmd
}

func (a *app) datastoreList() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the datastores of the workspace",
		Example: "  ebb datastore list\n  ebb datastore list --query '[?is_default].name' -o tsv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, c *client.Client) error {
				return printAll(a, c.Datastores().All(ctx), limit, datastoreShape, datastoreColumns, "No datastores.")
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "max-results", "r", 0, "to show at most (default all)")
	return cmd
}

func (a *app) datastoreShow() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one datastore; secrets are never shown",
		Example: "  ebb datastore show workspaceblobstore",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onNamed(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				got, err := c.Datastores().Get(ctx, name)
				if err != nil {
					return err
				}
				return a.print(datastoreShape(got))
			}, noDatastore)
		},
	}
	a.nameFlag(cmd, &name, datastoreNames)
	return cmd
}

func (a *app) datastoreUpdate() *cobra.Command {
	var name string
	var tags, set []string
	cmd := &cobra.Command{
		Use:     "update NAME --set FIELD=VALUE",
		Short:   "Change a datastore's description or tags",
		Example: "  ebb datastore update store --set description='what it is' tags.owner=me",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc := yamlspec.Empty()
			var change struct {
				Description *string           `yaml:"description"`
				Tags        map[string]string `yaml:"tags"`
			}
			err := overlay(doc, cmd.Flags(), nil, tags, set)
			if err == nil {
				err = doc.Decode(&change)
			}
			if err == nil && change.Description == nil && change.Tags == nil {
				err = fmt.Errorf("nothing to change: give --set description=… or tags.KEY=…")
			}
			if err != nil {
				return asUsage(err)
			}
			return a.onNamed(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				got, err := c.Datastores().Whole(ctx, name)
				if err == nil {
					changeable{Description: change.Description, Tags: change.Tags}.apply(got.Properties)
					got, err = c.Datastores().Put(ctx, name, got.Properties)
				}
				if err != nil {
					return err
				}
				return a.print(datastoreShape(got))
			}, noDatastore)
		},
	}
	a.nameFlag(cmd, &name, datastoreNames)
	cmd.Flags().StringArrayVar(&tags, "tags", nil, "`KEY=VALUE ...`, beside those it has")
	cmd.Flags().StringArrayVar(&set, "set", nil, "`FIELD=VALUE ...`, as tags.owner=me")
	return cmd
}

func (a *app) datastoreDelete() *cobra.Command {
	var name string
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a datastore, and leave what is in it",
		Example: "  ebb datastore delete store --yes",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onNamed(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				if _, err := c.Datastores().Get(ctx, name); err != nil {
					return err
				}
				if err := a.sure(ctx, yes, fmt.Sprintf("Delete datastore %s?", name), "nothing was deleted"); err != nil {
					return err
				}
				return c.Datastores().Delete(ctx, name)
			}, noDatastore)
		},
	}
	a.nameFlag(cmd, &name, datastoreNames)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

var datastoreColumns = []column{col("NAME", "name"), col("TYPE", "type"), col("ACCOUNT", "account_name"), col("CONTAINER", "container_name"), col("DEFAULT", "is_default")}

func datastoreNames(ctx context.Context, c *client.Client) ([]string, error) {
	return namesOf(c.Datastores().All(ctx), 0, assetName)
}

// noDatastore is the error for one that is not there.
func noDatastore(ctx context.Context, c *client.Client, name string, was error) error {
	names, err := datastoreNames(ctx, c)
	if err != nil {
		return was
	}
	return noneNamed("datastore", name, names, "")
}

// datastoreShape is a datastore as az ml prints it, without its secrets.
func datastoreShape(got client.Asset) object {
	p := got.Properties
	o := object{{"name", got.Name}, {"id", got.ID}, {"type", snake(plainCell(p["datastoreType"]))}}
	for _, f := range []struct{ arm, az string }{
		{"description", "description"}, {"accountName", "account_name"}, {"containerName", "container_name"}, {"fileShareName", "file_share_name"},
		{"filesystem", "filesystem"}, {"storeName", "store_name"}, {"endpoint", "endpoint"}, {"protocol", "protocol"}, {"isDefault", "is_default"},
	} {
		o.add(f.az, p[f.arm])
	}
	if c, ok := p["credentials"].(map[string]any); ok {
		o = append(o, field{"credentials", object{{"type", snake(plainCell(c["credentialsType"]))}}})
	}
	if tags, ok := p["tags"].(map[string]any); ok && len(tags) > 0 {
		o.add("tags", ordered(tags, nil))
	}
	return o
}

// snake turns AzureDataLakeGen2 into azure_data_lake_gen2.
func snake(pascal string) string {
	var b strings.Builder
	for i, r := range pascal {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}
