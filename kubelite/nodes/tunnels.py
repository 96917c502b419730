"""The control plane's end of tunnels: asks a node's agent for one in its session and pairs what the agent then opens.

A tunnel's frames travel both ways until the agent's Exit; whichever side leaves, the other one is told.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import orjson

from kubelite.meta.errors import ApiError, ServiceUnavailable
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb

OPEN_TIMEOUT_S = 10.0
QUEUE_FRAMES = 64


class NodeStream:
    """One tunnel as the API's handlers see it."""

    def __init__(self, tunnel_id: str, node_name: str) -> None:
        self.id = tunnel_id
        self.node_name = node_name
        self._from_node: asyncio.Queue[pb.TunnelFrame | None] = asyncio.Queue(QUEUE_FRAMES)
        self._to_node: asyncio.Queue[pb.TunnelFrame | None] = asyncio.Queue(QUEUE_FRAMES)
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed = asyncio.Event()

    async def read(self) -> pb.TunnelFrame | None:
        """The next frame from the node, the last one an Exit; None once there are no more."""
        if self._closed.is_set() and self._from_node.empty():
            return None
        return await self._from_node.get()

    async def write(self, frame: pb.TunnelFrame) -> None:
        """Sends a frame to the node; dropped where the tunnel has ended."""
        if self._closed.is_set():
            return
        putting = asyncio.ensure_future(self._to_node.put(frame))
        closing = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait([putting, closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
            closing.cancel()

    async def close(self) -> None:
        """Ends the tunnel from this side. Closing twice is fine."""
        self._closed.set()
        if not self._opened.done():
            self._opened.cancel()
        while not self._from_node.empty():
            self._from_node.get_nowait()

    # The node's side.

    async def opened(self) -> None:
        """Returns once the agent has opened it. Raises ApiError where it refused."""
        await self._opened

    def refuse(self, message: str) -> None:
        if not self._opened.done():
            self._opened.set_exception(ServiceUnavailable(message))

    async def serve(self, frames: AsyncIterator[pb.TunnelFrame]) -> AsyncGenerator[pb.TunnelFrame, None]:
        """Takes the agent's frames and yields those for it, until either side ends."""
        if not self._opened.done():
            self._opened.set_result(None)

        async def receive() -> None:
            try:
                async for frame in frames:
                    await self._from_node.put(frame)
                    if frame.HasField("exit"):
                        break
            finally:
                self._closed.set()
                await self._from_node.put(None)

        receiving = asyncio.create_task(receive(), name=f"tunnel {self.id}")
        closing = asyncio.create_task(self._closed.wait(), name=f"end of tunnel {self.id}")
        try:
            while not self._closed.is_set():
                getting = asyncio.ensure_future(self._to_node.get())
                await asyncio.wait([getting, closing], return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    break
                frame = getting.result()
                if frame is not None:
                    yield frame
        finally:
            self._closed.set()
            receiving.cancel()
            closing.cancel()
            await asyncio.gather(receiving, closing, return_exceptions=True)


class Tunnels:
    """All tunnels that wait for their agent or are open."""

    def __init__(self) -> None:
        self._streams: dict[str, NodeStream] = {}

    async def open(self, node_name: str, request: pb.TunnelRequest, send: Callable[[pb.ToNode], None]) -> NodeStream:
        """Asks the node for a tunnel and returns it open.

        Raises:
            ServiceUnavailable: the node refused or did not answer in time.
        """
        # The id is a secret: whoever presents it becomes the tunnel's other end (and must be the node besides).
        request.tunnel_id = secrets.token_urlsafe(16)
        stream = NodeStream(request.tunnel_id, node_name)
        self._streams[stream.id] = stream
        send(pb.ToNode(tunnel=request))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await stream.opened()
        except TimeoutError as e:
            raise ServiceUnavailable(f"node {node_name} did not answer within {OPEN_TIMEOUT_S:g} s") from e
        finally:
            self._streams.pop(stream.id, None)
        return stream

    def refused(self, node_name: str, refusal: pb.TunnelRefused) -> None:
        stream = self._streams.get(refusal.tunnel_id)
        if stream is not None and stream.node_name == node_name:
            stream.refuse(refusal.message)

    async def serve(self, node_name: str, frames: AsyncIterator[pb.TunnelFrame]) -> AsyncGenerator[pb.TunnelFrame, None]:
        """An agent's call: pairs it with the stream that its first frame names."""
        first = await anext(aiter(frames), None)
        stream = self._streams.get(first.open) if first is not None else None
        if stream is None or stream.node_name != node_name:
            return
        async with contextlib.aclosing(stream.serve(frames)) as served:
            async for frame in served:
                yield frame


def status_of(frame: pb.TunnelFrame) -> Obj:
    """The Status that an Exit frame carries."""
    status: Obj = orjson.loads(frame.exit.status_json)
    return status


async def log_chunks(stream: NodeStream) -> AsyncGenerator[bytes, None]:
    """A log tunnel's text, once it is known that there is a log.

    Raises:
        ApiError: there is none; raised before anything is yielded.
    """
    first = await stream.read()
    if first is not None and first.HasField("exit") and status_of(first)["status"] != "Success":
        await stream.close()
        raise ApiError.from_status(status_of(first))

    async def chunks() -> AsyncGenerator[bytes, None]:
        frame = first
        try:
            while frame is not None and not frame.HasField("exit"):
                if frame.stdout:
                    yield frame.stdout
                frame = await stream.read()
        finally:
            await stream.close()

    return chunks()
