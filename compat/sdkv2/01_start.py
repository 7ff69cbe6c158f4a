"""A workspace is found, and a cluster made in it."""

from azure.ai.ml import MLClient
from azure.ai.ml.entities import AmlCompute
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ws = ml.workspaces.get(ml.workspace_name)
assert (ws.name, ws.location, ws.resource_group) == (ml.workspace_name, "westus2", ml.resource_group_name), ws
assert ws.discovery_url and ws.mlflow_tracking_uri.startswith("azureml://"), (ws.discovery_url, ws.mlflow_tracking_uri)
assert [w.name for w in ml.workspaces.list()] == [ws.name]

made = ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="STANDARD_D2_V2", max_instances=2)).result()
assert (made.name, made.size, made.min_instances, made.max_instances) == ("cpu-cluster", "STANDARD_D2_V2", 0, 2), made
got = ml.compute.get("cpu-cluster")
assert (got.type, got.provisioning_state, got.idle_time_before_scale_down) == ("amlcompute", "Succeeded", 120), got
assert [c.name for c in ml.compute.list()] == ["cpu-cluster"]
