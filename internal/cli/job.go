package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
)

func (a *app) jobCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "job",
		Short:   "Submit jobs, follow and stop them",
		Example: "  ebb job create --compute cpu-cluster --command 'python -V' --stream\n  ebb job list\n  ebb job stream happy_river_k2v9xq41mz",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.jobCreate(), a.jobList(), a.jobShow(), a.jobStream(), a.jobCancel(), a.jobExec())
	return cmd
}

func (a *app) jobCreate() *cobra.Command {
	var f jobFlags
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Submit a job",
		Long: `Submit a job, and return once it is safe on the server's disk.

The command runs in sh on a node of the cluster, with that machine's Python.
A job without a name gets one. A file in az ml's command job schema says the
same in YAML; flags win over it.`,
		Example: `  ebb job create --compute cpu-cluster --command 'echo hello'
  ebb job create --name night-1 --compute cpu-cluster --command 'python -c "print(1)"' --env SEED=7 --timeout 1h
  ebb job create -f job.yml --stream
  name=$(ebb job create --compute cpu-cluster --command 'sleep 60' --query name -o tsv)`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.name, "name", "n", "", "name of the job (default one is made up)")
	flags.StringVarP(&f.file, "file", "f", "", "YAML `file` in az ml's command job schema")
	flags.StringVarP(&f.compute, "compute", "c", "", "cluster to run on")
	flags.StringVar(&f.command, "command", "", "what to run, as a line for sh")
	flags.StringArrayVar(&f.env, "env", nil, "environment variable for the job, `KEY=VALUE`; may be given again")
	flags.StringVarP(&f.experiment, "experiment-name", "e", "", "experiment it belongs to (default Default)")
	flags.StringVar(&f.display, "display-name", "", "name to show")
	flags.StringVar(&f.description, "description", "", "what it is for")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE`; may be given again")
	flags.Var(&f.timeout, "timeout", "stop it after this long: seconds, or as 90m")
	flags.IntVar(&f.instances, "instance-count", 0, "nodes it takes (default 1)")
	flags.BoolVarP(&f.stream, "stream", "s", false, "print its log until it is over")
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	_ = cmd.RegisterFlagCompletionFunc("compute", a.complete(a.clusterNames))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.createJob(cmd.Context(), &f) }
	return cmd
}

func (a *app) createJob(ctx context.Context, f *jobFlags) error {
	spec, err := f.spec()
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if spec.Name == "" {
		// Made up here, not by the server: a request that is sent again after
		// a restart is then the same job, not a second one.
		spec.Name = madeUpName()
	}
	want, err := spec.body(c.File())
	if err != nil {
		return err
	}
	made, existed, err := c.Jobs().Submit(ctx, spec.Name, want)
	if err != nil {
		return a.explainCompute(ctx, c, spec.computeName(), err)
	}
	if existed && !a.waits { // after a wait it may be our own first try
		fmt.Fprintf(a.Stderr, "%s was submitted before, with the same body: it is %s, and nothing new was started.\n", spec.Name, made.Properties.Status)
	}
	if !f.stream {
		return a.print(jobShape(made))
	}
	fmt.Fprintf(a.Stderr, "Submitted %s to %s.\n", spec.Name, spec.computeName())
	return a.stream(ctx, c, spec.Name, client.StdLog, 0)
}

// explainCompute replaces a refusal by the list of clusters where the cluster
// asked for is what is missing.
func (a *app) explainCompute(ctx context.Context, c *client.Client, cluster string, err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status < 400 || e.Status >= 500 || cluster == "" {
		return err
	}
	if _, missing := c.Computes().Get(ctx, cluster); client.IsNotFound(missing) {
		return a.noCluster(ctx, c, cluster, err)
	}
	return err
}

// jobStates are the words that a job's status may be.
var jobStates = []string{"NotStarted", "Queued", "Preparing", "Starting", "Running", "Finalizing", "CancelRequested", "Completed", "Failed", "Canceled"}

func (a *app) jobList() *cobra.Command {
	var limit int
	var status, compute string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the jobs of the workspace",
		Example: `  ebb job list
  ebb job list --status Running --compute cpu-cluster
  ebb job list --max-results 20 --query '[].name' -o tsv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usagef("--max-results %d: it is 1 or more, or 0 for all", limit)
			}
			if status != "" {
				i := slices.IndexFunc(jobStates, func(s string) bool { return strings.EqualFold(s, status) })
				if i < 0 {
					return usagef("no status %q; there are: %s", status, strings.Join(jobStates, ", "))
				}
				status = jobStates[i]
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			list := []object{}
			for job, err := range c.Jobs().All(cmd.Context()) {
				if err != nil {
					return err
				}
				if limit > 0 && len(list) == limit {
					break
				}
				if fits(job.Properties.Status, status) && fits(clusterOf(job), compute) {
					list = append(list, jobShape(job))
				}
			}
			none := "No jobs. Submit one: ebb job create --compute cpu-cluster --command 'echo hello'"
			if status != "" || compute != "" {
				none = "No such jobs. All there are: ebb job list"
			}
			return a.printList(list, jobColumns, none)
		},
	}
	cmd.Flags().IntVarP(&limit, "max-results", "r", 0, "jobs to show at most (default all)")
	cmd.Flags().StringVar(&status, "status", "", "only jobs in this status, as Running")
	cmd.Flags().StringVarP(&compute, "compute", "c", "", "only jobs of this cluster")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(jobStates, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("compute", a.complete(a.clusterNames))
	return cmd
}

func (a *app) jobShow() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one job, with its error if it failed",
		Example: "  ebb job show happy_river_k2v9xq41mz\n  ebb job show --name night-1 --query status -o tsv",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onJob(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				job, err := c.Jobs().Get(ctx, name)
				if err != nil {
					return err
				}
				if err := withError(ctx, c, &job); err != nil {
					return err
				}
				a.noteJob(job)
				return a.print(jobShape(job))
			})
		},
	}
	a.nameFlag(cmd, &name, a.jobNames)
	return cmd
}

func (a *app) jobStream() *cobra.Command {
	var name, log string
	var offset int64
	cmd := &cobra.Command{
		Use:   "stream NAME",
		Short: "Print a job's log as it grows, until the job is over",
		Long: `Print a job's log as it grows, until the job is over.

The log goes to standard output as it is, and nothing else does. Ctrl-C ends
the printing and leaves the job running. The exit code is 0 for a job that
completed, 1 for one that failed or was cancelled.`,
		Example: "  ebb job stream happy_river_k2v9xq41mz\n  ebb job stream --name night-1 > night-1.log",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onJob(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				return a.stream(ctx, c, name, log, offset)
			})
		},
	}
	a.nameFlag(cmd, &name, a.jobNames)
	cmd.Flags().StringVar(&log, "log", client.StdLog, "which log")
	cmd.Flags().Int64Var(&offset, "offset", 0, "byte to begin at")
	return cmd
}

// stream prints a job's log to its end, and makes the job's failure its own.
func (a *app) stream(ctx context.Context, c *client.Client, name, log string, offset int64) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	job, err := c.Jobs().Get(ctx, name)
	if err != nil {
		return err
	}
	if !job.Final() {
		fmt.Fprintf(a.Stderr, "%s is %s; Ctrl-C leaves it running.\n", name, job.Properties.Status)
	}
	a.noteJob(job)
	at, err := c.Jobs().Stream(ctx, name, log, offset, a.noting(ctx, c, name))
	if ctx.Err() != nil {
		fmt.Fprintf(a.Stderr, "\nStopped printing; %s goes on. More of it: ebb job stream %s --offset %d\nTo stop it: ebb job cancel %s\n", name, name, at, name)
		return exitError{130}
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil // who read it has had enough, as with "| head"
	}
	if err != nil {
		return err
	}
	return a.verdict(ctx, c, name)
}

// verdict turns a job's end into ours.
func (a *app) verdict(ctx context.Context, c *client.Client, name string) error {
	job, err := c.Jobs().Get(ctx, name)
	if err != nil {
		return err
	}
	// The log is complete a moment before the status is final.
	for !job.Final() {
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
		if job, err = c.Jobs().Get(ctx, name); err != nil {
			return err
		}
	}
	a.noteJob(job)
	if job.Properties.Status == "Completed" {
		return nil
	}
	if err := withError(ctx, c, &job); err != nil {
		return err
	}
	p := job.Properties
	switch {
	case p.Error != nil:
		return fmt.Errorf("%s: %s (%s): %s", name, p.Status, p.Error.Code, p.Error.Message)
	case p.CancelWhy != "":
		return fmt.Errorf("%s: %s: %s", name, p.Status, p.CancelWhy)
	}
	return fmt.Errorf("%s: %s", name, p.Status)
}

// withError gets a failed job's error from run history where the job does not
// say it: that is where Azure keeps it.
func withError(ctx context.Context, c *client.Client, job *client.Job) error {
	if job.Properties.Status != "Failed" || job.Properties.Error != nil {
		return nil
	}
	details, err := c.Jobs().Details(ctx, job.Name)
	if err == nil && details.Error != nil {
		job.Properties.Error = &details.Error.Error
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (a *app) jobCancel() *cobra.Command {
	var name string
	var noWait bool
	cmd := &cobra.Command{
		Use:     "cancel NAME",
		Short:   "Stop a job",
		Example: "  ebb job cancel happy_river_k2v9xq41mz\n  ebb job cancel --name night-1 --no-wait",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onJob(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				op, err := c.Jobs().Cancel(ctx, name)
				if err != nil || noWait {
					return err
				}
				p := a.progress("Cancelling %s", name)
				defer p.end()
				if err := op.Wait(ctx); err != nil {
					return err
				}
				for {
					job, err := c.Jobs().Get(ctx, name)
					if err != nil || job.Final() {
						return err
					}
					p.say("Cancelling %s: %s", name, job.Properties.Status)
					if err := pause(ctx, time.Second); err != nil {
						return err
					}
				}
			})
		},
	}
	a.nameFlag(cmd, &name, a.jobNames)
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is over")
	return cmd
}

// onJob runs do with a client and the job's name, and names the latest jobs
// when that one is not there.
func (a *app) onJob(cmd *cobra.Command, flag string, args []string, do named) error {
	return a.onNamed(cmd, flag, args, do, a.noJob)
}

// noJob is the error for a job that is not there. Where even the list fails,
// was stays.
func (a *app) noJob(ctx context.Context, c *client.Client, name string, was error) error {
	const few = 5
	text := ""
	count := 0
	for job, lerr := range c.Jobs().All(ctx) {
		if lerr != nil {
			return was
		}
		if count++; count > few {
			text += ", …"
			break
		}
		if count > 1 {
			text += ", "
		}
		text += job.Name
	}
	if text == "" {
		return notFound{fmt.Errorf("no job named %s; there is none yet", name)}
	}
	return notFound{fmt.Errorf("no job named %s; the latest are: %s", name, text)}
}
