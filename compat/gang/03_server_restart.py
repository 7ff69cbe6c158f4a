"""The server is killed under an MPI job of several nodes and starts anew: the job does not notice."""

import pathlib
import time

from azure.ai.ml import MLClient, MpiDistribution, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="restart", size="STANDARD_D2_V2", max_instances=2)).result()
ml.environments.create_or_update(Environment(name="plain", image="python:3.11", version="1"))
pathlib.Path("code").mkdir()
pathlib.Path("code/steps.py").write_text(
    """
import pathlib, time
from mpi4py import MPI
world = MPI.COMM_WORLD
for step in range(30):
    total = world.allreduce(world.rank)
    if world.rank == 0:
        print("step", step, "sum", total, flush=True)
    time.sleep(0.2)
"""
)
job = ml.jobs.create_or_update(
    command(command="python steps.py", code="code", environment="plain@latest", compute="restart", instance_count=2, distribution=MpiDistribution(process_count_per_instance=2))
)
while ml.jobs.get(job.name).status != "Running":
    time.sleep(0.1)
pathlib.Path("running").touch()
while True:
    try:
        got = ml.jobs.get(job.name)
    except Exception:  # the server is away
        time.sleep(0.2)
        continue
    if got.status in ("Completed", "Failed", "Canceled"):
        break
    time.sleep(0.2)
assert got.status == "Completed", got
ml.jobs.download(job.name, download_path="down", all=True)
text = next(pathlib.Path("down").rglob("std_log_process_0.txt")).read_text()
assert [line for line in text.splitlines() if line.startswith("step")] == [f"step {i} sum 6" for i in range(30)], text
