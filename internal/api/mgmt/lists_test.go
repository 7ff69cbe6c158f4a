package mgmt_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
)

// Lists remember what they showed, and show every change all the same.
func TestListOfJobsFollowsEveryChange(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t)
	for i := range 3 {
		w.call(201, "PUT", fmt.Sprintf("/jobs/j%d", i), commandJob)
	}
	var run queue.Run
	for _, r := range w.store.Rows(row.Run) {
		if r.(queue.Run).Name == "j1" {
			run = r.(queue.Run)
		}
	}
	move := func(state queue.State, why string) func() {
		return func() {
			w.commit(row.Put(queue.Status{ID: run.ID, Document: run.Document, State: state, Why: why, Failure: queue.Failure{Message: why}}))
		}
	}
	shown := func() map[string]any {
		t.Helper()
		list := w.call(200, "GET", "/jobs", "")["value"].([]any)
		if len(list) != 3 {
			t.Fatalf("%d jobs, want 3", len(list))
		}
		var job map[string]any
		for _, item := range list {
			if item := item.(map[string]any); item["name"] == "j1" {
				job = item
			}
		}
		if alone := w.call(200, "GET", "/jobs/j1", ""); !reflect.DeepEqual(job, alone) {
			t.Fatalf("listed: %v\nalone: %v", job, alone)
		}
		return job["properties"].(map[string]any)
	}
	for _, step := range []struct {
		name   string
		change func()
		key    string
		want   any
	}{
		{"nothing", func() {}, "status", "Queued"},
		{"why it waits", move(queue.Queued, "It waits."), "statusReason", "It waits."},
		{"another why", move(queue.Queued, "It still waits."), "statusReason", "It still waits."},
		{"its tags", func() { w.call(200, "PUT", "/jobs/j1", strings.Replace(commandJob, `"a":"1"`, `"a":"2"`, 1)) }, "tags", map[string]any{"a": "2"}},
		{"that it runs", move(queue.Running, ""), "status", "Running"},
		{"that it is to end", func() { w.call(202, "POST", "/jobs/j1/cancel", "") }, "status", "CancelRequested"},
		{"its end", move(queue.Canceled, "It was canceled."), "status", "Canceled"},
		{"its tags after its end", func() { w.call(200, "PUT", "/jobs/j1", strings.Replace(commandJob, `"a":"1"`, `"a":"3"`, 1)) }, "tags", map[string]any{"a": "3"}},
		{"that it was made anew", func() {
			w.call(200, "DELETE", "/jobs/j1", "")
			w.call(201, "PUT", "/jobs/j1", commandJob)
		}, "status", "Queued"},
	} {
		step.change()
		for _, again := range []string{"first", "again"} {
			if got := shown()[step.key]; !reflect.DeepEqual(got, step.want) {
				t.Errorf("%s, %s: %s = %v, want %v", step.name, again, step.key, got, step.want)
			}
		}
	}

	// Addresses follow the host that the client came by.
	r := httptest.NewRequestWithContext(t.Context(), "GET", "https://management.azure.com"+jobsWS+"/jobs", nil)
	r.Header.Set("Authorization", "Bearer x")
	out := httptest.NewRecorder()
	w.router.ServeHTTP(out, r)
	if out.Code != http.StatusOK || strings.Contains(out.Body.String(), "127.0.0.1") || !strings.Contains(out.Body.String(), "https://ml.azure.com/") {
		t.Errorf("by one of Azure's names: %d %s", out.Code, out.Body)
	}
}

func TestListOfComputesFollowsEveryChange(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, name := range []string{"aaa", "bbb", "ccc"} {
		s.want(201, "PUT", s.ws+"/computes/"+name+v1, v1Body)
		s.settle(name)
	}
	key := armid.Key(armid.Compute(s.ws, "bbb"))
	node := func(state fleet.NodeState) func() {
		return func() { s.commit(row.Put(fleet.Node{ID: "n-0", Cluster: key, State: state})) }
	}
	status := func(st fleet.Status) func() {
		st.ID, st.Observed, st.Provisioning = key, 9, operation.Succeeded
		return func() { s.commit(row.Put(st)) }
	}
	for _, step := range []struct {
		name   string
		change func()
		path   string
		want   any
	}{
		{"nothing", func() {}, "properties.provisioningState", "Succeeded"},
		{"a node", node(fleet.Idle), "properties.properties.nodeStateCounts.idleNodeCount", 1.0},
		{"the same node at work", node(fleet.Busy), "properties.properties.nodeStateCounts.runningNodeCount", 1.0},
		{"no node", func() { s.commit(row.Drop(row.Key{Kind: row.Node, ID: "n-0"})) }, "properties.properties.currentNodeCount", 0.0},
		{"that it grows", status(fleet.Status{Allocation: fleet.Resizing, Target: 2}), "properties.properties.allocationState", "Resizing"},
		{"when that began", status(fleet.Status{Allocation: fleet.Resizing, Target: 2, Since: time.Unix(0, 0)}), "properties.properties.allocationStateTransitionTime", "1970-01-01T00:00:00.000000+00:00"},
		{"a problem", status(fleet.Status{Allocation: fleet.Steady, Errors: []fleet.Problem{{Code: "X", Message: "x"}}}), "properties.properties.errors", []any{map[string]any{"error": map[string]any{"code": "X", "message": "x", "details": []any{}}}}},
		{"its tags", func() { s.want(200, "PATCH", s.ws+"/computes/bbb", `{"tags":{"a":"1"}}`) }, "tags.a", "1"},
		{"that it goes", func() { s.want(202, "DELETE", s.ws+"/computes/bbb?underlyingResourceAction=Delete", "") }, "properties.provisioningState", "Deleting"},
		{"that it was made anew", func() { s.settle("bbb"); s.want(201, "PUT", s.ws+"/computes/bbb"+v1, v1Body) }, "properties.provisioningState", "Creating"},
	} {
		step.change()
		for _, again := range []string{"first", "again"} {
			list := s.want(200, "GET", s.ws+"/computes", "").body["value"].([]any)
			if len(list) != 3 {
				t.Fatalf("%s: %d computes, want 3", step.name, len(list))
			}
			got, alone := list[1].(map[string]any), s.want(200, "GET", s.ws+"/computes/bbb", "").body
			if !reflect.DeepEqual(got, alone) {
				t.Errorf("%s, %s:\nlisted %v\nalone  %v", step.name, again, got, alone)
			}
			if v := at(got, step.path); !reflect.DeepEqual(v, step.want) {
				t.Errorf("%s, %s: %s = %v, want %v", step.name, again, step.path, v, step.want)
			}
		}
	}
}
