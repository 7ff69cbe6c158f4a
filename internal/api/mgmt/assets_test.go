package mgmt_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/mgmt"
	"github.com/ebb-compute/ebb/internal/app/accounts"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

type dict = map[string]any

const jobsGUID = "22222222-2222-2222-2222-222222222222"

// noFiles is a blob store that has what it is given, all of one byte.
type noFiles struct {
	assets.Files
	keys []string
}

func (f *noFiles) List(_ context.Context, prefix string) (out []assets.Blob, err error) {
	for _, k := range f.keys {
		if strings.HasPrefix(k, prefix) {
			out = append(out, assets.Blob{Key: k, Size: 1})
		}
	}
	return out, nil
}

func (f *noFiles) Put(context.Context, string, io.Reader, string) (int64, error) { return 0, nil }

type assetWorld struct {
	*jobWorld
	files *noFiles
	keys  *token.Keys
}

func newAssetWorld(t *testing.T) *assetWorld {
	t.Helper()
	keys, err := token.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &assetWorld{newJobWorld(t), &noFiles{}, keys}
	w.assets.Files, w.assets.Secrets = w.files, keys
	mgmt.RegisterAssets(w.router, mgmt.AssetServices{
		Jobs: &jobs.Service{Store: w.store, Now: time.Now, NewID: uuid.NewString}, Assets: w.assets, Accounts: keyring{keys}, Keys: keys, Now: time.Now,
	})
	return w
}

// keyring has the keys of every account.
type keyring struct{ keys *token.Keys }

func (k keyring) Find(_ context.Context, name string) (accounts.Account, error) {
	return accounts.Account{Name: name, Scope: "/subscriptions/s/resourcegroups/g/providers/microsoft.storage/storageaccounts/" + name}, nil
}

func (k keyring) Keys(_ context.Context, _ access.Principal, name string) ([]accounts.Key, error) {
	return []accounts.Key{{Name: "key1", Value: base64.StdEncoding.EncodeToString(k.keys.SharedKey(name, 1, 0))}}, nil
}

func (k keyring) Regenerate(ctx context.Context, p access.Principal, name, key string) ([]accounts.Key, error) {
	if key != "key1" {
		return nil, fault.New(fault.Invalid, "keyName", "no key")
	}
	return k.Keys(ctx, p, name)
}

func TestKeysOfStorageAccounts(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	mgmt.RegisterAccounts(w.router, keyring{w.keys})
	want := base64.StdEncoding.EncodeToString(w.keys.SharedKey("acct", 1, 0))
	at := "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/Acct"
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"both keys": {at + "/listKeys?$expand=kerb", "", 200}, "in any case": {strings.ToLower(at) + "/listkeys", "{}", 200},
		"made anew": {at + "/regenerateKey", `{"keyName":"key1"}`, 200}, "none of its keys": {at + "/regenerateKey", `{"keyName":"key3"}`, 400}, "no body": {at + "/regenerateKey", "", 400},
		"another group": {strings.Replace(at, "/g/", "/h/", 1) + "/listKeys", "", 404},
	} {
		r := httptest.NewRequest(http.MethodPost, "https://127.0.0.1:8443"+c.path, strings.NewReader(c.body))
		r.Header.Set("Authorization", "Bearer x")
		got := httptest.NewRecorder()
		w.router.ServeHTTP(got, r)
		if got.Code != c.status || c.status == 200 && !strings.Contains(got.Body.String(), want) {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
}

func names(list dict) (out []string) {
	for _, v := range list["value"].([]any) {
		out = append(out, v.(dict)["name"].(string))
	}
	return out
}

func TestCodeIsUploadedAndRun(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	open := w.call(200, "POST", "/codes/c1/versions/1/startPendingUpload", `{"pendingUploadType":"TemporaryBlobReference"}`)
	blob, _ := at(open, "blobReferenceForConsumption.blobUri").(string)
	sas, _ := at(open, "blobReferenceForConsumption.credential.sasUri").(string)
	u, err := url.Parse(sas)
	if err != nil || !strings.HasPrefix(sas, blob+"?") || u.Host != "127.0.0.1:8443" {
		t.Fatalf("addresses: %s and %s, %v", blob, sas, err)
	}
	box := strings.TrimPrefix(u.Path, "/")
	for _, need := range []string{"r", "c", "w"} {
		if err := w.keys.VerifySAS(armid.Account(jobsGUID), box, "src/a.py", need, u.Query(), time.Now()); err != nil {
			t.Errorf("the signature does not allow %s: %v", need, err)
		}
	}
	body := `{"properties":{"codeUri":"` + blob + `/src","isAnonymous":true,"properties":{"hash_sha256":"abc","hash_version":202208}}}`
	w.call(400, "PUT", "/codes/c1/versions/1", body)
	w.files.keys = []string{box + "/src/a.py", box + "/src/lib/b.py"}
	made := w.call(201, "PUT", "/codes/c1/versions/1", body)
	if made["id"] != jobsWS+"/codes/c1/versions/1" || at(made, "properties.properties.hash_version") != "202208" || at(made, "properties.snapshot") != nil {
		t.Errorf("made: %v", made)
	}
	w.call(200, "PUT", "/codes/c1/versions/1", body)
	found := w.call(200, "GET", "/codes/another/versions?hash=abc&hashVersion=202208&api-version=2023-04-01", "")
	if len(found["value"].([]any)) != 1 || at(found["value"].([]any)[0].(dict), "id") != made["id"] {
		t.Errorf("found: %v", found)
	}
	job := strings.Replace(commandJob, `"tags"`, `"codeId":"`+made["id"].(string)+`","tags"`, 1)
	for _, want := range []int{201, 200} {
		if got := w.call(want, "PUT", "/jobs/coded", job); at(got, "properties.codeId") != made["id"] {
			t.Errorf("codeId: %v", at(got, "properties.codeId"))
		}
	}
	tasks := w.store.Rows(row.Task)
	if len(tasks) != 1 || !strings.Contains(string(tasks[0].(row.Document).Body), "/snapshots/") {
		t.Errorf("the node is told of: %v", tasks)
	}
	missing := w.call(400, "PUT", "/jobs/lost", strings.Replace(job, "/codes/c1", "/codes/c2", 1))
	if at(missing, "error.code") != "CodeNotFound" {
		t.Errorf("a job of code that is not there: %v", missing)
	}
}

// TestSnapshotsAreCode: jobs show a snapshot that SDK v1 made by an id that SDK v2
// can read, that a GET answers, and that another job can name.
func TestSnapshotsAreCode(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	const guid = "33333333-3333-4333-8333-333333333333"
	place := assets.Place{ID: jobsWS, GUID: jobsGUID}
	if err := w.assets.CreateSnapshot(t.Context(), access.Principal{}, place, assets.NewSnapshot{GUID: guid, Root: assets.Node{Type: "Directory"}}); err != nil {
		t.Fatal(err)
	}
	id := jobsWS + "/codes/" + guid + "/versions/1"
	for name, code := range map[string]string{"by-guid": guid, "by-snapshot": jobsWS + "/snapshots/" + guid, "by-code": id} {
		body := strings.Replace(commandJob, `"tags"`, `"codeId":"`+code+`","tags"`, 1)
		w.call(201, "PUT", "/jobs/"+name, body)
		w.call(200, "PUT", "/jobs/"+name, body)
		if got := w.call(200, "GET", "/jobs/"+name, ""); at(got, "properties.codeId") != id {
			t.Errorf("%s: codeId is %v", name, at(got, "properties.codeId"))
		}
	}
	if got := w.call(200, "GET", "/codes/"+guid+"/versions/1", ""); got["id"] != id || at(got, "properties.isAnonymous") != true {
		t.Errorf("the code: %v", got)
	}
	w.call(404, "GET", "/codes/"+guid+"/versions/2", "")
	w.call(404, "GET", "/codes/"+strings.Replace(guid, "3", "4", 1)+"/versions/1", "")
}

func TestAssetsByTheirAddresses(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	w.call(404, "GET", "/data/d", "")
	model := func(more string) string {
		return `{"properties":{"modelUri":"azureml://datastores/workspaceblobstore/paths/m","modelType":"custom_model"` + more + `}}`
	}
	for _, v := range []string{"1", "2", "3"} {
		w.call(201, "PUT", "/models/m/versions/"+v, model(`,"tags":{"v":"`+v+`"}`))
	}
	got := w.call(200, "GET", "/models/m/versions/2?api-version=2023-08-01-preview", "")
	if flavors, ok := at(got, "properties.flavors").(dict); !ok || len(flavors) != 0 || at(got, "properties.provisioningState") != "Succeeded" || at(got, "systemData.createdBy") != "me" {
		t.Errorf("a version: %v", got)
	}
	top := w.call(200, "GET", "/models/M", "")
	if at(top, "properties.latestVersion") != "3" || at(top, "properties.nextVersion") != "4" || top["name"] != "m" {
		t.Errorf("the name: %v", top)
	}
	w.call(200, "PUT", "/models/m/versions/3", model(`,"isArchived":true`))
	for query, want := range map[string]string{
		"": "2 1", "?listViewType=All": "3 2 1", "?$orderBy=createdtime%20desc&$top=1": "2", "?$top=1&$orderBy=createdtime asc": "1", "?tags=v=1": "1", "?$TOP=2&listViewType=All": "3 2",
	} {
		list := w.call(200, "GET", "/models/m/versions"+strings.ReplaceAll(query, " ", "%20"), "")
		if s := strings.Join(names(list), " "); s != want || list["nextLink"] != nil {
			t.Errorf("%s: %q, next %v; want %q", query, s, list["nextLink"], want)
		}
	}
	refused := w.call(409, "PUT", "/models/m/versions/1", strings.Replace(model(""), "paths/m", "paths/n", 1))
	if at(refused, "error.code") != "PropertyChangeNotAllowed" || at(refused, "error.target") != "properties.modelUri" {
		t.Errorf("another place: %v", refused)
	}
	w.call(200, "PUT", "/models/m", `{"properties":{"description":"all of them","isArchived":true}}`)
	if list := w.call(200, "GET", "/models", ""); len(list["value"].([]any)) != 0 {
		t.Errorf("an archived name is listed: %v", list)
	}
	w.call(200, "DELETE", "/models/m/versions/1", "")
	w.call(204, "DELETE", "/models/m/versions/1", "")
	w.call(404, "GET", "/models/m/versions/1", "")
	for path, body := range map[string]string{
		"/models/x/versions/1": `{}`, "/models/y/versions/1": `{"properties":[]}`, "/components/c/versions/1": `{"properties":{}}`, "/datastores/d": `{"properties":{"datastoreType":1}}`,
	} {
		w.call(400, "PUT", path, body)
	}
	for _, q := range []string{"$top=0", "$top=x", "listViewType=some", "$orderBy=name"} {
		w.call(400, "GET", "/models/m/versions?"+q, "")
	}
	w.call(400, "POST", "/models/m/versions/2/publish", "{}")
}

func TestListsOfAssetsHavePages(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	var want []string
	for i := range 130 {
		name := "d" + strings.Repeat("x", i)
		want = append(want, name)
		w.call(201, "PUT", "/data/"+name+"/versions/1", `{"properties":{"dataUri":"x","dataType":"uri_file"}}`)
	}
	var got []string
	for path := "/data"; path != ""; {
		list := w.call(200, "GET", path, "")
		got = append(got, names(list)...)
		next, _ := list["nextLink"].(string)
		_, path, _ = strings.Cut(next, jobsWS)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d names over all pages, want %d", len(got), len(want))
	}
}

// TestRunsGetNoMoreOfDatastores: a run may write to the default one, and read the
// files of other runs.
func TestRunsGetNoMoreOfDatastores(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	w.call(201, "PUT", "/datastores/mine", `{"properties":{"datastoreType":"AzureBlob","accountName":"a","containerName":"c","credentials":{"credentialsType":"AccountKey","secrets":{"secretsType":"AccountKey","key":"aHVzaA=="}}}}`)
	run := access.Principal{ID: "run", Kind: access.RunIdentity, Scope: strings.ToLower(jobsWS), Run: "run"}
	for name, want := range map[string]string{"workspaceblobstore": "racwdl", "workspaceartifactstore": "rl", "workspacefilestore": "", "mine": ""} {
		got, err := w.router.Call(t.Context(), run, arm.Inside{Method: "POST", Host: "127.0.0.1:8443", Path: jobsWS + "/datastores/" + name + "/listSecrets", Body: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ SASToken string }
		_ = json.Unmarshal(got.Body, &doc) // an error has none
		q, err := url.ParseQuery(doc.SASToken)
		if err != nil || q.Get("sp") != want || want == "" && got.Status != 403 || strings.Contains(string(got.Body), "aHVzaA") {
			t.Errorf("of %s a run gets %d %s, want the permissions %q", name, got.Status, got.Body, want)
		}
	}
}

func TestDatastoresByARM(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	list := w.call(200, "GET", "/datastores?isDefault=true&count=30&orderByAsc=false", "")
	if got := names(list); len(got) != 1 || got[0] != assets.DefaultDatastore {
		t.Errorf("the default: %v", got)
	}
	one := w.call(200, "GET", "/datastores/workspaceblobstore", "")
	account := armid.Account(jobsGUID)
	if at(one, "properties.accountName") != account || at(one, "properties.credentials.secrets") != nil || at(one, "properties.endpoint") != "x@127.0.0.1:8443" {
		t.Errorf("the default: %v", one)
	}
	box, _ := at(one, "properties.containerName").(string)
	sas := w.call(200, "POST", "/datastores/workspaceblobstore/listSecrets", `{"expirableSecret":true,"expireAfterHours":1}`)
	q, err := url.ParseQuery(sas["sasToken"].(string))
	if err != nil || sas["secretsType"] != "Sas" || w.keys.VerifySAS(account, box, "x", "w", q, time.Now().Add(59*time.Minute)) != nil || w.keys.VerifySAS(account, box, "x", "w", q, time.Now().Add(61*time.Minute)) == nil {
		t.Errorf("a signature of one hour: %v", sas)
	}
	key := w.call(200, "POST", "/datastores/workspaceblobstore/listSecrets", "")
	if key["key"] != base64.StdEncoding.EncodeToString(w.keys.SharedKey(account, 1, 0)) {
		t.Errorf("a key: %v", key["secretsType"])
	}
	body := `{"properties":{"datastoreType":"AzureDataLakeGen2","accountName":"a","filesystem":"f","credentials":{"credentialsType":"ServicePrincipal","tenantId":"t","clientId":"c","secrets":{"secretsType":"ServicePrincipal","clientSecret":"hush"}}}}`
	made := w.call(201, "PUT", "/datastores/lake?skipValidation=true", body)
	if at(made, "properties.credentials.secrets") != nil || at(made, "properties.credentials.clientId") != "c" {
		t.Errorf("made: %v", made)
	}
	if got := w.call(200, "POST", "/datastores/lake/listSecrets", ""); got["clientSecret"] != "hush" {
		t.Errorf("secrets: %v", got)
	}
	w.call(200, "PUT", "/datastores/lake", strings.Replace(body, `"filesystem"`, `"description":"d","filesystem"`, 1))
	w.call(200, "DELETE", "/datastores/lake", "")
	w.call(204, "DELETE", "/datastores/lake", "")
	w.call(404, "POST", "/datastores/lake/listSecrets", "")
	w.call(409, "DELETE", "/datastores/workspaceblobstore", "")
}

func TestComponentSpecIsNamed(t *testing.T) {
	t.Parallel()
	w := newAssetWorld(t)
	spec := func(v dict) any { return v["properties"].(dict)["componentSpec"] }
	body := `{"properties":{"componentSpec":{"command":"echo"}}}`
	want := fmt.Sprint(dict{"command": "echo", "name": "C", "version": "7"})
	for what, got := range map[string]any{
		"made":     spec(w.call(201, "PUT", "/components/C/versions/7", body)),
		"the same": spec(w.call(200, "PUT", "/components/c/versions/7", body)),
		"read":     spec(w.call(200, "GET", "/components/c/versions/7", "")),
		"listed":   spec(w.call(200, "GET", "/components/c/versions", "")["value"].([]any)[0].(dict)),
	} {
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
}
