package mgmt_test

import (
	"net/url"
	"strings"
	"testing"
)

func TestGroups(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rg := s.sub + "/resourcegroups/Team"
	made := s.want(201, "PUT", rg, `{"location":"West Europe","tags":{"a":"b"}}`)
	if at(made.body, "id") != s.sub+"/resourceGroups/Team" || at(made.body, "location") != "westeurope" || at(made.body, "properties.provisioningState") != "Succeeded" {
		t.Errorf("the group is %s", made.raw)
	}
	s.want(200, "PUT", strings.ToLower(rg), made.raw)
	if a := s.want(409, "PUT", rg, `{"location":"eastus"}`); at(a.body, "error.code") != "InvalidResourceLocation" {
		t.Errorf("moving a group: %s", a.raw)
	}
	if a := s.want(200, "PATCH", rg, `{"tags":{"c":"d"}}`); at(a.body, "tags.c") != "d" || at(a.body, "tags.a") != nil {
		t.Errorf("patched tags: %s", a.raw)
	}
	s.want(204, "HEAD", rg, "")
	s.want(404, "HEAD", rg+"2", "")
	for filter, n := range map[string]int{"": 2, "tagName%20eq%20'c'": 1, "tagName%20eq%20'c'%20and%20tagValue%20eq%20'x'": 0} {
		if a := s.want(200, "GET", s.sub+"/resourcegroups?$filter="+filter, ""); len(at(a.body, "value").([]any)) != n {
			t.Errorf("groups where %q: %s; want %d", filter, a.raw, n)
		}
	}
	s.want(404, "DELETE", rg+"2", "")
	gone := s.want(202, "DELETE", rg+"?api-version=2024-11-01", "")
	if gone.header.Get("Retry-After") == "" || gone.header.Get("Azure-AsyncOperation") != "" {
		t.Errorf("the headers of a delete: %v", gone.header)
	}
	result := s.local(gone.header.Get("Location"))
	s.want(202, "GET", result, "")
	if a := s.want(409, "PUT", rg, `{"location":"westeurope"}`); at(a.body, "error.code") != "ResourceGroupBeingDeleted" {
		t.Errorf("a change during a delete: %s", a.raw)
	}
	s.sweep()
	s.want(204, "GET", result, "")
	s.want(404, "GET", rg, "")
}

// sweep finishes deletions, which must not wait for clusters.
func (s *site) sweep() {
	s.t.Helper()
	if left, err := s.wss.Sweep(s.t.Context()); left || err != nil {
		s.t.Fatalf("Sweep() = %v, %v", left, err)
	}
}

func TestWorkspaceWrites(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ws := strings.TrimSuffix(s.ws, "main") + "Second"
	made := s.want(200, "PUT", strings.Replace(ws, "/providers/", "/providers//", 1)+"?api-version=2024-04-01", `{"location":"eastus","properties":{"description":"d"},"identity":{"type":"SystemAssigned"}}`)
	for path, want := range map[string]any{
		"id": ws, "name": "Second", "location": "eastus", "kind": "Default", "sku.name": "Basic", "sku.tier": "Basic", "identity.type": "SystemAssigned",
		"properties.description": "d", "properties.friendlyName": nil, "properties.provisioningState": "Succeeded", "properties.publicNetworkAccess": "Enabled",
		"properties.keyVault": nil, "properties.discoveryUrl": "https://127.0.0.1:8443/discovery",
	} {
		if got := at(made.body, path); got != want {
			t.Errorf("%s of a new workspace is %v, want %v", path, got, want)
		}
	}
	for _, h := range []string{"Azure-AsyncOperation", "Location", "Retry-After", "ETag"} {
		if made.header.Get(h) == "" {
			t.Errorf("the answer has no %s", h)
		}
	}
	if op := s.want(200, "GET", s.local(made.header.Get("Azure-AsyncOperation")), ""); at(op.body, "status") != "Succeeded" {
		t.Errorf("the operation is %s", op.raw)
	}
	s.want(200, "GET", s.local(made.header.Get("Location")), "")
	again := s.want(200, "PUT", ws, made.raw) // as az resource update does
	for _, path := range []string{"identity.principalId", "properties.workspaceId", "properties.storageAccount", "properties.creationTime", "systemData.createdAt"} {
		if at(again.body, path) != at(made.body, path) {
			t.Errorf("%s changed from %v to %v", path, at(made.body, path), at(again.body, path))
		}
	}
	patched := s.want(200, "PATCH", ws, `{"tags":{"k":"v"},"properties":{"friendlyName":"F","description":null}}`)
	if at(patched.body, "tags.k") != "v" || at(patched.body, "properties.friendlyName") != "F" || at(patched.body, "properties.description") != nil {
		t.Errorf("patched: %s", patched.raw)
	}
	s.want(412, "PUT", ws, `{}`, "If-Match: \"0\"")
	s.want(201, "PUT", ws+"/computes/cpu", `{"properties":{"computeType":"AmlCompute","properties":{"scaleSettings":{"maxNodeCount":1}}}}`)
	for name, c := range map[string]struct{ method, at, body, code string }{
		"moved":                 {"PUT", ws, `{"location":"westus"}`, "InvalidResourceLocation"},
		"another storage":       {"PATCH", ws, `{"properties":{"storageAccount":"` + s.sub + `/resourceGroups/ebb/providers/Microsoft.Storage/storageAccounts/other"}}`, "PropertyChangeNotAllowed"},
		"a vault of no form":    {"PUT", ws + "x", `{"location":"eastus","properties":{"keyVault":"kv"}}`, "InvalidPropertyValue"},
		"a hub":                 {"PUT", ws + "x", `{"location":"eastus","kind":"hub"}`, "NotImplemented"},
		"own keys":              {"PUT", ws + "x", `{"location":"eastus","properties":{"encryption":{"status":"Enabled","keyVaultProperties":{"keyVaultArmId":"v","keyIdentifier":"k"}}}}`, "NotImplemented"},
		"a bad identity":        {"PUT", ws + "x", `{"location":"eastus","identity":{"type":"Mine"}}`, "InvalidPropertyValue"},
		"a short name":          {"PUT", strings.TrimSuffix(ws, "Second") + "a", `{"location":"eastus"}`, "InvalidResourceName"},
		"no group":              {"PUT", strings.Replace(ws, "/ebb/", "/none/", 1), `{"location":"eastus"}`, "ResourceGroupNotFound"},
		"patched and not there": {"PATCH", ws + "x", `{}`, "ResourceNotFound"},
	} {
		if a := s.ask(c.method, c.at, c.body); a.status < 400 || a.status >= 500 || at(a.body, "error.code") != c.code {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.raw, c.code)
		}
	}
	s.want(204, "DELETE", ws+"x", "")
	for word, flag := range map[string]bool{"true": true, "False": false} { // a template's parameter of type string
		made := s.want(200, "PUT", ws+word+"?api-version=2024-10-01-preview", `{"location":"eastus","properties":{"hbiWorkspace":"`+word+`"}}`)
		if at(made.body, "properties.hbiWorkspace") != flag {
			t.Errorf("hbiWorkspace of %q: %s", word, made.raw)
		}
	}
	s.want(400, "PUT", ws+"x", `{"location":"eastus","properties":{"hbiWorkspace":"perhaps"}}`)
	s.want(202, "DELETE", ws, "")
	if a := s.want(200, "GET", ws, ""); at(a.body, "properties.provisioningState") != "Deleting" {
		t.Errorf("a workspace that goes: %s", a.raw)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rg := s.sub + "/resourceGroups/EBB/providers/"
	account := s.want(200, "PUT", rg+"microsoft.storage/storageaccounts/acct1", `{"location":"westus2","sku":{"name":"Standard_LRS"},"kind":"StorageV2","properties":{"x":1}}`)
	if id := at(account.body, "id"); id != s.sub+"/resourceGroups/ebb/providers/Microsoft.Storage/storageAccounts/acct1" {
		t.Errorf("the id is %v", id)
	}
	s.want(200, "PUT", rg+"Microsoft.Storage//storageAccounts/acct1", account.raw)
	if a := s.want(200, "PATCH", rg+"Microsoft.Storage/storageAccounts/acct1", `{"tags":{"t":"1"},"properties":{"y":2}}`); at(a.body, "properties.x") != 1.0 || at(a.body, "properties.y") != 2.0 {
		t.Errorf("patched: %s", a.raw)
	}
	s.want(201, "PUT", rg+"Microsoft.Storage/storageAccounts/acct1/blobServices/default/containers/c", `{}`)
	s.want(204, "HEAD", rg+"Microsoft.Storage/storageAccounts/acct1", "")

	net := rg + "Microsoft.Network/virtualNetworks/v"
	s.want(201, "PUT", net, `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"one","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`)
	s.want(201, "PUT", net+"/subnets/two", `{"properties":{"addressPrefix":"10.0.1.0/24"}}`)
	if a := s.want(200, "GET", net+"/subnets/one", ""); at(a.body, "properties.addressPrefix") != "10.0.0.0/24" {
		t.Errorf("a subnet that came with its network: %s", a.raw)
	}
	if a := s.want(200, "GET", net, ""); len(at(a.body, "properties.subnets").([]any)) != 2 {
		t.Errorf("the network: %s", a.raw)
	}
	if a := s.want(200, "GET", net+"/subnets", ""); len(at(a.body, "value").([]any)) != 2 {
		t.Errorf("its subnets: %s", a.raw)
	}
	user := rg + "Microsoft.ManagedIdentity/userAssignedIdentities/uai1"
	one := s.want(201, "PUT", user, `{"location":"westus2"}`)
	two := s.want(200, "PUT", user, `{"location":"westus2","tags":{"a":"b"}}`)
	if at(one.body, "properties.principalId") != at(two.body, "properties.principalId") || at(one.body, "properties.clientId") == "" {
		t.Errorf("an identity changed: %s, %s", one.raw, two.raw)
	}
	s.want(201, "PUT", user+"/federatedIdentityCredentials/f", `{"properties":{"issuer":"https://issuer.example","subject":"s","audiences":["api://AzureADTokenExchange"]}}`)

	for filter, n := range map[string]int{
		"": 8, "resourceType eq 'Microsoft.Network/virtualNetworks'": 1, "resourceGroup eq 'ebb' and resourceType eq 'microsoft.machinelearningservices/WORKSPACES'": 1,
		"tagName eq 't' and tagValue eq '1'": 1, "name eq 'uai1'": 1, "resourceGroup eq 'other'": 0, "startswith(tagName, 'a')": 1,
	} {
		if a := s.want(200, "GET", s.sub+"/resources?$expand=createdTime&$filter="+url.QueryEscape(filter), ""); len(at(a.body, "value").([]any)) != n {
			t.Errorf("resources where %q: %s; want %d", filter, a.raw, n)
		}
	}
	seen, next := 0, s.sub+"/resources?$top=3"
	for next != "" {
		a := s.want(200, "GET", next, "")
		seen += len(at(a.body, "value").([]any))
		link, _ := a.body["nextLink"].(string)
		if next = ""; link != "" {
			next = s.local(link)
		}
	}
	if seen != 8 {
		t.Errorf("pages of three have %d resources", seen)
	}

	for name, want := range map[string]any{"acct1": "AlreadyExists", "acct2": nil, "Not Valid": "AccountNameInvalid"} {
		a := s.want(200, "POST", s.sub+"/providers/Microsoft.Storage/checkNameAvailability", `{"name":"`+name+`","type":"Microsoft.Storage/storageAccounts"}`)
		if at(a.body, "reason") != want || at(a.body, "nameAvailable") != (want == nil) {
			t.Errorf("the name %q: %s", name, a.raw)
		}
	}
	for name, c := range map[string]struct {
		status                 int
		method, at, body, code string
	}{
		"an action of none":  {404, "POST", s.sub + "/providers/Microsoft.Storage/act", "{}", "InvalidResourceType"},
		"no location":        {400, "PUT", rg + "Microsoft.KeyVault/vaults/kv1", `{}`, "LocationRequired"},
		"a bad name":         {400, "PUT", rg + "Microsoft.Storage/storageAccounts/My_Account", `{"location":"westus2"}`, "InvalidResourceName"},
		"an unknown type":    {404, "PUT", rg + "Microsoft.Storage/queues/q", `{"location":"westus2"}`, "InvalidResourceType"},
		"another provider":   {404, "GET", rg + "Microsoft.Web/sites/s", "", "InvalidResourceNamespace"},
		"no parent":          {404, "PUT", rg + "Microsoft.Network/virtualNetworks/none/subnets/s", `{}`, "ParentResourceNotFound"},
		"no group":           {404, "PUT", strings.Replace(rg, "EBB", "none", 1) + "Microsoft.KeyVault/vaults/kv1", `{"location":"westus2"}`, "ResourceGroupNotFound"},
		"no group at all":    {400, "PUT", s.sub + "/providers/Microsoft.KeyVault/vaults/kv1", `{"location":"westus2"}`, "InvalidResourceId"},
		"a list is no thing": {400, "PUT", rg + "Microsoft.KeyVault/vaults", `{"location":"westus2"}`, "InvalidRequestUri"},
		"an action":          {400, "POST", rg + "Microsoft.Storage/storageAccounts/acct1/listKeys", "", "NotImplemented"},
		"a bad credential":   {400, "PUT", user + "/federatedIdentityCredentials/g", `{"properties":{"issuer":"http://x","subject":"s","audiences":["a"]}}`, "InvalidPropertyValue"},
		"a bad top":          {400, "GET", s.sub + "/resources?$top=0", "", "InvalidTopInQueryString"},
	} {
		if a := s.ask(c.method, c.at, c.body); a.status != c.status || at(a.body, "error.code") != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.raw, c.status, c.code)
		}
	}
	s.want(200, "DELETE", net, "")
	s.want(204, "DELETE", net, "")
	s.want(404, "GET", net+"/subnets/one", "")
}

// TestTags changes the tags of every kind of resource by their own address.
func TestTags(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rg := s.sub + "/resourceGroups/ebb"
	account := rg + "/providers/Microsoft.Storage/storageAccounts/acct1"
	s.want(201, "PUT", s.ws+"/computes/cpu", cluster)
	s.want(200, "PUT", account, `{"location":"westus2"}`)
	for _, scope := range []string{rg, s.ws, s.ws + "/computes/cpu", account} {
		tags := scope + "/providers/Microsoft.Resources/tags/default"
		s.want(200, "PUT", tags, `{"properties":{"tags":{"a":"1","b":"2"}}}`)
		a := s.want(200, "PATCH", tags, `{"operation":"Merge","properties":{"tags":{"b":"3","c":"4"}}}`)
		if at(a.body, "properties.tags.a") != "1" || at(a.body, "properties.tags.b") != "3" || at(a.body, "id") != tags {
			t.Errorf("merged tags of %s: %s", scope, a.raw)
		}
		s.want(200, "PATCH", tags, `{"operation":"Delete","properties":{"tags":{"a":"1"}}}`)
		a = s.want(200, "GET", scope, "")
		if at(a.body, "tags.a") != nil || at(a.body, "tags.c") != "4" {
			t.Errorf("tags of %s: %s", scope, a.raw)
		}
		s.want(400, "PATCH", tags, `{"operation":"Turn","properties":{"tags":{}}}`)
		if scope == rg {
			if a := s.want(200, "GET", s.sub+"/tagNames", ""); len(at(a.body, "value").([]any)) != 2 {
				t.Errorf("tag names: %s", a.raw)
			}
		}
		s.want(200, "DELETE", tags, "")
		if a := s.want(200, "GET", tags, ""); len(at(a.body, "properties.tags").(map[string]any)) != 0 {
			t.Errorf("deleted tags of %s: %s", scope, a.raw)
		}
	}
	s.want(400, "GET", s.sub+"/providers/Microsoft.Resources/tags/default", "")
}
