// Command gosdk is what Microsoft's Go SDK does with a server, for the tests of
// compat: "gosdk life" goes through everything, "gosdk failing" makes a compute
// instance whose node cannot start. It is a module of its own, so that the SDK
// is nobody's dependency.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	aml "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"
)

// place is the config.json that "ebb config write" leaves.
type place struct {
	Subscription string `json:"subscription_id"`
	Group        string `json:"resource_group"`
	Workspace    string `json:"workspace_name"`
}

// fast makes pollers look again soon: the server asks for a second.
var fast = &runtime.PollUntilDoneOptions{Frequency: time.Second}

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	text, err := os.ReadFile("config.json")
	check("read config.json", err)
	var p place
	check("parse config.json", json.Unmarshal(text, &p))
	f := clients(p)
	switch os.Args[1] {
	case "life":
		workspaces(ctx, f, p)
		clusters(ctx, f, p)
		instances(ctx, f, p)
		ledger(ctx, f, p)
		jobs(ctx, f, p)
		refusals(ctx, f, p)
	case "failing":
		failing(ctx, f, p)
	}
	fmt.Println("done")
}

// clients comes by Azure's names ("ebb exec"), or by a cloud of the server's own
// where the environment names it.
func clients(p place) *aml.ClientFactory {
	var options arm.ClientOptions
	own := os.Getenv("AZURE_AUTHORITY_HOST")
	if own != "" {
		options.Cloud = cloud.Configuration{
			ActiveDirectoryAuthorityHost: own + "/",
			Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: own, Audience: own}},
		}
	}
	cred, err := azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{
		ClientOptions: options.ClientOptions, DisableInstanceDiscovery: own != "",
	})
	check("credential", err)
	f, err := aml.NewClientFactory(p.Subscription, cred, &options)
	check("clients", err)
	return f
}

func check(what string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func must(ok bool, format string, args ...any) {
	if !ok {
		log.Fatalf(format, args...)
	}
}

// end waits for an operation, as callers of the SDK do.
func end[T any](ctx context.Context, what string, poller *runtime.Poller[T], err error) T {
	check(what, err)
	v, err := poller.PollUntilDone(ctx, fast)
	check(what+", its operation", err)
	return v
}

// all reads every page.
func all[T, V any](ctx context.Context, what string, pager *runtime.Pager[T], values func(T) []V) []V {
	var list []V
	for pager.More() {
		page, err := pager.NextPage(ctx)
		check(what, err)
		list = append(list, values(page)...)
	}
	return list
}

// refused checks that an error is the server's, with a code.
func refused(what string, err error, status int, code string) {
	var e *azcore.ResponseError
	must(errors.As(err, &e) && e.StatusCode == status && e.ErrorCode == code, "%s: %v, want %d %s", what, err, status, code)
}

func workspaces(ctx context.Context, f *aml.ClientFactory, p place) {
	c := f.NewWorkspacesClient()
	ws, err := c.Get(ctx, p.Group, p.Workspace, nil)
	check("get the workspace", err)
	list := all(ctx, "list workspaces", c.NewListBySubscriptionPager(nil), func(r aml.WorkspacesClientListBySubscriptionResponse) []*aml.Workspace { return r.Value })
	must(slices.ContainsFunc(list, func(w *aml.Workspace) bool { return *w.ID == *ws.ID }), "%s is not listed", *ws.ID)
	poller, err := c.BeginCreateOrUpdate(ctx, p.Group, "gosdk-ws", aml.Workspace{
		Location: to.Ptr("eastus"), Identity: &aml.ManagedServiceIdentity{Type: to.Ptr(aml.ManagedServiceIdentityTypeSystemAssigned)},
		Properties: &aml.WorkspaceProperties{FriendlyName: to.Ptr("made by Go")},
	}, nil)
	made := end(ctx, "make a workspace", poller, err)
	must(*made.Properties.FriendlyName == "made by Go" && *made.Properties.ProvisioningState == aml.ProvisioningStateSucceeded, "made %+v", made.Properties)
	gone, err := c.BeginDelete(ctx, p.Group, "gosdk-ws", nil)
	end(ctx, "delete the workspace", gone, err)
	_, err = c.Get(ctx, p.Group, "gosdk-ws", nil)
	refused("get what was deleted", err, 404, "ResourceNotFound")
}

// cluster is the cluster's own properties, or an end of the program.
func cluster(r aml.ComputeResource) *aml.AmlComputeProperties {
	c, ok := r.Properties.(*aml.AmlCompute)
	must(ok && c.Properties != nil, "%T is no cluster", r.Properties)
	return c.Properties
}

func clusters(ctx context.Context, f *aml.ClientFactory, p place) {
	c := f.NewComputeClient()
	poller, err := c.BeginCreateOrUpdate(ctx, p.Group, p.Workspace, "go-cpu", aml.ComputeResource{
		Location: to.Ptr("westus2"), Tags: map[string]*string{"who": to.Ptr("go")},
		Identity: &aml.ManagedServiceIdentity{Type: to.Ptr(aml.ManagedServiceIdentityTypeSystemAssigned)},
		Properties: &aml.AmlCompute{ComputeType: to.Ptr(aml.ComputeTypeAmlCompute), Properties: &aml.AmlComputeProperties{
			VMSize: to.Ptr("Standard_DS3_v2"), VMPriority: to.Ptr(aml.VMPriorityDedicated), OSType: to.Ptr(aml.OsTypeLinux),
			ScaleSettings: &aml.ScaleSettings{MinNodeCount: to.Ptr[int32](1), MaxNodeCount: to.Ptr[int32](2), NodeIdleTimeBeforeScaleDown: to.Ptr("PT2M")},
		}},
	}, nil)
	made := end(ctx, "make a cluster", poller, err)
	must(*cluster(made.ComputeResource).VMSize == "STANDARD_DS3_V2" && made.Identity.PrincipalID != nil, "made %+v", made)

	var nodes []*aml.AmlComputeNodeInformation
	for len(nodes) == 0 || *nodes[0].NodeState != aml.NodeStateIdle {
		check("wait for a node", ctx.Err())
		time.Sleep(200 * time.Millisecond)
		nodes = all(ctx, "list nodes", c.NewListNodesPager(p.Group, p.Workspace, "go-cpu", nil), func(r aml.ComputeClientListNodesResponse) []*aml.AmlComputeNodeInformation { return r.Nodes })
	}
	update, err := c.BeginUpdate(ctx, p.Group, p.Workspace, "go-cpu", aml.ClusterUpdateParameters{
		Properties: &aml.ClusterUpdateProperties{Properties: &aml.ScaleSettingsInformation{ScaleSettings: &aml.ScaleSettings{MaxNodeCount: to.Ptr[int32](4), MinNodeCount: to.Ptr[int32](0)}}},
	}, nil)
	updated := end(ctx, "update the cluster", update, err)
	must(*cluster(updated.ComputeResource).ScaleSettings.MaxNodeCount == 4, "updated %+v", updated)
	list := all(ctx, "list computes", c.NewListPager(p.Group, p.Workspace, nil), func(r aml.ComputeClientListResponse) []*aml.ComputeResource { return r.Value })
	must(len(list) == 1 && *list[0].Tags["who"] == "go", "listed %v", list)
}

func state(ctx context.Context, c *aml.ComputeClient, p place) aml.ComputeInstanceState {
	r, err := c.Get(ctx, p.Group, p.Workspace, "go-ci", nil)
	check("get the instance", err)
	ci, ok := r.Properties.(*aml.ComputeInstance)
	must(ok, "%T is no instance", r.Properties)
	return *ci.Properties.State
}

func beginInstance(ctx context.Context, c *aml.ComputeClient, p place) (*runtime.Poller[aml.ComputeClientCreateOrUpdateResponse], error) {
	return c.BeginCreateOrUpdate(ctx, p.Group, p.Workspace, "go-ci", aml.ComputeResource{
		Properties: &aml.ComputeInstance{ComputeType: to.Ptr(aml.ComputeTypeComputeInstance), Properties: &aml.ComputeInstanceProperties{VMSize: to.Ptr("Standard_DS3_v2")}},
	}, nil)
}

func instances(ctx context.Context, f *aml.ClientFactory, p place) {
	c := f.NewComputeClient()
	poller, err := beginInstance(ctx, c, p)
	end(ctx, "make an instance", poller, err)
	must(state(ctx, c, p) == aml.ComputeInstanceStateRunning, "made, it is %s", state(ctx, c, p))
	stop, err := c.BeginStop(ctx, p.Group, p.Workspace, "go-ci", nil)
	end(ctx, "stop", stop, err)
	must(state(ctx, c, p) == aml.ComputeInstanceStateStopped, "stopped, it is %s", state(ctx, c, p))
	start, err := c.BeginStart(ctx, p.Group, p.Workspace, "go-ci", nil)
	end(ctx, "start", start, err)
	restart, err := c.BeginRestart(ctx, p.Group, p.Workspace, "go-ci", nil)
	end(ctx, "restart", restart, err)
	must(state(ctx, c, p) == aml.ComputeInstanceStateRunning, "restarted, it is %s", state(ctx, c, p))
	gone, err := c.BeginDelete(ctx, p.Group, p.Workspace, "go-ci", aml.UnderlyingResourceActionDelete, nil)
	end(ctx, "delete the instance", gone, err)
}

func ledger(ctx context.Context, f *aml.ClientFactory, p place) {
	sizes, err := f.NewVirtualMachineSizesClient().List(ctx, "westus2", nil)
	check("list sizes", err)
	must(slices.ContainsFunc(sizes.Value, func(s *aml.VirtualMachineSize) bool { return *s.Name == "Standard_DS3_v2" && *s.VCPUs == 4 }), "no DS3_v2 in %d sizes", len(sizes.Value))
	usages := all(ctx, "list usages", f.NewUsagesClient().NewListPager("westus2", nil), func(r aml.UsagesClientListResponse) []*aml.Usage { return r.Value })
	must(slices.ContainsFunc(usages, func(u *aml.Usage) bool { return strings.HasSuffix(*u.ID, "/usages") && *u.Limit > 0 }), "no totals in %d usages", len(usages))
	q := f.NewQuotasClient()
	id := "/subscriptions/" + p.Subscription + "/resourceGroups/" + p.Group + "/providers/Microsoft.MachineLearningServices/workspaces/" + p.Workspace + "/quotas/standardDSv2Family"
	set, err := q.Update(ctx, "westus2", aml.QuotaUpdateParameters{Value: []*aml.QuotaBaseProperties{{ID: &id, Limit: to.Ptr[int64](40), Type: to.Ptr("Microsoft.MachineLearningServices/workspaces/quotas"), Unit: to.Ptr(aml.QuotaUnitCount)}}}, nil)
	check("update quotas", err)
	must(*set.Value[0].Status == aml.StatusSuccess, "quota %+v", set.Value[0])
	quotas := all(ctx, "list quotas", q.NewListPager("westus2", nil), func(r aml.QuotasClientListResponse) []*aml.ResourceQuota { return r.Value })
	must(slices.ContainsFunc(quotas, func(r *aml.ResourceQuota) bool { return *r.Limit == 40 }), "the quota is not listed")
}

func jobs(ctx context.Context, f *aml.ClientFactory, p place) {
	c := f.NewJobsClient()
	compute := "/subscriptions/" + p.Subscription + "/resourceGroups/" + p.Group + "/providers/Microsoft.MachineLearningServices/workspaces/" + p.Workspace + "/computes/go-cpu"
	job := func(command string) aml.JobBase {
		return aml.JobBase{Properties: &aml.CommandJob{
			JobType: to.Ptr(aml.JobTypeCommand), Command: &command, ComputeID: &compute, EnvironmentID: to.Ptr("azureml:plain:1"), ExperimentName: to.Ptr("from-go"),
			EnvironmentVariables: map[string]*string{"WHO": to.Ptr("go")},
		}}
	}
	v := f.NewEnvironmentVersionsClient()
	_, err := v.CreateOrUpdate(ctx, p.Group, p.Workspace, "plain", "1", aml.EnvironmentVersion{Properties: &aml.EnvironmentVersionProperties{Image: to.Ptr("mcr.microsoft.com/azureml/base")}}, nil)
	check("make an environment", err)
	_, err = c.CreateOrUpdate(ctx, p.Group, p.Workspace, "go-job-1", job(`test "$WHO" = go`), nil)
	check("submit", err)
	status := func(name string) aml.JobStatus {
		r, err := c.Get(ctx, p.Group, p.Workspace, name, nil)
		check("get a job", err)
		return *r.Properties.GetJobBaseProperties().Status
	}
	until := func(name string, want aml.JobStatus) {
		for is := status(name); is != want; is = status(name) {
			check("wait for "+name, ctx.Err())
			must(is != aml.JobStatusFailed, "%s failed", name)
			time.Sleep(200 * time.Millisecond)
		}
	}
	until("go-job-1", aml.JobStatusCompleted)
	_, err = c.CreateOrUpdate(ctx, p.Group, p.Workspace, "go-job-2", job("sleep 600"), nil)
	check("submit another", err)
	until("go-job-2", aml.JobStatusRunning)
	cancel, err := c.BeginCancel(ctx, p.Group, p.Workspace, "go-job-2", nil)
	end(ctx, "cancel", cancel, err)
	until("go-job-2", aml.JobStatusCanceled)
	list := all(ctx, "list jobs", c.NewListPager(p.Group, p.Workspace, nil), func(r aml.JobsClientListResponse) []*aml.JobBase { return r.Value })
	must(len(list) == 2, "%d jobs are listed", len(list))
}

func refusals(ctx context.Context, f *aml.ClientFactory, p place) {
	c := f.NewComputeClient()
	_, err := c.BeginCreateOrUpdate(ctx, p.Group, p.Workspace, "go-bad", aml.ComputeResource{
		Properties: &aml.AmlCompute{ComputeType: to.Ptr(aml.ComputeTypeAmlCompute), Properties: &aml.AmlComputeProperties{VMSize: to.Ptr("Standard_Huge"), ScaleSettings: &aml.ScaleSettings{MaxNodeCount: to.Ptr[int32](1)}}},
	}, nil)
	refused("a size that nobody has", err, 400, "InvalidPropertyValue")
	_, err = c.BeginCreateOrUpdate(ctx, p.Group, p.Workspace, "go-aks", aml.ComputeResource{Properties: &aml.AKS{ComputeType: to.Ptr(aml.ComputeTypeAKS)}}, nil)
	refused("another type", err, 400, "NotImplemented")
	_, err = c.BeginStart(ctx, p.Group, p.Workspace, "go-cpu", nil)
	refused("starting a cluster", err, 400, "UserError")
	gone, err := c.BeginDelete(ctx, p.Group, p.Workspace, "go-cpu", aml.UnderlyingResourceActionDelete, nil)
	end(ctx, "delete the cluster", gone, err)
	_, err = c.Get(ctx, p.Group, p.Workspace, "go-cpu", nil)
	refused("get what was deleted", err, 404, "ResourceNotFound")
}

// failing waits for an operation that fails.
func failing(ctx context.Context, f *aml.ClientFactory, p place) {
	c := f.NewComputeClient()
	poller, err := beginInstance(ctx, c, p)
	check("make an instance", err)
	_, err = poller.PollUntilDone(ctx, fast)
	refused("an instance that cannot start", err, 200, "NodeLaunchFailed")
	must(state(ctx, c, p) == aml.ComputeInstanceStateCreateFailed, "it is %s", state(ctx, c, p))
}
