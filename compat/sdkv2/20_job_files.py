"""A command job with every kind of input and output, submitted, streamed, read back and downloaded."""

import contextlib
import io
import pathlib

from azure.ai.ml import Input, MLClient, Output, command
from azure.ai.ml.constants import AssetTypes, InputOutputModes
from azure.ai.ml.entities import AmlCompute, Data, Environment, Model, UserIdentityConfiguration
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="STANDARD_D2_V2", max_instances=2)).result()



def ended(name):
    """Waits for the end of a job, whose log the client shows if it looks in time."""
    with contextlib.redirect_stdout(io.StringIO()):
        ml.jobs.stream(name)


src = pathlib.Path("src")
src.mkdir()
(src / "train.py").write_text(
    """
import argparse, os, pathlib
p = argparse.ArgumentParser()
for a in ("lr", "flag", "folder", "file", "asset", "newest", "copied", "shared", "model", "out", "report", "extra"):
    p.add_argument("--" + a)
a = p.parse_args()
print("lr", a.lr, "flag", a.flag, "extra", a.extra, "var", os.environ["WHERE"], flush=True)
print("folder", sorted(str(f.relative_to(a.folder)) for f in pathlib.Path(a.folder).rglob("*") if f.is_file()))
print("file", os.path.basename(a.file), open(a.file).read())
print("asset", os.listdir(a.asset), "model", open(a.model).read())
assert sorted(os.listdir(a.newest)) == sorted(os.listdir(a.asset)), os.listdir(a.newest)
assert os.environ["AZURE_ML_INPUT_folder"] == os.environ["AZUREML_DATAREFERENCE_folder"] == a.folder
assert os.environ["AZURE_ML_OUTPUT_out"] == a.out and os.environ["AZUREML_PARAMETER_lr"] == a.lr
try:
    open(os.path.join(a.folder, "new"), "w")
    raise SystemExit("a read-only input was written")
except OSError as e:
    print("read-only:", type(e).__name__)
open(os.path.join(a.copied, "a.csv"), "w").write("changed, for me alone")
open(os.path.join(a.shared, "b.csv"), "w").write("changed, for all")
out = pathlib.Path(a.out)
(out / "deep" / "er").mkdir(parents=True)
(out / "deep" / "er" / "m.bin").write_bytes(b"x" * 5_000_000)
(out / "top.txt").write_text("top")
(out / "link.txt").symlink_to("top.txt")
(out / "passwd").symlink_to("/etc/passwd")
open(a.report, "w").write("the report")
os.makedirs("outputs", exist_ok=True)
open("outputs/own.txt", "w").write("the run's own")
print("done", flush=True)
"""
)
data = pathlib.Path("data")
(data / "sub").mkdir(parents=True)
(data / "a.csv").write_text("1,2")
(data / "sub" / "c d.csv").write_text("3,4")
asset = ml.data.create_or_update(Data(name="table", version="7", type=AssetTypes.URI_FOLDER, path="data"))


def job(**more):
    return command(
        code="src",
        command="python train.py --lr ${{inputs.lr}} --flag ${{inputs.flag}} --folder ${{inputs.folder}} --file '${{inputs.file}}' --asset ${{inputs.asset}} --newest ${{inputs.newest}}"
        " --copied ${{inputs.copied}} --shared ${{inputs.shared}} --model ${{inputs.model}} --out ${{outputs.out}} --report ${{outputs.report}}"
        " $[[--extra ${{inputs.extra}}]]",
        environment="azureml:plain@latest",
        compute="cpu-cluster",
        inputs={
            "lr": 0.1,
            "flag": True,
            "folder": Input(type="uri_folder", path="data"),
            "file": Input(type="uri_file", path="data/sub/c d.csv", mode=InputOutputModes.DOWNLOAD),
            "asset": Input(type="uri_folder", path="azureml:table:7"),
            "newest": Input(type="uri_folder", path="azureml:table@latest"),
            "copied": Input(type="uri_folder", path=asset.path, mode="download"),
            "shared": Input(type="uri_folder", path="azureml://datastores/workspaceblobstore/paths/shared/", mode="rw_mount"),
            "model": Input(type="custom_model", path="azureml://datastores/workspaceblobstore/paths/shared/b.csv"),
            **more,
        },
        outputs={
            "out": Output(type="uri_folder", mode="rw_mount"),
            "report": Output(type="uri_file", path="azureml://datastores/workspaceblobstore/paths/reports/r.txt", mode="upload"),
            "named": Output(type="uri_folder", name="made", mode="upload"),
        },
        environment_variables={"WHERE": "${{inputs.folder}}"},
        display_name="with files",
        experiment_name="files",
        tags={"k": "v"},
    )


ml.environments.create_or_update(Environment(name="plain", image="python:3.11", version="1"))
# shared/ must hold something before a job can read it.
pathlib.Path("seed").mkdir()
pathlib.Path("seed/b.csv").write_text("as it was")
seed = ml.data.create_or_update(Data(name="seed", type=AssetTypes.URI_FOLDER, path="seed"))
shared = seed.path


def with_shared(**more):
    j = job(**more)
    j.inputs["shared"].path = shared
    j.inputs["model"].path = shared.rstrip("/") + "/b.csv"
    return j


sent = ml.jobs.create_or_update(with_shared())
assert sent.status in ("Queued", "NotStarted", "Starting", "Preparing", "Running"), sent.status
assert sent.services["Studio"].endpoint and sent.services["Tracking"].endpoint.startswith("azureml://")
ended(sent.name)
got = ml.jobs.get(sent.name)
assert (got.status, got.display_name, got.experiment_name, got.tags) == ("Completed", "with files", "files", {"k": "v"}), got
assert got._to_dict()["inputs"]["lr"] == "0.1", got._to_dict()["inputs"]
assert got.inputs["folder"].type == "uri_folder" and got.inputs["folder"].mode == "ro_mount", got.inputs["folder"]
assert set(got.outputs) == {"out", "report", "named"}, got.outputs
assert got.outputs["out"].path == f"azureml://datastores/workspaceblobstore/paths/azureml/{sent.name}/out/", got.outputs["out"]
assert "${{inputs.lr}}" in got.command and got.environment_variables["WHERE"] == "${{inputs.folder}}"
again = ml.jobs.create_or_update(got)  # sent back as it was read: the same job
assert again.name == sent.name

ml.jobs.download(sent.name, download_path="all", all=True)
base = pathlib.Path("all")

# What a job left becomes a model, data, and the input of the next job.
kept = ml.models.create_or_update(Model(name="kept", path=f"azureml://jobs/{sent.name}/outputs/out", type=AssetTypes.CUSTOM_MODEL))
assert kept.path.startswith("azureml://subscriptions/") and kept.path.endswith(f"/datastores/workspaceblobstore/paths/azureml/{sent.name}/out/"), kept.path
own = ml.models.create_or_update(Model(name="own", path=f"azureml://jobs/{sent.name}/outputs/artifacts/outputs/own.txt", type=AssetTypes.CUSTOM_MODEL))
run = ml.models.create_or_update(Model(name="by-run", path=f"runs:/{sent.name}/outputs/own.txt", type=AssetTypes.CUSTOM_MODEL))
assert (run.path, run.job_name) == (own.path, sent.name), run
ml.models.download("by-run", run.version, "by-run")
assert any(p.read_text() == "the run's own" for p in pathlib.Path("by-run").rglob("own.txt")), list(pathlib.Path("by-run").rglob("*"))
ml.models.download("kept", kept.version, "kept")
ml.models.download("own", own.version, "own")
assert any(p.read_text() == "top" for p in pathlib.Path("kept").rglob("top.txt")), list(pathlib.Path("kept").rglob("*"))
assert any(p.read_text() == "the run's own" for p in pathlib.Path("own").rglob("own.txt")), list(pathlib.Path("own").rglob("*"))
ml.data.create_or_update(Data(name="left", path=f"azureml://jobs/{sent.name}/outputs/artifacts/paths/outputs/", type=AssetTypes.URI_FOLDER))
reader = command(
    command="cat ${{inputs.model}}/top.txt ${{inputs.own}} ${{inputs.left}}/own.txt",
    compute="cpu-cluster",
    environment="plain@latest",
    inputs={
        "model": Input(type="custom_model", path="azureml:kept:1"),
        "own": Input(type="custom_model", path="azureml:own:1"),
        "left": Input(type="uri_folder", path="azureml:left:1"),
    },
)
reader.identity = UserIdentityConfiguration()
read = ml.jobs.create_or_update(reader)
ended(read.name)
assert "no credential of Azure's clients works yet" in ml.jobs.get(read.name).properties["ebb.notes"], ml.jobs.get(read.name).properties
assert "no credential" not in ml.jobs.get(sent.name).properties.get("ebb.notes", "")
assert ml.jobs.get(read.name).status == "Completed", ml.jobs.get(read.name)
for path, word in ((f"azureml://jobs/{sent.name}/outputs/nothing", "nothing"), ("azureml://jobs/nobody/outputs/out", "nobody"), (f"azureml://jobs/{sent.name}/outputs/artifacts/paths/no/", "no files"), (f"runs:/{sent.name}/nothing", "no files"), ("runs:/nobody/model", "nobody"), ("runs:/", "runs:/RUN/")):
    try:
        ml.models.create_or_update(Model(name="none", path=path))
        raise AssertionError(f"{path} became a model")
    except HttpResponseError as e:
        assert word in str(e), (word, e)
found = sorted(str(f.relative_to(base)) for f in base.rglob("*") if f.is_file())
for f in (
    "artifacts/user_logs/std_log.txt",
    "artifacts/outputs/own.txt",
    "named-outputs/out/top.txt",
    "named-outputs/out/link.txt",
    "named-outputs/out/deep/er/m.bin",
):
    assert f in found, (f, found)
assert "named-outputs/out/passwd" not in found, "a link that leads outside was followed"
assert (base / "named-outputs/out/deep/er/m.bin").stat().st_size == 5_000_000
assert any(f.startswith("named-outputs/report") for f in found), found
shown = (base / "artifacts/user_logs/std_log.txt").read_text()
for line in (
    "lr 0.1 flag True extra None var /",
    "folder ['a.csv', 'sub/c d.csv']",
    "file c d.csv 3,4",
    "model as it was",
    "read-only: ",
    "done",
):
    assert line in shown, (line, shown)
ml.jobs.download(sent.name, download_path="one", output_name="out")
assert (pathlib.Path("one/named-outputs/out/top.txt")).read_text() == "top"

# What the job changed in the shared folder came back; what it changed in its copy did not.
second = with_shared(extra="given")
second.command = "cat ${{inputs.shared}}/b.csv ${{inputs.copied}}/a.csv; echo; $[[echo extra ${{inputs.extra}};]] echo ${{outputs.named}}; echo made > ${{outputs.named}}/x"
second = ml.jobs.create_or_update(second)
ended(second.name)
ml.jobs.download(second.name, download_path="second")
shown = pathlib.Path("second/artifacts/user_logs/std_log.txt").read_text()
assert "changed, for all1,2" in shown and "extra given" in shown, shown
made = ml.data.get("made", label="latest")
assert made.type == "uri_folder" and second.name in made.path, made
assert ml.jobs.get(second.name).outputs["named"].path == made.path

# What cannot be is refused by name, before anything runs.
for path, words in {
    "azureml://datastores/nowhere/paths/x/": "nowhere",
    "https://other.blob.core.windows.net/c/x/": "other",
    "azureml:table:99": "99",
}.items():
    try:
        ml.jobs.create_or_update(with_shared(folder=Input(type="uri_folder", path=path)))
    except (HttpResponseError, ResourceNotFoundError) as e:
        assert words in str(e), (words, e)
    else:
        raise AssertionError(f"{path}: accepted")

# A path with nothing there fails the job, by name, before its process starts.
bad = ml.jobs.create_or_update(with_shared(folder=Input(type="uri_folder", path="azureml://datastores/workspaceblobstore/paths/not/there/")))
try:
    ended(bad.name)
except JobException as e:
    assert "not/there" in str(e) and "folder" in str(e), e
assert ml.jobs.get(bad.name).status == "Failed"
