"""Environments as images with SDK v2: from a registry, from a build context, with packages; what fails names why."""

import pathlib
import sys

from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import AmlCompute, BuildContext, Environment
from azure.ai.ml.exceptions import JobException
from azure.identity import DefaultAzureCredential

registry = sys.argv[1]
base = f"{registry}/team/base:1"
ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="boxes", size="STANDARD_D2_V2", min_instances=0, max_instances=2, idle_time_before_scale_down=600)).result()


def run(environment, line):
    return ml.jobs.create_or_update(command(command=line, environment=environment, compute="boxes"))


def ends(job):
    """How a job ended, and all its logs."""
    try:
        ml.jobs.stream(job.name)
        words = ""
    except JobException as error:
        words = str(error)
    into = pathlib.Path("logs", job.name)
    ml.jobs.download(job.name, download_path=into, all=True)
    logs = {p.name: p.read_text() for p in into.rglob("*.txt")}
    return ml.jobs.get(job.name).status, words, logs


context = pathlib.Path("context")
(context / "docker").mkdir(parents=True)
(context / "hello.txt").write_text("hello from the context\n")
(context / "docker" / "Dockerfile").write_text(f"FROM {base}\nCOPY hello.txt /hello.txt\nRUN echo it is built; cat /hello.txt > /built.txt\n")

plain = run(Environment(name="plain", image=base), "cat /etc/os-release")
built = run(Environment(name="built", build=BuildContext(path=str(context), dockerfile_path="docker/Dockerfile")), "cat /built.txt")
pathlib.Path("conda.yml").write_text("channels: [conda-forge]\ndependencies: [python=3.11, {pip: [six==1.16.0]}]\n")
packed = ml.environments.create_or_update(Environment(name="packed", image=base, conda_file="conda.yml"))
six = run(f"{packed.name}:{packed.version}", "python -c 'import six, sys; print(six.__version__, sys.prefix)'")

status, words, logs = ends(plain)
assert status == "Completed" and "Debian" in logs["std_log.txt"], (status, words, logs)
assert f"Pulling the image {base}" in logs["20_image_build_log.txt"] or "Status: " not in str(logs), logs
status, words, logs = ends(built)
assert status == "Completed" and logs["std_log.txt"] == "hello from the context\n", (status, words, logs)
assert "it is built" in logs["20_image_build_log.txt"], logs
status, words, logs = ends(six)
assert status == "Completed" and logs["std_log.txt"].startswith("1.16.0 /azureml-envs/"), (status, words, logs)
assert "Successfully installed six-1.16.0" in logs["20_image_build_log.txt"], logs

# The same content again is the same image: nothing is built, and nothing said.
status, words, logs = ends(run(f"{packed.name}:{packed.version}", "echo again"))
assert status == "Completed" and "20_image_build_log.txt" not in logs, (status, words, logs)

(context / "docker" / "Dockerfile").write_text(f"FROM {base}\n\nRUN echo oh no; exit 7\n")
status, words, logs = ends(run(Environment(name="broken", build=BuildContext(path=str(context), dockerfile_path="docker/Dockerfile")), "true"))
assert status == "Failed" and "Line 3 of its Dockerfile failed" in words and "oh no" in words, (status, words)
status, words, logs = ends(run(Environment(name="nowhere", image=f"{registry}/team/nothing:1"), "true"))
assert status == "Failed" and "cannot be had" in words and "images: mirrors:" in words, (status, words)
