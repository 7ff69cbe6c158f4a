package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

// assetKind is a kind of thing with names and versions, as az ml has them.
type assetKind struct {
	word, plural string // as people say it, and as ARM does
	about        string // what it is, for help
	fileless     bool   // there is no YAML schema of it
	fields       map[string]string
	flags        func(*pflag.FlagSet)
	make         func(a *app, ctx context.Context, c *client.Client, doc *yamlspec.Doc) (assetMade, error)
	shape        func(client.Asset, *object)
	columns      []column
	files        string // property that says where its files lie; empty: it has none
	example      string // of create
}

// assetMade is what a document of an asset comes to, everything uploaded.
type assetMade struct {
	name, version string // version empty: the next one
	properties    map[string]any
	done          *client.Asset // made already
}

var assetKinds = []*assetKind{&environmentKind, &dataKind, &modelKind, &componentKind, &codeKind}

// assetFlags are those that commands about one asset share.
type assetFlags struct {
	name, version, label string
	file                 string
	tags, set            []string
	limit                int
	archived, every      bool
	to                   string
}

func (a *app) assetCommand(k *assetKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:     k.word,
		Short:   "Make and look at " + k.about,
		Example: "  " + k.example + "\n  ebb " + k.word + " list\n  ebb " + k.word + " show NAME --version 1",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.assetCreate(k), a.assetList(k), a.assetShow(k), a.assetUpdate(k), a.assetArchive(k, true), a.assetArchive(k, false), a.assetDelete(k))
	if k.files != "" {
		cmd.AddCommand(a.assetDownload(k))
	}
	if k == &environmentKind {
		cmd.AddCommand(a.environmentBuild(), a.environmentPrefetch())
	}
	return cmd
}

func (a *app) assetCreate(k *assetKind) *cobra.Command {
	var f assetFlags
	cmd := &cobra.Command{
		Use:     "create",
		Short:   "Make a version of " + article(k.word),
		Example: "  " + k.example,
		Args:    cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringP("name", "n", "", "its name")
	flags.StringP("version", "v", "", "its version (default the next one)")
	flags.String("description", "", "what it is for")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`")
	flags.String("registry-name", "", "registry to make it in; there are none")
	if !k.fileless {
		flags.StringVarP(&f.file, "file", "f", "", "YAML `file` in az ml's schema")
		flags.StringArrayVar(&f.set, "set", nil, "`FIELD=VALUE ...` over the file's")
		_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	}
	k.flags(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.createAsset(cmd.Context(), k, flags, &f) }
	return cmd
}

func (a *app) createAsset(ctx context.Context, k *assetKind, flags *pflag.FlagSet, f *assetFlags) error {
	if flags.Changed("registry-name") {
		return usagef("registries are not built; leave --registry-name out to use the workspace")
	}
	doc := yamlspec.Empty()
	var err error
	if f.file != "" {
		if doc, err = yamlspec.Read(f.file); err != nil {
			return usageError{err}
		}
	}
	fields := map[string]string{"name": "name", "version": "version", "description": "description"}
	for flag, field := range k.fields {
		fields[flag] = field
		if strings.HasSuffix(field, "path") && flags.Changed(flag) {
			if err := doc.Put("--"+flag, fromHere(flags.Lookup(flag).Value.String(), doc), strings.Split(field, ".")...); err != nil {
				return usageError{err}
			}
			delete(fields, flag)
		}
	}
	if err := overlay(doc, flags, fields, f.tags, f.set); err != nil {
		return usageError{err}
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	made, err := k.make(a, ctx, c, doc)
	if err != nil {
		return err
	}
	got := made.done
	if got == nil {
		if got, err = putAsset(ctx, c, k, made); err != nil {
			return err
		}
	}
	return a.print(versionShape(k, *got, made.name))
}

func putAsset(ctx context.Context, c *client.Client, k *assetKind, made assetMade) (*client.Asset, error) {
	if made.version == "" {
		var err error
		if made.version, err = nextVersion(ctx, c, k.plural, made.name); err != nil {
			return nil, err
		}
		if spec, ok := made.properties["componentSpec"].(map[string]any); ok {
			spec["version"] = made.version
		}
	}
	got, err := c.Assets(k.plural).Put(ctx, made.name, made.version, made.properties)
	return &got, err
}

// nextVersion is what the server would call the next one; 1 is the first.
func nextVersion(ctx context.Context, c *client.Client, plural, name string) (string, error) {
	got, err := c.Assets(plural).Container(ctx, name)
	if client.IsNotFound(err) {
		return "1", nil
	}
	if err != nil {
		return "", err
	}
	if next, ok := got.Properties["nextVersion"].(string); ok && next != "" {
		return next, nil
	}
	return "", usagef("which version of %s? Give --version: those there are do not say which is next", name)
}

func (a *app) assetList(k *assetKind) *cobra.Command {
	var f assetFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the names that there are, or with --name the versions of one",
		Example: fmt.Sprintf("  ebb %s list\n  ebb %s list --name NAME --query '[].version' -o tsv", k.word, k.word),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listAssets(cmd.Context(), k, &f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.name, "name", "n", "", "list the versions of this one")
	flags.IntVarP(&f.limit, "max-results", "r", 0, "to show at most (default all)")
	flags.BoolVar(&f.archived, "archived-only", false, "those that are archived")
	flags.BoolVar(&f.every, "include-archived", false, "those that are archived, too")
	_ = cmd.RegisterFlagCompletionFunc("name", a.complete(assetNames(k.plural)))
	return cmd
}

func (f *assetFlags) view() client.View {
	switch {
	case f.archived:
		return client.Archived
	case f.every:
		return client.Whole
	}
	return client.Active
}

func (a *app) listAssets(ctx context.Context, k *assetKind, f *assetFlags) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	assets := c.Assets(k.plural)
	seq, shape, columns := assets.All(ctx, f.view()), containerShape, containerColumns
	if f.name != "" {
		seq, columns = assets.Versions(ctx, f.name, f.view()), slices.Concat(versionColumns, k.columns, madeColumns)
		shape = func(got client.Asset) object { return versionShape(k, got, f.name) }
	}
	return printAll(a, seq, f.limit, shape, columns, "There is nothing here yet. Make one: "+k.example)
}

// one registers the flags that name one version.
func (f *assetFlags) one(a *app, k *assetKind, cmd *cobra.Command) {
	a.nameFlag(cmd, &f.name, assetNames(k.plural))
	cmd.Flags().StringVarP(&f.version, "version", "v", "", "its version (default the newest, where one is needed)")
	cmd.Flags().StringVarP(&f.label, "label", "l", "", "latest, instead of a version")
}

// onAsset runs do with a client and one version; with no version asked for it is
// empty, where that makes sense.
func (a *app) onAsset(cmd *cobra.Command, k *assetKind, f *assetFlags, args []string,
	do func(ctx context.Context, c *client.Client, name, version string) error) error {
	name, err := nameArg(cmd, f.name, args)
	if err != nil {
		return err
	}
	switch {
	case f.label != "" && f.label != "latest":
		return usagef("no label %q; there is: latest", f.label)
	case f.label != "" && f.version != "":
		return usagef("--version and --label say two things")
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	version := f.version
	if f.label != "" {
		got, err := c.Assets(k.plural).Latest(ctx, name)
		if err != nil {
			return noAsset(ctx, c, k, name, "", err)
		}
		version = got.Name
	}
	if err = do(ctx, c, name, version); client.IsNotFound(err) {
		return noAsset(ctx, c, k, name, version, err)
	}
	return err
}

// noAsset is the error for an asset that is not there, with those that are.
func noAsset(ctx context.Context, c *client.Client, k *assetKind, name, version string, was error) error {
	if version != "" {
		versions, err := namesOf(c.Assets(k.plural).Versions(ctx, name, client.Whole), 10, assetName)
		if err == nil && len(versions) > 0 {
			return notFound{fmt.Errorf("%s %s has no version %s; there are: %s", k.word, name, version, strings.Join(versions, ", "))}
		}
	}
	names, err := assetNames(k.plural)(ctx, c)
	if err != nil {
		return was
	}
	return noneNamed(k.word, name, names, "")
}

// version returns one version whole: that asked for, or the newest.
func assetVersion(ctx context.Context, c *client.Client, k *assetKind, name, version string) (client.Asset, error) {
	if version == "" {
		return c.Assets(k.plural).Latest(ctx, name)
	}
	return c.Assets(k.plural).Get(ctx, name, version)
}

func (a *app) assetShow(k *assetKind) *cobra.Command {
	var f assetFlags
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a version, by itself the newest",
		Example: fmt.Sprintf("  ebb %s show NAME\n  ebb %s show --name NAME --version 2 -o yaml\n  ebb %s show -n NAME --label latest", k.word, k.word, k.word),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onAsset(cmd, k, &f, args, func(ctx context.Context, c *client.Client, name, version string) error {
				got, err := assetVersion(ctx, c, k, name, version)
				if err != nil {
					return err
				}
				return a.print(versionShape(k, got, name))
			})
		},
	}
	f.one(a, k, cmd)
	return cmd
}

// changeable is what of a version may be another later.
type changeable struct {
	Description *string           `yaml:"description"`
	Stage       *string           `yaml:"stage"`
	Tags        map[string]string `yaml:"tags"`
	Properties  map[string]string `yaml:"properties"`
}

func (a *app) assetUpdate(k *assetKind) *cobra.Command {
	var f assetFlags
	cmd := &cobra.Command{
		Use:     "update NAME --set FIELD=VALUE",
		Short:   "Change a version's description, tags, properties or stage",
		Example: fmt.Sprintf("  ebb %s update NAME --version 1 --set description='what it is' tags.owner=me", k.word),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc := yamlspec.Empty()
			var change changeable
			err := putPairs(doc, "--tags", f.tags, "tags")
			if err == nil {
				err = doc.Set(f.set...)
			}
			if err == nil {
				err = doc.Decode(&change)
			}
			if err == nil && len(f.tags)+len(f.set) == 0 {
				err = errors.New("nothing to change: give --set description=…, tags.KEY=… or stage=…")
			}
			if err != nil {
				return asUsage(err)
			}
			return a.onAsset(cmd, k, &f, args, func(ctx context.Context, c *client.Client, name, version string) error {
				got, err := assetVersion(ctx, c, k, name, version)
				if err == nil {
					change.apply(got.Properties)
					got, err = c.Assets(k.plural).Put(ctx, name, got.Name, got.Properties)
				}
				if err != nil {
					return err
				}
				return a.print(versionShape(k, got, name))
			})
		},
	}
	f.one(a, k, cmd)
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "`FIELD=VALUE ...`, as tags.owner=me")
	cmd.Flags().StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`, beside those it has")
	return cmd
}

// apply changes a version's document. What is empty in it was not sent when it
// was made, and would be something new.
func (ch changeable) apply(properties map[string]any) {
	for key, value := range properties {
		if m, ok := value.(map[string]any); value == nil || ok && len(m) == 0 {
			delete(properties, key)
		}
	}
	for key, text := range map[string]*string{"description": ch.Description, "stage": ch.Stage} {
		if text != nil {
			properties[key] = *text
		}
	}
	for key, more := range map[string]map[string]string{"tags": ch.Tags, "properties": ch.Properties} {
		if more == nil {
			continue
		}
		now, _ := properties[key].(map[string]any)
		if now == nil {
			now = map[string]any{}
		}
		for k, v := range more {
			now[k] = v
		}
		properties[key] = now
	}
}

// assetArchive hides a version, or all of a name, from lists, or shows them again.
func (a *app) assetArchive(k *assetKind, hide bool) *cobra.Command {
	var f assetFlags
	use, short := "archive", "Hide a version, or without --version all of a name, from lists"
	if !hide {
		use, short = "restore", "Show again what was archived"
	}
	cmd := &cobra.Command{
		Use:     use + " NAME",
		Short:   short,
		Example: fmt.Sprintf("  ebb %s %s NAME --version 1\n  ebb %s %s --name NAME", k.word, use, k.word, use),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onAsset(cmd, k, &f, args, func(ctx context.Context, c *client.Client, name, version string) error {
				assets := c.Assets(k.plural)
				if version == "" {
					got, err := assets.Container(ctx, name)
					if err == nil {
						_, err = assets.PutContainer(ctx, name, archived(got, hide))
					}
					return err
				}
				got, err := assets.Get(ctx, name, version)
				if err == nil {
					_, err = assets.Put(ctx, name, version, archived(got, hide))
				}
				return err
			})
		},
	}
	f.one(a, k, cmd)
	return cmd
}

func archived(got client.Asset, hide bool) map[string]any {
	if got.Properties == nil {
		got.Properties = map[string]any{}
	}
	got.Properties["isArchived"] = hide
	return got.Properties
}

func (a *app) assetDelete(k *assetKind) *cobra.Command {
	var f assetFlags
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a version, or without --version all of a name",
		Example: fmt.Sprintf("  ebb %s delete NAME --version 1\n  ebb %s delete --name NAME --yes", k.word, k.word),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onAsset(cmd, k, &f, args, func(ctx context.Context, c *client.Client, name, version string) error {
				what := name + " and all its versions"
				var err error
				if version != "" {
					what = name + ":" + version
					_, err = c.Assets(k.plural).Get(ctx, name, version)
				} else {
					_, err = c.Assets(k.plural).Container(ctx, name)
				}
				if err == nil { // ARM would answer 204 for one that is not there
					err = a.sure(ctx, yes, fmt.Sprintf("Delete %s %s?", k.word, what), "nothing was deleted")
				}
				if err != nil {
					return err
				}
				return c.Assets(k.plural).Delete(ctx, name, version)
			})
		},
	}
	f.one(a, k, cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}
