"""PATCH in its four forms: JSON patch, merge patch, strategic merge patch and server-side apply."""

from typing import TYPE_CHECKING, Literal

from kubelite.api.handlers.objects import Reply, media_of, reply_with_bytes
from kubelite.api.handlers.options import write_options
from kubelite.api.requests import Request
from kubelite.meta.errors import UnsupportedMediaType
from kubelite.registry.contract import Patch, Target
from kubelite.schema import decoding
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api

Form = Literal["json", "merge", "strategic", "apply"]

_FORMS: dict[str, Form] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    info = request.info
    media = media_of(request)
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    form = _FORMS.get(content_type)
    if form is None or (form == "strategic" and kind.custom):
        accepted = [m for m, f in _FORMS.items() if not (f == "strategic" and kind.custom)]
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
        )
    options = write_options(request, "PatchOptions", applies=form == "apply")
    body = await request.body()
    if options.field_validation != "Ignore":
        options.faults = tuple(decoding.repeated_yaml_keys(body) if form == "apply" else decoding.repeated_keys(body))
    target = Target(kind, info.namespace if kind.namespaced else "", info.name, info.subresource)
    entry, created = await api.registry.patch(target, Patch(form, body), options)
    return reply_with_bytes(request, media, kind, entry.value, 201 if created else 200)
