# az with no cloud registered and nobody logged in by hand: what Azure's own
# pages tell people to type, under "ebb exec".
set -eu
is() { [ "$1" = "$2" ] || { echo "got '$1', want '$2'" >&2; exit 1; }; }
fails() { want=$1; shift; if "$@" >fails.out 2>&1; then echo "did not fail: $*" >&2; exit 1; fi; grep -q "$want" fails.out || { echo "no $want in:" >&2; cat fails.out >&2; exit 1; }; }
type=Microsoft.MachineLearningServices

is "$(az account show --query "[id, user.type, state]" -o tsv | tr '\n' ' ')" "$SUBSCRIPTION servicePrincipal Enabled "
is "$(az account list --query "length(@)")" 1

# Groups
is "$(az group create -n team -l westeurope --tags a=b --query properties.provisioningState -o tsv)" Succeeded
is "$(az group exists -n team) $(az group exists -n nobody)" "true false"
is "$(az group update -n team --set tags.c=d --query tags.c -o tsv)" d
is "$(az group list --tag c=d --query "[].name" -o tsv)" team

# A workspace, and a cluster in it
ws=$(az resource create -g team -n lab --resource-type $type/workspaces -l westeurope --properties '{"description":"ours"}' --query id -o tsv)
is "$ws" "/subscriptions/$SUBSCRIPTION/resourceGroups/team/providers/$type/workspaces/lab"
is "$(az resource show --ids "$ws" --query "[sku.name, properties.description, identity.type]" -o tsv | tr '\n' ' ')" "Basic ours SystemAssigned "
is "$(az resource update --ids "$ws" --set properties.friendlyName=Lab tags.k=v --query properties.friendlyName -o tsv)" Lab
is "$(az resource patch --ids "$ws" --properties '{"description":"theirs"}' --query "[properties.description, properties.friendlyName]" -o tsv | tr '\n' ' ')" "theirs Lab "
cluster='{"location":"westeurope","properties":{"computeType":"AmlCompute","properties":{"vmSize":"STANDARD_DS3_V2","scaleSettings":{"minNodeCount":0,"maxNodeCount":2,"nodeIdleTimeBeforeScaleDown":"PT2M"}}}}'
is "$(az resource create --id "$ws/computes/cpu" --is-full-object --properties "$cluster" --api-version 2024-04-01 --query properties.provisioningState -o tsv)" Succeeded
is "$(az resource update --ids "$ws/computes/cpu" --set properties.properties.scaleSettings.maxNodeCount=5 --query properties.properties.scaleSettings.maxNodeCount)" 5
is "$(az resource patch --ids "$ws/computes/cpu" --properties '{"properties":{"scaleSettings":{"minNodeCount":0,"maxNodeCount":3,"nodeIdleTimeBeforeScaleDown":"PT60S"}}}' --query properties.properties.scaleSettings.maxNodeCount)" 3
is "$(az resource list -g team --query "[].type" -o tsv | sort | tr '\n' ' ')" "$type/workspaces $type/workspaces/computes "
is "$(az resource list --resource-type $type/workspaces --query "length(@)")" 2
az resource invoke-action --ids "$ws/computes/cpu" --action listNodes -o none
is "$(az rest -m post --url "https://management.azure.com$ws/computes/cpu/listNodes?api-version=2024-04-01" --query "length(nodes)")" 0
is "$(az rest --url "$ws/computes?api-version=2024-04-01" --query "value[].name" -o tsv)" cpu
fails "vmSize" az rest -m put --url "$ws/computes/bad?api-version=2024-04-01" --body '{"properties":{"computeType":"AmlCompute","properties":{"vmSize":"STANDARD_NOTHING","scaleSettings":{"maxNodeCount":1}}}}'

# Tags by their own address
az tag create --resource-id "$ws" --tags x=1 y=2 -o none
is "$(az tag update --resource-id "$ws" --operation merge --tags y=3 --query "properties.tags.[x, y]" -o tsv | tr '\n' ' ')" "1 3 "

# A cluster, and the group with all that is in it
az resource delete --ids "$ws/computes/cpu"
fails "NotFound" az resource show --ids "$ws/computes/cpu"
az group delete -n team --yes
is "$(az group exists -n team)" false
fails "ResourceGroupNotFound" az group show -n team
