package mgmt_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/mgmt"
	"github.com/ebb-compute/ebb/internal/app/deployments"
)

// open is no seal at all.
type open struct{}

func (open) Seal(_ string, secret []byte) ([]byte, error)   { return secret, nil }
func (open) Unseal(_ string, sealed []byte) ([]byte, error) { return sealed, nil }

// deploying adds deployments to a site, and carries them out until stop.
func deploying(s *site) (stop func()) {
	rt := s.h.(*arm.Router)
	d := &deployments.Service{Store: s.st, Scopes: s.wss, Calls: mgmt.Inside{Router: rt}, Secrets: open{}, Now: time.Now, NewID: uuid.NewString, Log: slog.New(slog.DiscardHandler)}
	mgmt.RegisterDeployments(rt, d)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

// asAzSends is a body as az sends it: the template's file as it is, behind a key
// without quotes.
const asAzSends = `{"properties": {"parameters": {"name": {"value": "new"}}, "mode": "incremental", template:{
  // a comment
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
  "parameters": {"name": {"type": "string"}}, /* another */
  "resources": [{"type": "Microsoft.Storage/storageAccounts", "apiVersion": "2023-01-01", "name": "[concat(parameters('name'),
      'storage')]", "location": "westus2", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": {},}],
  "outputs": {"id": {"type": "string", "value": "[resourceId('Microsoft.Storage/storageAccounts', concat(parameters('name'), 'storage'))]"}}
}}}`

func TestDeployments(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		defer deploying(s)()
		group := s.sub + "/resourceGroups/ebb"
		at := group + "/providers/Microsoft.Resources/deployments/d"
		for _, step := range []struct {
			what   string
			status int
			method string
			path   string
			body   string
			want   string
		}{
			{"validation", 200, "POST", at + "/validate", asAzSends, `"validatedResources":[{"id":"` + group + `/providers/Microsoft.Storage/storageAccounts/newstorage"}]`},
			{"what if", 200, "POST", at + "/whatIf", asAzSends, `"changeType":"Create"`},
			{"none is there yet", 404, "HEAD", at, "", ""},
			{"nor can it be read", 404, "GET", at, "", "DeploymentNotFound"},
			{"creation", 201, "PUT", at, asAzSends, `"provisioningState":"Accepted"`},
			{"its end", 200, "GET", at, "", `"provisioningState":"Succeeded"`},
			{"its outputs", 200, "GET", at, "", `"outputs":{"id":{"type":"String","value":"` + group + `/providers/Microsoft.Storage/storageAccounts/newstorage"}}`},
			{"what it made", 200, "GET", group + "/providers/Microsoft.Storage/storageAccounts/newstorage", "", `"StorageV2"`},
			{"the same by another spelling", 204, "HEAD", strings.Replace(at, "resourceGroups/ebb", "resourcegroups/EBB", 1), "", ""},
			{"creation again", 200, "PUT", at, asAzSends, `"provisioningState":"Accepted"`},
			{"the list", 200, "GET", group + "/providers/Microsoft.Resources/deployments/", "", `"name":"d"`},
			{"a list of the failed", 200, "GET", group + "/providers/Microsoft.Resources/deployments?$filter=provisioningState%20eq%20'Failed'", "", `{"value":[]}`},
			{"its operations", 200, "GET", at + "/operations", "", `"provisioningOperation":"Create"`},
			{"its operations without the provider", 200, "GET", strings.ToLower(group) + "/deployments/d/operations", "", `"statusCode":"OK"`},
			{"an operation that is none", 404, "GET", at + "/operations/0", "", "DeploymentOperationNotFound"},
			{"its template", 200, "POST", at + "/exportTemplate", "", `"contentVersion":"1.0.0.0"`},
			{"cancelling what has ended", 409, "POST", at + "/cancel", "", "DeploymentCannotBeCancelled"},
			{"deletion", 204, "DELETE", at, "", ""},
			{"deletion again", 204, "DELETE", at, "", ""},
			{"a template that is none", 400, "POST", at + "/validate", strings.Replace(asAzSends, "concat(parameters", "concat(parameter", 1), `"InvalidTemplate"`},
			{"what would become of it", 200, "POST", at + "/whatIf", strings.Replace(asAzSends, "concat(parameters", "concat(parameter", 1), `{"error":{"code":"InvalidTemplate",`},
			{"a body that ends early", 400, "PUT", at, `{"properties": {template:{`, "InvalidRequestContent"},
			{"a subscription without a location", 400, "PUT", s.sub + "/providers/Microsoft.Resources/deployments/d", asAzSends, "LocationRequired"},
			{"a tenant", 400, "PUT", "/providers/Microsoft.Resources/deployments/d", asAzSends, "NotImplemented"},
			{"a group that is none", 404, "PUT", strings.Replace(at, "/ebb/", "/none/", 1), asAzSends, "ResourceGroupNotFound"},
		} {
			got := s.ask(step.method, step.path, step.body)
			if got.status != step.status || !strings.Contains(got.raw, step.want) {
				t.Errorf("%s: %s %s = %d %s; want %d with %s", step.what, step.method, step.path, got.status, got.raw, step.status, step.want)
			}
			if step.method != "PUT" || got.status >= 400 {
				continue
			}
			poll := got.header.Get("Azure-AsyncOperation")
			if !strings.HasPrefix(poll, "https://127.0.0.1:8443"+at+"/operationStatuses/") || got.header.Get("Retry-After") == "" {
				t.Errorf("%s: the headers are %v", step.what, got.header)
			}
			time.Sleep(time.Minute)
			if end := s.ask("GET", strings.TrimPrefix(poll, "https://127.0.0.1:8443"), ""); end.body["status"] != "Succeeded" {
				t.Errorf("%s: the operation ended as %s", step.what, end.raw)
			}
		}
	})
}
