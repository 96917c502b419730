"""exec and attach: standard streams of a container over WebSocket channels or SPDY streams.

`Channels` is one client, whichever way it came; `relay` joins it with the node's stream.

Source: KEP-4006; kubelet pkg/cri/streaming/remotecommand and apimachinery pkg/util/remotecommand, v0.34.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import orjson

from kubelite.api.connections import Connection
from kubelite.api.requests import Request
from kubelite.api.streaming import spdy, websocket
from kubelite.api.streaming.bytestream import Closed, Upgraded
from kubelite.meta.errors import BadRequest, InternalError
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb

if TYPE_CHECKING:
    from kubelite.nodes.tunnels import NodeStream

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V1, V4, V5 = "channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"
BASE64, V4_BASE64 = "base64.channel.k8s.io", "v4.base64.channel.k8s.io"
WEBSOCKET_PROTOCOLS = (V5, V4, V4_BASE64, V1, BASE64, "")
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
STREAM_CREATION_TIMEOUT_S = 30.0
_MAX_RESIZE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Channels(Protocol):
    """The client's side of a remote command."""

    def frames(self) -> AsyncIterator[pb.TunnelFrame]:
        """What the client sends: stdin, its end, and new terminal sizes."""
        ...

    async def write(self, channel: int, data: bytes) -> None: ...

    async def finish(self, status: Obj) -> None:
        """Tells how the command ended, and closes."""
        ...

    def abort(self) -> None: ...


class WebSocketChannels:
    def __init__(self, socket: websocket.WebSocket, protocol: str, wanted: Wanted) -> None:
        self._socket = socket
        self._base64 = protocol in (BASE64, V4_BASE64)
        self._reports_status = protocol in (V4, V5, V4_BASE64)
        self._closes = protocol == V5
        self._wanted = wanted

    @classmethod
    async def open(cls, connection: Connection, request: Request, wanted: Wanted) -> "WebSocketChannels":
        protocol = websocket.choose(request, WEBSOCKET_PROTOCOLS)
        channels = cls(websocket.WebSocket.accept(connection, request, protocol), protocol, wanted)
        # Tells the client that the connection stands, before there is any output.
        await channels.write(STDOUT if wanted.stdout else STDERR if wanted.stderr else ERROR, b"")
        return channels

    async def frames(self) -> AsyncIterator[pb.TunnelFrame]:
        while (message := await self._socket.receive()) is not None:
            data = message.data
            if not data:
                continue
            if self._base64:
                channel, data = data[0] - 0x30, _decoded(data[1:])
            else:
                channel, data = data[0], data[1:]
            if channel == STDIN and self._wanted.stdin:
                if data:
                    yield pb.TunnelFrame(stdin=data)
            elif channel == RESIZE:
                if (resize := parse_resize(data)) is not None:
                    yield resize
            elif channel == CLOSE and self._closes and data == b"\0":
                yield pb.TunnelFrame(stdin_closed=True)

    async def write(self, channel: int, data: bytes) -> None:
        if self._base64:
            await self._socket.send(b"%d" % channel + base64.b64encode(data), websocket.TEXT)
        else:
            await self._socket.send(bytes((channel,)) + data)

    async def finish(self, status: Obj) -> None:
        if self._reports_status:
            await self.write(ERROR, orjson.dumps(status))
        elif status.get("status") != "Success":
            await self.write(ERROR, str(status.get("message", "")).encode())
        await self._socket.close()

    def abort(self) -> None:
        self._socket.abort()


class SpdyChannels:
    """Each standard stream is a SPDY stream of its own, which the client opens and names."""

    def __init__(self, session: spdy.Session, protocol: str, wanted: Wanted) -> None:
        self._session = session
        self._protocol = protocol
        self._wanted = wanted
        self._streams: dict[str, spdy.Stream] = {}
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, connection: Connection, request: Request, wanted: Wanted) -> "SpdyChannels":
        protocol = choose_spdy(request, SPDY_PROTOCOLS)
        upgraded = Upgraded()
        head = f"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n"
        connection.upgrade(request, head.encode(), upgraded)
        channels = cls(spdy.Session(upgraded), protocol, wanted)
        await channels._await_streams()
        return channels

    async def _await_streams(self) -> None:
        self._reading = asyncio.get_running_loop().create_task(self._session.run(), name="spdy session")
        names = {"error"}
        names |= {n for n, is_wanted in (("stdin", self._wanted.stdin), ("stdout", self._wanted.stdout)) if is_wanted}
        if self._wanted.stderr and not self._wanted.tty:
            names.add("stderr")
        if self._wanted.tty and self._protocol in SPDY_PROTOCOLS[:2]:
            names.add("resize")
        try:
            async with asyncio.timeout(STREAM_CREATION_TIMEOUT_S):
                async for stream in self._session.accept():
                    self._streams[stream.headers.get("streamtype", "")] = stream
                    if names <= self._streams.keys():
                        return
        except TimeoutError as e:
            self.abort()
            raise Closed("the client did not open its streams in time") from e
        self.abort()
        raise Closed("the client has gone")

    async def frames(self) -> AsyncIterator[pb.TunnelFrame]:
        queue: asyncio.Queue[pb.TunnelFrame | None] = asyncio.Queue(8)
        async with asyncio.TaskGroup() as readers:
            readers.create_task(self._watch_end(queue), name="spdy end")
            if "stdin" in self._streams:
                readers.create_task(self._read_stdin(self._streams["stdin"], queue), name="spdy stdin")
            if "resize" in self._streams:
                readers.create_task(self._read_sizes(self._streams["resize"], queue), name="spdy resize")
            try:
                while (frame := await queue.get()) is not None:
                    yield frame
            finally:
                for task in list(readers._tasks):
                    task.cancel()

    async def _watch_end(self, queue: "asyncio.Queue[pb.TunnelFrame | None]") -> None:
        assert self._reading is not None
        await asyncio.wait((self._reading,))
        await queue.put(None)

    async def _read_stdin(self, stream: spdy.Stream, queue: "asyncio.Queue[pb.TunnelFrame | None]") -> None:
        while data := await stream.read():
            await queue.put(pb.TunnelFrame(stdin=data))
        await queue.put(pb.TunnelFrame(stdin_closed=True))

    async def _read_sizes(self, stream: spdy.Stream, queue: "asyncio.Queue[pb.TunnelFrame | None]") -> None:
        buffer = b""
        while data := await stream.read():
            buffer = (buffer + data)[-_MAX_RESIZE_BYTES:]
            *whole, buffer = buffer.replace(b"}", b"}\n").split(b"\n")
            for text in whole:
                if text.strip() and (resize := parse_resize(text)) is not None:
                    await queue.put(resize)

    async def write(self, channel: int, data: bytes) -> None:
        stream = self._streams.get("stdout" if channel == STDOUT else "stderr")
        if stream is not None and data:
            await stream.write(data)

    async def finish(self, status: Obj) -> None:
        error = self._streams["error"]
        if self._protocol == V4:
            await error.write(orjson.dumps(status))
        elif status.get("status") != "Success":
            await error.write(str(status.get("message", "")).encode())
        for stream in self._streams.values():
            await stream.close()
        # The client ends the session when it has read everything; one that doesn't is not waited for.
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=2)
        self.abort()

    def abort(self) -> None:
        self._session.close()
        if self._reading is not None:
            self._reading.cancel()


def choose_spdy(request: Request, supported: tuple[str, ...]) -> str:
    """Raises BadRequest where the client offers nothing that is supported."""
    offered = [
        part.strip()
        for name, value in request.headers.items()
        if name.lower() == "x-stream-protocol-version"
        for part in value.split(",")
        if part.strip()
    ]
    for protocol in supported:
        if protocol in offered:
            return protocol
    if not offered:
        return supported[-1]
    raise BadRequest(
        f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server accepts {list(supported)}"
    )


def is_spdy(request: Request) -> bool:
    headers = request.headers
    return headers.get("Upgrade", "").upper() == "SPDY/3.1" and "upgrade" in headers.get("Connection", "").lower()


def parse_resize(data: bytes) -> pb.TunnelFrame | None:
    try:
        size = orjson.loads(data[:_MAX_RESIZE_BYTES])
        columns, rows = int(size["Width"]), int(size["Height"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    if not (0 < columns < 65536 and 0 < rows < 65536):
        return None
    return pb.TunnelFrame(resize=pb.Resize(columns=columns, rows=rows))


def _decoded(data: bytes) -> bytes:
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""


async def relay(channels: Channels, node: "NodeStream") -> None:
    """Carries a remote command until it has ended or the client has gone."""
    loop = asyncio.get_running_loop()
    up = loop.create_task(_upwards(channels, node), name="remote command input")
    down = loop.create_task(_downwards(channels, node), name="remote command output")
    try:
        # The input's end is the client's end: its half-closed stdin is a frame, not an end.
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        if down.done() and not down.cancelled():
            await channels.finish(down.result())
    except Closed:
        return
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.wait((up, down))
        await node.close()
        channels.abort()


async def _downwards(channels: Channels, node: "NodeStream") -> Obj:
    """Carries output until the node's last frame; the status in it."""
    while (frame := await node.read()) is not None:
        which = frame.WhichOneof("frame")
        if which == "stdout":
            await channels.write(STDOUT, frame.stdout)
        elif which == "stderr":
            await channels.write(STDERR, frame.stderr)
        elif which == "exit":
            if frame.exit.status_json:
                status: Obj = orjson.loads(frame.exit.status_json)
                return status
            break
    if frame is None:
        return InternalError.of("the connection to the node was lost").status()
    return {"metadata": {}, "status": "Success"}


async def _upwards(channels: Channels, node: "NodeStream") -> None:
    async for frame in channels.frames():
        await node.write(frame)
