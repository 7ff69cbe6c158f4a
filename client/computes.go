package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
)

// Compute is a compute resource as ARM shows it. What is not set is not sent.
type Compute struct {
	ID         string            `json:"id,omitempty"`
	Name       string            `json:"name,omitempty"`
	Location   string            `json:"location,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Identity   *Identity         `json:"identity,omitempty"`
	Properties ComputeProperties `json:"properties"`
}

// Identity is the managed identity of a resource.
type Identity struct {
	Type         string                   `json:"type"` // SystemAssigned, UserAssigned or None
	PrincipalID  string                   `json:"principalId,omitempty"`
	TenantID     string                   `json:"tenantId,omitempty"`
	UserAssigned map[string]*UserIdentity `json:"userAssignedIdentities,omitempty"` // by ARM id
}

// UserIdentity is what ARM says about a user-assigned identity.
type UserIdentity struct {
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`
}

// ComputeProperties are those that every kind of compute has.
type ComputeProperties struct {
	ComputeType        string     `json:"computeType,omitempty"`
	ComputeLocation    string     `json:"computeLocation,omitempty"`
	Description        string     `json:"description,omitempty"`
	ProvisioningState  string     `json:"provisioningState,omitempty"`
	ProvisioningErrors []Problem  `json:"provisioningErrors,omitempty"`
	CreatedOn          string     `json:"createdOn,omitempty"`
	ModifiedOn         string     `json:"modifiedOn,omitempty"`
	Properties         AmlCompute `json:"properties"`
}

// AmlCompute is a cluster's own part.
type AmlCompute struct {
	VMSize             string        `json:"vmSize,omitempty"`
	VMPriority         string        `json:"vmPriority,omitempty"` // Dedicated or LowPriority
	Scale              ScaleSettings `json:"scaleSettings"`
	Subnet             *Ref          `json:"subnet,omitempty"`
	RemoteLogin        string        `json:"remoteLoginPortPublicAccess,omitempty"` // Enabled, Disabled, NotSpecified
	EnableNodePublicIP *bool         `json:"enableNodePublicIp,omitempty"`
	User               *UserAccount  `json:"userAccountCredentials,omitempty"`

	State string `json:"state,omitempty"` // of a compute instance: Running, Stopped …; read only

	// Read only.
	AllocationState           string           `json:"allocationState,omitempty"` // Steady or Resizing
	AllocationStateTransition string           `json:"allocationStateTransitionTime,omitempty"`
	CurrentNodes              int              `json:"currentNodeCount,omitempty"`
	TargetNodes               int              `json:"targetNodeCount,omitempty"`
	NodeStates                *NodeStateCounts `json:"nodeStateCounts,omitempty"`
	Errors                    []Problem        `json:"errors,omitempty"`
}

// ScaleSettings say how far a cluster rises, falls, and when.
type ScaleSettings struct {
	Min       int    `json:"minNodeCount"`
	Max       int    `json:"maxNodeCount"`
	IdleAfter string `json:"nodeIdleTimeBeforeScaleDown,omitempty"` // ISO 8601, as PT120S
}

// Ref points at another resource.
type Ref struct {
	ID string `json:"id"`
}

// UserAccount is the administrator that SSH lets in. Secrets are never read back.
type UserAccount struct {
	Name     string `json:"adminUserName"`
	Key      string `json:"adminUserSshPublicKey,omitempty"`
	Password string `json:"adminUserPassword,omitempty"`
}

// NodeStateCounts counts a cluster's nodes by state.
type NodeStateCounts struct {
	Idle      int `json:"idleNodeCount"`
	Running   int `json:"runningNodeCount"`
	Preparing int `json:"preparingNodeCount"`
	Unusable  int `json:"unusableNodeCount"`
	Leaving   int `json:"leavingNodeCount"`
	Preempted int `json:"preemptedNodeCount"`
}

// Node is one machine of a cluster.
type Node struct {
	ID        string `json:"nodeId"`
	PrivateIP string `json:"privateIpAddress"`
	PublicIP  string `json:"publicIpAddress"`
	Port      int    `json:"port"`
	State     string `json:"nodeState"` // idle, running, preparing, unusable, leaving, preempted
	RunID     string `json:"runId"`     // the job it runs; may be empty

	Warnings []string `json:"warnings"` // sentences on what jobs do without there
	Engine   string   `json:"engine"`   // of containers, as "Docker 28.2.2"; empty: jobs are processes there
}

// Computes are the calls about compute clusters.
type Computes struct{ c *Client }

// Computes returns the calls about the workspace's compute clusters.
func (c *Client) Computes() Computes { return Computes{c} }

func (s Computes) path(name string) string {
	return s.c.file.Workspace() + "/computes/" + url.PathEscape(name)
}

// All yields every compute of the workspace.
func (s Computes) All(ctx context.Context) iter.Seq2[Compute, error] {
	return all[Compute](ctx, s.c, s.c.file.Workspace()+"/computes")
}

// Get returns one compute.
func (s Computes) Get(ctx context.Context, name string) (Compute, error) {
	var got Compute
	_, err := s.c.Do(ctx, http.MethodGet, s.path(name), nil, &got)
	return got, err
}

// Create makes a compute, or replaces what may be replaced of one that exists.
// The operation ends when it is ready to take jobs.
//
// What is wanted is a [Compute], or the JSON of a compute of another kind.
func (s Computes) Create(ctx context.Context, name string, want any) (Compute, *Operation, error) {
	return s.change(ctx, http.MethodPut, name, want)
}

// Update merges patch (JSON Merge Patch) into a compute.
func (s Computes) Update(ctx context.Context, name string, patch any) (Compute, *Operation, error) {
	return s.change(ctx, http.MethodPatch, name, patch)
}

func (s Computes) change(ctx context.Context, method, name string, body any) (Compute, *Operation, error) {
	var got Compute
	a, err := s.c.Do(ctx, method, s.path(name), body, &got)
	if err != nil {
		return got, nil, err
	}
	op, err := s.c.operationOf(a)
	return got, op, err
}

// Delete removes a compute and its nodes. One that is not there is no error.
func (s Computes) Delete(ctx context.Context, name string) (*Operation, error) {
	a, err := s.c.Do(ctx, http.MethodDelete, s.path(name)+"?underlyingResourceAction=Delete", nil, nil)
	if err != nil {
		return nil, err
	}
	return s.c.operationOf(a)
}

// Detach lets go of a compute that was attached, and leaves it as it is.
func (s Computes) Detach(ctx context.Context, name string) (*Operation, error) {
	a, err := s.c.Do(ctx, http.MethodDelete, s.path(name)+"?underlyingResourceAction=Detach", nil, nil)
	if err != nil {
		return nil, err
	}
	return s.c.operationOf(a)
}

// Power starts, stops or restarts a compute instance, by that verb.
func (s Computes) Power(ctx context.Context, name, verb string) (*Operation, error) {
	a, err := s.c.Do(ctx, http.MethodPost, s.path(name)+"/"+verb, nil, nil)
	if err != nil {
		return nil, err
	}
	return s.c.operationOf(a)
}

// Nodes lists the nodes of a cluster, all pages of them.
func (s Computes) Nodes(ctx context.Context, name string) ([]Node, error) {
	nodes := []Node{}
	method, path := http.MethodPost, s.path(name)+"/listNodes"
	for path != "" {
		var page struct {
			Nodes    []Node `json:"nodes"`
			NextLink string `json:"nextLink"`
		}
		if _, err := s.c.Do(ctx, method, path, nil, &page); err != nil {
			return nil, err
		}
		nodes = append(nodes, page.Nodes...)
		if page.NextLink == "" {
			break
		}
		next, err := own(page.NextLink)
		if err != nil {
			return nil, err
		}
		path = next
	}
	return nodes, nil
}
