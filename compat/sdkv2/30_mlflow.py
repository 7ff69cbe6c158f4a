"""MLflow from outside: experiments, runs, metrics, params, tags, searches and artifacts, by azureml-mlflow and by MLflow alone."""

import os
import pathlib
import subprocess
import sys

import mlflow
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Metric, Param, RunTag, ViewType

from azure.ai.ml import MLClient
from azure.ai.ml.entities import Model
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential


def refused(what, words, code=None):
    try:
        what()
    except MlflowException as e:
        assert words in str(e), e
        assert code is None or e.error_code == code, e.error_code
    else:
        raise AssertionError(f"{words!r} was expected")


def track(c, prefix):
    """What every client can do, whatever its artifacts travel by."""
    eid = c.create_experiment(f"{prefix}-exp", tags={"team": "a"})
    e = c.get_experiment_by_name(f"{prefix}-exp")
    assert (e.experiment_id, e.lifecycle_stage, e.tags) == (eid, "active", {"team": "a"}), e
    assert c.get_experiment_by_name("nobody") is None
    refused(lambda: c.create_experiment(f"{prefix}-exp"), "exists", "RESOURCE_ALREADY_EXISTS")
    refused(lambda: c.get_experiment("no-such-id"), "was not found", "RESOURCE_DOES_NOT_EXIST")
    c.set_experiment_tag(eid, "phase", "two")
    assert [x.name for x in c.search_experiments(filter_string=f"tags.phase = 'two' AND name LIKE '{prefix}%'")] == [f"{prefix}-exp"]

    runs = {}
    for i, (name, loss) in enumerate({"one": 0.5, "two": 0.25, "three": float("nan")}.items()):
        r = c.create_run(eid, run_name=name, tags={"kind": "odd" if i % 2 else "even"})
        runs[name] = r.info.run_id
        c.log_param(r.info.run_id, "batch size", 2**i)
        c.log_batch(
            r.info.run_id,
            [Metric("acc", i / 10 + step / 100, 1700000000000 + step, step) for step in range(5)] + [Metric("loss", loss, 1700000000000, 0)],
            [Param("depth", str(i))],
            [RunTag("long", "x" * 900)],
        )
    one = c.get_run(runs["one"])
    assert one.info.status == "RUNNING" and one.info.run_name == "one", one.info
    assert one.data.params == {"batch size": "1", "depth": "0"}, one.data.params
    assert one.data.metrics == {"acc": 0.04, "loss": 0.5}, one.data.metrics
    assert one.data.tags["kind"] == "even" and one.data.tags["mlflow.runName"] == "one", one.data.tags
    assert [(m.step, m.value) for m in c.get_metric_history(runs["one"], "acc")] == [(s, s / 100) for s in range(5)]
    assert c.get_metric_history(runs["one"], "none") == []
    c.log_param(runs["one"], "depth", "0")
    refused(lambda: c.log_param(runs["one"], "depth", "9"), "cannot be changed", "INVALID_PARAMETER_VALUE")
    c.set_tag(runs["one"], "kind", "changed")
    c.delete_tag(runs["one"], "long")
    assert c.get_run(runs["one"]).data.tags["kind"] == "changed" and "long" not in c.get_run(runs["one"]).data.tags
    c.set_terminated(runs["one"], "FINISHED")
    c.set_terminated(runs["two"], "FAILED")
    c.set_terminated(runs["three"], "KILLED")
    c.update_run(runs["three"], name="drei")

    def found(filter="", **kw):
        return [r.info.run_name for r in c.search_runs([eid], filter, **kw)]

    assert found() == ["drei", "two", "one"]
    assert found("metrics.acc > 0.1") == ["drei", "two"]
    assert found("metrics.loss < 0.3 and params.depth = '1'") == ["two"]
    assert found("params.`batch size` IN ('1', '4')") == ["drei", "one"]
    assert found("attributes.status = 'FINISHED'") == ["one"] and found("status != 'FINISHED'") == ["drei", "two"]
    assert found("tags.kind LIKE '%ed' ") == ["one"] and found("attributes.run_name ILIKE 'D%'") == ["drei"]
    assert found(order_by=["metrics.loss ASC"]) == ["two", "one", "drei"]
    assert found(order_by=["params.depth ASC"], max_results=2) == ["one", "two"]
    first = c.search_runs([eid], order_by=["params.depth ASC"], max_results=2)
    assert [r.info.run_name for r in c.search_runs([eid], order_by=["params.depth ASC"], max_results=2, page_token=first.token)] == ["drei"]
    first = c.search_runs([eid], max_results=2)
    assert [r.info.run_name for r in c.search_runs([eid], max_results=2, page_token=first.token)] == ["one"]
    refused(lambda: found("metrics.acc >"), "filter", "INVALID_PARAMETER_VALUE")
    refused(lambda: found("status = 'A' OR status = 'B'"), "filter", "INVALID_PARAMETER_VALUE")
    c.delete_run(runs["two"])
    assert found() == ["drei", "one"] and found(run_view_type=ViewType.DELETED_ONLY) == ["two"]
    assert c.get_run(runs["two"]).info.lifecycle_stage == "deleted"
    c.restore_run(runs["two"])
    assert found(run_view_type=ViewType.ALL) == ["drei", "two", "one"] == found()
    child = c.create_run(eid, tags={"mlflow.parentRunId": runs["one"]})
    assert child.data.tags["mlflow.parentRunId"] == runs["one"]
    refused(lambda: c.get_run("nobody"), "was not found", "RESOURCE_DOES_NOT_EXIST")
    c.delete_experiment(eid)
    assert c.get_experiment(eid).lifecycle_stage == "deleted"
    c.restore_experiment(eid)
    return runs["one"]


def files(c, run):
    """Artifacts: up, listed by level, and down again."""
    tree = pathlib.Path("tree")
    (tree / "deep" / "er").mkdir(parents=True, exist_ok=True)
    (tree / "top.txt").write_text("top")
    (tree / "deep" / "er" / "ünder one.txt").write_text("under")
    pathlib.Path("empty.bin").write_bytes(b"")
    c.log_artifact(run, "tree/top.txt")
    c.log_artifacts(run, "tree", "model")
    c.log_artifact(run, "empty.bin", "model")
    c.log_text(run, "some text", "notes/a.txt")
    assert {f.path: f.is_dir for f in c.list_artifacts(run)} == {"top.txt": False, "model": True, "notes": True}, c.list_artifacts(run)
    assert {f.path for f in c.list_artifacts(run, "model")} == {"model/top.txt", "model/deep", "model/empty.bin"}
    back = pathlib.Path(c.download_artifacts(run, "model", "."))
    assert (back / "deep" / "er" / "ünder one.txt").read_text() == "under" and (back / "empty.bin").read_bytes() == b""
    assert pathlib.Path(c.download_artifacts(run, "top.txt", ".")).read_text() == "top"


def models(c, run):
    """What MLflow 3 keeps of a model that a run logged."""
    pathlib.Path("m/data").mkdir(parents=True, exist_ok=True)
    pathlib.Path("m/MLmodel").write_text("flavors: {}\n")
    pathlib.Path("m/data/weights").write_bytes(b"1234")
    eid = c.get_run(run).info.experiment_id
    m = c.create_logged_model(eid, name="net", source_run_id=run, params={"depth": "3"}, tags={"stage": "new"})
    c.log_model_artifacts(m.model_id, "m")
    c.finalize_logged_model(m.model_id, "READY")
    (found,) = c.search_logged_models([eid], filter_string="name = 'net' AND params.depth = '3'")
    assert (found.model_id, str(found.status), found.source_run_id, found.tags) == (m.model_id, "READY", run, {"stage": "new"}), found
    back = pathlib.Path(mlflow.artifacts.download_artifacts(f"models:/{m.model_id}", tracking_uri=c.tracking_uri))
    assert (back / "data" / "weights").read_bytes() == b"1234", list(back.rglob("*"))
    c.delete_logged_model(m.model_id)
    assert c.search_logged_models([eid]) == []


if len(sys.argv) > 1:  # MLflow alone: the workspace's tracking URI by https, and a token
    c = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    mlflow.set_tracking_uri(c.tracking_uri)
    run = track(c, "plain")
    files(c, run)
    models(c, run)
    sys.exit()

credential = DefaultAzureCredential()
ml = MLClient.from_config(credential)
ws = ml.workspaces.get()
mlflow.set_tracking_uri(ws.mlflow_tracking_uri)
c = MlflowClient()
run = track(c, "azureml")
files(c, run)
models(c, run)

# What MLflow 3 logged as a model is registered by the address that MLflow 2 had for it.
m = c.create_logged_model(c.get_run(run).info.experiment_id, name="net", source_run_id=run)
c.log_model_artifacts(m.model_id, "m")
c.finalize_logged_model(m.model_id, "READY")
for path in (f"azureml://jobs/{run}/outputs/artifacts/paths/net/", f"runs:/{run}/net"):
    kept = ml.models.create_or_update(Model(name="net", path=path, type="mlflow_model"))
    assert (kept.job_name, m.model_id in kept.path) == (run, True), kept
    ml.models.download("net", kept.version, "net-" + kept.version)
    assert [p.read_bytes() for p in pathlib.Path("net-" + kept.version).rglob("weights")] == [b"1234"], list(pathlib.Path("net-" + kept.version).rglob("*"))
try:
    ml.models.create_or_update(Model(name="none", path=f"runs:/{run}/network"))
    raise AssertionError("what was not logged became a model")
except HttpResponseError as e:
    assert "no files" in str(e), e

# The fluent way.
mlflow.set_experiment("fluent")
with mlflow.start_run(run_name="outer") as outer:
    mlflow.log_params({"a": 1, "b": "x"})
    for i in range(3):
        mlflow.log_metric("m", i, step=i)
    mlflow.log_dict({"k": 1}, "d.json")
    with mlflow.start_run(nested=True) as inner:
        mlflow.log_metric("inner", 1)
got = mlflow.get_run(outer.info.run_id)
assert (got.info.status, got.data.metrics, got.data.params) == ("FINISHED", {"m": 2.0}, {"a": "1", "b": "x"}), got
assert mlflow.get_run(inner.info.run_id).data.tags["mlflow.parentRunId"] == outer.info.run_id
assert mlflow.artifacts.load_dict(got.info.artifact_uri + "/d.json") == {"k": 1}
assert len(mlflow.search_runs(experiment_names=["fluent"], output_format="list")) == 2
try:
    with mlflow.start_run() as broken:
        raise ValueError("broken on purpose")
except ValueError:
    pass
assert mlflow.get_run(broken.info.run_id).info.status == "FAILED"
with mlflow.start_run(run_id=outer.info.run_id):  # taken up again
    mlflow.log_metric("late", 1)
assert mlflow.get_run(outer.info.run_id).data.metrics["late"] == 1

env = dict(os.environ, MLFLOW_TRACKING_URI=ws.mlflow_tracking_uri.replace("azureml://", "https://").replace("/v2.0/", "/v1.0/"))
env["MLFLOW_TRACKING_TOKEN"] = credential.get_token("https://ml.azure.com/.default").token
subprocess.run([sys.executable, __file__, "plain"], env=env, check=True)
