"""A workspace is found; clusters are made in it with every option, read, changed, listed and deleted."""

from azure.ai.ml import MLClient
from azure.ai.ml.entities import (
    AmlCompute,
    AmlComputeSshSettings,
    IdentityConfiguration,
    KubernetesCompute,
    ManagedIdentityConfiguration,
    NetworkSettings,
    VirtualMachineCompute,
    VirtualMachineSshSettings,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
GROUP = f"/subscriptions/{ml.subscription_id}/resourceGroups/{ml.resource_group_name}"
SSH_KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDJgkFhyJ8Yd0Ww7Vn9FqfYyQH0H0dWZ0WcU0rJ0J0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0rJ0w== me"


def refused(what, *words):
    """Calls what must fail, with these words."""
    try:
        what()
    except HttpResponseError as e:
        assert e.status_code is None or e.status_code < 500, e
        assert all(w in str(e) for w in words), f"{words} are not in: {e}"
        return e
    raise AssertionError(f"nothing was raised, and {words} were expected")


ws = ml.workspaces.get(ml.workspace_name)
assert (ws.name, ws.location, ws.resource_group) == (ml.workspace_name, "westus2", ml.resource_group_name), ws
assert ws.discovery_url and ws.mlflow_tracking_uri.startswith("azureml://"), (ws.discovery_url, ws.mlflow_tracking_uri)
assert [w.name for w in ml.workspaces.list()] == [ws.name]

# What is not said gets the documentation's defaults.
made = ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="STANDARD_D2_V2", max_instances=2)).result()
assert (made.name, made.size, made.min_instances, made.max_instances) == ("cpu-cluster", "STANDARD_D2_V2", 0, 2), made
got = ml.compute.get("cpu-cluster")
assert (got.type, got.provisioning_state, got.idle_time_before_scale_down, got.tier) == ("amlcompute", "Succeeded", 120, "dedicated"), got
assert (got.location, got.enable_node_public_ip, got.ssh_public_access_enabled) == ("westus2", True, True), got  # the SSH port is shown as the documentation has it
assert got.identity is None, got.identity

# Every option that there is.
full = ml.compute.begin_create_or_update(
    AmlCompute(
        name="full",
        description="all of it",
        size="standard_ds3_v2",
        location="westeurope",
        tier="low_priority",
        min_instances=0,
        max_instances=3,
        idle_time_before_scale_down=180,
        tags={"team": "a", "cost": "1"},
        identity=IdentityConfiguration(
            type="user_assigned",
            user_assigned_identities=[ManagedIdentityConfiguration(resource_id=f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me")],
        ),
        network_settings=NetworkSettings(vnet_name="vn", subnet="sn"),
        ssh_public_access_enabled=True,
        ssh_settings=AmlComputeSshSettings(admin_username="azureuser", ssh_key_value=SSH_KEY),
        enable_node_public_ip=False,
    )
).result()
got = ml.compute.get("full")
assert (got.size.lower(), got.tier, got.location) == ("standard_ds3_v2", "low_priority", "westeurope"), got
assert (got.min_instances, got.max_instances, got.idle_time_before_scale_down) == (0, 3, 180), got
assert got.tags == {"team": "a", "cost": "1"}, got.tags
assert got.description == "all of it", got.description
assert got.identity.type == "user_assigned" and len(got.identity.user_assigned_identities) == 1, got.identity
me = vars(got.identity.user_assigned_identities[0])  # the SDK leaves these names in camel case
assert me["clientId"] and me["principalId"], me
assert got.network_settings.subnet.endswith("/virtualNetworks/vn/subnets/sn"), got.network_settings.subnet
assert (got.ssh_settings.admin_username, got.ssh_settings.ssh_key_value) == ("azureuser", SSH_KEY), got.ssh_settings
assert got.ssh_public_access_enabled is True and got.enable_node_public_ip is False, got

# An update sends everything again, and of the subnet only that there is one.
got.max_instances, got.idle_time_before_scale_down, got.tags = 4, 300, {"team": "b"}
after = ml.compute.begin_update(got).result()
assert (after.max_instances, after.idle_time_before_scale_down, after.tags) == (4, 300, {"team": "b"}), after
after = ml.compute.get("full")
assert after.network_settings.subnet.endswith("/virtualNetworks/vn/subnets/sn"), "the subnet is lost"
assert after.identity.type == "user_assigned" and after.ssh_settings.ssh_key_value == SSH_KEY, after

# Another kind of identity replaces the one there was; the size cannot change.
after.identity = IdentityConfiguration(type="system_assigned")
after = ml.compute.begin_update(after).result()
assert after.identity.type == "system_assigned" and after.identity.principal_id, after.identity
smaller = AmlCompute(name="cpu-cluster", size="STANDARD_D3_V2", max_instances=2)
refused(lambda: ml.compute.begin_create_or_update(smaller).result(), "vmSize", "STANDARD_D2_V2")
same = AmlCompute(name="cpu-cluster", size="standard_d2_v2", max_instances=5)
assert ml.compute.begin_create_or_update(same).result().max_instances == 5

# Mistakes are named.
for wrong, *words in [
    (AmlCompute(name="bad", size="STANDARD_XX", max_instances=1), "STANDARD_XX"),
    (AmlCompute(name="bad", size="STANDARD_D2_V2", min_instances=3, max_instances=1), "min"),
    (AmlCompute(name="b", size="STANDARD_D2_V2", max_instances=1), "name"),
    (AmlCompute(name="bad", size="STANDARD_D2_V2", max_instances=1, location="atlantis"), "atlantis"),
]:
    refused(lambda wrong=wrong: ml.compute.begin_create_or_update(wrong).result(), *words)
try:
    ml.compute.get("nope")
    raise AssertionError("a cluster that is not there was found")
except ResourceNotFoundError as e:
    assert "nope" in str(e), e

# What is attached elsewhere is not built, and says so; nothing is left of it.
for foreign, word in [
    (VirtualMachineCompute(name="vmc", resource_id=f"{GROUP}/providers/Microsoft.Compute/virtualMachines/v", ssh_settings=VirtualMachineSshSettings(admin_username="u", admin_password="p")), "VirtualMachine"),
    (KubernetesCompute(name="k8s", resource_id=f"{GROUP}/providers/Microsoft.Kubernetes/connectedClusters/c", namespace="ns"), "Kubernetes"),
]:
    refused(lambda foreign=foreign: ml.compute.begin_attach(foreign).result(), "NotImplemented", word)
refused(lambda: ml.compute.begin_delete("cpu-cluster", action="Detach").result(), "Detach")
assert sorted(c.name for c in ml.compute.list()) == ["cpu-cluster", "full"]
assert sorted(c.name for c in ml.compute.list(compute_type="amlcompute")) == ["cpu-cluster", "full"]
assert not list(ml.compute.list(compute_type="kubernetes"))

# Nodes, sizes, usage.
busy = ml.compute.begin_create_or_update(AmlCompute(name="busy", size="STANDARD_D2_V2", min_instances=1, max_instances=1)).result()
nodes = list(ml.compute.list_nodes("busy"))
assert [n.nodeState for n in nodes] in (["idle"], ["preparing"]), [vars(n) for n in nodes]
assert nodes[0].nodeId, vars(nodes[0])
assert list(ml.compute.list_nodes("full")) == []
sizes = {s.name.lower(): s for s in ml.compute.list_sizes()}
assert (sizes["standard_d2_v2"].vCPUs, sizes["standard_d2_v2"].gpus) == (2, 0), vars(sizes["standard_d2_v2"])
assert "standard_nc6s_v3" in {s.name.lower() for s in ml.compute.list_sizes(location="westeurope", compute_type="AmlCompute")}
usages = [vars(u) for u in ml.compute.list_usage()]  # in camel case, as the SDK leaves them
assert usages and all(u["currentValue"] >= 0 and u["unit"] == "Count" for u in usages), usages[:3]
assert 2 in [u["currentValue"] for u in usages if u["name"]["value"] == "standardDv2Family"]

for name in ("busy", "full", "cpu-cluster"):
    ml.compute.begin_delete(name).result()
assert list(ml.compute.list()) == []
