"""The node dies under a job with an input and outputs: the second attempt has its input anew, and nothing of the first is ever shown."""

import pathlib
import time

import requests

from azure.ai.ml import Input, MLClient, Output, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.identity import DefaultAzureCredential

credential = DefaultAzureCredential()
ml = MLClient.from_config(credential)
ws = ml.workspaces.get()
ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="STANDARD_D2_V2", max_instances=1)).result()
ml.environments.create_or_update(Environment(name="plain", image="python:3.11", version="1"))
pathlib.Path("src").mkdir()
pathlib.Path("src/work.py").write_text(
    """
import json, os, pathlib, sys, time
data, copied, out = map(pathlib.Path, sys.argv[1:])
attempt = json.loads(os.environ["AZUREML_CR_COMPUTE_CONTEXT"])["run_attempt_count"]
text = (data / "a.txt").read_text() + (copied / "a.txt").read_text()
(copied / "a.txt").write_text("written by an attempt")
(out / f"from-{attempt}").write_text(text)
print("attempt", attempt, flush=True)
while attempt == 1:
    time.sleep(0.1)  # until the node dies
"""
)
pathlib.Path("data").mkdir()
pathlib.Path("data/a.txt").write_text("x")
job = command(
    code="src",
    command="python work.py ${{inputs.data}} ${{inputs.copied}} ${{outputs.out}}",
    inputs={"data": Input(type="uri_folder", path="data"), "copied": Input(type="uri_folder", path="data", mode="download")},
    outputs={"out": Output(type="uri_folder", name="left")},
    environment="plain@latest",
    compute="cpu-cluster",
)
job = ml.jobs.create_or_update(job)


def log():
    """The log as it is, by run history."""
    head = {"Authorization": "Bearer " + credential.get_token("https://management.azure.com/.default").token}
    details = requests.get(f"https://westus2.api.azureml.ms/history/v1.0{ws.id}/runs/{job.name}/details", headers=head).json()
    at = details["logFiles"].get("user_logs/std_log.txt")
    return requests.get(at).text if at else ""


end = time.time() + 240
while "attempt 1" not in log():
    assert time.time() < end
    time.sleep(0.2)
pathlib.Path("running").touch()  # now the node may die
while ml.jobs.get(job.name).status not in ("Completed", "Failed", "Canceled"):
    assert time.time() < end
    time.sleep(0.5)
assert ml.jobs.get(job.name).status == "Completed"
assert "attempt 1" in log() and "attempt 2" in log(), log()
ml.jobs.download(job.name, download_path="back", output_name="out")
found = {f.name: f.read_text() for f in pathlib.Path("back/named-outputs/out").rglob("*") if f.is_file()}
assert found == {"from-2": "xx"}, found
assert [v.version for v in ml.data.list(name="left")] == ["1"]
