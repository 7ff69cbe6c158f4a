"""How runs end badly: exit code and last lines, cancel, time limit, no such file."""
import pathlib
import time

from azureml._common.exceptions import AzureMLException
from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4))
cluster.wait_for_completion()
src = pathlib.Path("src")
src.mkdir()
(src / "fail.py").write_text("print('about to fail', flush=True)\nraise SystemExit(3)\n")
(src / "wait.py").write_text("import time\nprint('waiting', flush=True)\ntime.sleep(600)\n")
env = Environment("plain")
env.python.user_managed_dependencies = True


def submit(script, **more):
    return Experiment(ws, "failures").submit(
        ScriptRunConfig(source_directory=str(src), script=script, compute_target=cluster, environment=env, **more)
    )


def until(run, wanted, seconds=30):
    deadline = time.time() + seconds
    while run.get_status() != wanted:
        assert time.time() < deadline, (run.get_status(), wanted)
        time.sleep(0.2)


failing, limited, waiting = submit("fail.py"), submit("wait.py", max_run_duration_seconds=2), submit("wait.py")

try:
    failing.wait_for_completion(show_output=True)
    raise AssertionError("a failed run did not raise")
except AzureMLException as error:
    assert "3" in str(error) and "about to fail" in str(error), error
assert failing.get_status() == "Failed"
assert failing.get_details()["error"]["error"]["code"], failing.get_details()

until(waiting, "Running")
asked = time.time()
waiting.cancel()
until(waiting, "Canceled", 10)
print(f"cancelled in {time.time() - asked:.1f} s")

limited.wait_for_completion(raise_on_error=False)
assert limited.get_status() in ("Canceled", "Failed"), limited.get_status()
assert "2" in str(limited.get_details()) and "time" in str(limited.get_details()).lower()

missing = Experiment(ws, "failures").submit(
    ScriptRunConfig(source_directory=str(src), command=["python", "nowhere.py"], compute_target=cluster, environment=env)
)
missing.wait_for_completion(raise_on_error=False)
assert missing.get_status() == "Failed"
error = missing.get_details()["error"]["error"]
assert "nowhere.py" in error["message"], error
print(error["message"])
