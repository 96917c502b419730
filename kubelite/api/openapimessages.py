"""The Swagger document as the message that Go clients ask for: openapi.v2.Document of gnostic.

What JSON has under free names is in messages a list of pairs, and an extension is its YAML (which JSON is too). Only what
documents of this server have is written.

Source: gnostic-models openapiv2/OpenAPIv2.proto, v0.7; kube-openapi pkg/handler, v0.34.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from kubelite.schema import wire

_Writer = Callable[[int, Any], bytes]
#: A message's fields by their names in JSON: number and how it is written. Extensions go to the number under "x-".
_Message = Mapping[str, tuple[int, _Writer]]


def encode(document: Mapping[str, Any]) -> bytes:
    return _fields(_DOCUMENT, document)


def _fields(message: _Message, value: Mapping[str, Any]) -> bytes:
    parts = []
    for name, item in value.items():
        if name.startswith("x-"):
            number, write = message["x-"]
            parts.append(wire.block(number, wire.text(1, name) + write(2, item)))
        elif name in message:
            number, write = message[name]
            parts.append(write(number, item))
    return b"".join(parts)


def _of(message: Callable[[], _Message]) -> _Writer:
    return lambda number, value: wire.block(number, _fields(message(), value))


def _each(write: _Writer) -> _Writer:
    """A list."""
    return lambda number, values: b"".join([write(number, value) for value in values])


def _pairs(write: _Writer, inner: int = 1) -> _Writer:
    """Named values: a message whose field `inner` is a list of pairs."""

    def written(number: int, values: Mapping[str, Any]) -> bytes:
        pairs = [wire.block(inner, wire.text(1, name) + write(2, value)) for name, value in values.items()]
        return wire.block(number, b"".join(pairs))

    return written


def _within(inner: int, write: _Writer) -> _Writer:
    """A value in a message that has nothing else."""
    return lambda number, value: wire.block(number, write(inner, value))


def _any(number: int, value: Any) -> bytes:
    return wire.block(number, wire.text(2, orjson.dumps(value).decode()))


def _types(number: int, value: str | list[str]) -> bytes:
    return wire.block(number, _each(wire.text)(1, [value] if isinstance(value, str) else value))


def _additional(number: int, value: Any) -> bytes:
    if isinstance(value, bool):
        return wire.block(number, wire.count(2, value))
    return wire.block(number, _SCHEMA_OF(1, value))


def _parameter(number: int, value: Mapping[str, Any]) -> bytes:
    if value["in"] == "body":
        return wire.block(number, wire.block(1, wire.block(1, _fields(_BODY, value))))
    kind, fields = {"query": (3, _QUERY), "path": (4, _PATH)}[value["in"]]
    return wire.block(number, wire.block(1, wire.block(2, wire.block(kind, _fields(fields, value)))))


def _extended(number: int, fields: _Message) -> _Message:
    return {**fields, "x-": (number, _any)}


_SCHEMA_OF = _of(lambda: _SCHEMA)
_SCHEMA: _Message = _extended(
    31,
    {
        "$ref": (1, wire.text),
        "format": (2, wire.text),
        "title": (3, wire.text),
        "description": (4, wire.text),
        "default": (5, _any),
        "multipleOf": (6, wire.double),
        "maximum": (7, wire.double),
        "exclusiveMaximum": (8, wire.count),
        "minimum": (9, wire.double),
        "exclusiveMinimum": (10, wire.count),
        "maxLength": (11, wire.count),
        "minLength": (12, wire.count),
        "pattern": (13, wire.text),
        "maxItems": (14, wire.count),
        "minItems": (15, wire.count),
        "uniqueItems": (16, wire.count),
        "maxProperties": (17, wire.count),
        "minProperties": (18, wire.count),
        "required": (19, _each(wire.text)),
        "enum": (20, _each(_any)),
        "additionalProperties": (21, _additional),
        "type": (22, _types),
        "items": (23, _within(1, _SCHEMA_OF)),
        "properties": (25, _pairs(_SCHEMA_OF)),
        "example": (30, _any),
    },
)
_BODY: _Message = {
    "description": (1, wire.text),
    "name": (2, wire.text),
    "in": (3, wire.text),
    "required": (4, wire.count),
    "schema": (5, _SCHEMA_OF),
}
_PATH: _Message = {
    "required": (1, wire.count),
    "in": (2, wire.text),
    "description": (3, wire.text),
    "name": (4, wire.text),
    "type": (5, wire.text),
    "uniqueItems": (19, wire.count),
}
_QUERY: _Message = {**_PATH, "type": (6, wire.text), "uniqueItems": (20, wire.count)}
_RESPONSE: _Message = {"description": (1, wire.text), "schema": (2, _within(1, _SCHEMA_OF))}
_OPERATION: _Message = _extended(
    13,
    {
        "tags": (1, _each(wire.text)),
        "description": (3, wire.text),
        "operationId": (5, wire.text),
        "produces": (6, _each(wire.text)),
        "consumes": (7, _each(wire.text)),
        "parameters": (8, _each(_parameter)),
        "responses": (9, _pairs(_within(1, _of(lambda: _RESPONSE)))),
        "schemes": (10, _each(wire.text)),
    },
)
_OPERATION_OF = _of(lambda: _OPERATION)
_PATH_ITEM: _Message = {
    "get": (2, _OPERATION_OF),
    "put": (3, _OPERATION_OF),
    "post": (4, _OPERATION_OF),
    "delete": (5, _OPERATION_OF),
    "patch": (8, _OPERATION_OF),
    "parameters": (9, _each(_parameter)),
}
_KEY: _Message = {"type": (1, wire.text), "name": (2, wire.text), "in": (3, wire.text), "description": (4, wire.text)}
_DOCUMENT: _Message = {
    "swagger": (1, wire.text),
    "info": (2, _of(lambda: {"title": (1, wire.text), "version": (2, wire.text)})),
    "paths": (8, _pairs(_of(lambda: _PATH_ITEM), 2)),
    "definitions": (9, _pairs(_SCHEMA_OF)),
    "security": (12, _each(_pairs(_within(1, _each(wire.text))))),
    "securityDefinitions": (13, _pairs(_within(2, _of(lambda: _KEY)))),
}
