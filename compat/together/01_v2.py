"""Python SDK v2 registers an environment."""

from azure.ai.ml import MLClient
from azure.ai.ml.entities import Environment
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
conda = {"dependencies": ["python=3.11", {"pip": ["six==1.17.0"]}]}
assert ml.environments.create_or_update(Environment(name="shared", image="ubuntu:22.04", conda_file=conda)).version == "1"
