package assets

import (
	"context"
	"net/url"
	"path"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Location is where bytes lie: a blob, or the blobs below a folder. The key of a
// blob in the blob store is Container + "/" + its path.
type Location struct {
	Account   string // storage account
	Container string
	Path      string // with slashes, none at its ends; empty: the whole container
	Folder    bool   // it was written with a slash at its end
	Public    string // an https address that is not this workspace's; then the rest is empty
}

// Key is the location's key, or the prefix of those below it.
func (l Location) Key() string { return l.Container + "/" + l.Path }

// maxHops bounds how often an asset may lead to another address.
const maxHops = 4

// Source is [Service.Locate] of what a job is to read, which may also lie at a
// public https address.
func (s *Service) Source(ctx context.Context, w Place, uri string) (Location, error) {
	return s.locate(ctx, w, uri, maxHops)
}

// Locate finds where the bytes are that an address names: a datastore's path
// (azureml://datastores/…, long or short), an asset (an id, azureml:name:version,
// azureml:name@latest; data and models), the files of a run
// (azureml://jobs/…/outputs/artifacts/paths/…), or a blob's https:// address. What
// lies in a storage account that is not this workspace's is refused by name.
func (s *Service) Locate(ctx context.Context, w Place, uri string) (Location, error) {
	at, err := s.locate(ctx, w, uri, maxHops)
	if err == nil && at.Public != "" {
		u, _ := url.Parse(at.Public)
		return Location{}, foreign(u.Host, uri)
	}
	return at, err
}

func badAddress(uri, why string) error {
	return fault.Coded(fault.Invalid, "InvalidAddress", uri, "The address %.300q %s.", uri, why)
}

func (s *Service) locate(ctx context.Context, w Place, uri string, hops int) (Location, error) {
	if hops == 0 {
		return Location{}, badAddress(uri, "leads from asset to asset without end")
	}
	lower := strings.ToLower(uri)
	switch {
	case strings.HasPrefix(lower, "https://"), strings.HasPrefix(lower, "wasbs://"), strings.HasPrefix(lower, "abfss://"):
		return locateURL(w, uri)
	case strings.Contains(lower, "://") && !strings.HasPrefix(lower, "azureml://"):
		return Location{}, badAddress(uri, "has a scheme that is not served; azureml:// and https:// are")
	}
	rest := trimScheme(uri)
	words := strings.Split(rest, "/")
	if i := segment(words, "datastores"); i >= 0 && i+1 < len(words) {
		if err := sameWorkspace(w, words[:i], uri); err != nil {
			return Location{}, err
		}
		at := strings.Join(words[i+2:], "/")
		at, ok := strings.CutPrefix(at, "paths/")
		if !ok && at == "paths" {
			at = ""
		}
		return s.inDatastore(ctx, w, words[i+1], at, uri)
	}
	if i := segment(words, "jobs"); i >= 0 && i+2 < len(words) && strings.EqualFold(words[i+2], "outputs") {
		if err := sameWorkspace(w, words[:i], uri); err != nil {
			return Location{}, err
		}
		return inRun(w, words[i+1], words[i+3:], uri)
	}
	for _, c := range []Collection{Data, Models, Codes} {
		if segment(words, string(c)) >= 0 {
			a, err := s.Find(ctx, w, c, uri)
			if err != nil {
				return Location{}, err
			}
			return s.locate(ctx, w, addressOf(c, &a), hops-1)
		}
	}
	if strings.Contains(rest, "/") {
		return Location{}, badAddress(uri, "names neither a datastore's path nor an asset")
	}
	// A short name says nothing of its kind: data, as jobs take it, then models.
	a, err := s.Find(ctx, w, Data, uri)
	c := Data
	if fault.KindOf(err) == fault.NotFound {
		if m, other := s.Find(ctx, w, Models, uri); other == nil {
			a, c, err = m, Models, nil
		}
	}
	if err != nil {
		return Location{}, err
	}
	return s.locate(ctx, w, addressOf(c, &a), hops-1)
}

// addressOf is where an asset says that its bytes are.
func addressOf(c Collection, a *Asset) string {
	uri, _ := a.Properties[AddressKey(c)].(string)
	return uri
}

// AddressKey is the property in which an asset says where its bytes are.
func AddressKey(c Collection) string {
	return map[Collection]string{Data: "dataUri", Models: "modelUri", Codes: "codeUri"}[c]
}

// trimScheme takes azureml: and the slashes after it off an address.
func trimScheme(uri string) string {
	if len(uri) >= len("azureml:") && strings.EqualFold(uri[:len("azureml:")], "azureml:") {
		uri = uri[len("azureml:"):]
	}
	return strings.TrimLeft(uri, "/")
}

func segment(words []string, name string) int {
	for i, w := range words {
		if strings.EqualFold(w, name) {
			return i
		}
	}
	return -1
}

// sameWorkspace refuses an address of another workspace. prefix is what comes
// before the collection: nothing, the segments of an ARM id with or without its
// provider, or locations/{region}/workspaces/{guid}.
func sameWorkspace(w Place, prefix []string, uri string) error {
	id := strings.Split(strings.Trim(w.key(), "/"), "/") // subscriptions S resourcegroups G providers P workspaces W
	for i := 0; i+1 < len(prefix); i += 2 {
		var want []string
		switch strings.ToLower(prefix[i]) {
		case "subscriptions":
			want = []string{id[1]}
		case "resourcegroups":
			want = []string{id[3]}
		case "workspaces":
			want = []string{id[len(id)-1], strings.ToLower(w.GUID)}
		case "registries":
			return Registry(uri)
		}
		if want != nil && segment(want, prefix[i+1]) < 0 {
			return fault.Coded(fault.Invalid, "InvalidAddress", uri, "The address %.300q is of another workspace, whose files and assets this one does not read: its %s is %q. Bring what is needed over (download it there, and upload it here).", uri, strings.TrimSuffix(strings.ToLower(prefix[i]), "s"), prefix[i+1])
		}
	}
	return nil
}

// Here refuses the address of another workspace's job.
func Here(w Place, uri string) error {
	words := strings.Split(trimScheme(uri), "/")
	if i := segment(words, "jobs"); i >= 0 {
		return sameWorkspace(w, words[:i], uri)
	}
	return nil
}

// Find returns the version that a reference names: an ARM id (with azureml: or
// without), name:version, name@latest, or a name alone for its newest version.
func (s *Service) Find(ctx context.Context, w Place, c Collection, ref string) (Asset, error) {
	rest := trimScheme(ref)
	name, version := rest, ""
	if words := strings.Split(strings.TrimSuffix(rest, "/"), "/"); len(words) > 1 {
		i := segment(words, string(c))
		if i < 0 || i+1 >= len(words) || len(words) != i+2 && (len(words) != i+4 || !strings.EqualFold(words[i+2], "versions") && !strings.EqualFold(words[i+2], "labels")) {
			return Asset{}, badAddress(ref, "is not the id of a "+kinds[c].noun)
		}
		if err := sameWorkspace(w, words[:i], ref); err != nil {
			return Asset{}, err
		}
		// SDK v2 makes such an id of Input(path="azureml:NAME@latest"), scheme and all.
		if name = trimScheme(words[i+1]); len(words) == i+4 {
			version = words[i+3]
			if strings.EqualFold(words[i+2], "labels") {
				name += "@" + version
				version = ""
			}
		}
	}
	if n, label, ok := strings.Cut(name, "@"); ok {
		if !strings.EqualFold(label, "latest") {
			return Asset{}, badAddress(ref, "has a label that is not known; @latest is")
		}
		name = n
	} else if n, v, ok := strings.Cut(name, ":"); ok {
		name, version = n, v
	}
	if version == "" {
		return s.Newest(ctx, w, c, name)
	}
	return s.Get(ctx, w, c, name, version)
}

// inRun is the place of a run's files: outputs/artifacts is the folder that
// every run has.
func inRun(w Place, run string, words []string, uri string) (Location, error) {
	if len(words) == 0 || !strings.EqualFold(words[0], "artifacts") {
		return Location{}, fault.Coded(fault.Unsupported, "NotImplemented", uri, "Addresses of a job's named outputs (%.300q) are not part of Ebb yet; those of its artifacts are.", uri)
	}
	words = words[1:]
	if len(words) > 0 && strings.EqualFold(words[0], "paths") {
		words = words[1:]
	}
	return within(w.ArtifactContainer(), "ExperimentRun/dcid."+run+"/"+strings.Join(words, "/"), w, uri)
}

// within is a place in a container of the workspace's own. The logs of jobs have
// an address of their own; containers that somebody made in the workspace's
// account lie elsewhere in the blob store.
func within(container, at string, w Place, uri string) (Location, error) {
	if !w.Owns(container) {
		return Location{}, fault.Coded(fault.Unsupported, "NotImplemented", uri, "The container %.80q is not one that the workspace came with. Jobs and assets read those only, as datastores name them.", container)
	}
	folder := at == "" || strings.HasSuffix(at, "/")
	if clean := path.Clean("/" + at); clean != "/"+strings.TrimSuffix(at, "/") && at != "" {
		return Location{}, badAddress(uri, "has empty or relative segments in its path")
	}
	return Location{Account: armid.Account(w.GUID), Container: container, Path: strings.Trim(at, "/"), Folder: folder}, nil
}

// locateURL reads a blob's address, on one of Azure's names or on the server's
// own: there the container alone says the account, and what else is in front of
// it is for clients that build addresses from parts.
func locateURL(w Place, uri string) (Location, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return Location{}, badAddress(uri, "is not an address")
	}
	words := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if !strings.EqualFold(u.Scheme, "https") { // wasbs://container@account.host/path
		if u.User == nil {
			return Location{}, badAddress(uri, "names no container")
		}
		words = append([]string{u.User.Username()}, words...)
		u.User = nil
	}
	mine := armid.Account(w.GUID)
	for i, word := range words {
		if account, ok := armid.AccountOfContainer(word); ok && account == mine {
			return within(word, strings.Join(words[i+1:], "/"), w, uri)
		}
	}
	name := u.Host
	if u.User != nil {
		name = u.User.Username()
	}
	account, _, _ := strings.Cut(strings.ToLower(name), ".")
	if account != mine && strings.EqualFold(u.Scheme, "https") {
		return Location{Public: uri}, nil
	}
	if account != mine || words[0] == "" {
		return Location{}, foreign(name, uri)
	}
	return within(words[0], strings.Join(words[1:], "/"), w, uri)
}

func foreign(host, uri string) error {
	return fault.Coded(fault.Unsupported, "NotImplemented", uri, "The address %.300q lies at %.100q, not in this workspace's storage account. What works are datastore paths (azureml://datastores/workspaceblobstore/paths/…), and public https addresses of single files as inputs of jobs.", uri, host)
}
