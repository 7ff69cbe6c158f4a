"""Managed identity, Python SDK: add a system-assigned identity to a cluster."""
from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
cpu_cluster = ComputeTarget.create(
    ws, "cpu-cluster", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4)
)
cpu_cluster.wait_for_completion()

cpu_cluster.add_identity(identity_type="SystemAssigned")

identity = ComputeTarget(ws, "cpu-cluster").get()["identity"]
assert identity["type"] == "SystemAssigned" and identity["principalId"], identity

cpu_cluster.remove_identity()
identity = ComputeTarget(ws, "cpu-cluster").get()["identity"]
assert identity["type"] == "None", identity
