"""Python SDK v2 lists and reads SDK v1's runs, and runs their code."""

import pathlib

from azure.ai.ml import MLClient, command
from azure.ai.ml._utils._arm_id_utils import AMLVersionedArmId
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
run, by_hand, snapshot = pathlib.Path("runs.txt").read_text().split()
jobs = {j.name: j for j in ml.jobs.list()}
assert run in jobs, jobs
job = ml.jobs.get(run)
assert job.status == "Completed", job
code = AMLVersionedArmId(job.code)
assert (code.asset_name, code.asset_version) == (snapshot, "1"), job.code
assert ml._code.get(code.asset_name, code.asset_version).name == snapshot
assert ml.jobs.get(by_hand).status == "Completed"

again = ml.jobs.create_or_update(command(command="python train.py", code=job.code, environment="shared@latest", compute="cpu"))
ml.jobs.stream(again.name)
assert ml.jobs.get(again.name).code == job.code
