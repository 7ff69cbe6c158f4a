"""Python SDK v2 finds SDK v1's, and its own."""

from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
newest = ml.environments.get("shared", label="latest")
assert (newest.version, newest.image, newest.conda_file) == ("2", "alpine", None), newest
ml.environments.archive("shared", version="2")
assert [e.version for e in ml.environments.list(name="shared")] == ["1"]
assert ml.environments.get("shared", "1").conda_file == {"dependencies": ["python=3.11", {"pip": ["six==1.17.0"]}]}
