"""A job logs through Run.get_context() while the server restarts: nothing that it logged is lost."""
import pathlib
import sys
import time

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.conda_dependencies import CondaDependencies

ws = Workspace.from_config()
cluster = ComputeTarget.create(ws, "again", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
cluster.wait_for_completion()
src = pathlib.Path("src")
src.mkdir()
(src / "long.py").write_text(
    "import time\n"
    "from azureml.core import Run\n"
    "run = Run.get_context()\n"
    "for i in range(24):\n"
    "    run.log('step', i)\n"
    "    print('step', i, flush=True)\n"
    "    time.sleep(0.5)\n"
    "run.flush()\n"
    "run.tag('end', 'reached')\n"
    "open('late.txt', 'w').write('made late')\n"
    "run.upload_file('late.txt', 'late.txt')\n"
)
env = Environment("inside")
env.python.conda_dependencies = CondaDependencies.create(
    python_version=f"{sys.version_info.major}.{sys.version_info.minor}", pip_packages=["azureml-core==1.61.0.post4"]
)
run = Experiment(ws, "restart").submit(
    ScriptRunConfig(source_directory=str(src), script="long.py", compute_target=cluster, environment=env)
)
deadline = time.time() + 240
while "step" not in run.get_metrics():
    assert time.time() < deadline, run.get_status()
    time.sleep(0.3)
pathlib.Path("running").touch()
while not pathlib.Path("restarted").exists():
    time.sleep(0.1)
run.wait_for_completion(show_output=True)
assert run.get_metrics()["step"] == list(range(24)), run.get_metrics()
assert run.get_tags()["end"] == "reached", run.get_tags()
run.download_file("late.txt", "back.txt")
assert pathlib.Path("back.txt").read_text() == "made late"
run.download_file("user_logs/std_log.txt", "log.txt")
assert [line for line in pathlib.Path("log.txt").read_text().splitlines() if line.startswith("step")] == [f"step {i}" for i in range(24)]
