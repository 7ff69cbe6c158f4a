"""Managed identity, Python SDK: a cluster with a user-assigned identity."""
from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
identity_id = (
    f"/subscriptions/{ws.subscription_id}/resourcegroups/{ws.resource_group}"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/trainer"
)
compute_config = AmlCompute.provisioning_configuration(
    vm_size="STANDARD_D2_V2", max_nodes=5, identity_type="UserAssigned", identity_id=[identity_id]
)
cpu_cluster = ComputeTarget.create(ws, "cpu-cluster", compute_config)
cpu_cluster.wait_for_completion(show_output=True)

identity = cpu_cluster.get()["identity"]
assert identity["type"] == "UserAssigned", identity
assert [k.lower() for k in identity["userAssignedIdentities"]] == [identity_id.lower()], identity
