"""MLflow in a job whose environment has no azureml-mlflow: the address of the job's run, with https:// for azureml://, is all that it needs."""

import contextlib
import io
import pathlib
import sys

from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="STANDARD_D2_V2", max_instances=2)).result()
pathlib.Path("src").mkdir()
pathlib.Path("src/train.py").write_text(
    """
import os
import mlflow

mine = os.environ["MLFLOW_RUN_ID"]  # MLflow takes it out once it is used
try:
    import azureml.mlflow
    raise SystemExit("azureml-mlflow is here")
except ImportError:
    pass
try:
    mlflow.log_metric("loss", 9)
    raise SystemExit("MLflow alone knows azureml://")
except mlflow.MlflowException as e:
    assert "unsupported URI" in str(e), e  # as in Azure
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"].replace("azureml://", "https://"))
for i in range(3):
    mlflow.log_metric("loss", 1 / (i + 1), step=i)
mlflow.log_params({"depth": 3})
mlflow.set_tag("from", "inside, alone")
mlflow.log_text("made inside", "made/a text.txt")
run = mlflow.active_run().info
assert run.run_id == os.environ["AZUREML_RUN_ID"] == mine, run
assert [f.path for f in mlflow.MlflowClient().list_artifacts(run.run_id, "made")] == ["made/a text.txt"]
got = mlflow.MlflowClient().download_artifacts(run.run_id, "made/a text.txt", ".")
assert open(got).read() == "made inside"
mlflow.end_run()
print("done", flush=True)
"""
)
version = f"{sys.version_info.major}.{sys.version_info.minor}"
(pin,) = [line.split(";")[0] for line in (pathlib.Path(__file__).parent.parent / "requirements-v2.txt").read_text().split() if line.startswith("mlflow-skinny==")]
pathlib.Path("conda.yml").write_text(f"name: alone\ndependencies:\n- python={version}\n- pip\n- pip: ['{pin}']\n")
env = ml.environments.create_or_update(Environment(name="alone", image="mcr.microsoft.com/azureml/base", conda_file="conda.yml"))
job = ml.jobs.create_or_update(command(code="src", command="python train.py", environment=f"{env.name}:{env.version}", compute="cpu-cluster", experiment_name="alone"))
with contextlib.redirect_stdout(io.StringIO()) as out:
    ml.jobs.stream(job.name)
assert ml.jobs.get(job.name).status == "Completed", out.getvalue()
ml.jobs.download(job.name, download_path="alone")
assert pathlib.Path("alone/artifacts/made/a text.txt").read_text() == "made inside"
assert ml.jobs.get(job.name).tags == {"from": "inside, alone"}, ml.jobs.get(job.name).tags
