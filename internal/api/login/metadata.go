package login

import (
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
)

// metadata tells where the services of this cloud are. It has had three forms:
// before 2019 an object of few endpoints, until 2022 a list of clouds, and an
// object since. Without an api-version it is the list, which is what those read
// who are given the URL by hand (ARM_CLOUD_METADATA_URL).
func (s Services) metadata(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	version := arm.Query(r, "api-version")
	switch {
	case version == "" || version >= "2019" && version < "2022":
		return http.StatusOK, listOf(cloudOf(r, true)), nil
	case version < "2019":
		c := cloudOf(r, false)
		return http.StatusOK, map[string]any{
			"galleryEndpoint": c.Gallery, "graphEndpoint": c.Graph, "portalEndpoint": c.Portal,
			"authentication": map[string]any{"loginEndpoint": c.Authentication.LoginEndpoint, "audiences": c.Authentication.Audiences},
		}, nil
	default:
		return http.StatusOK, cloudOf(r, false), nil
	}
}

// ownName is this cloud's under another name than Azure's: SDK v2 knows by heart
// where AzureCloud is, and SDK v1 asks for that name only.
const ownName = "Ebb"

func listOf(c cloud) []cloud {
	if c.ResourceManager == publicCloud.ResourceManager {
		return []cloud{c}
	}
	own := c
	own.Name = ownName
	return []cloud{own, c} // SDK v2 takes the first that fits
}

type cloud struct {
	Name                     string         `json:"name"`
	Portal                   string         `json:"portal"`
	Authentication           authentication `json:"authentication"`
	ResourceManager          string         `json:"resourceManager"`
	MicrosoftGraphResourceID string         `json:"microsoftGraphResourceId"`
	Graph                    string         `json:"graph"`
	GraphAudience            string         `json:"graphAudience"`
	Media                    string         `json:"media"`
	Batch                    string         `json:"batch"`
	Gallery                  string         `json:"gallery"`
	SQLManagement            string         `json:"sqlManagement"`
	DataLake                 string         `json:"activeDirectoryDataLake"`
	Aliases                  string         `json:"vmImageAliasDoc"`
	Suffixes                 suffixes       `json:"suffixes"`
}

type authentication struct {
	LoginEndpoint    string   `json:"loginEndpoint"`
	Audiences        []string `json:"audiences"`
	Tenant           string   `json:"tenant"`
	IdentityProvider string   `json:"identityProvider"`
}

type suffixes struct {
	Storage   string `json:"storage"`
	KeyVault  string `json:"keyVaultDns"`
	Registry  string `json:"acrLoginServer"`
	SQL       string `json:"sqlServerHostname"`
	DataLake  string `json:"azureDataLakeStoreFileSystem"`
	Analytics string `json:"azureDataLakeAnalyticsCatalogAndJob"`
}

// publicCloud is what management.azure.com itself answers.
var publicCloud = cloud{
	Name: "AzureCloud", Portal: "https://portal.azure.com",
	Authentication: authentication{
		LoginEndpoint: azureLogin + "/", Audiences: []string{"https://management.core.windows.net/", "https://management.azure.com/"},
		Tenant: "common", IdentityProvider: "AAD",
	},
	ResourceManager: "https://management.azure.com/", MicrosoftGraphResourceID: "https://graph.microsoft.com/",
	Graph: "https://graph.windows.net/", GraphAudience: "https://graph.windows.net/", Media: "https://rest.media.azure.net",
	Batch: "https://batch.core.windows.net/", Gallery: "https://gallery.azure.com/", SQLManagement: "https://management.core.windows.net:8443/",
	DataLake: "https://datalake.azure.net/", Aliases: "https://raw.githubusercontent.com/Azure/azure-rest-api-specs/master/arm-compute/quickstart-templates/aliases.json",
	Suffixes: suffixes{Storage: "core.windows.net", KeyVault: "vault.azure.net", Registry: "azurecr.io", SQL: "database.windows.net",
		DataLake: "azuredatalakestore.net", Analytics: "azuredatalakeanalytics.net"},
}

// cloudOf is the cloud as seen from the host of r. On the server's own name:
// resourceManager has no slash at its end (SDK v1 appends paths with one);
// with forSDK, loginEndpoint is the trick described at authorities, with "aad"
// for the tenant, which SDK v1 replaces by its own; the storage suffix hides
// "account.blob.core.x" in the user info, so that no name needs to resolve.
func cloudOf(r *http.Request, forSDK bool) cloud {
	h := arm.HostsOf(r)
	base := h.ARM()
	if base+"/" == publicCloud.ResourceManager {
		return publicCloud
	}
	host := strings.TrimPrefix(base, "https://")
	c := cloud{
		Name: publicCloud.Name, Portal: base,
		Authentication:  authentication{LoginEndpoint: base, Audiences: []string{base}, Tenant: "common", IdentityProvider: "AAD"},
		ResourceManager: base, MicrosoftGraphResourceID: base, Graph: base, GraphAudience: base, Media: base, Batch: base, Gallery: base,
		SQLManagement: base, DataLake: base, Aliases: base,
		Suffixes: suffixes{Storage: "core.x@" + host, KeyVault: "vault." + host, Registry: "azurecr." + host, SQL: "sql." + host,
			DataLake: "datalake." + host, Analytics: "analytics." + host},
	}
	if forSDK {
		c.Authentication.LoginEndpoint = base + "/adfs/aad"
	}
	return c
}
