# What Bicep emits: symbolic names, an existing resource, a copy loop, types and
# functions of its own, outputs.
set -eu
az login --service-principal -u "$AZURE_CLIENT_ID" -p "$AZURE_CLIENT_SECRET" --tenant "$AZURE_TENANT_ID" -o none
here=$(dirname "$0")
is() { [ "$1" = "$2" ] || { echo "is '$1', want '$2'" >&2; exit 1; }; }

cat > clusters.parameters.json <<'PARAMETERS'
{
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#",
  "contentVersion": "1.0.0.0",
  "parameters": {
    "workspace": {"value": "main"},
    "clusters": {"value": [{"name": "bicep-one", "nodes": 2}, {"name": "bicep-two", "nodes": 3, "idle": "PT10M"}]}
  }
}
PARAMETERS
az deployment group create -g "$GROUP" -n bicep --template-file "$here/bicep.json" --parameters @clusters.parameters.json -o json > made.json
python3 - <<'PYTHON'
import json
made = json.load(open("made.json"))["properties"]
out = {k: v["value"] for k, v in made["outputs"].items()}
assert out["names"] == ["bicep-one", "bicep-two"], out
assert len(out["states"]) == 2 and len(out["principal"]) == 36, out
assert len(made["outputResources"]) == 2, made["outputResources"]
PYTHON
two="/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.MachineLearningServices/workspaces/main/computes/bicep-two"
is "$(az resource show --ids "$two" --api-version 2024-04-01 --query 'join(`" "`, [tags.team, properties.properties.vmPriority, properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown])' -o tsv)" \
  "made-for-science LowPriority PT10M"
az deployment group export -g "$GROUP" -n bicep > exported.json
grep -q '"languageVersion": "2.0"' exported.json
is "$(az deployment group list -g "$GROUP" --query "[?name=='bicep'].properties.provisioningState" -o tsv)" Succeeded
if refused=$(az deployment group validate -g "$GROUP" --template-file "$here/bicep.json" --parameters workspace=main clusters='[{"name": "ab", "nodes": 1}]' 2>&1); then exit 1; fi
case "$refused" in *"minLength is 3"*) ;; *) echo "$refused" >&2; exit 1 ;; esac
