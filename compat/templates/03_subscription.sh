# A subscription's template makes a group, and in it by a nested deployment a
# workspace with what it needs and a cluster.
set -eu
az login --service-principal -u "$AZURE_CLIENT_ID" -p "$AZURE_CLIENT_SECRET" --tenant "$AZURE_TENANT_ID" -o none
here=$(dirname "$0")
is() { [ "$1" = "$2" ] || { echo "is '$1', want '$2'" >&2; exit 1; }; }
all() { verb=$1; shift; az deployment sub "$verb" -n all -l westus2 --template-file "$here/subscription.json" --parameters group=made "$@"; }

is "$(all validate --query properties.provisioningState -o tsv)" Succeeded
foreseen=$(all what-if)
case "$foreseen" in *"2 to create"*) ;; *) echo "$foreseen" >&2; exit 1 ;; esac
is "$(all create --query properties.outputs.workspaceId.value -o tsv)" "/subscriptions/$SUBSCRIPTION/resourceGroups/made/providers/Microsoft.MachineLearningServices/workspaces/ws-made"
is "$(az deployment operation group list -g made -n workspace --query 'length([?properties.provisioningState==`Succeeded`])' -o tsv)" 5
is "$(az deployment group show -g made -n workspace --query properties.outputs.state.value -o tsv)" Succeeded
is "$(az resource list -g made --query 'length(@)' -o tsv)" 5
is "$(all create --query properties.provisioningState -o tsv)" Succeeded
is "$(az deployment sub show -n all --query 'properties.dependencies[0].dependsOn[0].resourceName' -o tsv)" made
az deployment sub delete -n all
az group delete -n made --yes
is "$(az group exists -n made)" false
