"""GET of one object: the stored bytes."""

from typing import TYPE_CHECKING

from kubelite.api.handlers.objects import Reply, media_of, reply_with_bytes
from kubelite.api.handlers.options import first
from kubelite.api.requests import Request
from kubelite.registry.contract import Target
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    info = request.info
    media = media_of(request)
    target = Target(kind, info.namespace if kind.namespaced else "", info.name, info.subresource)
    entry = await api.registry.get(target, first(request.query, "resourceVersion"))
    return reply_with_bytes(request, media, kind, entry.value)
