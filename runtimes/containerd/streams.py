"""Exec and attach over the CRI's streaming server, port-forward into a sandbox's network namespace.

A port is reached directly, by a socket made inside the namespace: its errors come at once and no bytes are copied twice.
"""

import asyncio
import ctypes
import json
import os
import socket
from collections.abc import AsyncIterator

from runtimes.containerd import spdy
from runtimes.interface import RuntimeFault

_PROTOCOL = "v4.channel.k8s.io"
_CLONE_NEWNET = 0x40000000
_CONNECT_TIMEOUT_S = 10.0
_libc = ctypes.CDLL(None, use_errno=True)


class CommandStream:
    """A running exec or attach: implements ExecStream. Output waits, unread, in a bounded queue: then the command waits too."""

    def __init__(self, connection: spdy.Connection, *, tty: bool, stdin: bool) -> None:
        self._connection = connection
        self._error = connection.open_stream({"streamType": "error"})
        self._stdin = connection.open_stream({"streamType": "stdin"}) if stdin else 0
        self._outputs = {connection.open_stream({"streamType": "stdout"}): 1}
        if not tty:
            self._outputs[connection.open_stream({"streamType": "stderr"})] = 2
        self._resize = connection.open_stream({"streamType": "resize"}) if tty else 0
        self._chunks: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(64)
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._exit.add_done_callback(lambda f: f.cancelled() or f.exception())  # who closes early does not ask
        self._reader = asyncio.create_task(self._read(), name="exec-stream")

    async def _read(self) -> None:
        status = b""
        open_outputs = set(self._outputs)
        ended = False
        try:
            async for stream, data, last in self._connection.frames():
                if stream == self._error:
                    status += data
                elif data and stream in self._outputs:
                    await self._chunks.put((self._outputs[stream], data))
                if last:
                    open_outputs.discard(stream)
                    if not open_outputs and not ended:
                        ended = True
                        await self._chunks.put(None)
                    if stream == self._error and not self._exit.done():
                        self._settle(status)
        finally:
            if not self._exit.done():
                self._settle(status)
            self._connection.close()
        if not ended:
            await self._chunks.put(None)

    def _settle(self, status: bytes) -> None:
        try:
            self._exit.set_result(_exit_code(status))
        except RuntimeFault as e:
            self._exit.set_exception(e)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
        self._chunks.put_nowait(None)  # for the next reader

    async def write_stdin(self, data: bytes) -> None:
        if self._stdin:
            await self._connection.write(self._stdin, data, last=not data)

    async def resize(self, columns: int, rows: int) -> None:
        if self._resize:
            await self._connection.write(self._resize, json.dumps({"Width": columns, "Height": rows}).encode() + b"\n")

    async def exit_code(self) -> int:
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self._connection.close()
        if self._chunks.full():
            self._chunks.get_nowait()
        self._chunks.put_nowait(None)  # who still reads the output


async def open_command(url: str, *, tty: bool, stdin: bool) -> CommandStream:
    return CommandStream(await spdy.Connection.connect(url, _PROTOCOL), tty=tty, stdin=stdin)


def _exit_code(status: bytes) -> int:
    """The exit code in a Status as the v4 protocol sends it; -1 where the other side just went away.

    Raises: RuntimeFault when the command could not be run.
    """
    if not status.strip():
        return -1
    try:
        parsed = json.loads(status)
    except ValueError:
        raise RuntimeFault(status.decode(errors="replace")) from None
    if parsed.get("status") == "Success":
        return 0
    for cause in (parsed.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
        if parsed.get("reason") == "InternalError" and cause.get("message"):
            raise RuntimeFault(cause["message"])  # the Status's message says no more, behind "Internal error occurred"
    raise RuntimeFault(parsed.get("message") or status.decode(errors="replace"))


class Connected:
    """A TCP connection: implements ByteStream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(64 << 10)
        except OSError as e:
            raise RuntimeFault(f"the connection was lost: {e}") from e

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as e:
            raise RuntimeFault(f"the connection was lost: {e}") from e

    async def write_eof(self) -> None:
        try:
            self._writer.write_eof()
        except OSError as e:
            raise RuntimeFault(f"the connection was lost: {e}") from e

    async def close(self) -> None:
        self._writer.close()


async def connect_inside(namespace: str, port: int) -> Connected:
    """Connects to a port of the loopback interface in a network namespace (a path; empty for the host's).

    Raises: RuntimeFault when nothing listens.
    """
    failures = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            connection = socket_inside(namespace, family)
        except OSError as e:
            failures.append(f"{host}: {e.strerror}")
            continue
        try:
            connection.setblocking(False)
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(connection, (host, port))
            return Connected(*await asyncio.open_connection(sock=connection))
        except (OSError, TimeoutError) as e:
            connection.close()
            failures.append(f"{host}: {e.strerror if isinstance(e, OSError) and e.strerror else 'timed out'}")
    raise RuntimeFault(f"failed to connect to port {port} inside the sandbox: {'; '.join(failures)}")


def socket_inside(namespace: str, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket of another network namespace. It belongs there from its creation, so the thread is inside only for that call."""
    if not namespace:
        return socket.socket(family, kind)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(there)
        finally:
            os.close(there)
        try:
            return socket.socket(family, kind)
        finally:
            _set_namespace(home)
    finally:
        os.close(home)


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
