package assets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Artifact is a file of a run.
type Artifact struct {
	Container string    `json:"container"` // dcid.<run id>
	Path      string    `json:"path"`      // relative, with slashes
	Key       string    `json:"key"`       // of the blob, which may not be there yet
	Created   time.Time `json:"created"`
}

// BlobName splits the artifact's key into container and name.
func (a Artifact) BlobName() (container, blob string) {
	container, blob, _ = strings.Cut(a.Key, "/")
	return container, blob
}

// containerID is the parent of a container's rows. Run ids are unique in a
// workspace only, so the workspace is part of it.
func containerID(w Place, container string) string {
	return w.key() + "/artifacts/" + strings.ToLower(container)
}

// artifactID keeps the path's case: outputs/A and outputs/a are two files.
func artifactID(w Place, container, path string) string {
	return containerID(w, container) + "/" + path
}

// ArtifactKey is the blob key of a run's file: where Azure has it, so that whoever
// lists the folder finds it by its name. One whose name is too long for a blob's has
// an opaque one.
func ArtifactKey(w Place, container, path string) string {
	name := "ExperimentRun/" + container + "/" + path
	if utf8.RuneCountInString(name) > 1024 {
		sum := sha256.Sum256([]byte(path))
		name = "ExperimentRun/" + container + "/.opaque/" + hex.EncodeToString(sum[:20])
	}
	return w.ArtifactContainer() + "/" + name
}

// CleanPath checks an artifact's path and returns it without slashes around it
// and without the "./" that it may begin with: SDK v1's log_image and upload_file
// pass on what the user wrote.
func CleanPath(path string) (string, error) {
	path = strings.Trim(path, "/")
	for strings.HasPrefix(path, "./") {
		path = strings.TrimLeft(path[1:], "/")
	}
	if err := checkPath(path); err != nil {
		return "", fault.Coded(fault.Invalid, "InvalidArtifactPath", "path", "The artifact path %.200q is not a relative path of plain names.", path)
	}
	return path, nil
}

// maxArtifacts of one request.
const maxArtifacts = 5000

// CreateArtifacts makes room for files of a run. A path that has its file
// already is refused by itself, in refused; the others are made.
func (s *Service) CreateArtifacts(ctx context.Context, p access.Principal, w Place, container string, paths []string) (made []Artifact, refused map[string]*fault.Error, err error) {
	if len(paths) > maxArtifacts {
		return nil, nil, fault.Coded(fault.TooLarge, "TooManyArtifacts", "paths", "%d paths are too many for one request; %d are allowed.", len(paths), maxArtifacts)
	}
	refused = map[string]*fault.Error{}
	var changes []row.Change
	seen := map[string]bool{}
	for _, asked := range paths {
		path, err := CleanPath(asked)
		if err != nil {
			return nil, nil, err
		}
		if seen[path] {
			continue
		}
		seen[path] = true
		taken, err := s.taken(ctx, w, container, path)
		if err != nil {
			return nil, nil, err
		}
		if taken {
			refused[asked] = fault.Coded(fault.Conflict, "ResourceConflict", asked, "Resource Conflict: ArtifactId ExperimentRun/%s/%s already exists.", container, path)
			continue
		}
		a := Artifact{Container: container, Path: path, Key: ArtifactKey(w, container, path), Created: s.Now().UTC()}
		doc, err := s.document(p, row.Artifact, artifactID(w, container, path), containerID(w, container), "", a)
		if err != nil {
			return nil, nil, err
		}
		changes, made = append(changes, row.Put(doc)), append(made, a)
	}
	if len(changes) > 0 {
		if _, err := s.Store.Commit(ctx, changes...); err != nil {
			return nil, nil, fmt.Errorf("create artifacts of %s: %w", container, err)
		}
	}
	return made, refused, nil
}

// taken reports whether a path has a file whose bytes have come.
func (s *Service) taken(ctx context.Context, w Place, container, path string) (bool, error) {
	a, err := s.Artifact(ctx, w, container, path)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = s.Files.Size(ctx, a.Key)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Record makes a file known whose bytes are in the blob store under
// [ArtifactKey] already, whether or not it was known before.
func (s *Service) Record(ctx context.Context, p access.Principal, w Place, container string, paths ...string) error {
	var changes []row.Change
	for _, path := range paths {
		path, err := CleanPath(path)
		if err != nil {
			return err
		}
		a := Artifact{Container: container, Path: path, Key: ArtifactKey(w, container, path), Created: s.Now().UTC()}
		doc, err := s.document(p, row.Artifact, artifactID(w, container, path), containerID(w, container), "", a)
		if err != nil {
			return err
		}
		changes = append(changes, row.Put(doc))
	}
	if len(changes) == 0 {
		return nil
	}
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return fmt.Errorf("record artifacts of %s: %w", container, err)
	}
	return nil
}

// Artifact returns one file of a run.
func (s *Service) Artifact(ctx context.Context, w Place, container, path string) (Artifact, error) {
	path, err := CleanPath(path)
	if err != nil {
		return Artifact{}, err
	}
	var a Artifact
	_, err = s.read(ctx, row.Artifact, artifactID(w, container, path), &a)
	if errors.Is(err, fault.NotFound) {
		err = fault.Coded(fault.NotFound, "ArtifactNotFound", path, "The artifact %.200q was not found in %s.", path, container)
	}
	return a, err
}

// Artifacts lists the files of a run whose path begins with prefix, by path.
func (s *Service) Artifacts(ctx context.Context, w Place, container, prefix, after string) ([]Artifact, string, error) {
	page, err := s.Store.List(ctx, row.Query{Kind: row.Artifact, Parent: containerID(w, container),
		Prefix: artifactID(w, container, strings.TrimPrefix(prefix, "/")), Limit: 500, After: after})
	if err != nil {
		return nil, "", fmt.Errorf("list artifacts of %s: %w", container, err)
	}
	out := make([]Artifact, 0, len(page.Records))
	for _, r := range page.Records {
		var a Artifact
		if err := json.Unmarshal(r.Row.(row.Document).Body, &a); err != nil {
			return nil, "", fmt.Errorf("read artifacts of %s: %w", container, err)
		}
		out = append(out, a)
	}
	return out, page.Next, nil
}
