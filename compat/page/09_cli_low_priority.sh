#!/bin/sh
# Lower your cost, Azure CLI: the page's line, with az standing for ebb.
set -eu
alias az=ebb
az ml computetarget create amlcompute --name lowpriocluster --vm-size Standard_NC6 --max-nodes 5 --vm-priority lowpriority

test "$(az ml compute show --name lowpriocluster --query '[tier, max_instances]' --output tsv | tr '\n\t' '  ')" = "low_priority 5 "
az ml compute show --name lowpriocluster --query size --output tsv | grep -qi '^standard_nc6$'
