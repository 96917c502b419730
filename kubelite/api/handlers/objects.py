"""Answers with one object: its bytes as they are stored, or turned into what Accept asks for."""

import orjson

from kubelite.api import negotiation
from kubelite.api.negotiation import Media
from kubelite.api.requests import Reply, Request, Streamed
from kubelite.meta.errors import NotAcceptable
from kubelite.meta.types import Obj
from kubelite.schema import builtin
from kubelite.schema.kinds import Kind

__all__ = ["Reply", "Streamed", "media_of", "reply_with", "reply_with_bytes"]


def media_of(request: Request, *, plain: bool = False, many: bool = False) -> Media:
    """What to answer with; `plain` for what is no stored object and has neither table nor metadata, `many` for a list of them.

    Raises:
        NotAcceptable: nothing that the client accepts is served.
    """
    accept = request.headers.get("Accept", "")
    if accept == "application/json":
        return negotiation.PLAIN
    custom = request.kind is not None and request.kind.custom
    media = negotiation.accepted(accept, plain=plain, custom=custom)
    if media.form == ("PartialObjectMetadata" if many else "PartialObjectMetadataList"):
        raise NotAcceptable(f"you requested {media.form}, but the requested object is {'' if many else 'not '}a list")
    return media


def reply_with_bytes(request: Request, media: Media, kind: Kind, value: bytes, status: int = 200) -> Reply:
    """An object's stored bytes; parsed only when they have to be turned into something else."""
    if media is negotiation.PLAIN or (not media.form and media.encoding == "json"):
        return Reply(status, value)
    return reply_with(request, media, kind, orjson.loads(value), status)


def reply_with(request: Request, media: Media, kind: Kind | None, obj: Obj, status: int = 200) -> Reply:
    """An object that is not stored in this form, such as a Status or a review."""
    if media.form and kind is not None and obj.get("kind") != "Status":
        from kubelite.api import tables

        if media.form == "Table":
            kind = kind if obj.get("kind") != "Scale" else builtin.body("autoscaling", "v1", "Scale")
            obj = tables.table_of(kind, [obj], media, request.query, obj["metadata"])
        elif media.form == "PartialObjectMetadata":
            obj = tables.partial(obj, media)
    return Reply(status, encode(obj, media), media.content_type)


def encode(obj: Obj, media: Media) -> bytes:
    if media.encoding == "json":
        return orjson.dumps(obj)
    if media.encoding == "protobuf":
        from kubelite.schema import marshalling  # few clients want nothing else

        return marshalling.encode(obj)
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(obj, Dumper=dumper, default_flow_style=False)).encode()
