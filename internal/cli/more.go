package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
)

func (a *app) serveCommand() *cobra.Command {
	var f ServeFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server until SIGTERM or Ctrl-C.

The first start makes a local CA, a workspace and a credential, and writes
client.json into the data folder, where every other command finds it. One line
"ready https://…" on standard output says that it answers. Running jobs go on
when the server stops, and are found again when it starts.`,
		Example: "  ebb serve\n  ebb serve --listen 0.0.0.0:8443 --data /srv/ebb",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if f.Data == "" {
				f.Data = client.DefaultDataDir()
			}
			return a.Serve(ctx, f)
		},
	}
	cmd.Flags().StringVar(&f.Listen, "listen", "", "`host:port` to answer on (default the configuration's, 127.0.0.1:8443)")
	cmd.Flags().StringVar(&f.Data, "data", "", "`folder` of the server's data (default $EBB_DATA, /var/lib/ebb for root, else ~/.local/share/ebb)")
	cmd.Flags().StringVar(&f.Config, "config", "", "YAML `file` of settings (default ebb.yaml in the data folder, if it is there)")
	_ = cmd.MarkFlagDirname("data")
	_ = cmd.MarkFlagFilename("config", "yml", "yaml")
	return cmd
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  ebb version\n  ebb version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.output == "table" && a.query == "" {
				_, err := fmt.Fprintf(a.Stdout, "ebb %s %s/%s\n", a.Version, runtime.GOOS, runtime.GOARCH)
				return err
			}
			return a.print(object{{"version", a.Version}, {"os", runtime.GOOS}, {"arch", runtime.GOARCH}, {"go", runtime.Version()}})
		},
	}
}

func (a *app) sizeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "size",
		Short:   "Look at the kinds of machine",
		Example: "  ebb size list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.sizeList("list", "ebb size list"))
	return cmd
}

// sizeList is "size list", and "compute list-sizes" of az ml.
func (a *app) sizeList(use, typed string) *cobra.Command {
	var location string
	list := &cobra.Command{
		Use:     use,
		Short:   "List the kinds of machine that a region has",
		Example: "  " + typed + "\n  " + typed + " --location westeurope --query '[?gpus>`0`].name' -o tsv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inRegion(cmd, location, func(ctx context.Context, c *client.Client, region string) error {
				return printAll(a, c.Sizes(ctx, region), 0, func(s client.Size) object {
					return object{{"name", s.Name}, {"family", s.Family}, {"v_cp_us", s.VCPUs}, {"memory_gb", s.MemoryGB},
						{"gpus", s.GPUs}, {"low_priority_capable", s.LowPriority}}
				}, []column{col("NAME", "name"), col("VCPUS", "v_cp_us"), col("MEMORY GB", "memory_gb"), col("GPUS", "gpus"),
					col("LOW PRIORITY", "low_priority_capable"), col("FAMILY", "family")}, "This region has no sizes.")
			})
		},
	}
	list.Flags().StringVarP(&location, "location", "l", "", "region (default the workspace's)")
	list.Flags().StringP("type", "t", "", "kind of compute; every kind has the same sizes")
	return list
}

// usageOf is "usage", and "compute list-usage" of az ml.
func (a *app) usageOf(use, typed string) *cobra.Command {
	var location string
	var everything bool
	cmd := &cobra.Command{
		Use:     use,
		Short:   "Show how much of the quotas is in use",
		Example: "  " + typed + "\n  " + typed + " --all --location westeurope -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inRegion(cmd, location, func(ctx context.Context, c *client.Client, region string) error {
				return printAll(a, c.Usages(ctx, region), 0, func(u client.Usage) object {
					if !everything && a.output == "table" && u.Current == 0 {
						return nil
					}
					return object{{"id", u.ID}, {"name", object{{"value", u.Name.Value}, {"localized_value", u.Name.Localized}}},
						{"type", u.Type}, {"unit", u.Unit}, {"current_value", u.Current}, {"limit", u.Limit}}
				}, usageColumns, "Nothing is in use. --all shows every quota.")
			})
		},
	}
	cmd.Flags().StringVarP(&location, "location", "l", "", "region (default the workspace's)")
	cmd.Flags().BoolVar(&everything, "all", false, "show the quotas of which nothing is used, too")
	return cmd
}

var usageColumns = []column{
	{"QUOTA", func(o object) string {
		name := o.get("name").(object)
		if text := plainCell(name.get("localized_value")); text != "" {
			return text
		}
		return plainCell(name.get("value"))
	}},
	col("USED", "current_value"),
	{"LIMIT", func(o object) string {
		if o.get("limit") == int64(-1) {
			return "none"
		}
		return plainCell(o.get("limit"))
	}},
	{"OF", func(o object) string { return scopeOf(plainCell(o.get("id"))) }},
}

// scopeOf says whose use a usage counts: a family has one for the subscription, and
// one for each workspace and cluster that has a part in it.
func scopeOf(id string) string {
	workspace, compute := partOf(id, "workspaces"), partOf(id, "computes")
	switch {
	case compute != "":
		return "cluster " + compute + " of " + workspace
	case workspace != "":
		return "workspace " + workspace
	}
	return "subscription"
}

// regionOf is the region that was named, or the workspace's.
func regionOf(ctx context.Context, c *client.Client, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	ws, err := c.Workspace(ctx)
	if err != nil {
		return "", fmt.Errorf("look up the workspace: %w", err)
	}
	return ws.Location, nil
}

// inRegion runs do with a region: the one named, or the workspace's.
func (a *app) inRegion(cmd *cobra.Command, location string, do func(context.Context, *client.Client, string) error) error {
	return a.with(cmd, func(ctx context.Context, c *client.Client) error {
		region, err := regionOf(ctx, c, location)
		if err != nil {
			return err
		}
		return do(ctx, c, region)
	})
}

func (a *app) pruneCommand() *cobra.Command {
	var p client.Prune
	var age, size string
	kinds := []string{"logs", "envs", "snapshots", "cache"}
	cmd := &cobra.Command{
		Use:   "prune [logs] [envs] [snapshots] [cache]",
		Short: "Remove old logs, environments and code snapshots from the server",
		Long: `Remove old logs, environments and code snapshots from the server.

Without a kind, all four. What is older than --older-than goes; then, with
--max-size, the oldest of each kind until no more than that is left. What a
job that is not over needs always stays. Of a pruned log one line stays that
says so; a client that knows a pruned snapshot must send the code anew; cache
is the nodes' copies of code, which are fetched again when needed.`,
		Example: `  ebb prune --older-than 30d --dry-run
  ebb prune logs --older-than 7d
  ebb prune envs --max-size 20G`,
		Args: func(_ *cobra.Command, args []string) error {
			for _, kind := range args {
				if !slices.Contains(kinds, kind) {
					return fmt.Errorf("no kind %q; there are: %s", kind, strings.Join(kinds, ", "))
				}
			}
			return nil
		},
		ValidArgs: kinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			if age == "" && size == "" {
				return usagef("what is old? Give --older-than 30d, or --max-size 20G")
			}
			if p.Kinds = args; len(args) == 0 {
				p.Kinds = kinds
			}
			if err := pruneBounds(&p, age, size); err != nil {
				return err
			}
			return a.prune(cmd.Context(), p)
		},
	}
	cmd.Flags().StringVar(&age, "older-than", "", "age, as 30d or 12h")
	cmd.Flags().StringVar(&size, "max-size", "", "size to leave of each kind, as 20G")
	cmd.Flags().BoolVar(&p.DryRun, "dry-run", false, "only say what would go")
	return cmd
}

func pruneBounds(p *client.Prune, age, size string) error {
	if age != "" {
		var days int64
		if n, err := fmt.Sscanf(age, "%dd", &days); n == 1 && err == nil && age == fmt.Sprintf("%dd", days) && days >= 0 {
			p.OlderThanSeconds = days * 86400
		} else if p.OlderThanSeconds, err = azml.ParseSeconds(age); err != nil {
			return usagef("--older-than: %w", err)
		}
	}
	if size != "" {
		n, err := bytesOf(size)
		if err != nil {
			return usagef("--max-size: %w", err)
		}
		p.MaxSizeBytes = &n
	}
	return nil
}

func (a *app) prune(ctx context.Context, p client.Prune) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	wait := a.progress("Pruning %s", strings.Join(p.Kinds, ", "))
	got, err := c.Prune(ctx, p)
	wait.end()
	if err != nil {
		return err
	}
	shapes := make([]object, len(got.Value))
	for i, s := range got.Value {
		shapes[i] = object{{"kind", s.Kind}, {"removed", s.Removed}, {"bytes", s.Bytes}, {"kept_bytes", s.KeptBytes}, {"dry_run", got.DryRun}}
	}
	verb := "REMOVED"
	if p.DryRun {
		verb = "WOULD GO"
	}
	size := func(key string) func(object) string {
		return func(o object) string { return humanize.IBytes(uint64(max(o.get(key).(int64), 0))) }
	}
	return a.printList(shapes, []column{col("KIND", "kind"), col(verb, "removed"), {"SIZE", size("bytes")}, {"LEFT", size("kept_bytes")}}, "Nothing to remove.")
}

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Make files that other clients read",
		Example: "  ebb config write",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var where string
	var force bool
	write := &cobra.Command{
		Use:   "write",
		Short: "Make the config.json for Workspace.from_config()",
		Long: `Make the config.json for Workspace.from_config() and MLClient.from_config().

The SDKs look for it in the folder they run in, then upwards, and there in
.azureml too. A config.json of another workspace is not replaced without --force.`,
		Example: "  ebb config write\n  ebb config write --path .azureml\n  ebb config write --path ~/project --force",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.writeConfig(where, force) },
	}
	for _, word := range []string{"set", "get", "unset", "param-persist"} {
		cmd.AddCommand(a.azCommand(word, "config", word)) // az has a group of this name
	}
	write.Flags().StringVar(&where, "path", ".", "`folder` to write to, or a file whose name ends in .json")
	write.Flags().BoolVar(&force, "force", false, "replace one that names another workspace")
	cmd.AddCommand(write)
	return cmd
}

// workspaceConfig is the SDKs' config.json.
type workspaceConfig struct {
	Subscription string `json:"subscription_id"`
	Group        string `json:"resource_group"`
	Workspace    string `json:"workspace_name"`
}

func (a *app) writeConfig(where string, force bool) error {
	f, err := a.file()
	if err != nil {
		return err
	}
	path := where
	if filepath.Ext(path) != ".json" {
		path = filepath.Join(where, "config.json")
	}
	want := workspaceConfig{f.SubscriptionID, f.ResourceGroup, f.WorkspaceName}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the old file: %w", err)
	}
	var is workspaceConfig
	if err == nil && !force && (json.Unmarshal(bytes.TrimPrefix(old, []byte("\ufeff")), &is) != nil || is != want) {
		return fmt.Errorf("%s names another workspace (%s); --force replaces it", path, is.Workspace)
	}
	if dir := filepath.Dir(path); filepath.Base(dir) != ".azureml" {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("there is no folder %s; make it first", dir)
		}
	} else if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	b, err := json.MarshalIndent(want, "", "    ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(a.Stderr, "Wrote %s: workspace %s, resource group %s.\n", path, want.Workspace, want.Group)
	return nil
}

// ask puts a yes-or-no question to a person; where there is none it fails.
func (a *app) ask(ctx context.Context, question string) (bool, error) {
	in, ok := a.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return false, usagef("%s Nobody is there to ask: give --yes", question)
	}
	fmt.Fprintf(a.Stderr, "%s (y/n): ", question)
	answer := make(chan string, 1)
	go func() { // ends with the process: a read of a terminal cannot be taken back
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case line := <-answer:
		return line == "y" || line == "yes", nil
	}
}

// nameFlag gives a command --name, with completion of names, here and for the
// argument that may stand for it.
func (a *app) nameFlag(cmd *cobra.Command, name *string, names namer) {
	cmd.Flags().StringVarP(name, "name", "n", "", "the name, if it is not the argument")
	a.completeNames(cmd, names)
}

// namer lists names that a server knows.
type namer func(context.Context, *client.Client) ([]string, error)

func (a *app) completeNames(cmd *cobra.Command, names namer) {
	_ = cmd.RegisterFlagCompletionFunc("name", a.complete(names))
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.complete(names)(cmd, args, prefix)
	}
}

// completeSizes completes the flag that takes a size.
func (a *app) completeSizes(cmd *cobra.Command, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, a.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		ws, err := c.Workspace(ctx)
		if err != nil {
			return nil, err
		}
		return namesOf(c.Sizes(ctx, ws.Location), 0, func(s client.Size) string { return s.Name })
	}))
}

// complete asks the server for names. Somebody is holding the tab key: it is
// given two seconds, and no second try.
func (a *app) complete(names namer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		a.patience = 0
		a.Stderr = &bytes.Buffer{} // a warning in the middle of a command line helps nobody
		c, err := a.connect()
		if err != nil {
			return nil, none
		}
		defer c.Close()
		base := cmd.Context()
		if base == nil {
			base = context.Background()
		}
		ctx, cancel := context.WithTimeout(base, 2*time.Second)
		defer cancel()
		list, err := names(ctx, c)
		if err != nil {
			return nil, none
		}
		return slices.DeleteFunc(list, func(n string) bool { return !strings.HasPrefix(strings.ToLower(n), strings.ToLower(prefix)) }), none
	}
}

func clusterNames(ctx context.Context, c *client.Client) ([]string, error) {
	return namesOf(c.Computes().All(ctx), 0, func(got client.Compute) string { return got.Name })
}

func jobNames(ctx context.Context, c *client.Client) ([]string, error) {
	return namesOf(c.Jobs().All(ctx), 100, func(job client.Job) string { return job.Name })
}
