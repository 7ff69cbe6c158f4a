"""What a newcomer gets wrong is answered with what would work."""
from azure.ai.ml import Input, MLClient, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.ai.ml.sweep import Choice
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="Standard_DS2_v2")).result()
for name in ("base", "train"):
    ml.environments.create_or_update(Environment(name=name, image="python:3.11"))
ours = f"azureml://subscriptions/{ml.subscription_id}/resourcegroups/{ml.resource_group_name}/workspaces/elsewhere/jobs/j/outputs/artifacts/paths/x/"
lr = command(command="echo ${{inputs.lr}}", inputs={"lr": 1}, environment="train@latest", compute="cpu-cluster")


def job(line="echo hi", **more):
    return lambda: ml.jobs.create_or_update(command(**{"command": line, "environment": "train@latest", "compute": "cpu-cluster", **more}))


def reads(path, **more):
    return job("ls ${{inputs.d}}", inputs={"d": Input(**{"type": "uri_folder", "path": path, **more})})


for wrong, *words in [
    (job(environment="trian@latest"), "trian", "nearest first: train, base"),
    (job(environment="train:7"), "It has: 1."),
    (job(environment="AzureML-sklearn-9.9@latest"), "curated", "nearest first: AzureML-sklearn-1.5", "conda_file"),
    (job(environment="azureml://registries/azureml/environments/sklearn-9.9/labels/latest"), "curated", "AzureML-sklearn-1.5"),
    (job(environment="azureml://registries/mine/environments/sklearn-1.5/labels/latest"), "registry", "conda_file"),
    (job(compute="cpu-clutser"), "cpu-clutser", "nearest first: cpu-cluster"),
    (job(compute=None), "serverless", "cpu-cluster"),
    (job(compute="serverless"), "Serverless", "cpu-cluster"),
    (job("echo ${{input.lr}}", inputs={"lr": 0.1}), "${{input.lr}}", "It has ${{inputs.lr}}."),
    (reads("azureml://datastores/workspaceblobstore/paths/x/", type="mltable", mode="eval_mount"), "ReadOnlyMount, ReadWriteMount"),
    (reads(ours), "elsewhere", "another workspace"),
    (lambda: ml.jobs.create_or_update(lr(lr=Choice([1, 2])).sweep(compute="cpu-cluster", sampling_algorithm="random", primary_metric="m", goal="Minimize")), "Sweep", "in a loop"),
    (lambda: list(ml.schedules.list()), "Not part of Ebb yet: Schedules."),
    (lambda: ml.compute.begin_create_or_update(AmlCompute(name="huge", size="Standard_DS3v2")).result(), "Did you mean STANDARD_DS3_V2?"),
]:
    try:
        raise SystemExit(f"taken, where {words} was expected: {wrong()}")
    except HttpResponseError as error:
        said = error.error.message if error.error else error.message
        assert all(word in said for word in words), (words, said)
        assert len(said) < 700, said
