"""Runs that happen outside: start_logging, complete, fail."""
import pathlib

from azureml.core import Experiment, Workspace

ws = Workspace.from_config()
experiment = Experiment(ws, "interactive")
run = experiment.start_logging(snapshot_directory=None)
assert run.get_status() == "Running", run.get_status()
run.log("m", 1.0)
pathlib.Path("note.txt").write_text("note")
run.upload_file("note.txt", "note.txt")
run.complete()
assert run.get_status() == "Completed", run.get_status()
assert run.get_metrics() == {"m": 1.0}, run.get_metrics()
assert run.get_file_names() == ["note.txt"], run.get_file_names()

bad = experiment.start_logging(snapshot_directory=None)
bad.fail(error_details="it broke")
assert bad.get_status() == "Failed", bad.get_status()

child = experiment.start_logging(snapshot_directory=None)
kid = child.child_run("kid")
kid.complete()
child.complete()
assert [r.id for r in child.get_children()] == [kid.id]
