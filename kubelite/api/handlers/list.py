"""GET of a collection: a join of the stored bytes between a head and a tail."""

import asyncio
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

import orjson

from kubelite.api.connections import WRITE_PIECE_BYTES
from kubelite.api.handlers.objects import Reply, encode, media_of
from kubelite.api.handlers.options import list_options
from kubelite.api.negotiation import Media
from kubelite.api.requests import Request
from kubelite.meta.types import Obj
from kubelite.registry.contract import Target
from kubelite.registry.lists import Page
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api


_END = b"]}"
#: So many objects are turned into messages in a row.
MESSAGES_AT_ONCE = 50


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    media = media_of(request, many=True)
    namespace = request.info.namespace if kind.namespaced else ""
    page = await api.registry.list(Target(kind, namespace), list_options(request.query))
    return await reply_with_page(api, request, kind, media, page)


async def reply_with_page(api: "Api", request: Request, kind: Kind, media: Media, page: Page) -> Reply:
    metadata: Obj = {"resourceVersion": str(page.revision)}
    if page.continue_token:
        metadata["continue"] = page.continue_token
    if page.remaining:
        metadata["remainingItemCount"] = page.remaining
    if not media.form and media.encoding == "json":
        head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
            list_kind(kind).encode(),
            kind.api_version.encode(),
            orjson.dumps(metadata),
        )
        return joined(head, [e.value for e in page.items])
    if media.encoding == "protobuf":
        body = await _messages(kind, media, metadata, [api.registry.parsed(entry) for entry in page.items])
        return Reply(200, body, media.content_type)
    items = [api.registry.parsed(entry) for entry in page.items]
    if media.form:
        from kubelite.api import tables

        if media.form == "Table":
            obj = tables.table_of(kind, items, media, request.query, metadata)
        else:
            obj = tables.partial_list(items, media, metadata)
    else:
        obj = {"kind": list_kind(kind), "apiVersion": kind.api_version, "metadata": metadata, "items": items}
    return Reply(200, encode(obj, media), media.content_type)


async def _messages(kind: Kind, media: Media, metadata: Obj, items: list[Obj]) -> bytes:
    """A list in protobuf. Others get their turn in between: it takes as long as many requests."""
    from kubelite.schema import marshalling

    api_version, name = kind.api_version, list_kind(kind)
    if media.form:
        from kubelite.api import tables

        partial = tables.partial_list(items, media, metadata)
        api_version, name, items = partial["apiVersion"], partial["kind"], partial["items"]
    parts = []
    for start in range(0, len(items), MESSAGES_AT_ONCE):
        parts += [marshalling.item(obj) for obj in items[start : start + MESSAGES_AT_ONCE]]
        await asyncio.sleep(0)
    return marshalling.listed(api_version, name, metadata, parts)


def joined(head: bytes, values: list[bytes]) -> Reply:
    """A list's answer: the head, the values with commas between, the end. A long one is never in memory as a whole."""
    ends = list(accumulate(map(len, values), initial=0))
    size = len(head) + ends[-1] + max(0, len(values) - 1) + len(_END)
    if size <= WRITE_PIECE_BYTES:
        return Reply(200, b"".join((head, b",".join(values), _END)))
    return Reply(200, b"", pieces=_pieces(head, values, ends), length=size)


def _pieces(head: bytes, values: list[bytes], ends: list[int]) -> Iterator[bytes]:
    """At least one value a piece, and no more once it has WRITE_PIECE_BYTES. `ends[i]`: what comes before value i."""
    start, count = 0, len(values)
    before = head
    while start < count:
        end = min(bisect_right(ends, ends[start] + WRITE_PIECE_BYTES), count)
        piece = values[start:end]
        piece[0] = before + piece[0]
        if end == count:
            piece[-1] += _END
        yield b",".join(piece)
        start, before = end, b","


def list_kind(kind: Kind) -> str:
    return kind.list_kind or f"{kind.kind}List"
