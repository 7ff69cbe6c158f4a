package survival_test

import (
	"net/http"
	"net/url"

	"github.com/ebb-compute/ebb/client"
)

const version = "?api-version=2024-04-01"

// platform adds what az and Terraform ask besides clusters and jobs: groups and
// workspaces, records of other providers, locks, roles, the directory.
func (s *scene) platform() {
	s.add(200, "PUT", "{SUB}/resourceGroups/group-{N}"+version, `{"location":"westus2","tags":{"a":"b"}}`)
	s.add(200, "PATCH", "{SUB}/resourceGroups/group-{N}"+version, `{"tags":{"c":"d"}}`)
	const group = "{SUB}/resourceGroups/group-{N}/providers/"
	const workspace = group + "Microsoft.MachineLearningServices/workspaces/work-{N}"
	s.add(202, "PUT", workspace+version, `{"location":"westus2","identity":{"type":"SystemAssigned"},"tags":{"a":"b"},"properties":{"friendlyName":"f","description":"d",
	 "storageAccount":"{SUB}/resourceGroups/group-{N}/providers/Microsoft.Storage/storageAccounts/store{N}","publicNetworkAccess":"Enabled"}}`)
	s.add(202, "PATCH", workspace+version, `{"tags":{"c":"d"},"properties":{"description":"e"}}`)
	for _, record := range []struct{ id, body string }{
		{"Microsoft.Storage/storageAccounts/store{N}", `{"location":"westus2","sku":{"name":"Standard_LRS"},"kind":"StorageV2","properties":{"minimumTlsVersion":"TLS1_2"}}`},
		{"Microsoft.KeyVault/vaults/vault{N}", `{"location":"westus2","properties":{"tenantId":"{TENANT}","sku":{"family":"A","name":"standard"},"accessPolicies":[]}}`},
		{"Microsoft.Network/virtualNetworks/net{N}", `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"default","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`},
		{"Microsoft.ManagedIdentity/userAssignedIdentities/id{N}", `{"location":"westus2"}`},
	} {
		s.add(202, "PUT", group+record.id+"?api-version=2023-01-31", record.body)
		s.add(200, "GET", group+record.id+"?api-version=2023-01-31", "")
	}
	s.add(200, "GET", "{SUB}/resources?api-version=2024-11-01&$filter=resourceGroup%20eq%20'group-{N}'&$expand=createdTime", "")
	const authorization = "{WS}/providers/Microsoft.Authorization/"
	s.add(201, "PUT", "{WS}/computes/cpu-{N}x/providers/Microsoft.Authorization/locks/lock-{N}?api-version=2020-05-01", `{"properties":{"level":"CanNotDelete","notes":"n"}}`)
	s.add(200, "GET", "{SUB}/providers/Microsoft.Authorization/locks?api-version=2020-05-01", "")
	s.add(200, "DELETE", "{WS}/computes/cpu-{N}x/providers/Microsoft.Authorization/locks/lock-{N}?api-version=2020-05-01", "")
	s.add(200, "GET", authorization+"roleDefinitions?api-version=2022-04-01&$filter=roleName%20eq%20'Reader'", "")
	s.add(201, "PUT", "{WS}/computes/cpu-{N}x/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-00000000000{N}?api-version=2022-04-01",
		`{"properties":{"roleDefinitionId":"{SUB}/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7","principalId":"11111111-1111-1111-1111-111111111111","principalType":"ServicePrincipal"}}`)
	s.add(200, "GET", authorization+"roleAssignments?api-version=2022-04-01&$filter=atScope()", "")
	s.add(200, "GET", "/v1.0/servicePrincipals?$filter=servicePrincipalNames/any(c:c%20eq%20'x')", "")
	s.add(200, "POST", "/v1.0/directoryObjects/getByIds", `{"ids":["11111111-1111-1111-1111-111111111111"],"types":["user"]}`)
}

// tracking adds a job with inputs and outputs, and MLflow's calls.
func (s *scene) tracking() {
	s.add(201, "PUT", "{WS}/jobs/io-{N}"+version, `{"properties":{"jobType":"Command","command":"cp ${{inputs.file}} ${{outputs.out}}/f $[[--lr ${{inputs.lr}}]]","computeId":"{WS}/computes/cpu-{N}x",
	 "inputs":{"file":{"jobInputType":"uri_file","uri":"azureml://datastores/workspaceblobstore/paths/none","mode":"Download"},"lr":{"jobInputType":"literal","value":"0.1"}},
	 "outputs":{"out":{"jobOutputType":"uri_folder","mode":"Upload"}}}}`)
	const mlflow = "/mlflow/v2.0{WS}/api/2.0/mlflow"
	s.add(200, "GET", mlflow+"/experiments/get-by-name?experiment_name=Default", "")
	s.add(200, "POST", mlflow+"/experiments/search", `{"max_results":5,"filter":"name LIKE 'D%'"}`)
	s.add(200, "GET", mlflow+"/runs/get?run_id=done-{N}", "")
	s.add(200, "POST", mlflow+"/runs/log-metric", `{"run_id":"done-{N}","key":"m","value":0.5,"timestamp":1795397480364,"step":1}`)
	s.add(200, "POST", mlflow+"/runs/log-batch", `{"run_id":"done-{N}","metrics":[{"key":"x","value":1.0,"timestamp":1795397480412,"step":0}],"params":[{"key":"p","value":"v"}],"tags":[{"key":"t","value":"v"}]}`)
	s.add(200, "POST", mlflow+"/runs/set-tag", `{"run_id":"done-{N}","key":"t","value":"v"}`)
	s.add(200, "GET", mlflow+"/metrics/get-history?run_id=done-{N}&metric_key=m", "")
	s.add(200, "GET", mlflow+"/artifacts/list?run_id=done-{N}", "")
}

// unlock removes every lock: a spoilt request may have put one where it is in
// everybody's way.
func (s *scene) unlock() {
	s.t.Helper()
	f := s.c.File()
	at := "/subscriptions/" + f.SubscriptionID + "/providers/Microsoft.Authorization/locks?api-version=2020-05-01"
	for {
		var page struct{ Value []struct{ ID string } }
		if _, err := s.c.Do(s.t.Context(), http.MethodGet, at, nil, &page); err != nil {
			s.t.Fatalf("list locks: %v", err)
		}
		if len(page.Value) == 0 {
			return
		}
		for _, l := range page.Value {
			if _, err := s.c.Do(s.t.Context(), http.MethodDelete, (&url.URL{Path: l.ID}).EscapedPath(), nil, nil); err != nil && !client.IsNotFound(err) {
				s.t.Fatalf("remove the lock %s: %v", l.ID, err)
			}
		}
	}
}
