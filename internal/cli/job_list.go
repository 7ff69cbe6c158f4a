package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
)

// jobStates are the words that a job's status may be.
var jobStates = []string{"NotStarted", "Queued", "Preparing", "Starting", "Running", "Finalizing", "CancelRequested", "Completed", "Failed", "Canceled"}

func (a *app) jobList() *cobra.Command {
	var limit int
	var status, compute, parent string
	var tags []string
	var view assetFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the jobs of the workspace",
		Example: `  ebb job list
  ebb job list --status Running --compute cpu-cluster
  ebb job list --max-results 20 --query '[].name' -o tsv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if parent != "" {
				return usagef("--parent-job-name: child jobs are not built, so that %s has none", parent)
			}
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
			none := "No jobs. Submit one: ebb job create --compute cpu-cluster --command 'echo hello'"
			if status != "" || compute != "" || len(tags) > 0 {
				none = "No such jobs. All there are: ebb job list"
			}
			wanted, err := tagsWanted(tags)
			if err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, c *client.Client) error {
				shape := func(job client.Job) object {
					if !fits(job.Properties.Status, status) || !fits(clusterOf(job), compute) || !wanted(job.Properties.Tags) {
						return nil
					}
					return jobShape(job)
				}
				return printAll(a, c.Jobs().Listed(ctx, view.view()), limit, shape, jobColumns, none)
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "max-results", "r", 0, "jobs to show at most (default all)")
	cmd.Flags().Bool("all-results", false, "as az has it; without --max-results all are shown")
	cmd.Flags().StringArrayVar(&tags, "tags", nil, "only jobs with this tag, `KEY or KEY=VALUE`")
	cmd.Flags().StringVar(&status, "status", "", "only jobs in this status, as Running")
	cmd.Flags().StringVarP(&compute, "compute", "c", "", "only jobs of this cluster")
	cmd.Flags().BoolVar(&view.archived, "archived-only", false, "those that are archived")
	cmd.Flags().BoolVar(&view.every, "include-archived", false, "those that are archived, too")
	cmd.Flags().StringVarP(&parent, "parent-job-name", "p", "", "jobs of another job; there are none yet")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(jobStates, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("compute", a.complete(clusterNames))
	return cmd
}

// tagsWanted tells jobs that have all of some tags, each as KEY or KEY=VALUE.
func tagsWanted(given []string) (func(map[string]string) bool, error) {
	for _, tag := range given {
		if tag == "" || tag[0] == '=' {
			return nil, usagef("--tags %q is not KEY or KEY=VALUE", tag)
		}
	}
	return func(tags map[string]string) bool {
		return !slices.ContainsFunc(given, func(tag string) bool {
			key, value, exact := strings.Cut(tag, "=")
			has, ok := tags[key]
			return !ok || exact && has != value
		})
	}, nil
}
