"""A compute instance's life: create, run on it, restart, stop, start, delete."""
from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import ComputeInstance, ComputeTarget
from azureml.exceptions import ComputeTargetException

ws = Workspace.from_config()
config = ComputeInstance.provisioning_configuration(vm_size="STANDARD_DS3_V2", tags={"who": "me"})
ci = ComputeTarget.create(ws, "ci1", config)
ci.wait_for_completion(show_output=True)
status = ci.get_status()
print(status.serialize())
assert status.state == "Running", status.state
assert not status.errors and status.created_by_user_id, status.serialize()
assert ci.vm_size == "STANDARD_DS3_V2" and ci.tags == {"who": "me"}
assert ci.applications == [], ci.applications

try:
    ComputeTarget.create(ws, "ci1", config)
    raise AssertionError("a name that is taken was taken again")
except ComputeTargetException as e:
    assert "AlreadyExists" in e.message, e.message

env = Environment("plain")
env.python.user_managed_dependencies = True
run = Experiment(ws, "on-an-instance").submit(ScriptRunConfig(source_directory=None, command=["echo", "hello"], compute_target=ci, environment=env))
run.wait_for_completion()
assert run.get_status() == "Completed", run.get_details()

ci.restart(wait_for_completion=True)
assert ci.get_status().state == "Running"
ci.stop(wait_for_completion=True, show_output=True)
assert ci.get_status().state == "Stopped"
ci.update_sso_settings(True)
ci.start(wait_for_completion=True)
assert ci.get_status().state == "Running"
assert [c.type for c in ComputeTarget.list(ws)] == ["ComputeInstance"]
ci.delete(wait_for_completion=True)
assert list(ws.compute_targets) == []
