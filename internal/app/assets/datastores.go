package assets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Sealer keeps secrets unreadable at rest. *token.Keys is one.
type Sealer interface {
	Seal(about string, secret []byte) ([]byte, error)
	Unseal(about string, sealed []byte) ([]byte, error)
}

// Datastore is a named place for data, in ARM's words. Its secrets are not in
// Properties.
type Datastore struct {
	Name       string         `json:"name"`
	Properties map[string]any `json:"properties"`
	Sealed     []byte         `json:"sealed,omitempty"` // the secrets as JSON, sealed
	Creator    Creator        `json:"creator"`
	Modifier   Creator        `json:"modifier"`
	BuiltIn    bool           `json:"-"` // every workspace has it; its secrets are made when asked for
	Created    time.Time      `json:"-"`
	Modified   time.Time      `json:"-"`
}

// Blob returns the account and container of a blob store that is built in.
func (d *Datastore) Blob() (account, container string) {
	account, _ = d.Properties["accountName"].(string)
	container, _ = d.Properties["containerName"].(string)
	return account, container
}

// DefaultDatastore is the workspace's default.
const DefaultDatastore = "workspaceblobstore"

// BuiltInDatastores are those that every workspace has, as Azure names them. The
// two file shares are records: Ebb serves blobs.
func BuiltInDatastores(w Place) []Datastore {
	account := armid.Account(w.GUID)
	share := func(prefix string) map[string]any {
		return map[string]any{"datastoreType": "AzureFile", "fileShareName": prefix + strings.ToLower(w.GUID)}
	}
	container := func(name string) map[string]any {
		return map[string]any{"datastoreType": "AzureBlob", "containerName": name}
	}
	var out []Datastore
	for _, d := range []struct {
		name  string
		props map[string]any
	}{
		{"workspaceartifactstore", container(w.ArtifactContainer())},
		{DefaultDatastore, container(w.DatastoreContainer())},
		{"workspacefilestore", share("azureml-filestore-")},
		{"workspaceworkingdirectory", share("code-")},
	} {
		maps.Copy(d.props, map[string]any{"accountName": account, "protocol": "https", "serviceDataAccessAuthIdentity": "None", "isDefault": d.name == DefaultDatastore,
			"credentials": map[string]any{"credentialsType": "AccountKey"}, "tags": map[string]any{}, "properties": map[string]any{}})
		out = append(out, Datastore{Name: d.name, Properties: d.props, BuiltIn: true})
	}
	return out
}

func builtIn(w Place, name string) (Datastore, bool) {
	for _, d := range BuiltInDatastores(w) {
		if strings.EqualFold(d.Name, name) {
			return d, true
		}
	}
	return Datastore{}, false
}

// datastoreTypes says what each type needs.
var datastoreTypes = map[string][]string{
	"AzureBlob":         {"accountName", "containerName"},
	"AzureFile":         {"accountName", "fileShareName"},
	"AzureDataLakeGen1": {"storeName"},
	"AzureDataLakeGen2": {"accountName", "filesystem"},
	"OneLake":           {"oneLakeWorkspaceName", "artifact"},
}

// credentialTypes says what each type needs, and the name of its secret.
var credentialTypes = map[string]struct {
	secret string
	needs  []string
}{
	"AccountKey":       {"key", nil},
	"Sas":              {"sasToken", nil},
	"ServicePrincipal": {"clientSecret", []string{"tenantId", "clientId"}},
	"Certificate":      {"certificate", []string{"tenantId", "clientId", "thumbprint"}},
	"None":             {"", nil},
}

// What is kept of a datastore and of its credentials. Nothing else is: a secret
// under a name that nobody knows would be kept in clear, and shown.
var (
	datastoreWords = []string{"datastoreType", "accountName", "containerName", "fileShareName", "filesystem", "storeName", "oneLakeWorkspaceName", "artifact", "endpoint", "protocol",
		"serviceDataAccessAuthIdentity", "subscriptionId", "resourceGroup", "description", "tags", "properties", "isDefault", "credentials"}
	credentialWords = []string{"credentialsType", "authorityUrl", "resourceUrl", "tenantId", "clientId", "thumbprint", "secrets"}
)

// only takes out of m what is not among words, and spells the rest as they do.
func only(m map[string]any, words []string) {
	for k, v := range maps.Clone(m) {
		i := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, k) })
		if i >= 0 && words[i] == k {
			continue
		}
		delete(m, k)
		if i >= 0 && m[words[i]] == nil {
			m[words[i]] = v
		}
	}
}

var datastoreName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_]{0,254}$`)

func datastoresID(w Place) string { return w.key() + "/datastores" }

func datastoreID(w Place, name string) string { return datastoresID(w) + "/" + strings.ToLower(name) }

func (s *Service) readDatastore(ctx context.Context, w Place, name string) (Datastore, row.Record, error) {
	var d Datastore
	rec, err := s.read(ctx, row.Asset, datastoreID(w, name), &d)
	if err != nil {
		return Datastore{}, row.Record{}, err
	}
	doc := rec.Row.(row.Document)
	d.Created, d.Modified = doc.Created, doc.Modified
	return d, rec, nil
}

// Datastore returns one by name, without its secrets.
func (s *Service) Datastore(ctx context.Context, w Place, name string) (Datastore, error) {
	if d, ok := builtIn(w, name); ok {
		return d, nil
	}
	d, _, err := s.readDatastore(ctx, w, name)
	if errors.Is(err, fault.NotFound) {
		err = fault.Coded(fault.NotFound, "NotFound", name, "The datastore %.80q was not found in this workspace. It has: %s.", name, s.datastoreNames(ctx, w))
	}
	return d, err
}

func (s *Service) datastoreNames(ctx context.Context, w Place) string {
	list, err := s.Datastores(ctx, w)
	if err != nil {
		return ""
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	return strings.Join(names, ", ")
}

// Datastores lists them all by name, those that are built in among them.
func (s *Service) Datastores(ctx context.Context, w Place) ([]Datastore, error) {
	out := BuiltInDatastores(w)
	for after := ""; ; {
		page, err := s.Store.List(ctx, row.Query{Kind: row.Asset, Parent: datastoresID(w), After: after})
		if err != nil {
			return nil, fmt.Errorf("list datastores: %w", err)
		}
		for _, r := range page.Records {
			var d Datastore
			if err := decode(r, &d); err != nil {
				return nil, fmt.Errorf("read datastores: %w", err)
			}
			doc := r.Row.(row.Document)
			d.Created, d.Modified = doc.Created, doc.Modified
			out = append(out, d)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b Datastore) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return out, nil
}

// PutDatastore makes a datastore, or replaces what of it may change: what it
// points at stays, credentials, description and tags go. Secrets that are not
// sent again stay.
func (s *Service) PutDatastore(ctx context.Context, p access.Principal, w Place, name string, props map[string]any) (d Datastore, created bool, err error) {
	if err := mayWriteAssets(p, "datastores"); err != nil {
		return Datastore{}, false, err
	}
	if _, ok := builtIn(w, name); ok {
		return Datastore{}, false, fault.Coded(fault.Conflict, "Conflict", name, "The datastore %q belongs to the workspace and cannot be changed.", name)
	}
	if !datastoreName.MatchString(name) {
		return Datastore{}, false, fault.Coded(fault.Invalid, "InvalidDatastoreName", name, "The datastore name %.80q is not valid: it must have 1 to 255 letters, digits and underscores, and begin with a letter or digit.", name)
	}
	for try := 0; ; try++ {
		d, created, err = s.putDatastore(ctx, p, w, name, maps.Clone(props))
		if !again(err, try) {
			return d, created, err
		}
	}
}

func (s *Service) putDatastore(ctx context.Context, p access.Principal, w Place, name string, props map[string]any) (Datastore, bool, error) {
	old, rec, err := s.readDatastore(ctx, w, name)
	fresh := errors.Is(err, fault.NotFound)
	if err != nil && !fresh {
		return Datastore{}, false, err
	}
	secrets, err := checkDatastore(props)
	if err != nil {
		return Datastore{}, false, err
	}
	d := Datastore{Name: name, Properties: props, Creator: creator(p), Modifier: creator(p)}
	if !fresh {
		d.Name, d.Creator = old.Name, old.Creator
		if err := sameTarget(&old, props); err != nil {
			return Datastore{}, false, err
		}
	}
	typ := credentialType(props)
	switch {
	case secrets != nil:
		text, err := json.Marshal(secrets)
		if err != nil {
			return Datastore{}, false, fmt.Errorf("write the secrets of %s: %w", name, err)
		}
		if d.Sealed, err = s.Secrets.Seal(datastoreID(w, name), text); err != nil {
			return Datastore{}, false, err
		}
	case typ == "None":
	case !fresh && typ == credentialType(old.Properties):
		d.Sealed = old.Sealed
	default:
		return Datastore{}, false, fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.credentials.secrets", "Credentials of the type %s need secrets with %s.", typ, credentialTypes[typ].secret)
	}
	doc, err := s.document(p, row.Asset, datastoreID(w, name), datastoresID(w), strings.ToLower(name), d)
	if err != nil {
		return Datastore{}, false, err
	}
	write, what := row.Create(doc), "create datastore"
	if !fresh {
		doc.Created = old.Created
		write, what = row.Update(doc, rec.Rev), "update datastore"
	}
	if _, err := s.Store.Commit(ctx, write, s.event(p, doc.ID, what)); err != nil {
		return Datastore{}, false, fmt.Errorf("%s %s: %w", what, name, err)
	}
	d.Created, d.Modified = doc.Created, doc.Modified
	return d, fresh, nil
}

func credentialType(props map[string]any) string {
	c, _ := props["credentials"].(map[string]any)
	t, _ := c["credentialsType"].(string)
	return t
}

// checkDatastore checks properties, takes the secrets out of them, and writes
// the words of types as Azure does.
func checkDatastore(props map[string]any) (secrets map[string]any, err error) {
	bad := func(at, format string, args ...any) error {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties."+at, format, args...)
	}
	only(props, datastoreWords)
	typ, ok := wordOf(datastoreTypes, props["datastoreType"])
	if !ok {
		return nil, bad("datastoreType", "The datastore type %.40v is not one of: %s.", props["datastoreType"], strings.Join(slices.Sorted(maps.Keys(datastoreTypes)), ", "))
	}
	props["datastoreType"], props["isDefault"] = typ, false
	for _, at := range datastoreTypes[typ] {
		if at == "artifact" {
			artifact, _ := props[at].(map[string]any)
			if name, _ := artifact["artifactName"].(string); name == "" {
				return nil, bad("artifact.artifactName", "The property artifact.artifactName of a OneLake datastore is missing.")
			}
		} else if v, _ := props[at].(string); v == "" {
			return nil, bad(at, "The property %s of a datastore of the type %s is missing.", at, typ)
		}
	}
	for _, at := range []string{"tags", "properties"} {
		if err := checkStrings(props, at); err != nil {
			return nil, err
		}
	}
	given, _ := props["credentials"].(map[string]any)
	cred := maps.Clone(given)
	if cred == nil {
		cred = map[string]any{"credentialsType": "None"}
	}
	only(cred, credentialWords)
	kind, ok := wordOf(credentialTypes, cred["credentialsType"])
	if !ok {
		return nil, bad("credentials.credentialsType", "The type of credentials %.40v is not one of: %s.", cred["credentialsType"], strings.Join(slices.Sorted(maps.Keys(credentialTypes)), ", "))
	}
	cred["credentialsType"] = kind
	for _, at := range credentialTypes[kind].needs {
		if v, _ := cred[at].(string); v == "" {
			return nil, bad("credentials."+at, "The property %s of credentials of the type %s is missing.", at, kind)
		}
	}
	secrets, err = secretsOf(kind, cred)
	delete(cred, "secrets")
	for k, v := range cred {
		if _, ok := v.(string); !ok && v != nil {
			return nil, bad("credentials."+k, "The property %s of credentials must be a string.", k)
		}
	}
	props["credentials"] = cred
	return secrets, err
}

// secretsOf returns the secrets of credentials; nil: none were sent, as when a
// client puts back what it read.
func secretsOf(kind string, cred map[string]any) (map[string]any, error) {
	given, _ := cred["secrets"].(map[string]any)
	name := credentialTypes[kind].secret
	value, _ := given[name].(string)
	other := maps.Clone(given)
	maps.DeleteFunc(other, func(k string, v any) bool { return k == "secretsType" || v == nil })
	if kind == "None" || len(other) == 0 {
		return nil, nil
	}
	if t, _ := given["secretsType"].(string); t != "" && !strings.EqualFold(t, kind) || value == "" {
		return nil, fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.credentials.secrets", "The secrets of credentials of the type %s must have secretsType %s and %s.", kind, kind, name)
	}
	return map[string]any{"secretsType": kind, name: value}, nil
}

// sameTarget refuses a change of what a datastore points at.
func sameTarget(old *Datastore, props map[string]any) error {
	typ, _ := old.Properties["datastoreType"].(string)
	for _, at := range append([]string{"datastoreType"}, datastoreTypes[typ]...) {
		if !sameJSON(old.Properties[at], props[at]) {
			return fault.Coded(fault.Conflict, "PropertyChangeNotAllowed", "properties."+at, "The property %s of the datastore %q cannot be changed. Make another datastore, or delete this one first.", at, old.Name)
		}
	}
	return nil
}

// wordOf returns the key that v is, in any case.
func wordOf[V any](words map[string]V, v any) (string, bool) {
	text, _ := v.(string)
	for w := range words {
		if strings.EqualFold(w, text) {
			return w, true
		}
	}
	return "", false
}

// DeleteDatastore removes a datastore, not what lies in it.
func (s *Service) DeleteDatastore(ctx context.Context, p access.Principal, w Place, name string) (existed bool, err error) {
	if err := mayWriteAssets(p, "datastores"); err != nil {
		return false, err
	}
	if _, ok := builtIn(w, name); ok {
		return false, fault.Coded(fault.Conflict, "Conflict", name, "The datastore %q belongs to the workspace and cannot be deleted.", name)
	}
	if _, _, err := s.readDatastore(ctx, w, name); errors.Is(err, fault.NotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	id := datastoreID(w, name)
	if _, err := s.Store.Commit(ctx, row.Drop(row.Key{Kind: row.Asset, ID: id}), s.event(p, id, "delete datastore")); err != nil {
		return false, fmt.Errorf("delete datastore %s: %w", name, err)
	}
	return true, nil
}

// DatastoreSecrets returns the secrets of a datastore that somebody made.
func (s *Service) DatastoreSecrets(ctx context.Context, p access.Principal, w Place, name string) (map[string]any, error) {
	d, err := s.Datastore(ctx, w, name)
	if err != nil {
		return nil, err
	}
	if len(d.Sealed) == 0 {
		return nil, fault.Coded(fault.Invalid, "NoSecrets", name, "The datastore %q has no secrets: its credentials are of the type None.", d.Name)
	}
	text, err := s.Secrets.Unseal(datastoreID(w, name), d.Sealed)
	if err != nil {
		return nil, err
	}
	var secrets map[string]any
	if err := json.Unmarshal(text, &secrets); err != nil {
		return nil, fmt.Errorf("read the secrets of %s: %w", name, err)
	}
	_, err = s.Store.Commit(ctx, s.event(p, datastoreID(w, name), "list secrets"))
	return secrets, err
}

// inDatastore is a path in a datastore whose bytes are this server's.
func (s *Service) inDatastore(ctx context.Context, w Place, name, at, uri string) (Location, error) {
	d, err := s.Datastore(ctx, w, name)
	if err != nil {
		return Location{}, err
	}
	account, container := d.Blob()
	if typ, _ := d.Properties["datastoreType"].(string); typ != "AzureBlob" {
		return Location{}, fault.Coded(fault.Unsupported, "NotImplemented", uri, "The datastore %q is of the type %s. Reading those is not part of Ebb yet; AzureBlob is.", d.Name, typ)
	}
	if !strings.EqualFold(account, armid.Account(w.GUID)) {
		return Location{}, foreign(account, uri)
	}
	return within(container, at, w, uri)
}
