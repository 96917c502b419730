"""Objects of custom kinds against the schema of their definition.

An update is not refused for what the stored object had wrong already: values that are as they were are not looked at again.

Source: apiextensions-apiserver pkg/registry/customresource (strategy.go, validator.go) and pkg/apiserver/schema/listtype, v0.34;
KEP-4008.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import embedded, rules, schemavalues
from kubelite.schema.structure import Structure, somewhere

_Schema = Mapping[str, Any]

#: Faults that keep the rules from being asked, as they expect values of the right shape.
_BLOCKING = frozenset(
    ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
)
_NOT_CHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What of a schema has to be looked at besides values."""

    has_rules: bool
    has_keyed_lists: bool


def validate(structure: Structure, new: Obj, old: Obj | None, subresource: str, warnings: list[str]) -> list[Cause]:
    """The faults of an object's own fields (its metadata is checked elsewhere), by the status subresource those of its status.
    Faults of rules that an unchanged value has are warnings."""
    schema = structure.raw
    if not schema:
        return []
    facts = _facts(structure)
    causes = _of_values(schema, new, old, only_status=subresource == "status")
    if structure.holds_objects and subresource != "status":
        causes += embedded.check(schema, new)
    if facts.has_keyed_lists and not (old is not None and any(_of_lists(schema, old, ""))):
        causes += _of_lists(schema, new, "")
    if facts.has_rules:
        if any(cause.reason in _BLOCKING for cause in causes):
            causes.append(Cause("<nil>", "FieldValueInvalid", _NOT_CHECKED))
        else:
            rules.validate(schema, new, old, "", causes, warnings)
    return causes


def _of_values(schema: _Schema, new: Obj, old: Obj | None, only_status: bool) -> list[Cause]:
    causes: list[Cause] = []
    if not only_status:
        schemavalues.check(schema, new, "", causes, schemavalues.ABSENT if old is None else old)
        return schemavalues.told(causes)
    status = (schema.get("properties") or {}).get("status")
    if status is not None and "status" in new:
        before = (old or {}).get("status", schemavalues.ABSENT)
        schemavalues.check(status, new["status"], "", causes, before)
    return schemavalues.told(causes, "status")


def _facts(structure: Structure) -> _Facts:
    """Kept with the structure, which lives as long as the definition's version."""
    if structure.validated is None:
        schema = structure.raw or {}
        structure.validated = _Facts(
            has_rules=somewhere(schema, lambda part: bool(part.get("x-kubernetes-validations"))),
            has_keyed_lists=somewhere(schema, lambda part: part.get("x-kubernetes-list-type") in ("set", "map")),
        )
    found: _Facts = structure.validated
    return found


def _of_lists(schema: _Schema, value: Any, path: str) -> Iterator[Cause]:
    """Lists of type set have no item twice, and those of type map no key."""
    if isinstance(value, list):
        match schema.get("x-kubernetes-list-type"):
            case "set":
                yield from _repeated(value, value, path)
            case "map":
                yield from _of_map(schema, value, path)
    for below, item, at in schemavalues.within(schema, value, path):
        yield from _of_lists(below, item, at)


def _of_map(schema: _Schema, value: Sequence[Any], path: str) -> Iterator[Cause]:
    for index, item in enumerate(value):
        if item is not None and not isinstance(item, dict):
            yield errors.invalid(f"{path}[{index}]", item, "must be an object for an array of list-type map")
            return
    names = schema.get("x-kubernetes-list-map-keys") or ()
    yield from _repeated(value, [{name: item[name] for name in names if name in item} if item else {} for item in value], path)


def _repeated(value: Sequence[Any], keys: Sequence[Any], path: str) -> Iterator[Cause]:
    """The second of those that are equal."""
    seen: dict[bytes, int] = {}
    for index, key in enumerate(keys):
        identity = schemavalues.identity_of(key)
        seen[identity] = seen.get(identity, 0) + 1
        if seen[identity] == 2:
            yield errors.duplicate(f"{path}[{index}]", key)
