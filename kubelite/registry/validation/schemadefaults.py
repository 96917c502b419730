"""The defaults in schemas of custom kinds: each is a value of its own schema, without fields that would be pruned.

Source: apiextensions-apiserver pkg/apiserver/schema/defaulting/validation.go, v0.34.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.registry.validation import embedded, rules, schemavalues
from kubelite.schema import checking, structure

_Schema = Mapping[str, Any]

_META = frozenset(("apiVersion", "kind", "metadata"))


def check(schema: _Schema, path: str) -> list[Cause]:
    """The faults of all defaults in the schema of a whole object."""
    return list(_check(schema, path, is_object=True, within=()))


def _check(schema: _Schema, path: str, is_object: bool, within: tuple[str | int, ...]) -> Iterator[Cause]:
    """`within` are the steps from the object around, where the schema describes a part of its metadata."""
    is_object = is_object or bool(schema.get("x-kubernetes-embedded-resource"))
    if schema.get("default") is not None:
        yield from _check_default(schema, f"{path}.default", is_object, within)
    if isinstance(schema.get("items"), Mapping):
        yield from _check(schema["items"], f"{path}.items", False, (*within, 0) if within else ())
    for name, below in (schema.get("properties") or {}).items():
        inside = (*within, name) if within or (is_object and name in _META) else ()
        yield from _check(below, f"{path}.properties[{name}]", False, inside)


def _check_default(schema: _Schema, path: str, is_object: bool, within: tuple[str | int, ...]) -> Iterator[Cause]:
    value = schema["default"]
    if not within and _has_unknown(schema, value, is_object):
        yield errors.invalid(path, value, "must not have unknown fields")
    faults = _of_metadata(value, within, path) if within else list(embedded.check(schema, value, path, is_object))
    if not faults:
        found: list[Cause] = []
        schemavalues.check(schema, value, "", found)
        faults = schemavalues.told(found, path)
    if not faults:
        rules.validate(schema, value, value, path, faults)
    if not faults:
        rules.validate(schema, value, None, path, faults)
    yield from faults


def _has_unknown(schema: _Schema, value: Any, is_object: bool) -> bool:
    shape = structure.of_schema({**schema, "x-kubernetes-embedded-resource": True} if is_object else schema)
    return bool(checking.unknown_fields(shape, value))


def _of_metadata(value: Any, within: tuple[str | int, ...], path: str) -> list[Cause]:
    """The faults of the object that has nothing but this default."""
    around = value
    for step in reversed(within):
        around = {step: around} if isinstance(step, str) else [around]
    whole = {"apiVersion": "validation/v1", "kind": "Validation", **around}
    faults = [str(cause) for cause in embedded.check({}, whole, is_object=True)]
    told = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
    return [errors.invalid(path, value, f"must result in valid metadata: {told}")] if faults else []
