"""Tables and partial metadata: objects turned into what `kubectl get` prints, or into their metadata alone.

Source: apiserver pkg/endpoints/handlers/response.go, v0.34.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from kubelite.api.handlers.objects import encode
from kubelite.api.negotiation import Media
from kubelite.api.requests import Query
from kubelite.meta.errors import BadRequest, invalid
from kubelite.meta.types import Obj
from kubelite.schema import columns
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api
    from kubelite.registry.watch import WatchItem

_INCLUDE = ("", "None", "Metadata", "Object")


def table_of(kind: Kind, items: Sequence[Obj], media: Media, query: Query, metadata: Obj, *, headers: bool = True) -> Obj:
    """A Table with one row an object. `metadata` is the list's, or the one object's.

    Raises:
        BadRequest: includeObject is none of None, Metadata, Object.
    """
    include = (query.get("includeObject") or [""])[0]
    if include not in _INCLUDE:
        cause = invalid("includeObject", include, "must be 'Metadata', 'Object', 'None', or empty")
        raise BadRequest(f"Unable to convert to Table as requested: {cause}")
    now = time.time()
    api_version = f"meta.k8s.io/{media.version}"
    rows = []
    for obj in columns.ordered(kind, items):
        row: Obj = {"cells": columns.cells(kind, obj, now)}
        if include == "Object":
            row["object"] = obj
        elif include == "None":
            row["object"] = None
        else:
            row["object"] = {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj["metadata"]}
        rows.append(row)
    shown = {k: metadata[k] for k in ("resourceVersion", "continue", "remainingItemCount") if k in metadata}
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": shown,
        "columnDefinitions": _definitions(kind) if headers else None,
        "rows": rows,
    }


def encode_table(kind: Kind, items: Sequence[Obj], media: Media, query: Query, metadata: Obj) -> bytes:
    return encode(table_of(kind, items, media, query, metadata), media)


def _definitions(kind: Kind) -> list[Obj]:
    return [
        {"name": c.name, "type": c.type, "format": c.format, "description": c.description, "priority": c.priority}
        for c in columns.columns_of(kind)
    ]


def partial(obj: Obj, media: Media) -> Obj:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{media.version}",
        "metadata": obj["metadata"],
    }


def partial_list(items: Sequence[Obj], media: Media, metadata: Obj) -> Obj:
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{media.version}",
        "metadata": metadata,
        "items": [partial(obj, media) for obj in items],
    }


def framed(type_: str, obj: Obj, media: Media) -> bytes:
    """An event of a watch."""
    if media.encoding == "protobuf":
        from kubelite.schema import marshalling  # few clients want nothing else

        return marshalling.event(type_, obj)
    return orjson.dumps({"type": type_, "object": obj}) + b"\n"


def framer(api: "Api", kind: Kind, media: Media, query: Query) -> "Callable[[WatchItem], bytes]":
    """Frames of a watch whose objects are turned into tables (the columns only in the first), partial metadata or messages."""
    headers = True

    def frame(item: "WatchItem") -> bytes:
        nonlocal headers
        obj = _bookmark(item) if item.type == "BOOKMARK" else api.registry.parsed(item.entry)
        shown: Any
        if media.form == "Table":
            shown = table_of(kind, [obj], media, query, obj["metadata"], headers=headers)
            headers = False
        elif media.form:
            shown = partial(obj, media)
        else:
            shown = obj
        return framed(item.type, shown, media)

    return frame


def _bookmark(item: "WatchItem") -> Obj:
    """A bookmark's object, which is no object of the store: it has a revision and nothing else."""
    obj: Obj = orjson.loads(item.entry.value)
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if value is not None}}
