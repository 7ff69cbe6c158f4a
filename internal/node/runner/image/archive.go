package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/distribution/reference"
	ociname "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/client"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Where archives say the names of their images.
const (
	ociRefName        = "org.opencontainers.image.ref.name" // skopeo's, podman's
	containerdRefName = "io.containerd.image.name"          // docker's, containerd's
)

// load has the engine take an image from the folder of archives; false: none has it.
func (s *Store) load(ctx context.Context, n name, log io.Writer) (bool, error) {
	if s.cfg.Archives == "" {
		return false, nil
	}
	files, err := archives(s.cfg.Archives)
	if err != nil {
		return false, fault.Coded(fault.Invalid, "ImagePullFailure", "environment", "The folder of images (images: archives: in ebb.yaml) cannot be read on the node: %s.", err)
	}
	for _, file := range files {
		has, err := contents(file)
		if err != nil {
			say(log, "Left out the archive %s: %s", file, err)
			continue
		}
		if !has.holds(n) {
			continue
		}
		say(log, "Loading the image %s from %s", n.full, file)
		if err := s.loadFile(ctx, file, has, n); err != nil {
			if ctx.Err() != nil || isEngine(err) {
				return false, err
			}
			return false, fault.Coded(fault.Invalid, "ImagePullFailure", "environment", "The image %s could not be loaded from the archive %s: %s.", n.written, file, reason(err))
		}
		return true, nil
	}
	say(log, "None of the %d archives in %s has the image %s", len(files), s.cfg.Archives, n.full)
	return false, nil
}

func archives(folder string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(path) == ".tar" {
			out = append(out, path)
		}
		return err
	})
	return out, err
}

// archive is what an archive says of itself.
type archive struct {
	index  *v1.IndexManifest // of an OCI archive
	docker []struct {
		Config   string
		RepoTags []string
	}
}

// contents reads the tables of an archive; of the rest only where it is.
func contents(path string) (archive, error) {
	var a archive
	f, err := os.Open(path)
	if err != nil {
		return a, err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, fmt.Errorf("it is not a tar archive: %w", err)
		}
		var into any
		switch filepath.Clean(h.Name) {
		case "index.json":
			a.index = &v1.IndexManifest{}
			into = a.index
		case "manifest.json":
			into = &a.docker
		default:
			continue
		}
		if err := json.NewDecoder(io.LimitReader(r, 16<<20)).Decode(into); err != nil {
			return a, fmt.Errorf("its %s cannot be read: %w", h.Name, err)
		}
	}
	if a.index == nil && a.docker == nil {
		return a, errors.New("it has neither index.json (OCI) nor manifest.json (Docker)")
	}
	return a, nil
}

// named reports whether a name in an archive is the one that is wanted.
func named(in string, n name) bool {
	ref, err := reference.ParseNormalizedNamed(in)
	return err == nil && reference.TagNameOnly(ref).String() == n.full
}

// at is the place in an OCI archive's table of the image that is wanted; -1: none.
func (a archive) at(n name) int {
	if a.index == nil {
		return -1
	}
	return slices.IndexFunc(a.index.Manifests, func(d v1.Descriptor) bool {
		_, digest, _ := strings.Cut(n.full, "@")
		return n.pinned && d.Digest.String() == digest || named(d.Annotations[containerdRefName], n) || named(d.Annotations[ociRefName], n)
	})
}

func (a archive) holds(n name) bool {
	for _, d := range a.docker {
		if slices.ContainsFunc(d.RepoTags, func(t string) bool { return named(t, n) }) {
			return true
		}
	}
	return a.at(n) >= 0
}

// loadFile gives an archive to the engine, under the tag of what is wanted. An OCI
// archive is written anew on the way, as Docker's: engines before 25 know no other.
func (s *Store) loadFile(ctx context.Context, path string, a archive, n name) error {
	at := a.at(n)
	if at < 0 {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return s.take(ctx, f)
	}
	dir, err := os.MkdirTemp(s.cfg.Folder, ".archive-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := untar(path, dir); err != nil {
		return err
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return err
	}
	img, err := imageOf(index, a.index.Manifests[at])
	if err != nil {
		return err
	}
	tag, err := ociname.NewTag(n.tag())
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(tarball.Write(tag, img, w)) }()
	defer r.Close()
	return s.take(ctx, r)
}

// imageOf is what a descriptor leads to, of several variants the one for this machine.
func imageOf(index v1.ImageIndex, d v1.Descriptor) (v1.Image, error) {
	if !d.MediaType.IsIndex() {
		return index.Image(d.Digest)
	}
	inner, err := index.ImageIndex(d.Digest)
	if err != nil {
		return nil, err
	}
	found, err := partial.FindImages(inner, match.Platforms(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no matching manifest for linux/%s in it", runtime.GOARCH)
	}
	return found[0], nil
}

// take sends an archive to the engine.
func (s *Store) take(ctx context.Context, archive io.Reader) error {
	answer, err := s.cfg.Engine.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer answer.Close()
	for d := json.NewDecoder(answer); ; {
		var m struct{ ErrorDetail struct{ Message string } }
		err := d.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.ErrorDetail.Message != "":
			return errors.New(m.ErrorDetail.Message)
		}
	}
}

// untar lays out the files of an OCI archive, which has no others than plain ones.
func untar(path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("it has a file outside of it: %q", h.Name)
		}
		to := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}
