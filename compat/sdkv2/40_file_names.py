"""Files whose names a URL must escape come back whole: by download, and as what the next job reads."""

import contextlib
import io
import pathlib

from azure.ai.ml import Input, MLClient, Output, command
from azure.ai.ml.entities import AmlCompute, Data, Environment
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="cpu-cluster", size="STANDARD_D2_V2", max_instances=1)).result()

NAMES = ["a b#c%20é.txt", "100%.txt", "q?x=1&y.txt", "plus+sign/semi;colon,é.txt", "日本/ü ß.bin", "plain.txt"]


def run(code, inputs=None, outputs=None):
    src = pathlib.Path("src")
    src.mkdir(exist_ok=True)
    (src / "main.py").write_text(code)
    words = "".join(f" '${{{{inputs.{n}}}}}'" for n in inputs or {}) + "".join(f" '${{{{outputs.{n}}}}}'" for n in outputs or {})
    job = ml.jobs.create_or_update(command(code="src", command="python3 main.py" + words, environment="plain@latest", compute="cpu-cluster", inputs=inputs, outputs=outputs))
    with contextlib.redirect_stdout(io.StringIO()) as log:
        ml.jobs.stream(job.name)
    job = ml.jobs.get(job.name)
    assert job.status == "Completed", (job.status, log.getvalue())
    return job


def found(folder):
    return {str(f.relative_to(folder)): f.read_text() for f in pathlib.Path(folder).rglob("*") if f.is_file()}


ml.environments.create_or_update(Environment(name="plain", image="python:3.11", version="1"))
made = run(
    f"""
import pathlib, sys
for root in ("outputs/kept", sys.argv[1]):
    for name in {NAMES!r}:
        f = pathlib.Path(root) / name
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text(name)
""",
    outputs={"named": Output(type="uri_folder", name="odd-names")},
)
want = {n: n for n in NAMES}

ml.jobs.download(made.name, download_path="own", all=True)
own = next(p for p in pathlib.Path("own").rglob("kept") if p.is_dir())
assert found(own) == want, found(own)
assert not list(pathlib.Path("own").rglob(".opaque")), "a name that nobody gave"
named = next(p for p in pathlib.Path("own").rglob("named") if p.is_dir())
assert found(named) == want, found(named)

# An asset of the run's own files has all of them, and so has the job that reads it.
asset = ml.data.create_or_update(Data(name="own-files", type="uri_folder", path=f"azureml://jobs/{made.name}/outputs/artifacts/paths/outputs/kept/"))
check = f"""
import os, pathlib, sys
want = {NAMES!r}
for root in sys.argv[1:]:
    got = sorted(str(f.relative_to(root)) for f in pathlib.Path(root).rglob("*") if f.is_file())
    assert got == sorted(want), (root, got)
    for name in want:
        assert (pathlib.Path(root) / name).read_text() == name, name
"""
run(check, {
    "asset": Input(type="uri_folder", path=asset.id),
    "address": Input(type="uri_folder", path=f"azureml://jobs/{made.name}/outputs/artifacts/paths/outputs/kept/", mode="download"),
    "output": Input(type="uri_folder", path=f"azureml://jobs/{made.name}/outputs/named"),
})
run("import os, sys; assert open(sys.argv[1]).read() == os.path.basename(sys.argv[1])", {"one": Input(type="uri_file", path=asset.path.rstrip("/") + "/" + NAMES[0])})
