"""Jobs are listed, streamed while they run, canceled, archived, restored, updated, deleted; what is not built is refused by name."""

import contextlib
import io
import threading
import time

import requests

from azure.ai.ml import MLClient, MpiDistribution, command
from azure.ai.ml.constants import ListViewType
from azure.ai.ml.entities import AmlCompute, Environment, JupyterLabJobService
from azure.ai.ml.sweep import Uniform
from azure.ai.ml import dsl
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

credential = DefaultAzureCredential()
ml = MLClient.from_config(credential)
ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="STANDARD_D2_V2", max_instances=2)).result()
ml.environments.create_or_update(Environment(name="plain", image="python:3.11", version="1"))


def job(line="true", **more):
    return command(command=line, environment="plain@latest", compute="cpu-cluster", **{"experiment_name": "life", **more})


def refused(what, *words):
    try:
        what()
    except (HttpResponseError, ResourceNotFoundError) as e:
        assert e.status_code < 500 and all(w in str(e) for w in words), e
    else:
        raise AssertionError(f"{words} was expected")


class Watched(io.StringIO):
    """Standard output that says when a text has come."""

    def __init__(self, wanted):
        super().__init__()
        self.wanted, self.come = wanted, threading.Event()

    def write(self, text):
        n = super().write(text)
        if self.wanted in self.getvalue():
            self.come.set()
        return n


# A job is streamed while it runs, and canceled.
long = ml.jobs.create_or_update(job("for i in $(seq 1 1000); do echo line $i; sleep 0.2; done", timeout=3600, tags={"which": "long"}))
assert long.limits.timeout == 3600, long.limits
out, failure = Watched("line 3"), []


def stream():
    try:
        ml.jobs.stream(long.name)
    except JobException as e:
        failure.append(e)


with contextlib.redirect_stdout(out):
    t = threading.Thread(target=stream)
    t.start()
    assert out.come.wait(180), out.getvalue()
    ml.jobs.begin_cancel(long.name).result()
    t.join(180)
    assert not t.is_alive()
assert ml.jobs.get(long.name).status == "Canceled"
assert out.getvalue().index("line 1\n") < out.getvalue().index("line 3") and not failure, (out.getvalue(), failure)
ml.jobs.begin_cancel(long.name).result()  # it has ended: nothing happens
assert ml.jobs.show_services(long.name) in (None, {}), ml.jobs.show_services(long.name)
try:
    ml.jobs.create_or_update(job("false", name=long.name))
    raise AssertionError("another job took the name")
except HttpResponseError as e:
    assert e.status_code == 409, e


def ended(j):
    end = time.time() + 180
    while ml.jobs.get(j.name).status not in ("Completed", "Failed", "Canceled"):
        assert time.time() < end
        time.sleep(0.3)
    return ml.jobs.get(j.name)


def names(**kw):
    return [j.name for j in ml.jobs.list(**kw)]


good = ended(ml.jobs.create_or_update(job("echo good", tags={"which": "good"}, display_name="first")))
bad = ended(ml.jobs.create_or_update(job("echo bad >&2; exit 3", experiment_name="other")))
assert (good.status, bad.status) == ("Completed", "Failed")
try:
    with contextlib.redirect_stdout(io.StringIO()):
        ml.jobs.stream(bad.name)
    raise AssertionError("a failed job streamed well")
except JobException as e:
    assert "code 3" in str(e) and "bad" in str(e), e

assert names() == [bad.name, good.name, long.name]
ml.jobs.archive(good.name)
assert names() == [bad.name, long.name] and names(list_view_type=ListViewType.ARCHIVED_ONLY) == [good.name]
assert len(names(list_view_type=ListViewType.ALL)) == 3
ml.jobs.restore(good.name)
assert len(names()) == 3
good = ml.jobs.get(good.name)
good.display_name, good.tags = "renamed", {"which": "good", "more": "1"}
again = ml.jobs.create_or_update(good)
assert (again.display_name, again.tags["more"]) == ("renamed", "1"), again
assert ml.jobs.get(good.name).display_name == "renamed"
assert list(ml.jobs.list(parent_job_name=good.name)) == []

# What the SDK has no words for: filters and pages of the list, and deletion.
ws = ml.workspaces.get()
root = f"https://management.azure.com{ws.id}/jobs"
head = {"Authorization": "Bearer " + credential.get_token("https://management.azure.com/.default").token}


def get(query):
    r = requests.get(f"{root}?api-version=2024-04-01{query}", headers=head)
    r.raise_for_status()
    return r.json()


assert [j["name"] for j in get("&tag=which=good")["value"]] == [good.name]
assert [j["name"] for j in get("&tag=which")["value"]] == [good.name, long.name]
assert get("&jobType=Sweep")["value"] == [] and len(get("&jobType=Command")["value"]) == 3
for i in range(110):  # more than a page
    body = {"properties": {"jobType": "Command", "command": "true", "computeId": f"{ws.id}/computes/cpu-cluster", "experimentName": "many"}}
    requests.put(f"{root}/many-{i}?api-version=2024-04-01", headers=head, json=body).raise_for_status()
page = get("")
assert len(page["value"]) == 100 and "nextLink" in page
assert len(names()) == 113
r = requests.delete(f"{root}/{good.name}?api-version=2024-04-01", headers=head)
assert r.status_code in (200, 202), r.text
refused(lambda: ml.jobs.get(good.name), "was not found")

# What is not built.
refused(lambda: ml.jobs.create_or_update(job(instance_count=200, distribution=MpiDistribution(process_count_per_instance=1))), "200 nodes")
refused(lambda: ml.jobs.create_or_update(job(services={"lab": JupyterLabJobService()})), "interactive services")
trial = command(command="echo ${{inputs.lr}}", environment="plain@latest", compute="cpu-cluster", inputs={"lr": 0.1})
sweep = trial(lr=Uniform(0, 1)).sweep(compute="cpu-cluster", sampling_algorithm="random", primary_metric="acc", goal="Maximize")
sweep.set_limits(max_total_trials=2, max_concurrent_trials=1, timeout=60)
refused(lambda: ml.jobs.create_or_update(sweep), "Sweep")
step = command(name="step", command="true", environment="plain@latest", compute="cpu-cluster")


@dsl.pipeline(compute="cpu-cluster")
def pipe():
    step()


refused(lambda: ml.jobs.create_or_update(pipe(), experiment_name="p"), "Pipeline")
