package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner/once"
)

// name is a reference as written, in full ("docker.io/library/python:3.12"), and
// what the engine is asked for.
type name struct {
	written string
	full    string
	pinned  bool // it is a digest, which no tag can stand for
}

func parse(written string) (name, error) {
	ref, err := reference.ParseNormalizedNamed(strings.TrimSpace(written))
	if err != nil {
		return name{}, fault.Coded(fault.Invalid, "InvalidPropertyValue", "environment", "%.300q is not the name of an image: %s. One is written as registry/repository:tag.", written, err)
	}
	ref = reference.TagNameOnly(ref)
	_, pinned := ref.(reference.Digested)
	return name{written, ref.String(), pinned}, nil
}

// tag is the name by which the engine has the image once it came from elsewhere
// than its registry.
func (n name) tag() string {
	if !n.pinned {
		return n.full
	}
	sum := sha256.Sum256([]byte(n.full))
	return "localhost/ebb/pinned:" + hex.EncodeToString(sum[:16])
}

// present returns the image if the engine has it.
func (s *Store) present(ctx context.Context, n name) (Image, bool, error) {
	for _, known := range slices.Compact([]string{n.full, n.tag()}) {
		img, err := s.look(ctx, known, n.written)
		if err == nil || !errdefs.IsNotFound(err) {
			return img, err == nil, err
		}
	}
	return Image{}, false, nil
}

// get returns an image by its name, from the first place that has it.
func (s *Store) get(ctx context.Context, written string, logins map[string]Login, log io.Writer) (Image, error) {
	n, err := parse(written)
	if err != nil {
		return Image{}, err
	}
	if img, ok, err := s.present(ctx, n); ok || err != nil {
		return img, err
	}
	sum := sha256.Sum256([]byte("image " + n.full))
	key := hex.EncodeToString(sum[:16])
	f := &once.Follower{Path: s.path(key + ".log"), To: log}
	unlock, err := once.Lock(ctx, s.path(key+".lock"), f)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	if img, ok, err := s.present(ctx, n); ok || err != nil {
		return img, err
	}
	out, done, err := s.log(key, f)
	if err != nil {
		return Image{}, err
	}
	defer done()
	if err := s.fetch(ctx, n, logins, out); err != nil {
		return Image{}, err
	}
	img, ok, err := s.present(ctx, n)
	if err == nil && !ok {
		err = fmt.Errorf("the engine does not know the image %s that it has got", n.full)
	}
	return img, err
}

// fetch has the engine get an image: from an archive, a mirror, or its registry.
func (s *Store) fetch(ctx context.Context, n name, logins map[string]Login, log io.Writer) error {
	loaded, err := s.load(ctx, n, log)
	if loaded || err != nil {
		return err
	}
	var tried []string
	for _, from := range s.places(n.full) {
		say(log, "Pulling the image %s", from)
		err := s.pullFrom(ctx, from, logins, log)
		if err == nil {
			if from == n.full {
				return nil
			}
			_, err = s.cfg.Engine.ImageTag(ctx, client.ImageTagOptions{Source: from, Target: n.tag()})
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, down := s.cfg.Engine.Ping(ctx, client.PingOptions{}); down != nil {
			return fmt.Errorf("pull %s: %w", from, err) // the engine's fault, not the image's
		}
		say(log, "ERROR: %s", err)
		tried = append(tried, fmt.Sprintf("%s: %s", from, reason(err)))
	}
	return fault.Coded(fault.Invalid, "ImagePullFailure", "environment", "The image %s cannot be had. %s. %s", n.written, strings.Join(tried, "; "), advice(n))
}

// places are where an image may be pulled from: mirrors, that with the longest
// match first, then its own registry.
func (s *Store) places(full string) []string {
	var from []string
	for prefix := range s.cfg.Mirrors {
		p := strings.TrimSuffix(prefix, "/")
		if rest, ok := strings.CutPrefix(full, p); ok && (rest == "" || strings.ContainsRune("/:@", rune(rest[0]))) {
			from = append(from, prefix)
		}
	}
	slices.SortFunc(from, func(a, b string) int { return len(b) - len(a) })
	for i, prefix := range from {
		from[i] = strings.TrimSuffix(s.cfg.Mirrors[prefix], "/") + strings.TrimPrefix(full, strings.TrimSuffix(prefix, "/"))
	}
	return append(from, full)
}

// pullTries is how often a registry that does not answer is asked.
const pullTries = 3

func (s *Store) pullFrom(ctx context.Context, from string, logins map[string]Login, log io.Writer) (err error) {
	for try := range pullTries {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err = s.pull(ctx, from, logins, log); err == nil || !passing(err) {
			return err
		}
	}
	return err
}

// passing reports whether an error may be over in a moment.
func passing(err error) bool {
	text := strings.ToLower(err.Error())
	for _, sign := range []string{"i/o timeout", "connection reset", "unexpected eof", "tls handshake timeout", "503 ", "502 ", "504 ", "toomanyrequests"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

func (s *Store) pull(ctx context.Context, from string, logins map[string]Login, log io.Writer) error {
	auth, err := s.auth(host(from), logins)
	if err != nil {
		return err
	}
	answer, err := s.cfg.Engine.ImagePull(ctx, from, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return err
	}
	defer answer.Close()
	for m, err := range answer.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		if m.Error != nil {
			return m.Error
		}
		if m.Progress == nil && m.Status != "" && m.ID == "" || m.Status == "Pull complete" {
			say(log, "%s", strings.TrimSpace(m.ID+" "+m.Status))
		}
	}
	return ctx.Err()
}

// auth is what a registry is told, in the engine's words; empty: nothing. What the
// environment brings goes before what the configuration has.
func (s *Store) auth(host string, logins map[string]Login) (string, error) {
	for _, known := range []map[string]Login{logins, s.cfg.Registries} {
		for address, l := range known {
			if !strings.EqualFold(hostOf(address), host) {
				continue
			}
			return authconfig.Encode(registry.AuthConfig{Username: l.Username, Password: l.Password, RegistryToken: l.Token, ServerAddress: host})
		}
	}
	return "", nil
}

// hostOf is the host of a registry's address, as people write them.
func hostOf(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		rest = address
	}
	h := host(rest)
	if h == "index.docker.io" || h == "registry-1.docker.io" {
		return "docker.io"
	}
	return h
}

// reason says in a few words why a registry did not give an image.
func reason(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	lower := strings.ToLower(text)
	for _, r := range []struct{ sign, words string }{
		{"no space left on device", "the engine's disk is full"},
		{"no matching manifest for", "it has no variant for linux/" + runtime.GOARCH},
		{"no basic auth credentials", "the registry wants credentials"},
		{"unauthorized", "the registry refuses access"},
		{"denied", "the registry refuses access, or there is no such image"},
		{"forbidden", "the registry refuses access"},
		{"manifest unknown", "there is no such image or tag"},
		{"not found", "there is no such image or tag"},
		{"name unknown", "there is no such image"},
		{"no such host", "the registry's name is not known here"},
		{"temporary failure in name resolution", "the registry's name is not known here"},
		{"connection refused", "the registry does not answer"},
		{"timeout", "the registry does not answer"},
		{"x509", "the registry's certificate is not trusted by the engine"},
	} {
		if strings.Contains(lower, r.sign) {
			return fmt.Sprintf("%s (%.300s)", r.words, text)
		}
	}
	return fmt.Sprintf("%.400s", text)
}

// advice says how an image can be had nevertheless.
func advice(n name) string {
	h := host(n.full)
	return fmt.Sprintf("Whoever runs the server can give a mirror (ebb.yaml: images: mirrors: {%s: registry.example.com/%s}), credentials (images: registries: {%s: {username: …, password: …}}), "+
		"or a folder of archives (images: archives: DIR; made by skopeo copy docker://%s oci-archive:DIR/image.tar:%s), or put it on the node's engine (docker pull, docker load).", h, h, h, n.full, n.full)
}

// isEngine reports whether an error comes from an engine that does not answer.
func isEngine(err error) bool {
	return client.IsErrConnectionFailed(err) || errors.Is(err, context.DeadlineExceeded)
}
