"""The proxy without nftables, on loopback addresses: needs no root."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kubelite.meta.types import Obj
from kubelite.network.userspace import UserspaceProxy
from tests.network.objects import endpoint, endpoint_slice, service

SLICES = "endpointslices.discovery.k8s.io"
VIP = "127.96.0.20"


class Proxied:
    def __init__(self, proxy: UserspaceProxy) -> None:
        self.proxy = proxy

    async def tell(self, *objects: Obj, gone: bool = False) -> None:
        for obj in objects:
            resource = SLICES if "addressType" in obj else "services"
            self.proxy.changed(resource, obj if gone else None, None if gone else obj)
        async with asyncio.timeout(30):
            await self.proxy.wait_applied()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxied]:
    made = UserspaceProxy("n1", own_addresses=False)
    made.synced()
    task = asyncio.create_task(made.run())
    yield Proxied(made)
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def echoing(address: str) -> AsyncIterator[int]:
    """A server that says its address and sends back what it gets until the client ends; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{address} ".encode() + await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, address, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(port: int, data: bytes = b"hello", host: str = VIP) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer.decode()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((VIP, 0))
        return int(probe.getsockname()[1])


def at(port: int, protocol: str = "TCP") -> list[Obj]:
    return [{"name": "p", "port": port, "protocol": protocol}]


async def test_connections_are_relayed_with_their_ends(proxy: Proxied) -> None:
    port = free_port()
    async with echoing("127.1.0.1") as there:
        await proxy.tell(service("web", VIP, ports=at(port)), endpoint_slice("web", endpoint("127.1.0.1"), ports=at(there)))
        assert await ask(port) == "127.1.0.1 hello"
        assert len(await ask(port, b"x" * 3_000_000)) == 3_000_010


async def test_endpoint_that_refuses_is_passed_over(proxy: Proxied) -> None:
    port = free_port()
    async with echoing("127.1.0.1") as there:
        slices = endpoint_slice("web", endpoint("127.1.0.1"), endpoint("127.1.0.2"), ports=at(there))
        await proxy.tell(service("web", VIP, ports=at(port)), slices)
        assert {await ask(port) for _ in range(8)} == {"127.1.0.1 hello"}


async def test_service_without_endpoints_closes_and_a_deleted_one_refuses(proxy: Proxied) -> None:
    port = free_port()
    web = service("web", VIP, ports=at(port))
    await proxy.tell(web)
    assert await ask(port, b"") == ""
    await proxy.tell(web, gone=True)
    with pytest.raises(ConnectionRefusedError):
        await ask(port)


async def test_node_port_answers_on_every_address(proxy: Proxied) -> None:
    port, node_port = free_port(), free_port()
    async with echoing("127.1.0.1") as there:
        ports = [{"name": "p", "port": port, "protocol": "TCP", "nodePort": node_port}]
        await proxy.tell(
            service("web", VIP, type="NodePort", ports=ports), endpoint_slice("web", endpoint("127.1.0.1"), ports=at(there))
        )
        assert await ask(node_port, host="127.0.0.1") == "127.1.0.1 hello"


async def test_affinity_keeps_a_client_at_its_endpoint(proxy: Proxied) -> None:
    port = free_port()
    async with echoing("127.1.0.1") as there:
        second = await asyncio.start_server(_second, "127.1.0.2", there)
        slices = endpoint_slice("web", endpoint("127.1.0.1"), endpoint("127.1.0.2"), ports=at(there))
        await proxy.tell(service("web", VIP, ports=at(port), sessionAffinity="ClientIP"), slices)
        assert len({await ask(port) for _ in range(12)}) == 1
        await proxy.tell(service("web", VIP, ports=at(port)))
        assert {await ask(port) for _ in range(40)} == {"127.1.0.1 hello", "second"}
        second.close()


async def _second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.write(b"second")
    writer.close()


async def test_datagrams_go_to_an_endpoint_and_back_and_follow_its_change(proxy: Proxied) -> None:
    port = free_port(socket.SOCK_DGRAM)
    loop = asyncio.get_running_loop()
    servers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    servers[0].bind(("127.1.0.1", 0))
    there = servers[0].getsockname()[1]
    servers[1].bind(("127.1.0.2", there))
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for made in (client, *servers):
        made.setblocking(False)
    client.connect((VIP, port))
    ports, backends = at(port, "UDP"), at(there, "UDP")
    await proxy.tell(service("names", VIP, ports=ports), endpoint_slice("names", endpoint("127.1.0.1"), ports=backends))
    async with asyncio.timeout(30):
        for number, server in enumerate(servers):
            if number:
                await proxy.tell(endpoint_slice("names", endpoint("127.1.0.2"), ports=backends))
            await loop.sock_sendall(client, b"ping")
            data, peer = await loop.sock_recvfrom(server, 10)
            assert data == b"ping"
            await loop.sock_sendto(server, b"pong", peer)
            assert await loop.sock_recv(client, 10) == b"pong"
    for made in (client, *servers):
        made.close()
