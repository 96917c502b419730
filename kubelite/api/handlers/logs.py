"""pods/log: a container's output, as it is or followed, over plain HTTP or a WebSocket.

Source: pkg/registry/core/pod/rest/log.go and pkg/apis/core/validation (ValidatePodLogOptions), v1.34.
"""

import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from kubelite.api.handlers import not_allowed, pods
from kubelite.api.handlers.options import first, integer
from kubelite.api.requests import Query, Reply, Request, Streamed, is_true
from kubelite.api.streaming import websocket
from kubelite.api.streaming.bytestream import Closed
from kubelite.meta import errors, times
from kubelite.meta.errors import Cause
from kubelite.rpc import node_pb2 as pb
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api

_STREAMS = ("All", "Stdout", "Stderr")
_BINARY, _BASE64 = "binary.k8s.io", "base64.binary.k8s.io"


async def handle(api: "Api", request: Request, kind: Kind) -> Reply | Streamed:
    if request.info.verb != "get":
        raise not_allowed()
    wanted = _options(request.query)
    pod = await pods.find(api, request)
    wanted.container = pods.container_of(pod, first(request.query, "container"))
    meta = pod["metadata"]
    wanted.namespace, wanted.pod, wanted.pod_uid = meta["namespace"], meta["name"], meta["uid"]
    node = pod["spec"].get("nodeName", "")
    if not node:
        return Reply(204, b"", b"text/plain")
    # The first bytes decide: until they are there, a failure is still a Status.
    output = await pods.nodes_of(api).open_logs(node, wanted)
    async with aclosing(output) as chunks:
        if websocket.is_upgrade(request):
            return await _to_websocket(request, chunks)
        return await _to_http(request, chunks)


async def _to_http(request: Request, chunks: AsyncIterator[bytes]) -> Streamed:
    connection = request.connection
    connection.start_stream(request, 200, b"text/plain")
    async for chunk in chunks:
        if chunk:
            connection.write_chunk(chunk)
            await connection.drain()
    connection.end_stream()
    return Streamed()


async def _to_websocket(request: Request, chunks: AsyncIterator[bytes]) -> Streamed:
    protocol = websocket.choose(request, (_BINARY, _BASE64, ""))
    socket = websocket.WebSocket.accept(request.connection, request, protocol)
    try:
        async for chunk in chunks:
            if protocol == _BASE64:
                await socket.send(base64.b64encode(chunk), websocket.TEXT)
            else:
                await socket.send(chunk, websocket.BINARY)
        await socket.close()
    except Closed:
        return Streamed(101, closed=True)
    finally:
        socket.abort()
    return Streamed(101, closed=True)


def _options(query: Query) -> pb.Logs:
    """Raises Invalid or BadRequest."""
    causes: list[Cause] = []
    wanted = pb.Logs(
        follow=is_true(query.get("follow")),
        previous=is_true(query.get("previous")),
        timestamps=is_true(query.get("timestamps")),
    )
    tail, limit, since = (integer(query, name) for name in ("tailLines", "limitBytes", "sinceSeconds"))
    since_time = first(query, "sinceTime")
    stream = first(query, "stream") or "All"
    if tail is not None:
        if tail < 0:
            causes.append(errors.invalid("tailLines", tail, "must be greater than or equal to 0"))
        wanted.tail_lines = max(0, tail)
    if limit is not None:
        if limit < 1:
            causes.append(errors.invalid("limitBytes", limit, "must be greater than 0"))
        wanted.limit_bytes = max(1, limit)
    if since is not None and since_time:
        causes.append(errors.forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif since is not None:
        if since < 1:
            causes.append(errors.invalid("sinceSeconds", since, "must be greater than 0"))
        wanted.since_seconds = max(1, since)
    elif since_time:
        try:
            times.parse_time(since_time)
        except ValueError as e:
            raise errors.BadRequest(f"sinceTime is no RFC 3339 time: {since_time!r}") from e
        wanted.since_time = since_time
    if stream not in _STREAMS:
        causes.append(errors.not_supported("stream", stream, _STREAMS))
    elif stream != "All":
        if tail is not None:
            causes.append(errors.forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now"))
        wanted.stream = stream
    if causes:
        raise errors.Invalid.of("", "PodLogOptions", "", causes)
    return wanted
