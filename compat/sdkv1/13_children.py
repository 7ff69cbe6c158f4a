"""Runs under runs, and every kind of metric."""
import pathlib

from azureml.core import Experiment, Run, Workspace

ws = Workspace.from_config()
experiment = Experiment(ws, "children")
pathlib.Path("code").mkdir()
pathlib.Path("code/a.py").write_text("print('a')\n")
with experiment.start_logging(snapshot_directory="code", display_name="the parent") as parent:
    kids = parent.create_children(tag_key="fold", tag_values=["a", "b", "c"])
    for i, kid in enumerate(kids):
        kid.log("score", i)
        kid.complete()
    with parent.child_run("named") as named:
        named.log("score", 9)
        with named.child_run("deeper") as deeper:
            deeper.log("depth", 2)
assert parent.get_status() == "Completed" and parent.get_snapshot_id(), parent.get_details()
children = list(parent.get_children())
assert {k.id for k in children} == {k.id for k in kids} | {named.id}, children
assert {k.id for k in parent.get_children(recursive=True)} == {k.id for k in kids} | {named.id, deeper.id}
assert [k.id for k in parent.get_children(tags={"fold": "b"})] == [kids[1].id]
assert [k.get_metrics()["score"] for k in kids] == [0, 1, 2]
assert deeper.parent.id == named.id and named.parent.id == parent.id and parent.parent is None
assert named.name.endswith("named"), named.name
assert Run.get(ws, parent.id).display_name == "the parent"
every = parent.get_metrics(recursive=True)
assert every[deeper.id] == {"depth": 2} and every[kids[2].id] == {"score": 2}, every
assert [r.id for r in experiment.get_runs()] == [parent.id]
assert {r.id for r in experiment.get_runs(include_children=True)} == {parent.id, named.id, deeper.id} | {k.id for k in kids}

run = experiment.start_logging(snapshot_directory=None)
run.log_table("table", {"x": [1, 2], "y": [3.5, 4]})
run.log_confusion_matrix(
    "confusion", {"schema_type": "confusion_matrix", "schema_version": "v1", "data": {"class_labels": ["a", "b"], "matrix": [[3, 1], [0, 2]]}}
)
for step in range(3):
    run.log("stepped", step * 2, step=step)
run.log("word", "a text")
run.log("yes", True)
pathlib.Path("plot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
run.log_image("image", path="./plot.png")
for i in range(300):
    run.log("many", i)
run.complete()
metrics = run.get_metrics()
assert metrics["table"] == {"x": [1, 2], "y": [3.5, 4]}, metrics["table"]
assert metrics["stepped"] == [0, 2, 4] and metrics["word"] == "a text" and metrics["yes"] in (True, "True"), metrics
assert metrics["many"] == list(range(300)), len(metrics["many"])
assert "plot.png" in run.get_file_names() and "plot.png" in str(metrics["image"]), metrics
assert any("confusion" in name for name in metrics), metrics.keys()
experiment.set_tags({"about": "children"})
assert Experiment(ws, "children").tags == {"about": "children"}
assert [e.name for e in Experiment.list(ws)] == ["children"]
