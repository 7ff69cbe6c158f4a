"""Every option of AmlCompute.provisioning_configuration is checked, kept and shown."""
from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 me@here"

config = AmlCompute.provisioning_configuration(
    vm_size="Standard_NC6",
    vm_priority="lowpriority",
    min_nodes=0,
    max_nodes=3,
    idle_seconds_before_scaledown=240,
    admin_username="azureuser",
    admin_user_ssh_key=KEY,
    vnet_resourcegroup_name="network",
    vnet_name="vn",
    subnet_name="default",
    tags={"team": "vision", "cost": "42"},
    description="for the options test",
    remote_login_port_public_access="Enabled",
    identity_type="UserAssigned",
    identity_id=[
        f"/subscriptions/{ws.subscription_id}/resourceGroups/{ws.resource_group}"
        "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/a"
    ],
    location="westeurope",
)
cluster = ComputeTarget.create(ws, "options", config)
cluster.wait_for_completion(show_output=True)

got = ComputeTarget(ws, "options")
raw = got.get()
inner = raw["properties"]["properties"]
assert got.tags == {"team": "vision", "cost": "42"}, got.tags
assert got.description == "for the options test"
assert inner["vmSize"].upper() == "STANDARD_NC6"
assert inner["vmPriority"] == "LowPriority", inner["vmPriority"]
assert inner["subnet"]["id"].endswith("/resourceGroups/network/providers/Microsoft.Network/virtualNetworks/vn/subnets/default"), inner["subnet"]
assert inner["remoteLoginPortPublicAccess"] == "Enabled"
assert inner["enableNodePublicIp"] is True, inner
assert (got.vnet_resourcegroup_name, got.vnet_name, got.subnet_name) == ("network", "vn", "default")
assert got.admin_username == "azureuser"
assert got.admin_user_ssh_key == KEY, got.admin_user_ssh_key
assert (got.vm_size.upper(), got.vm_priority.lower()) == ("STANDARD_NC6", "lowpriority"), (got.vm_size, got.vm_priority)
assert (got.scale_settings.minimum_node_count, got.scale_settings.maximum_node_count) == (0, 3)
assert inner["userAccountCredentials"]["adminUserName"] == "azureuser"
assert inner["userAccountCredentials"]["adminUserSshPublicKey"] == KEY
assert "adminUserPassword" not in inner["userAccountCredentials"]
assert got.scale_settings.idle_seconds_before_scaledown == 240, got.scale_settings.idle_seconds_before_scaledown
assert raw["identity"]["type"] == "UserAssigned"
assert got.cluster_location == "westeurope", got.cluster_location

# A password is taken and never given back; nodes without public addresses are asked for and shown.
config = AmlCompute.provisioning_configuration(
    vm_size="STANDARD_D2_V2", max_nodes=1, admin_username="me", admin_user_password="Correct-Horse-9",
    vnet_resourcegroup_name="network", vnet_name="vn", subnet_name="default",
    enable_node_public_ip=False, remote_login_port_public_access="Disabled",
)
cluster = ComputeTarget.create(ws, "password", config)
cluster.wait_for_completion()
inner = cluster.get()["properties"]["properties"]
assert "Correct-Horse-9" not in str(cluster.get()), cluster.get()
assert inner["enableNodePublicIp"] is False and inner["remoteLoginPortPublicAccess"] == "Disabled", inner
