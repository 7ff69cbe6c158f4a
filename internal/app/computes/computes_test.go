package computes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// world is a server's worth of services on a store in memory.
type world struct {
	t     *testing.T
	st    *apptest.Store
	s     *computes.Service
	owner access.Principal
	sub   string
	ws    string
}

func newWorld(t *testing.T) *world {
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
	return &world{
		t: t, st: st, sub: c.SubscriptionID, ws: armid.Workspace(c.SubscriptionID, c.ResourceGroup, c.Workspace),
		s:     &computes.Service{Store: st, Workspaces: ws, Now: now, NewID: newID, Log: log},
		owner: access.Principal{ID: c.ObjectID, Name: "ebb", Kind: access.Application},
	}
}

// parse reads JSON as the API does: numbers stay as written.
func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

func (w *world) request(name, body string) computes.Request {
	return computes.Request{Workspace: w.ws, Name: name, Body: parse(w.t, body)}
}

func (w *world) put(name, body string) (computes.Result, error) {
	return w.s.Put(w.t.Context(), w.owner, w.request(name, body))
}

func (w *world) patch(name, body string) (computes.Result, error) {
	return w.s.Patch(w.t.Context(), w.owner, w.request(name, body))
}

func (w *world) mustPut(name, body string) computes.Result {
	w.t.Helper()
	res, err := w.put(name, body)
	if err != nil {
		w.t.Fatalf("PUT %s: %v", body, err)
	}
	return res
}

func (w *world) mustPatch(name, body string) computes.Result {
	w.t.Helper()
	res, err := w.patch(name, body)
	if err != nil {
		w.t.Fatalf("PATCH %s: %v", body, err)
	}
	return res
}

func (w *world) get(name string) map[string]any {
	w.t.Helper()
	doc, err := w.s.Get(w.t.Context(), w.owner, w.ws, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc.Body
}

func (w *world) commit(changes ...row.Change) {
	w.t.Helper()
	if _, err := w.st.Commit(w.t.Context(), changes...); err != nil {
		w.t.Fatal(err)
	}
}

// settle does what control does: takes the wish in.
func (w *world) settle(name string) {
	w.t.Helper()
	c := w.cluster(name)
	w.commit(row.Put(fleet.Status{ID: c.ID, Observed: c.Generation, Provisioning: operation.Succeeded, Allocation: fleet.Steady, Since: c.Created, Target: c.Min}))
}

func (w *world) cluster(name string) fleet.Cluster {
	w.t.Helper()
	c, ok := w.st.View().Cluster(armid.Key(armid.Compute(w.ws, name)))
	if !ok {
		w.t.Fatalf("there is no cluster %s", name)
	}
	return c
}

// at reads a value by its path, as "properties.properties.vmSize".
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

// body is a PUT of SDK v1 with more inner properties, each followed by a comma.
func body(inner string) string {
	return `{"location":"westus2","properties":{"computeType":"AmlCompute","properties":{` + inner + `"scaleSettings":{"minNodeCount":0,"maxNodeCount":4,"nodeIdleTimeBeforeScaleDown":"PT1800S"}}}}`
}

func TestPutMakesACluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	res := w.mustPut("Cpu-Cluster", body(`"vmSize":"Standard_D2_v2","vmPriority":"lowpriority","remoteLoginPortPublicAccess":"NotSpecified","new":{"a":[1,2.50]},`))
	if !res.Created || res.Operation == "" || res.Region != "westus2" || len(res.Warnings) != 0 {
		t.Errorf("Put = %+v", res)
	}
	for path, want := range map[string]any{
		"id": w.ws + "/computes/Cpu-Cluster", "name": "Cpu-Cluster", "type": "Microsoft.MachineLearningServices/workspaces/computes", "location": "westus2",
		"properties.computeType": "AmlCompute", "properties.provisioningState": "Creating", "properties.computeLocation": "westus2", "properties.isAttachedCompute": false,
		"properties.properties.vmSize": "STANDARD_D2_V2", "properties.properties.vmPriority": "LowPriority", "properties.properties.osType": "Linux",
		"properties.properties.allocationState": "Resizing", "properties.properties.remoteLoginPortPublicAccess": "Enabled", "properties.properties.enableNodePublicIp": true,
		"properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown": "PT1800S", "systemData.createdByType": "Application",
	} {
		if got := at(res.Body, path); got != want {
			t.Errorf("%s = %v, want %v", path, got, want)
		}
	}
	if raw, _ := json.Marshal(at(res.Body, "properties.properties.new")); string(raw) != `{"a":[1,2.50]}` {
		t.Errorf("an unknown property became %s", raw)
	}
	c := w.cluster("cpu-cluster")
	if c.Size.Name != "STANDARD_D2_V2" || c.Size.VCPUs != 2 || !c.LowPriority || c.Min != 0 || c.Max != 4 || c.IdleAfter != 30*time.Minute || c.Generation != 1 || c.Pool != "local" || c.Prefix == "" || c.Region != "westus2" {
		t.Errorf("cluster %+v", c)
	}
	op, err := w.s.Operation(t.Context(), w.owner, strings.ToUpper(w.sub), res.Operation)
	if err != nil || op.Status != operation.InProgress || op.Generation != 1 || op.Target != c.ID {
		t.Errorf("operation %+v, %v", op, err)
	}
	if n := len(w.st.Rows(row.Event)); n != 2 {
		t.Errorf("%d events, want the seed's and this one's", n)
	}
	for _, r := range w.st.Rows(row.Event) {
		if d := r.(row.Document); d.Parent == c.ID && d.Sort != row.SortTime(d.Created) {
			t.Errorf("the event's place is %q, want it among those of others of its time", d.Sort)
		}
	}
}

// TestKeysOfSDKv1 is the list of wire/sdk-v1.md §2, "Compute GET: required keys".
func TestKeysOfSDKv1(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPut("c-1", body(""))
	got := w.get("C-1")
	for _, path := range []string{
		"id", "name", "location", "tags", "properties.computeType", "properties.description", "properties.provisioningState", "properties.provisioningErrors", "properties.resourceId",
		"properties.isAttachedCompute", "properties.createdOn", "properties.modifiedOn", "properties.properties.vmSize", "properties.properties.vmPriority",
		"properties.properties.scaleSettings.minNodeCount", "properties.properties.scaleSettings.maxNodeCount", "properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown",
		"properties.properties.subnet", "properties.properties.allocationState", "properties.properties.allocationStateTransitionTime", "properties.properties.errors",
		"properties.properties.currentNodeCount", "properties.properties.targetNodeCount",
	} {
		parent, key := path[:max(0, strings.LastIndex(path, "."))], path[strings.LastIndex(path, ".")+1:]
		o := got
		if parent != "" {
			o, _ = at(got, parent).(map[string]any)
		}
		if _, ok := o[key]; !ok {
			t.Errorf("%s is missing", path)
		}
	}
	if v := at(got, "properties.properties.vmSize"); v != "STANDARD_DS3_V2" {
		t.Errorf("the default size is %v", v)
	}
	if _, ok := got["nextLink"]; ok {
		t.Error("a compute has a nextLink")
	}
}

func TestIdleTimes(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]struct {
		shown string
		idle  time.Duration
	}{
		``: {"PT120S", 2 * time.Minute}, `,"nodeIdleTimeBeforeScaleDown":null`: {"PT120S", 2 * time.Minute}, `,"nodeIdleTimeBeforeScaleDown":""`: {"PT0S", 0},
		`,"nodeIdleTimeBeforeScaleDown":1800`: {"PT1800S", 30 * time.Minute}, `,"nodeIdleTimeBeforeScaleDown":"PT5M"`: {"PT5M", 5 * time.Minute},
		`,"nodeIdleTimeBeforeScaleDown":"P1DT1H1.5S"`: {"P1DT1H1.5S", 25*time.Hour + time.Second},
	} {
		w := newWorld(t)
		res, err := w.put("abc", `{"properties":{"computeType":"amlcompute","properties":{"scaleSettings":{"maxNodeCount":1`+given+`}}}}`)
		if err != nil {
			t.Errorf("%s: %v", given, err)
			continue
		}
		if got := at(res.Body, "properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown"); got != want.shown || w.cluster("abc").IdleAfter != want.idle {
			t.Errorf("%s: shown as %v, idle %s; want %+v", given, got, w.cluster("abc").IdleAfter, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	res := w.mustPut("gpu", `{"properties":{"computeType":"AmlCompute","properties":{"vmSize":"Standard_NC6","scaleSettings":{"minNodeCount":1,"maxNodeCount":1}}}}`)
	if len(res.Warnings) != 2 || !strings.Contains(res.Warnings[0], "retired") || res.Warnings[1] != computes.MinNodesNote {
		t.Errorf("warnings %q, want the retired size's and the note on cost", res.Warnings)
	}
}

const (
	subnet = "/subscriptions/s/resourcegroups/v/providers/microsoft.network/virtualnetworks/n/Subnets/default"
	uai    = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
)

func TestPutRefuses(t *testing.T) {
	t.Parallel()
	scale := func(s string) string {
		return `{"properties":{"computeType":"AmlCompute","properties":{"scaleSettings":` + s + `}}}`
	}
	for name, c := range map[string]struct{ compute, body, code, says string }{
		"no properties":                  {"abc", `{}`, "InvalidPropertyValue", "'properties' is required"},
		"properties that are no object":  {"abc", `{"properties":7}`, "InvalidPropertyValue", "must be an object"},
		"no type":                        {"abc", `{"properties":{}}`, "InvalidPropertyValue", "computeType"},
		"a type not built yet":           {"abc", `{"properties":{"computeType":"kubernetes"}}`, "NotImplemented", "Kubernetes"},
		"a type nobody has":              {"abc", `{"properties":{"computeType":"Banana"}}`, "InvalidPropertyValue", "Banana"},
		"no scale settings":              {"abc", `{"properties":{"computeType":"AmlCompute"}}`, "InvalidPropertyValue", "maxNodeCount"},
		"no maximum":                     {"abc", scale(`{"minNodeCount":1}`), "InvalidPropertyValue", "maxNodeCount"},
		"min above max":                  {"abc", scale(`{"minNodeCount":3,"maxNodeCount":2}`), "InvalidPropertyValue", "greater than or equal"},
		"a negative minimum":             {"abc", scale(`{"minNodeCount":-1,"maxNodeCount":2}`), "InvalidPropertyValue", "-1"},
		"a maximum beyond all measure":   {"abc", scale(`{"maxNodeCount":1e300}`), "InvalidPropertyValue", "whole number"},
		"half a node":                    {"abc", scale(`{"maxNodeCount":1.5}`), "InvalidPropertyValue", "whole number"},
		"a word for a number":            {"abc", scale(`{"maxNodeCount":"four"}`), "InvalidPropertyValue", "whole number"},
		"a bad idle time":                {"abc", scale(`{"maxNodeCount":1,"nodeIdleTimeBeforeScaleDown":"soon"}`), "InvalidPropertyValue", "soon"},
		"an idle time in digits":         {"abc", scale(`{"maxNodeCount":1,"nodeIdleTimeBeforeScaleDown":"120"}`), "InvalidPropertyValue", `"120" is not an ISO 8601 duration`},
		"an idle time of months":         {"abc", scale(`{"maxNodeCount":1,"nodeIdleTimeBeforeScaleDown":"P1M"}`), "InvalidPropertyValue", "P1M"},
		"a negative idle time":           {"abc", scale(`{"maxNodeCount":1,"nodeIdleTimeBeforeScaleDown":-1}`), "InvalidPropertyValue", "-1"},
		"a reserved name":                {"AmlCompute", body(""), "InvalidResourceName", "reserved"},
		"a name with an underscore":      {"a_bc", body(""), "InvalidResourceName", "a_bc"},
		"another name in the body":       {"abc", `{"name":"xyz","properties":{"computeType":"AmlCompute"}}`, "InvalidPropertyValue", "xyz"},
		"no such region":                 {"abc", strings.Replace(body(""), "westus2", "atlantis", 1), "LocationNotAvailableForResourceType", "eastus"},
		"a bad priority":                 {"abc", body(`"vmPriority":"urgent",`), "InvalidPropertyValue", "Dedicated, LowPriority"},
		"a size not to be pre-empted":    {"abc", body(`"vmSize":"Standard_B2s","vmPriority":"LowPriority",`), "UnsupportedVMSizeForLowPriority", "STANDARD_B2S"},
		"both kinds of identity":         {"abc", `{"identity":{"type":"SystemAssigned, UserAssigned"},` + body("")[1:], "InvalidPropertyValue", "not both"},
		"a user under a system identity": {"abc", `{"identity":{"type":"SystemAssigned","userAssignedIdentities":{"` + uai + `a":{}}},` + body("")[1:], "InvalidPropertyValue", "not both"},
		"a user identity without any":    {"abc", `{"identity":{"type":"UserAssigned"},` + body("")[1:], "InvalidPropertyValue", "at least one"},
		"a user identity by name":        {"abc", `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"me":{}}},` + body("")[1:], "InvalidPropertyValue", "'me'"},
		"a subnet by name":               {"abc", body(`"subnet":{"id":"default"},`), "InvalidPropertyValue", "not the id of a subnet"},
		"credentials without a secret":   {"abc", body(`"userAccountCredentials":{"adminUserName":"u"},`), "InvalidPropertyValue", "password or SSH key"},
		"credentials without a name":     {"abc", body(`"userAccountCredentials":{"adminUserPassword":"Abc123"},`), "InvalidPropertyValue", "username"},
		"a weak password":                {"abc", body(`"userAccountCredentials":{"adminUserName":"u","adminUserPassword":"abcdef1"},`), "InvalidPropertyValue", "three of these"},
		"a private key":                  {"abc", body(`"userAccountCredentials":{"adminUserName":"u","adminUserSshPublicKey":"-----BEGIN RSA PRIVATE KEY-----"},`), "InvalidPropertyValue", "private key"},
		"a word for a flag":              {"abc", body(`"enableNodePublicIp":"yes",`), "InvalidPropertyValue", "true or false"},
		"a number for a tag":             {"abc", `{"tags":{"a":1},` + body("")[1:], "InvalidTags", "'a'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			res, err := w.put(c.compute, c.body)
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Code != c.code || !strings.Contains(e.Msg, c.says) || (e.Kind != fault.Invalid && e.Kind != fault.Unsupported) {
				t.Fatalf("PUT %s = %+v, %v; want %s saying %q", c.body, res, err, c.code, c.says)
			}
			if strings.Contains(e.Msg, "abcdef1") {
				t.Errorf("the message has the password: %s", e.Msg)
			}
			if n := len(w.st.Rows(row.Compute)) + len(w.st.Rows(row.Cluster)) + len(w.st.Rows(row.Operation)); n != 0 {
				t.Errorf("%d rows were written all the same", n)
			}
		})
	}
}

func TestUnknownSizeNamesTheSizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.put("abc", body(`"vmSize":"Standard_D2_2",`))
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Code != "InvalidPropertyValue" || !strings.Contains(e.Msg, "STANDARD_D2_V2") || len(e.Details) != 1 || e.Details[0].Code != "SupportedVMSizes" || !strings.Contains(e.Details[0].Msg, ",STANDARD_D2_V2,") {
		t.Errorf("PUT with an unknown size: %v", err)
	}
}

func TestSecretsAreNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	res := w.mustPut("abc", body(`"userAccountCredentials":{"adminUserName":"u","adminUserPassword":"S3cret-pass","adminUserSshPublicKey":"ssh-rsa AAAAB3 me"},`))
	raw, err := json.Marshal(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("S3cret")) || !bytes.Contains(raw, []byte("ssh-rsa AAAAB3 me")) || at(res.Body, "properties.properties.userAccountCredentials.adminUserName") != "u" {
		t.Errorf("answered %s", raw)
	}
	for _, kind := range []row.Kind{row.Compute, row.Event} {
		for _, r := range w.st.Rows(kind) {
			if b := r.(row.Document).Body; bytes.Contains(b, []byte("S3cret")) {
				t.Errorf("kept: %s", b)
			}
		}
	}
	again := w.mustPut("abc", body(`"userAccountCredentials":{"adminUserName":"u"},`)) // what a client read, sent back
	if c := w.cluster("abc"); c.Generation != 1 || again.Created {
		t.Errorf("a PUT of what was read made generation %d", c.Generation)
	}
}

func TestPutAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := body(`"vmSize":"STANDARD_D2_V2","vmPriority":"dedicated","remoteLoginPortPublicAccess":"NotSpecified","subnet":{"id":"` + subnet + `"},`)
	made := w.mustPut("abc", first)
	if v := at(made.Body, "properties.properties.remoteLoginPortPublicAccess"); v != "Disabled" {
		t.Errorf("remote login in a network is %v, want Disabled", v)
	}
	if v := at(made.Body, "properties.properties.subnet.id"); v != "/subscriptions/s/resourceGroups/v/providers/Microsoft.Network/virtualNetworks/n/subnets/default" {
		t.Errorf("the subnet is %v, which SDK v1 cannot cut", v)
	}
	w.settle("abc")
	same := w.mustPut("ABC", first)
	if same.Created || same.Rev != made.Rev || same.Operation == "" || w.cluster("abc").Generation != 1 {
		t.Errorf("the same PUT: created %v, revision %d after %d, operation %q, generation %d", same.Created, same.Rev, made.Rev, same.Operation, w.cluster("abc").Generation)
	}
	if at(same.Body, "properties.provisioningState") != "Succeeded" || same.Body["name"] != "abc" {
		t.Errorf("the same PUT: %v", same.Body)
	}
	more := w.mustPut("abc", strings.Replace(first, `"maxNodeCount":4`, `"maxNodeCount":9`, 1))
	if c := w.cluster("abc"); c.Max != 9 || c.Generation != 2 || more.Rev == made.Rev || at(more.Body, "properties.provisioningState") != "Updating" {
		t.Errorf("a PUT with another maximum: %+v, %v", c, more)
	}
	for _, empty := range []string{`{}`, `{"id":""}`, `{"id":null}`} { // SDK v2 knows only that there is one
		if got := w.mustPut("abc", strings.Replace(first, `{"id":"`+subnet+`"}`, empty, 1)); at(got.Body, "properties.properties.subnet.id") == nil {
			t.Errorf("a PUT with the subnet %s took it away", empty)
		}
	}
	w.mustPut("abc", strings.Replace(first, `"maxNodeCount":4`, `"maxNodeCount":9`, 1))
	for key, value := range map[string]string{
		"vmSize": `"STANDARD_D3_V2"`, "vmPriority": `"LowPriority"`, "osType": `"Windows"`, "remoteLoginPortPublicAccess": `"Enabled"`, "enableNodePublicIp": "false", "isolatedNetwork": "true",
		"userAccountCredentials": `{"adminUserName":"u","adminUserPassword":"S3cret-pass"}`, "subnet": `{"id":"` + subnet + `2"}`,
	} {
		_, err := w.put("abc", body(`"`+key+`":`+value+`,`))
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Code != "PropertyChangeNotAllowed" || e.Target != "properties.properties."+key || strings.Contains(e.Msg, "S3cret") {
			t.Errorf("PUT with another %s: %v", key, err)
		}
	}
	if _, err := w.put("abc", strings.Replace(first, "westus2", "eastus", 1)); !errors.Is(err, fault.Conflict) {
		t.Errorf("PUT with another location: %v", err)
	}
	if c := w.cluster("abc"); c.Max != 9 || c.Size.Name != "STANDARD_D2_V2" {
		t.Errorf("refused PUTs left %+v", c)
	}
	w.settle("abc")
	if _, err := w.put("abc", strings.Replace(first, `"computeType"`, `"provisioningState":"Failed","computeType"`, 1)); !errors.Is(err, fault.Invalid) {
		t.Errorf("a PUT that claims another provisioningState: %v", err)
	}
	if _, err := w.put("abc", strings.Replace(first, `"computeType"`, `"provisioningState":"Succeeded","computeType"`, 1)); err != nil {
		t.Errorf("a PUT with the provisioningState there is: %v", err)
	}
}

// TestPutWhatWasRead: clients that read, change one thing and write it all back
// change that thing alone.
func TestPutWhatWasRead(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]string{
		"a plain cluster":              body(""),
		"one with all there is":        `{"tags":{"a":"b"},"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + uai + `a":{}}},` + body(`"subnet":{"id":"` + subnet + `"},"vmPriority":"LowPriority","userAccountCredentials":{"adminUserName":"u","adminUserSshPublicKey":"ssh-rsa AAAA me"},"isolatedNetwork":true,"x":{"y":null},`)[1:],
		"one with a system's identity": `{"identity":{"type":"SystemAssigned"},` + body("")[1:],
		"one in another region":        strings.Replace(body(""), `"computeType"`, `"computeLocation":"North Europe","description":"d","computeType"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.mustPut("abc", made)
			w.settle("abc")
			text, err := json.Marshal(w.get("abc"))
			if err != nil {
				t.Fatal(err)
			}
			res := w.mustPut("abc", string(text))
			if after, _ := json.Marshal(res.Body); w.cluster("abc").Generation != 1 || string(after) != string(text) {
				t.Errorf("writing back what was read made generation %d of it:\n%s\n%s", w.cluster("abc").Generation, text, after)
			}
			w.mustPut("abc", strings.Replace(string(text), `"maxNodeCount":4`, `"maxNodeCount":5`, 1))
			if c := w.cluster("abc"); c.Max != 5 || c.Generation != 2 {
				t.Errorf("a new maximum made %+v", c)
			}
		})
	}
}

// TestDisableLocalAuth: SDK v2 sends it with every change of a cluster without a
// user for SSH, where both values mean the same.
func TestDisableLocalAuth(t *testing.T) {
	t.Parallel()
	with := func(b, value string) string {
		return strings.Replace(strings.Replace(b, `"computeType"`, `"disableLocalAuth":`+value+`,"computeType"`, 1), `"maxNodeCount":4`, `"maxNodeCount":9`, 1)
	}
	for name, c := range map[string]struct {
		made, sent string
		ok         bool
	}{
		"nobody can log in":                    {body(""), with(body(""), "true"), true},
		"nobody can log in, the other way":     {with(body(""), "true"), with(body(""), "false"), true},
		"nobody can log in, and it is no flag": {body(""), with(body(""), `"yes"`), false},
		"somebody can log in":                  {body(`"userAccountCredentials":{"adminUserName":"u","adminUserPassword":"S3cret-pass"},`), with(body(""), "true"), false},
	} {
		w := newWorld(t)
		was := at(w.mustPut("abc", c.made).Body, "properties.disableLocalAuth")
		w.settle("abc")
		res, err := w.put("abc", c.sent)
		if e, ok := errors.AsType[*fault.Error](err); !c.ok && (!ok || e.Target != "properties.disableLocalAuth") {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && (err != nil || w.cluster("abc").Max != 9 || at(res.Body, "properties.disableLocalAuth") != was) {
			t.Errorf("%s: %v, %v, at first %v", name, err, res.Body, was)
		}
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPut("abc", `{"tags":{"a":"b"},`+body(`"extra":1,`)[1:])
	w.settle("abc")

	res := w.mustPatch("abc", `{"properties":{"properties":{"scaleSettings":{"maxNodeCount":2}}}}`)
	if c := w.cluster("abc"); c.Max != 2 || c.Min != 0 || c.IdleAfter != 30*time.Minute || c.Generation != 2 || res.Operation == "" {
		t.Errorf("after a PATCH of the maximum alone: %+v", c)
	}
	if at(res.Body, "tags.a") != "b" || at(res.Body, "properties.properties.extra") != json.Number("1") || at(res.Body, "properties.provisioningState") != "Updating" {
		t.Errorf("after a PATCH of the maximum alone: %v", res.Body)
	}
	same := w.mustPatch("abc", `{"location":"West US 2","properties":{"computeType":"AmlCompute","properties":{"scaleSettings":{"minNodeCount":0,"maxNodeCount":2,"nodeIdleTimeBeforeScaleDown":"PT1800S"}}}}`)
	if same.Operation != "" || w.cluster("abc").Generation != 2 || same.Rev != res.Rev {
		t.Errorf("a PATCH that changes nothing made an operation %q or a generation %d", same.Operation, w.cluster("abc").Generation)
	}
	tags := w.mustPatch("abc", `{"tags":{"a":null,"c":"d"}}`)
	if got, _ := json.Marshal(tags.Body["tags"]); string(got) != `{"c":"d"}` {
		t.Errorf("tags %s", got)
	}
	for body, code := range map[string]string{
		`{"properties":{"properties":{"vmSize":"STANDARD_D3_V2"}}}`:             "PropertyChangeNotAllowed",
		`{"properties":{"properties":{"scaleSettings":{"minNodeCount":3}}}}`:    "InvalidPropertyValue",
		`{"properties":{"properties":{"scaleSettings":{"maxNodeCount":null}}}}`: "InvalidPropertyValue",
		`{"properties":{"properties":[]}}`:                                      "InvalidPropertyValue",
		`{"properties":{"description":"other"}}`:                                "PropertyChangeNotAllowed",
		`{"properties":{"scaleSettings":{"maxNodeCount":1}}}`:                   "InvalidPropertyLocation",
		`{"properties":{"properties":{"maxNodeCount":1}}}`:                      "InvalidPropertyLocation",
		`{"scaleSettings":{"maxNodeCount":1}}`:                                  "InvalidPropertyLocation",
		`{"properties":{"tags":{"a":"b"}}}`:                                     "InvalidPropertyLocation",
		`{"properties":{"properties":{"scaleSettings":{"vmSize":"x"}}}}`:        "InvalidPropertyLocation",
	} {
		_, err := w.patch("abc", body)
		if e, ok := errors.AsType[*fault.Error](err); !ok || e.Code != code {
			t.Errorf("PATCH %s: %v, want %s", body, err, code)
		}
	}
	if _, err := w.patch("nope", `{}`); !errors.Is(err, fault.NotFound) {
		t.Errorf("PATCH of nothing: %v", err)
	}
}

// TestIdentity is the life of a cluster's identity as SDK v1 leads it.
func TestIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPut("abc", body(""))
	users := func(res computes.Result) map[string]any {
		m, _ := at(res.Body, "identity.userAssignedIdentities").(map[string]any)
		return m
	}
	if _, ok := w.get("abc")["identity"]; ok {
		t.Error("a cluster made without an identity shows one")
	}
	system := w.mustPatch("abc", `{"location":"westus2","properties":{},"identity":{"type":"systemassigned"}}`)
	if at(system.Body, "identity.type") != "SystemAssigned" || !armid.IsGUID(at(system.Body, "identity.principalId").(string)) || !armid.IsGUID(at(system.Body, "identity.tenantId").(string)) {
		t.Errorf("system-assigned: %v", system.Body["identity"])
	}
	if again := w.get("abc"); at(again, "identity.principalId") != at(system.Body, "identity.principalId") {
		t.Error("the principal of a cluster changes")
	}
	one := w.mustPatch("abc", `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+uai+`a":{}}}}`)
	if at(one.Body, "identity.type") != "UserAssigned" || len(users(one)) != 1 || at(one.Body, "identity.principalId") != nil {
		t.Errorf("another type replaces: %v", one.Body["identity"])
	}
	two := w.mustPatch("abc", `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+uai+`b":{}}}}`)
	if len(users(two)) != 2 || at(users(two)[uai+"a"].(map[string]any), "clientId") != at(users(one)[uai+"a"].(map[string]any), "clientId") {
		t.Errorf("a second user identity joins: %v", two.Body["identity"])
	}
	less := w.mustPatch("abc", `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+strings.ToUpper(uai)+`A":null}}}`)
	if _, ok := users(less)[uai+"b"]; !ok || len(users(less)) != 1 {
		t.Errorf("null removes that one, in any case: %v", less.Body["identity"])
	}
	none := w.mustPatch("abc", `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+uai+`b":null}}}`)
	if got, _ := json.Marshal(none.Body["identity"]); string(got) != `{"type":"None"}` {
		t.Errorf("after the last one left: %s", got)
	}
	w.mustPatch("abc", `{"identity":{"type":"SystemAssigned"}}`)
	gone := w.mustPatch("abc", `{"identity":{"type":"None"}}`)
	if got, _ := json.Marshal(gone.Body["identity"]); string(got) != `{"type":"None"}` || gone.Operation == "" {
		t.Errorf("after None: %s", got)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	no := fault.New(fault.Precondition, "", "The ETag is another.")
	req := w.request("abc", body(""))
	req.Match = func(exists bool, rev int64) error {
		if exists || rev != 0 {
			t.Errorf("asked about what is not there: %v, %d", exists, rev)
		}
		return no
	}
	if _, err := w.s.Put(t.Context(), w.owner, req); !errors.Is(err, fault.Precondition) && !errors.Is(err, fault.Conflict) {
		t.Errorf("PUT whose condition does not hold: %v", err)
	}
	if n := len(w.st.Rows(row.Cluster)); n != 0 {
		t.Error("it was made all the same")
	}
}

// TestLostRace: a change between the look and the commit is looked at again.
func TestLostRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPut("abc", body(""))
	w.st.Before = func([]row.Change) error {
		w.st.Before = nil
		_, err := w.patch("abc", `{"tags":{"first":"yes"}}`)
		return err
	}
	res := w.mustPatch("abc", `{"properties":{"properties":{"scaleSettings":{"maxNodeCount":7}}}}`)
	if at(res.Body, "tags.first") != "yes" || w.cluster("abc").Max != 7 || w.cluster("abc").Generation != 3 {
		t.Errorf("one of two changes is lost: %v, %+v", res.Body, w.cluster("abc"))
	}
	w.st.Before = func([]row.Change) error { return fault.New(fault.Precondition, "", "Always too late.") }
	if _, err := w.patch("abc", `{"tags":{"x":"y"}}`); !errors.Is(err, fault.Conflict) {
		t.Errorf("a change that is always overtaken: %v, want a Conflict", err)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	del := func(name, action string) (computes.Result, error) {
		return w.s.Delete(t.Context(), w.owner, w.ws, name, action, nil)
	}
	w.mustPut("abc", body(""))
	if res, err := del("nope", "Delete"); err != nil || res.Operation != "" {
		t.Errorf("deleting nothing: %+v, %v", res, err)
	}
	for _, action := range []string{"Detach", "Explode"} {
		if _, err := del("abc", action); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", action, err)
		}
	}
	res, err := del("ABC", "delete")
	if err != nil || res.Operation == "" {
		t.Fatalf("Delete = %+v, %v", res, err)
	}
	if c := w.cluster("abc"); !c.Deleting || c.Generation != 2 || at(w.get("abc"), "properties.provisioningState") != "Deleting" {
		t.Errorf("cluster %+v", c)
	}
	again, err := del("abc", "")
	if err != nil || again.Operation == "" || again.Operation == res.Operation || w.cluster("abc").Generation != 2 {
		t.Errorf("deleting again: %+v, %v, generation %d", again, err, w.cluster("abc").Generation)
	}
	for name, err := range map[string]error{"PUT": second(w.put("abc", body(""))), "PATCH": second(w.patch("abc", `{}`))} {
		if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Conflict || !strings.Contains(e.Msg, "404") {
			t.Errorf("%s while deleting: %v, want a Conflict that says when to try again", name, err)
		}
	}
	id := w.cluster("abc").ID // what control does at the end
	old := w.cluster("abc").Prefix
	w.commit(row.Drop(row.Key{Kind: row.Cluster, ID: id}), row.Drop(row.Key{Kind: row.ClusterStatus, ID: id}), row.Drop(row.Key{Kind: row.Compute, ID: id}))
	if _, err := w.s.Get(t.Context(), w.owner, w.ws, "abc"); !errors.Is(err, fault.NotFound) {
		t.Errorf("Get of what is gone: %v", err)
	}
	if res := w.mustPut("abc", body("")); !res.Created || w.cluster("abc").Prefix == old {
		t.Errorf("made again: %+v, prefix %s as before", res, old)
	}
}

func second[T any](_ T, err error) error { return err }

func TestNodesAndCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPut("abc", body(`"vmSize":"STANDARD_D2_V2",`))
	c := w.cluster("abc")
	run := queue.Run{ID: "r1", Name: "exp_1", Workspace: c.Workspace, Cluster: c.ID, Nodes: 1}
	w.commit(
		row.Put(fleet.Node{ID: c.Prefix + "-2", Cluster: c.ID, Number: 2, State: fleet.Launching}),
		row.Put(fleet.Node{ID: c.Prefix + "-1", Cluster: c.ID, Number: 1, State: fleet.Busy, Attempt: "r1.1", Warnings: []string{"No GPU."}}),
		row.Put(fleet.Node{ID: c.Prefix + "-3", Cluster: c.ID, Number: 3, State: fleet.Draining}),
		row.Put(run), row.Put(queue.Status{ID: "r1", State: queue.Running}), row.Put(queue.Attempt{ID: "r1.1", Run: "r1", N: 1, Cluster: c.ID, Phase: queue.InRunning}),
		row.Put(fleet.Status{ID: c.ID, Observed: 1, Provisioning: operation.Succeeded, Allocation: fleet.Resizing, Target: 2, Errors: []fleet.Problem{{Code: "X", Message: "Y."}}}),
	)
	nodes, _, err := w.s.Nodes(t.Context(), w.owner, w.ws, "abc", "", 10)
	if err != nil || len(nodes) != 3 || !reflect.DeepEqual(nodes[0], computes.Node{ID: c.Prefix + "-1", State: "running", Run: "exp_1", Warnings: []string{"No GPU."}}) || nodes[1].State != "preparing" || nodes[2].State != "leaving" {
		t.Errorf("Nodes = %+v, %v", nodes, err)
	}
	first, next, err := w.s.Nodes(t.Context(), w.owner, w.ws, "abc", "", 2)
	if err != nil || len(first) != 2 || next != c.Prefix+"-2" {
		t.Errorf("the first page is %+v, then %q, %v", first, next, err)
	}
	if rest, next, err := w.s.Nodes(t.Context(), w.owner, w.ws, "abc", next, 2); err != nil || len(rest) != 1 || rest[0].State != "leaving" || next != "" {
		t.Errorf("the second page is %+v, then %q, %v", rest, next, err)
	}
	if _, _, err := w.s.Nodes(t.Context(), w.owner, w.ws, "abc", "x", 2); !errors.Is(err, fault.Invalid) {
		t.Errorf("a page after no node: %v", err)
	}
	got := w.get("abc")
	counts, _ := json.Marshal(at(got, "properties.properties.nodeStateCounts"))
	if string(counts) != `{"idleNodeCount":0,"leavingNodeCount":1,"preemptedNodeCount":0,"preparingNodeCount":1,"runningNodeCount":1,"unusableNodeCount":0}` {
		t.Errorf("counts %s", counts)
	}
	if at(got, "properties.properties.currentNodeCount") != 3 || at(got, "properties.properties.targetNodeCount") != 2 || at(got, "properties.provisioningState") != "Succeeded" {
		t.Errorf("got %v", got)
	}
	if problems, _ := json.Marshal(at(got, "properties.properties.errors")); string(problems) != `[{"error":{"code":"X","details":[],"message":"Y."}}]` {
		t.Errorf("errors %s", problems)
	}
	rows, err := w.s.Usages(t.Context(), w.owner, w.sub, "West US 2", true)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]int64{}
	for _, r := range rows {
		used[r.ID+" "+r.Name] = r.Current
	}
	for id, want := range map[string]int64{
		"/subscriptions/" + w.sub + "/usages TotalDedicatedCores":                                   6,
		w.ws + "/computes/abc/usages/Standard_Dv2_Family_Cluster_Dedicated_vCPUs standardDv2Family": 6,
		w.ws + "/usages/Standard_Dv2_Family_Cluster_Dedicated_vCPUs standardDv2Family":              6,
	} {
		if used[id] != want {
			t.Errorf("%s uses %d, want %d", id, used[id], want)
		}
	}
	elsewhere, err := w.s.Usages(t.Context(), w.owner, w.sub, "eastus", true)
	if err != nil || elsewhere[0].Current != 0 {
		t.Errorf("another region counts %d clusters, %v", elsewhere[0].Current, err)
	}
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPut("abc", `{"properties":{"computeType":"AmlCompute","properties":{"vmSize":"Standard_D2_v2","scaleSettings":{"minNodeCount":2,"maxNodeCount":4}}}}`)
	n := func(v int64) *int64 { return &v }
	wishes := []computes.QuotaWish{
		{ID: w.ws + "/quotas/standardDSv2Family", Limit: n(50)},
		{ID: w.ws + "/quotas/Standard_NC_Family_Cluster_Dedicated_vCPUs", Limit: n(0)},
		{ID: w.ws + "/quotas/standardDv2Family", Limit: n(3)},
		{ID: w.ws + "/quotas/standardDSv2Family", Limit: n(-1)},
		{ID: w.ws + "/quotas/standardDSv2Family", Limit: n(1 << 40)},
		{ID: w.ws + "/quotas/standardBananaFamily", Limit: n(1)},
		{ID: w.ws + "2/quotas/standardDSv2Family", Limit: n(1)},
		{ID: w.ws + "/quotas/standardDSv2Family"},
		{ID: "nonsense", Limit: n(1)},
	}
	got, err := w.s.UpdateQuotas(t.Context(), w.owner, w.sub, "westus2", wishes)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"Success", "Success", "InvalidQuotaBelowClusterMinimum", "Failure", "InvalidQuotaExceedsSubscriptionLimit", "InvalidVMFamilyName", "Failure", "Failure", "Failure"} {
		if string(got[i].Status) != want || got[i].ID != wishes[i].ID {
			t.Errorf("wish %d: %+v, want %s", i, got[i], want)
		}
	}
	rows, err := w.s.Quotas(t.Context(), w.owner, w.sub, "westus2")
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]int64{}
	for _, r := range rows {
		if r.Type == "workspaces/quotas" {
			own[r.ID] = r.Limit
		}
	}
	if len(own) != 2 || own[w.ws+"/quotas/Standard_DSv2_Family_Cluster_Dedicated_vCPUs"] != 50 {
		t.Errorf("limits of workspaces: %v", own)
	}
	if rows, err := w.s.Quotas(t.Context(), w.owner, w.sub, "eastus"); err != nil || len(rows) == 0 || rows[0].Type != "vmFamily/quotas" {
		t.Errorf("quotas elsewhere: %d, %v", len(rows), err)
	}
	if _, err := w.s.UpdateQuotas(t.Context(), w.owner, w.sub, "westus2", nil); !errors.Is(err, fault.Invalid) {
		t.Errorf("no wishes: %v", err)
	}
	for name, call := range map[string]func(string, string) error{
		"sizes":  func(sub, region string) error { return second(w.s.Sizes(t.Context(), w.owner, sub, region)) },
		"usages": func(sub, region string) error { return second(w.s.Usages(t.Context(), w.owner, sub, region, false)) },
		"quotas": func(sub, region string) error { return second(w.s.Quotas(t.Context(), w.owner, sub, region)) },
	} {
		if err := call(w.sub, "atlantis"); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s of no region: %v", name, err)
		}
		if err := call("nobody", "westus2"); !errors.Is(err, fault.NotFound) {
			t.Errorf("%s of no subscription: %v", name, err)
		}
	}
}

func TestRunsMayOnlyLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPut("abc", body(""))
	run := access.Principal{ID: "r", Kind: access.RunIdentity, Scope: strings.ToLower(w.ws)}
	if _, err := w.s.Get(t.Context(), run, w.ws, "abc"); err != nil {
		t.Errorf("a run may not look at its cluster: %v", err)
	}
	for name, err := range map[string]error{
		"put":    second(w.s.Put(t.Context(), run, w.request("abc", body("")))),
		"patch":  second(w.s.Patch(t.Context(), run, w.request("abc", `{}`))),
		"delete": second(w.s.Delete(t.Context(), run, w.ws, "abc", "", nil)),
		"quotas": second(w.s.UpdateQuotas(t.Context(), run, w.sub, "westus2", nil)),
		"sizes":  second(w.s.Sizes(t.Context(), run, w.sub, "westus2")),
	} {
		if !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s by a run: %v, want Forbidden", name, err)
		}
	}
	run.Scope += "2"
	if _, err := w.s.Get(t.Context(), run, w.ws, "abc"); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a run of another workspace: %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"bbb", "aaa", "ccc"} {
		w.mustPut(name, body(""))
	}
	list, next, err := w.s.List(t.Context(), w.owner, w.ws, "", 2)
	if err != nil || len(list) != 2 || shown(t, list[0])["name"] != "aaa" || next == "" {
		t.Fatalf("List = %d, %q, %v", len(list), next, err)
	}
	list, next, err = w.s.List(t.Context(), w.owner, w.ws, next, 2)
	if err != nil || len(list) != 1 || shown(t, list[0])["name"] != "ccc" || next != "" {
		t.Errorf("the second page = %d, %q, %v", len(list), next, err)
	}
}

func shown(t *testing.T, l computes.Listed) map[string]any {
	t.Helper()
	doc, err := l.Show()
	if err != nil {
		t.Fatal(err)
	}
	return doc.Body
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{"PT0S": 0, "PT2M": 2 * time.Minute, "P1W": 7 * 24 * time.Hour, "P1DT2H3M4.9S": 26*time.Hour + 3*time.Minute + 4*time.Second} {
		if got, err := computes.Duration(in); err != nil || got != want {
			t.Errorf("Duration(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "P", "PT", "P1DT", "1S", "P1Y", "PT-1S", "PT999999999H", "pt1s", "PT1S "} {
		if got, err := computes.Duration(in); err == nil {
			t.Errorf("Duration(%q) = %s, want an error", in, got)
		}
	}
}
