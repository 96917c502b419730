"""HTTP connections without TLS in front of them: parsing, order, limits, deadlines, and how they end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kubelite.api import connections
from kubelite.api.connections import Listener
from kubelite.api.requests import Reply, Request

Handler = Callable[[Request], Awaitable[None]]


async def echo(request: Request) -> None:
    body = await request.body()
    await request.connection.reply(request, Reply(200, f"{request.method} {request.path} ".encode() + body, b"text/plain"))


@asynccontextmanager
async def listening(handler: Handler = echo) -> AsyncIterator[tuple[Listener, int]]:
    listener = Listener(handler, None)
    ((_, port),) = await listener.start([("127.0.0.1", 0)])
    running = asyncio.ensure_future(listener.run())
    try:
        yield listener, port
    finally:
        running.cancel()
        await listener.stop(0.5)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def test_requests_on_one_connection_are_answered_in_order():
    async with listening() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(40)))
        assert [(await answer(reader))[1] for _ in range(40)] == [b"GET /%d " % n for n in range(40)]
        writer.close()


async def test_a_body_in_pieces_is_read_whole():
    async with listening() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.write(b"2\r\nde\r\n0\r\n\r\n")
        assert await answer(reader) == (200, b"POST /x abcde")
        writer.close()


async def test_a_client_that_asks_whether_to_go_on_is_told_so():
    async with listening() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert await answer(reader) == (200, b"POST /x ok")
        writer.close()


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",  # smuggling
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * (connections.MAX_HEADER_BYTES + 1) + b"\r\n\r\n",
    ],
)
async def test_what_is_no_request_ends_the_connection(text):
    async with listening() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text)
        async with asyncio.timeout(30):
            said = await reader.read()
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"Connection: close" in said
        writer.close()


async def test_cve_2023_44487_connections_that_show_no_credential_are_closed_soon(monkeypatch):
    async with listening() as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await answer(reader)
        (connection,) = listener.connections
        connection.idle_since -= connections.ANONYMOUS_IDLE_S + 1
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()


async def test_a_request_beyond_its_deadline_is_cancelled():
    ended = asyncio.Event()

    async def slow(request: Request) -> None:
        request.connection.deadline = 0.0
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with listening(slow) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(30):
            await ended.wait()
            assert await reader.read() == b""
        writer.close()


async def test_a_stream_ends_when_its_client_goes():
    ended = asyncio.Event()

    async def stream(request: Request) -> None:
        request.connection.cancel_on_disconnect = True
        request.connection.start_stream(request, 200, b"text/plain")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with listening(stream) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        async with asyncio.timeout(30):
            await ended.wait()


async def test_a_write_under_way_is_not_given_up_when_its_client_goes():
    finished = asyncio.Event()
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def write(request: Request) -> None:
        begun.set()
        await go_on.wait()
        finished.set()

    async with listening(write) as (listener, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await begun.wait()
        writer.close()
        async with asyncio.timeout(30):
            while listener.connections:
                await asyncio.sleep(0)
        go_on.set()
        async with asyncio.timeout(30):
            await finished.wait()


async def test_a_stop_lets_short_requests_finish_and_takes_no_more():
    begun = asyncio.Event()

    async def short(request: Request) -> None:
        begun.set()
        await asyncio.sleep(0.05)
        await echo(request)

    async with listening(short) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        await begun.wait()
        stopping = asyncio.ensure_future(listener.stop(5))
        assert await answer(reader) == (200, b"GET /x ")
        await stopping
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()


async def test_an_upgraded_connection_is_forgotten_when_it_ends():
    from kubelite.api.streaming.bytestream import Upgraded

    async def upgrade(request: Request) -> None:
        stream = Upgraded()
        request.connection.upgrade(request, b"Upgrade: x\r\nConnection: Upgrade\r\n", stream)
        await stream.write(await stream.read())

    async with listening(upgrade) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(b"hello")
        async with asyncio.timeout(30):
            assert await reader.read() == b"hello"
        assert not listener.connections
        writer.close()
