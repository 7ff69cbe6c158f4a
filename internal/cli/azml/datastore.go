package azml

import (
	"fmt"
	"strings"
)

// Datastore is the schema of a datastore: azureBlob.schema.json and its like.
type Datastore struct {
	Type        string            `yaml:"type" oneof:"azure_blob azure_file azure_data_lake_gen1 azure_data_lake_gen2 one_lake"`
	Name        string            `yaml:"name"`
	Description string            `yaml:"description"`
	Tags        map[string]string `yaml:"tags"`
	Account     string            `yaml:"account_name"`
	Container   string            `yaml:"container_name"`
	Share       string            `yaml:"file_share_name"`
	Filesystem  string            `yaml:"filesystem"`
	Store       string            `yaml:"store_name"`
	Endpoint    string            `yaml:"endpoint"`
	Protocol    string            `yaml:"protocol" oneof:"http https wasb wasbs"`
	Credentials struct {
		Key       string `yaml:"account_key"`
		SAS       string `yaml:"sas_token"`
		Tenant    string `yaml:"tenant_id"`
		ClientID  string `yaml:"client_id"`
		Secret    string `yaml:"client_secret"`
		Authority string `yaml:"authority_url"`
		Resource  string `yaml:"resource_url"`
	} `yaml:"credentials"`
}

var datastoreTypes = map[string]string{
	"azure_blob": "AzureBlob", "azure_file": "AzureFile", "azure_data_lake_gen1": "AzureDataLakeGen1", "azure_data_lake_gen2": "AzureDataLakeGen2", "one_lake": "OneLake",
}

// ARM makes the document.
func (d *Datastore) ARM() (map[string]any, error) {
	if d.Type == "" {
		return nil, fmt.Errorf("type: a datastore needs one, as azure_blob")
	}
	m := map[string]any{"datastoreType": datastoreTypes[d.Type]}
	needs := map[string]string{}
	switch d.Type {
	case "azure_blob":
		needs = map[string]string{"account_name": d.Account, "container_name": d.Container}
	case "azure_file":
		needs = map[string]string{"account_name": d.Account, "file_share_name": d.Share}
	case "azure_data_lake_gen2":
		needs = map[string]string{"account_name": d.Account, "filesystem": d.Filesystem}
	}
	for field, value := range needs {
		if value == "" {
			return nil, fmt.Errorf("%s: a datastore of the type %s needs it", field, d.Type)
		}
	}
	for key, value := range map[string]string{
		"accountName": d.Account, "containerName": d.Container, "fileShareName": d.Share, "filesystem": d.Filesystem, "storeName": d.Store,
		"endpoint": d.Endpoint, "protocol": d.Protocol, "description": d.Description,
	} {
		if value != "" {
			m[key] = value
		}
	}
	if len(d.Tags) > 0 {
		m["tags"] = d.Tags
	}
	m["credentials"] = d.credentials()
	return m, nil
}

func (d *Datastore) credentials() map[string]any {
	c := d.Credentials
	switch {
	case c.Key != "":
		return map[string]any{"credentialsType": "AccountKey", "secrets": map[string]any{"secretsType": "AccountKey", "key": c.Key}}
	case c.SAS != "":
		return map[string]any{"credentialsType": "Sas", "secrets": map[string]any{"secretsType": "Sas", "sasToken": strings.TrimPrefix(c.SAS, "?")}}
	case c.ClientID != "":
		return map[string]any{"credentialsType": "ServicePrincipal", "tenantId": c.Tenant, "clientId": c.ClientID, "authorityUrl": c.Authority, "resourceUrl": c.Resource,
			"secrets": map[string]any{"secretsType": "ServicePrincipal", "clientSecret": c.Secret}}
	}
	return map[string]any{"credentialsType": "None"}
}

// Workspace is the schema of a workspace: workspace.schema.json.
type Workspace struct {
	Name        string            `yaml:"name"`
	Group       string            `yaml:"resource_group"`
	Location    string            `yaml:"location"`
	Display     string            `yaml:"display_name"`
	Description string            `yaml:"description"`
	Tags        map[string]string `yaml:"tags"`
	Storage     string            `yaml:"storage_account"`
	Vault       string            `yaml:"key_vault"`
	Insights    string            `yaml:"application_insights"`
	Registry    string            `yaml:"container_registry"`
	Public      string            `yaml:"public_network_access" oneof:"Enabled Disabled"`
	HBI         *bool             `yaml:"hbi_workspace"`
	ImageBuild  string            `yaml:"image_build_compute"`
	Primary     string            `yaml:"primary_user_assigned_identity"`
	Identity    IdentitySpec      `yaml:"identity"`
	Key         *struct{}         `yaml:"customer_managed_key" no:"keys of one's own are not built"`
	Network     *struct{}         `yaml:"managed_network" no:"managed networks are not built"`
	Hub         string            `yaml:"workspace_hub" no:"hubs are not built"`
}

// Properties are the document's, without what is not said.
func (w *Workspace) Properties() map[string]any {
	m := map[string]any{}
	for key, value := range map[string]string{
		"friendlyName": w.Display, "description": w.Description, "storageAccount": w.Storage, "keyVault": w.Vault, "applicationInsights": w.Insights,
		"containerRegistry": w.Registry, "publicNetworkAccess": w.Public, "imageBuildCompute": w.ImageBuild, "primaryUserAssignedIdentity": w.Primary,
	} {
		if value != "" {
			m[key] = value
		}
	}
	if w.HBI != nil {
		m["hbiWorkspace"] = *w.HBI
	}
	return m
}
