package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

// mlCommand is "az ml", both grammars: computetarget is v1's, the rest v2's,
// which are also commands of their own ("ebb compute" is "ebb ml compute"). What
// is printed is JSON unless asked otherwise, as with az.
func (a *app) mlCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ml",
		Short: "The grammars of az ml, v1 and v2; with \"alias az=ebb\" its scripts run",
		Long: `The grammars of az ml, v1 and v2.

A script written for az runs as it is once az is ebb: with "alias az=ebb", or in
scripts that see no aliases with a link, "ln -s $(command -v ebb) ~/bin/az".
"az ml" is then this command; account, group, login and the like are passed to
the real az where it is installed (see docs/clients/ebb-ml.md).

Workspace and resource group are those of -w and -g; else of AZURE_DEFAULTS_WORKSPACE
and AZURE_DEFAULTS_GROUP; else of "az configure --defaults"; else of the config.json
that is nearest; else of the client file.`,
		Example: `  ebb ml computetarget create amlcompute -n cpu --min-nodes 1 --max-nodes 1 -s STANDARD_D3_V2 --location westus2
  ebb ml compute create -f cluster.yml
  ebb ml job create -f job.yml --stream
  ebb ml environment list -o table`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.computeTargetCommand(), a.computeCommand(), a.jobCommand())
	cmd.AddCommand(a.resourceCommands()...)
	for name, feature := range notInML {
		cmd.AddCommand(notBuiltCommand("az ml", name, feature))
	}
	return cmd
}

// resourceCommands are the groups of az ml v2 beside compute and job.
func (a *app) resourceCommands() []*cobra.Command {
	var list []*cobra.Command
	for _, k := range assetKinds {
		list = append(list, a.assetCommand(k))
	}
	return append(list, a.datastoreCommand(), a.workspaceCommand())
}

// notInML are the groups of either grammar that Ebb does not have, and what
// they are about.
var notInML = map[string]string{
	"online-endpoint": "Online endpoints", "online-deployment": "Online deployments", "serverless-endpoint": "Serverless endpoints",
	"batch-endpoint": "Batch endpoints", "batch-deployment": "Batch deployments", "schedule": "Schedules", "registry": "Registries",
	"connection": "Connections", "feature-set": "Feature sets", "feature-store": "Feature stores", "feature-store-entity": "Feature store entities",
	"index": "Indexes", "marketplace-subscription": "Marketplace subscriptions", "capability-host": "Capability hosts",
	"run": "v1's run (submit with \"ml job create\", or with SDK v1 under \"ebb exec\")", "folder": "v1's folders", "experiment": "v1's experiments (\"ml job list\" has their jobs)",
	"dataset": "v1's datasets (\"ml data\" is v2's)", "service": "v1's web services", "endpoint": "v1's endpoints", "pipeline": "v1's pipelines",
}

// notBuiltCommand answers for a group of commands that there is not.
func notBuiltCommand(of, name, feature string) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Short:              feature + " (not built)",
		Example:            "  ebb ml " + name + "   # says that it is not built",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return errors.New("NotImplemented: " + feature + " are not built, and \"" + strings.Join(append([]string{of, name}, args...), " ") + "\" was not run")
		},
	}
}
