package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

func (a *app) jobDownload() *cobra.Command {
	var name, to, output string
	var everything bool
	cmd := &cobra.Command{
		Use:   "download NAME",
		Short: "Fetch a job's logs, the files it left, and its named outputs",
		Long: `Fetch a job's logs, the files it left, and its named outputs.

Logs and what the job wrote to ./outputs go to artifacts/ below the folder; with
--all each named output goes to named-outputs/NAME/ too, with --output-name that
one alone.`,
		Example: "  ebb job download night-1\n  ebb job download --name night-1 --all --download-path ./night-1\n  ebb job download -n night-1 --output-name model",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onJob(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				return a.downloadJob(ctx, c, name, to, output, everything)
			})
		},
	}
	a.nameFlag(cmd, &name, jobNames)
	cmd.Flags().StringVarP(&to, "download-path", "p", ".", "`folder` to fetch into")
	cmd.Flags().StringVar(&output, "output-name", "", "fetch this named output alone")
	cmd.Flags().BoolVar(&everything, "all", false, "fetch named outputs too")
	_ = cmd.MarkFlagDirname("download-path")
	return cmd
}

func (a *app) downloadJob(ctx context.Context, c *client.Client, name, to, output string, everything bool) error {
	job, err := c.Jobs().Get(ctx, name)
	if err != nil {
		return err
	}
	if !job.Final() {
		fmt.Fprintf(a.Stderr, "%s is %s: more may come.\n", name, job.Properties.Status)
	}
	n := 0
	if output == "" || output == "default" {
		if n, err = a.downloadFiles(ctx, c, name, filepath.Join(to, "artifacts")); err != nil {
			return err
		}
	}
	for _, each := range sortedKeys(job.Properties.Outputs) {
		if each == "default" || each != output && !everything {
			continue
		}
		uri := job.Properties.Outputs[each].URI
		if uri == "" {
			return fmt.Errorf("%s has no files of the output %s; it is %s", name, each, job.Properties.Status)
		}
		m, err := a.fetch(ctx, c, uri, filepath.Join(to, "named-outputs", each))
		if err != nil {
			return err
		}
		n += m
	}
	if _, ok := job.Properties.Outputs[output]; output != "" && output != "default" && !ok {
		return notFound{fmt.Errorf("%s has no output %s; it has: %s", name, output, strings.Join(append([]string{"default"}, sortedKeys(job.Properties.Outputs)...), ", "))}
	}
	if abs, err := filepath.Abs(to); err == nil {
		to = abs // "." says nothing
	}
	fmt.Fprintf(a.Stderr, "Fetched %d file(s) into %s\n", n, to)
	return nil
}

// downloadFiles fetches logs and artifacts.
func (a *app) downloadFiles(ctx context.Context, c *client.Client, name, into string) (n int, err error) {
	p := a.progress("Fetching the files of %s", name)
	defer p.end()
	for file, err := range c.Jobs().Files(ctx, name) {
		if err != nil {
			return n, err
		}
		p.say("Fetching %s", file.Path)
		if err := save(into, file.Path, func(w io.Writer) error { return c.Download(ctx, file.URI, w) }); err != nil {
			return n, fmt.Errorf("fetch %s: %w", file.Path, err)
		}
		n++
	}
	return n, nil
}

func (a *app) jobUpdate() *cobra.Command {
	var name string
	var tags, set []string
	cmd := &cobra.Command{
		Use:     "update NAME --set FIELD=VALUE",
		Short:   "Change a job's display name, description or tags",
		Example: "  ebb job update night-1 --set display_name='Night run' tags.owner=me",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc := yamlspec.Empty()
			var change struct {
				Display     *string           `yaml:"display_name"`
				Description *string           `yaml:"description"`
				Tags        map[string]string `yaml:"tags"`
			}
			err := overlay(doc, cmd.Flags(), nil, tags, set)
			if err == nil {
				err = doc.Decode(&change)
			}
			body := map[string]any{}
			for key, text := range map[string]*string{"displayName": change.Display, "description": change.Description} {
				if text != nil {
					body[key] = *text
				}
			}
			if change.Tags != nil {
				body["tags"] = change.Tags
			}
			if err == nil && len(body) == 0 {
				err = errors.New("nothing to change: give --set display_name=…, description=… or tags.KEY=…")
			}
			if err != nil {
				return asUsage(err)
			}
			return a.onJob(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				job, err := c.Jobs().Get(ctx, name)
				if err == nil {
					err = c.Jobs().Change(ctx, job, body)
				}
				if err == nil {
					job, err = c.Jobs().Get(ctx, name)
				}
				if err != nil {
					return err
				}
				return a.print(jobShape(job))
			})
		},
	}
	a.nameFlag(cmd, &name, jobNames)
	cmd.Flags().StringArrayVar(&set, "set", nil, "`FIELD=VALUE ...`, as display_name=x or tags.owner=me")
	cmd.Flags().StringArrayVar(&tags, "tags", nil, "`KEY=VALUE ...`, beside those it has")
	return cmd
}

// jobArchive hides a job from lists, or shows it again.
func (a *app) jobArchive(hide bool) *cobra.Command {
	var name string
	use, short := "archive", "Hide a job from lists"
	if !hide {
		use, short = "restore", "Show again a job that was archived"
	}
	cmd := &cobra.Command{
		Use:     use + " NAME",
		Short:   short,
		Example: "  ebb job " + use + " night-1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onJob(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				job, err := c.Jobs().Get(ctx, name)
				if err != nil {
					return err
				}
				return c.Jobs().Change(ctx, job, map[string]any{"hidden": hide})
			})
		},
	}
	a.nameFlag(cmd, &name, jobNames)
	return cmd
}

func (a *app) jobValidate() *cobra.Command {
	var file string
	var set []string
	cmd := &cobra.Command{
		Use:     "validate --file FILE",
		Short:   "Read a job's file as \"job create\" does, and submit nothing",
		Example: "  ebb job validate -f job.yml\n  ebb job validate -f job.yml --set compute=gpu",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("which file? Give --file job.yml")
			}
			doc, err := yamlspec.Read(file)
			if err == nil {
				err = doc.Set(set...)
			}
			var spec *azml.Job
			if err == nil {
				spec, err = azml.ReadJob(doc)
			}
			if err != nil {
				return asUsage(err)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			cluster := azml.ComputeName(spec.Compute)
			if _, err := c.Computes().Get(cmd.Context(), cluster); client.IsNotFound(err) {
				return noCluster(cmd.Context(), c, cluster, err)
			} else if err != nil {
				return err
			}
			return a.print(object{{"result", "Succeeded"}})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML `file` in az ml's command job schema")
	cmd.Flags().StringArrayVar(&set, "set", nil, "`FIELD=VALUE ...` over the file's")
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	return cmd
}

func (a *app) jobServices() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "show-services NAME",
		Short:   "Show where a job can be looked at",
		Example: "  ebb job show-services night-1 -o yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onJob(cmd, name, args, func(ctx context.Context, c *client.Client, name string) error {
				job, err := c.Jobs().Get(ctx, name)
				if err != nil {
					return err
				}
				return a.print(servicesShape(job.Properties.Services))
			})
		},
	}
	a.nameFlag(cmd, &name, jobNames)
	cmd.Flags().IntP("node-index", "i", 0, "node of the job")
	return cmd
}

// jobSSH says what there is instead of SSH: nodes open no port.
func (a *app) jobSSH() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "connect-ssh NAME",
		Short:   "What to use instead of SSH into a job",
		Example: "  ebb job exec night-1 -it -- bash   # instead",
		Hidden:  true,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := nameArg(cmd, name, args)
			if err != nil {
				return err
			}
			return fmt.Errorf("NotImplemented: SSH into a job is not built, and nodes open no port; a shell inside it is: ebb job exec %s -it -- bash", name)
		},
	}
	a.nameFlag(cmd, &name, jobNames)
	cmd.Flags().StringP("private-key-file-path", "f", "", "as az has it")
	cmd.Flags().IntP("node-index", "i", 0, "as az has it")
	return cmd
}
