package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
)

// The shapes below are those of "az ml" v2: flat, snake_case.

var tiers = map[string]string{"dedicated": "dedicated", "lowpriority": "low_priority"}

// computeShape is a cluster as az ml prints it.
func computeShape(c client.Compute) object {
	p, aml := c.Properties, c.Properties.Properties
	if p.ComputeType != "" && !strings.EqualFold(p.ComputeType, "AmlCompute") {
		return otherComputeShape(c)
	}
	o := object{
		{"name", c.Name}, {"id", c.ID}, {"type", strings.ToLower(p.ComputeType)},
		{"location", c.Location}, {"provisioning_state", p.ProvisioningState},
	}
	o.add("description", p.Description)
	o = append(o, field{"size", aml.VMSize}, field{"tier", tiers[strings.ToLower(aml.VMPriority)]},
		field{"min_instances", aml.Scale.Min}, field{"max_instances", aml.Scale.Max})
	if s, ok := azml.FromISO(aml.Scale.IdleAfter); ok {
		o = append(o, field{"idle_time_before_scale_down", s})
	}
	o.add("allocation_state", aml.AllocationState)
	o.add("allocation_state_transition_time", aml.AllocationStateTransition)
	o = append(o, field{"current_node_count", aml.CurrentNodes}, field{"target_node_count", aml.TargetNodes})
	if n := aml.NodeStates; n != nil {
		o = append(o, field{"node_state_counts", object{
			{"idle", n.Idle}, {"running", n.Running}, {"preparing", n.Preparing},
			{"unusable", n.Unusable}, {"leaving", n.Leaving}, {"preempted", n.Preempted},
		}})
	}
	o = append(o, field{"ssh_public_access_enabled", aml.RemoteLogin == "Enabled"})
	if aml.User != nil {
		o = append(o, field{"ssh_settings", object{{"admin_username", aml.User.Name}}})
	}
	if aml.EnableNodePublicIP != nil {
		o = append(o, field{"enable_node_public_ip", *aml.EnableNodePublicIP})
	}
	if aml.Subnet != nil && aml.Subnet.ID != "" {
		o = append(o, field{"network_settings", object{{"subnet", aml.Subnet.ID}}})
	}
	o.add("identity", identityShape(c.Identity))
	o.add("created_on", p.CreatedOn)
	o.add("tags", c.Tags)
	o.add("errors", problemShapes(aml.Errors))
	o.add("provisioning_errors", problemShapes(p.ProvisioningErrors))
	return o
}

// otherComputeShape is a compute that is no cluster.
func otherComputeShape(c client.Compute) object {
	p := c.Properties
	o := object{
		{"name", c.Name}, {"id", c.ID}, {"type", strings.ToLower(p.ComputeType)},
		{"location", c.Location}, {"provisioning_state", p.ProvisioningState},
	}
	o.add("description", p.Description)
	o.add("size", p.Properties.VMSize)
	o.add("state", p.Properties.State)
	if s := p.Properties.Subnet; s != nil && s.ID != "" {
		o = append(o, field{"network_settings", object{{"subnet", s.ID}}})
	}
	o.add("identity", identityShape(c.Identity))
	o.add("created_on", p.CreatedOn)
	o.add("tags", c.Tags)
	o.add("provisioning_errors", problemShapes(p.ProvisioningErrors))
	return o
}

func identityShape(id *client.Identity) object {
	if id == nil || id.Type == "" || strings.EqualFold(id.Type, "None") {
		return nil
	}
	o := object{{"type", "system_assigned"}}
	if strings.EqualFold(id.Type, "UserAssigned") {
		o[0].Value = "user_assigned"
	}
	o.add("principal_id", id.PrincipalID)
	o.add("tenant_id", id.TenantID)
	var users []object
	for arm, user := range id.UserAssigned {
		u := object{{"resource_id", arm}}
		if user != nil {
			u.add("principal_id", user.PrincipalID)
			u.add("client_id", user.ClientID)
		}
		users = append(users, u)
	}
	slices.SortFunc(users, func(x, y object) int { return strings.Compare(x[0].Value.(string), y[0].Value.(string)) })
	o.add("user_assigned_identities", users)
	return o
}

func problemShapes(problems []client.Problem) []object {
	var list []object
	for _, p := range problems {
		list = append(list, object{{"code", p.Code}, {"message", p.Message}})
	}
	return list
}

var computeColumns = []column{
	col("NAME", "name"), col("SIZE", "size"), col("TIER", "tier"),
	{"NODES", func(o object) string {
		now, target := o.get("current_node_count"), o.get("target_node_count")
		if now == target {
			return plainCell(now)
		}
		return fmt.Sprintf("%v → %v", now, target)
	}},
	{"MIN..MAX", func(o object) string {
		if o.get("max_instances") == nil {
			return ""
		}
		return fmt.Sprintf("%v..%v", o.get("min_instances"), o.get("max_instances"))
	}},
	{"STATE", func(o object) string {
		if state := o.get("provisioning_state"); state != "Succeeded" {
			return plainCell(state)
		}
		if state := o.get("state"); state != nil { // of a compute instance
			return plainCell(state)
		}
		return plainCell(o.get("allocation_state"))
	}},
	{"IDLE", nodesIn("idle")}, {"RUNNING", nodesIn("running")},
	{"PROBLEM", func(o object) string {
		for _, key := range []string{"errors", "provisioning_errors"} {
			if list, _ := o.get(key).([]object); len(list) > 0 {
				return plainCell(list[0].get("message"))
			}
		}
		return ""
	}},
}

func nodesIn(state string) func(object) string {
	return func(o object) string {
		counts, _ := o.get("node_state_counts").(object)
		return plainCell(counts.get(state))
	}
}

func nodeShape(n client.Node) object {
	o := object{{"node_id", n.ID}, {"node_state", n.State}, {"private_ip_address", orNil(n.PrivateIP)},
		{"public_ip_address", orNil(n.PublicIP)}, {"port", nil}, {"run_id", orNil(n.RunID)}}
	if n.Port != 0 {
		o[4].Value = n.Port
	}
	if n.Engine != "" {
		o = append(o, field{"engine", n.Engine})
	}
	if len(n.Warnings) > 0 {
		o = append(o, field{"warnings", n.Warnings})
	}
	return o
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

var nodeColumns = []column{
	col("NODE", "node_id"), col("STATE", "node_state"), col("ADDRESS", "private_ip_address"), col("PORT", "port"), col("JOB", "run_id"), col("CONTAINERS", "engine"),
}

// jobShape is a job as az ml prints it, with why it waits or failed.
func jobShape(j client.Job) object {
	p := j.Properties
	o := object{
		{"name", j.Name}, {"id", j.ID}, {"type", strings.ToLower(p.JobType)}, {"status", p.Status},
		{"display_name", p.DisplayName}, {"experiment_name", p.Experiment},
	}
	o.add("description", p.Description)
	o.add("compute", reference(p.ComputeID))
	o.add("command", p.Command)
	if p.CodeID != "" {
		o = append(o, field{"code", "azureml:" + p.CodeID})
	}
	o.add("environment", reference(p.EnvironmentID))
	o.add("environment_variables", p.Environment)
	if r := p.Resources; r != nil {
		resources := object{}
		if r.InstanceCount > 0 {
			resources = append(resources, field{"instance_count", r.InstanceCount})
		}
		resources.add("shm_size", r.ShmSize)
		resources.add("docker_args", r.DockerArgs)
		o.add("resources", resources)
	}
	o.add("distribution", distributionShape(p.Distribution))
	o.add("inputs", inputsShape(p.Inputs))
	o.add("outputs", outputsShape(p.Outputs))
	if p.Limits != nil {
		if s, ok := azml.FromISO(p.Limits.Timeout); ok {
			o = append(o, field{"limits", object{{"timeout", s}}})
		}
	}
	o.add("creation_context", contextShape(j.System))
	o.add("tags", p.Tags)
	o.add("properties", p.Properties)
	o.add("services", servicesShape(p.Services))
	o.add("status_reason", p.Why)
	o.add("cancel_reason", p.CancelWhy)
	o.add("start_time", p.Start)
	o.add("end_time", p.End)
	if p.Error != nil {
		o = append(o, field{"error", object{{"code", p.Error.Code}, {"message", p.Error.Message}}})
	}
	if p.ExitCode != 0 {
		o = append(o, field{"exit_code", p.ExitCode})
	}
	return o
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// reference shortens the ARM id of something in the workspace as az ml does:
// azureml:name, or azureml:name:version.
func reference(id string) string {
	parts := strings.Split(id, "/")
	n := len(parts)
	switch {
	case !strings.HasPrefix(id, "/"):
		return id
	case n >= 4 && strings.EqualFold(parts[n-2], "versions"):
		return "azureml:" + parts[n-3] + ":" + parts[n-1]
	}
	return "azureml:" + parts[n-1]
}

var jobColumns = []column{
	col("NAME", "name"), col("STATUS", "status"),
	{"COMPUTE", func(o object) string { return strings.TrimPrefix(plainCell(o.get("compute")), "azureml:") }},
	col("EXPERIMENT", "experiment_name"),
	{"CREATED", func(o object) string {
		made, _ := o.get("creation_context").(object)
		return ago(plainCell(made.get("created_at")))
	}},
	col("COMMAND", "command"), col("WHY", "status_reason"),
}

// ago says how long ago an RFC 3339 time was.
func ago(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return humanize.Time(t)
}
