package authorization_test

import (
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/authorization"
	"github.com/ebb-compute/ebb/internal/core/access"
)

// TestBuiltInRolesHaveAzuresIDs: by the table of
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles, compared
// with what public templates assign.
func TestBuiltInRolesHaveAzuresIDs(t *testing.T) {
	t.Parallel()
	s := &authorization.Service{Store: &apptest.Store{}, Now: time.Now, NewID: func() string { return "" }}
	roles, err := s.Roles(t.Context(), access.Principal{ID: "o", Kind: access.Application}, "/")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Owner": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Contributor": "b24988ac-6180-42a0-ab88-20f7382dd24c", "Reader": "acdd72a7-3385-48ef-bd42-f606fba81ae7",
		"User Access Administrator": "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", "Role Based Access Control Administrator": "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
		"AzureML Data Scientist": "f6c7c914-8db3-469d-8ca1-694a8f32e121", "AzureML Compute Operator": "e503ece1-11d0-4e8e-8e2c-7a6c3bf38815",
		"AzureML Metrics Writer (preview)": "635dd51f-9968-44d3-b7fb-6d9a6bd613ae", "AzureML Registry User": "1823dd4f-9b8c-4ab6-ab4e-7397a3684615",
		"Managed Identity Operator": "f1a07417-d97a-45cb-824c-7a7467783830", "Managed Identity Contributor": "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59",
		"Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe", "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
		"Storage Account Contributor": "17d1049b-9a84-46fb-8f53-869881c3d3ab", "AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d", "AcrPush": "8311e382-0749-4cb8-b61a-304f252e45ec",
		"Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6", "Key Vault Administrator": "00482a5a-887f-4fb3-b363-3b7fe8e74483",
		"Network Contributor": "4d97b98b-1d4f-4787-a291-c67834d212e7",
	}
	for _, r := range roles {
		name, _ := r["properties"].(map[string]any)["roleName"].(string)
		if id := r["name"]; id != want[name] {
			t.Errorf("the role %q has the id %v, want %q", name, id, want[name])
		}
		delete(want, name)
	}
	if len(want) != 0 {
		t.Errorf("there are no roles %v", want)
	}
}
