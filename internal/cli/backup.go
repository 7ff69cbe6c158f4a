package cli

import (
	"context"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
)

// BackupFlags are what "ebb backup" was given.
type BackupFlags struct {
	Data string // folder of the server's data
	To   string // folder of the backup
}

// Backup is what a backup holds.
type Backup struct {
	Folder     string
	RowsBytes  int64
	Blobs      int
	BlobsBytes int64
	Also       []string // names in the data folder
}

// RestoreFlags are what "ebb restore" was given.
type RestoreFlags struct {
	From    string // folder of the backup
	Data    string // folder of the server's data
	Replace bool   // put what is there aside
}

// Restored is what a restore did.
type Restored struct {
	Data       string
	Made       time.Time // the backup
	Blobs      int
	BlobsBytes int64
	Epoch      int64
	Aside      string // where what was there is now; empty: nothing was
}

func (a *app) backupCommand() *cobra.Command {
	var f BackupFlags
	cmd := &cobra.Command{
		Use:   "backup FOLDER",
		Short: "Copy a server's data, while it runs",
		Long: `Copy a server's data into a new folder, while the server runs or not.

It takes rows, blobs, keys, certificates and ebb.yaml, as of one moment: no row
names a blob that is not in the copy. Nodes and caches are not taken along. Run
it on the server's machine, as the user that the server runs as. The copy holds
the server's keys: keep it as safe as the data folder. "ebb restore" puts it back.`,
		Example: "  ebb backup /mnt/backup/ebb-$(date +%F)\n  ebb backup /mnt/backup/today --data /srv/ebb",
		Args:    oneFolder,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			f.To, f.Data = args[0], dataOr(f.Data)
			b, err := a.Backup(ctx, f)
			if err != nil {
				return err
			}
			return a.print(object{
				{"folder", b.Folder}, {"rows_bytes", b.RowsBytes}, {"blobs", b.Blobs}, {"blobs_bytes", b.BlobsBytes}, {"also", b.Also},
			})
		},
	}
	dataFlag(cmd, &f.Data)
	return cmd
}

func (a *app) restoreCommand() *cobra.Command {
	var f RestoreFlags
	cmd := &cobra.Command{
		Use:   "restore FOLDER",
		Short: "Put a copy of \"ebb backup\" back into a data folder",
		Long: `Put a copy that "ebb backup" made back into a data folder, and begin a new epoch.

The server must not run. What the folder holds is put aside in it with --replace,
and left alone without: then nothing is done. Nodes stay, and their jobs go on.
When the server starts, it takes up the jobs that both sides know. Nodes that the
older state does not know as they are it quarantines ("ebb quarantine"). A job of
which it cannot know what became ends as failed (LostByRestore), and is not run
again; one that waited at the time of the backup waits again, and so one that has
run and ended since runs a second time: cancel those before you start, or after.`,
		Example: "  ebb restore /mnt/backup/ebb-2026-01-31 --data /srv/ebb\n  ebb restore /mnt/backup/today --replace",
		Args:    oneFolder,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			f.From, f.Data = args[0], dataOr(f.Data)
			r, err := a.Restore(ctx, f)
			if err != nil {
				return err
			}
			return a.print(object{
				{"data", r.Data}, {"made", r.Made.Format(time.RFC3339)}, {"blobs", r.Blobs}, {"blobs_bytes", r.BlobsBytes},
				{"epoch", r.Epoch}, {"replaced", r.Aside},
			})
		},
	}
	cmd.Flags().BoolVar(&f.Replace, "replace", false, "put aside what the folder holds")
	dataFlag(cmd, &f.Data)
	return cmd
}

func oneFolder(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give one folder, as in: %s /mnt/backup/today", cmd.CommandPath())
	}
	return nil
}

func dataFlag(cmd *cobra.Command, data *string) {
	cmd.Flags().StringVar(data, "data", "", "`folder` of the server's data (default $EBB_DATA, /var/lib/ebb for root, else ~/.local/share/ebb)")
	_ = cmd.MarkFlagDirname("data")
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
}

func dataOr(data string) string {
	if data == "" {
		return client.DefaultDataDir()
	}
	return data
}

var quarantineColumns = []column{
	col("NODE", "node"), col("CLUSTER", "cluster"), col("ALIVE", "alive"), col("SIZE", "size"), col("HOLDS", "attempts"), col("WHY", "why"),
}

func quarantineShape(q client.Quarantined) object {
	return object{
		{"node", q.Node}, {"cluster", q.Cluster}, {"alive", q.Alive}, {"size", q.VMSize}, {"attempts", q.Attempts}, {"why", q.Why},
	}
}

func (a *app) quarantineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "Nodes that a restored server does not know",
		Long: `Nodes that a restored server does not know.

After "ebb restore" there may be nodes on the machine that were launched, or took
jobs, after the backup was made. They are neither ended nor used: their jobs go
on, and keep what they write in DATA/nodes/NODE/attempts. They take room until
you end them. What their jobs wrote is then gone: copy it before.`,
		Example: "  ebb quarantine list\n  ebb quarantine end cpu-3f2a-7",
	}
	list := &cobra.Command{
		Use: "list", Short: "List the quarantined nodes, and why they are", Example: "  ebb quarantine list\n  ebb quarantine list -o json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.quarantined(cmd.Context())
			if err != nil {
				return err
			}
			shapes := make([]object, len(all))
			for i, q := range all {
				shapes[i] = quarantineShape(q)
			}
			return a.printList(shapes, quarantineColumns, "No node is quarantined.")
		},
	}
	end := &cobra.Command{
		Use: "end NODE", Short: "End a quarantined node, with the jobs that it runs", Example: "  ebb quarantine end cpu-3f2a-7",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onNamed(cmd, "", args, func(ctx context.Context, c *client.Client, name string) error {
				if err := c.EndQuarantined(ctx, name); err != nil {
					return err
				}
				fmt.Fprintf(a.Stderr, "Node %s is gone.\n", name)
				return nil
			}, a.noQuarantined)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if all, err := a.quarantined(cmd.Context()); err == nil && len(args) == 0 {
				for _, q := range all {
					names = append(names, q.Node)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.AddCommand(list, end)
	return cmd
}

func (a *app) quarantined(ctx context.Context) ([]client.Quarantined, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Quarantine(ctx)
}

// noQuarantined says which nodes are quarantined, to who named another.
func (a *app) noQuarantined(ctx context.Context, c *client.Client, name string, was error) error {
	all, err := c.Quarantine(ctx)
	if err != nil {
		return was
	}
	if len(all) == 0 {
		return notFound{fmt.Errorf("no node is quarantined, so %q cannot be ended here", name)}
	}
	names := make([]string, len(all))
	for i, q := range all {
		names[i] = q.Node
	}
	return notFound{fmt.Errorf("no node %q is quarantined; there are: %s", name, strings.Join(names, ", "))}
}

// tellQuarantine notes which nodes of a cluster are quarantined. Who may not know
// is told nothing.
func (a *app) tellQuarantine(ctx context.Context, c *client.Client, cluster string) {
	all, err := c.Quarantine(ctx)
	if err != nil {
		return
	}
	for _, q := range all {
		if fits(q.Cluster, cluster) {
			fmt.Fprintf(a.Stderr, "NOTE: node %s of %s is quarantined since a restore: %s See: ebb quarantine\n", q.Node, q.Cluster, q.Why)
		}
	}
}
