"""POST: a new object, or a subresource's action on one (binding, eviction)."""

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
    options = write_options(request, "CreateOptions")
    obj = await read_object(request, kind, options)
    # A Namespace is not in a namespace, though its URL's path says so of its subresources.
    target = Target(kind, info.namespace if kind.namespaced else "", info.name, info.subresource)
    entry = await api.registry.create(target, obj, options)
    return reply_with_bytes(request, media, kind, entry.value, 201)
