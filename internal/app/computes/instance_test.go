package computes_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// instance is a PUT's body with further properties of a compute instance.
func instance(more string) string {
	return `{"location":"westus2","properties":{"computeType":"computeInstance","properties":{"vmSize":"STANDARD_DS3_V2"` + more + `}}}`
}

// node gives an instance one node in a state.
func (w *world) node(name string, state fleet.NodeState, created time.Time) {
	c := w.cluster(name)
	w.commit(row.Put(fleet.Node{ID: c.Prefix + "-0", Cluster: c.ID, State: state, Created: created}))
}

func (w *world) state(name string) string {
	inner := at(w.get(name), "properties.properties").(map[string]any)
	op := inner["lastOperation"].(map[string]any)
	return fmt.Sprintf("%s after %s %s by %s", inner["state"], op["operationName"], op["operationStatus"], op["operationTrigger"])
}

// TestInstance is a life, with control's part played by hand.
func TestInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tick := func() { now = now.Add(time.Minute) }
	w.s.Now = func() time.Time { return now }
	step := func(want string) {
		t.Helper()
		if got := w.state("ci1"); got != want {
			t.Errorf("the instance is %q, want %q", got, want)
		}
	}
	do := func(act func(context.Context, access.Principal, string, string) (computes.Result, error)) {
		t.Helper()
		tick()
		if res, err := act(t.Context(), w.owner, w.ws, "ci1"); err != nil || res.Operation == "" {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	made := w.mustPut("ci1", instance(`,"idleTimeBeforeShutdown":"PT30M","personalComputeInstanceSettings":{"assignedUser":{"objectId":"o","tenantId":"t"}}`))
	if at(made.Body, "properties.provisioningState") != "Creating" || at(made.Body, "properties.properties.personalComputeInstanceSettings.assignedUser.objectId") != "o" ||
		at(made.Body, "properties.properties.createdBy.userId") != w.owner.ID || at(made.Body, "properties.properties.sshSettings.sshPublicAccess") != "Disabled" {
		t.Errorf("made %v", made.Body)
	}
	if c := w.cluster("ci1"); !c.Instance || c.Min != 1 || c.Max != 1 || c.IdleAfter != 30*time.Minute || !c.Switched.Equal(now) {
		t.Errorf("wish %+v", c)
	}
	step("Creating after Create InProgress by User")
	w.settle("ci1")
	w.node("ci1", fleet.Idle, now)
	step("Running after Create Succeeded by User")
	rows, err := w.s.Usages(t.Context(), w.owner, w.sub, "westus2", false)
	if err != nil || rows[0].Current != 1 || rows[1].Current != 4 {
		t.Errorf("an instance of 4 vCPUs counts %d computes and %d vCPUs, %v", rows[0].Current, rows[1].Current, err)
	}
	w.node("ci1", fleet.Busy, now)
	step("JobRunning after Create Succeeded by User")

	do(w.s.Restart)
	step("Restarting after Restart InProgress by User")
	w.settle("ci1")
	w.node("ci1", fleet.Idle, now)
	step("Running after Restart Succeeded by User")

	if _, err := w.s.Resize(t.Context(), w.owner, w.ws, "ci1", "Standard_D2_v2"); !errors.Is(err, fault.Conflict) {
		t.Errorf("resizing while it runs: %v", err)
	}
	do(w.s.Stop)
	step("Stopping after Stop InProgress by User")
	w.settle("ci1")
	w.commit(row.Drop(row.Key{Kind: row.Node, ID: w.cluster("ci1").Prefix + "-0"}))
	step("Stopped after Stop Succeeded by User")
	if _, err := w.s.Restart(t.Context(), w.owner, w.ws, "ci1"); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "Start it") {
		t.Errorf("restarting what is stopped: %v", err)
	}
	generation := w.cluster("ci1").Generation
	do(w.s.Stop) // again
	if got := w.cluster("ci1").Generation; got != generation {
		t.Errorf("stopping twice raised the generation from %d to %d", generation, got)
	}
	if _, err := w.s.Resize(t.Context(), w.owner, w.ws, "ci1", "Standard_D2_v2"); err != nil || w.cluster("ci1").Size.VCPUs != 2 || at(w.get("ci1"), "properties.properties.vmSize") != "STANDARD_D2_V2" {
		t.Errorf("resize: %v, %+v", err, w.cluster("ci1").Size)
	}
	do(w.s.Start)
	step("Starting after Start InProgress by User")
	w.settle("ci1")
	w.node("ci1", fleet.Idle, now)
	step("Running after Start Succeeded by User")

	tick()
	c := w.cluster("ci1")
	w.commit(row.Put(fleet.Status{ID: c.ID, Observed: c.Generation, Provisioning: operation.Succeeded, Slept: now}), row.Drop(row.Key{Kind: row.Node, ID: c.Prefix + "-0"}))
	step("Stopped after Stop Succeeded by IdleShutdown")
	do(w.s.Start)
	step("Starting after Start InProgress by User")
	if _, err := w.s.Delete(t.Context(), w.owner, w.ws, "ci1", "Delete", nil); err != nil {
		t.Fatal(err)
	}
	step("Deleting after Start InProgress by User")
	if _, err := w.s.Stop(t.Context(), w.owner, w.ws, "ci1"); !errors.Is(err, fault.Conflict) {
		t.Errorf("stopping what is being deleted: %v", err)
	}
}

func TestInstanceChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.mustPut("ci1", instance(""))
	if res := w.mustPut("ci1", encode(t, made.Body)); res.Created {
		t.Error("what was read and put back made another")
	}
	if got := w.cluster("ci1").Generation; got != 1 {
		t.Errorf("what was read and put back raised the generation to %d", got)
	}
	w.mustPatch("ci1", `{"tags":{"a":"b"},"properties":{"properties":{"idleTimeBeforeShutdown":"PT15M"}}}`)
	if c := w.cluster("ci1"); c.IdleAfter != 15*time.Minute || c.Min != 1 || c.Off {
		t.Errorf("after a PATCH: %+v", c)
	}
	for name, body := range map[string]string{
		"its size": strings.Replace(instance(""), "DS3", "D2", 1), "its type": body(""),
		"its user": `{"properties":{"computeType":"ComputeInstance","properties":{"personalComputeInstanceSettings":{"assignedUser":{"objectId":"other","tenantId":"t"}}}}}`,
	} {
		if _, err := w.put("ci1", body); code(err) != "PropertyChangeNotAllowed" {
			t.Errorf("a PUT that changes %s: %v", name, err)
		}
	}
	w.mustPut("cpu", body(""))
	if _, err := w.s.Start(t.Context(), w.owner, w.ws, "cpu"); code(err) != "UserError" {
		t.Errorf("starting a cluster: %v", err)
	}
	if _, err := w.s.Start(t.Context(), access.Principal{Kind: access.RunIdentity, Scope: w.ws}, w.ws, "ci1"); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a job starts an instance: %v", err)
	}
	for name, want := range map[string]string{"ci1": "AlreadyExists", "local": "Invalid", "ci2": ""} {
		if got, why, err := w.s.Free(t.Context(), w.owner, w.ws, name); got != want || (why == "") != (want == "") || err != nil {
			t.Errorf("the name %s: %q %q %v, want %q", name, got, why, err, want)
		}
	}
}

func TestInstanceRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, says string }{
		"another region":          {strings.Replace(instance(""), "westus2", "eastus", 1), "region of its workspace"},
		"a size nobody has":       {strings.Replace(instance(""), "STANDARD_DS3_V2", "huge", 1), "not a supported VM size"},
		"a short idle time":       {instance(`,"idleTimeBeforeShutdown":"PT5M"`), "PT15M to P3D"},
		"an idle time in words":   {instance(`,"idleTimeBeforeShutdown":"soon"`), "soon"},
		"SSH without a key":       {instance(`,"sshSettings":{"sshPublicAccess":"Enabled"}`), "adminPublicKey"},
		"SSH with a private key":  {instance(`,"sshSettings":{"adminPublicKey":"-----BEGIN RSA PRIVATE KEY-----"}`), "private key"},
		"a bad policy":            {instance(`,"applicationSharingPolicy":"Public"`), "Personal, Shared"},
		"a user without a tenant": {instance(`,"personalComputeInstanceSettings":{"assignedUser":{"objectId":"o"}}`), "tenantId"},
		"a subnet by name":        {instance(`,"subnet":{"id":"default"}`), "not the id of a subnet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := newWorld(t).put("ci1", c.body); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want it to say %q", err, c.says)
			}
		})
	}
}

func code(err error) string {
	e, _ := errors.AsType[*fault.Error](err)
	if e == nil {
		return fmt.Sprint(err)
	}
	return e.Code
}

func encode(t *testing.T, m map[string]any) string {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
