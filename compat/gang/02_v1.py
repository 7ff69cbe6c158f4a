"""Jobs of several nodes with SDK v1: MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration."""

import contextlib
import io
import pathlib

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.runconfig import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from azureml.exceptions import ActivityFailedException

ws = Workspace.from_config()
if "cpu" not in ws.compute_targets:
    ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=3)).wait_for_completion()
env = Environment("plain")
env.python.user_managed_dependencies = True
src = pathlib.Path("src")
src.mkdir()
(src / "mpi.py").write_text(
    "from mpi4py import MPI\n"
    "w = MPI.COMM_WORLD\n"
    "print('rank', w.rank, 'of', w.size, 'sum', w.allreduce(w.rank), flush=True)\n"
)
(src / "torch.py").write_text(
    "import os, sys\n"
    "print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], 'node', os.environ['NODE_RANK'], 'at', os.environ['MASTER_ADDR'], flush=True)\n"
    "if os.environ['RANK'] == '3' and len(sys.argv) > 1:\n"
    "    sys.exit('rank three has had enough')\n"
)
(src / "tf.py").write_text("import json, os, time\nt = json.loads(os.environ['TF_CONFIG'])\nprint(t['task'], len(t['cluster']['worker']), flush=True)\nif t['task']['type'] == 'ps':\n    time.sleep(600)\n")
experiment = Experiment(ws, "gang")


def run(script, distribution, *arguments):
    config = ScriptRunConfig(
        source_directory=str(src), script=script, arguments=list(arguments), compute_target="cpu", environment=env, distributed_job_config=distribution
    )
    job = experiment.submit(config)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        job.wait_for_completion(show_output=True, raise_on_error=False)
    return job, out.getvalue()


job, text = run("mpi.py", MpiConfiguration(process_count_per_node=2, node_count=3))
assert job.get_status() == "Completed", job.get_details()
assert "rank 0 of 6 sum 15" in text and "rank 1 of 6" not in text, text
details = job.get_details()
assert details["runDefinition"]["nodeCount"] == 3 and details["runDefinition"]["mpi"]["processCountPerNode"] == 2, details["runDefinition"]
names = sorted(n for n in details["logFiles"] if n.startswith("user_logs/"))
assert names == [f"user_logs/std_log_process_{i}.txt" for i in range(6)], names
job.download_files(prefix="user_logs", output_directory="down")
assert "rank 5 of 6 sum 15" in pathlib.Path("down/user_logs/std_log_process_5.txt").read_text()

# process_count is that of all nodes.
job, text = run("torch.py", PyTorchConfiguration(process_count=4, node_count=2))
assert job.get_status() == "Completed" and "rank 0 of 4 node 0" in text, text
job.download_files(prefix="user_logs", output_directory="torch")
assert "rank 3 of 4 node 1" in pathlib.Path("torch/user_logs/std_log_process_3.txt").read_text()

job, text = run("torch.py", PyTorchConfiguration(process_count=4, node_count=2), "--fail")
assert job.get_status() == "Failed"
error = str(job.get_details()["error"])
assert "Rank 3" in error and "code 1" in error and "rank three has had enough" in error, error

job, text = run("tf.py", TensorflowConfiguration(worker_count=2, parameter_server_count=1))
assert job.get_status() == "Completed" and "'worker', 'index': 0} 2" in text.replace('"', "'"), text

for distribution, word in [
    (PyTorchConfiguration(process_count=3, node_count=2), "evenly"),
    (MpiConfiguration(process_count_per_node=0, node_count=2), "processCountPerNode is 0"),
    (MpiConfiguration(process_count_per_node=1, node_count=4), "at most 3"),
    (MpiConfiguration(process_count_per_node=1, node_count=-1), "nodeCount is -1"),
]:
    try:
        run("mpi.py", distribution)
    except Exception as e:
        assert word in str(e) and "(400)" in str(e) or word in str(e), e
    else:
        raise AssertionError(f"{word} was expected")
print("ok")
