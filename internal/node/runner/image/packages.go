package image

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/moby/moby/client"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/runner/pyenv"
)

// install makes an environment with packages: its comment says how.
//
//go:embed install.sh
var install string

// packages returns an image that is base with an environment's packages.
func (s *Store) packages(ctx context.Context, e queue.Environment, base Image, log io.Writer) (Image, error) {
	hash := key("packages", base.ID, e.Python, e.Pip, e.Conda, e.CondaFile, install)
	tag := "localhost/ebb/base:" + strings.TrimPrefix(base.ID, "sha256:")[:32] // an id alone is nothing that a build begins from
	if _, err := s.cfg.Engine.ImageTag(ctx, client.ImageTagOptions{Source: base.ID, Target: tag}); err != nil {
		return Image{}, fmt.Errorf("tag the base image: %w", err)
	}
	pip, left := pyenv.WithoutUnknown(ctx, e.Pip)
	var conda []string
	for _, c := range e.Conda {
		if r, ok := pyenv.FromConda(c); ok {
			conda = append(conda, r)
		}
	}
	file, err := condaFile(e, pip)
	if err != nil {
		return Image{}, err
	}
	place := "/azureml-envs/azureml_" + hash
	lines := func(l []string) string { return strings.Join(l, "\n") + "\n" }
	return s.make(ctx, recipe{
		hash: hash, named: e.Name,
		files: map[string]string{
			"install.sh": install, "environment.yaml": file, "python.txt": clean(e.Python) + "\n",
			"requirements.txt": lines(pip), "conda.txt": lines(conda), "left-out.txt": strings.Join(left, "\n"),
		},
		dockerfile: func(x *secrets) string { return layer(tag, place, base.User, x) },
		explain: func(log string) string {
			log = plain(log)
			// Of the image's Python the log's end speaks; the machine's is not asked.
			if why := pyenv.Explain(log, e, pyenv.Python{Version: e.Python}); why != "" {
				return why + ending(log)
			}
			return ""
		},
	}, log)
}

// layer is the Dockerfile that puts packages onto an image.
func layer(base, place, user string, x *secrets) string {
	var b strings.Builder
	fmt.Fprintf(&b, "FROM %s\nUSER root\n", base)
	fmt.Fprintf(&b, "RUN --mount=type=bind,target=/run/ebb/build %s [\"/bin/sh\", \"/run/ebb/build/install.sh\", %q]\n", x.mounts(false), place)
	fmt.Fprintf(&b, "ENV PATH=%s/bin:$PATH AZUREML_CONDA_ENVIRONMENT_PATH=%s VIRTUAL_ENV=%s\n", place, place, place)
	if user != "" {
		fmt.Fprintf(&b, "USER %s\n", user)
	}
	return b.String()
}

// condaFile is an environment's conda file with pip requirements changed.
func condaFile(e queue.Environment, pip []string) (string, error) {
	if e.CondaFile == "" {
		return "", nil
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(e.CondaFile), &all); err != nil {
		return "", fmt.Errorf("read the conda file: %w", err)
	}
	all = maps.Clone(all)
	delete(all, "name")
	delete(all, "prefix")
	dependencies, _ := all["dependencies"].([]any)
	var kept []any
	for _, d := range dependencies {
		if _, nested := d.(map[string]any); !nested {
			kept = append(kept, d)
		}
	}
	if len(pip) > 0 {
		kept = append(kept, map[string]any{"pip": pip})
	}
	all["dependencies"] = kept
	text, err := json.Marshal(all)
	return string(text), err
}

// clean makes a version fit for a file that a shell reads.
func clean(version string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, version)
}
