"""PUT: replaces an object (or creates it, where the kind allows that)."""

from typing import TYPE_CHECKING

from kubelite.api.handlers.bodies import read_object
from kubelite.api.handlers.objects import Reply, media_of, reply_with_bytes
from kubelite.api.handlers.options import write_options
from kubelite.api.requests import Request
from kubelite.registry.contract import Target
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    info = request.info
    media = media_of(request)
    options = write_options(request, "UpdateOptions")
    obj = await read_object(request, kind, options)
    target = Target(kind, info.namespace if kind.namespaced else "", info.name, info.subresource)
    entry, created = await api.registry.update(target, obj, options)
    return reply_with_bytes(request, media, kind, entry.value, 201 if created else 200)
