"""One node of a gang dies: the whole gang runs again, as attempt 2 of the same job."""

import pathlib
import time

from azure.ai.ml import MLClient, MpiDistribution, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="loss", size="STANDARD_D2_V2", max_instances=3)).result()
ml.environments.create_or_update(Environment(name="plain", image="python:3.11", version="1"))
pathlib.Path("code").mkdir()
pathlib.Path("code/work.py").write_text(
    """
import json, os, time
from mpi4py import MPI
world = MPI.COMM_WORLD
attempt = json.loads(os.environ["AZUREML_CR_COMPUTE_CONTEXT"])["run_attempt_count"]
print("attempt", attempt, "sum", world.allreduce(world.rank), flush=True)
while attempt == 1:
    time.sleep(0.1)  # until a node dies
    world.allreduce(0)
"""
)
job = ml.jobs.create_or_update(
    command(command="python work.py", code="code", environment="plain@latest", compute="loss", instance_count=3, distribution=MpiDistribution(process_count_per_instance=1))
)
while ml.jobs.get(job.name).status != "Running":
    time.sleep(0.1)
pathlib.Path("running").touch()  # now a node may die
end = time.time() + 240
while (got := ml.jobs.get(job.name)).status not in ("Completed", "Failed", "Canceled"):
    assert time.time() < end, got
    time.sleep(0.3)
assert got.status == "Completed", got
ml.jobs.download(job.name, download_path="down", all=True)
for i in range(3):
    text = next(pathlib.Path("down").rglob(f"std_log_process_{i}.txt")).read_text()
    assert "attempt 2 sum 3" in text, text
