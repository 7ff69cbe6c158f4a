"""Managed identity, Python SDK: add user-assigned identities to a cluster, one after another."""
from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
prefix = (
    f"/subscriptions/{ws.subscription_id}/resourcegroups/{ws.resource_group}"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
)
cpu_cluster = ComputeTarget.create(
    ws, "cpu-cluster", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4)
)
cpu_cluster.wait_for_completion()

cpu_cluster.add_identity(identity_type="UserAssigned", identity_id=[prefix + "one"])
cpu_cluster.add_identity(identity_type="UserAssigned", identity_id=[prefix + "two"])


def names():
    identity = ComputeTarget(ws, "cpu-cluster").get()["identity"]
    return identity["type"], sorted(k.rsplit("/", 1)[1] for k in identity.get("userAssignedIdentities") or {})


assert names() == ("UserAssigned", ["one", "two"]), names()
cpu_cluster.remove_identity(identity_id=[prefix + "one"])
assert names() == ("UserAssigned", ["two"]), names()
