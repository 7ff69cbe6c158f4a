#!/bin/sh
# Mistakes: what is said, and the exit code.
set -eu
mistake() { # code words command …
  code=$1 words=$2
  shift 2
  got=0
  ebb "$@" >said 2>&1 || got=$?
  if [ "$got" != "$code" ] || ! grep -qF -- "$words" said; then
    echo "ebb $*: exit $got, want $code with: $words"
    cat said
    exit 1
  fi
}
cat > job.yml <<'YML'
type: command
comand: echo
compute: azureml:nowhere
inputs:
  d: {type: uri_foldr, path: x}
YML
mistake 2 'job.yml:2: comand: there is no such field; did you mean command?' ml job create -f job.yml
mistake 2 'job.yml:5: inputs.d.type: "uri_foldr" is not allowed; did you mean uri_folder?' ml job create -f job.yml
printf 'type: command\ncommand: echo\ncompute: azureml:nowhere\n' > job.yml
mistake 3 'no cluster named nowhere' ml job create -f job.yml
mistake 2 '--set resources.instance_count: "many" is not a whole number' ml job create -f job.yml --set resources.instance_count=many
printf 'type: pipeline\njobs: {}\n' > pipeline.yml
mistake 2 'pipelines are not built' ml job create -f pipeline.yml
mistake 1 'Online endpoints are not built' ml online-endpoint list
command -v az >/dev/null || mistake 1 'pip install azure-cli' group list
mistake 2 'has no command "computes"; did you mean compute' ml computes
mistake 2 'unknown flag: --maximum' ml compute create -n x --maximum 3
mistake 3 'no job named nope' ml job show -n nope
mistake 1 'ebb job exec some-job -it -- bash' ml job connect-ssh -n some-job
mistake 1 'there is no size Standard_DS3_v3' ml compute create -n odd --size Standard_DS3_v3
