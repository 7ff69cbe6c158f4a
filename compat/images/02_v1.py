"""Environments as images with SDK v1: a Dockerfile, a registry with a password, and a curated name."""

import sys

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

registry, closed = sys.argv[1:]
ws = Workspace.from_config()
compute = ComputeTarget.create(ws, "boxes1", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", min_nodes=0, max_nodes=1))
compute.wait_for_completion()


def run(environment, command):
    done = Experiment(ws, "images").submit(ScriptRunConfig(".", command=command, compute_target="boxes1", environment=environment))
    done.wait_for_completion(raise_on_error=False, show_output=False)
    return done


def log(done, name="user_logs/std_log.txt"):
    done.download_file(name, "log.txt")
    return open("log.txt").read()


inline = Environment("inline")
inline.python.user_managed_dependencies = True
inline.docker.base_image = None
inline.docker.base_dockerfile = f"FROM {registry}/team/base:1\nRUN echo made by v1 > /made.txt\n"
done = run(inline, ["cat", "/made.txt"])
assert done.get_status() == "Completed" and log(done) == "made by v1\n", done.get_details()

private = Environment("private")
private.python.user_managed_dependencies = True
private.docker.base_image = "closed/base:1"
private.docker.base_image_registry.address = closed
private.docker.base_image_registry.username = "reader"
private.docker.base_image_registry.password = "wrong"
done = run(private, ["true"])
assert done.get_status() == "Failed" and "refuses access" in str(done.get_details()), done.get_details()
private.docker.base_image_registry.password = "open sesame"
kept = private.register(ws)
assert "open sesame" not in str(Environment.get(ws, "private").docker.base_image_registry.password), "a password is shown"
done = run(kept, ["cat", "/etc/os-release"])
assert done.get_status() == "Completed" and "Debian" in log(done), done.get_details()
assert "open sesame" not in str(done.get_details()), "a run shows a password"

curated = Environment.get(ws, "AzureML-sklearn-1.0-ubuntu20.04-py38-cpu")
assert any("scikit-learn" in p for p in curated.python.conda_dependencies.pip_packages), curated
try:
    Environment.get(ws, "AzureML-sklearn-9.9")
except Exception as error:
    assert "AzureML-sklearn-1.5" in str(error), error
else:
    raise SystemExit("a curated environment that is none")
