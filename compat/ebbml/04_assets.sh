#!/bin/sh
# Environments, data, models, components and datastores.
set -eu
alias az=ebb
mkdir -p data context
echo 1,2 > data/a.csv
echo 'FROM python:3.11' > context/Dockerfile
cat > env.yml <<'YML'
$schema: https://azuremlschemas.azureedge.net/latest/environment.schema.json
name: asset-env
image: python:3.11
conda_file:
  dependencies:
    - python=3.11
    - pip: [requests]
tags: {team: vision}
YML
az ml environment create -f env.yml
az ml environment create -f env.yml --set image=python:3.12
az ml environment create --name asset-env --build-context context
test "$(az ml environment show -n asset-env --label latest --query version -o tsv)" = 3
test "$(az ml environment show -n asset-env -v 2 --query '[image, conda_file.dependencies[0]]' -o tsv | tr '\t\n' '  ')" = "python:3.12 python=3.11 "
test "$(az ml environment list -n asset-env --query 'length(@)')" = 3
az ml environment archive -n asset-env -v 1
test "$(az ml environment list -n asset-env --query 'length(@)')" = 2
az ml environment restore -n asset-env -v 1
az ml environment update -n asset-env -v 1 --set description="the first" tags.owner=me
test "$(az ml environment show -n asset-env -v 1 --query '[description, tags.owner, tags.team]' -o tsv | tr '\t\n' ',,')" = "the first,me,vision,"

az ml data create --name asset-data --version 7 --path data
az ml data create --name asset-data --path data
test "$(az ml data list -n asset-data --query '[].version' -o tsv | sort | tr '\n' ' ')" = "7 8 "
test "$(az ml data show -n asset-data -v 7 --query path -o tsv)" = "$(az ml data show -n asset-data -v 8 --query path -o tsv)"
az ml data download -n asset-data -v 7
test "$(cat asset-data/a.csv)" = 1,2

az ml model create --name asset-model --version 1 --path data/a.csv --type custom_model --stage Testing
az ml model update -n asset-model -v 1 --set stage=Production
test "$(az ml model show -n asset-model -v 1 --query stage -o tsv)" = Production
az ml model download -n asset-model -v 1 --download-path models
test "$(cat models/asset-model/a.csv)" = 1,2

cat > component.yml <<'YML'
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
type: command
name: asset_component
version: 1
display_name: Train
command: echo ${{inputs.lr}}
environment: azureml:asset-env:1
inputs:
  lr: {type: number, default: 0.1}
YML
az ml component create -f component.yml
test "$(az ml component show -n asset_component -v 1 --query '[display_name, inputs.lr.type]' -o tsv | tr '\t\n' ',,')" = "Train,number,"
az ml component show -n asset_component -v 1 --query environment -o tsv | grep -q "/environments/asset-env/versions/1$"

cat > store.yml <<'YML'
$schema: https://azuremlschemas.azureedge.net/latest/azureBlob.schema.json
type: azure_blob
name: asset_store
account_name: account1
container_name: container1
credentials: {account_key: c2VjcmV0LXNlY3JldA==}
YML
az ml datastore create -f store.yml > shown
grep -q c2VjcmV0 shown && exit 1
az ml datastore update -n asset_store --set description="a store"
test "$(az ml datastore show -n asset_store --query '[type, description]' -o tsv | tr '\t\n' ',,')" = "azure_blob,a store,"
az ml datastore list --query "[].name" -o tsv | grep -qx workspaceblobstore
az ml datastore delete -n asset_store -y

for kind in environment:asset-env data:asset-data model:asset-model component:asset_component; do
  az ml "${kind%%:*}" show -n "${kind##*:}" -v 99 2>error && exit 1
  grep -q "there are:" error
done
