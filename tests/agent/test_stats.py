"""What a node says of the use of it."""

from pathlib import Path

import orjson

from kubelite.agent import machine
from kubelite.meta.types import Obj
from tests.agent.conftest import NODE, Cluster


async def summary(cluster: Cluster) -> Obj:
    found: Obj = orjson.loads(await cluster.nodes.stats(NODE))
    return found


async def test_a_summary_covers_the_node_its_pods_and_their_containers(cluster: Cluster) -> None:
    cluster.runtime.set(layer_bytes=1000)
    await cluster.run_pod(volumes=[{"name": "d", "emptyDir": {}}])
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    first = await summary(cluster)
    (entry,) = first["pods"]
    assert entry["podRef"] == {"name": "web", "namespace": "default", "uid": pod["metadata"]["uid"]}
    (container,) = entry["containers"]
    assert (container["name"], container["rootfs"]["usedBytes"]) == ("c", 1000)
    assert container["memory"]["workingSetBytes"] == entry["memory"]["workingSetBytes"] == 8 << 20
    assert [volume["name"] for volume in entry["volume"]] == ["d"]
    assert entry["ephemeral-storage"]["usedBytes"] >= 1000 + entry["volume"][0]["usedBytes"] + container["logs"]["usedBytes"]
    assert entry["ephemeral-storage"]["inodesUsed"] >= 2, "the volume and the log"
    node = first["node"]
    assert node["nodeName"] == NODE
    assert node["fs"]["capacityBytes"] > node["fs"]["availableBytes"] > 0
    assert node["rlimit"]["maxpid"] > node["rlimit"]["curproc"] > 1
    assert "usageNanoCores" not in container["cpu"]
    again = (await summary(cluster))["pods"][0]["containers"][0]["cpu"]
    assert again["usageCoreNanoSeconds"] >= container["cpu"]["usageCoreNanoSeconds"]
    assert 0 <= again["usageNanoCores"] <= 1_000_000_000


def test_the_machines_load_is_read_from_its_kernel() -> None:
    load = machine.load()
    assert load.cpu_ns > 0
    assert 1 < load.processes < load.processes_limit
    assert 0 < load.memory_working_set_bytes <= load.memory_used_bytes < load.memory_bytes < 1 << 50
    assert load.booted_at_s > 1_000_000_000


def test_memory_that_the_kernel_would_give_back_is_no_part_of_the_working_set(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 300\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("1000\n")
    assert machine.memory_use(tmp_path) == (1000, 700)
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    (tmp_path / "memory.stat").write_text("anon 500\nfile 400\ninactive_file 100\n")
    assert machine.memory_use(tmp_path) == (900, 800)
    used, working_set = machine.memory_use(tmp_path / "none")
    assert used == working_set > 0
