"""MLflow in a job, as code that knows nothing of Ebb has it: what it logs is the job's own run's, for every client."""

import contextlib
import io
import pathlib
import sys

import mlflow
from mlflow import MlflowClient

from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="STANDARD_D2_V2", max_instances=1)).result()
pathlib.Path("src").mkdir()
pathlib.Path("src/train.py").write_text(
    """
import os
import mlflow

for i in range(3):
    mlflow.log_metric("loss", 1 / (i + 1), step=i)
mlflow.log_params({"depth": 3, "kind": "tree"})
mlflow.set_tag("from", "inside")
mlflow.log_text("made inside", "made/a text.txt")
open("model.bin", "wb").write(b"0123456789" * 1000)
mlflow.log_artifact("model.bin", "model")
own = mlflow.active_run().info.run_id
assert own == os.environ["AZUREML_RUN_ID"] == os.environ.get("MLFLOW_RUN_ID", own), own
mlflow.end_run()  # ends nothing: the job goes on
print("still running", flush=True)
with mlflow.start_run(run_name="a second one") as r:
    mlflow.log_metric("child", 1)
assert r.info.run_id != own
assert mlflow.get_run(own).data.metrics["loss"] == 1 / 3
try:
    mlflow.MlflowClient().create_experiment("not-mine-to-make")
except mlflow.MlflowException as e:
    print("refused:", e.error_code)
"""
)
version = f"{sys.version_info.major}.{sys.version_info.minor}"
pins = [line.split(";")[0] for line in (pathlib.Path(__file__).parent.parent / "requirements-v2.txt").read_text().split() if line.startswith(("mlflow-skinny==", "azureml-mlflow=="))]
assert len(pins) == 2, pins
pathlib.Path("conda.yml").write_text(f"name: tracked\ndependencies:\n- python={version}\n- pip\n- pip: {pins}\n")
env = ml.environments.create_or_update(Environment(name="tracked", image="mcr.microsoft.com/azureml/base", conda_file="conda.yml"))
job = command(code="src", command="python train.py", environment=f"{env.name}:{env.version}", compute="cpu-cluster", experiment_name="inside", display_name="tracked")
job = ml.jobs.create_or_update(job)
with contextlib.redirect_stdout(io.StringIO()) as out:
    ml.jobs.stream(job.name)
assert ml.jobs.get(job.name).status == "Completed", out.getvalue()
ml.jobs.download(job.name, download_path="back")
log = pathlib.Path("back/artifacts/user_logs/std_log.txt").read_text()
assert "still running" in log and "refused: PERMISSION_DENIED" in log, log
assert pathlib.Path("back/artifacts/model/model.bin").read_bytes() == b"0123456789" * 1000

mlflow.set_tracking_uri(ml.workspaces.get().mlflow_tracking_uri)
c = MlflowClient()
run = c.get_run(job.name)
assert (run.info.status, run.info.run_name) == ("FINISHED", "tracked"), run.info
assert run.data.metrics == {"loss": 1 / 3} and run.data.params == {"depth": "3", "kind": "tree"} and run.data.tags["from"] == "inside", run.data
assert [(m.step, m.value) for m in c.get_metric_history(job.name, "loss")] == [(0, 1), (1, 0.5), (2, 1 / 3)]
assert {f.path for f in c.list_artifacts(job.name)} >= {"made", "model", "user_logs"}, c.list_artifacts(job.name)
assert pathlib.Path(c.download_artifacts(job.name, "made/a text.txt", ".")).read_text() == "made inside"
assert "still running" in pathlib.Path(c.download_artifacts(job.name, "user_logs/std_log.txt", ".")).read_text()
found = mlflow.search_runs(experiment_names=["inside"], filter_string="metrics.loss < 0.5 and params.kind = 'tree'", output_format="list")
assert [r.info.run_id for r in found] == [job.name], found
(child,) = [r for r in mlflow.search_runs(experiment_names=["inside"], output_format="list") if r.info.run_id != job.name]
assert child.data.tags["mlflow.parentRunId"] == job.name and child.data.metrics == {"child": 1}, child
assert ml.jobs.get(job.name).tags == {"from": "inside"}, ml.jobs.get(job.name).tags
assert [j.name for j in ml.jobs.list()] == [job.name]
