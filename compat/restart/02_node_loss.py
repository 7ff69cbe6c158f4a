"""The node dies under the job: the stream shows both attempts of the one run."""
import contextlib
import io
import pathlib
import time

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
cluster.wait_for_completion()
src = pathlib.Path("src")
src.mkdir()
(src / "wait.py").write_text(
    "import sys, time\n"
    "print('an attempt begins', flush=True)\n"
    "while time.time() < float(sys.argv[1]):\n"
    "    time.sleep(0.1)\n"
    "print('the end', flush=True)\n"
)
env = Environment("plain")
env.python.user_managed_dependencies = True
run = Experiment(ws, "lost").submit(
    ScriptRunConfig(source_directory=str(src), script="wait.py", arguments=[time.time() + 20], compute_target=cluster, environment=env)
)
while run.get_status() != "Running":
    time.sleep(0.2)
time.sleep(1)
pathlib.Path("running").touch()  # now the node may die
out = io.StringIO()
with contextlib.redirect_stdout(out):
    run.wait_for_completion(show_output=True)
text = out.getvalue()
assert text.count("an attempt begins") == 2 and text.count("the end") == 1, text
first, second = text.index("an attempt begins"), text.rindex("an attempt begins")
assert first < text.index("[ebb] attempt 2\n") < second, text
assert run.get_status() == "Completed"
