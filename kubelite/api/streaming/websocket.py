"""WebSocket, the server's side: the upgrade, and messages over the bytes that follow.

Only what kubectl and client libraries use: no extensions, messages of bounded size.

Source: RFC 6455.
"""

import base64
import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from kubelite.api.connections import Connection
from kubelite.api.requests import Request
from kubelite.api.streaming.bytestream import ByteStream, Closed, Reader, Upgraded
from kubelite.meta.errors import BadRequest

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_CONTINUATION = 0x0


def is_upgrade(request: Request) -> bool:
    headers = request.headers
    return headers.get("Upgrade", "").lower() == "websocket" and "upgrade" in headers.get("Connection", "").lower()


def choose(request: Request, supported: Sequence[str]) -> str:
    """The first of the client's subprotocols that is supported; an empty one where it offers none and none is needed.

    Raises:
        BadRequest: it offers only others.
    """
    offered = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if p.strip()]
    offered = [p for p in offered if not p.startswith("base64url.bearer.authorization.k8s.io.")]
    for protocol in offered:
        if protocol in supported:
            return protocol
    if not offered and "" in supported:
        return ""
    raise BadRequest(f"unable to upgrade: the websocket subprotocols {offered} are not supported, allowed: {list(supported)}")


class Message(NamedTuple):
    opcode: int
    data: bytes


class WebSocket:
    """One accepted WebSocket. Only one task reads; writes may come from several."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._reader = Reader(stream)
        self._closed = False

    @classmethod
    def accept(cls, connection: Connection, request: Request, protocol: str) -> "WebSocket":
        """Answers the upgrade. Raises BadRequest where the request is no proper one."""
        key = request.headers.get("Sec-WebSocket-Key", "")
        if request.method != "GET" or not key or request.headers.get("Sec-WebSocket-Version", "") != "13":
            raise BadRequest("websocket: the request is no upgrade to version 13")
        digest = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
        head = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n" % digest
        if protocol:
            head += f"Sec-WebSocket-Protocol: {protocol}\r\n".encode()
        upgraded = Upgraded()
        connection.upgrade(request, head, upgraded)
        return cls(upgraded)

    async def receive(self) -> Message | None:
        """The next text or binary message; None when the client has ended. Answers pings."""
        parts: list[bytes] = []
        size = 0
        first = 0
        try:
            while True:
                final, opcode, data = await self._frame()
                if opcode == PING:
                    await self._send(PONG, data)
                elif opcode == CLOSE:
                    await self.close(data[:2])
                    return None
                elif opcode in (TEXT, BINARY, _CONTINUATION):
                    if opcode == _CONTINUATION and not first:
                        raise Closed("a continuation without a start")
                    first = first or opcode
                    size += len(data)
                    if size > MAX_MESSAGE_BYTES:
                        await self.close(struct.pack(">H", 1009))
                        return None
                    parts.append(data)
                    if final:
                        return Message(first, parts[0] if len(parts) == 1 else b"".join(parts))
        except Closed:
            return None

    async def _frame(self) -> tuple[bool, int, bytes]:
        first, second = await self._reader.exactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", await self._reader.exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self._reader.exactly(8))
        if first & 0x70 or not second & 0x80 or length > MAX_MESSAGE_BYTES:
            # Extensions were not agreed on, and a client's frames must be masked.
            await self.close(struct.pack(">H", 1002))
            raise Closed("a frame that is not allowed")
        mask = await self._reader.exactly(4)
        data = await self._reader.exactly(length)
        return bool(first & 0x80), first & 0x0F, unmasked(data, mask)

    async def send(self, data: bytes, opcode: int = BINARY) -> None:
        """Raises Closed."""
        await self._send(opcode, data)

    async def _send(self, opcode: int, data: bytes) -> None:
        length = len(data)
        if length < 126:
            head = struct.pack(">BB", 0x80 | opcode, length)
        elif length < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 127, length)
        await self._stream.write(head + data)

    async def close(self, reason: bytes = b"\x03\xe8") -> None:
        """Says goodbye (1000: normally) and ends the connection."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._send(CLOSE, reason)
        except Closed:
            return
        finally:
            self._stream.close()

    def abort(self) -> None:
        """Ends the connection without a word."""
        self._stream.close()


def unmasked(data: bytes, mask: bytes) -> bytes:
    if mask == b"\0\0\0\0" or not data:
        return data
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(data), "big")


class Tunnel:
    """A ByteStream inside a WebSocket's binary messages."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message is None:
                return b""
            if message.data:
                return message.data

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)

    def close(self) -> None:
        self._socket.abort()
