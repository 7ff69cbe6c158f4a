"""Inputs at public https addresses, as published examples have them: nodes read them; what cannot be read is said."""
import sys

from azure.ai.ml import Input, MLClient, command
from azure.ai.ml.entities import AmlCompute, Data, Environment
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

site = sys.argv[1]
ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="cpu", size="Standard_DS2_v2", max_instances=2)).result()
environment = ml.environments.create_or_update(Environment(name="plain", image="python:3.11"))


def submit(line="cat ${{inputs.data}}", **more):
    data = Input(**{"type": "uri_file", **more})
    return ml.jobs.create_or_update(command(command=line, inputs={"data": data}, environment=environment, compute="cpu"))


def log(job):
    ml.jobs.stream(job.name)
    ml.jobs.download(job.name, download_path=job.name)
    with open(f"{job.name}/artifacts/user_logs/std_log.txt") as f:
        return f.read()


# By its address, mounted and downloaded, and by a data asset that only names it.
ml.data.create_or_update(Data(name="titanic", version="1", type="uri_file", path=site + "/titanic.csv"))
running = {
    "mount": submit(path=site + "/titanic.csv", line="cat ${{inputs.data}}; echo x >> ${{inputs.data}} || echo it is read-only; basename ${{inputs.data}}"),
    "copy": submit(path=site + "/titanic.csv", mode="download", line="echo more >> ${{inputs.data}}; cat ${{inputs.data}}"),
    "asset": submit(path="azureml:titanic:1"),
    "direct": submit(path=site + "/titanic.csv", mode="direct", line="echo ${{inputs.data}}"),
}
lonely = [submit(path=site + "/nothing.csv"), submit(path=site.replace("127.0.0.1", "[::1]") + "/titanic.csv")]
said = {how: log(job) for how, job in running.items()}
assert said["mount"].startswith("survived,age\n1,38\n") and said["mount"].endswith("it is read-only\ntitanic.csv\n"), said["mount"]
assert said["copy"] == "survived,age\n1,38\nmore\n", said["copy"]
assert said["asset"] == "survived,age\n1,38\n", said["asset"]
assert said["direct"] == site + "/titanic.csv\n", said["direct"]

# What is not there, and an address that is nobody's business.
for job, word in zip(lonely, ["404", "not public"]):
    try:
        ml.jobs.stream(job.name)
        raise SystemExit(f"{job.name} did not fail")
    except Exception as error:
        assert word in str(error) and "data" in str(error), error

# What no node could do is refused at once.
for more, word in [({"type": "uri_folder"}, "uri_file"), ({"mode": "rw_mount"}, "ReadOnlyMount")]:
    try:
        submit(path=site + "/titanic.csv", **more)
        raise SystemExit(f"{more} is taken")
    except HttpResponseError as error:
        assert word in error.message, error
