"""The client of the CRI's streaming server, against servers that do not do as they should."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from runtimes.containerd import spdy, streams
from runtimes.interface import RuntimeFault, Unreachable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/exec/token"
    finally:
        server.close()


def answering(response: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        writer.close()

    return serve


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found",
        b"HTTP/1.1 500 Internal Server Error\r\nX: 101 Switching\r\n\r\n",
    ],
)
async def test_cve_2018_1002105_an_upgrade_that_is_not_answered_with_101_opens_nothing(response: bytes) -> None:
    async with serving(answering(response)) as url:
        with pytest.raises(RuntimeFault):
            await spdy.Connection.connect(url, "v4.channel.k8s.io")


async def test_cve_2020_8559_a_redirect_is_not_followed() -> None:
    followed = asyncio.Event()

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        followed.set()
        writer.close()

    async with serving(elsewhere) as target:
        redirect = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\n\r\n".encode()
        async with serving(answering(redirect)) as url:
            with pytest.raises(RuntimeFault, match="302"):
                await spdy.Connection.connect(url, "v4.channel.k8s.io")
    assert not followed.is_set()


async def test_server_that_closes_or_never_answers_is_unreachable() -> None:
    async with serving(answering(b"")) as url:
        with pytest.raises(Unreachable):
            await spdy.Connection.connect(url, "v4.channel.k8s.io")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(silent) as url:
        with pytest.raises(Unreachable):
            await spdy.Connection.connect(url, "v4.channel.k8s.io", timeout_s=0.05)


async def test_connection_that_breaks_ends_the_output_and_has_no_exit_code() -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        writer.write(b"\x00\x00\x00\x03\x00\x00\x00\x02hi")  # data of the third stream's id, stdout here
        writer.write(b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00")  # a ping, and half of something
        writer.write_eof()
        await reader.read()  # a close with bytes unread would be a reset, and lose what was sent
        writer.close()

    async with serving(broken) as url:
        stream = await streams.open_command(url, tty=False, stdin=False)
        assert [chunk async for chunk in stream.output()] == [(1, b"hi")]
        assert await stream.exit_code() == -1
        await stream.close()


async def test_exec_that_could_not_run_says_why() -> None:
    details = b'{"causes":[{"message":"no"}]}'
    status = b'{"status":"Failure","reason":"InternalError","message":"Internal error occurred: no","details":' + details + b"}"

    async def failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        writer.write(b"\x00\x00\x00\x01\x01" + len(status).to_bytes(3, "big") + status)
        writer.write(b"\x00\x00\x00\x03\x01\x00\x00\x00\x00\x00\x00\x05\x01\x00\x00\x00")
        writer.write_eof()
        await reader.read()  # a close with bytes unread would be a reset, and lose what was sent
        writer.close()

    async with serving(failing) as url:
        stream = await streams.open_command(url, tty=False, stdin=False)
        assert [chunk async for chunk in stream.output()] == []
        with pytest.raises(RuntimeFault, match=r"^no$"):
            await stream.exit_code()
        await stream.close()
