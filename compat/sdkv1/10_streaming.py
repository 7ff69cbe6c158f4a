"""Lines are shown while the job runs, each once, however many, and when it is over; and why a run waits is said."""
import contextlib
import io
import pathlib
import re
import time

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
cluster = ComputeTarget.create(ws, "one", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
cluster.wait_for_completion()
src = pathlib.Path("src")
src.mkdir()
(src / "slow.py").write_text(
    "import sys, time\n"
    "for i in range(24):\n"
    "    print('tick', i, time.time(), flush=True)\n"
    "    for j in range(200):\n"
    "        print('line', i * 200 + j, 'ünï\\rcode', flush=j % 50 == 0)\n"
    "    sys.stdout.write('half of a line ')\n"
    "    sys.stdout.flush()\n"
    "    time.sleep(0.7)\n"
    "    print('and its end', i)\n"
    "print('done')\n"
)
env = Environment("plain")
env.python.user_managed_dependencies = True
config = ScriptRunConfig(source_directory=str(src), script="slow.py", compute_target=cluster, environment=env)
first = Experiment(ws, "streaming").submit(config)
second = Experiment(ws, "streaming").submit(config)


class Screen(io.StringIO):
    """Remembers when each piece came."""

    def __init__(self):
        super().__init__()
        self.came = []

    def write(self, text):
        self.came.append((time.time(), text))
        return super().write(text)


deadline = time.time() + 60
while first.get_status() != "Running":
    assert time.time() < deadline, first.get_status()
    time.sleep(0.2)
waiting = second.get_detailed_status()
assert waiting["status"] == "Queued" and waiting["details"], waiting
print("the second waits:", waiting["details"])
active = {r.run_id: r.status for r in cluster.get_active_runs()}
assert active == {first.id: "Running", second.id: "Queued"}, active
second.cancel()

screen = Screen()
first._stream_run_output(file_handle=screen)  # what wait_for_completion(show_output=True) calls, onto a screen of ours
text = screen.getvalue()
said = {int(n): float(at) for n, at in re.findall(r"^tick (\d+) ([\d.]+)$", text, re.M)}
assert sorted(said) == list(range(24)), sorted(said)
seen = {int(m[1]): at for at, piece in screen.came if (m := re.match(r"tick (\d+) ", piece))}
assert seen[0] < said[23], ("the first line came only", seen[0] - said[0], "s after it was said")
late = sorted(seen[i] - said[i] for i in seen)
print(f"lines came after {late[0]:.1f} to {late[-1]:.1f} s")
assert len([i for i in seen if seen[i] < said[23]]) >= 5, "nearly everything came only at the end"
assert [int(n) for n in re.findall(r"^line (\d+) ünï$", text, re.M)] == list(range(4800)), "lines were lost, doubled or out of order"
assert re.findall(r"^half of a line and its end (\d+)$", text, re.M) == [str(i) for i in range(24)], text[-2000:]
assert text.count("\ndone\n") == 1
assert first.get_status() == "Completed"
deadline = time.time() + 20
while second.get_status() != "Canceled":
    assert time.time() < deadline, second.get_status()
    time.sleep(0.2)

# A job of an instant is over before anybody looks: its log is shown all the same.
(src / "short.py").write_text("print('over in no time')\n")
short = Experiment(ws, "streaming").submit(ScriptRunConfig(source_directory=str(src), script="short.py", compute_target=cluster, environment=env))
deadline = time.time() + 60
while [r.status for r in Experiment(ws, "streaming").get_runs() if r.id == short.id] != ["Completed"]:
    assert time.time() < deadline, "the short job does not end"
    time.sleep(0.2)
out = io.StringIO()
with contextlib.redirect_stdout(out):
    details = short.wait_for_completion(show_output=True)
assert "\nover in no time\n" in out.getvalue(), out.getvalue()
assert details["status"] == short.get_status() == "Completed", details
