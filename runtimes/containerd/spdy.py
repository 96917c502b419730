"""A client of SPDY/3.1 as the CRI's streaming servers speak it: one HTTP connection upgraded, a stream for each of stdin,
stdout, stderr, errors and resizing.

SPDY and not its WebSocket sibling, because only SPDY can end stdin while the output goes on. Of the protocol it has what those
servers use: they send no settings and apply no flow control (moby/spdystream), the back-pressure is TCP's. What they reply in
header blocks is not needed and not decompressed.

Source: the SPDY 3.1 draft, sections 2.2 and 2.6.
"""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from runtimes.interface import RuntimeFault, Unreachable

_SYN_STREAM, _RST_STREAM, _PING, _GOAWAY = 1, 3, 6, 7
_FIN = 1
_CHUNK_BYTES = 32 << 10
_HEAD_LIMIT_BYTES = 64 << 10


class Frame(NamedTuple):
    """Data for a stream; `last` when the peer ended it."""

    stream: int
    data: bytes
    last: bool


class Connection:
    """An upgraded connection. One task reads `frames`, any may write."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        # level 0: a preset dictionary is only required of blocks that refer to it, and the headers are a dozen bytes
        self._deflate = zlib.compressobj(0)
        self._next_id = 1

    @classmethod
    async def connect(cls, url: str, protocol: str, timeout_s: float = 30) -> "Connection":
        """Posts to the URL and upgrades. An answer other than 101 is an error, a redirect too.

        Raises: RuntimeFault, Unreachable.
        """
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_HEAD_LIMIT_BYTES)
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                writer.write(
                    f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
                    f"X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n".encode()
                )
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                if " 101 " not in head.split("\r\n", 1)[0] + " ":
                    body = await reader.read(2048)
                    writer.close()
                    raise RuntimeFault(
                        f"the runtime's streaming server answered {head.splitlines()[0]!r}: {body.decode(errors='replace')}"
                    )
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
            raise Unreachable(f"the runtime's streaming server at {parts.netloc} does not answer: {e}") from e
        return cls(reader, writer)

    def open_stream(self, headers: Mapping[str, str]) -> int:
        """Opens a stream and returns its id."""
        stream, self._next_id = self._next_id, self._next_id + 2
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            key, content = name.lower().encode(), value.encode()
            block += struct.pack(">I", len(key)) + key + struct.pack(">I", len(content)) + content
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">IIH", stream, 0, 0) + packed
        self._writer.write(struct.pack(">HHI", 0x8003, _SYN_STREAM, len(body)) + body)
        return stream

    async def write(self, stream: int, data: bytes, *, last: bool = False) -> None:
        """Raises: Unreachable when the connection is gone."""
        try:
            for start in range(0, len(data), _CHUNK_BYTES):
                chunk = data[start : start + _CHUNK_BYTES]
                self._writer.write(struct.pack(">II", stream, len(chunk)) + chunk)
                await self._writer.drain()
            if last:
                self._writer.write(struct.pack(">II", stream, _FIN << 24))
                await self._writer.drain()
        except OSError as e:
            raise Unreachable(f"the stream to the runtime was closed: {e}") from e

    async def frames(self) -> AsyncIterator[Frame]:
        """Frames until the peer goes away; it may do so at any time."""
        try:
            while True:
                first, second = struct.unpack(">II", await self._reader.readexactly(8))
                flags, length = second >> 24, second & 0xFFFFFF
                body = await self._reader.readexactly(length) if length else b""
                if not first & 0x80000000:
                    yield Frame(first, body, bool(flags & _FIN))
                    continue
                kind = first & 0xFFFF
                if kind == _PING:
                    self._writer.write(struct.pack(">HHI", 0x8003, _PING, len(body)) + body)
                elif kind == _RST_STREAM:
                    yield Frame(struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF, b"", True)
                elif kind == _GOAWAY:
                    continue  # what is under way still comes
        except (asyncio.IncompleteReadError, OSError):
            return

    def close(self) -> None:
        """Ends the connection. What an exec runs goes on unless it reads or writes: the CRI's servers notice nothing else."""
        self._writer.close()
