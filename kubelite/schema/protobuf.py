"""Bodies in Kubernetes' protobuf, turned into the objects that a JSON client would have sent.

The envelope names the kind; the facts of the wire say what its field numbers mean. Go writes fields that aren't pointers even
when they are zero, so such zeros are dropped where JSON would not have them; a pointer's zero was meant and stays.

Source: apimachinery pkg/runtime/serializer/protobuf.
"""

import base64
import struct
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any

from kubelite.meta import times
from kubelite.meta.errors import BadRequest
from kubelite.meta.types import Obj
from kubelite.schema import builtin, decoding, facts, wire

PREFIX = b"k8s\x00"
_MAX_DEPTH = 200
_ZEROS: dict[str, Any] = {"string": "", "int32": 0, "int64": 0, "bool": False, "double": 0.0, "bytes": ""}


def decode(body: bytes) -> Obj:
    """The object in an enveloped message.

    Raises:
        BadRequest: it is no such message, or of a kind that has no protobuf form.
    """
    if not body:
        raise BadRequest("empty data")
    if body[:4] != PREFIX:
        raise BadRequest("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    if len(body) == 4:
        raise BadRequest("empty body")
    try:
        return _unwrapped(body[4:], 0)
    except (ValueError, IndexError, struct.error) as e:
        raise BadRequest(f"the protobuf body can't be read: {e or 'unexpected EOF'}") from None


@lru_cache(maxsize=512)
def type_of(api_version: str, kind: str) -> str:
    """The name in `facts` of a kind's messages; empty where it has none."""
    group, _, version = api_version.rpartition("/")
    try:
        definition = builtin.body(group, version, kind).definition
    except KeyError:  # most kinds are no bodies of something else
        definition = builtin.definition(group, version, kind)
    name = facts.name_of(definition)
    if not facts.known(name) and group == "policy" and kind == "Eviction":
        return "policy.v1.Eviction"  # its versions have the same fields
    return name if facts.known(name) else ""


def _unwrapped(data: bytes, depth: int) -> Obj:
    api_version = kind = media = ""
    raw = b""
    for number, value in wire.fields(data):
        if number == 1:
            for inner, text in wire.fields(value):
                if inner == 1:
                    api_version = _text(text)
                elif inner == 2:
                    kind = _text(text)
        elif number == 2:
            raw = value
        elif number == 4:
            media = _text(value)
    if media == "application/json":
        obj: Obj = decoding.parse_json(raw)
        return obj
    name = type_of(api_version, kind)
    if not name:
        raise ValueError(f'no kind "{kind}" is registered for version "{api_version}"')
    return {"apiVersion": api_version, "kind": kind, **_message(name, raw, depth)}


@cache
def _by_number(name: str) -> dict[int, facts.Field]:
    return {field.number: field for field in facts.fields(name)}


def _message(name: str, data: bytes, depth: int) -> Obj:
    if depth > _MAX_DEPTH:
        raise ValueError("exceeded max depth")
    known = _by_number(name)
    obj: Obj = {}
    for number, value in wire.fields(data):
        field = known.get(number)
        if field is None:
            continue
        if field.inline:
            obj.update(_message(field.type, value, depth + 1))
        elif field.is_map:
            key, item = _entry(field, value, depth)
            obj.setdefault(field.name, {})[key] = item
        elif field.wrapped:
            obj[field.name] = [_value(field.type, item, depth) for number, item in wire.fields(value) if number == 1]
        elif field.is_list:
            items = obj.setdefault(field.name, [])
            if isinstance(value, bytes) and field.type in ("int32", "int64", "bool"):
                items += [_value(field.type, item, depth) for item in _packed(value)]
            else:
                items.append(_value(field.type, value, depth))
        else:
            read = _value(field.type, value, depth)
            if read is None or not (field.pointer or field.always or read != _ZEROS.get(field.type)):
                continue
            obj[field.name] = read
    return obj


def _packed(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = wire.varint(data, position)
        yield value


def _entry(field: facts.Field, data: bytes, depth: int) -> tuple[str, Any]:
    key = ""
    item: Any = None
    for number, value in wire.fields(data):
        if number == 1:
            key = _text(value)
        elif number == 2:
            if field.wrapped:
                item = [_value(field.type, inner, depth) for number, inner in wire.fields(value) if number == 1]
            else:
                item = _value(field.type, value, depth)
    if item is None:
        item = [] if field.wrapped else {} if field.is_message else _ZEROS.get(field.type)
    return key, item


def _text(data: Any) -> str:
    return str(data, "utf-8", "replace")


def _value(kind: str, value: Any, depth: int) -> Any:
    if kind == "string":
        return str(value, "utf-8", "replace")
    if kind == "int32" or kind == "int64":
        return wire.signed(value)
    read = _READERS.get(kind)
    return read(value, depth) if read is not None else _message(kind, value, depth + 1)


def _only(data: bytes) -> dict[int, Any]:
    return dict(wire.fields(data))


def _json(data: bytes, depth: int) -> Any:
    raw = _only(data).get(1)
    if raw is None:
        return None
    return _unwrapped(raw[4:], depth + 1) if raw[:4] == PREFIX else decoding.parse_json(raw)


def _time(data: bytes, depth: int) -> str | None:
    found = _only(data)
    return times.format_time(wire.signed(found.get(1, 0))) if found else None


def _micro_time(data: bytes, depth: int) -> str | None:
    found = _only(data)
    if not found:
        return None
    whole = times.format_time(wire.signed(found.get(1, 0)))
    return f"{whole[:-1]}.{found.get(2, 0) // 1000:06d}Z"


def _int_or_string(data: bytes, depth: int) -> int | str:
    found = _only(data)
    if found.get(1, 0) == 1:
        return _text(found.get(3, b""))
    return wire.signed(found.get(2, 0))


def _schema_or_array(data: bytes, depth: int) -> Any:
    schemas = [value for number, value in wire.fields(data) if number == 2]
    if schemas:
        return [_message(_SCHEMA, value, depth + 1) for value in schemas]
    single = _only(data).get(1)
    return None if single is None else _message(_SCHEMA, single, depth + 1)


def _schema_or_bool(data: bytes, depth: int) -> Any:
    found = _only(data)
    return _message(_SCHEMA, found[2], depth + 1) if 2 in found else bool(found.get(1, 0))


def _schema_or_texts(data: bytes, depth: int) -> Any:
    found = _only(data)
    if 1 in found:
        return _message(_SCHEMA, found[1], depth + 1)
    return [_text(value) for number, value in wire.fields(data) if number == 2]


_SCHEMA = "apiextensions.v1.JSONSchemaProps"
_READERS: dict[str, Callable[[Any, int], Any]] = {
    "bool": lambda value, depth: bool(value),
    "bytes": lambda value, depth: base64.b64encode(value).decode(),
    "double": lambda value, depth: struct.unpack("<d", struct.pack("<Q", value))[0],
    "Quantity": lambda value, depth: _text(_only(value).get(1, b"0")) or "0",
    "Time": _time,
    "MicroTime": _micro_time,
    "Duration": lambda value, depth: times.format_go_duration(wire.signed(_only(value).get(1, 0))),
    "IntOrString": _int_or_string,
    "RawExtension": _json,
    "FieldsV1": _json,
    "JSON": _json,
    "JSONSchemaPropsOrArray": _schema_or_array,
    "JSONSchemaPropsOrBool": _schema_or_bool,
    "JSONSchemaPropsOrStringArray": _schema_or_texts,
}
