"""The main job, with Microsoft's own Python SDK v1 and not one line for Ebb in it.

Run it with:  ebb exec -- python demo/demo.py
It makes a compute cluster, trains on it, streams the log, and watches the
cluster rise from zero nodes and ebb back to zero.
"""
import pathlib
import sys
import threading
import time

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.core.conda_dependencies import CondaDependencies

HERE = pathlib.Path(__file__).resolve().parent
NAME = "cpu-cluster"


def say(text):
    print(f"\n== {text}", flush=True)


def nodes(cluster):
    status = cluster.get_status()
    return status.current_node_count if status else 0


class Watch(threading.Thread):
    """Prints the number of nodes whenever it changes."""

    def __init__(self, workspace):
        super().__init__(daemon=True)
        self.cluster = ComputeTarget(workspace, NAME)
        self.seen = [nodes(self.cluster)]
        self.stop = threading.Event()

    def run(self):
        while not self.stop.wait(0.25):
            now = nodes(self.cluster)
            if now != self.seen[-1]:
                print(f"   [cluster {NAME}: {self.seen[-1]} -> {now} nodes]", flush=True)
                self.seen.append(now)


say("Workspace.from_config()")
workspace = Workspace.from_config()
print(workspace.name, workspace.location, workspace.resource_group)

say(f"ComputeTarget.create: {NAME}, 0 to 4 nodes")
try:
    cluster = ComputeTarget(workspace=workspace, name=NAME)
    print("found it; using it")
except ComputeTargetException:
    config = AmlCompute.provisioning_configuration(
        vm_size="STANDARD_D2_V2", max_nodes=4, idle_seconds_before_scaledown=10
    )
    cluster = ComputeTarget.create(workspace, NAME, config)
cluster.wait_for_completion(show_output=True)

watch = Watch(workspace)
watch.start()

say("Experiment.submit: demo/train/train.py")
environment = Environment("digits")
environment.python.conda_dependencies = CondaDependencies.create(
    python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
    pip_packages=["scikit-learn", "azureml-core"],
)
run = Experiment(workspace, "digits").submit(
    ScriptRunConfig(
        source_directory=str(HERE / "train"),
        script="train.py",
        arguments=["--epochs", 15],
        compute_target=cluster,
        environment=environment,
    )
)
print("run", run.id)
run.wait_for_completion(show_output=True)

say("run.get_metrics()")
accuracy = run.get_metrics()["accuracy"]
print("accuracy by epoch:", " ".join(f"{a:.3f}" for a in accuracy))
print("files:", ", ".join(n for n in run.get_file_names() if n.startswith("outputs/")))

say("waiting for the cluster to ebb to zero (idle time 10 s)")
deadline = time.time() + 60
while nodes(cluster) > 0 and time.time() < deadline:
    time.sleep(0.5)
time.sleep(1)
watch.stop.set()
watch.join()
if max(watch.seen) < 1 or watch.seen[-1] != 0:
    sys.exit(f"the cluster did not rise and ebb: node counts seen {watch.seen}")
if accuracy[-1] < 0.9:
    sys.exit(f"the model did not learn: {accuracy[-1]:.3f}")
say(f"done: nodes went {' -> '.join(map(str, watch.seen))}, accuracy {accuracy[-1]:.3f}")
