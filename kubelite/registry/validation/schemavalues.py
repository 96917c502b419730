"""Values against OpenAPI schemas, as kube-openapi's validator takes them: every keyword is asked, whatever another one said.

`check` counts the keywords that a value passed: where none of the schemas in anyOf and oneOf fits, the faults of the one that
fits best are told. Faults are told of paths relative to the value; `told` makes them faults of an object's fields.

Source: kube-openapi pkg/validation/validate; apiextensions-apiserver pkg/apiserver/validation, v0.34.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import formats
from kubelite.schema import patterns

_Schema = Mapping[str, Any]

#: Stands for an old value that there is none of, or that can't be told.
ABSENT: Any = object()
#: Whole numbers above have none of their own as a float.
_MOST_WHOLE = 2**53 - 1
#: A whole number for which a quotient is taken is off by this part at most.
_OFF = 1e-9
#: What numbers are called where a format is missed.
_NUMBERS = {"integer": "int64", "number": "float64"}
_ITEM_TYPE = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def check(schema: _Schema, value: Any, path: str, causes: list[Cause], old: Any = ABSENT) -> int:
    """Adds the faults of a value, those apart that its `old` value had too; how many keywords it passed."""
    form = formats.known(schema.get("format"))
    if value is None:
        matched = _check_type(schema, form, value, path, causes)
        _check_enum(schema, value, path, causes)
        return matched
    matched = 4  # this value's own, that of what all types have, that of a combination of schemas, and what that has itself
    if form or "type" in schema or schema.get("x-kubernetes-int-or-string"):
        matched += 1 + _check_type(schema, form, value, path, causes)
    matched += _check_combined(schema, value, path, causes, old)
    if isinstance(value, str):
        matched += _check_text(schema, form, value, path, causes)
    elif isinstance(value, dict):
        matched += 1 + _check_object(schema, value, path, causes, old)
    elif isinstance(value, list):
        matched += 2 + _check_list(schema, value, path, causes, old)
    elif not isinstance(value, bool):
        matched += 2
        _check_number(schema, value, path, causes)
    _check_enum(schema, value, path, causes)
    return matched


def told(causes: Iterable[Cause], base: str = "") -> list[Cause]:
    """Faults as those of fields, each once; `base` is the path of the value that was checked."""
    dot = f"{base}." if base else ""
    return [Cause(f"{dot}{c.field}" if c.field else base or "<nil>", c.reason, c.message) for c in dict.fromkeys(causes)]


def within(schema: _Schema, value: Any, path: str) -> Iterator[tuple[_Schema, Any, str]]:
    """(schema, value, path) of each field or item of a value that has a schema."""
    if isinstance(value, dict):
        properties, values = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, item in value.items():
            if name in properties:
                yield properties[name], item, f"{path}.{name}" if path else name
            elif isinstance(values, Mapping):
                yield values, item, f"{path}[{name}]"
    elif isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
        for index, item in enumerate(value):
            yield items, item, f"{path}[{index}]"


def is_same(new: Any, old: Any) -> bool:
    """Whether two values are equal for JSON, where `true` is not `1`."""
    return bool(new == old) and identity_of(new) == identity_of(old)


def identity_of(value: Any) -> bytes:
    """The same for values that are equal, and for no others."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _below(schema: _Schema, value: Any, path: str, causes: list[Cause], old: Any) -> int:
    """`check` of a field or an item: one that is as it was is not looked at."""
    if old is not ABSENT and is_same(value, old):
        return 0
    return check(schema, value, path, causes, old)


def _invalid(path: str, value: Any, text: str) -> Cause:
    return errors.invalid(path, value, f"{path} in body {text}")


def _check_type(schema: _Schema, form: str, value: Any, path: str, causes: list[Cause]) -> int:
    kinds = ("integer", "string") if schema.get("x-kubernetes-int-or-string") else (schema["type"],) if "type" in schema else ()
    kind = _type_of(value)
    if value is None:
        fits = not kinds or bool(schema.get("nullable"))
    elif form and isinstance(value, str | list) and not {"number", "integer"}.intersection(kinds):
        fits = True  # what has a format is left to that
    else:
        fits = (
            kind in kinds
            or (kind == "integer" and "number" in kinds)
            or (kind == "number" and "integer" in kinds and _is_whole(value))
        )
    if not fits:
        wanted = ",".join(kinds)
        if form and value is not None and not isinstance(value, str | list):
            wanted, kind = schema["format"], _NUMBERS.get(kind, "")
        text = f'{path} in body must be of type {wanted}: "{kind}"'
        causes.append(Cause(path, "FieldValueTypeInvalid", f'Invalid value: "{kind}": {text}'))
    return int(fits)


def _type_of(value: Any) -> str:
    return _ITEM_TYPE.get(type(value), "null")


def _is_whole(value: float) -> bool:
    if abs(value) > _MOST_WHOLE:
        return False
    whole = int(value)
    return value == whole or (whole != 0 and abs(value - whole) / (abs(value) + abs(whole)) < _OFF)


def _check_enum(schema: _Schema, value: Any, path: str, causes: list[Cause]) -> None:
    enum = schema.get("enum")
    if not enum or any(_is_item(value, item) for item in enum):
        return
    listed = ", ".join(f'"{item if isinstance(item, str) else orjson.dumps(item).decode()}"' for item in enum)
    text = f"Unsupported value: {errors.format_value(value)}: supported values: {listed}"
    causes.append(Cause(path, "FieldValueNotSupported", text))


def _is_item(value: Any, item: Any) -> bool:
    if value is None or isinstance(value, bool) or isinstance(item, bool):
        return value is item and value is not None
    if isinstance(value, float) and isinstance(item, int):
        return int(value) == item  # converted to the item's type, as the real server does
    if isinstance(value, int) and isinstance(item, float):
        return value == item
    return is_same(value, item)


def _check_text(schema: _Schema, form: str, value: str, path: str, causes: list[Cause]) -> int:
    """The first limit that a text goes beyond, and its format."""
    longest, shortest, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if longest is not None and len(value) > longest:
        causes.append(errors.too_long(path, longest))
    elif shortest is not None and len(value) < shortest:
        causes.append(_invalid(path, value, f"should be at least {shortest} chars long"))
    elif pattern and not patterns.matches(pattern, value):
        causes.append(_invalid(path, value, f"should match '{pattern}'"))
    if not form:
        return 1
    if not formats.fits(form, value):
        text = f"{path} in body must be of type {schema['format']}: {errors.format_value(value)}"
        causes.append(Cause(path, "FieldValueTypeInvalid", f"Invalid value: {errors.format_value(value)}: {text}"))
    return 2


def _check_number(schema: _Schema, value: float, path: str, causes: list[Cause]) -> None:
    limits = (
        ("maximum", "exclusiveMaximum", "less than", 1),
        ("minimum", "exclusiveMinimum", "greater than", -1),
    )
    step = schema.get("multipleOf")
    if step is not None:
        _check_multiple(value, _as(value, step), path, causes)
    for field, exclusive, words, sign in limits:
        limit = schema.get(field)
        if limit is None:
            continue
        limit = _as(value, limit)
        over = (value - limit) * sign
        if over > 0 or (over == 0 and schema.get(exclusive)):
            text = f"should be {words} {'' if schema.get(exclusive) else 'or equal to '}{_plain(limit)}"
            causes.append(_invalid(path, value, text))


def _as(value: float, limit: float) -> float:
    """A limit as it is taken for a value: for whole numbers it is one too, cut off."""
    return int(limit) if isinstance(value, int) else limit


def _check_multiple(value: float, step: float, path: str, causes: list[Cause]) -> None:
    if step <= 0:
        shown = _plain(step)
        causes.append(errors.invalid(path, step, f"factor MultipleOf declared for {path} must be positive: {shown}"))
    elif value % step if isinstance(value, int) else not _is_whole(1 / step * value if step < 1 else value / step):
        causes.append(_invalid(path, value, f"should be a multiple of {_plain(step)}"))


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _check_object(schema: _Schema, value: Obj, path: str, causes: list[Cause], old: Any) -> int:
    dot = f"{path}." if path else ""
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if least is not None and len(value) < least:
        causes.append(_invalid(path, len(value), f"should have at least {least} properties"))
    if most is not None and len(value) > most:
        causes.append(errors.too_many(path, len(value), most))
    properties, values = schema.get("properties") or {}, schema.get("additionalProperties")
    before = old if isinstance(old, dict) else {}
    matched = 0
    for name, item in value.items():
        below = properties.get(name)
        if below is None:
            if values is False:
                causes.append(errors.invalid(path, name, f"{path}.{name} in body is a forbidden property"))
            below = values
        if isinstance(below, dict):
            matched += _below(below, item, f"{dot}{name}", causes, before.get(name, ABSENT))
    causes += [errors.required(f"{dot}{name}") for name in schema.get("required") or () if name not in value]
    return matched


def _check_list(schema: _Schema, value: Sequence[Any], path: str, causes: list[Cause], old: Any) -> int:
    most, least, items = schema.get("maxItems"), schema.get("minItems"), schema.get("items")
    matched = 0
    if isinstance(items, dict):
        before_of = correlated(schema, old)
        for index, item in enumerate(value):
            matched += _below(items, item, f"{path}[{index}]", causes, before_of(item))
    if least is not None and len(value) < least:
        causes.append(_invalid(path, len(value), f"should have at least {least} items"))
    if most is not None and len(value) > most:
        causes.append(errors.too_many(path, len(value), most))
    return matched


def correlated(schema: _Schema, old: Any) -> Any:
    """A function from a list's item to the old item that it was, ABSENT where that can't be told."""
    keys: Sequence[str] = schema.get("x-kubernetes-list-map-keys") or ()
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list):
        return lambda item: ABSENT

    def key_of(item: Mapping[str, Any]) -> bytes:
        return identity_of([item.get(key) for key in keys])

    before = {key_of(item): item for item in reversed(old) if isinstance(item, Mapping)}
    return lambda item: before.get(key_of(item), ABSENT) if isinstance(item, Mapping) else ABSENT


def _check_combined(schema: _Schema, value: Any, path: str, causes: list[Cause], old: Any) -> int:
    """What allOf, anyOf, oneOf and not say."""
    some, one, every, none = (schema.get(field) for field in ("anyOf", "oneOf", "allOf", "not"))
    matched = 0
    if some:
        tried = [_tried(part, value, path, old) for part in some]
        if not any(not faults for _, faults in tried):
            causes.append(_of_schemas(path, "at least one schema (anyOf)"))
        matched += _best(tried, causes)
    if one:
        tried = [_tried(part, value, path, old) for part in one]
        count = sum(not faults for _, faults in tried)
        if count != 1:
            found = f"{count} valid alternatives" if count else "none valid"
            causes.append(_of_schemas(path, f"one and only one schema (oneOf). Found {found}"))
        matched += _best(tried, causes) if count < 2 else 0
    if every:
        tried = [_tried(part, value, path, old) for part in every]
        wrong = [faults for _, faults in tried if faults]
        causes += [fault for faults in wrong for fault in faults]
        matched += sum(count for count, _ in tried)
        if wrong:
            causes.append(_of_schemas(path, "all the schemas (allOf)" + (". None validated" if len(wrong) == len(tried) else "")))
    if none is not None and not _tried(none, value, path, old)[1]:
        causes.append(errors.invalid("", "", f'"{path}" must not validate the schema (not)'))
    return matched


def _best(tried: Sequence[tuple[int, list[Cause]]], causes: list[Cause]) -> int:
    """What the first schema that fits counted, or the one that fits best, whose faults are added."""
    for matched, faults in tried:
        if not faults:
            return matched
    matched, faults = max(tried, key=lambda found: found[0])
    causes += faults
    return matched


def _of_schemas(path: str, which: str) -> Cause:
    return errors.invalid("", "", f'"{path}" must validate {which}')


def _tried(schema: _Schema, value: Any, path: str, old: Any) -> tuple[int, list[Cause]]:
    faults: list[Cause] = []
    return check(schema, value, path, faults, old), faults
