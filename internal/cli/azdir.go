package cli

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/ebb-compute/ebb/client"
)

// writeAzDir fills a fresh AZURE_CONFIG_DIR as "az login --service-principal"
// would leave it, so that az is logged in to the server at once, and what
// somebody logs in to for themselves meanwhile goes when the folder goes. What
// az keeps where: azure-cli, core/_profile.py and core/auth/identity.py.
func writeAzDir(dir string, f client.File) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return writeAzFiles(dir, f)
}

// writeAzFiles is writeAzDir for a folder that is there; a configuration in it
// stays as it is.
func writeAzFiles(dir string, f client.File) error {
	profile := map[string]any{
		"installationId": f.TenantID, // az makes one up where there is none
		"subscriptions": []map[string]any{{
			"id": f.SubscriptionID, "name": "Ebb", "state": "Enabled", "isDefault": true, "tenantId": f.TenantID, "homeTenantId": f.TenantID,
			"environmentName": "AzureCloud", "managedByTenants": []any{}, "user": map[string]string{"name": f.ClientID, "type": "servicePrincipal"},
		}},
	}
	secrets := []map[string]string{{"client_id": f.ClientID, "tenant": f.TenantID, "client_secret": f.ClientSecret}}
	for name, v := range map[string]any{"azureProfile.json": profile, "service_principal_entries.json": secrets} {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			return err
		}
	}
	// Telemetry and surveys would be about Azure.
	const config = "[core]\ncollect_telemetry = no\nsurvey_message = no\nencrypt_token_cache = no\n"
	path := filepath.Join(dir, "config")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return os.WriteFile(path, []byte(config), 0o600)
}
