#!/bin/bash
# A script of a guide, for bash, with the real az beside: "az" is a link to ebb,
# which passes on what is not "az ml".
set -eu
mkdir -p bin
ln -sf "$(command -v ebb)" bin/az
PATH=$PWD/bin:$PATH HOME=$PWD
unset XDG_CONFIG_HOME AZURE_CONFIG_DIR || true
az login -o none
test "$(az account show --query tenantId -o tsv)" = "$(sed -n 's/.*"tenant_id": *"\([^"]*\)".*/\1/p' "$EBB_CLIENT")"
az extension add -n ml -y
az group create --name guide --location westus2 -o none
az configure --defaults group=guide location=westus2
az ml workspace create --name guide-ws
az configure --defaults workspace=guide-ws
az ml compute create --name guide-cpu --type amlcompute --min-instances 0 --max-instances 2
# What the one has made the other sees, and its defaults too.
az resource list --resource-type Microsoft.MachineLearningServices/workspaces --query "[].name" -o tsv | grep -qx guide-ws
az ml workspace show --query resource_group -o tsv | grep -qx guide
az ml compute delete --name guide-cpu --yes
az group delete --name guide --yes
if az group show --name guide; then exit 1; fi
