# The public quickstart for a cluster: checked, foreseen, deployed, deployed again
# as it is, and refused when it would change what is there.
set -eu
az login --service-principal -u "$AZURE_CLIENT_ID" -p "$AZURE_CLIENT_SECRET" --tenant "$AZURE_TENANT_ID" -o none
here=$(dirname "$0")
quick() { verb=$1; shift; az deployment group "$verb" -g "$GROUP" -n quick --template-file "$here/quickstart.json" "$@"; }
set -- --parameters workspaceName=main clusterName=quick adminUserName=azureuser adminUserPassword='Qu1ckstart!pass'
is() { [ "$1" = "$2" ] || { echo "is '$1', want '$2'" >&2; exit 1; }; }
has() { case "$1" in *"$2"*) ;; *) echo "'$2' is not in: $1" >&2; exit 1 ;; esac; }
cluster="/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.MachineLearningServices/workspaces/main/computes/quick"

is "$(quick validate "$@" --query properties.provisioningState -o tsv)" Succeeded
foreseen=$(quick what-if "$@" --no-pretty-print)
has "$foreseen" '"changeType": "Create"'
case "$foreseen" in *Qu1ckstart*) echo "what-if shows the password" >&2; exit 1 ;; esac
is "$(quick create "$@" --query properties.provisioningState -o tsv)" Succeeded
is "$(az resource show --ids "$cluster" --api-version 2024-04-01 --query properties.properties.scaleSettings.maxNodeCount -o tsv)" 1

# An identical redeployment succeeds; one that would change the cluster says what it would change.
is "$(quick create "$@" --query properties.provisioningState -o tsv)" Succeeded
has "$(quick what-if "$@" --no-pretty-print)" '"changeType": "NoChange"'
foreseen=$(quick what-if "$@" maxNodeCount=9)
has "$foreseen" "1 unsupported"
has "$foreseen" "properties.properties.scaleSettings.maxNodeCount' is 1 and the template says 9"
if refused=$(quick create "$@" maxNodeCount=9 2>&1); then echo "the cluster was changed" >&2; exit 1; fi
has "$refused" DeploymentFailed
has "$refused" "properties.properties.scaleSettings.maxNodeCount' is 1 and the template says 9"
has "$(az deployment operation group list -g "$GROUP" -n quick)" PropertyChangeNotAllowed
is "$(az deployment group show -g "$GROUP" -n quick --query properties.provisioningState -o tsv)" Failed

# A direct PUT changes it, and then the template says the same.
az resource update --ids "$cluster" --api-version 2024-04-01 --set properties.properties.scaleSettings.maxNodeCount=9 -o none
is "$(quick create "$@" maxNodeCount=9 --query properties.provisioningState -o tsv)" Succeeded

# What is wrong is said in words.
if refused=$(quick create "$@" bogus=1 2>&1); then exit 1; fi
has "$refused" bogus
if refused=$(quick create "$@" vmSize=Standard_Nonsense clusterName=other 2>&1); then exit 1; fi
has "$refused" Standard_Nonsense
[ "${#refused}" -lt 3000 ] || { echo "the refusal has ${#refused} characters" >&2; exit 1; }
for verb in what-if validate; do
    if refused=$(quick "$verb" "$@" vmSize=Standard_DS3v2 clusterName=other 2>&1); then echo "$verb foresees no refusal" >&2; exit 1; fi
    has "$refused" "Did you mean STANDARD_DS3_V2?"
    case "$refused" in *Traceback*) echo "$verb: $refused" >&2; exit 1 ;; esac
done
case "$(az deployment group show -g "$GROUP" -n quick)$refused" in *Qu1ckstart*) echo "the password is shown" >&2; exit 1 ;; esac
az deployment group delete -g "$GROUP" -n quick
if az deployment group show -g "$GROUP" -n quick 2>/dev/null; then echo "it is still there" >&2; exit 1; fi
