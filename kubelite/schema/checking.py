"""Does an object have the fields and types of its kind?

The usual answer, yes, is found at C speed by the type's msgspec model. Only when it is no does a walk in Python find out every
unknown field, or say what was wrong in the words of the real server's decoder.

Custom kinds are walked: what types their values must have is validation's to say, here only unknown fields matter.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from kubelite.meta import quantities, times
from kubelite.meta.errors import BadRequest
from kubelite.meta.types import Obj
from kubelite.schema import facts, models
from kubelite.schema.structure import NO_FIELDS, Structure


def check(structure: Structure, obj: Obj) -> list[str]:
    """The paths of fields that the structure does not know, such as `spec.foo` and `spec.containers[0].bar`.

    Raises:
        BadRequest: a value is of the wrong type; the text is the decoder's. Only for built-in kinds.
    """
    name = structure.definition
    if not name:
        return unknown_fields(structure, obj)
    try:
        models.check(name, obj)
    except msgspec.ValidationError as e:
        found: list[str] = []
        try:
            _walk(name, obj, "", (), found)
        except _Mismatch as mismatch:
            raise BadRequest(_explained(name, str(mismatch))) from None
        if not found:
            raise BadRequest(_explained(name, str(e))) from e
        return [path for path in found if path]
    return []


def normal(structure: Structure, obj: Obj) -> Obj:
    """A built-in kind's object in the form that the API writes: zero values of optional fields gone, fields that are always
    written there, quantities and times in their one form. Unknown fields and nulls are left out. A custom one comes back
    as it is.

    Raises:
        BadRequest: a value is of the wrong type.
    """
    name = structure.definition
    if not name:
        return obj
    try:
        return models.normal(name, obj)
    except msgspec.ValidationError:
        pass
    cleaned = without_nulls(prune(structure, obj), structure)
    try:
        return models.normal(name, cleaned)
    except msgspec.ValidationError as e:
        try:
            _walk(name, cleaned, "", (), [])
        except _Mismatch as mismatch:
            raise BadRequest(_explained(name, str(mismatch))) from None
        raise BadRequest(_explained(name, str(e))) from e


def prune(structure: Structure, obj: Obj) -> Obj:
    """A copy without the fields that the structure does not know; it shares what has none."""
    pruned: Obj = _pruned(structure, obj)
    return pruned


def unknown_fields(structure: Structure, obj: Obj) -> list[str]:
    """The paths of fields that the structure does not know."""
    found: list[str] = []
    _unknown(structure, obj, "", found)
    return found


def without_nulls(value: Any, structure: Structure | None = None) -> Any:
    """A copy without the fields whose value is null; it shares what has none. With the structure, a null in a map or a list is
    the zero of what that holds, as for a decoder into Go's types: `data: {a: }` in YAML is a key with an empty text;
    those of values that may be anything stay."""
    if structure is not None and structure.preserve_unknown and not structure.properties:
        return value
    if isinstance(value, dict):
        if all(item is not None and not isinstance(item, dict | list) for item in value.values()):
            return value
        if structure is None:
            return {key: without_nulls(item) for key, item in value.items() if item is not None}
        below, rest = structure.properties, structure.additional_properties
        zero = _zero(rest)
        made = ((key, zero if item is None else without_nulls(item, below.get(key, rest))) for key, item in value.items())
        return {key: item for key, item in made if item is not None}
    if isinstance(value, list):
        items = structure.items if structure is not None else None
        zero = _zero(items)
        return [zero if item is None else without_nulls(item, items) for item in value]
    return value


_ZEROS: Mapping[str, Any] = {"string": "", "integer": 0, "boolean": False, "object": {}}


def _zero(structure: Structure | None) -> Any:
    """What Go's decoder makes of a null that stands for a whole value, None where that is nothing."""
    if structure is None or structure.format == "date-time":
        return None
    return 0 if structure.quantity or structure.format == "int-or-string" else _ZEROS.get(structure.type)


def _unknown(structure: Structure, value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, dict):
        properties, values = structure.properties, structure.additional_properties
        for key, item in value.items():
            child = properties.get(key) or values
            if child is not None:
                if isinstance(item, dict | list):
                    _unknown(child, item, f"{path}.{key}" if path else key, found)
            elif not structure.preserve_unknown and (structure.type or properties):
                found.append(f"{path}.{key}" if path else key)
    elif isinstance(value, list) and (items := _items(structure)) is not None:
        for position, item in enumerate(value):
            if isinstance(item, dict | list):
                _unknown(items, item, f"{path}[{position}]", found)


def _items(structure: Structure) -> Structure | None:
    """The structure of items; where a custom schema speaks of none, they have no fields."""
    if structure.items is None and structure.raw is not None and not structure.preserve_unknown:
        return NO_FIELDS
    return structure.items


def _pruned(structure: Structure, value: Any) -> Any:
    if isinstance(value, dict):
        properties, values = structure.properties, structure.additional_properties
        if not properties and values is None and (structure.preserve_unknown or not structure.type):
            return value
        kept = {}
        for key, item in value.items():
            child = properties.get(key) or values
            if child is not None:
                kept[key] = _pruned(child, item) if isinstance(item, dict | list) else item
            elif structure.preserve_unknown:
                kept[key] = item
        return kept
    if isinstance(value, list) and (items := _items(structure)) is not None:
        return [_pruned(items, item) if isinstance(item, dict | list) else item for item in value]
    return value


class _Mismatch(Exception):
    """A value is of another type than its field; its text is the decoder's. `what` is that text without the field."""

    def __init__(self, text: str, what: tuple[str, str] | None = None) -> None:
        super().__init__(text)
        self.what = what


def _explained(name: str, detail: str) -> str:
    _, version, kind = name.rsplit(".", 2)
    return f'{kind} in version "{version}" cannot be handled as a {kind}: {detail}'


def _walk(name: str, value: Mapping[str, Any], path: str, stack: tuple[str, ...], found: list[str]) -> None:
    """Adds the unknown fields of a value of a type to `found`, an empty text for one that nobody is told of.

    Raises:
        _Mismatch: a value is of the wrong type.
    """
    known = facts.json_fields(name)
    for key, item in value.items():
        below = f"{path}.{key}" if path else key
        field = known.get(key)
        if field is None:
            if key in ("apiVersion", "kind") and facts.has_type_meta(name):
                if not isinstance(item, str) and item is not None:
                    raise _mismatch(name, (*stack, key), item, "string")
                continue
            found.append(below)
            continue
        if item is None:
            continue
        here = (*stack, key)
        if field.is_map:
            if not isinstance(item, dict):
                raise _mismatch(name, here, item, field.go_type)
            for inner_key, inner in item.items():
                if field.wrapped:
                    _texts(name, field, inner, here)
                elif inner is not None:
                    _value(name, field, inner, f"{below}.{inner_key}", here, found)
        elif field.is_list:
            if not isinstance(item, list):
                raise _mismatch(name, here, item, field.go_type)
            for position, inner in enumerate(item):
                if inner is not None:
                    _value(name, field, inner, f"{below}[{position}]", here, found)
        else:
            _value(name, field, item, below, here, found)


def _value(name: str, field: facts.Field, value: Any, path: str, stack: tuple[str, ...], found: list[str]) -> None:
    kind, go_type = field.type, field.go_item_type if field.is_list or field.is_map else field.go_type
    if field.is_message:
        if not isinstance(value, dict):
            raise _mismatch(name, stack, value, go_type)
        _walk(kind, value, path, stack, found)
        return
    match kind:
        case "string" | "Duration":
            fits = isinstance(value, str)
        case "bool":
            fits = isinstance(value, bool)
        case "int32" | "int64":
            limit = 1 << (31 if kind == "int32" else 63)
            fits = isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit
        case "double":
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        case "IntOrString":
            whole = isinstance(value, int) and not isinstance(value, bool) and -(1 << 31) <= value < 1 << 31
            fits, go_type = isinstance(value, str) or whole, "int32"
        case "FieldsV1":
            fits = isinstance(value, dict)
        case "Quantity":
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise _Mismatch(quantities.FORMAT_FAULT)
            try:
                quantities.parse(value)
            except ValueError as e:
                raise _Mismatch(str(e)) from None
            fits = True
        case "Time" | "MicroTime" if isinstance(value, str):
            try:
                times.parse_time(value) if kind == "Time" else times.parse_micro_time(value)
            except ValueError as e:
                raise _Mismatch(str(e)) from None
            fits = True
        case "Time" | "MicroTime":
            fits, go_type = False, "string"
        case "bytes":
            fits = isinstance(value, str)
            if fits:
                try:
                    models.decode(models.Bytes, value)
                except ValueError as e:
                    raise _Mismatch(str(e)) from None
        case "JSONSchemaPropsOrBool" if not isinstance(value, bool | dict):
            raise _Mismatch("boolean or JSON schema expected")
        case "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray":
            _walk_schemas(name, kind, value, stack, found)
            fits = True
        case _:
            fits = True
    if not fits:
        raise _mismatch(name, stack, value, go_type)


def _texts(name: str, field: facts.Field, value: Any, stack: tuple[str, ...]) -> None:
    """A list of texts that is a map's value."""
    if not isinstance(value, list):
        raise _mismatch(name, stack, value, field.go_item_type)
    for item in value:
        if not isinstance(item, str):
            raise _mismatch(name, stack, item, "string")


_SCHEMA = "apiextensions.v1.JSONSchemaProps"


def _walk_schemas(name: str, kind: str, value: Any, stack: tuple[str, ...], found: list[str]) -> None:
    """`_walk` of a value that decodes itself: what is wrong below is said of its own field, unknown fields below are ignored."""
    below: list[str] = []
    try:
        for item in value if isinstance(value, list) else [value] if isinstance(value, dict) else ():
            wanted: tuple[type, str] = (dict, "v1.JSONSchemaProps")
            if isinstance(value, list) and kind == "JSONSchemaPropsOrStringArray":
                wanted = (str, "string")
            if not isinstance(item, wanted[0]):
                raise _mismatch(name, stack, item, wanted[1])
            if isinstance(item, dict):
                _walk(_SCHEMA, item, "", (), below)
    except _Mismatch as e:
        raise _of_field(name, stack, *e.what) if e.what else e from None
    if below:
        found.append("")


def _mismatch(name: str, stack: tuple[str, ...], value: Any, go_type: str) -> _Mismatch:
    seen = json_type(value)
    if go_type in ("int32", "int64") and seen == "number":
        seen = f"number {value}"
    return _of_field(name, stack, seen, go_type)


def _of_field(name: str, stack: tuple[str, ...], seen: str, go_type: str) -> _Mismatch:
    field = f"{name.rpartition('.')[2]}.{'.'.join(stack)}"
    return _Mismatch(f"json: cannot unmarshal {seen} into Go struct field {field} of type {go_type}", (seen, go_type))


def json_type(value: Any) -> str:
    """A JSON value's type as decoding errors call it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
