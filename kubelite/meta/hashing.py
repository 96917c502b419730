"""Hashes that end up in names and labels.

A hash names an object's content (a pod template, a list of endpoints) so that the same content gets the same name. It is our
own over canonical JSON: nobody may compare it with one that another program computed.
"""

from typing import Any

import orjson

from kubelite.meta.names import SAFE_LETTERS

_FNV32_OFFSET, _FNV32_PRIME = 0x811C9DC5, 0x01000193


def fnv32a(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    state = _FNV32_OFFSET
    for byte in data:
        state = ((state ^ byte) * _FNV32_PRIME) & 0xFFFFFFFF
    return state


def safe_encode(text: str) -> str:
    """The text with each letter turned into one that random suffixes also use.

    Source: apimachinery pkg/util/rand SafeEncodeString.
    """
    return "".join(SAFE_LETTERS[ord(letter) % len(SAFE_LETTERS)] for letter in text)


def of_value(value: Any, collisions: int | None = None) -> str:
    """A short hash of a JSON value, safe in names and labels; `collisions` makes another one of the same value."""
    data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if collisions is not None:
        data += b"#%d" % collisions
    return safe_encode(str(fnv32a(data)))
