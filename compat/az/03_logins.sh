# The other two ways to log in, in the cloud that the variables name and under
# "ebb exec".
set -eu
is() { [ "$1" = "$2" ] || { echo "got '$1', want '$2'" >&2; exit 1; }; }
export AZURE_CORE_COLLECT_TELEMETRY=no AZURE_CORE_LOGIN_EXPERIENCE_V2=off

# device logs in by a code, which somebody approves in the way of $1.
device() {
  : >err # there at once, and without the code of before
  az login --use-device-code --query "[0].user.type" -o tsv >out 2>err &
  for _ in $(seq 100); do
    code=$(sed -n 's/.*ebb device approve \([A-Z]*\).*/\1/p' err)
    [ -z "$code" ] || break
    sleep 0.2
  done
  [ -n "$code" ] || { cat err >&2; exit 1; }
  "$1" "$code"
  wait $! || { cat err >&2; exit 1; }
  is "$(cat out)" user
}
command_line() { ebb device approve "$1"; }
page() {
  url=$(sed -n 's/.*open the page \(https:[^ ]*\) .*/\1/p' err)
  curl -sf --noproxy '*' --cacert "$CA" "$url" | grep -q "Client secret"
  curl -sf --noproxy '*' --cacert "$CA" "$url" --data-urlencode "user_code=$1" --data-urlencode "client_id=$AZURE_CLIENT_ID" --data-urlencode "client_secret=$AZURE_CLIENT_SECRET" | grep -q "Signed in as"
}

if [ "${1:-}" = inside ]; then # under ebb exec: as itself, and as a person
  is "$(az account show --query user.type -o tsv)" servicePrincipal
  device page
  is "$(az group list --query "[].name" -o tsv)" "$GROUP"
  exit
fi

(
  eval "$(ebb env --custom-cloud)"
  export AZURE_CONFIG_DIR=$PWD/device AZURE_CORE_INSTANCE_DISCOVERY=false CA=$REQUESTS_CA_BUNDLE
  az cloud set -n Ebb
  device command_line
  is "$(az account list --query "[0].id" -o tsv)" "$SUBSCRIPTION"
  is "$(az group list --query "[].name" -o tsv)" "$GROUP"
  is "$(az ad signed-in-user show --query displayName -o tsv)" ebb
  az account get-access-token --query tokenType -o tsv >/dev/null
)
(
  eval "$(ebb env --identity)"
  export AZURE_CONFIG_DIR=$PWD/identity AZURE_CORE_INSTANCE_DISCOVERY=false
  az cloud set -n Ebb
  is "$(az login --identity --query "[0].id" -o tsv)" "$SUBSCRIPTION"
  is "$(az group list --query "[].name" -o tsv)" "$GROUP"
)
CA=$(ebb env --custom-cloud | sed -n "s/^export REQUESTS_CA_BUNDLE='\(.*\)'$/\1/p")
export CA
ebb exec -- sh "$0" inside
