"""What cannot be right is refused at once, with words, and nothing is changed."""
import time

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.core.runconfig import MpiConfiguration

ws = Workspace.from_config()
D2 = "STANDARD_D2_V2"


def refused(words, name="cpu", **options):
    started = time.time()
    try:
        ComputeTarget.create(ws, name, AmlCompute.provisioning_configuration(**options))
    except (ComputeTargetException, Exception) as error:  # noqa: BLE001
        assert all(w.lower() in str(error).lower() for w in words), error
        assert time.time() - started < 10, "the client retried: a 5xx?"
    else:
        raise AssertionError(f"accepted: {name} {options}")


refused(["STANDARD_D2_V9", "STANDARD_D2_V2"], vm_size="STANDARD_D2_V9", max_nodes=1)
refused(["name"], name="9cpu", vm_size=D2, max_nodes=1)
refused(["name"], name="a" * 40, vm_size=D2, max_nodes=1)
refused(["location"], vm_size=D2, max_nodes=1, location="atlantis")
assert ComputeTarget.list(ws) == []

cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size=D2, max_nodes=2))
cluster.wait_for_completion()
refused(["vmSize"], vm_size="STANDARD_DS3_V2", max_nodes=1)

env = Environment("plain")
env.python.user_managed_dependencies = True
try:
    Experiment(ws, "bad").submit(
        ScriptRunConfig(
            source_directory=".", command=["true"], compute_target=cluster, environment=env,
            distributed_job_config=MpiConfiguration(process_count_per_node=1, node_count=2),
        )
    )
except Exception as error:  # noqa: BLE001
    assert "multi-node" in str(error).lower() or "MPI" in str(error), error
else:
    raise AssertionError("a multi-node job was accepted")
