// Package mgmt serves Azure Resource Manager's addresses: subscriptions, resource
// groups, workspaces, computes, and what belongs to them. It turns requests
// into calls of use-cases and their answers into ARM's shapes; it decides nothing.
//
// Reads of workspaces and computes are served a second time below
// /rp/workspaces, where SDK v1 asks for them (reference/wire/sdk-v1.md §2).
// Start at [Register].
package mgmt

import (
	"context"
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/core/quota"
)

// Patterns that many routes begin with.
const (
	subPath       = "/subscriptions/{sub}"
	groupPath     = subPath + "/resourceGroups/{group}"
	providerPath  = "/providers/" + armid.Provider
	workspacePath = groupPath + providerPath + "/workspaces/{ws}"
	computePath   = workspacePath + "/computes/{compute}"
	locationPath  = subPath + providerPath + "/locations/{location}"
	dataPrefix    = "/rp/workspaces"
)

// Workspaces is what these routes need of app/workspaces.
type Workspaces interface {
	Tenant(ctx context.Context) (string, error)
	Subscriptions(ctx context.Context, p access.Principal) ([]workspaces.Document, error)
	Subscription(ctx context.Context, p access.Principal, sub string) (workspaces.Document, error)
	Groups(ctx context.Context, p access.Principal, sub string) ([]workspaces.Document, error)
	Group(ctx context.Context, p access.Principal, sub, group string) (workspaces.Document, error)
	List(ctx context.Context, p access.Principal, sub, group string) ([]workspaces.Document, error)
	Get(ctx context.Context, p access.Principal, id string) (workspaces.Document, error)
	PutGroup(ctx context.Context, p access.Principal, sub, name string, body map[string]any) (workspaces.Document, bool, error)
	PatchGroup(ctx context.Context, p access.Principal, sub, name string, body map[string]any) (workspaces.Document, error)
	DeleteGroup(ctx context.Context, p access.Principal, sub, name string) (operation.Operation, error)
	Put(ctx context.Context, p access.Principal, req workspaces.Request) (workspaces.Result, error)
	Patch(ctx context.Context, p access.Principal, req workspaces.Request) (workspaces.Result, error)
	Delete(ctx context.Context, p access.Principal, req workspaces.Request) (operation.Operation, error)
	Operation(ctx context.Context, p access.Principal, sub, id string) (operation.Operation, error)
}

// Computes is what the routes of computes need of app/computes.
type Computes interface {
	Put(ctx context.Context, p access.Principal, req computes.Request) (computes.Result, error)
	Patch(ctx context.Context, p access.Principal, req computes.Request) (computes.Result, error)
	Delete(ctx context.Context, p access.Principal, workspace, name, action string, match func(exists bool, rev int64) error) (computes.Result, error)
	Get(ctx context.Context, p access.Principal, workspace, name string) (computes.Document, error)
	List(ctx context.Context, p access.Principal, workspace, after string, limit int) ([]computes.Listed, string, error)
	Nodes(ctx context.Context, p access.Principal, workspace, name, after string, limit int) (nodes []computes.Node, next string, err error)
	Instances
	Operation(ctx context.Context, p access.Principal, sub, id string) (operation.Operation, error)
	Target(ctx context.Context, p access.Principal, op operation.Operation) (computes.Document, error)
}

// Instances is what only compute instances can do.
type Instances interface {
	Start(ctx context.Context, p access.Principal, workspace, name string) (computes.Result, error)
	Stop(ctx context.Context, p access.Principal, workspace, name string) (computes.Result, error)
	Restart(ctx context.Context, p access.Principal, workspace, name string) (computes.Result, error)
	Resize(ctx context.Context, p access.Principal, workspace, name, size string) (computes.Result, error)
	Free(ctx context.Context, p access.Principal, workspace, name string) (code, why string, err error)
}

// Ledger is what the routes of sizes, usages and quotas need of app/computes.
type Ledger interface {
	Sizes(ctx context.Context, p access.Principal, sub, region string) ([]quota.Machine, error)
	Usages(ctx context.Context, p access.Principal, sub, region string, expand bool) ([]quota.Row, error)
	Quotas(ctx context.Context, p access.Principal, sub, region string) ([]quota.Row, error)
	UpdateQuotas(ctx context.Context, p access.Principal, sub, region string, wishes []computes.QuotaWish) ([]computes.QuotaResult, error)
}

// Services are the use-cases behind the routes. All are needed.
type Services struct {
	Workspaces Workspaces
	Computes   Computes
	Ledger     Ledger
	Records    Records

	Authorization Authorization
}

// Register adds the routes of this package, but for jobs (RegisterJobs) and
// assets (RegisterAssets).
func Register(reg arm.Registrar, s Services) {
	registerResources(reg, resources{s.Workspaces})
	registerWorkspaces(reg, workspaceRoutes{s.Workspaces})
	registerComputes(reg, computeRoutes{c: s.Computes})
	registerLedger(reg, ledgerRoutes{s.Ledger})
	registerRecords(reg, recordRoutes{s.Workspaces, s.Computes, s.Records, authorizationRoutes{s.Authorization}})
	registerAuthorization(reg, authorizationRoutes{s.Authorization})
	registerGraph(reg, graphRoutes{s.Authorization})
	registerNotBuilt(reg)
}

// workspaceID is the workspace that a path names, as it was typed.
func workspaceID(r *http.Request) string {
	return armid.Workspace(r.PathValue("sub"), r.PathValue("group"), r.PathValue("ws"))
}

// old reports whether a request has an api-version from before 2020-04-01: SDK v1's
// 2020-02-02 wants the shapes of that time. No version means the newest.
func old(r *http.Request) bool {
	v := arm.Query(r, "api-version")
	return v != "" && v < "2020-04-01"
}

// notBuilt are addresses that later work will answer, with the name of the feature. A name is a
// segment below a workspace.
var notBuilt = []struct{ segment, feature string }{
	{"batchEndpoints", "Batch endpoints"}, {"onlineEndpoints", "Online endpoints"}, {"serverlessEndpoints", "Serverless endpoints"},
	{"schedules", "Schedules"}, {"featuresets", "Feature sets"}, {"featurestoreEntities", "Feature stores"},
	{"connections", "Workspace connections"}, {"privateEndpointConnections", "Private endpoints"}, {"privateLinkResources", "Private links"}, {"outboundRules", "Managed networks"},
	{"marketplaceSubscriptions", "Marketplace subscriptions"}, {"capabilityHosts", "Capability hosts"}, {"endpoints", "Inference endpoints"},
	{"listKeys", "Keys of a workspace's own resources"}, {"resyncKeys", "Keys of a workspace's own resources"}, {"diagnose", "Workspace diagnosis"},
	{"prepareNotebook", "Notebooks"}, {"listNotebookKeys", "Notebooks"}, {"listNotebookAccessToken", "Notebooks"}, {"listStorageAccountKeys", "Keys of a workspace's storage account"},
	{"outboundNetworkDependenciesEndpoints", "Managed networks"}, {"features", "Workspace features"},
	{"provisionManagedNetwork", "Managed networks"}, {"linkedServices", "Linked services"},
}

func registerNotBuilt(reg arm.Registrar) {
	for _, prefix := range []string{"", dataPrefix} {
		for _, n := range notBuilt {
			arm.NotBuilt(reg, prefix+workspacePath+"/"+n.segment, n.feature)
		}
	}
	arm.NotBuilt(reg, groupPath+providerPath+"/registries", "Registries")
	arm.NotBuilt(reg, subPath+providerPath+"/registries", "Registries")
	arm.NotBuilt(reg, groupPath+"/exportTemplate", "Export of templates")
	for _, move := range []string{"/moveResources", "/validateMoveResources"} {
		arm.NotBuilt(reg, groupPath+move, "Moving resources to another group")
	}
}

// query returns a query parameter in lower case.
func query(r *http.Request, name string) string { return strings.ToLower(arm.Query(r, name)) }
