"""Workspaces are changed, made and deleted. Making one deploys a template, with a
group and log analytics in a deployment of their own."""
from azureml.core import Experiment, Workspace
from azureml.exceptions import ProjectSystemException

ws = Workspace.from_config()
assert ws.update(friendly_name="Ours", description="of the team", tags={"a": "b"})["friendlyName"] == "Ours"
details = ws.get_details()
assert (details["friendlyName"], details["description"], ws.tags) == ("Ours", "of the team", {"a": "b"}), details

made = Workspace.create("second", subscription_id=ws.subscription_id, resource_group=ws.resource_group, location="westus2", show_output=False)
assert made.get_details()["workspaceid"] != details["workspaceid"]
assert sorted(Workspace.list(ws.subscription_id)) == ["main", "second"]
for key in ("storageAccount", "keyVault", "applicationInsights"):
    assert f"/resourceGroups/{ws.resource_group}/" in made.get_details()[key], made.get_details()

# It has a data plane and files of its own.
run = Experiment(made, "alone").start_logging(snapshot_directory=None)
run.log("loss", 0.5)
run.complete()
assert [r.id for r in Experiment(made, "alone").get_runs()] == [run.id]
assert "alone" not in ws.experiments
with open("note.txt", "w") as f:
    f.write("kept")
made.get_default_datastore().upload_files(["note.txt"], target_path="notes", show_progress=False)

made.delete(no_wait=False)
assert sorted(Workspace.list(ws.subscription_id)) == ["main"]
try:
    Workspace.get("second", subscription_id=ws.subscription_id, resource_group=ws.resource_group)
except ProjectSystemException as e:
    assert "not found" in str(e).lower(), e
else:
    raise AssertionError("a deleted workspace is still there")
