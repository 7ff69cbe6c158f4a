"""Prerequisites: attach to the workspace."""
from azureml.core import Workspace

ws = Workspace.from_config()

assert ws.name and ws.resource_group and ws.subscription_id and ws.location, ws
