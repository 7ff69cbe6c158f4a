#!/bin/sh
# az ml v1, from the first command of a guide to the last.
set -eu
alias az=ebb
az extension add -n azure-cli-ml
az ml computetarget create amlcompute -n v1-cluster --max-nodes 2 -s STANDARD_D2_V2 --idle-seconds-before-scaledown 300 \
  --description "a cluster" --tags team=vision owner=me --vnet-name vn --subnet-name sn -u azureuser -k "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ== me" -t made.json
grep -q '"name": "v1-cluster"' made.json
got() { az ml computetarget show -n v1-cluster --query "$1" -o tsv; }
test "$(got properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown)" = PT300S
test "$(got tags.owner)" = me
got properties.properties.subnet.id | grep -q "/virtualNetworks/vn/subnets/sn$"
test "$(got properties.properties.userAccountCredentials.adminUserName)" = azureuser
az ml computetarget list --query "[?name=='v1-cluster'].properties.computeType" -o tsv | grep -qx AmlCompute
az ml computetarget update amlcompute -n v1-cluster --max-nodes 3 --tags team=sound
test "$(got properties.status.scaleSettings.maxNodeCount)" = 3
test "$(got "tags.owner || 'gone'")" = gone
az ml computetarget detach -n v1-cluster && exit 1
az ml computetarget delete -n v1-cluster
az ml computetarget show -n v1-cluster 2>error && exit 1
grep -q "no cluster named v1-cluster" error
