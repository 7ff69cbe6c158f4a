"""Environments registered, fetched, listed, and used by name."""
import pathlib

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
env = Environment("regenv")
env.python.user_managed_dependencies = True
env.environment_variables = {"FROM": "registered"}
first = env.register(ws)
assert first.version == "1", first.version
env.environment_variables = {"FROM": "registered twice"}
second = env.register(ws)
assert second.version == "2", second.version
assert Environment.get(ws, "regenv").version == "2"
assert Environment.get(ws, "regenv", version="1").environment_variables == {"FROM": "registered"}
assert "regenv" in Environment.list(ws)

cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
cluster.wait_for_completion()
src = pathlib.Path("src")
src.mkdir()
(src / "show.py").write_text("import os\nprint('FROM =', os.environ['FROM'])\n")
run = Experiment(ws, "environments").submit(
    ScriptRunConfig(source_directory=str(src), script="show.py", compute_target=cluster, environment=Environment.get(ws, "regenv"))
)
run.wait_for_completion()
run.download_file("user_logs/std_log.txt", "log.txt")
assert "FROM = registered twice" in pathlib.Path("log.txt").read_text()
