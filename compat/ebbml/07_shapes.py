"""What "ebb ml … show" prints is what az would: az prints an entity of
azure-ai-ml as _to_dict() makes it."""

import json
import os
import subprocess
import warnings

from azure.ai.ml import MLClient, load_component
from azure.ai.ml.constants import AssetTypes
from azure.ai.ml.entities import AmlCompute, Data, Environment, Model
from azure.identity import DefaultAzureCredential

warnings.filterwarnings("ignore")
with open("config.json") as f:
    config = json.load(f)
ml = MLClient(DefaultAzureCredential(), config["subscription_id"], config["resource_group"], config["workspace_name"])

os.makedirs("shapes", exist_ok=True)
with open("shapes/a.csv", "w") as f:
    f.write("1,2\n")
with open("component.yml", "w") as f:
    f.write(
        "type: command\nname: shapes_component\nversion: '1'\ndisplay_name: Shapes\ncommand: echo ${{inputs.lr}}\n"
        "environment: azureml:shapes-env:1\ninputs:\n  lr: {type: number, default: 0.1}\n"
    )
ml.compute.begin_create_or_update(
    AmlCompute(name="shapes", size="STANDARD_DS3_V2", max_instances=3, tier="low_priority", idle_time_before_scale_down=90, tags={"a": "b"})
).result()
ml.environments.create_or_update(
    Environment(name="shapes-env", version="1", image="python:3.11", conda_file={"dependencies": ["python=3.11"]}, tags={"a": "b"}, description="d")
)
ml.data.create_or_update(Data(name="shapes-data", version="1", path="shapes", type=AssetTypes.URI_FOLDER, tags={"a": "b"}))
ml.models.create_or_update(Model(name="shapes-model", version="1", path="shapes/a.csv", type=AssetTypes.CUSTOM_MODEL, stage="Testing"))
ml.components.create_or_update(load_component("component.yml"))

# What depends on the host by which a client came, and how Python writes an enum or a time.
apart = {"creation_context", "created_on", "provisioning_state", "endpoint", "discovery_url", "mlflow_tracking_uri", "services", "credentials", "hbi_workspace"}


def compare(entity, *command):
    theirs = json.loads(json.dumps(entity._to_dict(), default=str))
    ours = json.loads(subprocess.run(["ebb", "ml", *command], check=True, capture_output=True, text=True).stdout)
    for key, value in theirs.items():
        if key in apart or value in (None, "", {}, [], {"type": "none"}):
            continue
        assert ours.get(key) == value, f"{command}: {key} is {ours.get(key)!r}, and az's {value!r}"
    return ours


compare(ml.compute.get("shapes"), "compute", "show", "-n", "shapes")
compare(ml.environments.get("shapes-env", version="1"), "environment", "show", "-n", "shapes-env", "-v", "1")
compare(ml.data.get("shapes-data", version="1"), "data", "show", "-n", "shapes-data", "-v", "1")
compare(ml.models.get("shapes-model", version="1"), "model", "show", "-n", "shapes-model", "-v", "1")
compare(ml.components.get("shapes_component", version="1"), "component", "show", "-n", "shapes_component", "-v", "1")
compare(ml.datastores.get("workspaceblobstore"), "datastore", "show", "-n", "workspaceblobstore")
compare(ml.workspaces.get(config["workspace_name"]), "workspace", "show", "-n", config["workspace_name"])

# And the other way round: what ebb ml has made is what the SDK reads.
made = ["ebb", "ml", "data", "create", "--name", "shapes-ebb", "--path", "shapes", "--type", "uri_folder", "--tags", "a=b", "c=d"]
subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
data = ml.data.get("shapes-ebb", label="latest")
assert data.version == "1" and data.tags == {"a": "b", "c": "d"}, data
assert data.path.endswith("/shapes/") and data.type == "uri_folder", data.path
