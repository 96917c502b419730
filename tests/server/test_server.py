"""The composed server: what a cluster starts with, what a restart finds again, and how it ends."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubelite.server.server import Server
from kubelite.server.settings import Settings, SettingsError
from kubelite.testing.cluster import free_ports


@asynccontextmanager
async def running(directory: Path, **given: object) -> AsyncIterator[Server]:
    given = {"https_port": 0, "bind": "127.0.0.1", "audit_log": False, **given}
    server = Server(Settings(data_dir=directory, **given))  # type: ignore[arg-type]
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def names(server: Server, resource: str, namespace: str = "") -> set[str]:
    return {o["metadata"]["name"] for o in (await server.client.list(resource, namespace)).items}


async def test_a_cluster_starts_with_what_every_cluster_has(tmp_path):
    async with running(tmp_path) as server:
        assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= await names(server, "namespaces")
        assert {"system-node-critical", "system-cluster-critical"} == await names(server, "priorityclasses.scheduling.k8s.io")
        assert {"cluster-admin", "admin", "edit", "view"} <= await names(server, "clusterroles.rbac.authorization.k8s.io")
        assert "exempt" in await names(server, "flowschemas.flowcontrol.apiserver.k8s.io")
        service = await server.client.get("services", "kubernetes", "default")
        assert service["spec"]["clusterIP"] == "10.96.0.1"
        dns = await server.client.get("services", "kube-dns", "kube-system")
        assert dns["spec"]["clusterIP"] == "10.96.0.10"
        assert stat.S_IMODE((tmp_path / "kubeconfig").stat().st_mode) == 0o600


async def test_a_second_start_writes_nothing_that_is_there(tmp_path):
    settled = ("namespaces", "clusterroles.rbac.authorization.k8s.io", "flowschemas.flowcontrol.apiserver.k8s.io", "services")
    https_port, grpc_port = free_ports()
    settings = {"disable": frozenset({"controllers"}), "https_port": https_port, "grpc_port": grpc_port}
    async with running(tmp_path, **settings) as server:
        before = {r: (await server.client.list(r)).items for r in settled}
    async with running(tmp_path, **settings) as server:
        for resource, items in before.items():
            assert (await server.client.list(resource)).items == items, resource


async def test_the_clusters_own_services_come_back(tmp_path):
    async with running(tmp_path) as server:
        await server.client.delete("services", "kubernetes", "default")
        informer = server.informers.of("services")
        changed = asyncio.Event()
        informer.subscribe(lambda old, new: changed.set())
        async with asyncio.timeout(30):
            while informer.get("kubernetes", "default") is None:
                changed.clear()
                await changed.wait()
        again = await server.client.get("services", "kubernetes", "default")
        assert again["spec"]["clusterIP"] == "10.96.0.1"


async def test_without_dns_there_is_no_dns_service(tmp_path):
    async with running(tmp_path, disable=frozenset({"dns"})) as server:
        assert "kube-dns" not in await names(server, "services")


async def test_a_port_that_is_taken_is_told_with_the_remedy(tmp_path):
    async with running(tmp_path / "a") as server:
        with pytest.raises(SettingsError, match="choose another with --https-port"):
            async with running(tmp_path / "b", https_port=server.port):
                pass


async def test_a_stop_ends_streams_cleanly(tmp_path):
    import ssl

    import aiohttp

    async with running(tmp_path) as server:
        pair = server.identity.authority.client_certificate("a", ["system:masters"])
        pem = tmp_path / "a.pem"
        pem.write_bytes(pair.certificate_pem + pair.key_pem)
        tls = ssl.create_default_context(cadata=server.identity.authority.certificate_pem.decode())
        tls.load_cert_chain(pem)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            url = f"https://127.0.0.1:{server.port}/api/v1/namespaces?watch=1"
            async with session.get(url) as stream:
                assert await stream.content.readline()
                async with asyncio.timeout(8):
                    await server.stop()
                    while await stream.content.readline():
                        pass
