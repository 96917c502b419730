"""A node that runs short of memory, disk or process numbers. The machine's figures are the tests'; all else is the agent's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubelite.agent import pressure, thresholds
from kubelite.agent.machine import Disk, Load
from kubelite.agent.pressure import observe, ranked, words
from kubelite.agent.sync import PodWorker
from kubelite.agent.thresholds import Observation
from kubelite.meta.types import Obj
from tests.agent import conftest
from tests.agent.conftest import NODE, Cluster
from tests.agent.pods import container, pod

MI = 1 << 20
GI = 1 << 30
LOAD = Load(8 * GI, 2 * GI, GI, 0, 0.0, 200, 1000)
DISK = Disk(100 * GI, 50 * GI, 1000, 500)


class Figures:
    """What the machine has."""

    def __init__(self) -> None:
        self.load = LOAD
        self.disk = DISK

    def use_memory(self, *, left: int) -> None:
        self.load = replace(LOAD, memory_working_set_bytes=8 * GI - left)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Figures:
    made = Figures()
    monkeypatch.setattr("kubelite.agent.machine.load", lambda: made.load)
    monkeypatch.setattr("kubelite.agent.machine.disk", lambda _: made.disk)
    # After its first look the node's own loop rests: the tests say when one is due.
    monkeypatch.setattr(pressure, "INTERVAL_S", 3600.0)
    return made


@pytest.fixture
async def cluster(figures: Figures, tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    made.eviction_hard = thresholds.parse(f"{thresholds.DEFAULT_HARD},pid.available<10%")
    async with made:
        yield made


def test_every_signal_is_observed_but_those_that_a_file_system_does_not_count() -> None:
    found = observe(LOAD, replace(DISK, inodes=0, inodes_free=0))
    disk = Observation(50 * GI, 100 * GI)
    assert found == {
        "memory.available": Observation(7 * GI, 8 * GI),
        "nodefs.available": disk,
        "imagefs.available": disk,
        "pid.available": Observation(800, 1000),
    }
    assert observe(LOAD, DISK)["nodefs.inodesFree"] == observe(LOAD, DISK)["imagefs.inodesFree"] == Observation(500, 1000)


def worker(name: str, priority: int = 0, **requests: str) -> PodWorker:
    made = pod(container("c", resources={"requests": requests}), priority=priority)
    return cast(PodWorker, SimpleNamespace(uid=name, pod=made))


def order(resource: str, entries: dict[str, Obj], *workers: PodWorker) -> list[str]:
    return [w.uid for w in ranked(workers, resource, entries)]


def test_pods_beyond_what_they_asked_for_go_first_then_lesser_ones_then_larger_ones() -> None:
    takes = {"within": 900, "important": 900, "much": 800, "more": 900}
    entries = {name: {"memory": {"workingSetBytes": taken * MI}} for name, taken in takes.items()}
    within, important = worker("within", memory="1Gi"), worker("important", priority=1)
    much, more, unknown = worker("much"), worker("more", memory="50Mi"), worker("unknown", priority=9)
    assert order("memory", entries, within, important, much, more, unknown) == ["unknown", "more", "much", "important", "within"]
    disk = {name: {"ephemeral-storage": {"usedBytes": taken, "inodesUsed": 1000 - taken}} for name, taken in takes.items()}
    assert order("ephemeral-storage", disk, much, more) == ["more", "much"]
    assert order("inodes", disk, more, much) == ["much", "more"]


def test_of_process_numbers_priority_decides_before_how_many_a_pod_has() -> None:
    entries = {name: {"process_stats": {"process_count": count}} for name, count in (("few", 1), ("many", 9), ("high", 99))}
    assert order("pids", entries, worker("high", priority=1), worker("few"), worker("many")) == ["many", "few", "high"]


def test_who_is_evicted_learns_what_was_short_and_what_its_containers_took() -> None:
    (memory, disk, pids) = thresholds.parse("memory.available<100Mi,nodefs.available<10%,pid.available<100")
    asking = container("a", resources={"requests": {"memory": "4Mi", "ephemeral-storage": "1Mi"}})
    made = pod(asking, container("b"), resources={"requests": {"memory": "5Mi"}})
    used = [
        {"name": n, "memory": {"workingSetBytes": 3 * MI}, "rootfs": {"usedBytes": MI}, "logs": {"usedBytes": 1024}} for n in "ab"
    ]
    entry = {"memory": {"workingSetBytes": 6 * MI}, "containers": used}
    assert words(made, memory, Observation(64 * MI, GI), entry) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi. "
        "Pod web was using 6Mi, request is 5Mi, has larger consumption of memory. "
        "Container b was using 3Mi, request is 0, has larger consumption of memory. "
    )
    assert words(made, disk, Observation(3000, 10 * GI), entry) == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 3000. "
        "Container a was using 1025Ki, request is 1Mi, has larger consumption of ephemeral-storage. "
        "Container b was using 1025Ki, request is 0, has larger consumption of ephemeral-storage. "
    )
    text = "The node was low on resource: pids. Threshold quantity: 100, available: 2k. "
    assert words(made, pids, Observation(2000, 4000), entry) == text
    assert words(made, memory, Observation(64 * MI, GI), {}).endswith("available: 64Mi. ")


async def test_the_pod_that_takes_most_is_evicted_and_the_node_says_what_it_is_short_of(
    cluster: Cluster, figures: Figures
) -> None:
    asking = {"resources": {"requests": {"memory": "1Gi"}}}
    await cluster.run_pod(conftest.container(**asking), name="within", priority=0)
    await cluster.run_pod(conftest.container(), terminationGracePeriodSeconds=600)
    for name in ("within", "web"):
        await cluster.until_pod(lambda p: p["status"]["phase"] == "Running", name)
    assert await cluster.agent.pressure.check() == []
    figures.use_memory(left=64 * MI)
    (evicted,) = await cluster.agent.pressure.check()
    assert evicted.name == "default/web"
    status = (await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed"))["status"]
    text = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi. "
    text += "Container c was using 8Mi, request is 0, has larger consumption of memory. "
    assert (status["reason"], status["message"]) == ("Evicted", text)
    condition = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
    told = (condition["status"], condition["reason"], condition["message"], condition["observedGeneration"])
    assert told == ("True", "TerminationByKubelet", text, 1)

    async def events() -> bool:
        node = {"EvictionThresholdMet", "NodeHasInsufficientMemory"} <= set(await cluster.reasons(NODE))
        return node and "Evicted" in await cluster.reasons()

    await cluster.until(events, "the events")
    found = next(c for c in (await cluster.client.get("nodes", NODE))["status"]["conditions"] if c["type"] == "MemoryPressure")
    said = (found["status"], found["reason"], found["message"])
    assert said == ("True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
    within = await cluster.pod("within")
    assert within is not None and within["status"]["phase"] == "Running"


async def test_pods_go_one_after_the_other_until_there_is_enough(
    cluster: Cluster, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await cluster.run_pod(name=f"p{number}", priority=number)
        await cluster.until_pod(lambda p: p["status"]["phase"] == "Running", f"p{number}")
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load() -> Load:
        left = sum(not w.ended.is_set() for w in cluster.agent.pods.all())
        if left == 1:
            loop.call_soon_threadsafe(enough.set)
        return replace(LOAD, memory_working_set_bytes=8 * GI - 150 * MI // left)

    monkeypatch.setattr("kubelite.agent.machine.load", load)
    task = asyncio.create_task(cluster.agent.pressure.run())
    async with asyncio.timeout(30):
        await enough.wait()
    phases = {w.name: w.status["phase"] for w in cluster.agent.pods.all()}
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert phases == {"default/p0": "Failed", "default/p1": "Failed", "default/p2": "Running"}


async def test_critical_pods_stay_whatever_the_node_is_short_of(cluster: Cluster, figures: Figures) -> None:
    await cluster.run_pod(priority=2_000_000_000)
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    figures.load = replace(LOAD, processes=950)
    assert await cluster.agent.pressure.check() == []
    assert cluster.agent.context.pressure == ("PIDPressure",)


async def test_what_nobody_uses_goes_before_any_pod_does(cluster: Cluster, figures: Figures) -> None:
    await cluster.runtime.pull_image("old:1")
    for image in await cluster.runtime.list_images():
        cluster.agent.context.images.last_used_s[image.id] = 0.0
    await cluster.run_pod(conftest.container("c", "true"), name="ended", restartPolicy="Never")
    await cluster.run_pod()
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Succeeded", "ended")
    ended = cluster.agent.pods.worker("default", "ended")
    assert ended is not None
    await ended.ended.wait()
    removed = cluster.runtime.remove_image

    async def remove(reference: str) -> None:
        await removed(reference)
        figures.disk = DISK

    cluster.runtime.remove_image = remove
    figures.disk = replace(DISK, free_bytes=14 * GI)  # enough for the node, too little for images
    assert await cluster.agent.pressure.check() == []
    assert {tag for image in await cluster.runtime.list_images() for tag in image.tags} == {"docker.io/library/web:1"}
    assert [c.labels["io.kubernetes.pod.name"] for c in await cluster.runtime.list_containers()] == ["web"]
    found = await cluster.pod("ended")
    assert found is not None and found["status"]["phase"] == "Succeeded"
    assert conftest.status_of(found)["state"]["terminated"]["reason"] == "Completed"
    figures.disk = replace(DISK, inodes_free=10)
    (evicted,) = await cluster.agent.pressure.check()
    assert evicted.name == "default/web"


async def test_a_condition_outlasts_what_it_came_of_by_its_transition_period(cluster: Cluster, figures: Figures) -> None:
    context, now_s = cluster.agent.context, 1000.0
    context.now = lambda: now_s
    figures.disk = replace(DISK, free_bytes=GI)
    await cluster.agent.pressure.observe()
    figures.disk = DISK
    now_s += 299
    await cluster.agent.pressure.observe()
    assert context.pressure == ("DiskPressure",)
    assert await cluster.agent.pressure.check() == []
    now_s += 1
    await cluster.agent.pressure.observe()
    assert context.pressure == ()


async def test_a_node_under_pressure_refuses_pods(cluster: Cluster, figures: Figures) -> None:
    figures.use_memory(left=MI)
    await cluster.agent.pressure.check()
    await cluster.run_pod()
    asking: Any = {"resources": {"requests": {"memory": "1Mi"}}}
    await cluster.run_pod(conftest.container(**asking), name="asking")
    found = await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed")
    text = "Pod was rejected: The node had condition: [MemoryPressure]. "
    assert (found["status"]["reason"], found["status"]["message"]) == ("Evicted", text)
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running", "asking")
