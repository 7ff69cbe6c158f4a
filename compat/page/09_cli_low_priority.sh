#!/bin/sh
# Lower your cost, Azure CLI. The "az ml" grammar is not built yet and says so by name;
# ebb's own grammar makes the same cluster.
set -eu
if out=$(ebb ml computetarget create amlcompute --name lowpriocluster --vm-size Standard_NC6 --max-nodes 5 --vm-priority lowpriority 2>&1); then
  echo "ebb ml is built: this script should now check what it made" >&2
  exit 1
fi
echo "$out" | grep -q "az ml"
ebb compute create --name lowpriocluster --size Standard_NC6 --max-instances 5 --tier low_priority
got() { ebb compute show --name lowpriocluster --query "$1" --output tsv; }
test "$(got tier)" = low_priority
test "$(got max_instances)" = 5
got size | grep -qi '^standard_nc6$'
