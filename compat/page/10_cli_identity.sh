#!/bin/sh
# Managed identity, Azure CLI: clusters made with an identity, and identities
# assigned later. The "az ml" grammar is not built yet and says so by name;
# ebb's own grammar makes the same clusters.
set -eu
user="/subscriptions/$SUBSCRIPTION/resourcegroups/$GROUP/providers/Microsoft.ManagedIdentity/userAssignedIdentities/trainer"
refused() {
  if out=$(ebb ml "$@" 2>&1); then
    echo "ebb ml is built: this script should now check what it made" >&2
    exit 1
  fi
  echo "$out" | grep -q "az ml"
}
refused computetarget create amlcompute --name cpu-cluster --vm-size Standard_NC6 --max-nodes 5 --assign-identity "$user"
refused computetarget create amlcompute --name cpu-cluster --vm-size Standard_NC6 --max-nodes 5 --assign-identity '[system]'
refused computetarget amlcompute identity assign --name cpu-cluster "$user"
refused computetarget amlcompute identity assign --name cpu-cluster '[system]'

ebb compute create --name cpu-user --size Standard_NC6 --max-instances 5 --identity-type user_assigned --user-assigned-identities "$user"
test "$(ebb compute show --name cpu-user --query identity.type --output tsv)" = user_assigned
ebb compute create --name cpu-system --size Standard_NC6 --max-instances 5 --identity-type system_assigned
test "$(ebb compute show --name cpu-system --query identity.type --output tsv)" = system_assigned
