package resources

import (
	"regexp"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Namespace is a resource provider whose resources are kept as records.
type Namespace struct {
	Name  string
	Types []Type
}

// Type is a type of resource inside its namespace, in Azure's spelling.
type Type struct {
	Name     string   // "virtualNetworks/subnets"
	Versions []string // api-versions that clients choose from, the newest first; others are served as well
	name     *regexp.Regexp
	rule     string // name in words
}

var (
	storageVersions  = []string{"2024-01-01", "2023-05-01", "2023-01-01", "2022-09-01", "2021-09-01", "2019-06-01", "2019-04-01"}
	vaultVersions    = []string{"2023-07-01", "2022-07-01", "2021-10-01", "2019-09-01", "2018-02-14"}
	networkVersions  = []string{"2024-05-01", "2023-11-01", "2022-07-01", "2021-08-01", "2020-11-01", "2020-06-01", "2018-11-01"}
	identityVersions = []string{"2024-11-30", "2023-01-31", "2018-11-30"}
	registryVersions = []string{"2023-07-01", "2022-12-01", "2021-09-01", "2019-05-01", "2017-10-01"}
)

// Namespaces lists what is kept as records: what workspaces and clusters name,
// and what their templates bring along.
var Namespaces = []Namespace{
	{"Microsoft.Storage", []Type{
		{"storageAccounts", storageVersions, regexp.MustCompile(`^[a-z0-9]{3,24}$`), "3 to 24 lower-case letters and digits"},
		{Name: "storageAccounts/blobServices", Versions: storageVersions}, {Name: "storageAccounts/blobServices/containers", Versions: storageVersions},
		{Name: "storageAccounts/fileServices", Versions: storageVersions}, {Name: "storageAccounts/fileServices/shares", Versions: storageVersions},
		{Name: "storageAccounts/managementPolicies", Versions: storageVersions}, {Name: "storageAccounts/privateEndpointConnections", Versions: storageVersions},
	}},
	{"Microsoft.KeyVault", []Type{
		{"vaults", vaultVersions, regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]$`), "3 to 24 letters, digits and dashes, a letter first"},
		{Name: "vaults/accessPolicies", Versions: vaultVersions}, {Name: "vaults/privateEndpointConnections", Versions: vaultVersions},
	}},
	{"Microsoft.Insights", []Type{
		{Name: "components", Versions: []string{"2020-02-02", "2015-05-01"}}, {Name: "actionGroups", Versions: []string{"2023-01-01", "2021-09-01"}},
		{Name: "metricAlerts", Versions: []string{"2018-03-01"}},
	}},
	{"Microsoft.OperationalInsights", []Type{
		{Name: "workspaces", Versions: []string{"2023-09-01", "2022-10-01", "2021-06-01", "2020-08-01"}},
	}},
	{"Microsoft.ContainerRegistry", []Type{
		{"registries", registryVersions, regexp.MustCompile(`^[a-zA-Z0-9]{5,50}$`), "5 to 50 letters and digits"},
		{Name: "registries/privateEndpointConnections", Versions: registryVersions},
	}},
	{"Microsoft.ManagedIdentity", []Type{
		{"userAssignedIdentities", identityVersions, regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}$`), "3 to 128 letters, digits, dashes and underscores, a letter or digit first"},
		{Name: federatedType, Versions: identityVersions},
	}},
	{"Microsoft.Network", networkTypes()},
}

const federatedType = "userAssignedIdentities/federatedIdentityCredentials"

func networkTypes() []Type {
	var types []Type
	for _, name := range []string{
		"virtualNetworks", "virtualNetworks/subnets", "virtualNetworks/virtualNetworkPeerings", "networkSecurityGroups", "networkSecurityGroups/securityRules",
		"privateEndpoints", "privateEndpoints/privateDnsZoneGroups", "publicIPAddresses", "natGateways", "routeTables", "routeTables/routes", "networkInterfaces", "serviceEndpointPolicies",
	} {
		types = append(types, Type{Name: name, Versions: networkVersions})
	}
	zones := []string{"2024-06-01", "2020-06-01", "2018-09-01"}
	for _, name := range []string{"privateDnsZones", "privateDnsZones/virtualNetworkLinks", "privateDnsZones/A"} {
		types = append(types, Type{Name: name, Versions: zones})
	}
	return types
}

// inline are the lists in a resource's properties whose entries are resources of
// their own, by the type they lie in.
var inline = map[string]string{
	"microsoft.network/virtualnetworks":       "subnets",
	"microsoft.network/networksecuritygroups": "securityRules",
	"microsoft.network/routetables":           "routes",
}

// implied are children that every resource of their parent's type has.
var implied = []string{"microsoft.storage/storageaccounts/blobservices", "microsoft.storage/storageaccounts/fileservices"}

// global are types without a region, or with the one that Azure calls "global".
var global = []string{"microsoft.network/privatednszones", "microsoft.network/privatednszones/virtualnetworklinks", "microsoft.insights/actiongroups", "microsoft.insights/metricalerts"}

// typeOf finds a type by namespace and name, in any case.
func typeOf(namespace, name string) (Namespace, Type, error) {
	n := slices.IndexFunc(Namespaces, func(n Namespace) bool { return strings.EqualFold(n.Name, namespace) })
	if n < 0 {
		return Namespace{}, Type{}, UnknownNamespace(namespace)
	}
	ns := Namespaces[n]
	t := slices.IndexFunc(ns.Types, func(t Type) bool { return strings.EqualFold(t.Name, name) })
	if t < 0 {
		var known []string
		for _, t := range ns.Types {
			known = append(known, t.Name)
		}
		return Namespace{}, Type{}, fault.Coded(fault.NotFound, "InvalidResourceType", "",
			"The resource type '%.200s' could not be found in the namespace '%s' of this server. The supported types are: %s.", name, ns.Name, strings.Join(known, ", "))
	}
	return ns, ns.Types[t], nil
}

// UnknownNamespace says which namespaces there are.
func UnknownNamespace(name string) error {
	known := []string{armid.Provider, "Microsoft.Resources", "Microsoft.Authorization", "Microsoft.Compute"}
	for _, n := range Namespaces {
		known = append(known, n.Name)
	}
	return fault.Coded(fault.NotFound, "InvalidResourceNamespace", "", "The resource namespace '%.200s' is invalid. This server has %s.", name, strings.Join(known, ", "))
}

// typeOfID is the type of an id without its namespace.
func typeOfID(id armid.ID) string {
	_, name, _ := strings.Cut(id.Type(), "/")
	return name
}
