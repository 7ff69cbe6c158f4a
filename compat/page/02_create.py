"""Create, Python SDK: a persistent cluster from vm_size and max_nodes alone."""
from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException

ws = Workspace.from_config()
name = "cpu-cluster"

try:
    cpu_cluster = ComputeTarget(workspace=ws, name=name)
    raise SystemExit("a cluster that nobody made was found")
except ComputeTargetException as missing:
    assert "ComputeTargetNotFound" in str(missing), missing
    config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4)
    cpu_cluster = ComputeTarget.create(ws, name, config)
cpu_cluster.wait_for_completion(show_output=True)

status = cpu_cluster.get_status()
assert cpu_cluster.provisioning_state == "Succeeded", cpu_cluster.provisioning_state
assert status.vm_size == "STANDARD_D2_V2", status.vm_size
assert status.scale_settings.minimum_node_count == 0, status.scale_settings.minimum_node_count
assert status.scale_settings.maximum_node_count == 4, status.scale_settings.maximum_node_count
assert status.current_node_count == 0, status.current_node_count

again = ComputeTarget(workspace=ws, name=name)
assert again.name == name and again.location == ws.location
