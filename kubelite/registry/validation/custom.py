"""Objects of custom kinds against the OpenAPI schema of their definition.

Source: kube-openapi pkg/validation/validate (texts), apiextensions-apiserver pkg/apiserver/validation, v0.34.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from kubelite.meta import errors, times
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import rules
from kubelite.schema.structure import Structure

_Schema = Mapping[str, Any]


def validate(structure: Structure, new: Obj, old: Obj | None) -> list[Cause]:
    """The faults of an object's own fields; its metadata is checked elsewhere."""
    schema = structure.raw
    causes: list[Cause] = []
    if schema:
        _object(schema, new, "", causes, top=True)
        if _has_rules(structure):
            if any(cause.reason in _BLOCKING for cause in causes):
                causes.append(Cause("<nil>", "FieldValueInvalid", _NOT_CHECKED))
            else:
                rules.validate(schema, new, old, "", causes)
    return causes


#: Faults that keep the rules from being asked, as they expect values of the right shape.
_BLOCKING = frozenset(
    ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
)
_NOT_CHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


def _has_rules(structure: Structure) -> bool:
    """Kept with the structure, which lives as long as the definition's version."""
    if structure.validated is None:
        structure.validated = rules.has_rules(structure.raw or {})
    return bool(structure.validated)


def _invalid(path: str, value: Any, text: str) -> Cause:
    return errors.invalid(path, value, f"{path or '<nil>'} in body {text}")


def check_value(schema: _Schema, value: Any, path: str, causes: list[Cause]) -> None:
    """Adds the faults of a single value, such as a default, against its schema."""
    found: list[Cause] = []
    _check(schema, value, path, found)
    causes += [Cause(c.field, c.reason, c.message.replace(f"{path} in body", " in body")) for c in found]


def _check(schema: _Schema, value: Any, path: str, causes: list[Cause]) -> None:
    if value is None:
        if not schema.get("nullable") and (schema.get("type") or schema.get("x-kubernetes-int-or-string")):
            kind = schema.get("type") or "integer,string"
            causes.append(_type_fault(path, "null", f'{path} in body must be of type {kind}: "null"'))
        return
    if not _type_matches(schema, value):
        kind = schema.get("type", "")
        if schema.get("x-kubernetes-int-or-string"):
            kind = "integer,string"
        seen = _type_of(value)
        causes.append(_type_fault(path, seen, f'{path} in body must be of type {kind}: "{seen}"'))
        return
    enum = schema.get("enum")
    if enum is not None and value not in enum:
        allowed = [item if isinstance(item, str) else orjson.dumps(item).decode() for item in enum]
        listed = ", ".join(f'"{item}"' for item in allowed)
        text = f"Unsupported value: {errors.format_value(value)}: supported values: {listed}"
        causes.append(Cause(path, "FieldValueNotSupported", text))
    if isinstance(value, str):
        _text(schema, value, path, causes)
    elif isinstance(value, dict):
        _object(schema, value, path, causes)
    elif isinstance(value, list):
        _list(schema, value, path, causes)
    elif not isinstance(value, bool):
        _number(schema, value, path, causes)
    _combined(schema, value, path, causes)


def _type_fault(path: str, value: Any, text: str) -> Cause:
    return Cause(path, "FieldValueTypeInvalid", f"Invalid value: {errors.format_value(value)}: {text}")


def _type_matches(schema: _Schema, value: Any) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, int | str) and not isinstance(value, bool)
    match schema.get("type"):
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return True


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _text(schema: _Schema, value: str, path: str, causes: list[Cause]) -> None:
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None and len(value) > longest:
        causes.append(errors.too_long(path, int(longest)))
    if shortest is not None and len(value) < shortest:
        causes.append(_invalid(path, value, f"should be at least {int(shortest)} chars long"))
    pattern = schema.get("pattern")
    if pattern and not _matcher(pattern)(value):
        causes.append(_invalid(path, value, f"should match '{pattern}'"))
    form = schema.get("format")
    if form and form in _FORMATS and not _FORMATS[form](value):
        causes.append(_type_fault(path, value, f'{path} in body must be of type {form}: "{value}"'))


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Callable[[str], object]:
    """Go's syntax differs in a few escapes that Python does not know."""
    translated = pattern.replace(r"\z", r"\Z").replace("(?P<", "(?P<")
    translated = re.sub(r"\[\[:(\w+):\]\]", lambda m: _POSIX.get(m.group(1), m.group(0)), translated)
    try:
        compiled = re.compile(translated, re.ASCII)
    except re.error:
        return lambda text: True  # a pattern that cannot be run refuses nothing
    return compiled.search


_POSIX = {
    "alnum": "[0-9A-Za-z]",
    "alpha": "[A-Za-z]",
    "digit": "[0-9]",
    "lower": "[a-z]",
    "upper": "[A-Z]",
    "space": r"\s",
    "xdigit": "[0-9A-Fa-f]",
}


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def is_fine(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return is_fine


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _parses(times.parse_time),
    "datetime": _parses(times.parse_time),
    "date": _parses(date.fromisoformat),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": _parses(lambda text: ipaddress.ip_network(text, strict=False)),
    "uuid": _parses(UUID),
    "duration": _parses(times.parse_go_duration),
    "email": lambda text: re.fullmatch(r"[^@\s]+@[^@\s]+", text) is not None,
    "uri": lambda text: re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text) is not None,
    "hostname": lambda text: re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,252})", text) is not None,
    "byte": lambda text: re.fullmatch(r"[A-Za-z0-9+/\s]*={0,2}\s*", text) is not None,
}


def _number(schema: _Schema, value: float, path: str, causes: list[Cause]) -> None:
    most, least, step = schema.get("maximum"), schema.get("minimum"), schema.get("multipleOf")
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        text = "should be less than" if schema.get("exclusiveMaximum") else "should be less than or equal to"
        causes.append(_invalid(path, value, f"{text} {_plain(most)}"))
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        text = "should be greater than" if schema.get("exclusiveMinimum") else "should be greater than or equal to"
        causes.append(_invalid(path, value, f"{text} {_plain(least)}"))
    if step and value % step:
        causes.append(_invalid(path, value, f"should be a multiple of {_plain(step)}"))
    form = schema.get("format")
    if form == "int32" and not -(2**31) <= value < 2**31:
        causes.append(_invalid(path, value, f'must be of type int32: "{_plain(value)}"'))


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _object(schema: _Schema, value: Obj, path: str, causes: list[Cause], top: bool = False) -> None:
    dot = f"{path}." if path else ""
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if most is not None and len(value) > most:
        causes.append(errors.too_many(path, len(value), int(most)))
    if least is not None and len(value) < least:
        causes.append(_invalid(path, value, f"should have at least {int(least)} properties"))
    causes += [errors.required(f"{dot}{name}") for name in schema.get("required") or () if name not in value]
    properties = schema.get("properties") or {}
    values = schema.get("additionalProperties")
    for name, item in value.items():
        if top and name in ("apiVersion", "kind", "metadata"):
            continue
        below = properties.get(name)
        if below is not None:
            _check(below, item, f"{dot}{name}", causes)
        elif isinstance(values, dict):
            _check(values, item, f"{dot}{name}", causes)
    if top:
        _combined(schema, value, path, causes)


def _list(schema: _Schema, value: Sequence[Any], path: str, causes: list[Cause]) -> None:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        causes.append(errors.too_many(path, len(value), int(most)))
    if least is not None and len(value) < least:
        causes.append(_invalid(path, value, f"should have at least {int(least)} items"))
    items = schema.get("items")
    if isinstance(items, dict):
        for index, item in enumerate(value):
            _check(items, item, f"{path}[{index}]", causes)
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set" or schema.get("uniqueItems"):
        _unique(value, path, causes, lambda item: item)
    elif kind == "map":
        keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        _unique(value, path, causes, lambda item: _keyed(item, keys))


def _keyed(item: Any, keys: Sequence[str]) -> Any:
    return {key: item[key] for key in keys if key in item} if isinstance(item, dict) else item


def _unique(value: Sequence[Any], path: str, causes: list[Cause], key: Callable[[Any], Any]) -> None:
    seen: set[bytes] = set()
    for index, item in enumerate(value):
        identity = key(item)
        encoded = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        if encoded in seen:
            causes.append(errors.duplicate(f"{path}[{index}]", identity))
        seen.add(encoded)


def _combined(schema: _Schema, value: Any, path: str, causes: list[Cause]) -> None:
    every, some, one, none = (schema.get(name) for name in ("allOf", "anyOf", "oneOf", "not"))
    if every:
        for part in every:
            _check(part, value, path, causes)
    if some and not schema.get("x-kubernetes-int-or-string") and not any(_holds(part, value) for part in some):
        causes.append(_invalid(path, value, "must validate at least one schema (anyOf)"))
    if one:
        count = sum(_holds(part, value) for part in one)
        if count != 1:
            found = "none valid" if count == 0 else f"{count} valid alternatives"
            causes.append(_invalid(path, value, f"must validate one and only one schema (oneOf). Found {found}"))
    if none and _holds(none, value):
        causes.append(_invalid(path, value, "must not validate the schema (not)"))


def _holds(schema: _Schema, value: Any) -> bool:
    faults: list[Cause] = []
    _check(schema, value, "", faults)
    return not faults
