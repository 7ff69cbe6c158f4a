package nodes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/token"
)

// tokenLife is how long a run's token is good where the run has no time limit:
// Azure ends a job after 21 days on dedicated nodes.
const tokenLife = 21 * 24 * time.Hour

// tokenSlack is how much longer than its run a token lives, for preparation and
// the end.
const tokenSlack = 24 * time.Hour

// task answers with all a node needs to run its member of an attempt.
func (s *server) task(w http.ResponseWriter, r *http.Request) (int, any, error) {
	h, err := s.held(r)
	if err != nil {
		return answer(w, err)
	}
	task, err := s.taskOf(r.Context(), h.attempt.Run)
	if err != nil {
		return 0, nil, err
	}
	c, ok := s.Rows.View().Cluster(h.attempt.Cluster)
	if !ok {
		return answer(w, errGone)
	}
	info, err := s.Workspaces.Lookup(r.Context(), h.run.Workspace)
	if err != nil {
		return 0, nil, err
	}
	if err := s.unseal(h.run.Workspace, task.Environment.Registry); err != nil {
		return 0, nil, err
	}
	vars, err := s.variables(r, h, task, c, info)
	if err != nil {
		return 0, nil, err
	}
	o := nodeproto.Order{
		Attempt: h.attempt.ID, Fence: h.attempt.Fence, Member: h.member, Number: h.attempt.N, Task: task,
		Variables: vars, VCPUs: c.Size.VCPUs, MemoryGiB: c.Size.MemoryGiB,
	}
	o.LogName = task.Spread.LogName(1, 0)
	if hosts := s.hosts(h); !task.Spread.Single(len(hosts)) {
		if i := slices.IndexFunc(hosts, func(x gang.Host) bool { return x.Address == "" }); i >= 0 && len(hosts) > 1 {
			return 0, nil, fault.New(fault.Invalid, "nodeCount", "The agent of node %s is older than this server and takes no part in jobs of several nodes. Let its cluster scale down to zero once: new nodes do.", hosts[i].Node)
		}
		plan := task.Spread.Plan(task.Run, hosts, h.member) // names are a workspace's own
		o.Gang, o.LogName = &plan, plan.Processes[0].Log
	}
	return http.StatusOK, o, nil
}

// unseal opens the password of a registry, for the one node that pulls from it.
func (s *server) unseal(workspace string, r *queue.Registry) error {
	if r == nil || len(r.Sealed) == 0 {
		return nil
	}
	password, err := s.Tokens.Unseal(assets.AboutRegistry(workspace, r.Address), r.Sealed)
	if err != nil {
		return err
	}
	r.Password, r.Sealed = string(password), nil
	return nil
}

// hosts are the nodes of an attempt, as they reach each other.
func (s *server) hosts(h holding) []gang.Host {
	view := s.Rows.View()
	var out []gang.Host
	for _, m := range h.attempt.Members {
		n, _ := view.Node(m.Node)
		out = append(out, gang.Host{Node: m.Node, Address: n.Address})
	}
	return out
}

func (s *server) taskOf(ctx context.Context, run string) (queue.Task, error) {
	var t queue.Task
	rec, err := s.Rows.Get(ctx, row.Key{Kind: row.Task, ID: run})
	if err != nil {
		return t, fmt.Errorf("read the task of run %s: %w", run, err)
	}
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return t, fmt.Errorf("task of run %s is a %T", run, rec.Row)
	}
	if err := json.Unmarshal(doc.Body, &t); err != nil {
		return t, fmt.Errorf("read the task of run %s: %w", run, err)
	}
	return t, nil
}

// computeContext is AZUREML_CR_COMPUTE_CONTEXT.
type computeContext struct {
	Cluster  string `json:"cluster_name"`
	Node     string `json:"node_id"`
	Attempts int    `json:"run_attempt_count"`
	GPUs     int    `json:"gpu_count"`
	Size     string `json:"vm_size"`
	Priority string `json:"vm_priority"`
}

// variables are those of AMLCOMPUTE.md, section 8, and sdk-v1.md, section 6.
// What names a service that Ebb does not have is left out. Addresses are on the
// host that the agent came by: the job runs where the agent does.
func (s *server) variables(r *http.Request, h holding, t queue.Task, c fleet.Cluster, info workspaces.Info) (map[string]string, error) {
	expiry := s.Now().Add(tokenLife)
	if h.run.TimeLimit > 0 {
		expiry = s.Now().Add(h.run.TimeLimit + tokenSlack)
	}
	tok, err := s.Tokens.SignRun(token.RunGrant{
		Run: h.run.ID, Workspace: h.run.Workspace, Experiment: t.Experiment, Name: t.Name, Fence: h.attempt.Fence, Expiry: expiry,
	}, s.Now())
	if err != nil {
		return nil, err
	}
	priority := "Dedicated"
	if c.LowPriority {
		priority = "LowPriority"
	}
	about, err := json.Marshal(computeContext{c.Name, h.node, h.attempt.N, c.Size.GPUs, c.Size.Name, priority})
	if err != nil {
		return nil, err
	}
	base := arm.HostsOf(r).Data(info.Region)
	nodes := len(h.attempt.Members)
	v := map[string]string{
		"AZUREML_RUN_ID":                       t.Name,
		"AZUREML_ROOT_RUN_ID":                  t.Name,
		"AZUREML_RUN_TOKEN":                    tok,
		"AZUREML_RUN_TOKEN_EXPIRY":             strconv.FormatInt(expiry.Unix(), 10),
		"AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": base,
		"AZUREML_SERVICE_ENDPOINT":             base,
		"AZUREML_DISCOVERY_SERVICE_ENDPOINT":   base + "/discovery",
		"AZUREML_ARM_SUBSCRIPTION":             info.Subscription,
		"AZUREML_ARM_RESOURCEGROUP":            info.Group,
		"AZUREML_ARM_WORKSPACE_NAME":           info.Name,
		"AZUREML_ARM_PROJECT_NAME":             t.Experiment,
		"AZUREML_WORKSPACE_ID":                 info.GUID,
		"AZUREML_WORKSPACE_SCOPE":              info.ID,
		"AZUREML_EXPERIMENT_ID":                t.ExperimentID,
		"AZUREML_EXPERIMENT_SCOPE":             info.ID + "/experiments/" + t.Experiment,
		"AZUREML_DATA_CONTAINER_ID":            "dcid." + t.Name,
		"AZUREML_TARGET_TYPE":                  "amlcompute",
		"AZUREML_CURRENT_CLOUD":                "AzureCloud",
		"AZUREML_NODE_COUNT":                   strconv.Itoa(nodes),
		"AZUREML_CR_NODE_RANK":                 strconv.Itoa(h.member),
		"AZUREML_CR_COMPUTE_CONTEXT":           string(about),
		"AZUREML_CR_CORRELATION_ID":            h.attempt.ID,
		"AZ_BATCH_NODE_ID":                     h.node,
		"AZ_BATCH_JOB_ID":                      h.run.ID,
		"AZ_BATCH_TASK_ID":                     h.attempt.ID,
		"AZ_BATCH_POOL_ID":                     c.Name,
		"AZ_BATCH_NODE_IS_DEDICATED":           strconv.FormatBool(!c.LowPriority),
		"AZ_BATCH_IS_CURRENT_NODE_MASTER":      strconv.FormatBool(h.member == 0),
		"MLFLOW_TRACKING_URI":                  strings.Replace(base, "https://", "azureml://", 1) + "/mlflow/v1.0" + info.ID,
		"MLFLOW_TRACKING_TOKEN":                tok,
		"MLFLOW_RUN_ID":                        t.Name,
		"MLFLOW_EXPERIMENT_ID":                 t.ExperimentID,
		"MLFLOW_EXPERIMENT_NAME":               t.Experiment,
		// azureml-mlflow asks for the clouds' metadata as it is imported; without
		// this it asks the internet, which a node need not reach.
		"ARM_CLOUD_METADATA_URL": base + "/metadata/endpoints?api-version=2019-05-01",
	}
	return v, addNodes(v, s.hosts(h), h.member, c)
}

// addNodes tells of the job's nodes, as Azure Batch and its forerunner Batch AI do.
// Lists of nodes are there only where there are several.
func addNodes(v map[string]string, hosts []gang.Host, member int, c fleet.Cluster) error {
	master := cmp.Or(hosts[0].Address, "127.0.0.1")
	maps.Copy(v, map[string]string{
		"AZ_BATCHAI_MPI_MASTER_NODE": master, "AZ_BATCHAI_JOB_MASTER_NODE_IP": master, "AZ_BATCHAI_CLUSTER_NAME": c.Name,
		"AZ_BATCHAI_TASK_INDEX": strconv.Itoa(member), "AZ_BATCHAI_NUM_GPUS": strconv.Itoa(c.Size.GPUs),
	})
	if len(hosts) == 1 {
		return nil
	}
	var addresses []string
	counted := strconv.Itoa(len(hosts))
	for _, h := range hosts {
		addresses = append(addresses, h.Address)
		counted += " " + h.Address + " " + strconv.Itoa(c.Size.VCPUs)
	}
	config, err := json.Marshal(map[string]any{"host_list": addresses})
	if err != nil {
		return err
	}
	maps.Copy(v, map[string]string{
		"AZ_BATCH_NODE_LIST": strings.Join(addresses, ";"), "AZ_BATCH_HOST_LIST": strings.Join(addresses, ","),
		"AZ_BATCH_MASTER_NODE": master + ":6000", "CCP_NODES": counted, "AZ_BATCHAI_WORKER_HOSTS": strings.Join(addresses, ","),
		"AZUREML_CR_DISTRIBUTED_CONFIG": string(config),
	})
	return nil
}

// code checks that a snapshot is of the run that the asking node holds.
func (s *server) code(r *http.Request) (string, error) {
	node, err := s.node(r)
	if err != nil {
		return "", err
	}
	id := "/" + strings.ToLower(strings.Trim(r.PathValue("snapshot"), "/"))
	view := s.Rows.View()
	n, ok := view.Node(node)
	if !ok {
		return "", errGone
	}
	a, ok := view.Attempt(n.Attempt)
	if !ok {
		return "", errGone
	}
	t, err := s.taskOf(r.Context(), a.Run)
	if errors.Is(err, fault.NotFound) {
		return "", errGone
	}
	if err != nil {
		return "", err
	}
	if "/"+strings.Trim(strings.ToLower(t.Code), "/") != id {
		return "", fault.New(fault.NotFound, "", "The node's attempt has no such code.")
	}
	return t.Code, nil
}
