"""Jobs of several nodes and processes with SDK v2: MPI (C and mpi4py), PyTorch, TensorFlow; who fails is named; cancel ends all."""

import contextlib
import io
import json
import pathlib
import re
import subprocess
import time

from azure.ai.ml import MLClient, MpiDistribution, PyTorchDistribution, TensorFlowDistribution, command
from azure.ai.ml.entities import AmlCompute, Environment
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

ml = MLClient.from_config(DefaultAzureCredential())
ml.compute.begin_create_or_update(AmlCompute(name="cpu", size="STANDARD_D2_V2", min_instances=0, max_instances=3, idle_time_before_scale_down=600)).result()
ml.environments.create_or_update(Environment(name="plain", image="python:3.11", version="1"))

code = pathlib.Path("code")
code.mkdir()
(code / "ring.c").write_text(r"""
#include <mpi.h>
#include <stdio.h>
int main(int c, char **v) {
  int rank, size, token = 0, sum = 0;
  MPI_Init(&c, &v);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (rank) MPI_Recv(&token, 1, MPI_INT, rank - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  token++;
  MPI_Send(&token, 1, MPI_INT, (rank + 1) % size, 0, MPI_COMM_WORLD);
  if (!rank) MPI_Recv(&token, 1, MPI_INT, size - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  printf("rank %d of %d: token %d, sum %d\n", rank, size, token, sum);
  MPI_Finalize();
  return 0;
}
""")
subprocess.run(["mpicc", "-o", "ring", "ring.c"], cwd=code, check=True)
(code / "sum.py").write_text("""
import os, socket, sys, time
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank)
token = world.sendrecv(world.rank, dest=(world.rank + 1) % world.size, source=(world.rank - 1) % world.size)
print(f"rank {world.rank} of {world.size}: sum {total}, token {token}, local {os.environ['OMPI_COMM_WORLD_LOCAL_RANK']}", flush=True)
print("on", socket.gethostname(), os.environ["AZ_BATCH_HOST_LIST"], os.environ["AZ_BATCH_MASTER_NODE"], os.environ["AZUREML_NODE_COUNT"], flush=True)
assert socket.gethostbyname(os.environ["AZ_BATCH_NODE_ID"]) in os.environ["AZ_BATCH_HOST_LIST"].split(",") or os.getuid() == 0
if len(sys.argv) > 1:
    if world.rank == int(sys.argv[1]):
        print("this rank gives up", flush=True)
        os._exit(7)
    time.sleep(600)
""")
(code / "torch_like.py").write_text("""
# What torch.distributed does with its variables: the first process waits for the others at MASTER_ADDR.
import os, socket
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
at = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(at) as server:
        seen = {0}
        while len(seen) < world:
            conn, _ = server.accept()
            with conn:
                seen.add(int(conn.recv(16)))
    print("all of", sorted(seen), flush=True)
else:
    while True:
        try:
            with socket.create_connection(at, timeout=30) as s:
                s.sendall(str(rank).encode())
            break
        except ConnectionRefusedError:
            pass
print("rank", rank, "local", os.environ["LOCAL_RANK"], "node", os.environ["NODE_RANK"], flush=True)
""")
(code / "tf_like.py").write_text("""
# What TensorFlow does with TF_CONFIG: parameter servers serve until they are ended.
import json, os, socket, time
config = json.loads(os.environ["TF_CONFIG"])
task, cluster = config["task"], config["cluster"]
host, port = cluster[task["type"]][task["index"]].rsplit(":", 1)
print(task["type"], task["index"], "of", len(cluster["worker"]), "and", len(cluster.get("ps", [])), flush=True)
if task["type"] == "ps":
    with socket.create_server((host, int(port))) as server:
        while True:
            server.accept()[0].close()
for ps in cluster.get("ps", []):
    host, port = ps.rsplit(":", 1)
    for _ in range(3000):
        try:
            socket.create_connection((host, int(port))).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    else:
        raise SystemExit("nobody serves parameters at " + ps)
""")


def run(line, nodes, distribution, **more):
    job = command(command=line, code="./code", environment="plain@latest", compute="cpu", instance_count=nodes, distribution=distribution, **more)
    return ml.jobs.create_or_update(job, experiment_name="gang")


def stream(job):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        ml.jobs.stream(job.name)
    return out.getvalue()


def logs(job):
    ml.jobs.download(job.name, download_path=f"dl-{job.name}", all=True)
    return {p.name: p.read_text() for p in pathlib.Path(f"dl-{job.name}").rglob("std_log*.txt")}


# MPI in C: 3 nodes of 2 ranks.
job = run("./ring", 3, MpiDistribution(process_count_per_instance=2))
text = stream(job)
assert "rank 0 of 6: token 6, sum 15" in text, text
assert "rank 1" not in text, text
got = ml.jobs.get(job.name)
assert got.status == "Completed" and got.resources.instance_count == 3, got
assert got.distribution.type.lower() == "mpi" and got.distribution.process_count_per_instance == 2, got.distribution
files = logs(job)
assert sorted(files) == [f"std_log_process_{i}.txt" for i in range(6)], sorted(files)
for i in range(6):
    assert f"rank {i} of 6" in files[f"std_log_process_{i}.txt"] and "sum 15" in files[f"std_log_process_{i}.txt"], files

links = [p.read_text() for p in sorted(pathlib.Path(f"dl-{job.name}").rglob("links*.txt"))]
assert len(links) == 3 and all(" reaches " in text and "MB/s" in text for text in links), links

# The same with mpi4py, and what each rank knows of its node.
job = run("python sum.py", 3, MpiDistribution(process_count_per_instance=2))
stream(job)
files = logs(job)
hosts = set()
for i in range(6):
    text = files[f"std_log_process_{i}.txt"]
    assert f"rank {i} of 6: sum 15, token {(i - 1) % 6}, local {i % 2}" in text, text
    name, addresses, master, count = re.search(r"^on (\S+) (\S+) (\S+) (\S+)$", text, re.M).groups()
    assert len(set(addresses.split(","))) == 3 and master == addresses.split(",")[0] + ":6000" and count == "3", text
    hosts.add(name)
assert len(hosts) == 3, hosts

# One rank dies: all end, and the error names the rank, its node, its code and its last words.
job = run("python sum.py 4", 3, MpiDistribution(process_count_per_instance=2))
try:
    stream(job)
    raise AssertionError("the job must fail")
except JobException as e:
    assert "Rank 4" in str(e) and "code 7" in str(e) and "this rank gives up" in str(e), e
assert ml.jobs.get(job.name).status == "Failed"

# PyTorch: 2 nodes of 2.
job = run("python torch_like.py", 2, PyTorchDistribution(process_count_per_instance=2))
text = stream(job)
assert "all of [0, 1, 2, 3]" in text and "rank 0 local 0 node 0" in text, text
files = logs(job)
assert sorted(files) == [f"std_log_process_{i}.txt" for i in range(4)], sorted(files)
for i in range(4):
    assert f"rank {i} local {i % 2} node {i // 2}" in files[f"std_log_process_{i}.txt"], files

# TensorFlow: 2 workers, a parameter server that never ends by itself.
job = run("python tf_like.py", 2, TensorFlowDistribution(worker_count=2, parameter_server_count=1))
assert "worker 0 of 2 and 1" in stream(job)
assert ml.jobs.get(job.name).status == "Completed"
assert sorted(logs(job)) == [f"std_log_process_{i}.txt" for i in range(3)]

# Several nodes without a distribution, and several processes on one node.
job = run("echo node $AZUREML_CR_NODE_RANK of $AZUREML_NODE_COUNT", 2, None)
assert "node 0 of 2" in stream(job)
assert "node 1 of 2" in logs(job)["std_log_process_1.txt"]
job = run("./ring", 1, MpiDistribution(process_count_per_instance=4))
assert "rank 0 of 4: token 4, sum 6" in stream(job)

# Cancel ends all of them.
job = run("sleep 600", 3, PyTorchDistribution(process_count_per_instance=1))
while ml.jobs.get(job.name).status != "Running":
    time.sleep(0.1)
ml.jobs.begin_cancel(job.name).result()
while ml.jobs.get(job.name).status not in ("Canceled", "Failed", "Completed"):
    time.sleep(0.1)
assert ml.jobs.get(job.name).status == "Canceled"


def refused(nodes, distribution, *words):
    try:
        run("true", nodes, distribution)
    except HttpResponseError as e:
        assert e.status_code == 400 and all(w in str(e) for w in words), e
    else:
        raise AssertionError(f"{words} was expected")


refused(4, MpiDistribution(process_count_per_instance=1), "4 nodes", "at most 3")
refused(2, MpiDistribution(process_count_per_instance=0), "processCountPerInstance is 0")
refused(2, PyTorchDistribution(process_count_per_instance=-1), "processCountPerInstance is -1")
refused(2, TensorFlowDistribution(worker_count=1, parameter_server_count=0), "nothing to do")
try:
    ml.compute.begin_create_or_update(AmlCompute(name="large", size="STANDARD_D2_V2", max_instances=101)).result()
    raise AssertionError("101 nodes")
except HttpResponseError as e:
    assert e.status_code == 400 and "large_clusters" in str(e), e
print("ok")
