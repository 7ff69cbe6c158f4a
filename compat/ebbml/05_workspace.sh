#!/bin/sh
# Workspaces, and which one a command means.
set -eu
alias az=ebb
HOME=$PWD
unset XDG_CONFIG_HOME AZURE_CONFIG_DIR AZURE_DEFAULTS_WORKSPACE AZURE_DEFAULTS_GROUP 2>/dev/null || true
az ml workspace create --name scripted --location westus2 --display-name Scripted --tags team=vision
test "$(az ml workspace show -w scripted --query '[display_name, tags.team]' -o tsv | tr '\t\n' ',,')" = "Scripted,vision,"
az ml workspace update --name scripted --description "by a script" --tags owner=me
test "$(az ml workspace show -n scripted --query description -o tsv)" = "by a script"
az ml workspace list --query "[].name" -o tsv | grep -qx scripted
az ml compute create -n apart --max-instances 1 -w scripted -g "$GROUP" -o none
test "$(az ml compute list --query "[?name=='apart'] | length(@)")" = 0
az configure --defaults workspace=scripted group="$GROUP"
az ml compute show -n apart --query name
test "$(AZURE_DEFAULTS_WORKSPACE=main az ml compute list --query "[?name=='apart'] | length(@)")" = 0
az configure --defaults workspace=
test "$(az ml compute list --query "[?name=='apart'] | length(@)")" = 0
mkdir -p project/.azureml project/deep
printf '{"subscription_id": "%s", "resource_group": "%s", "workspace_name": "scripted"}' "$SUBSCRIPTION" "$GROUP" > project/.azureml/config.json
(cd project/deep && az ml compute show -n apart --query name)
az ml workspace delete --name scripted --yes
az ml workspace show --name scripted 2>error && exit 1
grep -q "no workspace named scripted" error
