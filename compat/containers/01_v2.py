"""Jobs in containers with SDK v2: code, inputs, outputs, limits, docker_args, what fails and how, a visitor, and nothing left."""

import contextlib
import io
import pathlib
import subprocess
import sys
import time

from azure.ai.ml import Input, MLClient, Output, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

image = sys.argv[1]
ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="boxes", size="STANDARD_D2_V2", min_instances=0, max_instances=2, idle_time_before_scale_down=600)).result()
ml.environments.create_or_update(Environment(name="debian", image=image, version="1"))

code = pathlib.Path("code")
code.mkdir()
(code / "train.py").write_text("""
import json, os, pathlib, ssl, sys, urllib.request
print("container:", pathlib.Path("/run/ebb/ebb").exists(), "uid:", os.getuid(), "cwd:", os.getcwd())
print("input says", pathlib.Path(sys.argv[1]).read_text())
pathlib.Path(sys.argv[2], "model.txt").write_text("made in a container")
os.makedirs("outputs", exist_ok=True)
pathlib.Path("outputs/result.txt").write_text("42")
# The server answers at the address that the job is told, with a certificate that it trusts.
host = os.environ["AZUREML_SERVICE_ENDPOINT"]
request = urllib.request.Request(host + "/metadata/endpoints?api-version=2022-09-01")
print("server:", sorted(json.load(urllib.request.urlopen(request)))[0] != "")
""")
pathlib.Path("data.txt").write_text("hello")


def run(line, environment="debian:1", **more):
    return ml.jobs.create_or_update(command(command=line, environment=environment, compute="boxes", **more))


def stream(job):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            ml.jobs.stream(job.name)
        except JobException as e:
            return out.getvalue(), str(e)
    return out.getvalue(), ""


job = run(
    "python3 train.py ${{inputs.data}} ${{outputs.model}}", code=str(code),
    inputs={"data": Input(type="uri_file", path="data.txt")}, outputs={"model": Output(type="uri_folder")},
)
text, error = stream(job)
assert not error and "container: True" in text and "input says hello" in text and "server: True" in text, (text, error)
assert "uid: 0" not in text and "/exe/wd" in text, text
ml.jobs.download(job.name, download_path="down", all=True)
found = {p.name: p.read_text() for p in pathlib.Path("down").rglob("*.txt")}
assert found["result.txt"] == "42" and found["model.txt"] == "made in a container", found
assert ml.jobs.get(job.name).properties["ebb.image"].startswith(image), ml.jobs.get(job.name).properties

# Limits and arguments.
job = run("df -m /dev/shm | tail -1; ulimit -n; grep some.where /etc/hosts", shm_size="64m", docker_args="--ulimit nofile=1234:1234 --add-host some.where:10.1.2.3")
text, error = stream(job)
assert not error and "64" in text and "1234" in text and "10.1.2.3" in text, (text, error)
for args, word in {"--privileged": "--privileged", "-v /:/host": "-v", "--network=host": "--network", "--ulimit nofile": "nofile"}.items():
    try:
        run("true", docker_args=args)
        raise AssertionError(f"{args} was taken")
    except HttpResponseError as e:
        assert e.status_code == 400 and word in e.message and "docker run" in e.message, e.message

# What fails says why.
text, error = stream(run("echo last words; exit 3"))
assert "code 3" in error and "last words" in error, error
ml.environments.create_or_update(Environment(name="nowhere", image="ebb-test/nowhere:1", version="1"))
text, error = stream(run("true", environment="nowhere:1"))
assert "ebb-test/nowhere:1" in error, (text, error)

# A visitor sees the job's world; a cancel ends it.
job = run("echo up; touch here; sleep 600")
while ml.jobs.get(job.name).status != "Running":
    time.sleep(0.2)
seen = subprocess.run(["ebb", "job", "exec", "--name", job.name, "--", "sh", "-c", "ls; test -e /run/ebb/ebb && echo inside; exit 5"], capture_output=True, text=True)
assert seen.returncode == 5 and "inside" in seen.stdout, seen
ml.jobs.begin_cancel(job.name).result()
while ml.jobs.get(job.name).status not in ("Canceled", "Failed", "Completed"):
    time.sleep(0.2)
assert ml.jobs.get(job.name).status == "Canceled"
nodes = subprocess.run(["ebb", "compute", "nodes", "--name", "boxes"], capture_output=True, text=True)
assert "Docker" in nodes.stdout or "Podman" in nodes.stdout, nodes
print("ok")
