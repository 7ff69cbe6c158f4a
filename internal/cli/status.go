package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
)

// fits reports whether a value is the one asked for; "" asks for none.
func fits(value, want string) bool { return want == "" || strings.EqualFold(value, want) }

func clusterOf(j client.Job) string {
	if j.Properties.ComputeID == "" {
		return ""
	}
	return path.Base(j.Properties.ComputeID)
}

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the clusters and the jobs that are not over",
		Example: `  ebb status
  ebb status --watch
  ebb status -o json --query 'jobs[].name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			if watch {
				return a.watch(cmd.Context(), c, every)
			}
			s, err := a.status(cmd.Context(), c)
			if err != nil {
				return err
			}
			if a.output == "table" && a.query == "" {
				_, err = fmt.Fprint(a.Stdout, a.statusText(s))
				return err
			}
			return a.print(s)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "go on showing, until Ctrl-C")
	cmd.Flags().DurationVar(&every, "interval", time.Second, "how often to look, with --watch")
	return cmd
}

// status gathers what is: every cluster, and every job that is not over.
func (a *app) status(ctx context.Context, c *client.Client) (object, error) {
	clusters, err := client.Collect(c.Computes().All(ctx))
	if err != nil {
		return nil, err
	}
	shapes := make([]object, len(clusters))
	for i, compute := range clusters {
		shapes[i] = computeShape(compute)
	}
	jobs := []object{}
	over := map[string]int{}
	for job, err := range c.Jobs().All(ctx) {
		if err != nil {
			return nil, err
		}
		if job.Final() {
			over[job.Properties.Status]++
			continue
		}
		jobs = append(jobs, jobShape(job))
	}
	aside := []object{}
	if all, err := c.Quarantine(ctx); err == nil { // not everybody's to see
		for _, q := range all {
			aside = append(aside, quarantineShape(q))
		}
	}
	return object{
		{"url", c.File().URL}, {"workspace", c.File().WorkspaceName}, {"clusters", shapes}, {"jobs", jobs}, {"quarantine", aside},
		{"completed", over["Completed"]}, {"failed", over["Failed"]}, {"canceled", over["Canceled"]},
	}, nil
}

func (a *app) statusText(s object) string {
	l := a.lookOf(a.Stdout)
	var b strings.Builder
	fmt.Fprintf(&b, "%s, workspace %s\n\n", s.get("url"), s.get("workspace"))
	clusters, jobs := s.get("clusters").([]object), s.get("jobs").([]object)
	if len(clusters) == 0 {
		b.WriteString("No clusters yet. Make one: ebb compute create --name cpu-cluster\n")
	} else {
		b.WriteString(a.table(l, computeColumns, clusters))
	}
	b.WriteString("\n")
	if len(jobs) > 0 {
		b.WriteString(a.table(l, jobColumns, jobs))
		b.WriteString("\n")
	}
	if aside := s.get("quarantine").([]object); len(aside) > 0 {
		fmt.Fprintf(&b, "Quarantined since a restore; their jobs go on until you end them (ebb quarantine end NODE):\n")
		b.WriteString(a.table(l, quarantineColumns, aside))
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%d jobs waiting or running, %d completed, %d failed, %d canceled\n",
		len(jobs), s.get("completed"), s.get("failed"), s.get("canceled"))
	return b.String()
}

// watch shows the status again and again: in place on a terminal, elsewhere
// one block each time that something has changed.
func (a *app) watch(ctx context.Context, c *client.Client, every time.Duration) error {
	if every <= 0 {
		return usagef("--interval %s: it has to be more than nothing", every)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	tty := a.lookOf(a.Stdout).tty
	last := ""
	for {
		s, err := a.status(ctx, c)
		if ctx.Err() != nil {
			return nil // Ctrl-C is how one leaves
		}
		if err != nil {
			return err
		}
		text, err := a.statusBlock(s)
		if err != nil {
			return err
		}
		switch {
		case tty:
			// Over the old lines, so that nothing flickers; then clear what is below.
			fmt.Fprint(a.Stdout, "\x1b[H"+strings.ReplaceAll(text, "\n", "\x1b[K\n")+"\x1b[J")
		case text != last:
			fmt.Fprint(a.Stdout, text)
		}
		last = text
		if pause(ctx, every) != nil {
			return nil
		}
	}
}

func (a *app) statusBlock(s object) (string, error) {
	if a.output == "table" && a.query == "" {
		return a.statusText(s), nil
	}
	var b strings.Builder
	one := *a
	one.Stdout = &b
	err := one.print(s)
	return b.String(), err
}
