# az with a cloud registered for good, logged in with a client's secret: locks,
# identities, roles, providers and usages.
set -eu
is() { [ "$1" = "$2" ] || { echo "got '$1', want '$2'" >&2; exit 1; }; }
fails() { want=$1; shift; if "$@" >fails.out 2>&1; then echo "did not fail: $*" >&2; exit 1; fi; grep -q "$want" fails.out || { echo "no $want in:" >&2; cat fails.out >&2; exit 1; }; }
type=Microsoft.MachineLearningServices

eval "$(ebb env --custom-cloud)"
unset ARM_CLOUD_METADATA_URL # which names the cloud, too, for as long as it is set
export AZURE_CONFIG_DIR=$PWD/azure AZURE_CORE_INSTANCE_DISCOVERY=false AZURE_CORE_COLLECT_TELEMETRY=no
az cloud register -n Ebb --endpoint-resource-manager "$AZURE_AUTHORITY_HOST"
az cloud set -n Ebb
fails "AADSTS7000215" az login --service-principal -u "$AZURE_CLIENT_ID" -p wrong --tenant "$AZUREML_SERVICE_PRINCIPAL_TENANT_ID"
is "$(az login --service-principal -u "$AZURE_CLIENT_ID" -p "$AZURE_CLIENT_SECRET" --tenant "$AZUREML_SERVICE_PRINCIPAL_TENANT_ID" --query "[0].id" -o tsv)" "$SUBSCRIPTION"
is "$(az account show --query environmentName -o tsv)" Ebb

# Locks: the workspace's holds for its cluster, and names itself
az resource create -g "$GROUP" -n cpu --namespace $type --parent workspaces/main --resource-type computes --api-version 2024-04-01 --is-full-object -o none \
  --properties '{"location":"westus2","properties":{"computeType":"AmlCompute","properties":{"vmSize":"STANDARD_DS3_V2","scaleSettings":{"minNodeCount":0,"maxNodeCount":1}}}}'
lock=$(az lock create -n keep -g "$GROUP" --resource main --resource-type $type/workspaces --lock-type ReadOnly --notes "not now" --query id -o tsv)
is "$(az lock list --query "[].name" -o tsv)" keep
is "$(az lock show -n keep -g "$GROUP" --resource main --resource-type $type/workspaces --query "[level, notes]" -o tsv | tr '\n' ' ')" "ReadOnly not now "
ws=${lock%/providers/Microsoft.Authorization/*}
fails ScopeLocked az rest -m patch --url "$ws/computes/cpu?api-version=2024-04-01" --body '{"tags":{"a":"b"}}'
is "$(az lock update --ids "$lock" --lock-type CanNotDelete --query level -o tsv)" CanNotDelete
fails ScopeLocked az rest -m delete --url "$ws/computes/cpu?api-version=2024-04-01"
az lock delete -n keep -g "$GROUP" --resource main --resource-type $type/workspaces

# Identities
uai=$(az identity create -g "$GROUP" -n trainer -l westus2 --query principalId -o tsv)
is "$(az identity show -g "$GROUP" -n trainer --query principalId -o tsv)" "$uai"
az identity federated-credential create -g "$GROUP" --identity-name trainer -n f --issuer https://issuer.example --subject s --audiences api://AzureADTokenExchange -o none
is "$(az identity list -g "$GROUP" --query "[].name" -o tsv)" trainer

# Roles
is "$(az role definition list -n "AzureML Data Scientist" --query "[0].name" -o tsv)" f6c7c914-8db3-469d-8ca1-694a8f32e121
az role assignment create --assignee-object-id "$uai" --assignee-principal-type ServicePrincipal --role "AzureML Data Scientist" --scope "$ws" -o none
az role assignment create --assignee "$AZURE_CLIENT_ID" --role Reader --scope "$ws" -o none
is "$(az role assignment list --scope "$ws" --query "length(@)")" 2
is "$(az role assignment list --assignee "$uai" --scope "$ws" --query "[].[roleDefinitionName, principalName != '']" -o tsv | tr '\t' ' ')" "AzureML Data Scientist True"
az role assignment delete --assignee "$uai" --role "AzureML Data Scientist" --scope "$ws"
is "$(az role assignment list --scope "$ws" --query "length(@)")" 1
az role definition create -o none --role-definition "{\"Name\":\"Cluster Watcher\",\"Description\":\"looks\",\"Actions\":[\"*/read\"],\"AssignableScopes\":[\"/subscriptions/$SUBSCRIPTION\"]}"
is "$(az role definition list --custom-role-only --query "[].roleName" -o tsv)" "Cluster Watcher"
az role definition delete -n "Cluster Watcher"

# Providers, records and usages
is "$(az provider show -n $type --query registrationState -o tsv)" Registered
az provider register -n Microsoft.Network
is "$(az provider list --query "length([?registrationState=='Registered']) > \`5\`")" true
is "$(az storage account create -g "$GROUP" -n store1 --sku Standard_LRS -l westus2 --query id -o tsv)" "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.Storage/storageAccounts/store1"
az network vnet create -g "$GROUP" -n net --address-prefix 10.0.0.0/16 --subnet-name nodes --subnet-prefixes 10.0.0.0/24 -o none
is "$(az network vnet subnet list -g "$GROUP" --vnet-name net --query "[].name" -o tsv)" nodes
az resource tag --ids "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.Storage/storageAccounts/store1" --tags owner=me -o none
is "$(az resource list --tag owner=me --query "[].name" -o tsv)" store1
is "$(az vm list-usage -l westus2 --query "[?name.value=='cores'].limit | length(@)")" 1
az identity delete -g "$GROUP" -n trainer
