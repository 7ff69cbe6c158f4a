"""Python SDK v2 resizes clusters that other clients made."""

import subprocess

from azure.ai.ml import MLClient
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
subprocess.run(["ebb", "compute", "create", "-n", "by-ebb", "--type", "amlcompute", "--max-instances", "1"], check=True)
for name in ["cpu", "by-ebb"]:  # cpu: SDK v1's
    cluster = ml.compute.get(name)
    cluster.max_instances = 3
    assert ml.compute.begin_update(cluster).result().max_instances == 3, name
    assert ml.compute.get(name).max_instances == 3, name
