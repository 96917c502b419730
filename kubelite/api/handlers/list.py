"""GET of a collection: a join of the stored bytes between a head and a tail."""

from typing import TYPE_CHECKING

import orjson

from kubelite.api.handlers.objects import Reply, encode, media_of
from kubelite.api.handlers.options import list_options
from kubelite.api.requests import Request
from kubelite.meta.types import Obj
from kubelite.registry.contract import Target
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    media = media_of(request)
    namespace = request.info.namespace if kind.namespaced else ""
    page = await api.registry.list(Target(kind, namespace), list_options(request.query))
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
        return Reply(200, b"".join((head, b",".join([e.value for e in page.items]), b"]}")))
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


def list_kind(kind: Kind) -> str:
    return kind.list_kind or f"{kind.kind}List"
