package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
)

// assetDownload fetches the files of a version.
func (a *app) assetDownload(k *assetKind) *cobra.Command {
	var f assetFlags
	cmd := &cobra.Command{
		Use:     "download NAME",
		Short:   "Fetch the files of a version into a folder",
		Example: fmt.Sprintf("  ebb %s download NAME --version 1\n  ebb %s download --name NAME --label latest --download-path ./here", k.word, k.word),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onAsset(cmd, k, &f, args, func(ctx context.Context, c *client.Client, name, version string) error {
				got, err := assetVersion(ctx, c, k, name, version)
				if err != nil {
					return err
				}
				uri, _ := got.Properties[k.files].(string)
				n, err := a.fetch(ctx, c, uri, filepath.Join(f.to, name))
				if err == nil {
					fmt.Fprintf(a.Stderr, "Fetched %d file(s) into %s\n", n, filepath.Join(f.to, name))
				}
				return err
			})
		},
	}
	f.one(a, k, cmd)
	cmd.Flags().StringVarP(&f.to, "download-path", "p", ".", "`folder` to make the files' folder in")
	_ = cmd.MarkFlagDirname("download-path")
	return cmd
}

// fetch copies what a URI of a datastore leads to into a folder.
func (a *app) fetch(ctx context.Context, c *client.Client, uri, into string) (int, error) {
	store, below, err := inDatastore(uri)
	if err != nil {
		return 0, err
	}
	from, err := c.Datastores().Open(ctx, store)
	if err != nil {
		return 0, err
	}
	p := a.progress("Fetching %s", path.Base(below))
	defer p.end()
	n := 0
	for blob, err := range from.List(ctx, below) {
		if err != nil {
			return n, err
		}
		name, ok := belowOf(blob.Name, below)
		if !ok {
			continue
		}
		if err := save(into, name, func(w io.Writer) error { return from.Get(ctx, blob.Name, w) }); err != nil {
			return n, err
		}
		n++
	}
	if n == 0 {
		return 0, fmt.Errorf("there is no file at %s", uri)
	}
	return n, nil
}

// belowOf is a blob's name below a prefix that is a file or a folder; the list
// of a store goes by letters, and has its neighbours too.
func belowOf(name, prefix string) (string, bool) {
	prefix = strings.TrimSuffix(prefix, "/")
	if name == prefix {
		return path.Base(name), true
	}
	return strings.CutPrefix(name, prefix+"/")
}

// inDatastore takes a URI of data apart: azureml://datastores/S/paths/P, also
// with the workspace before it.
func inDatastore(uri string) (store, below string, err error) {
	u, _ := strings.CutPrefix(uri, "azureml:")
	parts := strings.Split(strings.TrimLeft(u, "/"), "/")
	for i := 0; i+2 < len(parts); i++ {
		if parts[i] == "datastores" {
			rest := parts[i+2:]
			if rest[0] == "paths" {
				rest = rest[1:]
			}
			return parts[i+1], strings.Join(rest, "/"), nil
		}
	}
	return "", "", fmt.Errorf("%s is not in a datastore; only what is there can be fetched", uri)
}

// save writes one file below a folder, whole or not at all.
func save(into, name string, write func(io.Writer) error) error {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return fmt.Errorf("the file %q would lie outside of %s; it is left out", name, into)
	}
	to := filepath.Join(into, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), ".ebb-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	err = write(tmp)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), to)
}
