"""Jobs of local code: sent once, run, streamed, listed, cancelled, put away, renamed, downloaded."""

import io
import logging
import os
import pathlib
import time
from contextlib import redirect_stdout

from azure.ai.ml import MLClient, command, dsl, load_job
from azure.ai.ml.constants import ListViewType
from azure.ai.ml.entities import AmlCompute, Environment
from azure.ai.ml.exceptions import JobException
from azure.ai.ml.sweep import Choice
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

sent = []


class Requests(logging.Handler):
    """Hears what azure-core sends: method and address of every request."""

    def emit(self, record):
        lines = record.getMessage().splitlines()
        if lines and lines[0].startswith("Request URL:"):
            sent.append((lines[1].split("'")[1], lines[0].split("'")[1]))


log = logging.getLogger("azure.core.pipeline.policies.http_logging_policy")
log.setLevel(logging.INFO)
log.addHandler(Requests())

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="cpu", size="STANDARD_D2_V2", max_instances=2, idle_time_before_scale_down=300)).result()
ml.environments.create_or_update(Environment(name="plain", image="python:3.11"))

src = pathlib.Path("src")
(src / "lib").mkdir(parents=True)
(src / "train.py").write_text(
    "import os, time, lib.words\n"
    "for i in range(4):\n    print(lib.words.greeting, i, flush=True)\n    time.sleep(float(os.environ.get('PAUSE', '0')))\n"
    "os.makedirs('outputs', exist_ok=True)\nopen('outputs/model.txt', 'w').write('the model')\n"
)
(src / "lib" / "words.py").write_text("greeting = 'hello from the code'\n")
(src / "with space.txt").write_text("x")
(src / "empty.txt").write_text("")
(src / ".amlignore").write_text("secret.txt\n")
(src / "secret.txt").write_text("not sent")


def submit(line="python train.py", code="./src", **more):
    return ml.jobs.create_or_update(command(**{"code": code, "command": line, "environment": "plain@latest", "compute": "cpu", **more}))


def stream(name):
    out = io.StringIO()
    with redirect_stdout(out):
        ml.jobs.stream(name)
    return out.getvalue()


def uploads():
    return [u for m, u in sent if m == "PUT" and "/snapshots-" in u]


# Code is sent once, whatever job it is of; the log comes while the job runs.
first = submit(environment_variables={"PAUSE": "1"}, display_name="The first", experiment_name="trials", tags={"team": "a"}, description="of many")
assert (first.display_name, first.experiment_name, first.tags, first.description) == ("The first", "trials", {"team": "a"}, "of many"), first
text = stream(first.name)
assert text.count("hello from the code") == 4 and "Streaming user_logs/std_log.txt" in text, text
assert ml.jobs.get(first.name).status == "Completed"
n = len(uploads())
assert n >= 5, uploads()
second = submit("ls | sort | tr '\\n' ' '; python train.py")
assert len(uploads()) == n, "the same code was sent again"
text = stream(second.name)
assert "empty.txt lib train.py with space.txt" in text and "secret" not in text, text
assert second.name != first.name and ml.jobs.get(second.name).experiment_name == os.path.basename(os.getcwd()), second.experiment_name
assert ml.jobs.get(first.name).code == ml.jobs.get(second.name).code != None
# The log of a job that is over is there, too.
assert stream(first.name).count("hello from the code") == 4

# One file as code; one of 70 MB, which goes in blocks; none at all; an environment of its own.
(src / "big.bin").write_bytes(os.urandom(1 << 20) * 70)
n = len(uploads())
big = submit("python -c \"import os; print(os.path.getsize('big.bin'))\"", environment=Environment(image="python:3.11"))
assert sum("blockid=" in u for u in uploads()[n:]) >= 17, "70 MB did not come in blocks"
alone = submit("python words.py && ls", code="./src/lib/words.py")
none = submit("echo no code", code=None)
assert f"{70 << 20}\n" in stream(big.name)
assert "words.py" in stream(alone.name)
assert "no code" in stream(none.name)
(src / "big.bin").unlink()

# A job that fails says why; one that is asked to end does.
bad = submit("echo before; exit 3")
try:
    stream(bad.name)
    raise AssertionError("a failed job raised nothing")
except JobException as e:
    assert "3" in str(e), e
assert ml.jobs.get(bad.name).status == "Failed"
long = submit("sleep 600")
ml.jobs.begin_cancel(long.name).result()
for _ in range(60):
    if ml.jobs.get(long.name).status == "Canceled":
        break
    time.sleep(0.5)
assert ml.jobs.get(long.name).status == "Canceled"
limited = command(code="./src", command="sleep 600", environment="plain@latest", compute="cpu")
limited.set_limits(timeout=2)
limited = ml.jobs.create_or_update(limited)
assert "longer than its limit" in stream(limited.name), "the stream says why it ended"
assert ml.jobs.get(limited.name).status == "Canceled", "a job is cancelled after its time"

# Lists: all of them, the active ones, those of a tag.
names = [first.name, second.name, big.name, alone.name, none.name, bad.name, long.name, limited.name]
assert [j.name for j in ml.jobs.list()] == names[::-1]

ml.jobs.archive(second.name)
assert second.name not in [j.name for j in ml.jobs.list()]
assert [j.name for j in ml.jobs.list(list_view_type=ListViewType.ARCHIVED_ONLY)] == [second.name]
assert len(list(ml.jobs.list(list_view_type=ListViewType.ALL))) == len(names)
ml.jobs.restore(second.name)
assert second.name in [j.name for j in ml.jobs.list()]
tagged = [j.name for j in ml.jobs.list(tag="team=a")]
assert tagged == [first.name], tagged

# An update changes what may change.
job = ml.jobs.get(first.name)
job.display_name, job.tags, job.description = "Renamed", {"team": "b", "new": "1"}, "other words"
ml.jobs.create_or_update(job)
job = ml.jobs.get(first.name)
assert (job.display_name, job.tags, job.description) == ("Renamed", {"team": "b", "new": "1"}, "other words"), job

# Downloads: logs and what the job left in outputs.
ml.jobs.download(first.name, download_path="down")
found = {str(p.relative_to("down/artifacts")): p.read_text() for p in pathlib.Path("down/artifacts").rglob("*") if p.is_file()}
assert found.get("outputs/model.txt") == "the model", found.keys()
assert found["user_logs/std_log.txt"].count("hello from the code") == 4, found

# YAML, as in Microsoft's schema.
pathlib.Path("job.yml").write_text(
    "$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json\n"
    "command: echo from YAML\ncode: src\nenvironment: azureml:plain@latest\ncompute: azureml:cpu\ndisplay_name: yaml\nexperiment_name: yaml\n"
)
yaml = ml.jobs.create_or_update(load_job("job.yml"))
assert "from YAML" in stream(yaml.name)

# Mistakes are named, and what is not built.
trial = command(command="echo ${{inputs.x}}", inputs={"x": 1}, environment="plain@latest", compute="cpu")


def sweep():
    job = trial(x=Choice([1, 2])).sweep(compute="cpu", sampling_algorithm="random", primary_metric="m", goal="maximize")
    job.set_limits(max_total_trials=2)
    return ml.jobs.create_or_update(job)


@dsl.pipeline(compute="cpu")
def steps():
    trial(x=2)


for words, make in {
    "nope": lambda: submit(compute="nope"),
    "missing": lambda: submit(environment="missing:9"),
    "5 nodes": lambda: submit(instance_count=5),
    "Jobs of type Sweep": sweep,
    "Jobs of type Pipeline": lambda: ml.jobs.create_or_update(steps()),
    "Online endpoints": lambda: list(ml.online_endpoints.list()),
    "Batch endpoints": lambda: list(ml.batch_endpoints.list()),
    "Schedules": lambda: list(ml.schedules.list()),
    "Registries": lambda: list(ml.registries.list()),
}.items():
    try:
        make()
        raise AssertionError(f"nothing was raised for {words}")
    except HttpResponseError as e:
        assert e.status_code < 500 and words in str(e), e
try:
    ml.jobs.get("nope")
    raise AssertionError("a job that is not there was found")
except ResourceNotFoundError as e:
    assert "nope" in str(e), e
