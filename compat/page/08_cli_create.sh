#!/bin/sh
# Create, Azure CLI: the page's line, with az standing for ebb.
set -eu
alias az=ebb
az ml computetarget create amlcompute -n cpu --min-nodes 1 --max-nodes 1 -s STANDARD_D3_V2 --location westus2

got() { az ml computetarget show -n cpu --query "$1" --output tsv; }
test "$(got properties.properties.vmSize)" = STANDARD_D3_V2
test "$(got location)" = westus2
test "$(got properties.status.scaleSettings.minNodeCount),$(got properties.status.scaleSettings.maxNodeCount)" = 1,1
test "$(got properties.provisioningState)" = Succeeded
