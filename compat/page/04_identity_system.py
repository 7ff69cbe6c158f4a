"""Managed identity, Python SDK: a cluster with a system-assigned identity."""
from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
compute_config = AmlCompute.provisioning_configuration(
    vm_size="STANDARD_D2_V2", max_nodes=5, identity_type="SystemAssigned"
)
cpu_cluster = ComputeTarget.create(ws, "cpu-cluster", compute_config)
cpu_cluster.wait_for_completion(show_output=True)

identity = cpu_cluster.get()["identity"]
assert identity["type"] == "SystemAssigned", identity
assert identity["principalId"] and identity["tenantId"], identity
