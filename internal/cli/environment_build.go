package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
)

// buildLog is where a job tells how its environment was made; Azure's name for it.
const buildLog = "azureml-logs/20_image_build_log.txt"

func (a *app) environmentBuild() *cobra.Command {
	var compute, version string
	cmd := &cobra.Command{
		Use:   "build NAME",
		Short: "Make an environment ready on a cluster, and print how that goes",
		Long: `Make an environment ready on a cluster, and print how that goes.

A job that does nothing runs in the environment: its image is pulled or built, or
its packages are installed, as for any job, and then is there for the others on
the same machine. The log of that goes to standard output; there is none where it
was ready before.`,
		Example: "  ebb environment build sklearn --compute cpu-cluster\n  ebb environment build sklearn --version 3 --compute cpu-cluster > build.log",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inEnvironments(cmd.Context(), compute, args, version, func(ctx context.Context, c *client.Client, jobs []string) error {
				return a.stream(ctx, c, jobs[0], buildLog, 0)
			})
		},
	}
	cmd.Flags().StringVarP(&version, "version", "v", "", "its version (default the newest)")
	a.buildFlags(cmd, &compute)
	return cmd
}

func (a *app) environmentPrefetch() *cobra.Command {
	var compute string
	cmd := &cobra.Command{
		Use:   "prefetch NAME[:VERSION] ...",
		Short: "Make environments ready on a cluster, so that the first job need not wait",
		Long: `Make environments ready on a cluster, so that the first job need not wait.

As "ebb environment build" for each of them, at once; they are ready when it
returns, or it says which could not be made, and why.`,
		Example: "  ebb environment prefetch sklearn torch:2 --compute cpu-cluster",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inEnvironments(cmd.Context(), compute, args, "", func(ctx context.Context, c *client.Client, jobs []string) error {
				var all error
				for i, name := range jobs {
					err := a.verdict(ctx, c, name)
					if err == nil {
						fmt.Fprintf(a.Stderr, "%s is ready.\n", args[i])
					} else {
						err = fmt.Errorf("%s: %w", args[i], err)
					}
					all = errors.Join(all, err)
				}
				return all
			})
		},
	}
	a.buildFlags(cmd, &compute)
	return cmd
}

func (a *app) buildFlags(cmd *cobra.Command, compute *string) {
	cmd.Flags().StringVarP(compute, "compute", "c", "", "cluster on whose nodes it is to be ready")
	_ = cmd.MarkFlagRequired("compute")
	_ = cmd.RegisterFlagCompletionFunc("compute", a.complete(clusterNames))
	cmd.ValidArgsFunction = a.complete(assetNames(environmentKind.plural))
}

// inEnvironments submits a job that does nothing in each environment, and has what
// became of them waited for.
func (a *app) inEnvironments(ctx context.Context, compute string, names []string, version string, wait func(context.Context, *client.Client, []string) error) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	var jobs []string
	for _, name := range names {
		if version != "" {
			name += ":" + version
		}
		spec := &azml.Job{Name: madeUpName(), Display: "make " + name + " ready", Command: "true", Compute: compute, Environment: azml.EnvironmentRef{Ref: "azureml:" + strings.TrimPrefix(name, "azureml:")}}
		resolved, err := a.resolveJob(ctx, c, spec)
		if err != nil {
			return err
		}
		want, err := spec.ARM(c.File(), resolved)
		if err != nil {
			return usageError{err}
		}
		if _, _, err := c.Jobs().Submit(ctx, spec.Name, want); err != nil {
			return a.explainCompute(ctx, c, compute, err)
		}
		jobs = append(jobs, spec.Name)
	}
	return wait(ctx, c, jobs)
}
