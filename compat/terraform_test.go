package compat_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// The providers of Terraform cannot be had from a registry of packages, so what
// azurerm 5.2 and azapi were seen to send is sent here by hand, in their order,
// and what they need of the answers is checked: every line of read below is an
// attribute that azurerm compares with the configuration, and a difference there
// is a plan that is not empty.

const (
	azurerm = "?api-version=2025-06-01"
	sshKey  = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 me@here"
)

// TestTerraformProvider: what a provider asks before it asks for a resource.
func TestTerraformProvider(t *testing.T) {
	t.Parallel()
	w := newWire(t, testkit.Serve(t))
	meta := w.want(200, "GET", "/metadata/endpoints?api-version=2022-09-01", "")
	for path, want := range map[string]any{
		"resourceManager": w.base, "authentication.loginEndpoint": w.base, "authentication.identityProvider": "AAD",
	} {
		if got, _ := meta.at(path).(string); strings.TrimSuffix(got, "/") != want {
			t.Errorf("%s of the metadata is %q, want %q", path, got, want)
		}
	}
	// Without these azurerm says that the environment does not support storage, and the like.
	for _, path := range []string{"authentication.audiences", "authentication.tenant", "suffixes.storage", "suffixes.keyVaultDns", "microsoftGraphResourceId", "name"} {
		if got := meta.at(path); got == nil || got == "" {
			t.Errorf("the metadata has no %s", path)
		}
	}
	// azurerm parses the token without verifying it; without oid it asks Microsoft Graph.
	parts := strings.Split(w.token, ".")
	if len(parts) != 3 {
		t.Fatalf("the token has %d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	for _, claim := range []string{"tid", "oid", "appid", "idtyp"} {
		if claims[claim] == nil {
			t.Errorf("the token has no %s: %v", claim, claims)
		}
	}
}

// terraform is one configuration of azurerm_machine_learning_compute_cluster.
type terraform struct {
	name, location, size, priority, description string
	min, max                                    int
	idle                                        string
	ssh, public, ip, local                      bool
	identity, subnet                            string
	tags                                        map[string]any
}

// put is the body of azurerm's create.
func (c terraform) put() map[string]any {
	inner := map[string]any{
		"vmSize": c.size, "vmPriority": c.priority, "enableNodePublicIp": c.ip, "remoteLoginPortPublicAccess": "Disabled",
		"scaleSettings": map[string]any{"minNodeCount": c.min, "maxNodeCount": c.max, "nodeIdleTimeBeforeScaleDown": c.idle},
	}
	if c.public {
		inner["remoteLoginPortPublicAccess"] = "Enabled"
	}
	if c.ssh {
		inner["userAccountCredentials"] = map[string]any{"adminUserName": "admin1", "adminUserSshPublicKey": sshKey}
	}
	if c.subnet != "" {
		inner["subnet"] = map[string]any{"id": c.subnet}
	}
	body := map[string]any{
		"location": c.location, "tags": c.tags, "sku": map[string]any{"name": "Basic", "tier": "Basic"},
		"properties": map[string]any{
			"computeType": "AmlCompute", "computeLocation": c.location, "description": c.description, "disableLocalAuth": !c.local, "properties": inner,
		},
	}
	switch c.identity {
	case "":
	case "SystemAssigned":
		body["identity"] = map[string]any{"type": c.identity}
	default:
		body["identity"] = map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{c.identity: map[string]any{}}}
	}
	return body
}

// read is how azurerm turns a GET into its state: the configuration again, if the
// plan is to be empty. It panics where the provider would.
func read(t *testing.T, a reply) terraform {
	t.Helper()
	word := func(path string) string {
		s, _ := a.at(path).(string)
		return s
	}
	number := func(path string) (n int) {
		if _, err := fmt.Sscan(fmt.Sprint(a.at(path)), &n); err != nil {
			t.Errorf("%s is %v", path, a.at(path))
		}
		return n
	}
	if word("properties.computeType") != "AmlCompute" {
		t.Fatalf("the provider knows a cluster by the exact computeType: %s", a.raw)
	}
	const inner = "properties.properties."
	if a.at(inner+"remoteLoginPortPublicAccess") == nil {
		t.Fatal("the provider stops with a nil pointer where remoteLoginPortPublicAccess is null")
	}
	c := terraform{
		name: word("name"), location: word("location"), size: word(inner + "vmSize"), priority: word(inner + "vmPriority"), description: word("properties.description"),
		min: number(inner + "scaleSettings.minNodeCount"), max: number(inner + "scaleSettings.maxNodeCount"), idle: word(inner + "scaleSettings.nodeIdleTimeBeforeScaleDown"),
		ssh:    word(inner+"userAccountCredentials.adminUserName") == "admin1" && word(inner+"userAccountCredentials.adminUserSshPublicKey") == sshKey,
		public: word(inner+"remoteLoginPortPublicAccess") == "Enabled", ip: a.at(inner+"enableNodePublicIp") == true, local: a.at("properties.disableLocalAuth") == false,
		subnet: word(inner + "subnet.id"),
	}
	c.tags, _ = a.at("tags").(map[string]any)
	switch word("identity.type") {
	case "", "None":
	case "SystemAssigned":
		c.identity = "SystemAssigned"
		if word("identity.principalId") == "" || word("identity.tenantId") == "" {
			t.Errorf("the identity is %v", a.at("identity"))
		}
	default:
		users, _ := a.at("identity.userAssignedIdentities").(map[string]any)
		for id := range users {
			c.identity = id
		}
	}
	return c
}

// TestTerraformCluster is apply, a plan that is empty, a resize in place, and destroy.
func TestTerraformCluster(t *testing.T) {
	t.Parallel()
	w := newWire(t, testkit.Serve(t))
	group := w.want(200, "GET", w.group+"?api-version=2023-07-01", "")
	ws := w.want(200, "GET", w.ws+azurerm, "")
	for _, path := range []string{"location", "sku.name", "sku.tier"} {
		if ws.at(path) == nil {
			t.Errorf("the provider needs %s of the workspace; group %s", path, group.raw)
		}
	}
	user := w.group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me"
	tags := map[string]any{"team": "a"}
	for name, c := range map[string]terraform{
		"the least": {name: "tf-least", location: "westeurope", size: "STANDARD_DS2_V2", priority: "LowPriority", max: 1, idle: "PT30S", ip: true, local: true, tags: map[string]any{}},
		"with all": {
			name: "tf-all", location: "westus2", size: "STANDARD_DS3_V2", priority: "Dedicated", description: "d", min: 1, max: 2, idle: "PT15M",
			ssh: true, public: true, identity: "SystemAssigned", tags: tags, subnet: w.group + "/providers/Microsoft.Network/virtualNetworks/v/subnets/s",
		},
		"with an identity of its own": {name: "tf-user", location: "westus2", size: "STANDARD_DS3_V2", priority: "Dedicated", max: 2, idle: "PT2M", ip: true, local: true, identity: user, tags: tags},
	} {
		t.Run(name, func(t *testing.T) {
			at := w.ws + "/computes/" + c.name + azurerm
			w.want(404, "GET", at, "") // it must not be there
			made := w.want(201, "PUT", at, encode(t, c.put()))
			if op := w.settled(made); op.at("status") != "Succeeded" {
				t.Fatalf("apply: %s", op.raw)
			}
			got := w.want(200, "GET", at, "")
			if is := read(t, got); !reflect.DeepEqual(is, c) {
				t.Fatalf("the plan after apply is not empty:\nstate  %+v\nwanted %+v", is, c)
			}
			// An update sends back all that was read, with the scale settings changed.
			c.max, c.min, c.idle = c.max+2, 0, "PT1M"
			body, _ := got.body.(map[string]any)
			props, _ := body["properties"].(map[string]any)
			inner, _ := props["properties"].(map[string]any)
			inner["scaleSettings"] = map[string]any{"minNodeCount": c.min, "maxNodeCount": c.max, "nodeIdleTimeBeforeScaleDown": c.idle}
			w.settled(w.want(200, "PUT", at, encode(t, body)))
			again := w.want(200, "GET", at, "")
			if is := read(t, again); !reflect.DeepEqual(is, c) || again.at("properties.createdOn") != got.at("properties.createdOn") {
				t.Errorf("after the resize it is %+v, want %+v, made %v and %v", is, c, got.at("properties.createdOn"), again.at("properties.createdOn"))
			}
			// What forces a new cluster is refused, so that the provider must replace it.
			inner["vmSize"] = "STANDARD_NC6"
			if a := w.want(400, "PUT", at, encode(t, body)); !strings.Contains(fmt.Sprint(a.at("error.message")), "vmSize") {
				t.Errorf("another size: %s", a.raw)
			}
			gone := w.want(202, "DELETE", at+"&underlyingResourceAction=Delete", "")
			w.settled(gone)
			w.want(404, "GET", at, "")
		})
	}
}

// TestTerraformInstance is the same for azurerm_machine_learning_compute_instance,
// which has nothing that changes in place.
func TestTerraformInstance(t *testing.T) {
	t.Parallel()
	w := newWire(t, testkit.Serve(t))
	const inner = "properties.properties."
	for name, c := range map[string]struct {
		put  string
		read map[string]any
	}{
		"the least": {
			`{"location":"westus2","properties":{"computeType":"ComputeInstance","computeLocation":"westus2","disableLocalAuth":false,"properties":{"vmSize":"STANDARD_DS2_V2","enableNodePublicIp":true,"sshSettings":{"sshPublicAccess":"Disabled"}}}}`,
			map[string]any{inner + "vmSize": "STANDARD_DS2_V2", inner + "enableNodePublicIp": true, inner + "sshSettings.sshPublicAccess": "Disabled", "properties.disableLocalAuth": false, "properties.description": nil},
		},
		"with all": {
			`{"location":"westus2","tags":{"team":"a"},"identity":{"type":"SystemAssigned"},"properties":{"computeType":"ComputeInstance","computeLocation":"westus2","description":"d","disableLocalAuth":true,"properties":{"vmSize":"STANDARD_DS3_V2","enableNodePublicIp":false,"computeInstanceAuthorizationType":"personal","personalComputeInstanceSettings":{"assignedUser":{"objectId":"o","tenantId":"t"}},"sshSettings":{"sshPublicAccess":"Enabled","adminPublicKey":"` + sshKey + `"},"subnet":{"id":"` + w.group + `/providers/Microsoft.Network/virtualNetworks/v/subnets/s"}}}}`,
			map[string]any{
				inner + "vmSize": "STANDARD_DS3_V2", inner + "enableNodePublicIp": false, inner + "computeInstanceAuthorizationType": "personal", "tags.team": "a", "identity.type": "SystemAssigned",
				inner + "personalComputeInstanceSettings.assignedUser.objectId": "o", inner + "personalComputeInstanceSettings.assignedUser.tenantId": "t", inner + "sshSettings.adminPublicKey": sshKey,
				inner + "subnet.id": w.group + "/providers/Microsoft.Network/virtualNetworks/v/subnets/s", "properties.description": "d", "properties.disableLocalAuth": true,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := w.ws + "/computes/tf-ci" + azurerm
			w.want(404, "GET", at, "")
			if op := w.settled(w.want(201, "PUT", at, c.put)); op.at("status") != "Succeeded" {
				t.Fatalf("apply: %s", op.raw)
			}
			got := w.want(200, "GET", at, "")
			for path, want := range c.read {
				if got.at(path) != want {
					t.Errorf("%s is %v, want %v: the plan is not empty", path, got.at(path), want)
				}
			}
			if got.at("properties.computeType") != "ComputeInstance" || got.at("properties.provisioningState") != "Succeeded" || got.at(inner+"state") != "Running" {
				t.Errorf("after apply: %s", got.raw)
			}
			w.settled(w.want(202, "DELETE", at+"&underlyingResourceAction=Delete", ""))
			w.want(404, "GET", at, "")
		})
	}
}

// TestTerraformPassword: a password is kept nowhere, so that a cluster declared
// with ssh.admin_password is planned anew each time (docs/clients/terraform.md).
func TestTerraformPassword(t *testing.T) {
	t.Parallel()
	w := newWire(t, testkit.Serve(t))
	c := terraform{name: "tf-password", location: "westus2", size: "STANDARD_DS2_V2", priority: "Dedicated", max: 1, idle: "PT2M"}
	body := c.put()
	body["properties"].(map[string]any)["properties"].(map[string]any)["userAccountCredentials"] = map[string]any{"adminUserName": "admin1", "adminUserPassword": "S3cret-pass"}
	at := w.ws + "/computes/" + c.name + azurerm
	made := w.want(201, "PUT", at, encode(t, body))
	w.settled(made)
	got := w.want(200, "GET", at, "")
	if got.at("properties.properties.userAccountCredentials.adminUserName") != "admin1" || strings.Contains(made.raw+got.raw, "S3cret-pass") {
		t.Errorf("the credentials are %s", got.raw)
	}
}

// TestTerraformWorkspace: azurerm makes the group and the workspace as well. A
// property that the configuration leaves out must stay out.
func TestTerraformWorkspace(t *testing.T) {
	t.Parallel()
	w := newWire(t, testkit.Serve(t))
	sub := strings.TrimPrefix(w.sub, "/subscriptions/")
	group, ws := armid.Group(sub, "tf"), armid.Workspace(sub, "tf", "tf-ws")
	w.want(404, "GET", group+"?api-version=2023-07-01", "")
	if a := w.ask("PUT", group+"?api-version=2023-07-01", `{"location":"westeurope","tags":{}}`); a.status > 201 {
		t.Fatalf("make the group: %d %s", a.status, a.raw)
	}
	of := func(what string) string { return group + "/providers/" + what }
	body := encode(t, map[string]any{
		"location": "westeurope", "tags": map[string]any{}, "kind": "Default", "sku": map[string]any{"name": "Basic", "tier": "Basic"},
		"identity": map[string]any{"type": "SystemAssigned"},
		"properties": map[string]any{
			"storageAccount": of("Microsoft.Storage/storageAccounts/tfstore"), "keyVault": of("Microsoft.KeyVault/vaults/tfvault"),
			"applicationInsights": of("Microsoft.Insights/components/tfinsights"), "publicNetworkAccess": "Enabled", "v1LegacyMode": false, "hbiWorkspace": false,
		},
	})
	w.want(404, "GET", ws+azurerm, "")
	a := w.ask("PUT", ws+azurerm, body)
	if a.status != 200 && a.status != 202 { // the provider takes a 201 for an error
		t.Fatalf("make the workspace: %d %s", a.status, a.raw)
	}
	if a.header.Get("Azure-AsyncOperation") != "" {
		w.settled(a)
	}
	got := w.want(200, "GET", ws+azurerm, "")
	for path, want := range map[string]any{
		"location": "westeurope", "sku.name": "Basic", "identity.type": "SystemAssigned", "properties.storageAccount": of("Microsoft.Storage/storageAccounts/tfstore"),
		"properties.keyVault": of("Microsoft.KeyVault/vaults/tfvault"), "properties.friendlyName": nil, "properties.description": nil, "properties.publicNetworkAccess": "Enabled",
	} {
		if got.at(path) != want {
			t.Errorf("%s is %v, want %v", path, got.at(path), want)
		}
	}
	gone := w.ask("DELETE", ws+azurerm, "")
	if gone.status != 200 && gone.status != 202 && gone.status != 204 {
		t.Fatalf("destroy the workspace: %d %s", gone.status, gone.raw)
	}
	if gone.header.Get("Azure-AsyncOperation") != "" {
		w.settled(gone)
	}
	w.want(404, "GET", ws+azurerm, "")
}

// TestAzapi: azapi sends a body as it is written, and plans nothing while what it
// reads has every property of it with the same value.
func TestAzapi(t *testing.T) {
	t.Parallel()
	w := newWire(t, testkit.Serve(t))
	at := w.ws + "/computes/azapi-cpu?api-version=2024-10-01"
	body := map[string]any{
		"location": "westus2", "tags": map[string]any{"team": "a"},
		"properties": map[string]any{"computeType": "AmlCompute", "properties": map[string]any{
			"vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated", "scaleSettings": map[string]any{"minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT120S"},
		}},
	}
	w.want(404, "GET", at, "")
	w.settled(w.want(201, "PUT", at, encode(t, body)))
	if d := missing("", body, w.want(200, "GET", at, "").body); len(d) > 0 {
		t.Errorf("the plan after apply is not empty: %q", d)
	}
	body["properties"].(map[string]any)["properties"].(map[string]any)["scaleSettings"].(map[string]any)["maxNodeCount"] = 5
	w.settled(w.want(200, "PUT", at, encode(t, body)))
	if d := missing("", body, w.want(200, "GET", at, "").body); len(d) > 0 {
		t.Errorf("the plan after the resize is not empty: %q", d)
	}
	w.settled(w.want(202, "DELETE", at+"&underlyingResourceAction=Delete", ""))
	w.want(404, "GET", at, "")
}

// missing says which properties of a body are not in what was read.
func missing(path string, body, got any) (differs []string) {
	want, ok := body.(map[string]any)
	if !ok {
		if fmt.Sprint(body) != fmt.Sprint(got) {
			return []string{fmt.Sprintf("%s is %v, not %v", path, got, body)}
		}
		return nil
	}
	have, _ := got.(map[string]any)
	for k, v := range want {
		differs = append(differs, missing(path+"."+k, v, have[k])...)
	}
	return differs
}

func encode(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
