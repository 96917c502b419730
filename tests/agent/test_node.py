"""What an agent says of its node."""

from typing import Any

import pytest

from kubelite.agent import node
from kubelite.agent.context import Options
from kubelite.agent.machine import Machine
from kubelite.agent.node import Health
from kubelite.meta.types import Obj
from runtimes.interface import Condition, Handler, Image, RuntimeInfo
from tests.agent.conftest import NODE, Cluster

MACHINE = Machine(4, 8 << 30, 0, "m", "s", "boot", "6.1", "Linux", "amd64", "host", False, ())
GOOD = Health(runtime=RuntimeInfo("containerd", "1.7", (Condition("RuntimeReady", True), Condition("NetworkReady", True))))


def made(tmp_path: Any, health: Health = GOOD, images: tuple[Image, ...] = (), previous: Obj | None = None, **given: str) -> Obj:
    options = Options("n1", tmp_path, host_ips=("192.0.2.7",), reserved={"cpu": "500m"})
    capacity, allocatable = node.capacity_of(options, MACHINE, 100 << 30)
    return node.node_of(options, MACHINE, health, capacity, allocatable, images, previous, given)


def test_pods_may_have_what_is_not_reserved_and_what_others_advertise(tmp_path: Any) -> None:
    status = made(tmp_path, **{"example.com/thing": "3"})["status"]
    assert (status["capacity"]["cpu"], status["allocatable"]["cpu"]) == ("4", "3500m")
    assert status["allocatable"]["memory"] == "8092Mi"
    assert status["capacity"]["example.com/thing"] == status["allocatable"]["example.com/thing"] == "3"
    assert node.advertised({"status": status}) == {"example.com/thing": "3"}


def test_images_have_five_names_and_the_largest_come_first(tmp_path: Any) -> None:
    small = Image("a", ("small:1",), ("small@sha256:1",), 1)
    large = Image("b", tuple(f"large:{n}" for n in range(9)), ("large@sha256:2",), 2)
    found = made(tmp_path, images=(small, large))["status"]["images"]
    assert found == [
        {"names": ["large@sha256:2", "large:0", "large:1", "large:2", "large:3"], "sizeBytes": 2},
        {"names": ["small@sha256:1", "small:1"], "sizeBytes": 1},
    ]


def test_what_the_runtime_can_do_is_the_nodes(tmp_path: Any) -> None:
    handlers = (Handler(), Handler("other", recursive_readonly=True, user_namespaces=True))
    able = Health(runtime=RuntimeInfo("r", "1", (), handlers, strict_groups=True))
    status = made(tmp_path, able)["status"]
    assert status["features"] == {"supplementalGroupsPolicy": True}
    assert [h["features"]["recursiveReadOnlyMounts"] for h in status["runtimeHandlers"]] == [False, True]


def test_changes_of_conditions_are_told_and_the_first_state_but_for_readiness(tmp_path: Any) -> None:
    first = made(tmp_path)
    assert node.transitions(None, first) == ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]
    assert node.transitions(first, first) == []
    worse = made(tmp_path, Health(("MemoryPressure", "DiskPressure"), "gone"), previous=first)
    assert node.transitions(first, worse) == ["NodeHasInsufficientMemory", "NodeHasDiskPressure", "NodeNotReady"]
    assert next(c for c in worse["status"]["conditions"] if c["type"] == "Ready")["message"] == "container runtime is down: gone"
    assert node.transitions(worse, made(tmp_path, previous=worse))[2] == "NodeReady"


async def test_a_resource_that_somebody_advertises_is_there_for_pods(cluster: Cluster) -> None:
    async def allocatable() -> Any:
        found = await cluster.client.get("nodes", NODE)
        return found.get("status", {}).get("allocatable", {}).get("example.com/thing")

    async def ready() -> bool:
        return "cpu" in (await cluster.client.get("nodes", NODE)).get("status", {}).get("capacity", {})

    await cluster.until(ready, "the node's first report")
    patch = {"status": {"capacity": {"example.com/thing": "2"}}}
    await cluster.client.patch("nodes", NODE, "", patch, form="strategic", subresource="status")
    assert await cluster.until(allocatable, "the resource to be allocatable") == "2"


@pytest.mark.parametrize("cordoned", [True, False])
async def test_a_node_tells_when_it_is_cordoned(cluster: Cluster, cordoned: bool) -> None:
    async def told(reason: str) -> bool:
        events = await cluster.client.list("events", "default")
        return any(e["reason"] == reason and e["involvedObject"]["kind"] == "Node" for e in events.items)

    await cluster.until(lambda: told("NodeHasSufficientMemory"), "the first state")
    await cluster.client.patch("nodes", NODE, "", {"spec": {"unschedulable": True}})
    await cluster.until(lambda: told("NodeNotSchedulable"), "the cordon")
    if not cordoned:
        await cluster.client.patch("nodes", NODE, "", {"spec": {"unschedulable": None}})
        await cluster.until(lambda: told("NodeSchedulable"), "its end")
