"""Port-forward: connections to a pod's ports, over SPDY (plain or inside a WebSocket) or over WebSocket channels.

Source: kubelet pkg/cri/streaming/portforward, KEP-4006 (the tunnel), v0.34.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from kubelite.api.streaming import spdy, websocket
from kubelite.api.streaming.bytestream import ByteStream, Closed
from kubelite.meta.errors import ApiError
from kubelite.rpc import node_pb2 as pb

if TYPE_CHECKING:
    from kubelite.nodes.tunnels import NodeStream

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CHANNEL_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "")
MAX_CONNECTIONS = 128

#: Opens a connection to a port of the pod. Raises ApiError.
Dial = Callable[[int], Awaitable["NodeStream"]]


async def serve_spdy(stream: ByteStream, dial: Dial) -> None:
    """Each connection is a pair of streams, data and error, with one request id."""
    session = spdy.Session(stream)
    pairs: dict[str, dict[str, spdy.Stream]] = {}
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(session.run(), name="port-forward session")
        connections: set[asyncio.Task[None]] = set()
        async for opened in session.accept():
            request_id = opened.headers.get("requestid", "") or str(opened.number // 4)
            pair = pairs.setdefault(request_id, {})
            pair[opened.headers.get("streamtype", "")] = opened
            if "data" in pair and "error" in pair:
                del pairs[request_id]
                if len(connections) >= MAX_CONNECTIONS:
                    await pair["error"].write(b"too many connections at once")
                    await pair["error"].close()
                    await pair["data"].reset()
                    continue
                task = tasks.create_task(_connection(pair["data"], pair["error"], dial), name="port-forward connection")
                connections.add(task)
                task.add_done_callback(connections.discard)
            elif len(pairs) > MAX_CONNECTIONS:
                break
        session.close()
        reading.cancel()
        for task in connections:
            task.cancel()


async def _connection(data: spdy.Stream, error: spdy.Stream, dial: Dial) -> None:
    try:
        try:
            port = int(data.headers.get("port", ""))
            node = await dial(port)
        except (ApiError, ValueError) as e:
            await error.write(f"an error occurred forwarding {data.headers.get('port', '')}: {e}".encode())
            return
        problem = await _join(data.read, data.write, node)
        if problem:
            await error.write(f"an error occurred forwarding {port}: {problem}".encode())
    except Closed:
        return
    finally:
        try:
            await error.close()
            await data.close()
        except Closed:
            pass  # the session is over, and with it both streams


async def _join(read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]], node: "NodeStream") -> str:
    """Carries bytes both ways until the node's side ends; what went wrong there, if anything."""
    import orjson

    async def upwards() -> None:
        while data := await read():
            await node.write(pb.TunnelFrame(stdin=data))
        await node.write(pb.TunnelFrame(stdin_closed=True))

    up = asyncio.get_running_loop().create_task(upwards(), name="port-forward input")
    try:
        while (frame := await node.read()) is not None:
            which = frame.WhichOneof("frame")
            if which == "stdout":
                await write(frame.stdout)
            elif which == "exit":
                status = orjson.loads(frame.exit.status_json) if frame.exit.status_json else {}
                return str(status.get("message", "")) if status.get("status") == "Failure" else ""
        return ""
    finally:
        up.cancel()
        await asyncio.wait((up,))
        await node.close()


async def serve_channels(socket: websocket.WebSocket, protocol: str, ports: list[int], dial: Dial) -> None:
    """The older form: two channels for each port, data and error, each begun with the port's number."""
    import base64

    encoded = "base64" in protocol
    queues: list[asyncio.Queue[bytes]] = [asyncio.Queue(16) for _ in ports]

    async def send(channel: int, data: bytes) -> None:
        if encoded:
            await socket.send(b"%d" % channel + base64.b64encode(data), websocket.TEXT)
        else:
            await socket.send(bytes((channel,)) + data)

    async def forward(number: int, port: int) -> None:
        for channel in (number * 2, number * 2 + 1):
            await send(channel, struct.pack("<H", port))

        async def write(data: bytes) -> None:
            await send(number * 2, data)

        try:
            problem = await _join(queues[number].get, write, await dial(port))
        except ApiError as e:
            problem = e.message
        if problem:
            await send(number * 2 + 1, f"an error occurred forwarding {port}: {problem}".encode())

    async def receive() -> None:
        while (message := await socket.receive()) is not None:
            if not message.data:
                continue
            channel = message.data[0] - 0x30 if encoded else message.data[0]
            if channel % 2 == 0 and 0 <= channel // 2 < len(ports):
                data = base64.b64decode(message.data[1:]) if encoded else message.data[1:]
                if data:
                    await queues[channel // 2].put(data)

    reading = asyncio.get_running_loop().create_task(receive(), name="port-forward input")
    forwards = [asyncio.get_running_loop().create_task(forward(i, port), name="port-forward") for i, port in enumerate(ports)]
    try:
        await asyncio.wait((reading, asyncio.gather(*forwards, return_exceptions=True)), return_when="FIRST_COMPLETED")
    finally:
        for task in (reading, *forwards):
            task.cancel()
        await asyncio.wait((reading, *forwards))
        await socket.close()
