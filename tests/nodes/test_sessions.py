"""Sessions: what a node is sent, in which order, what of it again, and what it may report."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubelite.api.loopback import LoopbackClient
from kubelite.client.informers import Informers
from kubelite.meta.errors import BadRequest, Forbidden, NotFound, ServiceUnavailable
from kubelite.meta.types import Obj
from kubelite.meta.users import User
from kubelite.nodes.reports import node_status_patch, status_patch
from kubelite.nodes.sessions import Nodes
from kubelite.registry.contract import AllowAll
from kubelite.registry.registry import Registry
from kubelite.rpc import node_pb2 as pb
from kubelite.schema import builtin
from kubelite.store.sqlite import SqliteStore


class Node:
    """A node's end of a session, played by hand."""

    def __init__(self, nodes: Nodes, name: str, held: list[pb.Held] | None = None) -> None:
        self.up: asyncio.Queue[pb.FromNode] = asyncio.Queue()
        self.up.put_nowait(pb.FromNode(hello=pb.Hello(node_name=name, held=held or [])))
        self._session: AsyncGenerator[pb.ToNode, None] = nodes.session(name, self._messages())

    async def _messages(self) -> AsyncIterator[pb.FromNode]:
        while True:
            yield await self.up.get()

    async def next(self) -> pb.ToNode:
        async with asyncio.timeout(30):
            return await anext(self._session)

    async def until_synced(self) -> list[pb.ToNode]:
        """Everything up to and without Synced."""
        found = []
        while (message := await self.next()).WhichOneof("message") != "synced":
            found.append(message)
        return found

    async def until(self, resource: str, name: str) -> list[str]:
        """Changed and Removed messages as texts, up to the one about this object."""
        found: list[str] = []
        while not found or not found[-1].endswith(f"{resource}/{name}"):
            found += shown([await self.next()])
        return found

    async def close(self) -> None:
        await self._session.aclose()


def shown(messages: list[pb.ToNode]) -> list[str]:
    found = []
    for message in messages:
        if message.HasField("changed"):
            obj = orjson.loads(message.changed.object_json)
            found.append(f"+{message.changed.resource}/{obj['metadata']['name']}")
        elif message.HasField("removed"):
            found.append(f"-{message.removed.resource}/{message.removed.name}")
    return found


class Cluster:
    def __init__(self, client: LoopbackClient, nodes: Nodes) -> None:
        self.client = client
        self.nodes = nodes
        self._open: list[Node] = []

    def node(self, name: str = "n1", held: list[pb.Held] | None = None) -> Node:
        node = Node(self.nodes, name, held)
        self._open.append(node)
        return node

    async def create(self, resource: str, kind: str, name: str, **fields: Any) -> Obj:
        meta = {"name": name, "namespace": "default"}
        return await self.client.create(resource, {"apiVersion": "v1", "kind": kind, "metadata": meta, **fields}, "default")

    async def pod(self, name: str = "p", node: str = "n1", **spec: Any) -> Obj:
        containers = [{"name": "c", "image": "x:1"}]
        return await self.create("pods", "Pod", name, spec={"nodeName": node, "containers": containers, **spec})

    async def close(self) -> None:
        for node in self._open:
            await node.close()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    store = SqliteStore(tmp_path / "store.db")
    kinds = builtin.kinds()
    registry = Registry(store, kinds, AllowAll())
    client = LoopbackClient(registry, kinds)
    informers = Informers(client)
    await store.start()
    await registry.start()
    for name in ("default", "kube-node-lease"):
        await client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    async def issue(user: User, namespace: str, account: str, request: Obj) -> Obj:
        return {**request, "status": {"token": f"{user.name} as {account}"}}

    nodes = Nodes(
        lambda user: client,
        informers,
        pb.ClusterInfo(cluster_domain="cluster.local"),
        issue_token=issue,
        sign=lambda csr, user: f"{user.name}".encode(),
    )
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(nodes.run())]
    await nodes.ready.wait()
    made = Cluster(client, nodes)
    yield made
    await made.close()
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await registry.stop()
    await store.stop()


def mounts(name: str) -> list[Obj]:
    return [{"name": "v", "secret": {"secretName": name}}]


async def test_a_session_begins_with_the_cluster_and_brings_only_what_the_node_needs(cluster: Cluster) -> None:
    await cluster.create("secrets", "Secret", "mine")
    await cluster.create("secrets", "Secret", "others")
    await cluster.pod(volumes=mounts("mine"))
    await cluster.pod("elsewhere", "n2", volumes=mounts("others"))
    node = cluster.node()
    messages = await node.until_synced()
    assert messages[0].cluster.cluster_domain == "cluster.local"
    assert shown(messages[1:]) == ["+secrets/mine", "+pods/p"]


async def test_what_a_pod_refers_to_arrives_before_it_and_leaves_with_it(cluster: Cluster) -> None:
    node = cluster.node()
    await node.until_synced()
    await cluster.create("secrets", "Secret", "s")
    await cluster.create("configmaps", "ConfigMap", "m")
    env = [{"configMapRef": {"name": "m"}}]
    await cluster.pod(volumes=mounts("s"), containers=[{"name": "c", "image": "x:1", "envFrom": env}])
    arrived = await node.until("pods", "p")
    assert sorted(arrived[:-1]) == ["+configmaps/m", "+secrets/s"]
    await cluster.client.delete("pods", "p", "default", grace_period_s=0)
    left = await node.until("pods", "p") + shown([await node.next(), await node.next()])
    assert left[0] == "-pods/p"
    assert sorted(left[1:]) == ["-configmaps/m", "-secrets/s"]


async def test_an_object_that_comes_later_or_changes_is_sent_to_those_who_wait_for_it(cluster: Cluster) -> None:
    node = cluster.node()
    await node.until_synced()
    await cluster.pod(volumes=mounts("s"))
    await node.until("pods", "p")
    await cluster.create("secrets", "Secret", "unrelated")
    await cluster.create("secrets", "Secret", "s")
    assert await node.until("secrets", "s") == ["+secrets/s"]
    await cluster.client.patch("secrets", "s", "default", {"metadata": {"labels": {"a": "b"}}})
    assert await node.until("secrets", "s") == ["+secrets/s"]


async def test_a_resumed_session_brings_what_changed_and_takes_what_is_gone(cluster: Cluster) -> None:
    kept = await cluster.pod("kept")
    await cluster.pod("new")
    held = [
        pb.Held(resource="pods", namespace="default", name="kept", resource_version=kept["metadata"]["resourceVersion"]),
        pb.Held(resource="pods", namespace="default", name="gone", resource_version="5"),
    ]
    node = cluster.node(held=held)
    assert shown(await node.until_synced()) == ["+pods/new", "-pods/gone"]


async def test_the_newer_session_of_a_node_ends_the_older(cluster: Cluster) -> None:
    first = cluster.node()
    await first.until_synced()
    second = cluster.node()
    await second.until_synced()
    with pytest.raises(StopAsyncIteration):
        await first.next()
    assert cluster.nodes.is_connected("n1")


async def test_a_session_must_begin_with_a_hello_of_its_own_node(cluster: Cluster) -> None:
    async def wrong() -> AsyncIterator[pb.FromNode]:
        yield pb.FromNode(hello=pb.Hello(node_name="n2"))

    with pytest.raises(BadRequest):
        await anext(cluster.nodes.session("n1", wrong()))


async def until(check: Any) -> None:
    async with asyncio.timeout(30):
        while not await check():
            await asyncio.sleep(0.002)


async def test_a_reported_status_is_written_and_a_terminated_pod_removed(cluster: Cluster) -> None:
    pod = await cluster.pod()
    node = cluster.node()
    await node.until_synced()
    report = pb.PodReport(namespace="default", name="p", uid=pod["metadata"]["uid"], status_json=b'{"phase":"Running"}')
    node.up.put_nowait(pb.FromNode(pod=report))

    async def runs() -> bool:
        return bool((await cluster.client.get("pods", "p", "default"))["status"]["phase"] == "Running")

    await until(runs)
    report.terminated = True
    node.up.put_nowait(pb.FromNode(pod=report))

    async def gone() -> bool:
        with contextlib.suppress(NotFound):
            await cluster.client.get("pods", "p", "default")
            return False
        return True

    await until(gone)


async def test_a_node_reports_nothing_of_other_nodes_pods(cluster: Cluster) -> None:
    """CVE-2025-5187, CVE-2021-25740"""
    theirs = await cluster.pod("theirs", "n2")
    mine = await cluster.pod("mine")
    node = cluster.node()
    await node.until_synced()
    for pod in (theirs, mine):
        meta = pod["metadata"]
        report = pb.PodReport(namespace="default", name=meta["name"], uid=meta["uid"], status_json=b'{"phase":"Failed"}')
        node.up.put_nowait(pb.FromNode(pod=report))

    async def written() -> bool:
        return bool((await cluster.client.get("pods", "mine", "default"))["status"]["phase"] == "Failed")

    await until(written)
    assert (await cluster.client.get("pods", "theirs", "default"))["status"]["phase"] == "Pending"


async def test_tokens_are_only_for_pods_of_the_node(cluster: Cluster) -> None:
    pod = await cluster.pod(serviceAccountName="robot")
    node = cluster.node()
    await node.until_synced()

    async def ask(name: str, account: str, uid: str) -> pb.TokenResponse:
        bound = {"kind": "Pod", "name": "p", "uid": uid}
        body = orjson.dumps({"spec": {"boundObjectRef": bound}})
        return await cluster.nodes.create_token(
            name, pb.TokenRequest(namespace="default", service_account=account, request_json=body)
        )

    uid = pod["metadata"]["uid"]
    answer = await ask("n1", "robot", uid)
    assert orjson.loads(answer.response_json)["status"]["token"] == "system:node:n1 as robot"
    for wrong in (("n2", "robot", uid), ("n1", "admin", uid), ("n1", "robot", "another")):
        with pytest.raises(Forbidden):
            await ask(*wrong)


async def test_only_bootstrappers_and_the_node_itself_get_its_certificate(cluster: Cluster) -> None:
    request = pb.JoinRequest(node_name="n1", csr_pem=b"csr")
    bootstrap = User("system:bootstrap:abcdef", ("system:bootstrappers",))
    assert (await cluster.nodes.join(bootstrap, request)).certificate_pem == b"system:node:n1"
    assert (await cluster.nodes.join(User("system:node:n1", ("system:nodes",)), request)).certificate_pem
    for user in (User("system:node:n2", ("system:nodes",)), User("alice")):
        with pytest.raises(Forbidden):
            await cluster.nodes.join(user, request)


async def test_a_tunnel_to_a_node_that_is_not_connected_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ServiceUnavailable, match="node n9 is not connected"):
        await cluster.nodes.open_stream("n9", pb.Exec())


async def test_a_tunnel_belongs_to_the_node_that_was_asked(cluster: Cluster) -> None:
    node = cluster.node()
    await node.until_synced()
    opening = asyncio.create_task(cluster.nodes.open_stream("n1", pb.Exec(command=["true"])))
    request = (await node.next()).tunnel
    assert list(request.exec.command) == ["true"]
    to_node: asyncio.Queue[pb.TunnelFrame] = asyncio.Queue()

    async def frames() -> AsyncIterator[pb.TunnelFrame]:
        yield pb.TunnelFrame(open=request.tunnel_id)
        while True:
            yield await to_node.get()

    assert [f async for f in cluster.nodes.tunnel("n2", frames())] == []
    tunnel = cluster.nodes.tunnel("n1", frames())
    first = asyncio.ensure_future(anext(tunnel))
    stream = await opening
    await stream.write(pb.TunnelFrame(stdin=b"in"))
    assert (await first).stdin == b"in"
    to_node.put_nowait(pb.TunnelFrame(stdout=b"out"))
    to_node.put_nowait(pb.TunnelFrame(exit=pb.Exit(status_json=b'{"status":"Success"}')))
    got = [await stream.read(), await stream.read(), await stream.read()]
    assert [f and f.WhichOneof("frame") for f in got] == ["stdout", "exit", None]
    with pytest.raises(StopAsyncIteration):
        await anext(tunnel)


def condition(kind: str, status: str, **fields: Any) -> Obj:
    return {"type": kind, "status": status, **fields}


def test_a_status_patch_holds_only_what_differs() -> None:
    current = {"phase": "Running", "podIPs": [{"ip": "1"}], "conditions": [condition("A", "True"), condition("B", "True")]}
    assert status_patch(current, current) == {}
    wanted = {**current, "podIPs": [{"ip": "2"}], "conditions": [condition("A", "True"), condition("B", "False")]}
    assert status_patch(current, wanted) == {
        "podIPs": [{"$patch": "replace"}, {"ip": "2"}],
        "conditions": [condition("B", "False")],
    }


def test_a_status_patch_leaves_others_conditions_and_takes_its_own_texts_back() -> None:
    current = {"reason": "Evicted", "conditions": [condition("theirs", "True"), condition("Ready", "False", reason="x")]}
    wanted = {"conditions": [condition("Ready", "True")]}
    assert status_patch(current, wanted) == {
        "reason": None,
        "conditions": [{"type": "Ready", "status": "True", "reason": None}],
    }


def test_a_status_patch_takes_away_conditions_of_the_node_that_it_no_longer_reports() -> None:
    current = {"conditions": [condition("theirs", "True"), condition("PodScheduled", "True"), condition("Ready", "True")]}
    assert status_patch(current, {"conditions": [condition("Ready", "True")]}) == {
        "conditions": [{"$patch": "delete", "type": "PodScheduled"}]
    }


def test_a_node_status_patch_leaves_extended_resources_to_who_advertised_them() -> None:
    ours = {"capacity": {"cpu": "1"}, "allocatable": {"cpu": "1"}}
    theirs = {"capacity": {"cpu": "1", "example.com/thing": "2"}, "allocatable": {"cpu": "1", "example.com/thing": "2"}}
    assert node_status_patch(theirs, ours) == {}
    assert node_status_patch({**theirs, "capacity": {"cpu": "1"}}, ours) == {
        "allocatable": {"cpu": "1", "example.com/thing": None}
    }
    more = {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "1"}}
    assert node_status_patch(theirs, more) == {"capacity": {"cpu": "2"}}


def test_a_node_status_patch_takes_away_resources_that_are_gone() -> None:
    current = {"capacity": {"cpu": "1", "old": "1"}, "addresses": [{"type": "Hostname", "address": "a"}]}
    wanted = {"capacity": {"cpu": "2"}, "addresses": [{"type": "Hostname", "address": "b"}]}
    assert node_status_patch(current, wanted) == {
        "capacity": {"cpu": "2", "old": None},
        "addresses": [{"$patch": "replace"}, {"type": "Hostname", "address": "b"}],
    }
