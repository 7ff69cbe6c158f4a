"""What cannot be right is refused at once, with words, and nothing is changed."""
import time

from azureml.core import Dataset, Datastore, Environment, Experiment, Model, ScriptRunConfig, Workspace
from azureml.core.compute import (
    AksCompute, AmlCompute, ComputeTarget, DatabricksCompute, DataFactoryCompute, DsvmCompute,
    KubernetesCompute, RemoteCompute,
)
from azureml.core.compute_target import ComputeTargetException
from azureml.core.runconfig import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from azureml.exceptions import UserErrorException
from msrest.exceptions import HttpOperationError

ws = Workspace.from_config()
D2 = "STANDARD_D2_V2"
GROUP = f"/subscriptions/{ws.subscription_id}/resourceGroups/g/providers"


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



def unbuilt(words, ask):
    """What is not built says its name, at once."""
    started = time.time()
    try:
        answer = ask()
    except Exception as error:  # noqa: BLE001
        assert "NotImplemented" in str(error) and words.lower() in str(error).lower(), f"{words}: {error}"
        assert time.time() - started < 10, "the client retried: a 5xx?"
    else:
        raise AssertionError(f"{words}: {answer}")


for kind, words, how in [
    (AksCompute, "AKS", {}),
    (DsvmCompute, "VirtualMachine", {}),
    (DataFactoryCompute, "DataFactory", {}),
]:
    unbuilt(words, lambda: ComputeTarget.create(ws, "other", kind.provisioning_configuration(**how)))
for kind, words, how in [
    (AksCompute, "AKS", {"resource_group": "g", "cluster_name": "c"}),
    (RemoteCompute, "VirtualMachine", {"resource_id": f"{GROUP}/Microsoft.Compute/virtualMachines/v", "ssh_port": 22, "username": "u", "password": "p"}),
    (DatabricksCompute, "Databricks", {"resource_group": "g", "workspace_name": "w", "access_token": "t"}),
    (KubernetesCompute, "Kubernetes", {"resource_id": f"{GROUP}/Microsoft.Kubernetes/connectedClusters/c"}),
]:
    unbuilt(words, lambda: ComputeTarget.attach(ws, "other", kind.attach_configuration(**how)))
assert list(ws.compute_targets) == ["cpu"]

unbuilt("models", lambda: list(ws.models))
unbuilt("models", lambda: Model.list(ws))
unbuilt("models", lambda: Model(ws, "m"))
unbuilt("images", lambda: list(ws.images))
unbuilt("web services", lambda: list(ws.webservices))
unbuilt("workspace secrets", lambda: ws.get_default_keyvault().get_secret("s"))
unbuilt("datastores", lambda: Datastore.register_azure_blob_container(ws, "more", "c", "a", account_key="a2V5"))
assert list(ws.datastores) == ["workspaceblobstore"]
for ask in [lambda: list(ws.datasets), lambda: Dataset.get_by_name(ws, "d")]:
    try:
        ask()
    except HttpOperationError as error:  # it shows no word of any answer, but keeps it
        assert "NotImplemented" in error.response.text and "Datasets" in error.response.text, error.response.text
    except UserErrorException as error:
        assert "Not part of Ebb yet: Datasets." in str(error), error
    else:
        raise AssertionError("there are datasets")

env = Environment("plain")
env.python.user_managed_dependencies = True


def submit(name, *command, **how):
    return Experiment(ws, name).submit(
        ScriptRunConfig(source_directory=".", command=list(command), compute_target=cluster, environment=env, distributed_job_config=how["over"])
    )


for over, words in [
    (MpiConfiguration(process_count_per_node=1, node_count=200), "200 nodes"),
    (MpiConfiguration(process_count_per_node=0, node_count=1), "processCountPerNode is 0"),
    (PyTorchConfiguration(process_count=-2, node_count=1), "processCount is -2"),
    (TensorflowConfiguration(worker_count=1, parameter_server_count=-1), "parameterServerCount is -1"),
]:
    try:
        submit("bad", "true", over=over)
    except Exception as error:  # noqa: BLE001
        assert words in str(error), error
    else:
        raise AssertionError(f"accepted: {over}")

# One process on one node is what a job is anyway.
good = [
    submit("good", 'test "$OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE" = "0 of 1"', over=MpiConfiguration()),
    submit("good", 'test "$RANK of $WORLD_SIZE at $MASTER_ADDR" = "0 of 1 at 127.0.0.1"', over=PyTorchConfiguration()),
    submit("good", 'test "$LOCAL_RANK of $WORLD_SIZE" = "0 of 1"', over=PyTorchConfiguration(process_count=1, node_count=1)),
]
for run in good:
    run.wait_for_completion(show_output=False)
    assert run.get_status() == "Completed", run.get_details()
