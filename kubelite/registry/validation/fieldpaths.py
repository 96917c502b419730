"""Paths of fields as rules and selectable fields of custom kinds name them: `.spec.size`, `.spec.limits['cpu']`.

Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go (ValidFieldPath), v0.34.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]]+", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}
_NO_FIELD = "does not refer to a valid field"
_END = "unexpected end of JSON path"


def resolve(path: str, schema: Mapping[str, Any], brackets: bool = True) -> tuple[str, Mapping[str, Any]]:
    """The path in its usual form, `spec.limits[cpu]`, and the schema of what it names.

    Raises:
        ValueError: it names nothing that the schema knows; the text says why.
    """
    tokens = iter(_TOKEN.findall(path))
    found, at = "", schema
    for token in tokens:
        if token == "[":
            if not brackets:
                raise ValueError("array notation is not allowed")
            found, at = _step(found, at, _quoted(_next(tokens)))
            closing = _next(tokens)
            if closing != "]":
                raise ValueError(f"expected ] but got {closing}")
        elif token == ".":
            found, at = _step(found, at, _next(tokens))
        else:
            raise ValueError(f"expected [ or . but got: {token}")
    return found, at


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise ValueError(_END)
    return token


def _step(path: str, schema: Mapping[str, Any], name: str) -> tuple[str, Mapping[str, Any]]:
    properties, values = schema.get("properties"), schema.get("additionalProperties")
    if properties:
        if name not in properties:
            raise ValueError(_NO_FIELD)
        return (f"{path}.{name}" if path else name), properties[name]
    if not isinstance(values, Mapping):
        raise ValueError(_NO_FIELD)
    return f"{path}[{name}]", values


def _quoted(token: str) -> str:
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise ValueError(f"expected single quoted string but got {token}")

    def unescaped(found: re.Match[str]) -> str:
        letter = _ESCAPES.get(found[1])
        if letter is None:
            raise ValueError(f"invalid string literal: invalid escape char {found[0]}")
        return letter

    return re.sub(r"\\(.)", unescaped, token[1:-1], flags=re.DOTALL)
