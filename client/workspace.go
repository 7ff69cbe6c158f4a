package client

import (
	"context"
	"iter"
	"net/http"
)

// Workspace is a workspace as ARM shows it.
type Workspace struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	Identity   *Identity         `json:"identity"`
	Properties struct {
		WorkspaceID       string `json:"workspaceId"`
		FriendlyName      string `json:"friendlyName"`
		Description       string `json:"description"`
		Storage           string `json:"storageAccount"`
		Vault             string `json:"keyVault"`
		Insights          string `json:"applicationInsights"`
		Registry          string `json:"containerRegistry"`
		Public            string `json:"publicNetworkAccess"`
		MLflow            string `json:"mlFlowTrackingUri"`
		ProvisioningState string `json:"provisioningState"`
		DiscoveryURL      string `json:"discoveryUrl"`
	} `json:"properties"`
}

// Workspace returns the workspace that the client file names.
func (c *Client) Workspace(ctx context.Context) (Workspace, error) {
	var got Workspace
	_, err := c.Do(ctx, http.MethodGet, c.file.Workspace(), nil, &got)
	return got, err
}

// Workspaces yields every workspace of the subscription.
func (c *Client) Workspaces(ctx context.Context) iter.Seq2[Workspace, error] {
	return all[Workspace](ctx, c, "/subscriptions/"+c.file.SubscriptionID+"/providers/Microsoft.MachineLearningServices/workspaces")
}

// Place is what workspaces are in: a resource group, or a subscription.
type Place struct {
	ID   string `json:"id"`
	Name string `json:"name"` // a subscription has none but its id
}

// Groups yields the resource groups of the subscription.
func (c *Client) Groups(ctx context.Context) iter.Seq2[Place, error] {
	return all[Place](ctx, c, "/subscriptions/"+c.file.SubscriptionID+"/resourcegroups?api-version=2021-04-01")
}

// Subscriptions yields the subscriptions of the server.
func (c *Client) Subscriptions(ctx context.Context) iter.Seq2[Place, error] {
	return all[Place](ctx, c, "/subscriptions?api-version=2022-12-01")
}

// Size is a kind of machine.
type Size struct {
	Name        string  `json:"name"`
	Family      string  `json:"family"`
	VCPUs       int     `json:"vCPUs"`
	GPUs        int     `json:"gpus"`
	MemoryGB    float64 `json:"memoryGB"`
	LowPriority bool    `json:"lowPriorityCapable"`
}

// Sizes yields the kinds of machine that a region has.
func (c *Client) Sizes(ctx context.Context, region string) iter.Seq2[Size, error] {
	return all[Size](ctx, c, c.file.location(region)+"/vmSizes")
}

// Usage is how much of a quota is in use.
type Usage struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Unit    string `json:"unit"`
	Current int64  `json:"currentValue"`
	Limit   int64  `json:"limit"` // -1: none
	Name    struct {
		Value     string `json:"value"`
		Localized string `json:"localizedValue"`
	} `json:"name"`
}

// Usages yields what is used of every quota in a region.
func (c *Client) Usages(ctx context.Context, region string) iter.Seq2[Usage, error] {
	return all[Usage](ctx, c, c.file.location(region)+"/usages")
}

// Prune says what of the server's old files may go: of the kinds named, what
// is older than an age, and then the oldest until no more than a size is left.
type Prune struct {
	Kinds            []string `json:"kinds"`                      // logs, envs, snapshots, cache, blocks, events
	OlderThanSeconds int64    `json:"olderThanSeconds,omitempty"` // 0: any age, or with MaxSizeBytes no matter which
	MaxSizeBytes     *int64   `json:"maxSizeBytes,omitempty"`     // per kind; nil: any size
	DryRun           bool     `json:"dryRun"`
}

// Pruned is what went, or with DryRun would have gone.
type Pruned struct {
	DryRun bool        `json:"dryRun"`
	Value  []PrunedSet `json:"value"`
}

// PrunedSet is what went of one kind.
type PrunedSet struct {
	Kind      string `json:"kind"`
	Removed   int64  `json:"removed"` // count of logs, environments or snapshots
	Bytes     int64  `json:"bytes"`
	KeptBytes int64  `json:"keptBytes"`
}

// Prune removes the server's old files.
func (c *Client) Prune(ctx context.Context, p Prune) (Pruned, error) {
	var got Pruned
	_, err := c.Do(ctx, http.MethodPost, "/ebb/v1/admin/prune", p, &got)
	return got, err
}
