package assets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// head is the newest version of a name: what a get without a version means, and
// what keeps two registrations from taking the same number.
type head struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Number  int    `json:"number"` // highest automatic version
	ARM     *inARM `json:"arm,omitempty"`
}

func headID(w Place, name string) string {
	return w.key() + "/environments/" + strings.ToLower(name)
}

func versionID(w Place, name, version string) string {
	return headID(w, name) + "/versions/" + strings.ToLower(version)
}

// checkEnvironment refuses names that no path could carry.
func checkEnvironment(what, name string) error {
	if n := utf8.RuneCountInString(name); n == 0 || n > 255 || strings.ContainsAny(name, "/\\?#%") || strings.TrimSpace(name) != name {
		return fault.Coded(fault.Invalid, "InvalidEnvironmentName", what, "The environment's %s %.80q is not valid: it must have 1 to 255 characters and hold no slash, backslash, percent sign, question mark or hash.", what, name)
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f {
			return fault.Coded(fault.Invalid, "InvalidEnvironmentName", what, "The environment's %s holds a control character.", what)
		}
	}
	return nil
}

// canonical gives a definition the keys that SDK v1 reads: it registers some of
// them with a capital letter. Name and version are the caller's.
func canonical(definition map[string]any) map[string]any {
	out := make(map[string]any, len(definition))
	for k, v := range definition {
		if k == "" {
			continue
		}
		k = strings.ToLower(k[:1]) + k[1:]
		if k != "name" && k != "version" {
			out[k] = v
		}
	}
	return out
}

// Register keeps an environment. Without a version it becomes the next number,
// or stays the newest version where it is the same; with one, that version must
// be new or the same.
func (s *Service) Register(ctx context.Context, p access.Principal, w Place, name, version string, definition map[string]any) (map[string]any, error) {
	if p.Kind == access.RunIdentity {
		return nil, fault.Coded(fault.Forbidden, "AuthorizationFailed", name, "A run's token may not register environments.")
	}
	if err := checkEnvironment("name", name); err != nil {
		return nil, err
	}
	if version != "" {
		if err := checkEnvironment("version", version); err != nil {
			return nil, err
		}
	}
	definition = canonical(definition)
	if err := s.Conceal(w, definition); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		env, err := s.register(ctx, p, w, name, version, definition)
		if !again(err, try) {
			return env, err
		}
	}
}

func (s *Service) register(ctx context.Context, p access.Principal, w Place, name, version string, definition map[string]any) (map[string]any, error) {
	h := head{Name: name}
	rec, err := s.read(ctx, row.Environment, headID(w, name), &h)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return nil, err
	}
	asked := version
	if asked == "" && !strings.HasPrefix(h.Version, autosaved) { // what is registered gets a number
		asked = h.Version
	}
	if asked != "" {
		old, err := s.version(ctx, w, name, asked)
		switch {
		case err == nil && s.same(w, old, definition):
			return old, nil
		case err == nil && version != "":
			return nil, fault.Coded(fault.Conflict, "EnvironmentExists", name, "Version %s of the environment %q exists and is something else; versions do not change.", version, name)
		case err != nil && !errors.Is(err, fault.NotFound):
			return nil, err
		}
	}
	if version == "" {
		version = strconv.Itoa(h.Number + 1)
	}
	if n, err := strconv.Atoi(version); err == nil && n > h.Number {
		h.Number = n
	}
	h.Version = version
	env := canonical(definition)
	env["name"], env["version"] = h.Name, version
	doc, err := s.document(p, row.Environment, versionID(w, name, version), headID(w, name), row.SortTime(s.Now()), env)
	if err != nil {
		return nil, err
	}
	top, err := s.document(p, row.Environment, headID(w, name), w.key()+"/environments", strings.ToLower(name), h)
	if err != nil {
		return nil, err
	}
	first := row.Create(top)
	if rec.Rev != 0 {
		first = row.Update(top, rec.Rev)
	}
	if _, err := s.Store.Commit(ctx, first, row.Create(doc), s.event(p, doc.ID, "register environment")); err != nil {
		return nil, fmt.Errorf("register environment %s: %w", name, err)
	}
	return env, nil
}

// same compares definitions as JSON, where 1 and 1.0 of two decoders are one.
func (s *Service) same(w Place, kept, asked map[string]any) bool {
	a, b := s.comparable(w, canonical(kept)), s.comparable(w, canonical(asked))
	ta, errA := json.Marshal(a)
	tb, errB := json.Marshal(b)
	if errA != nil || errB != nil {
		return false
	}
	if bytes.Equal(ta, tb) {
		return true
	}
	var x, y any
	return json.Unmarshal(ta, &x) == nil && json.Unmarshal(tb, &y) == nil && reflect.DeepEqual(x, y)
}

// autosaved begins the versions of environments that nobody registered.
const autosaved = "Autosave_"

// VersionOf says which version of an environment a run's inline definition is:
// the one it names, or the newest, where they are the same, else one named by
// its content, which [Service.Autosave] keeps. Empty: the name can be no
// environment's, and the run keeps the only copy. A password in it is sealed.
func (s *Service) VersionOf(ctx context.Context, w Place, name, version string, definition map[string]any) (string, error) {
	if checkEnvironment("name", name) != nil {
		return "", nil
	}
	if err := s.Conceal(w, definition); err != nil {
		return "", err
	}
	definition = canonical(definition)
	for _, v := range []string{version, ""} {
		kept, err := s.Environment(ctx, w, name, v)
		if err == nil && s.same(w, kept, definition) {
			v, _ = kept["version"].(string)
			return v, nil
		}
		if err != nil && !errors.Is(err, fault.NotFound) {
			return "", err
		}
	}
	text, err := json.Marshal(s.comparable(w, definition))
	if err != nil {
		return "", fmt.Errorf("write environment %s: %w", name, err)
	}
	sum := sha256.Sum256(text)
	return autosaved + hex.EncodeToString(sum[:8]), nil
}

// Autosave keeps the inline definition of a run's environment under the version
// that [Service.VersionOf] gave, so that it can be asked for as the run's
// (Run.get_environment). What is registered stays the newest version.
func (s *Service) Autosave(ctx context.Context, p access.Principal, w Place, name, version string, definition map[string]any) error {
	if !strings.HasPrefix(version, autosaved) {
		return nil
	}
	for try := 0; ; try++ {
		err := s.autosave(ctx, p, w, name, version, canonical(definition))
		if !again(err, try) {
			return err
		}
	}
}

func (s *Service) autosave(ctx context.Context, p access.Principal, w Place, name, version string, env map[string]any) error {
	if _, err := s.version(ctx, w, name, version); !errors.Is(err, fault.NotFound) {
		return err
	}
	h := head{Name: name}
	rec, err := s.read(ctx, row.Environment, headID(w, name), &h)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	env["name"], env["version"] = h.Name, version
	doc, err := s.document(p, row.Environment, versionID(w, name, version), headID(w, name), row.SortTime(s.Now()), env)
	if err != nil {
		return err
	}
	changes := []row.Change{row.Create(doc), s.event(p, doc.ID, "save environment")}
	if h.Version == "" || strings.HasPrefix(h.Version, autosaved) {
		h.Version = version
		top, err := s.document(p, row.Environment, headID(w, name), w.key()+"/environments", strings.ToLower(name), h)
		if err != nil {
			return err
		}
		if rec.Rev != 0 {
			changes = append(changes, row.Update(top, rec.Rev))
		} else {
			changes = append(changes, row.Create(top))
		}
	}
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return fmt.Errorf("save environment %s: %w", name, err)
	}
	return nil
}

func (s *Service) version(ctx context.Context, w Place, name, version string) (map[string]any, error) {
	var env map[string]any
	_, err := s.read(ctx, row.Environment, versionID(w, name, version), &env)
	return inV1(env), err
}

// inV1 is an environment's row as SDK v1 reads it. Rows that were written before
// this version may have the place of a build context in a case that it refuses, and
// with it the whole list.
func inV1(env map[string]any) map[string]any {
	delete(env, armKey)
	docker, _ := env["docker"].(map[string]any)
	if build, ok := docker["buildContext"].(map[string]any); ok {
		switch build["locationType"] {
		case "StorageAccount":
			build["locationType"] = "storageAccount"
		case "Git":
			build["locationType"] = "git"
		}
	}
	return env
}

// Environment returns one version of an environment; empty: the newest.
func (s *Service) Environment(ctx context.Context, w Place, name, version string) (map[string]any, error) {
	if version == "" {
		var h head
		if _, err := s.read(ctx, row.Environment, headID(w, name), &h); err != nil {
			if e, ok := s.curated(err, name); ok {
				return e.environment(), nil
			}
			return nil, s.missing(ctx, w, err, name, "")
		}
		version = h.Version
	}
	env, err := s.version(ctx, w, name, version)
	if e, ok := s.curated(err, name); ok {
		return e.environment(), nil
	}
	return env, s.missing(ctx, w, err, name, version)
}

// Environments lists the newest version of every environment, by name.
func (s *Service) Environments(ctx context.Context, w Place, after string) ([]map[string]any, string, error) {
	page, err := s.Store.List(ctx, row.Query{Kind: row.Environment, Parent: w.key() + "/environments", Limit: 200, After: after})
	if err != nil {
		return nil, "", fmt.Errorf("list environments: %w", err)
	}
	out := []map[string]any{}
	for _, r := range page.Records {
		var h head
		if err := decode(r, &h); err != nil {
			return nil, "", fmt.Errorf("read environments: %w", err)
		}
		if h.Version == "" || h.ARM != nil && h.ARM.Anonymous {
			continue // every version is deleted, or was made by the way
		}
		env, err := s.version(ctx, w, h.Name, h.Version)
		if errors.Is(err, fault.NotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, "", fmt.Errorf("read environment %s: %w", h.Name, err)
		}
		out = append(out, env)
	}
	return out, page.Next, nil
}

// Versions lists every version of an environment, newest first.
func (s *Service) Versions(ctx context.Context, w Place, name, after string) ([]map[string]any, string, error) {
	page, err := s.Store.List(ctx, row.Query{Kind: row.Environment, Parent: headID(w, name), Desc: true, Limit: 200, After: after})
	if err != nil {
		return nil, "", fmt.Errorf("list versions of %s: %w", name, err)
	}
	out := []map[string]any{}
	for _, r := range page.Records {
		var env map[string]any
		if err := decode(r, &env); err != nil {
			return nil, "", fmt.Errorf("read versions of %s: %w", name, err)
		}
		out = append(out, inV1(env))
	}
	if len(out) == 0 && after == "" {
		return nil, "", s.missing(ctx, w, fault.NotFound, name, "")
	}
	return out, page.Next, nil
}

// curated is the curated environment of a name that the workspace does not have.
func (s *Service) curated(err error, name string) (curated, bool) {
	if !errors.Is(err, fault.NotFound) {
		return curated{}, false
	}
	return s.Curated.find(name, false)
}
