package armid

import (
	"slices"
	"strings"
)

// Place is a region of Azure: the name ids and URLs have, and the one for people.
type Place struct{ Name, Text string }

// places are Azure's public regions. All of them are served by the one local site.
var places = []Place{
	{"australiacentral", "Australia Central"}, {"australiacentral2", "Australia Central 2"}, {"australiaeast", "Australia East"}, {"australiasoutheast", "Australia Southeast"},
	{"austriaeast", "Austria East"}, {"belgiumcentral", "Belgium Central"}, {"brazilsouth", "Brazil South"}, {"brazilsoutheast", "Brazil Southeast"},
	{"canadacentral", "Canada Central"}, {"canadaeast", "Canada East"}, {"centralindia", "Central India"}, {"centralus", "Central US"}, {"centraluseuap", "Central US EUAP"},
	{"chilecentral", "Chile Central"}, {"denmarkeast", "Denmark East"}, {"eastasia", "East Asia"}, {"eastus", "East US"}, {"eastus2", "East US 2"}, {"eastus2euap", "East US 2 EUAP"},
	{"francecentral", "France Central"}, {"francesouth", "France South"}, {"germanynorth", "Germany North"}, {"germanywestcentral", "Germany West Central"},
	{"indonesiacentral", "Indonesia Central"}, {"israelcentral", "Israel Central"}, {"italynorth", "Italy North"}, {"japaneast", "Japan East"}, {"japanwest", "Japan West"},
	{"jioindiacentral", "Jio India Central"}, {"jioindiawest", "Jio India West"}, {"koreacentral", "Korea Central"}, {"koreasouth", "Korea South"},
	{"malaysiawest", "Malaysia West"}, {"mexicocentral", "Mexico Central"}, {"newzealandnorth", "New Zealand North"}, {"northcentralus", "North Central US"}, {"northeurope", "North Europe"},
	{"norwayeast", "Norway East"}, {"norwaywest", "Norway West"}, {"polandcentral", "Poland Central"}, {"qatarcentral", "Qatar Central"},
	{"southafricanorth", "South Africa North"}, {"southafricawest", "South Africa West"}, {"southcentralus", "South Central US"}, {"southeastasia", "Southeast Asia"}, {"southindia", "South India"},
	{"spaincentral", "Spain Central"}, {"swedencentral", "Sweden Central"}, {"swedensouth", "Sweden South"}, {"switzerlandnorth", "Switzerland North"}, {"switzerlandwest", "Switzerland West"},
	{"uaecentral", "UAE Central"}, {"uaenorth", "UAE North"}, {"uksouth", "UK South"}, {"ukwest", "UK West"},
	{"westcentralus", "West Central US"}, {"westeurope", "West Europe"}, {"westindia", "West India"}, {"westus", "West US"}, {"westus2", "West US 2"}, {"westus3", "West US 3"},
}

// Regions returns every region, by name.
func Regions() []Place { return slices.Clone(places) }

// RegionText returns a region's name for people, and whether there is such a region.
// The name may be written either way, in any case.
func RegionText(name string) (string, bool) {
	i, ok := slices.BinarySearchFunc(places, Region(name), func(p Place, want string) int { return strings.Compare(p.Name, want) })
	if !ok {
		return "", false
	}
	return places[i].Text, true
}
