"""What has names and versions: environments, data, models, components, datastores."""

import pathlib

from azure.ai.ml import Input, MLClient, Output, command, load_component, load_data, load_environment, load_model
from azure.ai.ml.constants import AssetTypes, ListViewType
from azure.ai.ml.entities import (
    AccountKeyConfiguration,
    AzureBlobDatastore,
    AzureDataLakeGen1Datastore,
    AzureDataLakeGen2Datastore,
    AzureFileDatastore,
    BuildContext,
    Data,
    Environment,
    Model,
    OneLakeArtifact,
    OneLakeDatastore,
    SasTokenConfiguration,
    ServicePrincipalConfiguration,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
WORKSPACE = f"/subscriptions/{ml.subscription_id}/resourceGroups/{ml.resource_group_name}/providers/Microsoft.MachineLearningServices/workspaces/{ml.workspace_name}"


def refused(what, *words, kind=HttpResponseError):
    try:
        what()
    except kind as e:
        assert all(w in str(e) for w in words), f"{words} are not in: {e}"
        return
    raise AssertionError(f"nothing was raised, and {words} were expected")


def versions(of, **more):
    return [a.version for a in of.list(name="one", **more)]


def check_versions(of, make, get):
    """What every kind of asset can do: versions by itself or by name, the newest, archive, restore, update."""
    refused(lambda: get("one", "1"), "one", kind=ResourceNotFoundError)
    assert of.create_or_update(make()).version == "1"
    assert of.create_or_update(make(version="2", tags={"a": "b"}, description="the second")).tags == {"a": "b"}
    assert of.create_or_update(make(version="3")).version == "3"
    second = get("one", "2")
    assert (second.name, second.version, second.description, second.tags) == ("one", "2", "the second", {"a": "b"}), second
    assert second.creation_context.created_at and second.id == f"{WORKSPACE}/{of_path(of)}/one/versions/2", second.id
    assert of.get("one", label="latest").version == "3"
    assert versions(of) == ["3", "2", "1"], versions(of)
    of.archive("one", version="3")
    assert versions(of) == ["2", "1"] and of.get("one", label="latest").version == "2"
    assert versions(of, list_view_type=ListViewType.ARCHIVED_ONLY) == ["3"]
    assert versions(of, list_view_type=ListViewType.ALL) == ["3", "2", "1"]
    of.restore("one", version="3")
    assert versions(of) == ["3", "2", "1"]
    second.tags, second.description = {"c": "d"}, "changed"
    of.create_or_update(second)
    again = get("one", "2")
    assert (again.tags, again.description) == ({"c": "d"}, "changed"), again
    assert [a.name for a in of.list()] == ["one"]
    of.archive("one")
    assert [a.name for a in of.list()] == [] and [a.name for a in of.list(list_view_type=ListViewType.ALL)] == ["one"]
    of.restore("one")
    top = next(iter(of.list()))
    assert top.latest_version == "3", top.latest_version


def of_path(of):
    return {"EnvironmentOperations": "environments", "DataOperations": "data", "ModelOperations": "models", "ComponentOperations": "components"}[type(of).__name__]


# Environments.
check_versions(ml.environments, lambda **more: Environment(name="one", image="python:3.11-slim", **more), ml.environments.get)
refused(lambda: ml.environments.create_or_update(Environment(name="one", version="2", image="ubuntu")), "image")
assert ml.environments.create_or_update(Environment(name="one", image="python:3.11-slim")).version == "3", "the same is no new version"
assert ml.environments.create_or_update(Environment(name="one", image="ubuntu")).version == "4", "another is the next version"
CONDA = {"name": "e", "channels": ["conda-forge"], "dependencies": ["python=3.11", "pip", {"pip": ["requests==2.32.3"]}]}
made = ml.environments.create_or_update(Environment(name="conda", image="ubuntu:22.04", conda_file=CONDA))
assert ml.environments.get("conda", "1").conda_file == CONDA, made.conda_file
pathlib.Path("env.yml").write_text(
    "$schema: https://azuremlschemas.azureedge.net/latest/environment.schema.json\nname: from-yaml\nversion: 7\nimage: ubuntu:22.04\nconda_file: conda.yml\n"
)
pathlib.Path("conda.yml").write_text("dependencies:\n- python=3.11\n")
assert ml.environments.create_or_update(load_environment("env.yml")).version == "7"
assert ml.environments.create_or_update(Environment(name="from-yaml", image="ubuntu:22.04")).version == "8"
context = pathlib.Path("context")
context.mkdir()
(context / "Dockerfile").write_text("FROM python:3.11-slim\n")
built = ml.environments.create_or_update(Environment(name="built", build=BuildContext(path="context")))
assert built.build.dockerfile_path == "Dockerfile" and "/LocalUpload/" in built.build.path, vars(built.build)

# Data.
assert ml.environments.get("one", label="latest").version == "4"
REMOTE = "azureml://datastores/workspaceblobstore/paths/somewhere/"
check_versions(ml.data, lambda **more: Data(name="one", path=REMOTE, type=AssetTypes.URI_FOLDER, **more), ml.data.get)
refused(lambda: ml.data.create_or_update(Data(name="one", version="2", path=REMOTE + "else", type=AssetTypes.URI_FOLDER)), "dataUri")
refused(lambda: ml.data.create_or_update(Data(name="one", path=REMOTE + "x", type=AssetTypes.URI_FILE)), "uri_folder")
folder = pathlib.Path("folder")
(folder / "deep").mkdir(parents=True)
(folder / "a.csv").write_text("1,2\n")
(folder / "deep" / "b b.csv").write_text("3,4\n")
local = ml.data.create_or_update(Data(name="local", path="folder", type=AssetTypes.URI_FOLDER))
assert "/datastores/workspaceblobstore/paths/LocalUpload/" in local.path and local.path.endswith("/folder"), local.path
again = ml.data.create_or_update(Data(name="local", path="folder", type=AssetTypes.URI_FOLDER))
assert (again.version, again.path) == ("2", local.path), "the same folder lies elsewhere"
one = ml.data.create_or_update(Data(name="file", path="folder/a.csv", type=AssetTypes.URI_FILE))
assert one.path.endswith("/a.csv"), one.path
(folder / "MLTable").write_text("paths:\n- file: ./a.csv\ntransformations:\n- read_delimited:\n    delimiter: ','\n")
table = ml.data.create_or_update(Data(name="table", path="folder", type=AssetTypes.MLTABLE))
assert ml.data.get("table", "1").type == "mltable", table

# Models.
check_versions(ml.models, lambda **more: Model(name="one", path=REMOTE, type=AssetTypes.CUSTOM_MODEL, **more), ml.models.get)
refused(lambda: ml.models.create_or_update(Model(name="one", version="2", path=REMOTE + "else")), "modelUri")
pathlib.Path("model.pkl").write_bytes(b"\x80\x04N.")
model = ml.models.create_or_update(Model(name="mine", path="model.pkl", properties={"accuracy": "0.9"}, stage="Development"))
assert (model.properties["accuracy"], model.stage) == ("0.9", "Development"), model
ml.models.download("mine", model.version, "down")
assert [p.read_bytes() for p in pathlib.Path("down").rglob("model.pkl")] == [b"\x80\x04N."]
assert [m.version for m in ml.models.list(name="mine", stage="Development")] == ["1"]
assert [m.version for m in ml.models.list(name="mine", stage="Production")] == []

# Components.
pathlib.Path("component.yml").write_text(
    """$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
type: command
name: one
display_name: The first
command: echo ${{inputs.words}} > ${{outputs.said}}/words.txt
environment: azureml:conda:1
inputs:
  words: {type: string, default: hello}
outputs:
  said: {type: uri_folder}
"""
)


def component(**more):
    c = load_component("component.yml")
    for k, v in more.items():
        setattr(c, k, v)
    return c


first = ml.components.create_or_update(component(version="1"))
assert (first.name, first.version, first.display_name) == ("one", "1", "The first"), first
assert first.inputs["words"].default == "hello" and first.outputs["said"].type == "uri_folder", first
read = ml.components.get("one", "1")
assert ml.components.create_or_update(read).version == "1"  # what was read, sent back as it is
read.description = "said better"
assert ml.components.create_or_update(read).description == "said better" == ml.components.get("one", "1").description
assert ml.components.create_or_update(component(version="2", tags={"a": "b"})).tags == {"a": "b"}
assert [c.version for c in ml.components.list(name="one")] == ["2", "1"]
assert ml.components.get("one", label="latest").version == "2" and ml.components.get("one").version == "2"
ml.components.archive("one", version="2")
assert [c.version for c in ml.components.list(name="one")] == ["1"] and ml.components.get("one").version == "1"
ml.components.restore("one", version="2")
assert [c.name for c in ml.components.list()] == ["one"]
other = component(version="1")
other.command = "echo something else"
refused(lambda: ml.components.create_or_update(other), "componentSpec")

given = load_component("component.yml")  # its file says no version
given.name = "two"
given = ml.components.create_or_update(given)
got = ml.components.get("two", given.version)
assert (given.version, got.name, got.version) == ("1", "two", "1"), (given.version, got.name, got.version)
assert [c.version for c in ml.components.list(name="two")] == ["1"]

# Datastores: what a workspace has, and records of what lies elsewhere.
OWN = ["workspaceartifactstore", "workspaceblobstore", "workspacefilestore", "workspaceworkingdirectory"]
assert [d.name for d in ml.datastores.list()] == OWN
assert ml.datastores.get_default().name == "workspaceblobstore"
KEY, SAS = AccountKeyConfiguration(account_key="c2VjcmV0"), SasTokenConfiguration(sas_token="?sv=1&sig=2")
PRINCIPAL = ServicePrincipalConfiguration(tenant_id="t", client_id="c", client_secret="hush", authority_url="https://login.microsoftonline.com", resource_url="https://datalake.azure.net/")
for store, secret in [
    (AzureBlobDatastore(name="blob1", account_name="acc", container_name="c", credentials=KEY, description="d", tags={"a": "b"}), "c2VjcmV0"),
    (AzureBlobDatastore(name="blob2", account_name="acc", container_name="c", credentials=SAS), "?sv=1&sig=2"),
    (AzureBlobDatastore(name="blob3", account_name="acc", container_name="c"), None),
    (AzureFileDatastore(name="files", account_name="acc", file_share_name="s", credentials=KEY), "c2VjcmV0"),
    (AzureDataLakeGen1Datastore(name="lake1", store_name="lake", credentials=PRINCIPAL), "hush"),
    (AzureDataLakeGen2Datastore(name="lake2", account_name="acc", filesystem="f", credentials=PRINCIPAL), "hush"),
    (OneLakeDatastore(name="onelake", one_lake_workspace_name="w", endpoint="onelake.dfs.fabric.microsoft.com", artifact=OneLakeArtifact(name="a.Lakehouse", type="lake_house")), None),
]:
    ml.datastores.create_or_update(store)
    got = ml.datastores.get(store.name)
    assert (got.name, got.type) == (store.name, store.type), got
    assert "c2VjcmV0" not in str(got) and "hush" not in str(got) and "sig=2" not in str(got), "a secret is shown"
    if secret:
        told = str(vars(ml.datastores.get(store.name, include_secrets=True).credentials))
        assert secret in told, (store.name, told)
blob = ml.datastores.get("blob1")
assert (blob.account_name, blob.container_name, blob.description, blob.tags) == ("acc", "c", "d", {"a": "b"}), blob
blob.description = "changed"
ml.datastores.create_or_update(blob)
assert ml.datastores.get("blob1", include_secrets=True).credentials.account_key == "c2VjcmV0", "the key is lost"
assert len(list(ml.datastores.list())) == len(OWN) + 7
for name in ("blob1", "blob2", "blob3", "files", "lake1", "lake2", "onelake"):
    ml.datastores.delete(name)
assert [d.name for d in ml.datastores.list()] == OWN
refused(lambda: ml.datastores.get("blob1"), "workspaceblobstore", kind=ResourceNotFoundError)
refused(lambda: ml.datastores.delete("workspaceblobstore"), "belongs to the workspace")
