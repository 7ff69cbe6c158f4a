"""Python SDK v2 registers an environment."""

import pathlib

from azure.ai.ml import MLClient
from azure.ai.ml.entities import BuildContext, Environment
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
conda = {"dependencies": ["python=3.11", {"pip": ["six==1.17.0"]}]}
assert ml.environments.create_or_update(Environment(name="shared", image="ubuntu:22.04", conda_file=conda)).version == "1"

pathlib.Path("context").mkdir()
pathlib.Path("context/Dockerfile").write_text("FROM python:3.11-slim\n")
ml.environments.create_or_update(Environment(name="built", build=BuildContext(path="context")))
