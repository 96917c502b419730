"""The pod network: what is planned from nodes, and what the kernel then holds."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kubelite.network import nft, pods
from kubelite.network.pods import Plan, PodNetwork, bridge_name, conflist, plan
from tests.network import topology
from tests.network.objects import node
from tests.network.topology import Topology


def test_other_nodes_ranges_lie_behind_their_addresses() -> None:
    nodes = {
        "a": node("a", "10.244.0.0/24", "192.0.2.1"),
        "b": node("b", "10.244.1.0/24", "192.0.2.2"),
        "same-machine": node("same-machine", "10.244.2.0/24", "192.0.2.1"),
        "no-address": node("no-address", "10.244.3.0/24"),
        "simulated": node("simulated", "10.244.4.0/24", "127.0.0.1"),
        "no-range": {"metadata": {"name": "no-range"}, "spec": {}, "status": {}},
    }
    assert plan("a", nodes) == Plan(("10.244.0.0/24",), (("10.244.1.0/24", "192.0.2.2"),))


def test_node_that_is_not_there_yet_has_no_network() -> None:
    assert plan("a", {}) == Plan()
    assert plan("a", {"a": {"metadata": {"name": "a"}, "spec": {}}}) == Plan()


def test_node_without_addresses_yet_takes_no_routes() -> None:
    nodes = {"a": node("a", "10.244.0.0/24"), "same-machine": node("same-machine", "10.244.1.0/24", "192.0.2.1")}
    assert plan("a", nodes) == Plan(("10.244.0.0/24",))


def test_gateway_is_of_the_ranges_family() -> None:
    both = node("b", "10.244.1.0/24", "fd00::2", "192.0.2.2")
    both["spec"]["podCIDRs"] = ["10.244.1.0/24", "fd01:1::/64"]
    nodes = {"a": node("a", "10.244.0.0/24", "192.0.2.1"), "b": both}
    assert plan("a", nodes).routes == (("10.244.1.0/24", "192.0.2.2"), ("fd01:1::/64", "fd00::2"))


def test_names_of_a_node_fit_an_interface_and_differ_between_nodes() -> None:
    names = {bridge_name(n) for n in ("a", "b", "a-node-with-a-name-that-is-much-longer-than-an-interface-name-may-be")}
    assert len(names) == 3
    assert all(len(name) <= 15 for name in names)


def test_configuration_has_the_nodes_range_and_leaves_masquerading_to_us() -> None:
    made = conflist("a", ["10.244.7.0/24"], bridged=True)
    bridge, portmap = made["plugins"]
    assert bridge["type"] == "bridge"
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.7.0/24"}]]
    assert bridge["ipMasq"] is False
    assert bridge["hairpinMode"] is True
    assert portmap["capabilities"] == {"portMappings": True}
    assert conflist("a", ["10.244.7.0/24"], bridged=False)["plugins"][0]["type"] == "ptp"


@pytest.fixture
def net() -> Iterator[Topology]:
    with topology.node() as built:
        yield built


@pytest.fixture
async def network(net: Topology, tmp_path: Path) -> AsyncIterator[PodNetwork]:
    made = PodNetwork("a", tmp_path / "cni")
    made.changed("nodes", None, node("a", "10.244.0.0/24", "192.0.2.1"))
    made.synced()
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        await made.ready.wait()
    yield made
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.root
async def test_configuration_is_written_once_the_node_has_a_range(network: PodNetwork, tmp_path: Path) -> None:
    written = json.loads((tmp_path / "cni" / "10-kubelite.conflist").read_text())
    assert written["plugins"][0]["bridge"] == bridge_name("a")
    assert [p.name for p in (tmp_path / "cni").iterdir()] == ["10-kubelite.conflist"]


@pytest.mark.root
async def test_pods_leave_the_cluster_with_the_nodes_address_and_keep_theirs_inside(net: Topology, network: PodNetwork) -> None:
    a, _ = net.pod("a"), net.pod("b")
    async with net.serving("outside", 80), net.serving("b", 80):
        assert await net.ask("a", "192.0.2.2", 80) == ("outside", "192.0.2.1")
        assert await net.ask("a", "10.244.0.6", 80) == ("b", a)


@pytest.mark.root
async def test_bridge_of_an_earlier_node_with_the_same_range_goes(net: Topology, tmp_path: Path) -> None:
    for name, address in (("kl-00000001", "10.244.7.1/24"), ("kl-00000002", "10.244.8.1/24"), ("other", "10.244.7.9/32")):
        topology.ip("link", "add", name, "type", "bridge")
        topology.ip("address", "add", address, "dev", name)
    made = PodNetwork("a", tmp_path / "cni")
    made.changed("nodes", None, node("a", "10.244.7.0/24", "192.0.2.1"))
    made.synced()
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        await made.ready.wait()
    shown = await asyncio.to_thread(subprocess.run, ["ip", "-o", "link"], check=True, capture_output=True, text=True)
    links = {line.split(": ")[1] for line in shown.stdout.splitlines()}
    assert links & {"kl-00000001", "kl-00000002", "other"} == {"kl-00000002", "other"}
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.root
async def test_routes_come_and_go_with_nodes(net: Topology, network: PodNetwork) -> None:
    other = node("b", "10.244.1.0/24", "192.0.2.2")
    network.changed("nodes", None, other)
    assert await _routes_become(["10.244.1.0/24 via 192.0.2.2 dev eth0"])
    network.changed("nodes", other, None)
    assert await _routes_become([])


@pytest.mark.root
async def test_routes_of_an_earlier_run_go_when_their_node_is_gone(net: Topology, network: PodNetwork) -> None:
    topology.ip("route", "add", "10.244.9.0/24", "via", "192.0.2.2", "proto", str(pods.ROUTE_PROTOCOL))
    topology.ip("route", "add", "203.0.113.0/24", "via", "192.0.2.2", "proto", str(pods.ROUTE_PROTOCOL))
    network.changed("nodes", None, node("b", "10.244.1.0/24", "192.0.2.2"))
    assert await _routes_become(["10.244.1.0/24 via 192.0.2.2 dev eth0", "203.0.113.0/24 via 192.0.2.2 dev eth0"])


@pytest.mark.root
async def test_what_others_take_away_comes_back(net: Topology, network: PodNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "_CHECK_S", 0.05)
    network.changed("nodes", None, node("b", "10.244.1.0/24", "192.0.2.2"))
    route = "10.244.1.0/24 via 192.0.2.2 dev eth0"
    assert await _routes_become([route])
    topology.ip("route", "delete", *route.split())
    assert await _routes_become([route])
    table = nft.table_name("pods", "a")
    await nft.apply(f"delete table inet {table}\n")
    async with asyncio.timeout(30):
        while not await nft.exists(table):
            await asyncio.sleep(0.02)


async def _routes_become(wanted: list[str]) -> bool:
    command = ["ip", "route", "show", "proto", str(pods.ROUTE_PROTOCOL)]
    async with asyncio.timeout(30):
        while True:
            shown = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
            if sorted(line.strip() for line in shown.stdout.splitlines()) == wanted:
                return True
            await asyncio.sleep(0.02)


@pytest.mark.root
async def test_where_forwarding_is_dropped_pods_are_let_through_until_the_node_goes(net: Topology, tmp_path: Path) -> None:
    subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
    made = PodNetwork("a", tmp_path / "cni")
    made.changed("nodes", None, node("a", "10.244.0.0/24", "192.0.2.1"))
    made.synced()
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        await made.ready.wait()

    def rules() -> list[str]:
        listed = subprocess.run(["iptables", "-S", "FORWARD"], check=True, capture_output=True, text=True).stdout
        return [line for line in listed.splitlines() if "kubelite pods" in line]

    assert len(rules()) == 2
    task.cancel()
    await asyncio.wait([task])
    await PodNetwork("a", tmp_path / "cni").remove()  # `kubelite reset` knows no more of a node
    assert rules() == []
