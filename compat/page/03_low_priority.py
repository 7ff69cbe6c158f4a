"""Lower your cost, Python SDK: a cluster of low-priority nodes."""
from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
compute_config = AmlCompute.provisioning_configuration(
    vm_size="STANDARD_D2_V2", vm_priority="lowpriority", max_nodes=4
)
cluster = ComputeTarget.create(ws, "lowpri-cluster", compute_config)
cluster.wait_for_completion(show_output=True)
assert cluster.get_status().vm_priority.lower() == "lowpriority", cluster.get_status().vm_priority
