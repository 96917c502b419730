"""The scheduler with real informers on a client over dicts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest_asyncio

from kubelite.client.informers import Informers
from kubelite.meta.errors import ServiceUnavailable
from kubelite.meta.types import Obj
from kubelite.scheduler.scheduler import Scheduler
from tests.scheduler.objects import Cluster, node, pod


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Rig:
    def __init__(self, cluster: Cluster, scheduler: Scheduler, clock: Clock) -> None:
        self.cluster, self.scheduler, self.clock = cluster, scheduler, clock

    def events(self, reason: str) -> list[str]:
        return [event["message"] for event in self.cluster.events if event["reason"] == reason]

    async def events_of(self, reason: str, count: int = 1) -> list[str]:
        await self.cluster.wait_for(lambda: len(self.events(reason)) >= count)
        return self.events(reason)

    async def bound(self, name: str) -> str:
        await self.cluster.wait_for(lambda: self.cluster.node_of(name))
        return self.cluster.node_of(name)

    def condition(self, name: str) -> Obj | None:
        status = self.cluster.objects["pods"]["default", name].get("status") or {}
        return next((c for c in status.get("conditions") or () if c["type"] == "PodScheduled"), None)

    async def settle(self) -> None:
        """Lets everything that is under way come to its end."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        """The queue's time goes on; whoever waits for it looks at the clock again."""
        self.clock.now += seconds
        self.scheduler.queue._filled.set()
        await self.settle()


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    cluster, clock = Cluster(), Clock()
    informers = Informers(cluster)  # type: ignore[arg-type]
    scheduler = Scheduler(cluster, informers, clock=clock)  # type: ignore[arg-type]
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
    await scheduler.ready.wait()
    yield Rig(cluster, scheduler, clock)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_pod_is_bound_and_an_event_says_where(rig: Rig) -> None:
    rig.cluster.put("nodes", node("n1"))
    rig.cluster.put("pods", pod("web"))
    assert await rig.bound("web") == "n1"
    assert await rig.events_of("Scheduled") == ["Successfully assigned default/web to n1"]
    await rig.settle()
    assert rig.scheduler.statistics()["scheduled"] == 1
    assert rig.scheduler.statistics()["assumed"] == 0
    assert len(rig.scheduler.queue) == 0


async def test_many_pods_are_bound_without_overfilling_nodes(rig: Rig) -> None:
    for i in range(10):
        rig.cluster.put("nodes", node(f"n{i}", cpu="2", pods="20"))
    for i in range(200):
        rig.cluster.put("pods", pod(f"p{i}", cpu="100m"))
    await rig.cluster.wait_for(lambda: len(rig.cluster.bindings) == 200)
    per_node = {name: sum(target == name for _, target in rig.cluster.bindings) for name in (f"n{i}" for i in range(10))}
    assert set(per_node.values()) == {20}


async def test_an_unschedulable_pod_says_why_once_and_is_placed_when_a_node_comes(rig: Rig) -> None:
    rig.cluster.put("nodes", node("small", cpu="1"))
    rig.cluster.put("pods", pod("big", cpu="2", metadata={"generation": 1}))
    text = (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
        "0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
    assert await rig.events_of("FailedScheduling") == [text]
    await rig.cluster.wait_for(lambda: rig.condition("big"))
    condition = rig.condition("big")
    assert condition is not None
    assert {k: v for k, v in condition.items() if k != "lastTransitionTime"} == {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": text,
        "lastProbeTime": None,
        "observedGeneration": 1,
    }
    await rig.settle()  # its own status change is no reason to try again
    assert rig.scheduler.statistics()["unschedulable"] == 1
    rig.cluster.put("nodes", node("large", cpu="4"))
    await rig.settle()
    await rig.pass_time(1)
    assert await rig.bound("big") == "large"


async def test_a_pod_that_ends_makes_room(rig: Rig) -> None:
    rig.cluster.put("nodes", node("n1", cpu="1"))
    rig.cluster.put("pods", pod("first", cpu="1"))
    await rig.bound("first")
    rig.cluster.put("pods", pod("second", cpu="1"))
    await rig.events_of("FailedScheduling")
    first = rig.cluster.objects["pods"]["default", "first"]
    rig.cluster.put("pods", {**first, "status": {"phase": "Succeeded"}})
    await rig.settle()
    await rig.pass_time(1)
    assert await rig.bound("second") == "n1"


async def test_pods_of_other_schedulers_are_left_alone(rig: Rig) -> None:
    rig.cluster.put("nodes", node("n1"))
    other = pod("other")
    other["spec"]["schedulerName"] = "custom"
    rig.cluster.put("pods", other)
    rig.cluster.put("pods", pod("ours"))
    await rig.bound("ours")
    await rig.settle()
    assert rig.cluster.node_of("other") == ""
    assert len(rig.scheduler.queue) == 0


async def test_gated_pods_wait_for_their_gates(rig: Rig) -> None:
    rig.cluster.put("nodes", node("n1"))
    rig.cluster.put("pods", pod("gated", schedulingGates=[{"name": "quota"}]))
    rig.cluster.put("pods", pod("free"))
    await rig.bound("free")
    await rig.settle()
    assert rig.cluster.node_of("gated") == ""
    assert rig.events("FailedScheduling") == []
    rig.cluster.put("pods", pod("gated"))
    assert await rig.bound("gated") == "n1"


async def test_a_binding_that_fails_is_tried_again_after_the_back_off(rig: Rig) -> None:
    rig.cluster.binding_failures.append(ServiceUnavailable("the store is not writable"))
    rig.cluster.put("nodes", node("n1", cpu="1"))
    rig.cluster.put("pods", pod("web", cpu="1"))
    assert await rig.events_of("FailedScheduling") == ["binding rejected: the store is not writable"]
    await rig.settle()
    assert rig.scheduler.statistics()["pods"] == 0  # its room is free again
    await rig.pass_time(1)
    assert await rig.bound("web") == "n1"


async def test_a_pod_that_another_bound_is_not_tried_again(rig: Rig) -> None:
    rig.cluster.put("pods", pod("web"))
    await rig.events_of("FailedScheduling")
    stolen = pod("web", nodeName="elsewhere")
    rig.cluster.put("pods", stolen)
    await rig.settle()
    assert len(rig.scheduler.queue) == 0
    rig.cluster.put("nodes", node("n1"))
    await rig.pass_time(60)
    assert rig.cluster.bindings == []


async def test_a_more_important_pod_takes_the_place_of_a_lesser_one(rig: Rig) -> None:
    rig.cluster.put("nodes", node("n1", cpu="1"))
    rig.cluster.put("pods", pod("low", cpu="1"))
    await rig.bound("low")
    await rig.settle()
    rig.cluster.put("pods", pod("high", cpu="1", priority=100))
    await rig.cluster.wait_for(lambda: ("default", "low") not in rig.cluster.objects["pods"])
    assert await rig.events_of("Preempted") == ["Preempted by pod uid-default-high on node n1"]
    pods = rig.cluster.objects["pods"]
    await rig.cluster.wait_for(lambda: (pods["default", "high"].get("status") or {}).get("nominatedNodeName") == "n1")
    # Room that was made for it is kept for it.
    rig.cluster.put("pods", pod("late", cpu="1"))
    await rig.settle()
    assert rig.cluster.node_of("late") == ""
    await rig.pass_time(1)
    assert await rig.bound("high") == "n1"
    assert rig.scheduler.statistics()["nominated"] == 0
    assert rig.cluster.node_of("late") == ""


async def test_deleting_a_waiting_pod_forgets_it(rig: Rig) -> None:
    rig.cluster.put("pods", pod("web"))
    await rig.events_of("FailedScheduling")
    rig.cluster.remove("pods", "web", "default")
    await rig.settle()
    assert len(rig.scheduler.queue) == 0


async def test_what_runs_already_counts_from_the_start(rig: Rig) -> None:
    rig.cluster.put("pods", pod("old", cpu="1", nodeName="n1"))  # seen before its node
    rig.cluster.put("nodes", node("n1", cpu="1"))
    rig.cluster.put("pods", pod("new", cpu="1"))
    assert "1 Insufficient cpu" in (await rig.events_of("FailedScheduling"))[0]


async def test_a_pod_is_bound_after_its_waiting_claim_has_its_volume(rig: Rig) -> None:
    meta = {"name": "data", "namespace": "default"}
    claim = {"metadata": meta, "spec": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}, "status": {}}
    storage_class = {"metadata": {"name": "fast"}, "provisioner": "example.com/fast"}
    rig.cluster.put("storageclasses.storage.k8s.io", {**storage_class, "volumeBindingMode": "WaitForFirstConsumer"})
    rig.cluster.put("persistentvolumeclaims", claim)
    rig.cluster.put("nodes", node("n1"))
    rig.cluster.put("pods", pod("web", volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]))
    claims = rig.cluster.objects["persistentvolumeclaims"]
    selected = "volume.kubernetes.io/selected-node"
    await rig.cluster.wait_for(lambda: selected in (claims["default", "data"]["metadata"].get("annotations") or {}))
    assert claims["default", "data"]["metadata"]["annotations"][selected] == "n1"
    await rig.settle()
    assert rig.cluster.node_of("web") == ""
    chosen = claims["default", "data"]
    meta = {**chosen["metadata"], "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    rig.cluster.put("persistentvolumeclaims", {**chosen, "metadata": meta, "spec": {**chosen["spec"], "volumeName": "v1"}})
    assert await rig.bound("web") == "n1"


async def test_a_scheduler_that_runs_again_knows_what_happened_meanwhile() -> None:
    cluster = Cluster()
    informers = Informers(cluster)  # type: ignore[arg-type]
    scheduler = Scheduler(cluster, informers)  # type: ignore[arg-type]
    following = asyncio.create_task(informers.run())
    cluster.put("nodes", node("n1", cpu="1"))
    for name in ("first", "second"):
        running = asyncio.create_task(scheduler.run())
        await scheduler.ready.wait()
        cluster.put("pods", pod(name, cpu="1"))
        await cluster.wait_for(lambda name=name: cluster.node_of(name) == "n1")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        cluster.remove("pods", name, "default")
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
