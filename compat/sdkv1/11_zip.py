"""AML_FORCE_EXECUTE_WITH_ZIP: the project travels in the request itself, as a zip archive."""
import os
import pathlib

os.environ["AML_FORCE_EXECUTE_WITH_ZIP"] = "1"

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace  # noqa: E402
from azureml.core.compute import AmlCompute, ComputeTarget  # noqa: E402

ws = Workspace.from_config()
cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
cluster.wait_for_completion()
src = pathlib.Path("src")
(src / "data").mkdir(parents=True)
(src / "data" / "words.txt").write_text("zipped words")
(src / "train.py").write_text("import sys\nprint(open('data/words.txt').read(), sys.argv[1:])\n")
env = Environment("plain")
env.python.user_managed_dependencies = True
run = Experiment(ws, "zipped").submit(
    ScriptRunConfig(source_directory=str(src), script="train.py", arguments=["--n", 3], compute_target=cluster, environment=env)
)
run.wait_for_completion(show_output=True)
run.download_file("user_logs/std_log.txt", "log.txt")
assert "zipped words ['--n', '3']" in pathlib.Path("log.txt").read_text(), pathlib.Path("log.txt").read_text()
