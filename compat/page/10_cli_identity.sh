#!/bin/sh
# Managed identity, Azure CLI: the page's lines, with az standing for ebb. The
# page makes a cluster of one name three times over; here each is deleted between.
set -eu
alias az=ebb
subcription_id=$SUBSCRIPTION resource_group=$GROUP user_assigned_identity=trainer
user="/subscriptions/$subcription_id/resourcegroups/$resource_group/providers/Microsoft.ManagedIdentity/userAssignedIdentities/$user_assigned_identity"
is() { test "$(az ml computetarget amlcompute identity show --name cpu-cluster --query type --output tsv)" = "$1"; }

az ml computetarget create amlcompute --name cpu-cluster --vm-size Standard_NC6 --max-nodes 5 --assign-identity "$user"
is UserAssigned
az ml computetarget delete --name cpu-cluster
az ml computetarget create amlcompute --name cpu-cluster --vm-size Standard_NC6 --max-nodes 5 --assign-identity '[system]'
is SystemAssigned
az ml computetarget delete --name cpu-cluster
az ml computetarget create amlcompute --name cpu-cluster --vm-size Standard_NC6 --max-nodes 5
az ml computetarget amlcompute identity assign --name cpu-cluster "$user"
is UserAssigned
az ml computetarget amlcompute identity remove --name cpu-cluster "$user"
is None
az ml computetarget amlcompute identity assign --name cpu-cluster '[system]'
is SystemAssigned
