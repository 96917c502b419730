"""What goes on to a pod or another server, and what comes back: no redirects, no tunnels that nobody agreed on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kubelite.api import proxy
from kubelite.api.connections import Listener
from kubelite.api.filters import failure
from kubelite.api.requests import Reply, Request
from kubelite.meta.errors import ApiError


class Backend:
    """The other end of a tunnel: says what it is told to, and keeps what it heard."""

    def __init__(self, says: bytes) -> None:
        self._says = [says[i : i + 7] for i in range(0, len(says), 7)]
        self.heard = bytearray()
        self._asked = asyncio.Event()
        self.closed = False

    async def read(self) -> bytes:
        await self._asked.wait()
        return self._says.pop(0) if self._says else b""

    async def write(self, data: bytes) -> None:
        self.heard += data
        self._asked.set()

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def proxied(
    says: bytes, *, prefix: str = "/p"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Backend]]:
    """A client's connection to a server that passes everything on to a backend."""
    backend = Backend(says)

    async def handler(request: Request) -> None:
        try:
            reply = await proxy.forward(request, backend, "10.0.0.1:80", request.path, prefix)
        except ApiError as e:
            reply = failure(e, request)
        if isinstance(reply, Reply):
            await request.connection.reply(request, reply)

    listener = Listener(handler, None)
    ((_, port),) = await listener.start([("127.0.0.1", 0)])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer, backend
    finally:
        writer.close()
        await listener.stop(0.5)


async def head(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(30):
        return await reader.readuntil(b"\r\n\r\n")


async def test_an_answer_comes_back_with_its_headers():
    says = b"HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nX-Own: yes\r\nContent-Length: 5\r\n\r\nhello"
    async with proxied(says) as (reader, writer, backend):
        writer.write(b"POST /x?y=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nContent-Length: 2\r\n\r\nhi")
        got = await head(reader)
        assert got.startswith(b"HTTP/1.1 201 Created\r\n")
        assert b"X-Own: yes\r\n" in got
        chunks = (await reader.readuntil(b"0\r\n\r\n")).split(b"\r\n")
        assert b"".join(chunks[1:-3:2]) == b"hello"
        assert backend.heard.startswith(b"POST /x HTTP/1.1\r\nHost: 10.0.0.1:80\r\n")
        assert backend.heard.endswith(b"\r\n\r\nhi")


async def test_who_asks_is_not_told_to_the_backend():
    async with proxied(b"HTTP/1.1 204 No Content\r\n\r\n") as (reader, writer, backend):
        writer.write(
            b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nImpersonate-User: a\r\nX-Remote-User: admin\r\n\r\n"
        )
        assert (await head(reader)).startswith(b"HTTP/1.1 204 ")
        assert b"secret" not in backend.heard
        assert b"Impersonate" not in backend.heard
        assert b"X-Remote-User" not in backend.heard


async def test_cve_2018_1002102_redirects_are_relayed_within_the_proxy_and_not_followed():
    says = b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1:80/there\r\nContent-Length: 0\r\n\r\n"
    async with proxied(says) as (reader, writer, backend):
        writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"Location: /p/there\r\n" in await head(reader)
        assert backend.heard.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("code", [b"301 Moved Permanently", b"302 Found", b"307 Temporary Redirect"])
async def test_cve_2020_8559_a_redirect_in_answer_to_an_upgrade_is_not_relayed(code):
    says = b"HTTP/1.1 %b\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n" % code
    async with proxied(says) as (reader, writer, _):
        writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        got = await head(reader)
        assert got.startswith(b"HTTP/1.1 503 ")
        assert b"169.254" not in got


async def test_cve_2018_1002105_without_a_101_nothing_more_is_passed_on():
    says = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"
    async with proxied(says) as (reader, writer, backend):
        writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
        assert (await head(reader)).startswith(b"HTTP/1.1 403 ")
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"GET /privileged HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(0.05)
        # It is a request of its own, with its own way through the chain, and not bytes in a tunnel.
        assert b"GET /privileged HTTP/1.1\r\nHost: h\r\n" not in backend.heard


async def test_an_upgrade_that_is_agreed_on_is_a_tunnel():
    says = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nwelcome"
    async with proxied(says) as (reader, writer, _):
        writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert (await head(reader)).startswith(b"HTTP/1.1 101 ")
        async with asyncio.timeout(30):
            assert await reader.readexactly(7) == b"welcome"


@pytest.mark.parametrize("says", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_what_is_no_http_is_unavailable(says):
    async with proxied(says) as (reader, writer, _):
        writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await head(reader)).startswith(b"HTTP/1.1 503 ")


async def test_an_answer_that_is_cut_off_ends_the_connection():
    says = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
    async with proxied(says) as (reader, writer, _):
        writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(30):
            got = await reader.read()
        assert got.startswith(b"HTTP/1.1 200 ")
        assert not got.endswith(b"0\r\n\r\n")
