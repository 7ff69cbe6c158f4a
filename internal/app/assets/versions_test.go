package assets_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

type dict = map[string]any

var account = armid.Account(place.GUID)

// sealer turns bytes around: enough to see that nothing is kept as it came.
type sealer struct{}

func (sealer) Seal(about string, b []byte) ([]byte, error) {
	out := []byte(about + "\n")
	for _, c := range b {
		out = append(out, c^0x55)
	}
	return out, nil
}

func (sealer) Unseal(about string, b []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(b, []byte(about+"\n"))
	if !ok {
		return nil, errors.New("sealed elsewhere")
	}
	var out []byte
	for _, c := range rest {
		out = append(out, c^0x55)
	}
	return out, nil
}

// ticking makes a service whose every look at the clock is a second later.
func ticking(s *assets.Service) *assets.Service {
	now := s.Now()
	s.Now = func() time.Time { now = now.Add(time.Second); return now }
	s.Secrets = sealer{}
	return s
}

func code(uri, hash string) dict {
	return dict{"codeUri": uri, "isAnonymous": true, "properties": dict{"hash_sha256": hash, "hash_version": json.Number("202208")}}
}

func TestCodeIsFoundByItsContent(t *testing.T) {
	t.Parallel()
	s, store, blobs := service()
	ticking(s)
	box := s.NewUpload(place)
	if other := s.NewUpload(place); len(box) > 63 || box == other {
		t.Fatalf("containers %q and %q: one for each upload, of at most 63 characters", box, other)
	}
	for name, text := range map[string]string{"src/train.py": "print()", "src/lib/a b.py": "x", "src/lib": "", "src/empty": "", "srcery/other.py": "not it"} {
		blobs.blobs[box+"/"+name] = []byte(text)
	}
	uri := "https://" + account + ".blob.core.windows.net/" + box + "/src"
	made, created, err := s.PutVersion(t.Context(), me, place, assets.Codes, "one", "1", code(uri, "abc"))
	if err != nil || !created {
		t.Fatalf("PutVersion: %v, created %v", err, created)
	}
	again, created, err := s.PutVersion(t.Context(), me, place, assets.Codes, "one", "1", code(uri, "abc"))
	if err != nil || created || again.Snapshot != made.Snapshot {
		t.Errorf("the same again: %+v, created %v, %v", again, created, err)
	}
	if _, _, err := s.PutVersion(t.Context(), me, place, assets.Codes, "one", "1", code(uri+"/lib", "abc")); err == nil || !strings.Contains(err.Error(), "codeUri") {
		t.Errorf("another place under the same version: %v", err)
	}
	found, _, err := s.VersionsOf(t.Context(), place, assets.Codes, "never heard of", assets.Filter{Hash: "abc", Method: "202208"})
	if err != nil || len(found) != 1 || found[0].Name != "one" || found[0].Version != "1" {
		t.Errorf("by hash: %+v, %v", found, err)
	}
	for _, f := range []assets.Filter{{Hash: "other"}, {Hash: "abc", Method: "1"}} {
		if found, _, err := s.VersionsOf(t.Context(), place, assets.Codes, "one", f); err != nil || len(found) != 0 {
			t.Errorf("%+v: %+v, %v", f, found, err)
		}
	}
	for _, id := range []string{place.ID + "/codes/ONE/versions/1", "azureml:" + place.ID + "/codes/one/versions/1", "azureml:one:1", "one@latest", place.ID + "/snapshots/" + made.Snapshot} {
		if guid, err := s.CodeOf(t.Context(), place, id); err != nil || guid != made.Snapshot {
			t.Errorf("CodeOf(%s) = %s, %v", id, guid, err)
		}
	}
	files, err := s.FilesOf(t.Context(), strings.ToLower(place.ID)+"/snapshots/"+made.Snapshot)
	for _, f := range files {
		if f.Written != "w"+string(blobs.blobs[f.Key]) {
			t.Errorf("what was written at %s is not remembered: %q", f.Path, f.Written)
		}
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Path)
	}
	if got := strings.Join(names, " "); err != nil || got != "empty lib/a b.py train.py" {
		t.Errorf("files: %q, %v", got, err)
	}
	// What retention has taken is to be sent again.
	if _, err := store.Commit(t.Context(), row.Drop(row.Key{Kind: row.Snapshot, ID: strings.ToLower(place.ID) + "/snapshots/" + made.Snapshot})); err != nil {
		t.Fatal(err)
	}
	if found, _, err := s.VersionsOf(t.Context(), place, assets.Codes, "one", assets.Filter{Hash: "abc"}); err != nil || len(found) != 0 {
		t.Errorf("by hash, its files gone: %+v, %v", found, err)
	}
	if _, err := s.CodeOf(t.Context(), place, "one:1"); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "Upload the code again") {
		t.Errorf("a job of it: %v", err)
	}
}

func TestCodeOfOneFile(t *testing.T) {
	t.Parallel()
	s, _, blobs := service()
	box := s.NewUpload(place)
	blobs.blobs[box+"/train.py"] = []byte("print()")
	made, _, err := s.PutVersion(t.Context(), me, place, assets.Codes, "c", "1", code("https://"+account+".blob.core.x@127.0.0.1:8443/"+box+"/train.py", "h"))
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot(t.Context(), place, made.Snapshot)
	if err != nil || len(snap.Files) != 1 || snap.Files[0].Path != "train.py" {
		t.Errorf("%+v, %v", snap.Files, err)
	}
}

func TestPutVersionRefuses(t *testing.T) {
	t.Parallel()
	s, store, blobs := service()
	blobs.blobs[place.SnapshotContainer()+"/up/../x"] = nil
	before := len(store.Rows(row.Asset))
	for name, c := range map[string]struct {
		c             assets.Collection
		name, version string
		props         dict
		says          string
	}{
		"code that nobody sent":              {assets.Codes, "c", "1", code("https://"+account+".blob.core.windows.net/"+place.SnapshotContainer()+"/no", "h"), "no file"},
		"code in another account":            {assets.Codes, "c", "1", code("https://theirs.blob.core.windows.net/c/src", "h"), "theirs"},
		"code without an address":            {assets.Codes, "c", "1", dict{}, "codeUri"},
		"code whose files leave it":          {assets.Codes, "c", "1", code("https://"+account+".blob.core.windows.net/"+place.SnapshotContainer()+"/up", "h"), "file name"},
		"data of no type":                    {assets.Data, "d", "1", dict{"dataUri": "x"}, "dataType"},
		"data of an unknown type":            {assets.Data, "d", "1", dict{"dataUri": "x", "dataType": "table"}, "uri_file"},
		"a name with a slash":                {assets.Data, "a/b", "1", dict{"dataUri": "x", "dataType": "mltable"}, "name"},
		"no version":                         {assets.Data, "a", "", dict{"dataUri": "x", "dataType": "mltable"}, "version"},
		"tags that are a list":               {assets.Models, "m", "1", dict{"modelUri": "x", "tags": []any{"a"}}, "tags"},
		"a tag that is an object":            {assets.Models, "m", "1", dict{"modelUri": "x", "tags": dict{"a": dict{}}}, "tags"},
		"a model without files":              {assets.Models, "m", "1", dict{}, "modelUri"},
		"a stage that is a number":           {assets.Models, "m", "1", dict{"modelUri": "x", "stage": json.Number("1")}, "stage"},
		"a component that is text":           {assets.Components, "c", "1", dict{"componentSpec": "x"}, "componentSpec"},
		"archived with a word":               {assets.Components, "c", "1", dict{"componentSpec": dict{}, "isArchived": "yes"}, "isArchived"},
		"an address that is no address":      {assets.Codes, "c", "1", code("src", "h"), "not found"},
		"an address of another scheme":       {assets.Codes, "c", "1", code("ftp://x/y", "h"), "scheme"},
		"an address of another workspace":    {assets.Codes, "c", "1", code("azureml://subscriptions/0/resourcegroups/ebb/workspaces/other/datastores/workspaceblobstore/paths/x", "h"), "another workspace"},
		"an address in a datastore of files": {assets.Codes, "c", "1", code("azureml://datastores/workspacefilestore/paths/x", "h"), "AzureFile"},
	} {
		_, _, err := s.PutVersion(t.Context(), me, place, c.c, c.name, c.version, c.props)
		if err == nil || fault.KindOf(err) == fault.Internal || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want a fault that says %q", name, err, c.says)
		}
	}
	run := access.Principal{ID: "r", Kind: access.RunIdentity}
	if _, _, err := s.PutVersion(t.Context(), run, place, assets.Models, "m", "1", dict{"modelUri": "x"}); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a run: %v", err)
	}
	if n := len(store.Rows(row.Asset)) - before; n != 0 {
		t.Errorf("%d rows were written for what was refused", n)
	}
}

func TestVersionsOfAName(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	ticking(s)
	for i, v := range []string{"1", "9", "beta", "3"} {
		props := dict{"dataUri": "azureml://datastores/workspaceblobstore/paths/d" + v, "dataType": "URI_FILE", "tags": dict{"n": fmt.Sprint(i), "all": ""}}
		if _, created, err := s.PutVersion(t.Context(), me, place, assets.Data, "Digits", v, props); err != nil || !created {
			t.Fatalf("%s: %v", v, err)
		}
	}
	top, err := s.Get(t.Context(), place, assets.Data, "digits", "")
	if err != nil || top.Latest != "3" || top.Next() != "10" || top.Properties["dataType"] != "uri_file" || top.Name != "Digits" {
		t.Errorf("the name: %+v, %v", top, err)
	}
	if _, _, err := s.PutVersion(t.Context(), me, place, assets.Data, "digits", "11", dict{"dataUri": "x", "dataType": "mltable"}); err == nil || !strings.Contains(err.Error(), "uri_file") {
		t.Errorf("a version of another type: %v", err)
	}
	archive := dict{"isArchived": true, "description": "old", "dataUri": "azureml://datastores/workspaceblobstore/paths/d3", "dataType": "uri_file"}
	if a, created, err := s.PutVersion(t.Context(), me, place, assets.Data, "digits", "3", archive); err != nil || created || a.Name != "Digits" || !a.Modified.After(a.Created) {
		t.Errorf("archive: %+v, %v", a, err)
	}
	for name, c := range map[string]struct {
		f    assets.Filter
		want string
	}{
		"the active ones, newest first": {assets.Filter{}, "beta 9 1"},
		"oldest first":                  {assets.Filter{Order: "createdTime asc"}, "1 9 beta"},
		"the newest":                    {assets.Filter{Order: "createdtime desc", Limit: 1}, "beta"},
		"those put away":                {assets.Filter{View: "ArchivedOnly"}, "3"},
		"all":                           {assets.Filter{View: "all"}, "3 beta 9 1"},
		"by a tag":                      {assets.Filter{Tags: "n=1"}, "9"},
		"by two tags":                   {assets.Filter{Tags: "all,n=0"}, "1"},
		"by a tag that none has":        {assets.Filter{Tags: "none"}, ""},
		"by words":                      {assets.Filter{View: "All", Text: "OLD"}, "3"},
	} {
		var got []string
		for {
			list, next, err := s.VersionsOf(t.Context(), place, assets.Data, "Digits", c.f)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, a := range list {
				got = append(got, a.Version)
			}
			if c.f.After = next; next == "" || c.f.Limit > 0 {
				break
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
	}
	for _, f := range []assets.Filter{{View: "some"}, {Order: "size desc"}} {
		if _, _, err := s.VersionsOf(t.Context(), place, assets.Data, "digits", f); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if _, _, err := s.VersionsOf(t.Context(), place, assets.Data, "nope", assets.Filter{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("versions of nothing: %v", err)
	}
}

func TestDeleteAssets(t *testing.T) {
	t.Parallel()
	s, store, _ := service()
	ticking(s)
	for _, v := range []string{"1", "2"} {
		if _, _, err := s.PutVersion(t.Context(), me, place, assets.Models, "m", v, dict{"modelUri": "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if existed, err := s.Delete(t.Context(), me, place, assets.Models, "m", "2"); err != nil || !existed {
		t.Fatalf("delete: %v, %v", existed, err)
	}
	if top, err := s.Get(t.Context(), place, assets.Models, "m", ""); err != nil || top.Latest != "1" || top.Next() != "3" {
		t.Errorf("after the newest is gone: %+v, %v", top, err)
	}
	if existed, err := s.Delete(t.Context(), me, place, assets.Models, "m", ""); err != nil || !existed {
		t.Fatalf("delete the name: %v, %v", existed, err)
	}
	if existed, err := s.Delete(t.Context(), me, place, assets.Models, "m", ""); err != nil || existed {
		t.Errorf("delete it again: %v, %v", existed, err)
	}
	if n := len(store.Rows(row.Asset)); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

func TestAnonymousNamesAreNotListed(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	spec := dict{"type": "command"}
	for name, anonymous := range map[string]bool{"azureml_anonymous": true, "train": false} {
		if _, _, err := s.PutVersion(t.Context(), me, place, assets.Components, name, "1", dict{"componentSpec": spec, "isAnonymous": anonymous}); err != nil {
			t.Fatal(err)
		}
	}
	list, next, err := s.Names(t.Context(), place, assets.Components, assets.Filter{})
	if err != nil || next != "" || len(list) != 1 || list[0].Name != "train" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestDatastores(t *testing.T) {
	t.Parallel()
	s, store, _ := service()
	ticking(s)
	blob := func(more dict) dict {
		out := dict{"datastoreType": "azureblob", "accountName": "acc", "containerName": "c", "credentials": dict{"credentialsType": "accountKey", "secrets": dict{"secretsType": "AccountKey", "key": "c2VjcmV0LWtleQ=="}}}
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	made, created, err := s.PutDatastore(t.Context(), me, place, "Mine", blob(nil))
	if err != nil || !created {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(made.Properties); bytes.Contains(text, []byte("c2VjcmV0")) || !bytes.Contains(text, []byte(`"AzureBlob"`)) {
		t.Errorf("shown: %s", text)
	}
	for _, r := range store.Rows(row.Asset) {
		if bytes.Contains(r.(row.Document).Body, []byte("c2VjcmV0")) {
			t.Errorf("a secret is kept as it came: %s", r.(row.Document).Body)
		}
	}
	// A secret in a wrong place is not kept, and under a name in another case it is one.
	stray := dict{"datastoreType": "AzureBlob", "accountName": "acc", "containerName": "c", "accountKey": "c2VjcmV0LWtleQ==",
		"Credentials": dict{"credentialsType": "AccountKey", "key": "c2VjcmV0LWtleQ==", "Secrets": dict{"key": "c2VjcmV0LWtleQ=="}}}
	if made, _, err = s.PutDatastore(t.Context(), me, place, "mine", stray); err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(made.Properties); bytes.Contains(text, []byte("c2VjcmV0")) || !bytes.Contains(text, []byte(`"AccountKey"`)) {
		t.Errorf("shown: %s", text)
	}
	for _, r := range store.Rows(row.Asset) {
		if bytes.Contains(r.(row.Document).Body, []byte("c2VjcmV0")) {
			t.Errorf("a stray secret is kept: %s", r.(row.Document).Body)
		}
	}
	// Without secrets the old ones stay.
	if _, created, err := s.PutDatastore(t.Context(), me, place, "mine", blob(dict{"description": "d", "credentials": dict{"credentialsType": "AccountKey"}})); err != nil || created {
		t.Errorf("update: %v, created %v", err, created)
	}
	if secrets, err := s.DatastoreSecrets(t.Context(), me, place, "MINE"); err != nil || secrets["key"] != "c2VjcmV0LWtleQ==" || secrets["secretsType"] != "AccountKey" {
		t.Errorf("secrets: %v, %v", secrets, err)
	}
	for name, c := range map[string]struct {
		store string
		props dict
		says  string
	}{
		"another container":        {"mine", blob(dict{"containerName": "other"}), "containerName"},
		"one that is built in":     {"workspaceBlobStore", blob(nil), "belongs to the workspace"},
		"a dash in the name":       {"a-b", blob(nil), "name"},
		"an unknown type":          {"x", blob(dict{"datastoreType": "Floppy"}), "OneLake"},
		"no container":             {"x", blob(dict{"containerName": nil}), "containerName"},
		"unknown credentials":      {"x", blob(dict{"credentials": dict{"credentialsType": "Handshake"}}), "AccountKey"},
		"a key that is not there":  {"x", blob(dict{"credentials": dict{"credentialsType": "AccountKey"}}), "secrets"},
		"secrets of another type":  {"x", blob(dict{"credentials": dict{"credentialsType": "Sas", "secrets": dict{"secretsType": "AccountKey", "key": "k"}}}), "sasToken"},
		"a principal of no tenant": {"x", blob(dict{"credentials": dict{"credentialsType": "ServicePrincipal", "clientId": "c", "secrets": dict{"clientSecret": "k"}}}), "tenantId"},
		"a lake house of no name":  {"x", dict{"datastoreType": "OneLake", "oneLakeWorkspaceName": "w", "artifact": dict{}}, "artifactName"},
	} {
		if _, _, err := s.PutDatastore(t.Context(), me, place, c.store, c.props); err == nil || fault.KindOf(err) == fault.Internal || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	list, err := s.Datastores(t.Context(), place)
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	if got := strings.Join(names, " "); err != nil || got != "Mine workspaceartifactstore workspaceblobstore workspacefilestore workspaceworkingdirectory" {
		t.Errorf("list: %q, %v", got, err)
	}
	if existed, err := s.DeleteDatastore(t.Context(), me, place, "mine"); err != nil || !existed {
		t.Errorf("delete: %v, %v", existed, err)
	}
	if _, err := s.Datastore(t.Context(), place, "mine"); !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "workspaceblobstore") {
		t.Errorf("get: %v", err)
	}
	if _, err := s.DeleteDatastore(t.Context(), me, place, "workspaceartifactstore"); !errors.Is(err, fault.Conflict) {
		t.Errorf("delete one that is built in: %v", err)
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	ticking(s)
	short := "azureml://datastores/workspaceblobstore/paths/"
	for name, uri := range map[string]string{"d": short + "LocalUpload/h/x.csv", "loop": "azureml:loop:1"} {
		if _, _, err := s.PutVersion(t.Context(), me, place, assets.Data, name, "1", dict{"dataUri": uri, "dataType": "uri_file"}); err != nil {
			t.Fatal(err)
		}
	}
	group, _, _ := strings.Cut(place.ID, "/providers")
	if _, _, err := s.PutVersion(t.Context(), me, place, assets.Models, "m", "1", dict{"modelUri": "azureml:" + group + "/workspaces/main/datastores/workspaceblobstore/paths/m/src"}); err != nil {
		t.Fatal(err)
	}
	box := place.DatastoreContainer()
	for uri, want := range map[string]string{
		short + "a/b.csv": box + "/a/b.csv",
		short + "a/b/":    box + "/a/b/",
		"azureml://datastores/workspaceblobstore/paths/":                                                           box + "//",
		"azureml://datastores/WorkspaceArtifactStore/ExperimentRun/dcid.j":                                         place.ArtifactContainer() + "/ExperimentRun/dcid.j",
		"azureml://subscriptions/0/resourcegroups/EBB/workspaces/main/datastores/workspaceblobstore/paths/x y/%20": box + "/x y/%20",
		"azureml:" + place.ID + "/datastores/workspaceblobstore/paths/x":                                           box + "/x",
		place.ID + "/data/d/versions/1":                                                                            box + "/LocalUpload/h/x.csv",
		"azureml://locations/westus2/workspaces/" + place.GUID + "/data/d/versions/1":                              box + "/LocalUpload/h/x.csv",
		"azureml:d:1":      box + "/LocalUpload/h/x.csv",
		"azureml:d@latest": box + "/LocalUpload/h/x.csv",
		"azureml:" + place.ID + "/models/m/versions/1": box + "/m/src",
		"azureml:m:1": box + "/m/src",
		"azureml://jobs/j1/outputs/artifacts/paths/outputs/model.pkl":         place.ArtifactContainer() + "/ExperimentRun/dcid.j1/outputs/model.pkl",
		"https://" + account + ".blob.core.windows.net/" + box + "/x":         box + "/x",
		"https://127.0.0.1:8443/" + account + "/" + box + "/x/":               box + "/x/",
		"https://" + account + ".blob.core.x@localhost:1/" + box + "/x?sig=1": box + "/x",
		"wasbs://" + box + "@" + account + ".blob.core.windows.net/x":         box + "/x",
	} {
		got, err := s.Locate(t.Context(), place, uri)
		text := got.Key()
		if got.Folder {
			text += "/"
		}
		if err != nil || text != want || got.Account != account {
			t.Errorf("Locate(%s) = %q of %s, %v; want %q", uri, text, got.Account, err, want)
		}
	}
	// What a job reads may also lie where anybody may read it; nothing else may.
	if at, err := s.Source(t.Context(), place, "https://theirs.blob.core.windows.net/c/x.csv?sig=1"); err != nil || at != (assets.Location{Public: "https://theirs.blob.core.windows.net/c/x.csv?sig=1"}) {
		t.Errorf("Source of a public address: %+v, %v", at, err)
	}
	for uri, says := range map[string]string{
		"azureml://datastores/nope/paths/x": "nope",
		short + "a/../../b":                 "relative",
		"azureml:loop:1":                    "without end",
		"azureml:nothing:1":                 "not found",
		"azureml:d@newest":                  "latest",
		"azureml:d:2":                       "Version \"2\"",
		"azureml://registries/azureml/models/m/versions/1":                                               "Registries",
		"azureml://locations/westus2/workspaces/other/data/d/versions/1":                                 "another workspace",
		"azureml://subscriptions/0/resourcegroups/ebb/workspaces/OTHER/jobs/j/outputs/artifacts/paths/x": `"OTHER"`,
		"azureml://jobs/j/outputs/model":                                                                 "named outputs",
		"https://" + account + ".blob.core.windows.net/mine/x":                                           "came with",
		"https://" + account + ".blob.core.windows.net/logs-" + place.GUID + "/x":                        "came with",
		"https://theirs.blob.core.windows.net/c/x":                                                       "theirs",
		"https://":                           "not an address",
		"s3://b/x":                           "scheme",
		"a/b/c":                              "neither",
		place.ID + "/data/d/versions/1/more": "not the id",
	} {
		if _, err := s.Locate(t.Context(), place, uri); err == nil || fault.KindOf(err) == fault.Internal || !strings.Contains(err.Error(), says) {
			t.Errorf("Locate(%s): %v, want %q", uri, err, says)
		}
	}
}

// A refusal says what there is, the nearest first, and what works in place of what
// is not built.
func TestWhatIsNotThereSaysWhatIs(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	ticking(s)
	if _, err := s.Environment(t.Context(), place, "trian", ""); err == nil || !strings.Contains(err.Error(), "has no environments") {
		t.Errorf("of none: %v", err)
	}
	for _, name := range []string{"base", "train"} {
		for _, version := range []string{"1", "3"} {
			if _, _, err := s.PutVersion(t.Context(), me, place, assets.Environments, name, version, dict{"image": "python"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, c := range map[string]struct {
		ref  string
		want string
	}{
		"a slip in a name":                {"azureml:trian@latest", `The environment "trian" was not found in this workspace. Its environments, the nearest first: train, base.`},
		"a slip in a name with a version": {"azureml:trian:1", "nearest first: train, base."},
		"a version that is none":          {"azureml:train:2", `Version "2" of the environment "train" was not found in this workspace. It has: 3, 1.`},
		"a curated environment":           {"azureml:AzureML-sklearn-1.0@latest", "is not in this server's table"},
		"one of a registry":               {"azureml://registries/mine/environments/sklearn-1.5/versions/3", "pip or conda requirements"},
		"another asset of a registry":     {"azureml://registries/azureml/data/d/versions/3", "register the asset in the workspace"},
	} {
		kind := assets.Environments
		if strings.Contains(c.ref, "/data/") {
			kind = assets.Data
		}
		_, err := s.Find(t.Context(), place, kind, c.ref)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// SDK v2 sends a component that it has read back with its id, who made it and where
// it came from in the definition.
func TestAComponentThatComesBack(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	ticking(s)
	spec := func(more dict) dict {
		out := dict{"command": "echo", "description": "one", "_source": "YAML.COMPONENT"}
		maps.Copy(out, more)
		return dict{"componentSpec": out, "description": out["description"]}
	}
	put := func(props dict) (assets.Asset, error) {
		a, _, err := s.PutVersion(t.Context(), me, place, assets.Components, "c", "1", props)
		return a, err
	}
	first, err := put(spec(nil))
	if err != nil {
		t.Fatal(err)
	}
	back := dict{"id": "azureml:/x", "creation_context": dict{"created_by": "me"}, "_source": "REMOTE.WORKSPACE.COMPONENT", "name": "c", "version": "1"}
	if got, err := put(spec(back)); err != nil || !reflect.DeepEqual(got.Properties, first.Properties) {
		t.Errorf("as it was read: %v, %v; want %v", got.Properties, err, first.Properties)
	}
	back["description"] = "two"
	got, err := put(spec(back))
	inner, _ := got.Properties["componentSpec"].(dict)
	if err != nil || got.Properties["description"] != "two" || inner["description"] != "two" || inner["id"] != nil || inner["_source"] != "YAML.COMPONENT" {
		t.Errorf("with other words: %v, %v", got.Properties, err)
	}
	back["command"] = "rm"
	if _, err := put(spec(back)); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "componentSpec") {
		t.Errorf("with another command: %v", err)
	}
}
