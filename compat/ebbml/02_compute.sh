#!/bin/sh
# az ml v2: clusters from flags and from a file.
set -eu
alias az=ebb
cat > cluster.yml <<'YML'
$schema: https://azuremlschemas.azureedge.net/latest/amlCompute.schema.json
name: filed
type: amlcompute
size: Standard_DS2_v2
min_instances: 0
max_instances: 3
idle_time_before_scale_down: 90
tier: low_priority
tags: {team: vision}
identity:
  type: user_assigned
  user_assigned_identities:
    - resource_id: /subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/a
YML
az ml compute create -f cluster.yml --set max_instances=2 tags.owner=me
got() { az ml compute show -n filed --query "$1" -o tsv; }
test "$(got max_instances),$(got tier),$(got idle_time_before_scale_down),$(got identity.type),$(got tags.owner)" = 2,low_priority,90,user_assigned,me
az ml compute create --name flagged --type amlcompute --size Standard_DS3_v2 --min-instances 0 --max-instances 4 --no-wait
az ml compute update --name flagged --max-instances 5 --set tags.a=b idle_time_before_scale_down=60
test "$(az ml compute show -n flagged --query '[max_instances, idle_time_before_scale_down]' -o tsv | tr '\t\n' '  ')" = "5 60 "
az ml compute list --query "[].name" -o tsv | grep -qx filed
test "$(az ml compute list-nodes -n flagged)" = "[]"
az ml compute list-sizes --query "length(@)" | grep -q '^[0-9][0-9]'
az ml compute list-usage --query "[0].limit" >/dev/null
az ml compute update --name flagged --set size=Standard_DS4_v2 2>error && exit 1
grep -q "cannot be changed" error
az ml compute attach --name k8 --type kubernetes --resource-id /subscriptions/s/resourceGroups/g/providers/Microsoft.Kubernetes/connectedClusters/c 2>error && exit 1
grep -q "ERROR" error
cat > notebook.yml <<'YML'
$schema: https://azuremlschemas.azureedge.net/latest/computeInstance.schema.json
name: notebook
type: computeinstance
size: Standard_DS2_v2
idle_time_before_shutdown_minutes: 30
YML
az ml compute create --file notebook.yml
az ml compute stop --name notebook
test "$(az ml compute show --name notebook --query state -o tsv)" = Stopped
az ml compute start --name notebook
az ml compute restart --name notebook
for name in filed flagged notebook; do az ml compute delete --name "$name" --yes; done
test "$(az ml compute list --query "[?name=='flagged'] | length(@)")" = 0
