#!/bin/sh
# A job with code and an environment of its own, and all that is done with one.
set -eu
alias az=ebb
az ml compute create --name jobs --max-instances 1 --idle-time-before-scale-down 5 -o none
mkdir -p src
printf 'import helper, os\nprint("helped", helper.word, os.environ["GREETING"])\nos.makedirs("outputs", exist_ok=True)\nopen("outputs/result.txt", "w").write("42")\nassert not os.path.exists("big.bin")\n' > src/train.py
echo 'word = "kindly"' > src/helper.py
echo 'not to be sent' > src/big.bin
echo '*.bin' > src/.amlignore
cat > job.yml <<'YML'
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
type: command
code: ./src
command: python3 train.py
environment: {image: python:3.11}
environment_variables: {GREETING: hello}
compute: azureml:jobs
experiment_name: scripts
tags: {team: vision}
YML
az ml job validate -f job.yml
az ml job create -f job.yml --name script-1 --stream > log
grep -q "helped kindly hello" log
got() { az ml job show -n script-1 --query "$1" -o tsv; }
test "$(got status),$(got experiment_name),$(got compute)" = Completed,scripts,azureml:jobs
az ml job download -n script-1 --all --download-path fetched
test "$(cat fetched/artifacts/outputs/result.txt)" = 42
grep -q "helped kindly" fetched/artifacts/user_logs/std_log.txt

# The same code is not sent again, and is the same version.
az ml job create -f job.yml --name script-2 --set environment_variables.GREETING=again --debug >/dev/null 2>calls
grep -q "startPendingUpload" calls && exit 1
test "$(az ml job show -n script-2 --query code -o tsv)" = "$(got code)"
az ml job stream -n script-2 | grep -q "helped kindly again"

az ml job update -n script-1 --set display_name="A script" tags.owner=me
test "$(got display_name),$(got tags.owner),$(got tags.team)" = "A script,me,vision"
az ml job archive -n script-1
test "$(az ml job list --query "[?name=='script-1'] | length(@)")" = 0
az ml job list --archived-only --query "[].name" -o tsv | grep -qx script-1
az ml job restore -n script-1
az ml job list --max-results 5 -o table | grep -q "^script-1"

# Data in, data out, and what comes out as an asset.
mkdir -p data
printf 'a\nb\n' > data/rows.txt
cat > copy.yml <<'YML'
type: command
command: cp ${{inputs.data}}/rows.txt ${{outputs.kept}}/ && wc -l < ${{inputs.file}} > ${{outputs.kept}}/count
compute: jobs
inputs:
  data: {type: uri_folder, path: ./data, mode: download}
  file: {type: uri_file, path: ./data/rows.txt}
outputs:
  kept: {type: uri_folder, name: script-kept, version: 1}
YML
az ml job create -f copy.yml --name script-5 --stream
az ml job download -n script-5 --output-name kept --download-path out
test "$(cat out/named-outputs/kept/rows.txt | tr '\n' ' ')$(tr -d ' ' < out/named-outputs/kept/count)" = "a b 2"
az ml job download -n script-5 --output-name other 2>error && exit 1
grep -q "it has: default, kept" error
az ml data show -n script-kept -v 1 --query type -o tsv | grep -qx uri_folder
az ml model create --name kept-model --version 1 --path azureml://jobs/script-5/outputs/kept --type custom_model
az ml model show -n kept-model -v 1 --query path -o tsv | grep -q '/datastores/workspaceblobstore/paths/azureml/script-5/kept'
az ml job create --name script-7 --compute jobs --command 'cat ${{inputs.model}}/rows.txt' --set inputs.model.type=custom_model inputs.model.path=azureml:kept-model:1 --stream | grep -q '^b$'
az ml model create --name slip --path azureml://jobs/script-5/outputs/kep --type custom_model 2>error && exit 1
grep -q 'no output "kep". It has: kept' error
az ml job create --name script-6 --compute jobs --command 'cat ${{inputs.data}}/rows.txt' --set inputs.data.type=uri_folder inputs.data.path=azureml:script-kept:1 --stream | grep -q '^b$'

az ml job create --name script-3 --compute jobs --command 'echo bad >&2; exit 3' --stream 2>error && exit 1
grep -q "script-3: Failed" error
az ml job create --name script-4 --compute jobs --command 'sleep 600' >/dev/null
az ml job cancel -n script-4
test "$(az ml job show -n script-4 --query status -o tsv)" = Canceled
az ml compute delete -n jobs -y
