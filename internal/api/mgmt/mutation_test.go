package mgmt_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

// odd are what goes wrong in a path, a query or a body.
var odd = []string{
	"", "/", "//", "%00", "..", "%2e%2e", "%2F", "%ff", "'", "\"", "{", "}", "null", "[]", "{}", "-1", "1e999", "\\", "providers", "/providers/", "Microsoft.Authorization/locks",
	"?$filter=", "$top=-1", "&$skipToken=!", "Ä", "eq", "(((", "true", "default", strings.Repeat("a", 300),
}

// TestMutations sends requests that went wrong in one to three places. Whatever
// comes, nothing panics, no answer is a 5xx, and errors have ARM's form.
func TestMutations(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rg := strings.TrimSuffix(s.ws, "/providers/Microsoft.MachineLearningServices/workspaces/main")
	const auth = "/providers/Microsoft.Authorization/"
	whole := []struct{ method, path, body string }{
		{"PUT", s.sub + "/resourceGroups/one", `{"location":"westus2","tags":{"a":"b"}}`},
		{"PATCH", rg, `{"tags":{"a":"b"}}`},
		{"PUT", s.ws + "2", `{"location":"eastus","kind":"Default","sku":{"name":"Basic","tier":"Basic"},"identity":{"type":"SystemAssigned,UserAssigned","userAssignedIdentities":{"` + rg + `/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u":{}}},"properties":{"friendlyName":"f","keyVault":"` + rg + `/providers/Microsoft.KeyVault/vaults/kv1","hbiWorkspace":false,"encryption":{"status":"Disabled"}},"tags":{"a":"b"}}`},
		{"PATCH", s.ws, `{"identity":{"type":"SystemAssigned"},"properties":{"description":"d","publicNetworkAccess":"Enabled"}}`},
		{"PUT", rg + "/providers/Microsoft.Network/virtualNetworks/v", `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"s","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`},
		{"PATCH", rg + "/providers/Microsoft.Network/virtualNetworks/v", `{"tags":{"a":"b"},"properties":{"subnets":null}}`},
		{"PUT", rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u/federatedIdentityCredentials/f", `{"properties":{"issuer":"https://i.example","subject":"s","audiences":["a"]}}`},
		{"GET", s.sub + "/resources?$filter=resourceType%20eq%20'Microsoft.Network/virtualNetworks'%20and%20name%20eq%20'v'&$top=1&$expand=createdTime", ""},
		{"GET", rg + "/providers/Microsoft.Network/virtualNetworks/v/subnets", ""},
		{"POST", rg + "/providers/Microsoft.Network/virtualNetworks/v/act", ""},
		{"PUT", s.ws + auth + "locks/l", `{"properties":{"level":"CanNotDelete","notes":"n","owners":[{"applicationId":"x"}]}}`},
		{"DELETE", s.ws + auth + "locks/l", ""},
		{"GET", s.sub + auth + "roleDefinitions?$filter=roleName%20eq%20'Reader'", ""},
		{"PUT", s.sub + auth + "roleDefinitions/22222222-2222-4333-8444-555555555555", `{"properties":{"roleName":"Mine","permissions":[{"actions":["*/read"],"notActions":[]}],"assignableScopes":["` + rg + `"]}}`},
		{"PUT", s.ws + auth + "roleAssignments/33333333-2222-4333-8444-555555555555", `{"properties":{"roleDefinitionId":"` + s.sub + auth + `roleDefinitions/` + reader + `","principalId":"44444444-2222-4333-8444-555555555555","principalType":"User"}}`},
		{"GET", s.ws + auth + "roleAssignments?$filter=atScope()%20and%20assignedTo('44444444-2222-4333-8444-555555555555')", ""},
		{"PATCH", s.ws + "/providers/Microsoft.Resources/tags/default", `{"operation":"Merge","properties":{"tags":{"a":"b"}}}`},
		{"GET", "/v1.0/servicePrincipals?$filter=servicePrincipalNames/any(c:c%20eq%20'x')", ""},
		{"POST", "/v1.0/directoryObjects/getByIds", `{"ids":["44444444-2222-4333-8444-555555555555"]}`},
		{"GET", s.sub + "/providers/Microsoft.Network", ""},
		{"GET", s.sub + "/operationresults/x", ""},
	}
	rng := rand.New(rand.NewPCG(4, 2))
	splice := func(text string) string {
		if text == "" {
			return odd[rng.IntN(len(odd))]
		}
		from := rng.IntN(len(text))
		to := min(len(text), from+rng.IntN(12))
		return text[:from] + odd[rng.IntN(len(odd))] + text[to:]
	}
	rounds := 6000
	if testing.Short() {
		rounds = 600
	}
	for range rounds {
		c := whole[rng.IntN(len(whole))]
		for range 1 + rng.IntN(3) {
			if rng.IntN(2) == 0 {
				c.path = splice(c.path)
			} else {
				c.body = splice(c.body)
			}
		}
		if rng.IntN(10) == 0 {
			c.method = []string{"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"}[rng.IntN(6)]
		}
		s.survives(c.method, c.path, c.body)
	}
}

// survives sends one request, and checks the form of its answer.
func (s *site) survives(method, path, body string) {
	s.t.Helper()
	r, ok := request(method, path, body)
	if !ok {
		return // what no client can send
	}
	status, raw := s.send(r)
	if status >= 500 {
		s.t.Errorf("%s %s %s is answered %d %s", method, path, body, status, raw)
	}
	if status >= 400 && method != "HEAD" {
		var e struct {
			Error struct{ Code, Message string }
		}
		if json.Unmarshal(raw, &e) != nil || e.Error.Code == "" || e.Error.Message == "" {
			s.t.Errorf("%s %s %s is answered %d without an error: %s", method, path, body, status, raw)
		}
	}
}
