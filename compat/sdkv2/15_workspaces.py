# Workspaces: found, listed, made by an ARM deployment of the SDK's own template,
# changed, worked in, and deleted.
import json
import os

from azure.ai.ml import MLClient
from azure.ai.ml.entities import AmlCompute, Workspace
from azure.core.exceptions import ResourceNotFoundError
from azure.identity import DefaultAzureCredential

config = json.load(open("config.json"))
credential = DefaultAzureCredential()
ml = MLClient(credential, config["subscription_id"], config["resource_group"], config["workspace_name"])

assert ml.workspaces.get(config["workspace_name"]).name == config["workspace_name"]
assert [w.name for w in ml.workspaces.list()] == [config["workspace_name"]]

wish = Workspace(name="made-by-sdk", location="westus2", display_name="Made by SDK v2", description="the first", tags={"team": "a"})
made = ml.workspaces.begin_create(wish).result()
assert made.name == "made-by-sdk" and made.display_name == "Made by SDK v2" and made.description == "the first", made
assert made.location == "westus2" and made.tags["team"] == "a", made
for part in ("storage_account", "key_vault", "application_insights"):
    assert config["resource_group"] in getattr(made, part), (part, made)
assert made.identity.type.lower().replace("_", "") == "systemassigned" and made.identity.principal_id, made.identity
assert sorted(w.name for w in ml.workspaces.list()) == sorted([config["workspace_name"], "made-by-sdk"])

# Created again it is changed.
wish.description = "the second"
again = ml.workspaces.begin_create(wish).result()
assert again.description == "the second" and again.storage_account == made.storage_account, again
again.tags["more"] = "b"
again.display_name = "Other"
changed = ml.workspaces.begin_update(again).result()
assert changed.tags["more"] == "b" and changed.display_name == "Other", changed

# One can work in it.
inside = MLClient(credential, config["subscription_id"], config["resource_group"], "made-by-sdk")
cluster = inside.compute.begin_create_or_update(AmlCompute(name="cpu", size="STANDARD_DS3_V2", max_instances=2)).result()
assert cluster.name == "cpu" and cluster.max_instances == 2, cluster
assert [c.name for c in inside.compute.list()] == ["cpu"]

# The storage account and the others that came along stay or go, as asked.
ml.workspaces.begin_delete("made-by-sdk", delete_dependent_resources=True).result()
try:
    ml.workspaces.get("made-by-sdk")
    raise AssertionError("the workspace is still there")
except ResourceNotFoundError:
    pass

# What cannot be is said in words.
try:
    ml.workspaces.begin_create(Workspace(name="no", location="westus2")).result()
    raise AssertionError("a workspace with a name of two letters was made")
except Exception as e:
    assert "33 characters" in str(e), e
