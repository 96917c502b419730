"""A connection after its upgrade: bytes in both directions, with flow control."""

import asyncio
from collections import deque
from typing import Protocol, cast

#: Reading pauses when this much waits for the reader.
HIGH_WATER_BYTES = 256 * 1024


class Closed(ConnectionError):
    """The other side has gone."""


class ByteStream(Protocol):
    """What framing is put upon: an upgraded connection, or one tunnelled through a WebSocket."""

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises Closed when nobody is there to read it."""
        ...

    def close(self) -> None: ...


class Upgraded(asyncio.Protocol):
    """The raw side of an upgraded connection: `Connection.upgrade` hands its transport over."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._reading_paused = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._chunks.append(bytes(data))
        self._size += len(data)
        self._readable.set()
        if self._size > HIGH_WATER_BYTES and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._readable.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._transport = None
        self._readable.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def read(self) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._take_all())
        self._size = sum(map(len, self._chunks))
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    def _take_all(self) -> list[bytes]:
        taken = list(self._chunks)
        self._chunks.clear()
        return taken

    async def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise Closed("the client has gone")
        self._transport.write(data)
        await self._writable.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Reader:
    """Exact reads from a ByteStream."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def exactly(self, count: int) -> bytes:
        """Raises Closed when the stream ends before."""
        while len(self._buffer) < count:
            data = await self._stream.read()
            if not data:
                raise Closed("the client has gone")
            self._buffer += data
        result = bytes(self._buffer[:count])
        del self._buffer[:count]
        return result
