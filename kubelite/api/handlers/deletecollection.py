"""DELETE of a collection: every object that the selectors choose."""

from typing import TYPE_CHECKING

from kubelite.api.handlers.delete import read_options
from kubelite.api.handlers.list import reply_with_page
from kubelite.api.handlers.objects import Reply, media_of
from kubelite.api.handlers.options import delete_options, list_options
from kubelite.api.requests import Request
from kubelite.registry.contract import Target
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    media = media_of(request, many=True)
    # A deletion of many may take its time; it ends when the client gives up, not before.
    request.connection.deadline = None
    delete, options = delete_options(request, await read_options(request))
    namespace = request.info.namespace if kind.namespaced else ""
    page = await api.registry.delete_collection(Target(kind, namespace), list_options(request.query), delete, options)
    return await reply_with_page(api, request, kind, media, page)
