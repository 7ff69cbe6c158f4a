package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/cli"
)

const trainer = "/subscriptions/sub/resourcegroups/ebb/providers/Microsoft.ManagedIdentity/userAssignedIdentities/trainer"

// The lines of Microsoft's page, and every flag that the command has.
func TestComputeTargetCreate(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(key, []byte("ssh-rsa AAAA me\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ line, want string }{
		"a cluster of fixed size": {"-n c1 --min-nodes 1 --max-nodes 1 -s STANDARD_D3_V2 --location westus2",
			`{"location":"westus2","properties":{"computeType":"AmlCompute","computeLocation":"westus2","properties":{"vmSize":"STANDARD_D3_V2","vmPriority":"Dedicated","remoteLoginPortPublicAccess":"NotSpecified",
			"scaleSettings":{"minNodeCount":1,"maxNodeCount":1,"nodeIdleTimeBeforeScaleDown":"PT1800S"}}}}`},
		"low priority, in the workspace's region": {"--name c1 --vm-size Standard_NC6 --max-nodes 5 --vm-priority lowpriority",
			`{"location":"westeurope","properties":{"computeType":"AmlCompute","computeLocation":"westeurope","properties":{"vmSize":"Standard_NC6","vmPriority":"LowPriority","remoteLoginPortPublicAccess":"NotSpecified",
			"scaleSettings":{"minNodeCount":0,"maxNodeCount":5,"nodeIdleTimeBeforeScaleDown":"PT1800S"}}}}`},
		"its own identity": {"--name c1 --vm-size S --max-nodes 5 --assign-identity [system]",
			`{"location":"westeurope","identity":{"type":"SystemAssigned"},"properties":{"computeType":"AmlCompute","computeLocation":"westeurope","properties":{"vmSize":"S","vmPriority":"Dedicated","remoteLoginPortPublicAccess":"NotSpecified",
			"scaleSettings":{"minNodeCount":0,"maxNodeCount":5,"nodeIdleTimeBeforeScaleDown":"PT1800S"}}}}`},
		"every flag": {"-n c1 -s S --max-nodes 2 --idle-seconds-before-scaledown 60 --description d --tags a=b c=d --vnet-name vn --subnet-name sn --vnet-resourcegroup-name net" +
			" -u me -k " + key + " -p Secret1! --remote-login-port-public-access enabled --assign-identity " + trainer + " " + trainer + "2 -w main -g ebb --subscription-id sub -v",
			`{"location":"westeurope","tags":{"a":"b","c":"d"},"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + trainer + `":{},"` + trainer + `2":{}}},
			"properties":{"computeType":"AmlCompute","computeLocation":"westeurope","description":"d","properties":{"vmSize":"S","vmPriority":"Dedicated","remoteLoginPortPublicAccess":"Enabled",
			"subnet":{"id":"/subscriptions/sub/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/vn/subnets/sn"},
			"userAccountCredentials":{"adminUserName":"me","adminUserSshPublicKey":"ssh-rsa AAAA me","adminUserPassword":"Secret1!"},
			"scaleSettings":{"minNodeCount":0,"maxNodeCount":2,"nodeIdleTimeBeforeScaleDown":"PT60S"}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			r := s.run(t, append([]string{"ml", "computetarget", "create", "amlcompute"}, strings.Fields(c.line)...)...)
			if r.code != 0 {
				t.Fatal(r.err)
			}
			var want, shown map[string]any
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if got := s.body(t, "PUT "+ws+"/computes/c1"); !reflect.DeepEqual(got, want) {
				t.Errorf("sent %v\nwant %v", got, want)
			}
			if err := json.Unmarshal([]byte(r.out), &shown); err != nil || shown["properties"].(map[string]any)["status"] == nil || strings.Contains(r.out, "Secret1!") {
				t.Errorf("shown: %v %s", err, r.out)
			}
		})
	}
}

// What is said, and with which exit code, in v1's grammar.
func TestComputeTarget(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		line string
		code int
		says string // on either stream
	}{
		"a list is JSON":                     {"list", 0, `"vmSize": "STANDARD_DS3_V2"`},
		"or a table":                         {"list -o table", 0, "cpu-cluster  AmlCompute  westeurope  STANDARD_DS3_V2  Succeeded"},
		"of one, as az draws it":             {"show -n cpu-cluster -o table", 0, "Location    Name         ResourceGroup\n----------  -----------  -------------\nwesteurope  cpu-cluster  ebb\n"},
		"of what a query makes":              {"show -n cpu-cluster -o table --query {size:properties.properties.vmSize,fine:!false}", 0, "Size             Fine\n---------------  ----\nSTANDARD_DS3_V2  True\n"},
		"show is as SDK v1 writes it":        {"show -n cpu-cluster --query properties.status.currentNodeCount -o tsv", 0, "1\n"},
		"what is missing is said":            {"show -n nope", 3, "no cluster named nope; there are: cpu-cluster"},
		"delete asks nothing":                {"delete -n cpu-cluster", 0, "Deleting cluster cpu-cluster"},
		"create needs a size":                {"create amlcompute -n c --max-nodes 1", 2, "ERROR: the following arguments are required: --vm-size/-s\n"},
		"and most nodes":                     {"create amlcompute -n c -s S", 2, "--max-nodes"},
		"a priority there is not":            {"create amlcompute -n c -s S --max-nodes 1 --vm-priority spot", 2, "dedicated, lowpriority"},
		"an access there is not":             {"create amlcompute -n c -s S --max-nodes 1 --remote-login-port-public-access yes", 2, "Enabled, Disabled, NotSpecified"},
		"half a network":                     {"create amlcompute -n c -s S --max-nodes 1 --vnet-name v", 2, "--subnet-name"},
		"half a user":                        {"create amlcompute -n c -s S --max-nodes 1 -u me", 2, "--admin-user-ssh-key"},
		"both kinds of identity":             {"create amlcompute -n c -s S --max-nodes 1 --assign-identity [system] " + trainer, 2, "not both"},
		"an identity that is no id":          {"create amlcompute -n c -s S --max-nodes 1 --assign-identity trainer", 2, "not an ARM id"},
		"update needs something":             {"update amlcompute -n cpu-cluster", 2, "nothing to change"},
		"identities of nobody":               {"amlcompute identity remove -n cpu-cluster [system]", 1, "has no identity"},
		"none is shown as such":              {"amlcompute identity show -n cpu-cluster", 0, `"type": "None"`},
		"other kinds are refused by name":    {"create aks -n k", 1, "NotImplemented: Compute targets of the kind aks"},
		"what is attached, too":              {"attach remote -n k --address h", 1, "NotImplemented: Attached compute targets"},
		"and credentials":                    {"get-credentials -n cpu-cluster", 1, "NotImplemented: Credentials"},
		"a slip of a command says what is":   {"create amlcomput -n c", 2, "did you mean amlcompute?"},
		"the cost of a minimum, in v1 words": {"create amlcompute -n c -s S --min-nodes 2 --max-nodes 2", 0, "--min-nodes 0 lets them all go"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t).withCluster("cpu-cluster")
			r := s.run(t, append([]string{"ml", "computetarget"}, strings.Fields(c.line)...)...)
			if r.code != c.code || !strings.Contains(r.out+r.err, c.says) {
				t.Errorf("exit %d, want %d with %q\n%s%s", r.code, c.code, c.says, r.out, r.err)
			}
		})
	}
}

func TestComputeTargetIdentities(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster")
	patched := func(line string) any {
		t.Helper()
		if r := s.run(t, append([]string{"ml", "computetarget", "amlcompute", "identity"}, strings.Fields(line)...)...); r.code != 0 {
			t.Fatal(r.err)
		}
		return s.body(t, "PATCH "+ws+"/computes/cpu-cluster")["identity"]
	}
	if got := patched("assign --name cpu-cluster [system]"); !reflect.DeepEqual(got, map[string]any{"type": "SystemAssigned"}) {
		t.Errorf("assign [system]: %v", got)
	}
	if got := patched("assign --name cpu-cluster " + trainer); !reflect.DeepEqual(got, map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{trainer: map[string]any{}}}) {
		t.Errorf("assign an id: %v", got)
	}
	s.computes["cpu-cluster"]["identity"] = map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{trainer: map[string]any{}, trainer + "2": map[string]any{}}}
	if got := patched("remove --name cpu-cluster " + strings.ToUpper(trainer[:15]) + trainer[15:]); !reflect.DeepEqual(got, map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{trainer: nil}}) {
		t.Errorf("remove one: %v", got)
	}
	if got := patched("remove --name cpu-cluster --identities " + trainer + " " + trainer + "2"); !reflect.DeepEqual(got, map[string]any{"type": "None"}) {
		t.Errorf("remove all: %v", got)
	}
	r := s.run(t, "ml", "computetarget", "amlcompute", "identity", "remove", "-n", "cpu-cluster", trainer+"3")
	if r.code != 1 || !strings.Contains(r.err, "it has: "+trainer+", "+trainer+"2") {
		t.Errorf("remove one that it has not: %+v", r)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"values with spaces between them":          {"ml compute create --tags a=b c=d -n x", "ml compute create --tags a=b --tags c=d -n x"},
		"a word that is none of them ends it":      {"compute update --set a=b cpu", "compute update --set a=b cpu"},
		"a switch and what it is set to":           {"compute create --enable-sso false --set a=b --no-wait true", "compute create --enable-sso=false --set a=b --no-wait=true"},
		"ids":                                      {"ml x --assign-identity [system] /a --name n", "ml x --assign-identity [system] --assign-identity /a --name n"},
		"what follows two dashes is somebody's":    {"job exec n -- run --tags a=b c=d", "job exec n -- run --tags a=b c=d"},
		"a flag without a value is pflag's to say": {"compute create --tags", "compute create --tags"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(cli.Spread(strings.Fields(c.in)), " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// A job with code, data, an environment and outputs of its own.
func TestJobCreateUploads(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"src/train.py": "print(1)", "src/data.log": "x", "src/.gitignore": "*.log", "data/a.csv": "1,2", "conda.yml": "dependencies: [python=3.11]",
		"job.yml": `$schema: x
type: command
code: ./src
command: python train.py ${{inputs.d}} ${{outputs.model}}
environment:
  image: python:3.11
  conda_file: conda.yml
compute: azureml:cpu-cluster
inputs:
  d: {type: uri_folder, path: data, mode: download}
  f: {type: uri_file, path: azureml://datastores/workspaceblobstore/paths/x}
  m: {type: custom_model, path: azureml:digits:3}
  on: true
outputs:
  model: {type: uri_folder, mode: rw_mount}
distribution: {type: pytorch, process_count_per_instance: 2}
resources: {instance_count: 1, shm_size: 2g}
services: {lab: {type: jupyter_lab, nodes: all}}
queue_settings: {job_tier: standard, priority: high}
identity: {type: managed, client_id: me}
`} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	submit := func(name string) map[string]any {
		t.Helper()
		if r := s.run(t, "ml", "job", "create", "-f", filepath.Join(dir, "job.yml"), "--name", name, "--set", "tags.a=b", "inputs.lr=0.1"); r.code != 0 {
			t.Fatal(r.err)
		}
		return s.body(t, "PUT "+ws+"/jobs/"+name)["properties"].(map[string]any)
	}
	got := submit("j1")
	code, environment := got["codeId"].(string), got["environmentId"].(string)
	if !strings.HasPrefix(code, ws+"/codes/") || !strings.HasPrefix(environment, ws+"/environments/CliV2AnonymousEnvironment/versions/") {
		t.Errorf("code %s, environment %s", code, environment)
	}
	delete(got, "codeId")
	delete(got, "environmentId")
	data := got["inputs"].(map[string]any)["d"].(map[string]any)["uri"].(string)
	want := map[string]any{
		"jobType": "Command", "command": "python train.py ${{inputs.d}} ${{outputs.model}}", "computeId": ws + "/computes/cpu-cluster", "tags": map[string]any{"a": "b"},
		"inputs": map[string]any{
			"d":  map[string]any{"jobInputType": "uri_folder", "uri": data, "mode": "Download"},
			"f":  map[string]any{"jobInputType": "uri_file", "uri": "azureml://datastores/workspaceblobstore/paths/x"},
			"m":  map[string]any{"jobInputType": "custom_model", "uri": ws + "/models/digits/versions/3"},
			"on": map[string]any{"jobInputType": "literal", "value": "True"}, "lr": map[string]any{"jobInputType": "literal", "value": "0.1"},
		},
		"outputs":       map[string]any{"model": map[string]any{"jobOutputType": "uri_folder", "mode": "ReadWriteMount"}},
		"distribution":  map[string]any{"distributionType": "PyTorch", "processCountPerInstance": 2.0},
		"resources":     map[string]any{"instanceCount": 1.0, "shmSize": "2g"},
		"services":      map[string]any{"lab": map[string]any{"jobServiceType": "JupyterLab", "nodes": map[string]any{"nodesValueType": "All"}}},
		"queueSettings": map[string]any{"jobTier": "Standard", "priority": 3.0},
		"identity":      map[string]any{"identityType": "Managed", "clientId": "me"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sent %v\nwant %v", got, want)
	}
	below, ok := strings.CutPrefix(data, "azureml://datastores/workspaceblobstore/paths/")
	if !ok || s.blobs["store-1/"+below+"a.csv"] != "1,2" || s.blobs["code-1/src/train.py"] != "print(1)" || s.blobs["code-1/src/data.log"] != "" {
		t.Errorf("uploaded %v for %s", s.blobs, data)
	}
	if p := s.assets[strings.Replace(strings.TrimPrefix(environment, ws+"/"), "/versions/", "/", 1)]["properties"].(map[string]any); p["isAnonymous"] != true || p["condaFile"] != "dependencies:\n    - python=3.11\n" {
		t.Errorf("environment %v", p)
	}

	before := len(s.seen)
	again := submit("j2")
	if again["codeId"] != code || again["environmentId"] != environment {
		t.Errorf("the same code and environment got other names: %v", again)
	}
	if i := slices.IndexFunc(s.seen[before:], func(call string) bool {
		return strings.HasPrefix(call, "PUT") && (strings.Contains(call, "/code-1/") || strings.Contains(call, "/store-1/"))
	}); i >= 0 {
		t.Errorf("what the server has was sent again: %s", s.seen[before+i])
	}
}

func TestAssetsGetTheNextVersion(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "env.yml"), []byte("name: sk\nimage: python:3.11\nversion: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, args := range [][]string{{"-f", filepath.Join(dir, "env.yml")}, {"--name", "sk", "--image", "python:3.12", "--tags", "a=b", "c=d"}} {
		r := s.run(t, append([]string{"environment", "create", "--query", "version", "-o", "tsv"}, args...)...)
		if r.code != 0 || r.out != fmt.Sprintf("%d\n", i+1) {
			t.Errorf("version %d: %+v", i+1, r)
		}
	}
	if r := s.run(t, "environment", "show", "sk", "-l", "latest", "-o", "json", "--query", "[version, image, tags.c]"); r.code != 0 || strings.Join(strings.Fields(r.out), "") != `["2","python:3.12","d"]` {
		t.Errorf("show: %+v", r)
	}
	for name, c := range map[string]struct {
		line string
		code int
		want string
	}{
		"a version that is not there: which are": {"environment show sk -v 9", 3, "has no version 9; there are: 2, 1"},
		"a label there is not":                   {"environment show sk -l stable", 2, "there is: latest"},
		"a field of another kind of compute":     {"compute create -n c1 --type computeinstance --max-instances 2", 2, "--max-instances: there is no such field"},
		"what instances do not have yet":         {"compute create -n c1 --type computeinstance --set schedules.a=b", 2, "schedules are not built"},
		"registries":                             {"environment create -n x --registry-name r", 2, "registries are not built"},
		"data without a path":                    {"data create -n x", 2, "--path"},
		"data that is not there":                 {"data create -n x -p " + dir + "/none", 2, "there is no "},
		"a folder as a file":                     {"data create -n x -t uri_file -p " + dir, 2, "is a folder"},
		"a component of pipelines":               {"component create -f " + dir + "/none.yml", 2, "no such file"},
		"an asset without a name":                {"environment create --image x", 2, "needs a name"},
		"nothing to change":                      {"environment update sk", 2, "nothing to change"},
		"what cannot change":                     {"environment update sk --set image=y", 2, "--set image: there is no such field"},
		"pipelines' groups":                      {"ml schedule list", 1, "NotImplemented: Schedules"},
		"a datastore that is not there":          {"datastore show nope", 3, "There is no such datastore"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := s.run(t, strings.Fields(c.line)...); r.code != c.code || !strings.Contains(r.err, c.want) {
				t.Errorf("%+v, want exit %d with %q", r, c.code, c.want)
			}
		})
	}
}

// A file's name may come from anybody who may write to a store.
func TestDownloadsStayInTheirFolder(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.assets["data/d/1"] = map[string]any{"id": ws + "/data/d/versions/1", "name": "1", "properties": map[string]any{"dataUri": "azureml://datastores/workspaceblobstore/paths/in/"}}
	s.blobs["store-1/in/good/a"], s.blobs["store-1/inside"] = "good", "neighbour"
	to := t.TempDir()
	if r := s.run(t, "data", "download", "d", "-v", "1", "-p", to); r.code != 0 {
		t.Fatal(r.err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "d", "good", "a")); err != nil || string(b) != "good" {
		t.Errorf("%q, %v", b, err)
	}
	if files, _ := filepath.Glob(filepath.Join(to, "d", "*")); len(files) != 1 {
		t.Errorf("a neighbour came too: %v", files)
	}
	s.blobs["store-1/in/../../evil"] = "evil"
	if r := s.run(t, "data", "download", "d", "-v", "1", "-p", to); r.code != 1 || !strings.Contains(r.err, "would lie outside") {
		t.Errorf("a path that leads out: %+v", r)
	}
}

// fakeAz is a real az's stand-in: it says how it was called.
const fakeAz = `#!/bin/sh
echo "az $*"
echo "config=$AZURE_CONFIG_DIR"
case "$HTTPS_PROXY" in http://ebb:*@127.0.0.1:*) echo proxied;; esac
for a; do case "$a" in @*) echo "password=$(cat "${a#@}")";; esac; done
exit 7
`

func TestAliasOfAz(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster")
	with, home := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(with, "az"), []byte(fakeAz), 0o755); err != nil {
		t.Fatal(err)
	}
	without := t.TempDir()
	for name, c := range map[string]struct {
		path string
		line string
		code int
		says []string
	}{
		"login goes to az, with the server's credential": {with, "login", 7, []string{"az login --service-principal --username id --password @", "--tenant tenant", "password=s3cret", "proxied", "config=" + home + "/.config/ebb/azure-"}},
		"a login of one's own is left as it is":          {with, "login --identity", 7, []string{"az login --identity\n"}},
		"groups go to az":                                {with, "group list -o table --query [].name", 7, []string{"az group list -o table --query [].name\n", "proxied"}},
		"az's own config":                                {with, "config set a.b=c", 7, []string{"az config set a.b=c\n"}},
		"the extension is there":                         {with, "extension add -n ml -y", 0, []string{"nothing to add"}},
		"another extension is az's":                      {with, "extension add --name aks-preview", 7, []string{"az extension add --name aks-preview"}},
		"ml is ours":                                     {with, "ml compute list --query [].name", 0, []string{`"cpu-cluster"`}},
		"without az, groups say what to install":         {without, "group list", 1, []string{"not installed: pip install azure-cli"}},
		"without az, login tries the credential":         {without, "login", 0, []string{`"tenantId": "tenant"`}},
		"without az, an account is known":                {without, "account show --query id -o tsv", 0, []string{"sub\n"}},
		"without az, another account is not":             {without, "account set -s other", 1, []string{"its subscription is sub"}},
		"without az, the same account is":                {without, "account set --subscription=SUB", 0, nil},
		"without az, it is listed":                       {without, "extension list --query [].name -o tsv", 0, []string{"ml\n"}},
		"and shown as az would":                          {without, "extension show -n ml --query name", 0, []string{`"ml"`}},
		"without az, the extension is there":             {without, "extension add --name=azure-cli-ml", 0, []string{"nothing to add"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A process for "exec" has files for its streams; here they are buffers.
			r := run(t, []string{"EBB_CLIENT=" + s.client, "PATH=" + c.path + ":/usr/bin:/bin", "HOME=" + home}, strings.Fields(c.line)...)
			if r.code != c.code {
				t.Errorf("exit %d, want %d\n%s%s", r.code, c.code, r.out, r.err)
			}
			for _, want := range c.says {
				if !strings.Contains(r.out+r.err, want) {
					t.Errorf("%q is not said in\n%s%s", want, r.out, r.err)
				}
			}
		})
	}
}

func TestDefaultsOfAz(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster")
	home := t.TempDir()
	do := func(more string, line string) result {
		t.Helper()
		return run(t, []string{"EBB_CLIENT=" + s.client, "PATH=/usr/bin:/bin", "HOME=" + home, more}, strings.Fields(line)...)
	}
	if r := do("", "configure --defaults group=ebb workspace=other location=westus2"); r.code != 0 {
		t.Fatal(r.err)
	}
	if r := do("", "configure --list-defaults --query [].value -o tsv"); r.out != "ebb\nwestus2\nother\n" {
		t.Errorf("defaults: %+v", r)
	}
	asked := func() string { // for computes, at last
		s.mu.Lock()
		defer s.mu.Unlock()
		last := ""
		for _, line := range s.seen {
			if strings.HasSuffix(line, "/computes") {
				last = line
			}
		}
		return last
	}
	if do("", "ml compute list"); !strings.HasSuffix(asked(), "/workspaces/other/computes") {
		t.Errorf("a default does not hold: %s", asked())
	}
	if do("AZURE_DEFAULTS_WORKSPACE=third", "ml compute list"); !strings.HasSuffix(asked(), "/workspaces/third/computes") {
		t.Errorf("a variable goes before: %s", asked())
	}
	if do("AZURE_DEFAULTS_WORKSPACE=third", "ml compute list -w main"); !strings.HasSuffix(asked(), "/workspaces/main/computes") {
		t.Errorf("a flag goes before: %s", asked())
	}
	if do("", "compute list"); !strings.HasSuffix(asked(), "/workspaces/main/computes") {
		t.Errorf("az's defaults are of ml alone: %s", asked())
	}
	if r := do("", "configure -d workspace="); r.code != 0 {
		t.Fatal(r.err)
	}
	if do("", "ml compute list"); !strings.HasSuffix(asked(), "/workspaces/main/computes") {
		t.Errorf("a default that was taken away holds: %s", asked())
	}
}

func TestOutputOfAz(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster")
	for name, c := range map[string]struct{ line, want string }{
		"ml prints JSON":         {"ml compute list --query [].name", "[\n  \"cpu-cluster\"\n]\n"},
		"jsonc is JSON":          {"compute show cpu-cluster -o jsonc --query name", "\"cpu-cluster\"\n"},
		"yamlc is YAML":          {"compute show cpu-cluster -o yamlc --query name", "cpu-cluster\n"},
		"a group beside each id": {"ml compute list --query [0].resourceGroup", "\"ebb\"\n"},
		"a group beside an id":   {"ml compute show -n cpu-cluster --query resourceGroup -o tsv", "ebb\n"},
		"none is nothing":        {"compute show cpu-cluster -o none", ""},
		"v2 sizes, v2's command": {"ml compute list-sizes --query [0].name -o tsv", "STANDARD_DS3_V2\n"},
		"v2 usages":              {"ml compute list-usage --query [0].current_value -o tsv", "16\n"},
		"v2 nodes":               {"ml compute list-nodes -n cpu-cluster --query [0].node_id -o tsv", "tvm-1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := s.run(t, strings.Fields(c.line)...); r.code != 0 || r.out != c.want {
				t.Errorf("%+v, want %q", r, c.want)
			}
		})
	}
	r := s.run(t, "ml", "compute", "show", "-n", "cpu-cluster", "--debug", "-o", "none")
	if r.code != 0 || !strings.Contains(r.err, "DEBUG: GET "+ws+"/computes/cpu-cluster: 200 in ") {
		t.Errorf("--debug: %+v", r)
	}
	r = s.run(t, "compute", "create", "-n", "c1", "--only-show-errors")
	if r.code != 0 || r.err != "" {
		t.Errorf("--only-show-errors: %+v", r)
	}
	if r = s.run(t, "compute", "show", "nope", "--only-show-errors"); r.code != 3 || !strings.Contains(r.err, "no cluster named nope") {
		t.Errorf("an error is shown all the same: %+v", r)
	}
}

func TestJobShowHasTheLastOfItsMetrics(t *testing.T) {
	t.Parallel()
	s := newServer(t).withJob("night-1", "Completed")
	metric := "/metric/v2.0" + ws + "/runs/night-1"
	s.mux.HandleFunc("POST "+metric+"/list", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"value": []any{map[string]any{"metricKey": map[string]any{"name": "acc"}}, map[string]any{"metricKey": map[string]any{"name": "table"}}}})
	})
	s.mux.HandleFunc("POST "+metric+"/full", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ MetricName, ContinuationToken string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		point := func(data map[string]any, next any) {
			reply(w, map[string]any{"value": []any{map[string]any{"data": data}}, "continuationToken": next})
		}
		switch {
		case in.MetricName == "table":
			point(map[string]any{"x": 1, "y": 2}, nil)
		case in.ContinuationToken == "":
			point(map[string]any{"acc": 0.5}, "more")
		default:
			point(map[string]any{"acc": 0.75}, nil)
		}
	})
	r := s.run(t, "job", "show", "night-1", "-o", "json", "--query", "metrics")
	if r.code != 0 || strings.Join(strings.Fields(r.out), "") != `{"acc":0.75,"table":{"x":1,"y":2}}` {
		t.Errorf("%+v", r)
	}
}
