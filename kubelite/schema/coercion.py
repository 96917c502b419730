"""Objects of custom kinds as they come from clients: unknown fields gone, metadata in its form, that of objects within them too.

Source: apiextensions-apiserver pkg/apiserver/customresource_handler.go (unstructuredSchemaCoercer), schema/pruning and
schema/objectmeta, v0.34.
"""

from typing import Any

import msgspec

from kubelite.meta import errors
from kubelite.meta.errors import BadRequest
from kubelite.meta.types import Obj
from kubelite.schema import checking, models
from kubelite.schema.kinds import Kind
from kubelite.schema.structure import OBJECT_META, Structure, of_definition


def normal(kind: Kind, shape: Structure, sent: Obj) -> tuple[Obj, list[str]]:
    """A new object, and the paths of the fields that it lost as its structure doesn't know them.

    Raises:
        BadRequest: its metadata, or that of an object within, is none.
    """
    meta, of_meta = _metadata(kind, sent.get("metadata") or {})
    obj = {**sent, "metadata": meta}
    unknown = sorted(checking.unknown_fields(shape, obj))
    obj = _owned(checking.prune(shape, obj) if unknown else obj)
    if shape.holds_objects:
        try:
            _coerce(shape, obj, "")
        except _Malformed as e:
            raise BadRequest(f"{_handled(kind)}: {e}") from None
    return obj, [f"metadata.{path}" for path in of_meta] + unknown


def _metadata(kind: Kind, sent: Any) -> tuple[Obj, list[str]]:
    try:
        return models.normal("meta.v1.ObjectMeta", sent), []
    except msgspec.ValidationError:
        fault = metadata_fault(sent)
        if fault:
            raise BadRequest(f"{_handled(kind)}: {fault}") from None
    shape = of_definition(OBJECT_META)
    own = checking.without_nulls(sent, shape)
    return checking.normal(shape, own), checking.check(shape, own)


#: Whole numbers above have none of their own as a float.
_MOST_WHOLE = 2**53


def _owned(value: Any) -> Any:
    """A copy that shares no container, in which floats that are whole numbers are integers, as Go writes them."""
    copied = value.copy()
    for key, item in value.items() if type(value) is dict else enumerate(value):
        kind = type(item)
        if kind is dict or kind is list:
            copied[key] = _owned(item)
        elif kind is float and item.is_integer() and abs(item) < _MOST_WHOLE:
            copied[key] = int(item)
    return copied


def _handled(kind: Kind) -> str:
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'


class _Malformed(Exception):
    """A value can't be what it must be in any object; the text names it."""


def _coerce(structure: Structure, value: Any, path: str) -> None:
    """Brings the metadata of the objects within a value into its form, in place.

    Raises:
        _Malformed: one has metadata, a version or a kind of a wrong type.
    """
    if not structure.holds_objects:
        return
    if isinstance(value, dict):
        if structure.embedded_resource:
            _coerce_object(value, path)
        for name, item in value.items():
            below = structure.child(name)
            if below is not None and isinstance(item, dict | list):
                is_field = name in structure.properties
                _coerce(below, item, f"{path}[{name}]" if not is_field else f"{path}.{name}" if path else name)
    elif isinstance(value, list) and structure.items is not None:
        for index, item in enumerate(value):
            _coerce(structure.items, item, f"{path}[{index}]")


def _coerce_object(obj: Obj, path: str) -> None:
    for name in ("apiVersion", "kind"):
        if name in obj and not isinstance(obj[name], str):
            raise _Malformed(str(errors.invalid(f"{path}.{name}", obj[name], "must be a string")))
    if "metadata" in obj:
        meta = obj["metadata"] or {}
        fault = metadata_fault(meta)
        if fault:
            raise _Malformed(str(errors.invalid(f"{path}.metadata", meta, fault)))
        obj["metadata"] = checking.normal(of_definition(OBJECT_META), meta)


def metadata_fault(value: Any) -> str:
    """Why a value can't be an object's metadata, in the words of the decoder; an empty text where it can."""
    if not isinstance(value, dict):
        return f"json: cannot unmarshal {checking.json_type(value)} into Go value of type v1.ObjectMeta"
    shape = of_definition(OBJECT_META)
    try:
        checking.check(shape, checking.without_nulls(value, shape))
    except BadRequest as e:
        return e.message.partition("ObjectMeta: ")[2]
    return ""
