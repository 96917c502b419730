"""Copies of JSON values.

A recursive copy of the containers alone: strings and numbers are immutable and stay shared, which is both faster than a trip
through orjson or marshal for objects of usual size and keeps one string in memory where two objects have it.
"""

from typing import Any, TypeVar, cast

T = TypeVar("T")


def deep_copy(value: T) -> T:
    """A JSON value that shares no container with `value`."""
    return cast(T, _copy(value))


def _copy(value: Any) -> Any:
    if type(value) is dict:
        copied = value.copy()
        for key, item in value.items():
            kind = type(item)
            if kind is dict or kind is list:
                copied[key] = _copy(item)
        return copied
    if type(value) is list:
        return [_copy(item) if type(item) is dict or type(item) is list else item for item in value]
    return value
