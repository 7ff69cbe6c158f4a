package survival_test

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// scene is a workspace with something in it of every kind, and the good
// requests about it: one for every route that clients and nodes use.
type scene struct {
	*world
	n     string // tells one scene of a server from another
	guid  string // of the workspace
	token string
	goods []good
}

// good is a request and the statuses with which it is answered when all is well.
type good struct {
	raw
	want []int
}

func newScene(w *world, n string) *scene {
	w.t.Helper()
	s := &scene{world: w, n: n}
	ws, err := w.c.Workspace(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	s.guid = ws.Properties.WorkspaceID
	s.token = s.login()
	s.cluster("cpu-"+n+"x", 0, 2, "PT2S")
	s.submit("cpu-"+n+"x", "done-"+n, "echo hello")
	s.awaitStatus("done-"+n, "Completed")
	s.submit("cpu-"+n+"x", "runs-"+n, "echo begin; sleep 600")
	s.awaitLog("runs-"+n, "begin")
	s.arm()
	s.platform()
	s.tracking()
	s.history()
	s.files()
	s.assets()
	s.logins()
	s.agents()
	return s
}

// login gets a token as a client does.
func (s *scene) login() string {
	s.t.Helper()
	a, err := newLine(s.t, s.c.File()).send(s.grant())
	var got struct {
		Token string `json:"access_token"`
	}
	if err == nil {
		err = json.Unmarshal(a.body, &got)
	}
	if err != nil || got.Token == "" {
		s.t.Fatalf("log in: %v, %s", err, a.body)
	}
	return got.Token
}

func (s *scene) grant() raw {
	f := s.c.File()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {f.ClientID}, "client_secret": {f.ClientSecret},
		"scope": {"https://management.azure.com/.default"}}
	return raw{name: "log in", method: "POST", target: "/" + f.TenantID + "/oauth2/v2.0/token", host: s.host(),
		header: []field{{"Content-Type", "application/x-www-form-urlencoded"}}, body: []byte(form.Encode())}
}

func (s *scene) host() string { return strings.TrimPrefix(s.c.File().URL, "https://") }

// add adds a good request; {WS}, {SUB} and {N} stand for what they say.
func (s *scene) add(want int, method, target, body string, header ...field) {
	f := s.c.File()
	fill := strings.NewReplacer("{WS}", f.Workspace(), "{SUB}", "/subscriptions/"+f.SubscriptionID, "{N}", s.n,
		"{GUID}", s.guid, "{TENANT}", f.TenantID)
	r := raw{name: method + " " + target, method: method, target: fill.Replace(target), host: s.host(), body: []byte(fill.Replace(body))}
	if r.header = header; header == nil {
		r.header = []field{{"Authorization", "Bearer " + s.token}, {"Content-Type", "application/json"}}
	}
	s.goods = append(s.goods, good{r, []int{want, 200, 201}})
}

// ask sends a good request while the scene is made, and reads the answer.
func (s *scene) ask(method, target, body string, into any) {
	s.t.Helper()
	s.add(200, method, target, body)
	a, err := newLine(s.t, s.c.File()).send(s.goods[len(s.goods)-1].raw)
	if err == nil && into != nil {
		err = json.Unmarshal(a.body, into)
	}
	if err != nil || a.status >= 300 {
		s.t.Fatalf("%s %s: %d %s %v", method, target, a.status, a.body, err)
	}
}

func (s *scene) arm() {
	for _, at := range []string{"/tenants", "/subscriptions", "{SUB}", "{SUB}/locations", "{SUB}/resources", "{SUB}/providers", "{SUB}/resourceGroups",
		"{SUB}/resourceGroups/ebb", "{SUB}/resourceGroups/ebb/resources", "{SUB}/providers/Microsoft.MachineLearningServices",
		"/providers/Microsoft.MachineLearningServices/operations", "{SUB}/providers/Microsoft.MachineLearningServices/workspaces",
		"{SUB}/providers/Microsoft.MachineLearningServices/locations/westus2/vmSizes", "{SUB}/providers/Microsoft.MachineLearningServices/locations/westus2/usages",
		"{SUB}/providers/Microsoft.MachineLearningServices/locations/westus2/quotas", "{WS}", "/rp/workspaces{WS}", "{WS}/computes", "/rp/workspaces{WS}/computes",
		"{WS}/computes/cpu-{N}x", "/rp/workspaces{WS}/computes/cpu-{N}x", "{WS}/jobs", "{WS}/jobs/done-{N}"} {
		s.add(200, "GET", at+version, "")
	}
	s.add(204, "HEAD", "{SUB}/resourceGroups/ebb"+version, "")
	s.add(200, "POST", "{SUB}/providers/Microsoft.MachineLearningServices/register"+version, "")
	s.add(200, "POST", "{WS}/computes/cpu-{N}x/listNodes"+version, "")
	s.add(200, "POST", "{SUB}/providers/Microsoft.MachineLearningServices/locations/westus2/updateQuotas"+version,
		`{"value":[{"id":"{WS}/quotas/Standard_NC_Family_Cluster_Dedicated_vCPUs","type":"Microsoft.MachineLearningServices/workspaces/quotas","limit":6,"unit":"Count"}],"location":"westus2"}`)
	s.add(201, "PUT", "{WS}/computes/new-{N}x"+version, `{"location":"westus2","tags":{"a":"b"},"identity":{"type":"SystemAssigned"},"properties":{"computeType":"AmlCompute","description":"d",
	 "properties":{"osType":"Linux","vmSize":"STANDARD_DS1_V2","vmPriority":"Dedicated","scaleSettings":{"minNodeCount":0,"maxNodeCount":2,"nodeIdleTimeBeforeScaleDown":"PT120S"},
	 "userAccountCredentials":{"adminUserName":"me","adminUserSshPublicKey":"ssh-rsa AAAA"},"remoteLoginPortPublicAccess":"Enabled","enableNodePublicIp":true}}}`)
	s.add(200, "PATCH", "{WS}/computes/new-{N}x"+version, `{"tags":{"c":"d"},"properties":{"computeType":"AmlCompute","properties":{"scaleSettings":{"minNodeCount":0,"maxNodeCount":3,"nodeIdleTimeBeforeScaleDown":"PT60S"}}}}`)
	s.add(202, "DELETE", "{WS}/computes/new-{N}x"+version+"&underlyingResourceAction=Delete", "")
	s.add(200, "POST", "{WS}/checkComputeNameAvailability"+version, `{"name":"ci-{N}x","type":"Microsoft.BatchAI/DataScienceInstance"}`)
	s.add(201, "PUT", "{WS}/computes/ci-{N}x"+version, `{"location":"westus2","properties":{"computeType":"ComputeInstance","properties":{"vmSize":"STANDARD_DS1_V2","applicationSharingPolicy":"Personal",
	 "sshSettings":{"sshPublicAccess":"Enabled","adminPublicKey":"ssh-rsa AAAA"},"personalComputeInstanceSettings":{"assignedUser":{"objectId":"o","tenantId":"t"}},"idleTimeBeforeShutdown":"PT30M",
	 "schedules":{"computeStartStop":[{"status":"Enabled","action":"Stop","triggerType":"Cron","cron":{"expression":"0 18 * * *"}}]}}}}`)
	s.add(202, "POST", "{WS}/computes/ci-{N}x/stop"+version, "")
	s.add(202, "POST", "{WS}/computes/ci-{N}x/resize"+version, `{"targetVMSize":"STANDARD_D2_V2"}`)
	s.add(200, "POST", "{WS}/computes/ci-{N}x/updateIdleShutdownSetting"+version, `{"idleTimeBeforeShutdown":"PT20M"}`)
	s.add(202, "POST", "{WS}/computes/ci-{N}x/start"+version, "")
	s.add(202, "POST", "{WS}/computes/ci-{N}x/restart"+version, "")
	s.add(202, "DELETE", "{WS}/computes/ci-{N}x"+version+"&underlyingResourceAction=Delete", "")
	s.add(201, "PUT", "{WS}/jobs/made-{N}"+version, `{"properties":{"jobType":"Command","command":"echo ${{inputs.word}} $VAR","computeId":"{WS}/computes/cpu-{N}x","experimentName":"made","displayName":"Made",
	 "description":"d","environmentVariables":{"VAR":"v"},"inputs":{"word":{"jobInputType":"literal","value":"hello"}},"tags":{"k":"v"},"properties":{"p":"q"},
	 "limits":{"jobLimitsType":"Command","timeout":"PT1M"},"resources":{"instanceCount":1}}}`)
	s.add(202, "POST", "{WS}/jobs/made-{N}/cancel"+version, "")
	s.add(200, "GET", "/ebb/v1{WS}/jobs/done-{N}/log?name=user_logs/std_log.txt&offset=0&wait=1", "")
}

func (s *scene) history() {
	const at = "/history/v1.0{WS}/experiments/Default/runs/done-{N}"
	s.add(200, "POST", "/history/v1.0{WS}/experiments/exp-{N}", "")
	s.add(200, "GET", "/history/v1.0{WS}/experiments/exp-{N}", "")
	s.add(200, "GET", "/history/v1.0{WS}/experiments", "")
	s.add(200, "POST", "/history/v1.0{WS}/experiments:query", `{"viewType":"ActiveOnly"}`)
	s.add(200, "POST", "/history/v1.0{WS}/experiments/Default/runs:query", `{"filter":"(ParentRunId eq null)","orderby":"StartTimeUtc desc","top":5}`)
	for _, more := range []string{"", "/details", "/children?$top=5", "/metricsingest/wait"} {
		s.add(200, "GET", at+more, "")
	}
	s.add(200, "GET", "/history/v1.0{WS}/runs/done-{N}", "")
	s.add(200, "GET", "/history/v1.0{WS}/runs/done-{N}/details", "")
	s.add(200, "GET", "/history/v1.0{WS}/computes/cpu-{N}x/runs?$top=5", "")
	s.add(200, "PATCH", at, `{"runId":"done-{N}","tags":{"q":"1","k":null},"properties":{"x":"y"},"displayName":"n","description":"d"}`)
	s.add(200, "DELETE", at+"/tags", `["q"]`)
	s.add(200, "PATCH", "/history/v1.0{WS}/experiments/exp-{N}/runs/mine-{N}", `{"runId":"mine-{N}","name":"run_1","runTypeV2":{"orchestrator":"External","traits":["unspecified"]},"properties":{},"target":"local"}`)
	s.add(200, "GET", "/history/v1.0{WS}/experiments/exp-{N}/runs/mine-{N}/token", "")
	s.add(200, "POST", "/history/v1.0{WS}/experiments/exp-{N}/runs/mine-{N}/events", `{"timestamp":"2026-11-23T01:38:47.554624Z","name":"Microsoft.MachineLearning.Run.Start","data":{"RunId":"mine-{N}","StartTime":"2026-11-23T01:38:47.554624Z"}}`)
	s.add(200, "PATCH", "/history/v1.0{WS}/experiments/exp-{N}/batch/runs", `{"runs":[{"runId":"kid-{N}","parentRunId":"mine-{N}"}]}`)
	s.add(200, "POST", "/metric/v2.0{WS}/runs/mine-{N}/batch", `{"values":[{"name":"m","columns":{"m":"double"},"value":[{"metricId":"a","createdUtc":"2026-11-23T01:38:47.652746Z","data":{"m":1.0}}],"properties":{"uxMetricType":"azureml.v1.scalar"}}],"reportErrors":true}`)
	s.add(200, "POST", "/metric/v2.0{WS}/runs/mine-{N}/list", `{}`)
	s.add(200, "POST", "/metric/v2.0{WS}/runs/mine-{N}/full", `{"metricName":"m"}`)
}

func (s *scene) files() {
	s.t.Helper()
	s.add(200, "PUT", "/environment/v1.0{WS}/environments/env-{N}", `{"Name":"env-{N}","python":{"userManagedDependencies":true},"EnvironmentVariables":{"FROM_ENV":"1"},"Docker":{"baseImage":"i"}}`)
	s.add(200, "GET", "/environment/v1.0{WS}/environments/", "")
	s.add(200, "GET", "/environment/v1.0{WS}/environments/env-{N}", "")
	s.add(200, "GET", "/environment/v1.0{WS}/environments/env-{N}/versions/1", "")
	s.add(200, "GET", "/datastore/v1.0{WS}/default", "")
	s.add(200, "GET", "/datastore/v1.0{WS}/datastores", "")
	s.add(200, "GET", "/content/v1.0{WS}/snapshots/latest/metadata", "")
	var slots struct {
		Nodes []struct {
			URI string `json:"blobUri"`
		} `json:"fileNodes"`
	}
	s.ask("POST", "/content/v2.0{WS}/snapshots/getblob", `{"FileNames":["train.py"]}`, &slots)
	blob := slots.Nodes[0].URI
	none := []field{{"x-ms-version", "2024-05-04"}, {"x-ms-blob-type", "BlockBlob"}, {"Content-Type", "application/octet-stream"}}
	target := s.path(blob)
	s.add(201, "PUT", target, "print(1)\n", none...)
	s.add(201, "PUT", target+"&comp=block&blockid=AAAA", "print(2)\n", none...)
	s.add(201, "PUT", target+"&comp=blocklist", `<?xml version="1.0" encoding="utf-8"?><BlockList><Latest>AAAA</Latest></BlockList>`, none...)
	s.add(200, "GET", target, "", none...)
	s.add(200, "HEAD", target, "", none...)
	s.add(200, "GET", target+"&comp=blocklist&blocklisttype=all", "", none...)
	const snapshot = "6f9619ff-8b86-d011-b42d-00c04fc964f{N}"
	s.putBlob(target, none)
	s.ask("POST", "/content/v2.0{WS}/snapshots/"+snapshot, `{"ParentSnapshotId":"00000000-0000-0000-0000-000000000000","Tags":null,"Properties":{},
	 "DirTreeNode":{"name":"","timestamp":"t","children":{"train.py":{"name":"train.py","timestamp":"t","children":{},"type":"File","hash":"71"}},"type":"Directory","hash":"66"},
	 "FileRevisionList":{"FileNodes":[{"FullName":"train.py","BlobUri":"`+blob+`","FileSize":9}]}}`, nil)
	s.add(200, "GET", "/content/v1.0{WS}/snapshots/"+snapshot+"/metadata", "")
	var zip struct {
		URI string `json:"zipSasUri"`
	}
	s.ask("POST", "/content/v2.0{WS}/snapshots/"+snapshot+"/zip", "", &zip)
	s.add(200, "GET", s.path(zip.URI), "", field{"Accept", "*/*"})
	s.add(200, "POST", "/execution/v1.0{WS}/experiments/exp-{N}/snapshotrun?runId=snap-{N}", `{"TargetDetails":null,"Configuration":{"script":"train.py","arguments":["--lr",0.1],"target":"cpu-{N}x","framework":"Python",
	 "communicator":"None","maxRunDurationSeconds":2592000,"nodeCount":1,"priority":null,"environment":{"name":"myenv","version":null,"environmentVariables":{"A":"B"},"python":{"userManagedDependencies":true,
	 "interpreterPath":"python"}},"history":{"outputCollection":true}},"TelemetryValues":{},"SnapshotId":"`+snapshot+`"}`)
	s.add(200, "POST", "/execution/v1.0{WS}/experiments/exp-{N}/runId/snap-{N}/cancel", "")
	const artifacts = "/artifact/v2.0{WS}/artifacts"
	s.add(200, "GET", artifacts+"/ExperimentRun/dcid.done-{N}", "")
	s.add(200, "POST", artifacts+"/batch/metadata/ExperimentRun/dcid.done-{N}", `{"paths":[{"path":"outputs/a b.txt"}]}`)
	s.add(200, "POST", artifacts+"/content/ExperimentRun/dcid.done-{N}/outputs/c.txt", "bytes")
	s.add(200, "GET", artifacts+"/content/ExperimentRun/dcid.done-{N}/outputs/c.txt", "")
	s.add(200, "GET", artifacts+"/contentinfo/ExperimentRun/dcid.done-{N}/outputs/c.txt", "")
	s.add(200, "GET", artifacts+"/metadata/ExperimentRun/dcid.done-{N}/outputs/c.txt", "")
	s.add(200, "GET", artifacts+"/prefix/contentinfo/ExperimentRun/dcid.done-{N}/outputs", "")
	s.add(200, "POST", artifacts+"/metadata", `{"origin":"ExperimentRun","container":"dcid.done-{N}","path":"outputs/d-{N}.txt"}`)
}

func (s *scene) putBlob(target string, header []field) {
	s.t.Helper()
	a, err := newLine(s.t, s.c.File()).send(raw{method: "PUT", target: target, host: s.host(), header: header, body: []byte("print(1)\n")})
	if err != nil || a.status != 201 {
		s.t.Fatalf("upload: %v %d %s", err, a.status, a.body)
	}
}

// path is what goes on the request line for an address that the server gave.
func (s *scene) path(address string) string {
	s.t.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Path == "" {
		s.t.Fatalf("address %q: %v", address, err)
	}
	return u.RequestURI()
}

func (s *scene) logins() {
	public := field{"Accept", "application/json"}
	for _, at := range []string{"/metadata/endpoints?api-version=2022-09-01", "/common/discovery/instance?api-version=1.1&authorization_endpoint=https://x/common/oauth2/v2.0/authorize",
		"/{TENANT}/.well-known/openid-configuration", "/{TENANT}/v2.0/.well-known/openid-configuration", "/{TENANT}/discovery/keys", "/{TENANT}/discovery/v2.0/keys",
		"/discovery", "/discovery/workspaces/{GUID}"} {
		s.add(200, "GET", at, "", public)
	}
	s.goods = append(s.goods, good{s.grant(), []int{200}})
	old := s.grant()
	old.target = strings.Replace(old.target, "/v2.0", "", 1)
	s.goods = append(s.goods, good{old, []int{200}})
}

// agents adds what the node of the running job may ask.
func (s *scene) agents() {
	s.t.Helper()
	locks, _ := filepath.Glob(filepath.Join(s.Dir, "nodes", "*", "attempts", "*", "lock"))
	for _, lock := range locks {
		attempt := filepath.Base(filepath.Dir(lock))
		dir := filepath.Dir(filepath.Dir(filepath.Dir(lock)))
		var node struct{ Token string }
		s.readJSON(filepath.Join(dir, "node.json"), &node)
		at, fence := "/ebb/nodes/v1/attempts/"+attempt, "?fence="+s.fence(dir, attempt)+"&member=0"
		bearer := field{"Authorization", "Bearer " + node.Token}
		s.add(200, "GET", at+"/task"+fence, "", bearer)
		s.add(200, "POST", at+"/log"+fence+"&name=system_logs/x.txt&offset=0", "some text\n", bearer)
		s.add(200, "PUT", at+"/artifacts/outputs/e.txt"+fence, "bytes", bearer)
		s.add(200, "GET", "/ebb/nodes/v1/snapshots/6f9619ff-8b86-d011-b42d-00c04fc964f"+s.n+fence+"&attempt="+attempt, "", bearer)
		s.goods[len(s.goods)-1].want = []int{200, 400, 403, 404} // only its own run's code
		s.add(401, "GET", "/ebb/nodes/v1/connect", "", field{"Authorization", "Bearer " + s.token}, field{"Upgrade", "websocket"}, field{"Connection", "Upgrade"},
			field{"Sec-WebSocket-Version", "13"}, field{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="})
	}
	if len(locks) != 1 {
		s.t.Fatalf("%d attempts are on the nodes, want 1", len(locks))
	}
}

// fence reads in a node's memory under which fence it has an attempt.
func (s *scene) fence(node, attempt string) string {
	s.t.Helper()
	memory, err := os.ReadFile(filepath.Join(node, "memory"))
	if err != nil {
		s.t.Fatal(err)
	}
	m := regexp.MustCompile(`"attempt":"` + regexp.QuoteMeta(attempt) + `","fence":(\d+)`).FindSubmatch(memory)
	if m == nil {
		s.t.Fatalf("%s does not remember %s", node, attempt)
	}
	return string(m[1])
}

func (s *scene) readJSON(path string, into any) {
	s.t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// wantGood sends every good request, in order.
func (s *scene) wantGood() {
	s.t.Helper()
	l := newLine(s.t, s.c.File())
	for _, g := range s.goods {
		a, err := l.send(g.raw)
		if err != nil || !slices.Contains(g.want, a.status) {
			s.t.Errorf("good request %s\n%d %s %v", g.raw, a.status, a.body, err)
		}
	}
}
