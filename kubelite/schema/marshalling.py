"""Objects as messages of Kubernetes' protobuf: the other way round than `protobuf`, by the same facts.

Source: apimachinery pkg/runtime/serializer/protobuf, v0.34.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from kubelite.meta import times
from kubelite.meta.types import Obj
from kubelite.schema import facts, protobuf, wire

_PARTIAL = "PartialObjectMetadata"
_EPOCH, _SECOND = datetime.fromtimestamp(0, UTC), timedelta(seconds=1)
_SCHEMA = "apiextensions.v1.JSONSchemaProps"


def encode(obj: Obj) -> bytes:
    """An object in an envelope that says what it is.

    Raises:
        KeyError: its kind has no protobuf form.
    """
    return _enveloped(obj["apiVersion"], obj["kind"], message(_type_of(obj["apiVersion"], obj["kind"]), obj))


def item(obj: Obj) -> bytes:
    """An object as a part of `listed`."""
    return wire.block(2, message(_type_of(obj["apiVersion"], obj["kind"]), obj))


def listed(api_version: str, kind: str, metadata: Obj, items: Iterable[bytes]) -> bytes:
    """A list in its envelope."""
    return _enveloped(api_version, kind, wire.block(1, message("meta.v1.ListMeta", metadata)) + b"".join(items))


def _enveloped(api_version: str, kind: str, raw: bytes) -> bytes:
    type_meta = wire.text(1, api_version) + wire.text(2, kind)
    return protobuf.PREFIX + wire.block(1, type_meta) + wire.block(2, raw) + wire.text(3, "") + wire.text(4, "")


def event(type_: str, obj: Obj) -> bytes:
    """A frame of a watch: the length of the event's message, and the message."""
    data = wire.text(1, type_) + wire.block(2, wire.block(1, encode(obj)))
    return len(data).to_bytes(4, "big") + data


def _type_of(api_version: str, kind: str) -> str:
    return f"meta.v1.{_PARTIAL}" if kind == _PARTIAL else protobuf.type_of(api_version, kind)


def message(name: str, obj: Mapping[str, Any]) -> bytes:
    """The fields of a value of a type."""
    parts = []
    for field in facts.fields(name):
        if field.inline:
            if inner := message(field.type, obj):
                parts.append(wire.block(field.number, inner))
            continue
        value = obj.get(field.name)
        if value is None:
            continue
        write = _writer(field.type)
        if field.is_map:
            parts += [wire.block(field.number, _entry(field, key, value[key], write)) for key in sorted(value)]
        elif field.wrapped:
            parts.append(wire.block(field.number, b"".join([write(1, item) for item in value])))
        elif field.is_list:
            parts += [write(field.number, item) for item in value]
        else:
            parts.append(write(field.number, value))
    return b"".join(parts)


_Writer = Callable[[int, Any], bytes]


def _entry(field: facts.Field, key: str, value: Any, write: _Writer) -> bytes:
    if field.wrapped:
        return wire.text(1, key) + wire.block(2, b"".join([write(1, item) for item in value]))
    return wire.text(1, key) + write(2, value)


def _writer(kind: str) -> _Writer:
    found = _WRITERS.get(kind)
    if found is None:
        found = _WRITERS[kind] = lambda number, value: wire.block(number, message(kind, value))
    return found


def _time(number: int, value: str) -> bytes:
    moment = times.parse_time(value)
    return wire.block(number, wire.count(1, (moment - _EPOCH) // _SECOND) + wire.count(2, moment.microsecond * 1000))


def _int_or_string(number: int, value: int | str) -> bytes:
    is_text = isinstance(value, str)
    inner = wire.count(1, is_text) + wire.count(2, 0 if isinstance(value, str) else value)
    return wire.block(number, inner + wire.text(3, value if isinstance(value, str) else ""))


def _json(number: int, value: Any) -> bytes:
    return wire.block(number, wire.block(1, orjson.dumps(value)))


def _schema_or_array(number: int, value: Any) -> bytes:
    if isinstance(value, list):
        return wire.block(number, b"".join([wire.block(2, message(_SCHEMA, item)) for item in value]))
    return wire.block(number, wire.block(1, message(_SCHEMA, value)))


def _schema_or_bool(number: int, value: Any) -> bytes:
    if isinstance(value, bool):
        return wire.block(number, wire.count(1, value))
    return wire.block(number, wire.count(1, True) + wire.block(2, message(_SCHEMA, value)))


def _schema_or_texts(number: int, value: Any) -> bytes:
    if isinstance(value, list):
        return wire.block(number, b"".join([wire.text(2, item) for item in value]))
    return wire.block(number, wire.block(1, message(_SCHEMA, value)))


_WRITERS: dict[str, _Writer] = {
    "string": wire.text,
    "int32": wire.count,
    "int64": wire.count,
    "bool": wire.count,
    "double": wire.double,
    "bytes": lambda number, value: wire.block(number, base64.b64decode(value)),
    "Quantity": lambda number, value: wire.block(number, wire.text(1, value)),
    "Time": _time,
    "MicroTime": _time,
    "IntOrString": _int_or_string,
    "RawExtension": _json,
    "FieldsV1": _json,
    "JSON": _json,
    "JSONSchemaPropsOrArray": _schema_or_array,
    "JSONSchemaPropsOrBool": _schema_or_bool,
    "JSONSchemaPropsOrStringArray": _schema_or_texts,
}
