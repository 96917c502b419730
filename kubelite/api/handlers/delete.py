"""DELETE of one object."""

from typing import TYPE_CHECKING

from kubelite.api import negotiation
from kubelite.api.handlers.objects import Reply, media_of, reply_with, reply_with_bytes
from kubelite.api.handlers.options import delete_options
from kubelite.api.requests import Request
from kubelite.meta.errors import BadRequest
from kubelite.meta.types import Obj
from kubelite.registry.contract import Target
from kubelite.schema import builtin, checking, decoding, structure
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api


async def read_options(request: Request) -> Obj | None:
    """The DeleteOptions in the body, None where there is no body."""
    body = await request.body(limit=64 * 1024)
    if not body.strip():
        return None
    obj = decoding.parse(body, negotiation.sent(request.headers.get("Content-Type", "")))
    if obj.get("kind", "DeleteOptions") != "DeleteOptions":
        raise BadRequest("decoded object cannot be converted to DeleteOptions")
    try:
        return checking.normal(structure.structure_of(builtin.body("", "", "DeleteOptions")), obj)
    except BadRequest as e:
        raise BadRequest(e.message.partition("cannot be handled as a DeleteOptions: ")[2] or e.message) from e


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    info = request.info
    media = media_of(request)
    delete, options = delete_options(request, await read_options(request))
    target = Target(kind, info.namespace if kind.namespaced else "", info.name, info.subresource)
    entry, status, _ = await api.registry.delete(target, delete, options)
    if entry is not None:
        return reply_with_bytes(request, media, kind, entry.value)
    assert status is not None
    return reply_with(request, media, None, status)
