"""Jobs in containers with SDK v1: DockerConfiguration, the environment's image, and a job that wants none."""

import contextlib
import io
import pathlib
import sys

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.runconfig import DockerConfiguration

image = sys.argv[1]
ws = Workspace.from_config()
if "boxes" not in ws.compute_targets:
    ComputeTarget.create(ws, "boxes", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=2)).wait_for_completion()
src = pathlib.Path("src")
src.mkdir()
(src / "train.py").write_text(
    "import os, sys\n"
    "print('container', os.path.exists('/run/ebb/ebb'), sys.argv[1:], os.environ['MINE'], flush=True)\n"
    "os.makedirs('outputs', exist_ok=True)\n"
    "open('outputs/model.txt', 'w').write('trained')\n"
)
experiment = Experiment(ws, "boxes")


def run(environment, docker=None, script="train.py"):
    environment.python.user_managed_dependencies = True
    environment.environment_variables = {"MINE": "set"}
    config = ScriptRunConfig(
        source_directory=str(src), script=script, arguments=["--lr", 0.1], compute_target="boxes", environment=environment, docker_runtime_config=docker
    )
    job = experiment.submit(config)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        job.wait_for_completion(show_output=True, raise_on_error=False)
    return job, out.getvalue()


own = Environment("own")
own.docker.base_image = image
job, text = run(own)
assert job.get_status() == "Completed" and "container True ['--lr', '0.1'] set" in text, (text, job.get_details())
job.download_file("outputs/model.txt", "model.txt")
assert pathlib.Path("model.txt").read_text() == "trained"
assert job.get_details()["properties"]["ebb.image"].startswith(image), job.get_details()["properties"]

job, text = run(own, DockerConfiguration(use_docker=True, shm_size="64m", arguments=["--ulimit", "nofile=1234"]))
assert job.get_status() == "Completed" and "container True" in text, text

# Nobody asks for a container: the image is the client's own doing.
job, text = run(Environment("none"))
assert job.get_status() == "Completed" and "container False" in text, text

# The image that the client names by itself is Microsoft's, which is not here.
job, text = run(Environment("theirs"), DockerConfiguration(use_docker=True))
assert job.get_status() == "Failed" and "mcr.microsoft.com" in str(job.get_details()["error"]), job.get_details()
print("ok")
