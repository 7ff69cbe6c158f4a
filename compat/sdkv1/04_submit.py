"""Submit a script, stream it, and everything one can ask of the run afterwards."""
import contextlib
import io
import os
import pathlib

from azureml.exceptions import UserErrorException
from azureml.core import Environment, Experiment, Run, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=2))
cluster.wait_for_completion()

src = pathlib.Path("src")
(src / "pkg").mkdir(parents=True)
(src / "pkg" / "__init__.py").write_text("WORD = 'imported'\n")
(src / "train.py").write_text(
    "import os, pathlib, sys, time\n"
    "from pkg import WORD\n"
    "print('hello', WORD, sys.argv[1:], os.environ['COLOR'], flush=True)\n"
    "print('to stderr', file=sys.stderr, flush=True)\n"
    "for i in range(5):\n"
    "    print('step', i, flush=True)\n"
    "    time.sleep(0.3)\n"
    "pathlib.Path('outputs').mkdir(exist_ok=True)\n"
    "pathlib.Path('outputs/model.txt').write_text('the model')\n"
    "pathlib.Path('outputs/deep').mkdir()\n"
    "pathlib.Path('outputs/deep/b.txt').write_text('b')\n"
)
env = Environment("plain")
env.python.user_managed_dependencies = True
env.environment_variables = {"COLOR": "green"}
config = ScriptRunConfig(
    source_directory=str(src), script="train.py", arguments=["--lr", 0.1, "--name", "a b"], compute_target=cluster, environment=env
)
experiment = Experiment(ws, "submit")
run = experiment.submit(config, tags={"kind": "first"})

out = io.StringIO()
with contextlib.redirect_stdout(out):
    run.wait_for_completion(show_output=True)
text = out.getvalue()
assert "hello imported ['--lr', '0.1', '--name', 'a b'] green" in text, text
assert "to stderr" in text and all(f"step {i}\n" in text for i in range(5)), text
assert text.count("step 4\n") == 1, text

assert run.get_status() == "Completed"
details = run.get_details()
assert details["target"] == "cpu" and details["startTimeUtc"] and details["endTimeUtc"], details
assert details["runDefinition"]["script"] == "train.py", details
assert "user_logs/std_log.txt" in details["logFiles"], details["logFiles"]
assert run.get_tags() == {"kind": "first"}, run.get_tags()

names = run.get_file_names()
assert {"outputs/model.txt", "outputs/deep/b.txt", "user_logs/std_log.txt"} <= set(names), names
run.download_file("outputs/model.txt", "model.txt")
assert pathlib.Path("model.txt").read_text() == "the model"
run.download_file("user_logs/std_log.txt", "log.txt")
assert "step 4" in pathlib.Path("log.txt").read_text()

run.tag("quality", "good")
run.set_tags({"n": "1"})
assert run.get_tags() == {"kind": "first", "quality": "good", "n": "1"}, run.get_tags()
run.remove_tags(["n"])
assert "n" not in run.get_tags()
run.add_properties({"p": "1"})
assert run.get_properties()["p"] == "1"

run.log("loss", 0.5)
run.log("loss", 0.25)
run.log_list("list", [1, 2, 3])
run.log_row("row", x=1, y=2)
run.flush()
metrics = run.get_metrics()
assert metrics["loss"] == [0.5, 0.25], metrics
assert metrics["list"] == [1, 2, 3], metrics
assert metrics["row"] == {"x": 1, "y": 2}, metrics
assert run.get_metrics(name="list") == {"list": [1, 2, 3]}

pathlib.Path("up.txt").write_text("from outside")
run.upload_file("extra/up.txt", "up.txt")
run.download_file("extra/up.txt", "back.txt")
assert pathlib.Path("back.txt").read_text() == "from outside"

pathlib.Path("folder/inner").mkdir(parents=True)
pathlib.Path("folder/x.txt").write_text("x")
pathlib.Path("folder/inner/y.bin").write_bytes(bytes(range(256)) * 64)
run.upload_folder("kept", "folder")
run.upload_files(names=["two/1.txt", "two/2.txt"], paths=["up.txt", "up.txt"])
assert {"kept/x.txt", "kept/inner/y.bin", "two/1.txt", "two/2.txt", "extra/up.txt"} <= set(run.get_file_names()), run.get_file_names()
run.download_files(prefix="kept", output_directory="got")
assert pathlib.Path("got/kept/inner/y.bin").read_bytes() == bytes(range(256)) * 64
assert sorted(p.name for p in pathlib.Path("got").rglob("*") if p.is_file()) == ["x.txt", "y.bin"]
run.download_files(prefix="outputs", output_directory="flat", append_prefix=False)
assert pathlib.Path("flat/deep/b.txt").read_text() == "b", list(pathlib.Path("flat").rglob("*"))
try:
    run.download_file("no/such.txt", "none.txt")
    raise AssertionError("a file that is not there was downloaded")
except UserErrorException as error:
    assert "no/such.txt" in str(error), error

detailed = run.get_detailed_status()
assert detailed["status"] == "Completed", detailed
assert run.get_environment().name == "plain", run.get_environment()
assert run.get_environment().environment_variables == {"COLOR": "green"}, run.get_environment()
logs = run.get_all_logs(destination="logs")
assert any(name.endswith("std_log.txt") for name in logs), logs
assert any("step 4" in text for text in run.get_details_with_logs()["logFiles"].values())
assert run.get_properties()["ContentSnapshotId"] == run.get_snapshot_id(), run.get_properties()
run.display_name = "my run"
run.description = "what it was for"
again = Run.get(ws, run.id)
assert (again.display_name, again.description) == ("my run", "what it was for"), (again.display_name, again.description)
assert again.experiment.name == "submit" and again.type == "azureml.scriptrun", again.type

# A command instead of a script; nothing changed, so no code travels again.
config = ScriptRunConfig(
    source_directory=str(src), max_run_duration_seconds=600, command=["echo", "by", "command", "&&", "ls", "pkg"], compute_target=cluster, environment=env
)
second = experiment.submit(config)
second.wait_for_completion()
assert second.get_status() == "Completed", second.get_details()
second.download_file("user_logs/std_log.txt", "second.txt")
assert "by command" in pathlib.Path("second.txt").read_text() and "__init__.py" in pathlib.Path("second.txt").read_text()
assert second.number == run.number + 1, (run.number, second.number)

# A changed file goes alone; the rest is taken from the snapshot before.
(src / "pkg" / "__init__.py").write_text("WORD = 'changed'\n")
third = experiment.submit(
    ScriptRunConfig(source_directory=str(src), script="train.py", arguments=[], compute_target=cluster, environment=env)
)
third.wait_for_completion()
third.download_file("user_logs/std_log.txt", "third.txt")
assert "hello changed" in pathlib.Path("third.txt").read_text()

assert [r.id for r in experiment.get_runs()] == [third.id, second.id, run.id]
assert [r.id for r in experiment.get_runs(tags={"quality": "good"})] == [run.id]
assert [r.id for r in experiment.get_runs(properties={"p": "1"})] == [run.id]
assert [r.id for r in Run.list(experiment, status="Completed")] == [third.id, second.id, run.id]
assert [r.id for r in Run.list(experiment, status="Failed")] == []
assert [r.id for r in Run.list(experiment, status="Completed", tags="quality", type="azureml.scriptrun")] == [run.id]
assert [r.id for r in experiment.get_runs(type="no such type")] == []
assert Run.get(ws, run.id).get_status() == "Completed"
assert ws.get_run(run.id).id == run.id
assert "submit" in ws.experiments

run.restore_snapshot(path="restored")
assert any(p.name == "train.py" for p in pathlib.Path("restored").rglob("*") if p.is_file()) or list(pathlib.Path("restored").glob("*.zip"))
