"""Code that travelled once is not sent again, over restarts of the server: called as first, second, third."""
import hashlib
import pathlib
import random
import sys

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

step = sys.argv[1]
ws = Workspace.from_config()
src = pathlib.Path("src")
if step == "first":
    cluster = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
    cluster.wait_for_completion()
    (src / "data").mkdir(parents=True)
    (src / "data" / "big.bin").write_bytes(random.Random(1).randbytes(70 << 20))  # over 64 MiB: it goes in blocks
    (src / "data" / "words.txt").write_text("the first words")
    (src / "show.py").write_text(
        "import hashlib\n"
        "print('big', hashlib.sha256(open('data/big.bin', 'rb').read()).hexdigest())\n"
        "print('words', open('data/words.txt').read())\n"
    )
elif step == "second":
    (src / "data" / "words.txt").write_text("the second words")
env = Environment("plain")
env.python.user_managed_dependencies = True
run = Experiment(ws, "snapshots").submit(
    ScriptRunConfig(source_directory=str(src), script="show.py", compute_target="cpu", environment=env)
)
run.wait_for_completion()
run.download_file("user_logs/std_log.txt", f"{step}.txt")
text = pathlib.Path(f"{step}.txt").read_text()
big = hashlib.sha256((src / "data" / "big.bin").read_bytes()).hexdigest()
words = (src / "data" / "words.txt").read_text()
assert f"big {big}\n" in text and f"words {words}\n" in text, text
assert len(list(Experiment(ws, "snapshots").get_runs())) == {"first": 1, "second": 2, "third": 3}[step]
