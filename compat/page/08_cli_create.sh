#!/bin/sh
# Create, Azure CLI. The "az ml" grammar is not built yet and says so by name;
# ebb's own grammar makes the same cluster.
set -eu
if out=$(ebb ml computetarget create amlcompute -n cpu --min-nodes 1 --max-nodes 1 -s STANDARD_D3_V2 --location westus2 2>&1); then
  echo "ebb ml is built: this script should now check what it made" >&2
  exit 1
fi
echo "$out" | grep -q "az ml"
ebb compute create --name cpu --min-instances 1 --max-instances 1 --size STANDARD_D3_V2 --location westus2
got() { ebb compute show --name cpu --query "$1" --output tsv; }
test "$(got size)" = STANDARD_D3_V2
test "$(got location)" = westus2
test "$(got min_instances),$(got max_instances)" = 1,1
test "$(got provisioning_state)" = Succeeded
