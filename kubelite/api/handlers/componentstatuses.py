"""componentstatuses: a deprecated view of the control plane's health, derived from the health checks."""

from typing import TYPE_CHECKING

from kubelite.api.handlers import not_allowed
from kubelite.api.handlers.list import list_kind
from kubelite.api.handlers.objects import Reply, media_of, reply_with
from kubelite.api.requests import Request
from kubelite.meta.errors import NotFound
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api

#: Component -> the health check that speaks for it. All run in one process.
_COMPONENTS = {"scheduler": "scheduler", "controller-manager": "controllers", "etcd-0": "store"}


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    media = media_of(request, many=request.info.verb == "list")
    if request.info.verb == "list":
        from kubelite.api import tables

        items = [_status(api, name) for name in _COMPONENTS]
        if media.form == "Table":
            return Reply(200, tables.encode_table(kind, items, media, request.query, {}), media.content_type)
        obj: Obj = {"kind": list_kind(kind), "apiVersion": "v1", "metadata": {}, "items": items}
        return reply_with(request, media, None, obj)
    if request.info.verb != "get":
        raise not_allowed()
    if request.info.name not in _COMPONENTS:
        raise NotFound.of("", "componentstatuses", request.info.name)
    return reply_with(request, media, kind, _status(api, request.info.name))


def _status(api: "Api", name: str) -> Obj:
    reason = api.health.run(_COMPONENTS[name])
    condition: Obj = {"type": "Healthy", "status": "False" if reason else "True", "message": reason or "ok"}
    return {"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name}, "conditions": [condition]}
