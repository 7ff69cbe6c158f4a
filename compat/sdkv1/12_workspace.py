"""Workspaces listed and fetched, a service principal in code, and the default datastore by plain blob calls."""
import os
import pathlib

from azureml.core import Workspace
from azureml.core.authentication import ServicePrincipalAuthentication
from azureml.core.compute import ComputeTarget
from azureml.exceptions import ProjectSystemException, WorkspaceException

ws = Workspace.from_config()
listed = Workspace.list(subscription_id=ws.subscription_id)
assert [w.name for w in listed[ws.name]] == [ws.name], listed
assert ws.name in Workspace.list(subscription_id=ws.subscription_id, resource_group=ws.resource_group)
got = Workspace.get(ws.name, subscription_id=ws.subscription_id, resource_group=ws.resource_group)
assert got.get_details()["id"] == ws.get_details()["id"]
assert got.get_details()["location"] == ws.location
try:
    Workspace.get("no-such-workspace", subscription_id=ws.subscription_id, resource_group=ws.resource_group)
    raise AssertionError("a workspace that is not there was found")
except (WorkspaceException, ProjectSystemException) as error:
    assert "Workspace not found" in str(error), error

# The words a script with its own credential uses. They go to the server in other
# ways than the ambient credential: another object, another cloud.
auth = ServicePrincipalAuthentication(
    tenant_id=os.environ["AZUREML_SERVICE_PRINCIPAL_TENANT_ID"],
    service_principal_id=os.environ["AZUREML_SERVICE_PRINCIPAL_ID"],
    service_principal_password=os.environ["AZUREML_SERVICE_PRINCIPAL_PASSWORD"],
)
by_name = Workspace(ws.subscription_id, ws.resource_group, ws.name, auth=auth)
assert by_name.name == ws.name and ComputeTarget.list(by_name) == []
by_name = Workspace.get(ws.name, auth=auth, subscription_id=ws.subscription_id, resource_group=ws.resource_group)
by_name.write_config(path=".", file_name="again.json")
assert Workspace.from_config(path=".azureml/again.json", auth=auth).name == ws.name
wrong = ServicePrincipalAuthentication(
    tenant_id=os.environ["AZUREML_SERVICE_PRINCIPAL_TENANT_ID"],
    service_principal_id=os.environ["AZUREML_SERVICE_PRINCIPAL_ID"],
    service_principal_password="wrong",
    _enable_caching=False,
)
try:
    Workspace.get(ws.name, auth=wrong, subscription_id=ws.subscription_id, resource_group=ws.resource_group)
    raise AssertionError("a wrong password was accepted")
except Exception as error:  # noqa: BLE001
    assert "AADSTS7000215" in str(error) or "Invalid client secret" in str(error), error

store = ws.get_default_datastore()
assert store.name == "workspaceblobstore" and ws.datastores[store.name].container_name == store.container_name
data = pathlib.Path("data")
(data / "deep").mkdir(parents=True)
(data / "a.txt").write_text("a")
(data / "deep" / "b ü.txt").write_text("b")
(data / "deep" / "large.bin").write_bytes(bytes(range(256)) * (20 << 10))
store.upload(src_dir="data", target_path="set", overwrite=True, show_progress=False)
store.upload_files([str(data / "a.txt")], target_path="other", show_progress=False)
assert store.download("down", prefix="set", show_progress=False) == 3
assert pathlib.Path("down/set/deep/b ü.txt").read_text() == "b"
assert pathlib.Path("down/set/deep/large.bin").read_bytes() == bytes(range(256)) * (20 << 10)
assert store.download("all", show_progress=False) == 4
(data / "a.txt").write_text("changed")
store.upload(src_dir="data", target_path="set", overwrite=False, show_progress=False)
store.download("kept", prefix="set/a.txt", show_progress=False)
assert pathlib.Path("kept/set/a.txt").read_text() == "a"
