package assets

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Output is what a job left under a name of its own.
type Output struct {
	Job     string // run id
	Type    string // as "uri_folder" or "mlflow_model"
	URI     string
	Name    string // of the asset
	Version string // empty: the next
}

// Collection is where assets of the output's type are kept.
func (o Output) Collection() Collection {
	if strings.HasSuffix(strings.ToLower(o.Type), "_model") {
		return Models
	}
	return Data
}

// Keep makes an output of a job an asset. The same again is no other version: a
// node may tell of its end twice.
func (s *Service) Keep(ctx context.Context, p access.Principal, w Place, o Output) error {
	c := o.Collection()
	props := map[string]any{"dataUri": o.URI, "dataType": o.Type, "properties": map[string]any{"azureml.jobName": o.Job}}
	if c == Models {
		props = map[string]any{"modelUri": o.URI, "modelType": o.Type, "jobName": o.Job}
	}
	for try := 0; ; try++ {
		version := o.Version
		if version == "" {
			known, err := s.Newest(ctx, w, c, o.Name)
			if err == nil && addressOf(c, &known) == o.URI {
				return nil
			}
			top, err := s.Get(ctx, w, c, o.Name, "")
			if err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
			version = top.Next()
		}
		_, _, err := s.putVersion(ctx, p, w, c, o.Name, version, maps.Clone(props))
		if !again(err, try) {
			return err
		}
	}
}

// Settle returns the datastore's path of what a run left, in the long form that
// Azure shows. A run's output is what lies there now: nothing is refused.
func (s *Service) Settle(ctx context.Context, w Place, uri string) (string, error) {
	at, err := s.Locate(ctx, w, uri)
	if err != nil {
		return "", err
	}
	store := "workspaceblobstore"
	switch at.Container {
	case w.DatastoreContainer():
	case w.ArtifactContainer():
		store = "workspaceartifactstore"
	default:
		return uri, nil // a place that somebody chose for the output, by its own address
	}
	all, err := s.Files.List(ctx, at.Key())
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(all, func(b Blob) bool { return b.Key == at.Key() || strings.HasPrefix(b.Key, at.Key()+"/") }) {
		return "", fault.Coded(fault.NotFound, "OutputNotFound", uri,
			"There are no files at %q of the datastore %s. A job's files are there once it has ended.", at.Path, store)
	}
	id := strings.Split(strings.Trim(w.ID, "/"), "/") // subscriptions S resourceGroups G providers P workspaces W
	long := "azureml://subscriptions/" + id[1] + "/resourcegroups/" + id[3] + "/workspaces/" + id[len(id)-1] + "/datastores/" + store + "/paths/" + at.Path
	if at.Folder {
		long += "/"
	}
	return long, nil
}
