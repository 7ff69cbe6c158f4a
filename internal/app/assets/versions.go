package assets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Collection is a kind of asset that has names and versions, by the segment of
// its address.
type Collection string

// The collections. All but environments are kept as they come; those are also
// SDK v1's, whose words they are kept in.
const (
	Codes        Collection = "codes"
	Data         Collection = "data"
	Models       Collection = "models"
	Components   Collection = "components"
	Environments Collection = "environments"
)

// Creator is who wrote an asset.
type Creator struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	Kind string `json:"kind,omitempty"`
}

func creator(p access.Principal) Creator { return Creator{p.ID, p.Name, string(p.Kind)} }

// Asset is a name (Version is empty) or one version of it.
type Asset struct {
	Name       string         `json:"name"`
	Version    string         `json:"version,omitempty"`
	Properties map[string]any `json:"properties"` // in ARM's words, as they came
	Latest     string         `json:"latest,omitempty"`
	Number     int            `json:"number,omitempty"`    // of a name: its highest version that is a number
	Anonymous  bool           `json:"anonymous,omitempty"` // of a name: every version was made by the way, for a job
	Snapshot   string         `json:"snapshot,omitempty"`  // of code: guid of its files
	Creator    Creator        `json:"creator"`
	Modifier   Creator        `json:"modifier"`
	Created    time.Time      `json:"-"`
	Modified   time.Time      `json:"-"`

	definition map[string]any // of an environment: in SDK v1's words
}

// Archived reports whether lists leave the asset out.
func (a *Asset) Archived() bool { return a.Properties["isArchived"] == true }

// Next is the version that a name's next one gets by itself.
func (a *Asset) Next() string { return strconv.Itoa(a.Number + 1) }

// kept is an asset with the revision of its row.
type kept struct {
	Asset
	doc row.Document
	rev int64
}

func collectionID(w Place, c Collection) string { return w.key() + "/" + string(c) }

func nameID(w Place, c Collection, name string) string {
	return collectionID(w, c) + "/" + strings.ToLower(name)
}

func assetID(w Place, c Collection, name, version string) string {
	if version == "" {
		return nameID(w, c, name)
	}
	return nameID(w, c, name) + "/versions/" + strings.ToLower(version)
}

// checkAssetName keeps to the rule of the clients' own schemas.
func checkAssetName(what, name string) error {
	if n := utf8.RuneCountInString(name); n == 0 || n > 255 || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	}) || strings.ContainsRune("._-", rune(name[0])) {
		return fault.Coded(fault.Invalid, "InvalidAssetName", what, "The %s %.80q is not valid: it must have 1 to 255 letters, digits, dots, underscores and dashes, and begin with a letter or digit.", what, name)
	}
	return nil
}

// mayWriteAssets refuses a run's principal.
func mayWriteAssets(p access.Principal, what string) error {
	if p.Kind == access.RunIdentity {
		return fault.Coded(fault.Forbidden, "AuthorizationFailed", what, "A run's token may not change %s.", what)
	}
	return nil
}

func (s *Service) asset(ctx context.Context, w Place, c Collection, name, version string) (kept, error) {
	rec, err := s.Store.Get(ctx, row.Key{Kind: c.rows(), ID: assetID(w, c, name, version)})
	if err != nil {
		return kept{}, err
	}
	return unpack(rec)
}

// defaultVersion is how clients ask for a component's version that is to be used
// where none is named: the newest.
const defaultVersion = "azureml_default"

// Get returns a version of an asset, or what is known of a name where version is empty.
func (s *Service) Get(ctx context.Context, w Place, c Collection, name, version string) (Asset, error) {
	if c == Components && version == defaultVersion {
		return s.Newest(ctx, w, c, name)
	}
	k, err := s.asset(ctx, w, c, name, version)
	if errors.Is(err, fault.NotFound) {
		if a, ok := s.snapshotCode(ctx, w, c, name, version); ok {
			return a, nil
		}
		if e, ok := s.curated(err, name); ok && c == Environments {
			if version != "" {
				version = curatedVersion
			}
			return e.asset(version), nil
		}
		return Asset{}, s.noAsset(ctx, w, c, name, version)
	}
	return k.Asset, err
}

// PutVersion makes a version, or changes what of it may change: description,
// tags, properties, stage, whether it is archived. created says which.
func (s *Service) PutVersion(ctx context.Context, p access.Principal, w Place, c Collection, name, version string, props map[string]any) (a Asset, created bool, err error) {
	if err := mayWriteAssets(p, string(c)); err != nil {
		return Asset{}, false, err
	}
	if err := errors.Join(checkAssetName("name", name), checkAssetName("version", version)); err != nil {
		return Asset{}, false, err
	}
	if version == defaultVersion {
		return Asset{}, false, fault.Coded(fault.Invalid, "InvalidAssetName", "version", "The version %q is reserved: it stands for the newest one.", version)
	}
	for try := 0; ; try++ {
		a, created, err = s.putVersion(ctx, p, w, c, name, version, withDefaults(c, props))
		if !again(err, try) {
			return a, created, err
		}
	}
}

func (s *Service) putVersion(ctx context.Context, p access.Principal, w Place, c Collection, name, version string, props map[string]any) (Asset, bool, error) {
	old, err := s.asset(ctx, w, c, name, version)
	switch {
	case err == nil:
		nameSpec(props, old.Name, old.Version)
		a, err := s.change(ctx, p, w, c, old, props)
		return a, false, err
	case !errors.Is(err, fault.NotFound):
		return Asset{}, false, err
	}
	a := Asset{Name: name, Version: version, Properties: props, Creator: creator(p), Modifier: creator(p)}
	more, err := s.accept(ctx, p, w, c, &a)
	if err != nil {
		return Asset{}, false, err
	}
	top, err := s.grown(ctx, p, w, c, &a)
	if err != nil {
		return Asset{}, false, err
	}
	nameSpec(a.Properties, a.Name, a.Version)
	doc, err := s.pack(p, c.rows(), assetID(w, c, name, version), nameID(w, c, name), row.SortTime(s.Now()), a)
	if err != nil {
		return Asset{}, false, err
	}
	a.Created, a.Modified = doc.Created, doc.Modified
	changes := append(more, top, row.Create(doc), s.event(p, doc.ID, "create "+string(c)))
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return Asset{}, false, fmt.Errorf("create %s %s:%s: %w", c, name, version, err)
	}
	return a, true, nil
}

// grown is the write that makes a version known to its name, new or old.
func (s *Service) grown(ctx context.Context, p access.Principal, w Place, c Collection, a *Asset) (row.Change, error) {
	anonymous := a.Properties["isAnonymous"] == true
	k, err := s.asset(ctx, w, c, a.Name, "")
	switch {
	case errors.Is(err, fault.NotFound):
		k.Asset = Asset{Name: a.Name, Properties: nameProperties(c, a.Properties), Creator: creator(p), Anonymous: anonymous}
	case err != nil:
		return row.Change{}, err
	default:
		if err := sameKind(c, &k.Asset, a); err != nil {
			return row.Change{}, err
		}
		a.Name = k.Name // as it was first typed
	}
	k.Latest, k.Modifier, k.Anonymous = a.Version, creator(p), k.Anonymous && anonymous
	if n, err := strconv.Atoi(a.Version); err == nil && n > k.Number {
		k.Number = n
	}
	return s.rewrite(p, c.rows(), nameID(w, c, a.Name), collectionID(w, c), strings.ToLower(a.Name), k)
}

// rewrite is the write of an asset's row: over the one that was read, or a new one.
func (s *Service) rewrite(p access.Principal, kind row.Kind, id, parent, sort string, k kept) (row.Change, error) {
	doc, err := s.pack(p, kind, id, parent, sort, k.Asset)
	if err != nil {
		return row.Change{}, err
	}
	if k.rev == 0 {
		return row.Create(doc), nil
	}
	doc.Created = k.doc.Created
	return row.Update(doc, k.rev), nil
}

// change replaces what of an asset may change, and refuses by name what may not.
func (s *Service) change(ctx context.Context, p access.Principal, w Place, c Collection, old kept, props map[string]any) (Asset, error) {
	fixed := kinds[c].fixed
	if old.Version == "" {
		fixed = kinds[c].shared
	}
	for _, name := range fixed {
		was, now := old.Properties[name], props[name]
		left := now == nil && (old.Version == "" || slices.Contains(kinds[c].filled, name))
		if name == "componentSpec" {
			was, now = sameSpec(was, now)
		}
		if !left && !sameJSON(was, now) && !(empty(was) && empty(now)) {
			// A conflict: SDK v2 then makes the next version of an environment.
			return Asset{}, fault.Coded(fault.Conflict, "PropertyChangeNotAllowed", "properties."+name,
				"The property %s of the %s %s:%s cannot be changed. Make another version.", name, kinds[c].noun, old.Name, old.Version)
		}
		if delete(props, name); was != nil {
			props[name] = was
		}
	}
	if err := kinds[c].check(props, old.Version == ""); err != nil {
		return Asset{}, err
	}
	a := old.Asset
	a.Properties, a.Modifier = props, creator(p)
	if sameJSON(props, old.Properties) {
		return old.Asset, nil
	}
	next := old
	next.Asset = a
	write, err := s.rewrite(p, old.doc.Kind, old.doc.ID, old.doc.Parent, old.doc.Sort, next)
	if err != nil {
		return Asset{}, err
	}
	changes := []row.Change{write, s.event(p, old.doc.ID, "update "+string(c))}
	if a.Version != "" && a.Archived() != old.Archived() {
		top, err := s.relabelled(ctx, p, w, c, &a, a.Version)
		if err != nil {
			return Asset{}, err
		}
		changes = append(changes, top)
	}
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return Asset{}, fmt.Errorf("update %s: %w", old.doc.ID, err)
	}
	a.Modified = write.Put.(row.Document).Modified
	return a, nil
}

// sameSpec is a component's definition as it was and as it comes, the one with what
// may change of it and the other without what clients add to what they have read:
// SDK v2 sends its own id back in it, who made it, and where it came from.
func sameSpec(was, now any) (any, any) {
	old, is := was.(map[string]any)
	given, are := now.(map[string]any)
	if !is || !are {
		return was, now
	}
	old, given = maps.Clone(old), maps.Clone(given)
	for _, added := range []string{"id", "creation_context", "_source"} {
		given[added] = old[added]
		if _, there := old[added]; !there {
			delete(given, added)
		}
	}
	if old["description"] = given["description"]; given["description"] == nil {
		delete(old, "description")
		delete(given, "description")
	}
	return old, given
}

// relabelled is the write that says which version of a name is the latest, once
// a has changed: the newest that is not archived, or else.
func (s *Service) relabelled(ctx context.Context, p access.Principal, w Place, c Collection, a *Asset, otherwise string) (row.Change, error) {
	top, err := s.asset(ctx, w, c, a.Name, "")
	if err != nil {
		return row.Change{}, err
	}
	all, err := s.versions(ctx, w, c, a.Name)
	if err != nil {
		return row.Change{}, err
	}
	top.Latest = otherwise
	for _, v := range all {
		if v.Version == a.Version {
			v.Asset = *a
		}
		if !v.Archived() && !strings.HasPrefix(v.Version, autosaved) {
			top.Latest = v.Version
		}
	}
	return s.rewrite(p, top.doc.Kind, top.doc.ID, top.doc.Parent, top.doc.Sort, top)
}

// PutName makes a name without a version, or changes what is known of one.
func (s *Service) PutName(ctx context.Context, p access.Principal, w Place, c Collection, name string, props map[string]any) (a Asset, created bool, err error) {
	if err := errors.Join(mayWriteAssets(p, string(c)), checkAssetName("name", name)); err != nil {
		return Asset{}, false, err
	}
	for try := 0; ; try++ {
		a, created, err = s.putName(ctx, p, w, c, name, maps.Clone(props))
		if !again(err, try) {
			return a, created, err
		}
	}
}

func (s *Service) putName(ctx context.Context, p access.Principal, w Place, c Collection, name string, props map[string]any) (Asset, bool, error) {
	old, err := s.asset(ctx, w, c, name, "")
	if err == nil {
		a, err := s.change(ctx, p, w, c, old, props)
		return a, false, err
	}
	if !errors.Is(err, fault.NotFound) {
		return Asset{}, false, err
	}
	if err := kinds[c].check(props, true); err != nil {
		return Asset{}, false, err
	}
	k := kept{Asset: Asset{Name: name, Properties: props, Creator: creator(p), Modifier: creator(p)}}
	write, err := s.rewrite(p, c.rows(), nameID(w, c, name), collectionID(w, c), strings.ToLower(name), k)
	if err != nil {
		return Asset{}, false, err
	}
	doc := write.Put.(row.Document)
	if _, err := s.Store.Commit(ctx, write, s.event(p, doc.ID, "create "+string(c))); err != nil {
		return Asset{}, false, fmt.Errorf("create %s %s: %w", c, name, err)
	}
	k.Created, k.Modified = doc.Created, doc.Modified
	return k.Asset, true, nil
}

// Delete removes a version, or a name with all its versions where version is
// empty. What is not there is no error: existed is false.
func (s *Service) Delete(ctx context.Context, p access.Principal, w Place, c Collection, name, version string) (existed bool, err error) {
	if err := mayWriteAssets(p, string(c)); err != nil {
		return false, err
	}
	for try := 0; ; try++ {
		existed, err = s.delete(ctx, p, w, c, name, version)
		if !again(err, try) {
			return existed, err
		}
	}
}

func (s *Service) delete(ctx context.Context, p access.Principal, w Place, c Collection, name, version string) (bool, error) {
	old, err := s.asset(ctx, w, c, name, version)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	changes := []row.Change{{Drop: old.doc.Key(), If: row.Condition{Rev: old.rev}}, s.event(p, old.doc.ID, "delete "+string(c))}
	if version == "" {
		rest, err := s.versions(ctx, w, c, name)
		if err != nil {
			return false, err
		}
		for _, v := range rest {
			changes = append(changes, row.Drop(v.doc.Key()))
		}
	} else {
		gone := old.Asset
		gone.Properties = map[string]any{"isArchived": true}
		write, err := s.relabelled(ctx, p, w, c, &gone, "")
		if err != nil {
			return false, err
		}
		changes = append(changes, write)
	}
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		return false, fmt.Errorf("delete %s %s: %w", c, name, err)
	}
	return true, nil
}

// withDefaults is what a client sent, and what of it has a value by itself where
// clients compare what they read with what they wrote.
func withDefaults(c Collection, props map[string]any) map[string]any {
	props = maps.Clone(props)
	if build, ok := props["build"].(map[string]any); ok && c == Environments {
		build = maps.Clone(build)
		if path, _ := build["dockerfilePath"].(string); path == "" {
			build["dockerfilePath"] = "Dockerfile"
		}
		props["build"] = build
	}
	return props
}

// nameSpec writes a version's name and version into its componentSpec, where the
// clients look for them. They are the address's, whatever the file said.
func nameSpec(props map[string]any, name, version string) {
	spec, ok := props["componentSpec"].(map[string]any)
	if !ok || version == "" {
		return
	}
	spec = maps.Clone(spec)
	spec["name"], spec["version"] = name, version
	props["componentSpec"] = spec
}

// versions returns every version of a name, oldest first.
func (s *Service) versions(ctx context.Context, w Place, c Collection, name string) ([]kept, error) {
	var out []kept
	for after := ""; ; {
		page, err := s.Store.List(ctx, row.Query{Kind: c.rows(), Parent: nameID(w, c, name), After: after})
		if err != nil {
			return nil, fmt.Errorf("list versions of %s: %w", name, err)
		}
		for _, r := range page.Records {
			k, err := unpack(r)
			if err != nil {
				return nil, err
			}
			out = append(out, k)
		}
		if after = page.Next; after == "" {
			return out, nil
		}
	}
}

func unpack(r row.Record) (kept, error) {
	k := kept{doc: r.Row.(row.Document), rev: r.Rev}
	read := decode
	if k.doc.Kind == row.Environment {
		read = decodeEnvironment
	}
	if err := read(r, &k.Asset); err != nil {
		return kept{}, fmt.Errorf("read %s: %w", k.doc.ID, err)
	}
	nameSpec(k.Properties, k.Name, k.Version)
	k.Created, k.Modified = k.doc.Created, k.doc.Modified
	return k, nil
}

// pack is the row of an asset.
func (s *Service) pack(p access.Principal, kind row.Kind, id, parent, sort string, a Asset) (row.Document, error) {
	if kind != row.Environment {
		return s.document(p, kind, id, parent, sort, a)
	}
	body, err := environmentBody(&a)
	if err != nil {
		return row.Document{}, err
	}
	return s.document(p, kind, id, parent, sort, body)
}

// nameProperties are those that a name takes from its first version.
func nameProperties(c Collection, version map[string]any) map[string]any {
	out := map[string]any{"isArchived": false}
	for _, k := range kinds[c].shared {
		if v, ok := version[k]; ok {
			out[k] = v
		}
	}
	return out
}

// sameKind refuses a version that differs from its name in what all versions share.
func sameKind(c Collection, top, a *Asset) error {
	for _, k := range kinds[c].shared {
		if was, ok := top.Properties[k]; ok && !sameJSON(was, a.Properties[k]) {
			return fault.Coded(fault.Invalid, "PropertyChangeNotAllowed", "properties."+k, "The %s %q is of the %s %v, as its other versions are, and this one says %v.", kinds[c].noun, top.Name, k, was, a.Properties[k])
		}
	}
	return nil
}
