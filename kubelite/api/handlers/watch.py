"""GET with watch: the events of a collection, in frames that were made once for all watchers.

A batch of events is one chunk and one write. A slow client holds back only its own position in the log; it is never cut
off before its revision is compacted.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from kubelite.api.handlers.objects import Streamed, media_of
from kubelite.api.handlers.options import list_options
from kubelite.api.negotiation import Media
from kubelite.api.requests import Request, warning_lines
from kubelite.meta.errors import ApiError, Expired
from kubelite.registry.contract import Target
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api
    from kubelite.registry.watch import RegistryWatch, WatchItem

#: A watch that names no timeout ends after this long, or up to twice as long, so that clients don't all come back at once.
MIN_TIMEOUT_S = 1800.0
BATCH_BYTES = 256 * 1024


async def handle(api: "Api", request: Request, kind: Kind) -> Streamed:
    info, connection = request.info, request.connection
    media = media_of(request)
    options = list_options(_with_name(request))
    timeout_s = options.timeout_s or MIN_TIMEOUT_S * (1 + random.random())
    options = replace(options, timeout_s=timeout_s)
    target = Target(kind, info.namespace if kind.namespaced else "")
    try:
        watch = api.registry.watch(target, options)
    except Expired as e:
        connection.start_stream(request, 200, _content_type(media))
        connection.write_chunk(error_frame(e, media))
        connection.end_stream()
        return Streamed()
    try:
        connection.start_stream(request, 200, _content_type(media), warning_lines(request.warnings))
        await _pump(api, request, kind, watch, media, timeout_s)
        if not connection.is_lost:
            connection.end_stream()
    except asyncio.CancelledError:
        # The server stops: the stream has a proper end, so that clients come back at once and tell nobody of an error.
        if not connection.is_lost:
            connection.end_stream()
        raise
    finally:
        watch.close()
    return Streamed()


async def _pump(api: "Api", request: Request, kind: Kind, watch: "RegistryWatch", media: Media, timeout_s: float) -> None:
    connection = request.connection
    frame: Callable[[WatchItem], bytes] = watch.frame
    if media.form or media.encoding == "protobuf":
        from kubelite.api import tables

        frame = tables.framer(api, kind, media, request.query)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                batch = await watch.next_batch()
                if len(batch) == 1:
                    connection.write_chunk(frame(batch[0]))
                else:
                    frames: list[bytes] = []
                    size = 0
                    for item in batch:
                        data = frame(item)
                        frames.append(data)
                        size += len(data)
                        if size > BATCH_BYTES:
                            connection.write_chunk(b"".join(frames))
                            await connection.drain()
                            frames.clear()
                            size = 0
                    if frames:
                        connection.write_chunk(b"".join(frames))
                await connection.drain()
    except TimeoutError:
        return
    except ApiError as e:
        connection.write_chunk(error_frame(e, media))


def _content_type(media: Media) -> bytes:
    return media.content_type + b";stream=watch" if media.encoding == "protobuf" else b"application/json"


def error_frame(error: ApiError, media: Media) -> bytes:
    from kubelite.api import tables

    return tables.framed("ERROR", error.status(), media)


def _with_name(request: Request) -> dict[str, list[str]]:
    """The query, with the name of the deprecated /watch/.../NAME path as the field selector that it means."""
    name = request.info.name
    if name and "fieldSelector" not in request.query:
        return {**request.query, "fieldSelector": [f"metadata.name={name}"]}
    return request.query
