"""A cluster's life: create warm, look at its nodes, update, list, delete."""
import time

from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException

ws = Workspace.from_config()
config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", min_nodes=1, max_nodes=2)
cluster = ComputeTarget.create(ws, "warm", config)
cluster.wait_for_completion(show_output=True, min_node_count=1, timeout_in_minutes=2)

status = cluster.get_status()
print(status.serialize())
assert status.current_node_count == 1 and status.target_node_count == 1
assert status.node_state_counts.idle_node_count == 1, status.serialize()
assert str(status.allocation_state).lower() == "steady", status.allocation_state
assert not status.errors, status.errors

nodes = cluster.list_nodes()
assert len(nodes) == 1 and nodes[0]["nodeState"] == "idle" and nodes[0]["nodeId"], nodes

cluster.update(min_nodes=0, max_nodes=3, idle_seconds_before_scaledown=1)
cluster.wait_for_completion()
deadline = time.time() + 30
while time.time() < deadline:
    cluster.refresh_state()
    if cluster.get_status().current_node_count == 0:
        break
    time.sleep(0.5)
assert cluster.get_status().current_node_count == 0, "the warm node did not leave after min became 0"
assert cluster.get_status().scale_settings.maximum_node_count == 3

assert [c.name for c in ComputeTarget.list(ws)] == ["warm"]
assert list(ws.compute_targets) == ["warm"]
assert cluster.get_active_runs() is not None

cluster.delete()
deadline = time.time() + 30
while time.time() < deadline:
    try:
        ComputeTarget(ws, "warm")
    except ComputeTargetException as gone:
        assert "ComputeTargetNotFound" in str(gone)
        break
    time.sleep(0.5)
else:
    raise SystemExit("the deleted cluster is still there")

# The name is free again, with another size: nothing of the old one comes back.
cluster = ComputeTarget.create(ws, "warm", AmlCompute.provisioning_configuration(vm_size="STANDARD_DS3_V2", max_nodes=1))
cluster.wait_for_completion()
assert cluster.get_status().vm_size.upper() == "STANDARD_DS3_V2"
