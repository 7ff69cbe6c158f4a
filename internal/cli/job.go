package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

func (a *app) jobCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "job",
		Short:   "Submit jobs, follow and stop them",
		Example: "  ebb job create --compute cpu-cluster --command 'python -V' --stream\n  ebb job list\n  ebb job stream happy_river_k2v9xq41mz",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.jobCreate(), a.jobList(), a.jobShow(), a.jobStream(), a.jobCancel(), a.jobExec(),
		a.jobDownload(), a.jobUpdate(), a.jobArchive(true), a.jobArchive(false), a.jobValidate(), a.jobServices(), a.jobSSH())
	return cmd
}

func (a *app) jobCreate() *cobra.Command {
	var f jobFlags
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Submit a job",
		Long: `Submit a job, and return once it is safe on the server's disk.

The command runs in sh on a node of the cluster, with that machine's Python or
its environment's. A job without a name gets one. A file in az ml's command job
schema says the same in YAML; flags win over it.

A folder of code is uploaded, less what its .amlignore (or .gitignore) names,
and only if the server has not the same already. So is data that inputs name by
a path of this machine.`,
		Example: `  ebb job create --compute cpu-cluster --command 'echo hello'
  ebb job create --name night-1 --compute cpu-cluster --command 'python -c "print(1)"' --env SEED=7 --timeout 1h
  ebb job create --compute cpu-cluster --code ./src --command 'python train.py' --stream
  ebb job create --compute cpu-cluster --instance-count 3 --distribution mpi:2 --code ./src --command 'python train.py'
  ebb job create -f job.yml --set inputs.lr=0.1 --stream
  name=$(ebb job create --compute cpu-cluster --command 'sleep 60' --query name -o tsv)`,
		Args: cobra.NoArgs,
	}
	f.register(cmd)
	_ = cmd.RegisterFlagCompletionFunc("compute", a.complete(clusterNames))
	_ = cmd.RegisterFlagCompletionFunc("environment", a.complete(assetRefs("environments")))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.createJob(cmd.Context(), cmd.Flags(), &f) }
	return cmd
}

// jobFlags are those of "job create" that are not a field of the schema.
type jobFlags struct {
	file                string
	env, tags, set      []string
	timeout             seconds
	distribution        string
	stream, web, noWait bool
	saveAs              string
}

// jobFields says which field of the schema a flag is.
var jobFields = map[string]string{
	"name": "name", "compute": "compute", "command": "command", "code": "code", "environment": "environment",
	"experiment-name": "experiment_name", "display-name": "display_name", "description": "description",
	"timeout": "limits.timeout", "instance-count": "resources.instance_count",
}

func (f *jobFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringP("name", "n", "", "name of the job (default one is made up)")
	flags.StringVarP(&f.file, "file", "f", "", "YAML `file` in az ml's command job schema")
	flags.StringP("compute", "c", "", "cluster to run on")
	flags.String("command", "", "what to run, as a line for sh")
	flags.String("code", "", "`folder` that the command runs in a copy of")
	flags.String("environment", "", "environment, as azureml:NAME:VERSION or azureml:NAME@latest")
	flags.StringArrayVar(&f.env, "env", nil, "environment variables for the job, `KEY=VALUE ...`")
	flags.String("experiment-name", "", "experiment it belongs to (default Default)")
	flags.String("display-name", "", "name to show")
	flags.String("description", "", "what it is for")
	flags.StringArrayVar(&f.tags, "tags", nil, "`KEY=VALUE ...`")
	flags.Var(&f.timeout, "timeout", "stop it after this long: seconds, or as 90m")
	flags.Int("instance-count", 1, "nodes it takes")
	flags.StringVar(&f.distribution, "distribution", "", "how several processes find each other, and how many there are on a node: mpi:2, pytorch:4, tensorflow (`KIND[:N]`)")
	flags.StringArrayVar(&f.set, "set", nil, "`FIELD=VALUE ...` over the file's, as inputs.lr=0.1")
	flags.BoolVarP(&f.stream, "stream", "s", false, "print its log until it is over")
	flags.BoolVarP(&f.web, "web", "e", false, "say where it can be looked at in a browser")
	flags.StringVarP(&f.saveAs, "save-as", "a", "", "`file` to write the job to, as YAML")
	flags.Bool("skip-validation", false, "as az has it; the server checks all the same")
	flags.BoolVar(&f.noWait, "no-wait", false, "as az has it; submitting does not wait anyway")
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	_ = cmd.MarkFlagDirname("code")
}

// spec joins the file and the flags; flags win.
func (f *jobFlags) spec(flags *pflag.FlagSet) (*azml.Job, error) {
	doc := yamlspec.Empty()
	var err error
	if f.file != "" {
		doc, err = yamlspec.Read(f.file)
	}
	if err == nil && flags.Changed("code") {
		err = doc.Put("--code", fromHere(flags.Lookup("code").Value.String(), doc), "code")
	}
	if err == nil {
		err = putPairs(doc, "--env", f.env, "environment_variables")
	}
	if err == nil && f.distribution != "" {
		err = putDistribution(doc, f.distribution)
	}
	if err == nil {
		err = overlay(doc, flags, jobFieldsBut("code"), f.tags, f.set)
	}
	if err != nil {
		return nil, asUsage(err)
	}
	s, err := azml.ReadJob(doc)
	return s, asUsage(err)
}

// putDistribution reads "mpi:2".
func putDistribution(doc *yamlspec.Doc, text string) error {
	kind, n, counted := strings.Cut(text, ":")
	if err := doc.Put("--distribution", kind, "distribution", "type"); err != nil || !counted {
		return err
	}
	field := "process_count_per_instance"
	if kind == "tensorflow" {
		field = "worker_count"
	}
	return doc.Put("--distribution", n, "distribution", field)
}

func jobFieldsBut(name string) map[string]string {
	fields := maps.Clone(jobFields)
	delete(fields, name)
	return fields
}

// fromHere makes a path that was typed, and is of the folder we are in, one that
// does not depend on where the file lies.
func fromHere(typed string, doc *yamlspec.Doc) string {
	if doc.File == "" || !azml.IsLocal(typed) {
		return typed
	}
	if abs, err := filepath.Abs(typed); err == nil {
		return abs
	}
	return typed
}

func (a *app) createJob(ctx context.Context, flags *pflag.FlagSet, f *jobFlags) error {
	spec, err := f.spec(flags)
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
	resolved, err := a.resolveJob(ctx, c, spec)
	if err != nil {
		return err
	}
	want, err := spec.ARM(c.File(), resolved)
	if err != nil {
		return usageError{err}
	}
	made, existed, err := c.Jobs().Submit(ctx, spec.Name, want)
	if err != nil {
		return a.explainCompute(ctx, c, azml.ComputeName(spec.Compute), err)
	}
	if existed && !a.waits { // after a wait it may be our own first try
		fmt.Fprintf(a.Stderr, "%s was submitted before, with the same body: it is %s, and nothing new was started.\n", spec.Name, made.Properties.Status)
	}
	if f.web {
		a.sayWhere(made)
	}
	if f.saveAs != "" {
		if err := saveYAML(f.saveAs, jobShape(made)); err != nil {
			return fmt.Errorf("--save-as: %w", err)
		}
	}
	if !f.stream {
		return a.print(jobShape(made))
	}
	fmt.Fprintf(a.Stderr, "Submitted %s to %s.\n", spec.Name, azml.ComputeName(spec.Compute))
	return a.stream(ctx, c, spec.Name, client.StdLog, 0)
}

// sayWhere answers --web: opening a browser from a script helps nobody.
func (a *app) sayWhere(job client.Job) {
	if studio, ok := job.Properties.Services["Studio"]; ok {
		fmt.Fprintf(a.Stderr, "In a browser: %s\n", studio.Endpoint)
	}
}

// explainCompute replaces a refusal by the list of clusters where the cluster
// asked for is what is missing.
func (a *app) explainCompute(ctx context.Context, c *client.Client, cluster string, err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status < 400 || e.Status >= 500 || cluster == "" {
		return err
	}
	if _, missing := c.Computes().Get(ctx, cluster); client.IsNotFound(missing) {
		return noCluster(ctx, c, cluster, err)
	}
	return err
}

func (a *app) jobShow() *cobra.Command {
	var name string
	var web bool
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one job, with the last values of its metrics, and its error if it failed",
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
				if web {
					a.sayWhere(job)
				}
				shape := jobShape(job)
				metrics, err := metricsShape(ctx, c, name)
				if err != nil {
					return err
				}
				shape.add("metrics", metrics)
				return a.print(shape)
			})
		},
	}
	a.nameFlag(cmd, &name, jobNames)
	cmd.Flags().BoolVarP(&web, "web", "e", false, "say where it can be looked at in a browser")
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
	a.nameFlag(cmd, &name, jobNames)
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
				job, err := c.Jobs().Get(ctx, name)
				if err == nil && job.Final() {
					fmt.Fprintf(a.Stderr, "%s is over (%s): there was nothing to cancel.\n", name, job.Properties.Status)
					return nil
				}
				if err != nil {
					return err
				}
				op, err := c.Jobs().Cancel(ctx, name)
				if err != nil || noWait {
					return err
				}
				return a.during(ctx, "Cancelling "+name, func(ctx context.Context, p *progress) error {
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
			})
		},
	}
	a.nameFlag(cmd, &name, jobNames)
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is over")
	return cmd
}

// onJob runs do with a client and the job's name, and names the latest jobs
// when that one is not there.
func (a *app) onJob(cmd *cobra.Command, flag string, args []string, do named) error {
	return a.onNamed(cmd, flag, args, do, noJob)
}

// noJob is the error for a job that is not there. Where even the list fails,
// was stays.
func noJob(ctx context.Context, c *client.Client, name string, was error) error {
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
