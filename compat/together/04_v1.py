"""Python SDK v1 runs code, on a cluster and by itself."""

import pathlib

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
cluster.wait_for_completion()
pathlib.Path("v1").mkdir()
pathlib.Path("v1/train.py").write_text("print('trained by hand')\n")
env = Environment("plain")
env.python.user_managed_dependencies = True
run = Experiment(ws, "v1").submit(ScriptRunConfig("v1", script="train.py", compute_target=cluster, environment=env))
run.wait_for_completion()
with Experiment(ws, "v1").start_logging(snapshot_directory="v1") as by_hand:
    by_hand.log("score", 1)
pathlib.Path("runs.txt").write_text(f"{run.id} {by_hand.id} {run.get_snapshot_id()}")
