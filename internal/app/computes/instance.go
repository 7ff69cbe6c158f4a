package computes

import (
	"time"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/operation"
)

// A compute instance is a cluster of one node that stays until it is stopped
// (fleet.Cluster's Instance). It is in its workspace's region, has no scale
// settings, and shows a state of its own.

const (
	instanceAt = "properties.properties."
	// An instance may stand idle for so long before it goes off (2024-04-01, idleTimeBeforeShutdown).
	leastIdle = 15 * time.Minute
	mostIdle  = 3 * 24 * time.Hour
)

// last is what was last done to an instance.
type last struct {
	Name string    `json:"name"` // as Azure says it: Create, Start, Stop, Restart, Resize
	Time time.Time `json:"time"`
}

// beside refuses a region other than the workspace's.
func (w *wanted) beside(info workspaces.Info) error {
	w.min, w.max = 1, 1
	if w.region == armid.Region(info.Region) {
		return nil
	}
	return invalid("location", "A compute instance lies in the region of its workspace, which is '%s', and not in '%s'.", info.Region, w.region)
}

// ssh checks sshSettings. The port and the name of the user are the server's to say.
func (w *wanted) ssh() error {
	const at = instanceAt + "sshSettings"
	s, err := object(w.inner, "sshSettings")
	if err != nil {
		return err
	}
	if s == nil {
		s = map[string]any{}
	}
	drop(s, []string{"adminUserName", "sshPort"})
	access, err := choiceAt(s, "sshPublicAccess", at, "Disabled", "Enabled", "Disabled")
	if err != nil {
		return err
	}
	key, err := text(s, "adminPublicKey", at+".adminPublicKey")
	switch {
	case err != nil:
		return err
	case key != "" && !publicKey(key):
		return invalid(at+".adminPublicKey", "The SSH public key is not valid: it must be one line that begins with its type, such as 'ssh-rsa AAAA…'. A private key must never be sent.")
	case access == "Enabled" && key == "":
		return invalid(at+".adminPublicKey", "The property 'adminPublicKey' is required where 'sshPublicAccess' is Enabled.")
	case access == "Enabled":
		w.warnings = append(w.warnings, "The SSH key is kept; the instance opens no SSH port.")
	}
	w.inner["sshSettings"] = s
	return nil
}

// person checks whose the instance is.
func (w *wanted) person() error {
	if _, err := choice(w.inner, "applicationSharingPolicy", "Shared", "Personal", "Shared"); err != nil {
		return err
	}
	if _, err := choice(w.inner, "computeInstanceAuthorizationType", "personal", "personal"); err != nil {
		return err
	}
	const at = instanceAt + "personalComputeInstanceSettings"
	settings, err := object(w.inner, "personalComputeInstanceSettings")
	if err != nil {
		return err
	}
	user, err := object(settings, "assignedUser")
	if err != nil || user == nil {
		return err
	}
	for _, key := range []string{"objectId", "tenantId"} {
		id, err := text(user, key, at+".assignedUser."+key)
		if err != nil {
			return err
		}
		if id == "" {
			return invalid(at+".assignedUser."+key, "The property '%s' of 'assignedUser' is required.", key)
		}
	}
	return nil
}

// rest checks the idle time, and says what is kept and not done.
func (w *wanted) rest() error {
	const at = instanceAt + "idleTimeBeforeShutdown"
	idle, err := text(w.inner, "idleTimeBeforeShutdown", at)
	if err != nil {
		return err
	}
	if idle != "" {
		if w.idle, err = Duration(idle); err != nil {
			return invalid(at, "%s.", sentence(err))
		}
		if w.idle < leastIdle || w.idle > mostIdle {
			return invalid(at, "'idleTimeBeforeShutdown' is %s; it must be from PT15M to P3D.", idle)
		}
	}
	for key, what := range map[string]string{"setupScripts": "Setup scripts", "customServices": "Custom services", "schedules": "Schedules"} {
		if v, ok := w.inner[key]; ok && !empty(v) {
			w.warnings = append(w.warnings, what+" of a compute instance are kept and shown, and not run.")
		}
	}
	return nil
}

// empty reports whether a value from JSON asks for nothing.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, x := range v {
			if !empty(x) {
				return false
			}
		}
		return true
	}
	return false
}

// showInstance adds what an instance is doing. Addresses and applications are what
// there is: none.
func showInstance(inner map[string]any, c saved, wish fleet.Cluster, status fleet.Status, nodes []fleet.Node) {
	null(inner, "subnet")
	if ssh, ok := inner["sshSettings"].(map[string]any); ok {
		ssh["adminUserName"], ssh["sshPort"] = "azureuser", nil
	}
	op, trigger := c.Last, "User"
	if !wish.Off && status.Slept.After(wish.Switched) {
		op, trigger = last{"Stop", status.Slept}, "IdleShutdown"
	}
	became := "Succeeded"
	switch {
	case status.Observed < wish.Generation || !status.Provisioning.Final():
		became = "InProgress"
	case status.Provisioning == operation.Failed:
		became = op.Name + "Failed"
	}
	inner["state"] = instanceState(c.Last.Name, wish, status, nodes)
	inner["lastOperation"] = map[string]any{
		"operationName": op.Name, "operationTime": op.Time.UTC().Format(stamp), "operationStatus": became, "operationTrigger": trigger,
	}
	inner["createdBy"] = map[string]any{"userName": c.CreatedBy, "userOrgId": c.Tenant, "userId": c.Owner}
	inner["applications"] = []any{}
	inner["errors"] = nil
	if len(status.Errors) > 0 {
		inner["errors"] = problems(status.Errors)
	}
}

// instanceState is one of Azure's words (2024-04-01, ComputeInstanceState).
func instanceState(last string, wish fleet.Cluster, status fleet.Status, nodes []fleet.Node) string {
	switch {
	case wish.Deleting:
		return "Deleting"
	case fleet.Off(wish, status) && len(nodes) > 0:
		return "Stopping"
	case fleet.Off(wish, status):
		return "Stopped"
	}
	for _, n := range nodes {
		switch {
		case fleet.Leaves(wish, status, n):
			return "Restarting"
		case n.State == fleet.Busy:
			return "JobRunning"
		case n.State == fleet.Idle:
			return "Running"
		case n.State == fleet.Unusable:
			return "Unusable"
		}
	}
	switch {
	case last == "Create" && status.Provisioning == operation.Failed:
		return "CreateFailed"
	case last == "Restart":
		return "Restarting"
	case status.Provisioning == operation.Creating:
		return "Creating"
	}
	return "Starting"
}
