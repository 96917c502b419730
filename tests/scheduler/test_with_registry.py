"""The scheduler on the real registry and store: what it writes is what the API takes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from kubelite.api.loopback import LoopbackClient
from kubelite.client.informers import Informer, Informers
from kubelite.meta.types import Obj
from kubelite.registry.contract import AllowAll, Attributes
from kubelite.registry.registry import Registry
from kubelite.scheduler.scheduler import Scheduler
from kubelite.schema import builtin
from kubelite.store.sqlite import SqliteStore
from tests.scheduler import objects, scenario

pytestmark = pytest.mark.slow


class Priorities(AllowAll):
    """The one thing of admission that the scenario needs."""

    async def mutate(self, attributes: Attributes) -> Obj | None:
        obj = attributes.obj
        if obj and attributes.target.kind.kind == "Pod" and (obj.get("spec") or {}).get("priorityClassName"):
            return {**obj, "spec": {**obj["spec"], "priority": scenario.PRIORITY}}
        return obj


class Server:
    def __init__(self, client: LoopbackClient, pods: Informer, events: Informer) -> None:
        self.client, self.pods, self.events = client, pods, events

    async def create_node(self, name: str, cpu: str = "4") -> None:
        node = {"apiVersion": "v1", "kind": "Node", **objects.node(name, cpu=cpu)}
        node["status"]["capacity"] = node["status"]["allocatable"]
        await self.client.create("nodes", node)

    async def create_pod(self, name: str, **more: object) -> None:
        pod = {"apiVersion": "v1", "kind": "Pod", **objects.pod(name, **more)}  # type: ignore[arg-type]
        await self.client.create("pods", pod)

    async def until(self, informer: Informer, test: Callable[[Obj], object]) -> Obj:
        """The first object for which the test holds, now or later."""
        found: asyncio.Future[Obj] = asyncio.get_running_loop().create_future()

        def changed(_: Obj | None, obj: Obj | None) -> None:
            if obj is not None and not found.done() and test(obj):
                found.set_result(obj)

        unsubscribe = informer.subscribe(changed)
        try:
            async with asyncio.timeout(30):
                return await found
        finally:
            unsubscribe()


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    store, kinds = SqliteStore(tmp_path / "store.db"), builtin.kinds()
    await store.start()
    registry = Registry(store, kinds, Priorities())
    await registry.start()
    client = LoopbackClient(registry, kinds)
    informers = Informers(client)
    scheduler = Scheduler(client, informers)
    pods, events = informers.of("pods"), informers.of("events")
    await client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
    await informers.wait_synced()
    await scheduler.ready.wait()
    yield Server(client, pods, events)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await registry.stop()
    await store.stop()


async def test_a_bound_pod_has_its_node_its_condition_and_its_event(server: Server) -> None:
    await server.create_node("n1")
    await server.create_pod("web", cpu="100m")
    pod = await server.until(server.pods, lambda p: p["spec"].get("nodeName"))
    assert pod["spec"]["nodeName"] == "n1"
    (condition,) = [c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert condition["status"] == "True"
    event = await server.until(server.events, lambda e: e["reason"] == "Scheduled")
    assert event["message"] == "Successfully assigned default/web to n1"
    assert (event["type"], event["source"]["component"]) == ("Normal", "default-scheduler")


async def test_why_a_pod_waits_is_in_its_condition(server: Server) -> None:
    await server.create_node("n1", cpu="1")
    await server.create_pod("big", cpu="2")
    pod = await server.until(server.pods, lambda p: (p.get("status") or {}).get("conditions"))
    (condition,) = pod["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient cpu. ")
    event = await server.until(server.events, lambda e: e["reason"] == "FailedScheduling")
    assert (event["type"], event["message"]) == ("Warning", condition["message"])


async def test_preemption_marks_and_deletes_the_victim_and_nominates_the_node(server: Server) -> None:
    await server.create_node("n1", cpu="1")
    await server.create_pod("low", cpu="1")
    await server.until(server.pods, lambda p: p["spec"].get("nodeName"))
    await server.create_pod("high", cpu="1", priority=1000)
    victim = await server.until(server.pods, lambda p: p["metadata"].get("deletionTimestamp"))
    (condition,) = [c for c in victim["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert (victim["metadata"]["name"], condition["reason"]) == ("low", "PreemptionByScheduler")
    assert condition["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
    waiting = await server.until(server.pods, lambda p: (p.get("status") or {}).get("nominatedNodeName"))
    assert (waiting["metadata"]["name"], waiting["status"]["nominatedNodeName"]) == ("high", "n1")
    await server.client.delete("pods", "low", "default", grace_period_s=0)  # as its node would, once it has ended
    pod = await server.until(server.pods, lambda p: p["metadata"]["name"] == "high" and p["spec"].get("nodeName"))
    assert pod["spec"]["nodeName"] == "n1"


async def test_outcomes_and_their_texts_are_those_of_kubernetes(server: Server) -> None:
    expected = json.loads((Path(__file__).parent / "kubernetes-1.34.json").read_text())
    assert await scenario.outcomes(server.client) == expected
