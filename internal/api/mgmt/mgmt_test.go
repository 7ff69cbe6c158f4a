package mgmt_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/mgmt"
	"github.com/ebb-compute/ebb/internal/api/schema"
	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/authorization"
	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/app/resources"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// site is the routes of this package on a store in memory.
type site struct {
	t   *testing.T
	h   http.Handler
	st  *apptest.Store
	wss *workspaces.Service
	sub string
	ws  string
}

// keys is an authenticator that knows one token.
type keys struct{ owner access.Principal }

func (k keys) Verify(token string) (access.Principal, error) {
	if token != "owner" {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "InvalidAuthenticationToken", "", "The access token is invalid.")
	}
	return k.owner, nil
}

func newSite(t *testing.T) *site {
	t.Helper()
	st := &apptest.Store{}
	var n atomic.Int64
	newID := func() string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n.Add(1)) }
	now := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ws := &workspaces.Service{Store: st, Now: now, NewID: newID, Log: log}
	c, err := ws.Seed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cs := &computes.Service{Store: st, Workspaces: ws, Now: now, NewID: newID, Log: log}
	rt := &arm.Router{Auth: keys{access.Principal{ID: c.ObjectID, Name: "ebb", Kind: access.Application}}, Log: log, Tenant: c.TenantID}
	az := &authorization.Service{Store: st, Now: now, NewID: newID}
	rt.Guard = mgmt.Guard(az, ws)
	rs := &resources.Service{Store: st, Groups: ws, Now: now, NewID: newID}
	mgmt.Register(schema.Checked(rt), mgmt.Services{Workspaces: ws, Computes: cs, Ledger: cs, Records: rs, Authorization: az})
	return &site{t: t, h: rt, st: st, wss: ws, sub: "/subscriptions/" + c.SubscriptionID, ws: armid.Workspace(c.SubscriptionID, c.ResourceGroup, c.Workspace)}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

// ask sends a request with the owner's token. header is "Name: value" lines.
func (s *site) ask(method, path, body string, header ...string) answer {
	s.t.Helper()
	r := httptest.NewRequest(method, "https://127.0.0.1:8443"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer owner")
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	raw, err := io.ReadAll(w.Result().Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{status: w.Code, header: w.Header(), raw: string(raw)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			s.t.Fatalf("%s %s answered no JSON object: %.200s", method, path, raw)
		}
	}
	return a
}

// want asks and checks the status.
func (s *site) want(status int, method, path, body string, header ...string) answer {
	s.t.Helper()
	a := s.ask(method, path, body, header...)
	if a.status != status {
		s.t.Fatalf("%s %s = %d, want %d: %.500s", method, path, a.status, status, a.raw)
	}
	return a
}

// request makes a request of anything, or says that it is none.
func request(method, path, body string) (*http.Request, bool) {
	u, err := url.Parse("https://127.0.0.1:8443" + path)
	if err != nil {
		return nil, false
	}
	r := httptest.NewRequest(method, "https://127.0.0.1:8443/", strings.NewReader(body))
	r.URL = u
	r.Header.Set("Authorization", "Bearer owner")
	return r, true
}

// send returns what a request is answered, whatever it is.
func (s *site) send(r *http.Request) (int, []byte) {
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

func (s *site) commit(changes ...row.Change) {
	s.t.Helper()
	if _, err := s.st.Commit(s.t.Context(), changes...); err != nil {
		s.t.Fatal(err)
	}
}

// path of what an absolute URL of ours names.
func (s *site) local(url string) string {
	s.t.Helper()
	path, ok := strings.CutPrefix(url, "https://127.0.0.1:8443")
	if !ok {
		s.t.Fatalf("%q is not on the host that the client came by", url)
	}
	return path
}

func at(m map[string]any, path string) any {
	var v any = m
	for k := range strings.SplitSeq(path, ".") {
		o, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = o[k]
	}
	return v
}

// v1Body is what ComputeTarget.create of SDK v1 sends (reference/wire/sdk-v1.md, section 2).
const v1Body = `{"location":"westus","properties":{"computeType":"AmlCompute","properties":{"vmSize":"STANDARD_D2_V2","vmPriority":"dedicated","scaleSettings":{"minNodeCount":0,"maxNodeCount":4,"nodeIdleTimeBeforeScaleDown":"PT1800S"},"remoteLoginPortPublicAccess":"NotSpecified"}}}`

const v1 = "?api-version=2020-02-02"

// TestLifeOfACluster is the calls of SDK v1, in its order, with control's part played by hand.
func TestLifeOfACluster(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	read, write := "/rp/workspaces"+s.ws+"/computes/cpu-cluster"+v1, s.ws+"/computes/cpu-cluster"
	if a := s.want(404, "GET", read, ""); at(a.body, "error.code") != "ResourceNotFound" || at(a.body, "error.details") == nil {
		t.Errorf("missing compute: %s", a.raw)
	}
	made := s.want(201, "PUT", write+v1, v1Body)
	status := s.local(made.header.Get("Azure-AsyncOperation"))
	if made.header.Get("Retry-After") == "" || made.header.Get("ETag") == "" || at(made.body, "properties.provisioningState") != "Creating" || !strings.Contains(status, "api-version=2020-02-02") {
		t.Errorf("PUT: %v %s", made.header, made.raw)
	}
	s.want(200, "GET", read, "")
	if a := s.want(200, "GET", status, ""); at(a.body, "status") != "InProgress" || a.header.Get("Retry-After") == "" {
		t.Errorf("operation: %s", a.raw)
	}
	if a := s.want(202, "GET", s.local(made.header.Get("Location")), ""); a.raw != "" || a.header.Get("Location") == "" {
		t.Errorf("result while in progress: %v %q", a.header, a.raw)
	}
	s.settle("cpu-cluster")
	if a := s.want(200, "GET", status, ""); at(a.body, "status") != "Succeeded" || at(a.body, "endTime") == nil {
		t.Errorf("operation when done: %s", a.raw)
	}
	if a := s.want(200, "GET", s.local(made.header.Get("Location")), ""); at(a.body, "properties.provisioningState") != "Succeeded" {
		t.Errorf("result when done: %s", a.raw)
	}
	if a := s.want(200, "PUT", write+v1, v1Body); a.header.Get("Azure-AsyncOperation") == "" {
		t.Error("the same PUT again lacks the header without which SDK v1 raises")
	}
	s.settle("cpu-cluster")
	if a := s.want(200, "PATCH", write+v1, `{"properties":{"computeType":"AmlCompute","properties":{"scaleSettings":{"minNodeCount":0,"maxNodeCount":2,"nodeIdleTimeBeforeScaleDown":"PT240S"}}}}`); a.header.Get("Azure-AsyncOperation") == "" || at(a.body, "properties.provisioningState") != "Updating" {
		t.Errorf("PATCH: %v %s", a.header, a.raw)
	}
	if a := s.want(200, "PATCH", write+v1, `{"properties":{}}`); a.header.Get("Azure-AsyncOperation") != "" {
		t.Error("a PATCH that changes nothing points to an operation")
	}
	gone := s.want(202, "DELETE", write+v1+"&underlyingResourceAction=delete", "")
	if gone.raw != "" || gone.header.Get("Azure-AsyncOperation") == "" || gone.header.Get("Location") == "" {
		t.Errorf("DELETE: %v %q", gone.header, gone.raw)
	}
	s.want(409, "PUT", write+v1, v1Body)
	s.settle("cpu-cluster")
	s.want(204, "GET", s.local(gone.header.Get("Location")), "")
	s.want(204, "DELETE", write+v1+"&underlyingResourceAction=delete", "")
	if a := s.want(200, "GET", "/rp/workspaces"+s.ws+"/computes"+v1, ""); a.raw != `{"value":[]}`+"\n" {
		t.Errorf("list at the end: %q (a null nextLink breaks every pager)", a.raw)
	}
}

// settle does what control does: it takes wishes in and finishes operations.
func (s *site) settle(name string) {
	s.t.Helper()
	key := armid.Key(armid.Compute(s.ws, name))
	view := s.st.View()
	c, ok := view.Cluster(key)
	if !ok {
		s.t.Fatalf("there is no cluster %s", name)
	}
	changes := []row.Change{row.Put(fleet.Status{ID: key, Observed: c.Generation, Provisioning: operation.Succeeded, Allocation: fleet.Steady, Target: c.Min})}
	if c.Deleting {
		changes = []row.Change{row.Drop(row.Key{Kind: row.Cluster, ID: key}), row.Drop(row.Key{Kind: row.ClusterStatus, ID: key}), row.Drop(row.Key{Kind: row.Compute, ID: key})}
	}
	for op := range view.Operations() {
		op.Status, op.Ended = operation.Succeeded, op.Started
		changes = append(changes, row.Put(op))
	}
	s.commit(changes...)
}

func TestFailedOperation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	made := s.want(201, "PUT", s.ws+"/computes/abc"+v1, v1Body)
	for op := range s.st.View().Operations() {
		op.Status, op.Ended, op.Code, op.Message = operation.Failed, op.Started, "NoRoom", "There is no room."
		s.commit(row.Put(op))
	}
	a := s.want(200, "GET", s.local(made.header.Get("Azure-AsyncOperation")), "")
	if at(a.body, "status") != "Failed" || at(a.body, "error.code") != "NoRoom" || at(a.body, "error.statusCode") == nil || at(a.body, "error.message") != "There is no room." {
		t.Errorf("operation: %s", a.raw)
	}
	if a := s.want(409, "GET", s.local(made.header.Get("Location")), ""); at(a.body, "error.code") != "NoRoom" {
		t.Errorf("result: %s", a.raw)
	}
	s.want(404, "GET", strings.Replace(s.local(made.header.Get("Location")), s.sub, "/subscriptions/other", 1), "")
}

// TestRemoveIdentity: SDK v1 sends JSON in a JSON string.
func TestRemoveIdentity(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.want(201, "PUT", s.ws+"/computes/abc"+v1, strings.Replace(v1Body, `{"location"`, `{"identity":{"type":"SystemAssigned"},"location"`, 1))
	s.want(200, "PATCH", s.ws+"/computes/abc"+v1, `"{\"location\":\"westus\",\"properties\":{},\"identity\":{\"type\":\"None\"}}"`)
	if a := s.want(200, "GET", "/rp/workspaces"+s.ws+"/computes/abc"+v1, ""); at(a.body, "identity.type") != "None" {
		t.Errorf("identity after its removal: %s", a.raw)
	}
}

func TestWarningsAreHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.want(201, "PUT", s.ws+"/computes/abc", `{"properties":{"computeType":"AmlCompute","properties":{"vmSize":"Standard_NC6","scaleSettings":{"minNodeCount":1,"maxNodeCount":1}}}}`)
	if got := a.header.Values("x-ebb-warning"); len(got) != 2 || got[1] != computes.MinNodesNote {
		t.Errorf("warnings %q", got)
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := s.ws + "/computes/abc"
	s.want(412, "PUT", path, v1Body, "If-Match: *")
	made := s.want(201, "PUT", path, v1Body, "If-None-Match: *")
	s.want(412, "PUT", path, v1Body, "If-None-Match: *")
	tag := made.header.Get("ETag")
	s.settle("abc") // a status is not a change of the wish
	if a := s.want(200, "GET", path, ""); a.header.Get("ETag") != tag {
		t.Errorf("the ETag went from %s to %s with the status", tag, a.header.Get("ETag"))
	}
	s.want(200, "PATCH", path, `{"tags":{"a":"b"}}`, "If-Match: "+tag)
	s.want(412, "PATCH", path, `{"tags":{"a":"c"}}`, "If-Match: "+tag)
	s.want(412, "DELETE", path, "", "If-Match: "+tag)
	s.want(204, "DELETE", s.ws+"/computes/nope", "", "If-Match: "+tag)
}

func TestRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.want(201, "PUT", s.ws+"/computes/abc", v1Body)
	loc := s.sub + "/providers/Microsoft.MachineLearningServices/locations/westus"
	for name, c := range map[string]struct {
		status             int
		method, path, body string
		code               string
	}{
		"subscriptions":                  {200, "GET", "/subscriptions?api-version=2022-12-01", "", ""},
		"one subscription":               {200, "GET", s.sub, "", ""},
		"tenants":                        {200, "GET", "/tenants", "", ""},
		"locations":                      {200, "GET", s.sub + "/locations", "", ""},
		"groups":                         {200, "GET", s.sub + "/resourcegroups", "", ""},
		"one group, in another case":     {200, "GET", s.sub + "/resourcegroups/EBB", "", ""},
		"whether a group is there":       {204, "HEAD", s.sub + "/resourcegroups/ebb", "", ""},
		"a group that is not there":      {404, "GET", s.sub + "/resourcegroups/other", "", "ResourceGroupNotFound"},
		"making a group":                 {400, "PUT", s.sub + "/resourcegroups/other", "{}", "LocationRequired"},
		"the provider":                   {200, "GET", s.sub + "/providers/microsoft.machinelearningservices", "", ""},
		"all providers":                  {200, "GET", s.sub + "/providers", "", ""},
		"registering the provider":       {200, "POST", s.sub + "/providers/Microsoft.MachineLearningServices/register", "", ""},
		"another provider":               {404, "GET", s.sub + "/providers/Microsoft.Banana", "", "InvalidResourceNamespace"},
		"operations of the provider":     {200, "GET", "/providers/Microsoft.MachineLearningServices/operations", "", ""},
		"a bad filter":                   {400, "GET", s.sub + "/resources?$filter=name%20lt%20'x'", "", "InvalidFilterInQueryString"},
		"workspaces of a subscription":   {200, "GET", s.sub + "/providers/Microsoft.MachineLearningServices/workspaces", "", ""},
		"a workspace that is not there":  {404, "GET", s.ws + "2", "", "ResourceNotFound"},
		"making a workspace":             {400, "PUT", s.ws + "2", "{}", "LocationRequired"},
		"doubled slashes":                {200, "GET", "//" + strings.ReplaceAll(s.ws, "/", "//"), "", ""},
		"a compute in capitals":          {200, "GET", strings.ToUpper(s.ws + "/computes/abc"), "", ""},
		"a PUT that is no JSON":          {400, "PUT", s.ws + "/computes/new", `{"a":`, "InvalidRequestContent"},
		"a PUT that is a list":           {400, "PUT", s.ws + "/computes/new", `[]`, "InvalidRequestContent"},
		"a PUT without a body":           {400, "PUT", s.ws + "/computes/new", ``, "InvalidRequestContent"},
		"a PUT with a reserved name":     {400, "PUT", s.ws + "/computes/local", v1Body, "InvalidResourceName"},
		"a compute of another type":      {400, "PUT", s.ws + "/computes/new", `{"properties":{"computeType":"AKS"}}`, "NotImplemented"},
		"a resize without a size":        {400, "POST", s.ws + "/computes/abc/resize", `{}`, "InvalidPropertyValue"},
		"resizing a cluster":             {400, "POST", s.ws + "/computes/abc/resize", `{"targetVMSize":"Standard_NC6"}`, "UserError"},
		"sizes to resize a cluster to":   {400, "POST", s.ws + "/computes/abc/getAllowedVmSizesForResize", ``, "UserError"},
		"a cluster's single sign-on":     {400, "POST", s.ws + "/computes/abc/enableSso", `{"enableSSO":true}`, "UserError"},
		"custom services of a cluster":   {400, "POST", s.ws + "/computes/abc/customServices", `[]`, "UserError"},
		"a compute in no workspace":      {404, "PUT", s.ws + "2/computes/new", v1Body, "ResourceNotFound"},
		"PATCH of nothing":               {404, "PATCH", s.ws + "/computes/new", `{}`, "ResourceNotFound"},
		"nodes":                          {200, "POST", s.ws + "/computes/abc/listNodes" + v1, "", ""},
		"nodes of nothing":               {404, "POST", s.ws + "/computes/new/listNodes", "", "ResourceNotFound"},
		"starting a cluster":             {400, "POST", s.ws + "/computes/abc/start", "", "UserError"},
		"keys of a cluster":              {400, "POST", s.ws + "/computes/abc/listKeys", "", "UserError"},
		"detaching a cluster":            {400, "DELETE", s.ws + "/computes/abc?underlyingResourceAction=Detach", "", "UserError"},
		"a method there is not":          {405, "POST", s.ws + "/computes/abc", "{}", "MethodNotAllowed"},
		"an operation that is not there": {404, "GET", loc + "/mfeOperationsStatus/nope", "", "OperationNotFound"},
		"quotas that are no list":        {400, "POST", loc + "/updateQuotas", `{"value":{}}`, "InvalidRequestContent"},
		"no quotas":                      {400, "POST", loc + "/updateQuotas", `{}`, "InvalidPropertyValue"},
		"sizes of no region":             {400, "GET", strings.Replace(loc, "westus", "atlantis", 1) + "/vmSizes", "", "LocationNotAvailableForResourceType"},
		"a compute instance's name":      {200, "POST", s.ws + "/checkComputeNameAvailability", `{"Name":"ci1","Type":"Microsoft.BatchAI/DataScienceInstance"}`, ""},
		"usages of Compute":              {200, "GET", s.sub + "/providers/Microsoft.Compute/locations/westus2/usages", "", ""},
		"a lock of no level":             {400, "PUT", s.ws + "/providers/Microsoft.Authorization/locks/l", "{}", "LockLevelNotSupported"},
		"role assignments":               {200, "GET", s.sub + "/providers/Microsoft.Authorization/roleAssignments", "", ""},
		"a network":                      {400, "PUT", s.sub + "/resourceGroups/ebb/providers/Microsoft.Network/virtualNetworks/v", "{}", "LocationRequired"},
		"an identity":                    {404, "GET", s.sub + "/resourceGroups/ebb/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i", "", "ResourceNotFound"},
		"an online endpoint":             {400, "GET", s.ws + "/onlineEndpoints/e", "", "NotImplemented"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := s.ask(c.method, c.path, c.body)
			if a.status != c.status || c.code != "" && at(a.body, "error.code") != c.code {
				t.Fatalf("%s %s = %d %.300s; want %d %s", c.method, c.path, a.status, a.raw, c.status, c.code)
			}
			if a.status >= 400 {
				if _, ok := at(a.body, "error.details").([]any); !ok || at(a.body, "error.message") == "" {
					t.Errorf("SDK v1 cannot show %s", a.raw)
				}
			}
			if c.code == "NotImplemented" && !strings.Contains(a.raw, "art of Ebb yet") {
				t.Errorf("the feature is not named: %s", a.raw)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, path := range []string{"/subscriptions", s.ws, "/rp/workspaces" + s.ws + "/computes", s.sub + "/providers/Microsoft.MachineLearningServices/locations/westus/usages"} {
		s.want(401, "GET", path, "", "Authorization: Bearer other")
	}
	s.want(200, "GET", "/discovery", "", "Authorization: none")
}

// TestWorkspaceOfSDKv1 is what SDK v1 reads of subscriptions, workspaces and discovery.
func TestWorkspaceOfSDKv1(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	subs := s.want(200, "GET", "/subscriptions?api-version=2022-12-01", "")
	first, _ := subs.body["value"].([]any)[0].(map[string]any)
	for _, k := range []string{"id", "subscriptionId", "displayName", "tenantId", "state"} {
		if first[k] == nil {
			t.Errorf("a subscription has no %s: %s", k, subs.raw)
		}
	}
	for _, prefix := range []string{"", "/rp/workspaces"} {
		ws := s.want(200, "GET", prefix+s.ws+"?api-version=2022-05-01", "")
		for _, path := range []string{"id", "name", "location", "properties.workspaceId", "properties.discoveryUrl"} {
			if at(ws.body, path) == nil {
				t.Errorf("a workspace has no %s: %s", path, ws.raw)
			}
		}
		if at(ws.body, "properties.discoveryUrl") != "https://127.0.0.1:8443/discovery" {
			t.Errorf("discoveryUrl is %v", at(ws.body, "properties.discoveryUrl"))
		}
	}
	for host, want := range map[string]map[string]string{
		"127.0.0.1:8443":             {"api": "https://127.0.0.1:8443", "studio": "https://127.0.0.1:8443"},
		"northeurope.api.azureml.ms": {"api": "https://northeurope.api.azureml.ms", "studio": "https://ml.azure.com"},
	} {
		d := s.want(200, "GET", "/discovery", "", "Host: "+host)
		for _, k := range []string{"api", "history", "experimentation", "hyperdrive", "modelmanagement", "studio"} {
			if d.body[k] == nil {
				t.Errorf("discovery lacks %s, which SDK v1 reads", k)
			}
		}
		for k, v := range want {
			if d.body[k] != v {
				t.Errorf("discovery on %s: %s is %v, want %s", host, k, d.body[k], v)
			}
		}
	}
	list := s.want(200, "GET", s.sub+"/resources?$filter=resourceType%20eq%20%27Microsoft.MachineLearningServices%2Fworkspaces%27&api-version=2025-04-01", "")
	if v := list.body["value"].([]any); len(v) != 1 || v[0].(map[string]any)["id"] != s.ws {
		t.Errorf("resources: %s", list.raw)
	}
	if other := s.want(200, "GET", s.sub+"/resources?$filter=resourceType%20eq%20%27Microsoft.Banana%2Ftrees%27", ""); len(other.body["value"].([]any)) != 0 {
		t.Errorf("resources of another type: %s", other.raw)
	}
}

// TestOldAndNew: the same answer has other keys before and after 2020.
func TestOldAndNew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	loc := s.sub + "/providers/Microsoft.MachineLearningServices/locations/westus"
	sizes, ok := s.want(200, "GET", loc+"/vmSizes"+v1, "").body["amlCompute"].([]any)
	if !ok || len(sizes) < 1000 {
		t.Fatalf("%d sizes under amlCompute", len(sizes))
	}
	for _, k := range []string{"name", "vCPUs", "gpus", "memoryGB", "maxResourceVolumeMB"} {
		if sizes[0].(map[string]any)[k] == nil {
			t.Errorf("a size lacks %s, which SDK v1 reads", k)
		}
	}
	if v, ok := s.want(200, "GET", loc+"/vmSizes?api-version=2024-04-01", "").body["value"].([]any); !ok || len(v) != len(sizes) {
		t.Errorf("%d sizes under value, %d under amlCompute", len(v), len(sizes))
	}
	wish := `{"value":[{"id":"` + s.ws + `/quotas/standardDv2Family","type":"Microsoft.MachineLearningServices/workspaces/quotas","limit":50,"location":"westus","unit":"Count"}]}`
	for version, want := range map[string]string{"2020-02-02": "success", "2024-04-01": "Success"} {
		a := s.want(200, "POST", loc+"/updateQuotas?api-version="+version, wish)
		if got := a.body["value"].([]any)[0].(map[string]any)["status"]; got != want {
			t.Errorf("%s: status %v, want %s", version, got, want)
		}
	}
	all := s.want(200, "GET", loc+"/quotas"+v1, "").raw
	if !strings.Contains(all, s.ws+"/quotas/Standard_Dv2_Family_Cluster_Dedicated_vCPUs") {
		t.Error("the workspace's quota is not listed")
	}
	for expand, want := range map[string]bool{"True": true, "False": false} {
		s.ask("PUT", s.ws+"/computes/abc", v1Body)
		if got := strings.Contains(s.want(200, "GET", loc+"/usages"+v1+"&expandChildren="+expand, "").raw, "/computes/abc/usages/"); got != want {
			t.Errorf("expandChildren=%s: the cluster is listed: %v", expand, got)
		}
	}
}

// TestPagesOfNodes: clients get the next page where they posted for the first.
func TestPagesOfNodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.want(201, "PUT", s.ws+"/computes/abc", v1Body)
	c, _ := s.st.View().Cluster(armid.Key(armid.Compute(s.ws, "abc")))
	const all = 1001
	for i := range all {
		s.commit(row.Put(fleet.Node{ID: fmt.Sprintf("%s-%d", c.Prefix, i), Cluster: c.ID, Number: int64(i), State: fleet.Idle}))
	}
	first := s.want(200, "POST", s.ws+"/computes/abc/listNodes"+v1, "")
	link, _ := first.body["nextLink"].(string)
	rest := s.want(200, "GET", s.local(link), "")
	if n := len(first.body["nodes"].([]any)) + len(rest.body["nodes"].([]any)); n != all || strings.Contains(rest.raw, "nextLink") {
		t.Errorf("%d nodes in two pages, then %v", n, rest.body["nextLink"])
	}
}

// TestInstanceActions is what is asked of a compute instance by addresses of its own.
func TestInstanceActions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ci := s.ws + "/computes/ci1"
	s.want(201, "PUT", ci, `{"properties":{"computeType":"ComputeInstance","properties":{"vmSize":"Standard_DS3_v2"}}}`)
	s.settle("ci1")
	for _, action := range []string{"start", "restart", "stop"} {
		a := s.want(202, "POST", ci+"/"+action, "")
		if a.raw != "" || a.header.Get("Azure-AsyncOperation") == "" || a.header.Get("Location") == "" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %v %q", action, a.header, a.raw)
		}
		s.settle("ci1")
		if op := s.want(200, "GET", s.local(a.header.Get("Azure-AsyncOperation")), ""); at(op.body, "status") != "Succeeded" {
			t.Errorf("%s: %s", action, op.raw)
		}
	}
	s.want(202, "POST", ci+"/resize", `{"targetVMSize":"Standard_D2_v2"}`)
	s.want(200, "POST", ci+"/updateIdleShutdownSetting", `{"idleTimeBeforeShutdown":"PT45M"}`)
	s.want(200, "POST", ci+"/enableSso", `{"EnableSSO":false}`) // as SDK v1 writes it
	got := s.want(200, "GET", ci, "")
	for path, want := range map[string]any{"vmSize": "STANDARD_D2_V2", "idleTimeBeforeShutdown": "PT45M", "enableSSO": false, "state": "Stopped"} {
		if is := at(got.body, "properties.properties."+path); is != want {
			t.Errorf("%s is %v, want %v", path, is, want)
		}
	}
	if sizes := s.want(200, "POST", ci+"/getAllowedVmSizesForResize", "").body["value"].([]any); len(sizes) < 100 {
		t.Errorf("%d sizes to choose from", len(sizes))
	}
	for action, body := range map[string]string{"listKeys": "", "customServices": "[]", "updateDataMounts": "[]", "resize": `{"targetVMSize":"huge"}`, "updateIdleShutdownSetting": "{}"} {
		if a := s.want(400, "POST", ci+"/"+action, body); at(a.body, "error.message") == "" {
			t.Errorf("%s: %s", action, a.raw)
		}
	}
	s.want(202, "POST", ci+"/start", "")
	if a := s.want(409, "POST", ci+"/resize", `{"targetVMSize":"Standard_D2_v2"}`); !strings.Contains(a.raw, "must be stopped") {
		t.Errorf("resized while on: %s", a.raw)
	}
	for name, want := range map[string]any{"ci1": false, "ci2": true} {
		if a := s.want(200, "POST", s.ws+"/checkComputeNameAvailability", `{"Name":"`+name+`"}`); a.body["nameAvailable"] != want {
			t.Errorf("the name %s: %s", name, a.raw)
		}
	}
}
