"""A compute instance's life: made with what it may have, run on, stopped, started, restarted, changed and deleted."""

import time

from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import (
    AssignedUserConfiguration,
    ComputeInstance,
    ComputeSchedules,
    ComputeStartStopSchedule,
    CronTrigger,
    Environment,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())

made = ml.compute.begin_create_or_update(ComputeInstance(name="ci1", size="Standard_DS3_v2", idle_time_before_shutdown_minutes=30)).result()
assert (made.name, made.size, made.state) == ("ci1", "STANDARD_DS3_V2", "Running"), made
assert (made.location, made.idle_time_before_shutdown) == ("westus2", "PT30M"), made
assert {"Create", "Succeeded"} <= set(made.last_operation.values()), made.last_operation
assert not made.services, made.services

# What belongs to a person, and what is kept for later.
user = AssignedUserConfiguration(user_tenant_id="00000000-0000-0000-0000-000000000001", user_object_id="00000000-0000-0000-0000-000000000002")
evening = ComputeStartStopSchedule(trigger=CronTrigger(expression="0 18 * * *", time_zone="UTC"), action="Stop")
mine = ComputeInstance(name="ci2", size="Standard_DS3_v2", create_on_behalf_of=user, schedules=ComputeSchedules(compute_start_stop=[evening]), tags={"who": "me"})
mine = ml.compute.begin_create_or_update(mine).result()
assert mine.create_on_behalf_of.user_object_id == user.user_object_id, mine.create_on_behalf_of
assert mine.schedules.compute_start_stop[0].action == "Stop" and mine.tags == {"who": "me"}, mine.schedules

env = Environment(name="plain", image="mcr.microsoft.com/azureml/base")
job = ml.jobs.create_or_update(command(command="echo hello from an instance", environment=env, compute="ci1", experiment_name="on-an-instance"))
ml.jobs.stream(job.name)
assert ml.jobs.get(job.name).status == "Completed"

ml.compute.begin_stop("ci1").result()
assert ml.compute.get("ci1").state == "Stopped"
waits = ml.jobs.create_or_update(command(command="echo at last", environment=env, compute="ci1", experiment_name="on-an-instance"))
deadline = time.time() + 20
while "stop" not in ml.jobs.get(waits.name).properties["ebb.waits"]:  # it says why it waits
    assert time.time() < deadline, ml.jobs.get(waits.name).properties
    time.sleep(0.2)
ml.compute.begin_start("ci1").result()
deadline = time.time() + 60
while ml.jobs.get(waits.name).status != "Completed" and time.time() < deadline:
    time.sleep(0.5)
assert ml.jobs.get(waits.name).status == "Completed", ml.jobs.get(waits.name)
ml.compute.begin_restart("ci1").result()
assert ml.compute.get("ci1").state == "Running"

again = ml.compute.get("ci1")
again.idle_time_before_shutdown = "PT45M"
again.idle_time_before_shutdown_minutes = None
assert ml.compute.begin_create_or_update(again).result().idle_time_before_shutdown == "PT45M"
assert sorted(c.name for c in ml.compute.list(compute_type="ComputeInstance")) == ["ci1", "ci2"]
ml.compute.enable_sso(name="ci1", enable_sso=False)

for bad, word in (
    (ComputeInstance(name="ci3", size="Standard_Huge"), "Standard_Huge"),
    (ComputeInstance(name="ci3", size="Standard_DS3_v2", idle_time_before_shutdown_minutes=1), "PT15M"),
    (ComputeInstance(name="ci1", size="Standard_D2_v2"), "vmSize"),
):
    try:
        ml.compute.begin_create_or_update(bad).result()
        raise AssertionError(f"{bad} was made")
    except HttpResponseError as e:
        assert e.status_code == 400 and word in str(e), e

for name in ("ci1", "ci2"):
    ml.compute.begin_delete(name).result()
try:
    ml.compute.get("ci1")
    raise AssertionError("it is still there")
except ResourceNotFoundError:
    pass
