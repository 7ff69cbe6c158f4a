"""Run.get_context() in the job: metrics, tags and files logged from inside."""
import pathlib
import sys

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.conda_dependencies import CondaDependencies

ws = Workspace.from_config()
cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
cluster.wait_for_completion()

src = pathlib.Path("src")
src.mkdir()
(src / "inside.py").write_text(
    "from azureml.core import Run\n"
    "run = Run.get_context()\n"
    "print('inside', run.id, run.experiment.name, flush=True)\n"
    "for i in range(3):\n"
    "    run.log('loss', 1.0 / (i + 1))\n"
    "run.tag('from', 'inside')\n"
    "open('made.txt', 'w').write('made inside')\n"
    "run.upload_file('made.txt', 'made.txt')\n"
    "run.flush()\n"
)
env = Environment("inside")
env.python.conda_dependencies = CondaDependencies.create(
    python_version=f"{sys.version_info.major}.{sys.version_info.minor}", pip_packages=["azureml-core==1.61.0.post4"]
)
run = Experiment(ws, "inside").submit(
    ScriptRunConfig(source_directory=str(src), script="inside.py", compute_target=cluster, environment=env)
)
run.wait_for_completion(show_output=True)
assert run.get_metrics()["loss"] == [1.0, 0.5, 1.0 / 3], run.get_metrics()
assert run.get_tags()["from"] == "inside", run.get_tags()
run.download_file("made.txt", "back.txt")
assert pathlib.Path("back.txt").read_text() == "made inside"
assert any("image_build_log" in n for n in run.get_details()["logFiles"]), run.get_details()["logFiles"]
