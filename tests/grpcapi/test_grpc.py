"""The gRPC front over real TLS on free ports: joining, a node's session, resources, and who may do what."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import orjson
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kubelite.agent import joining
from kubelite.agent.agent import Agent
from kubelite.agent.context import Options
from kubelite.agent.joining import Identity, JoinFault
from kubelite.agent.link import GrpcLink
from kubelite.api.loopback import LoopbackClient
from kubelite.auth import authenticators, bootstrap_tokens, pki
from kubelite.auth.authorizers import AlwaysAllow
from kubelite.client.informers import Informers
from kubelite.grpcapi.faults import STATUS_TRAILER
from kubelite.grpcapi.server import GrpcServer
from kubelite.meta.types import Obj
from kubelite.nodes.sessions import Nodes
from kubelite.registry.contract import AllowAll
from kubelite.registry.registry import Registry
from kubelite.rpc import node_pb2 as pb
from kubelite.rpc import resources_pb2 as rpb
from kubelite.rpc import resources_pb2_grpc
from kubelite.schema import builtin
from kubelite.store.sqlite import SqliteStore
from runtimes.fake import Backend
from runtimes.interface import BackendOptions


@dataclass
class Served:
    """A server and the parts that tests use."""

    server: GrpcServer
    client: LoopbackClient
    nodes: Nodes
    authority: pki.Authority
    token: bootstrap_tokens.BootstrapToken
    path: Path
    certificate: pki.KeyPair

    def channel(self, user: str = "", groups: tuple[str, ...] = ()) -> grpc.aio.Channel:
        """A channel with a client certificate of the user's, or without one to the token port."""
        ca = self.authority.certificate_pem
        if not user:
            return grpc.aio.secure_channel(f"localhost:{self.server.token_port}", grpc.ssl_channel_credentials(ca))
        pair = self.authority.client_certificate(user, groups)
        credentials = grpc.ssl_channel_credentials(ca, pair.key_pem, pair.certificate_pem)
        return grpc.aio.secure_channel(f"localhost:{self.server.port}", credentials)

    def identity(self, name: str) -> Identity:
        """A node's identity, as joining leaves it."""
        pair = self.authority.client_certificate(f"system:node:{name}", ("system:nodes",))
        identity = Identity(self.path / name)
        identity.write(pair.certificate_pem, pair.key_pem, self.authority.certificate_pem)
        return identity


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    store = SqliteStore(tmp_path / "store.db")
    kinds = builtin.kinds()
    registry = Registry(store, kinds, AllowAll())
    client = LoopbackClient(registry, kinds)
    informers = Informers(client)
    authority = pki.Authority.load_or_create(tmp_path / "pki")
    await store.start()
    await registry.start()
    for name in ("default", "kube-system", "kube-node-lease"):
        await client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    token = bootstrap_tokens.generate()
    await bootstrap_tokens.create(client, token)
    nodes = Nodes(
        lambda user: client,
        informers,
        pb.ClusterInfo(cluster_domain="cluster.local"),
        sign=lambda csr, user: authority.sign_csr(csr, user=user.name, groups=user.groups[:1]),
        ca_pem=authority.certificate_pem,
    )

    def lookup(resource: str, namespace: str, name: str) -> Obj | None:
        entry = store.get(kinds.preferred(resource).key(namespace, name))
        return registry.parsed(entry) if entry is not None else None

    chain = authenticators.Chain(authenticators.Certificates(), authenticators.BootstrapTokens(lookup))
    pair = authority.server_certificate(["localhost"], ["127.0.0.1"])
    server = GrpcServer(
        nodes,
        registry,
        kinds,
        chain,
        AlwaysAllow(),
        certificate=lambda: served.certificate,
        ca_pem=authority.certificate_pem,
    )
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(nodes.run())]
    served = Served(server, client, nodes, authority, token, tmp_path, pair)
    await server.start("127.0.0.1", 0, 0)
    yield served
    await server.stop(0)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await registry.stop()
    await store.stop()


def at(served: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server address whose ports are the test's."""
    ports = ("localhost", 1, served.server.port, served.server.token_port)
    monkeypatch.setattr(joining, "endpoints", lambda server, grpc_port=0: ports)
    return "https://localhost"


def resource(plural: str = "configmaps", name: str = "", namespace: str = "default") -> rpb.Resource:
    return rpb.Resource(resource=plural, namespace=namespace, name=name)


CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"k": "v"}}


async def test_a_renewed_certificate_is_shown_to_who_connects_next(served: Served) -> None:
    def shown(port: int) -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)

    first = await asyncio.to_thread(shown, served.server.token_port)
    assert first in served.certificate.certificate_pem.decode()
    served.certificate = served.authority.server_certificate(["localhost", "renewed"], ["127.0.0.1"])
    second = await asyncio.to_thread(shown, served.server.token_port)
    assert second != first
    assert second in served.certificate.certificate_pem.decode()


async def test_a_machine_joins_with_a_bootstrap_token_and_runs_a_pod(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    server = at(served, monkeypatch)
    identity = Identity(served.path / "joined")
    identity.directory.mkdir()
    identity.ca.write_bytes(served.authority.certificate_pem)
    await joining.join(server, served.token.token, "n2", identity)
    assert await asyncio.to_thread(identity.is_of, "n2")
    assert identity.pair.stat().st_mode & 0o777 == 0o600
    link = GrpcLink(f"localhost:{served.server.port}", identity.read)
    agent = Agent(link, Backend(BackendOptions(str(served.path))), Options("n2", served.path / "d", simulated=True))
    task = asyncio.create_task(agent.run())
    try:
        async with asyncio.timeout(30):
            await agent.ready.wait()
            pod: Obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}}
            pod["spec"] = {"nodeName": "n2", "containers": [{"name": "c", "image": "x:1"}]}
            await served.client.create("pods", pod, "default")
            while (await served.client.get("pods", "p", "default")).get("status", {}).get("phase") != "Running":
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await link.close()
    before = identity.pair.read_bytes()
    await joining.renew(server, "n2", identity)
    assert identity.pair.read_bytes() != before


async def test_a_wrong_token_gets_no_certificate(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    server = at(served, monkeypatch)
    identity = Identity(served.path / "joined")
    identity.directory.mkdir()
    identity.ca.write_bytes(served.authority.certificate_pem)
    with pytest.raises(JoinFault, match=r"refused the token.*kubelite token create"):
        await joining.join(server, "abcdef.0123456789abcdef", "n2", identity)


async def test_a_session_is_only_for_nodes(served: Served) -> None:
    from kubelite.rpc import node_pb2_grpc

    async with served.channel("alice") as channel:
        stub = node_pb2_grpc.NodesStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Session(iter([pb.FromNode(hello=pb.Hello(node_name="n1"))])):
                pass
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_node_cannot_open_a_session_of_another(served: Served) -> None:
    from kubelite.rpc import node_pb2_grpc

    async with served.channel("system:node:n1", ("system:nodes",)) as channel:
        stub = node_pb2_grpc.NodesStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Session(iter([pb.FromNode(hello=pb.Hello(node_name="n2"))])):
                pass
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_objects_are_created_read_watched_patched_and_deleted(served: Served) -> None:
    async with served.channel("admin", ("system:masters",)) as channel:
        stub: Any = resources_pb2_grpc.ResourcesStub(channel)  # type: ignore[no-untyped-call]
        made = await stub.Create(rpb.CreateRequest(resource=resource(), object_json=orjson.dumps(CONFIG)))
        revision = orjson.loads(made.json)["metadata"]["resourceVersion"]
        watch = stub.Watch(rpb.WatchRequest(resource=resource(), resource_version=revision))
        patch = rpb.PatchRequest(resource=resource(name="a"), patch_json=b'{"data":{"k":"w"}}', form="merge")
        await stub.Patch(patch)
        event = await watch.read()
        assert (event.type, orjson.loads(event.object_json)["data"]) == ("MODIFIED", {"k": "w"})
        watch.cancel()
        got = await stub.Get(rpb.GetRequest(resource=resource(name="a")))
        assert orjson.loads(got.json)["data"] == {"k": "w"}
        listed = await stub.List(rpb.ListRequest(resource=resource()))
        assert [orjson.loads(item)["metadata"]["name"] for item in listed.items] == ["a"]
        await stub.Delete(rpb.DeleteRequest(resource=resource(name="a")))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Get(rpb.GetRequest(resource=resource(name="a")))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    trailers = dict(caught.value.trailing_metadata())
    assert orjson.loads(trailers[STATUS_TRAILER])["message"] == 'configmaps "a" not found'


async def test_without_certificate_or_token_nothing_is_served_but_health(served: Served) -> None:
    async with served.channel() as channel:
        stub: Any = resources_pb2_grpc.ResourcesStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.List(rpb.ListRequest(resource=resource()))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_connection_without_a_certificate_is_refused_on_the_node_port(served: Served) -> None:
    ca = served.authority.certificate_pem
    async with grpc.aio.secure_channel(f"localhost:{served.server.port}", grpc.ssl_channel_credentials(ca)) as channel:
        stub: Any = resources_pb2_grpc.ResourcesStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.List(rpb.ListRequest(resource=resource()), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
