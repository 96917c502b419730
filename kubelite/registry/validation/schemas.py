"""Checks of the schemas of custom kinds: they have to be structural, so that values can be pruned and defaulted.

Source: apiextensions-apiserver pkg/apis/apiextensions/validation and pkg/apiserver/schema, v0.34; KEP-1111.
"""

import re
from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.registry.validation import custom, rules

_Schema = Mapping[str, Any]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_NESTED = ("allOf", "anyOf", "oneOf")
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
#: What a schema inside of allOf, anyOf, oneOf or not can't say: (field, the text).
_NOT_NESTED = (
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)
_UNSUPPORTED = ("$ref", "definitions", "dependencies", "patternProperties", "$schema", "id", "additionalItems")
_LEVELS = {"root": "at the root", "items": "for specified array items", "field": "for specified object fields"}


def check(schema: _Schema, path: str) -> list[Cause]:
    """The faults of a version's schema."""
    causes: list[Cause] = []
    _check(schema, path, causes, "root")
    if not causes:
        _check_defaults(schema, path, causes)
    return causes


def _check(schema: _Schema, path: str, causes: list[Cause], level: str) -> None:
    kind = schema.get("type") or ""
    before = len(causes)
    unsupported = [field for field in _UNSUPPORTED if schema.get(field)]
    causes += [errors.forbidden(f"{path}.{field}", f"{field} is not supported") for field in unsupported]
    if kind and kind not in _TYPES:
        causes.append(errors.not_supported(f"{path}.type", kind, _TYPES))
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        causes.append(errors.forbidden(f"{path}.uniqueItems", text))
    _check_pattern(schema, path, causes)
    _check_extensions(schema, path, causes)
    _check_list(schema, path, causes)
    if len(causes) == before:
        _check_type(schema, path, causes, level)
    _check_rules(schema, path, causes)
    properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    if properties and rest not in (None, True):
        text = "additionalProperties and properties are mutual exclusive"
        causes.append(errors.forbidden(f"{path}.additionalProperties", text))
    elif level == "root" and rest is not None:
        causes.append(errors.forbidden(f"{path}.additionalProperties", "must not be used at the root"))
    _check_metadata(schema, path, causes, level == "root" or bool(schema.get("x-kubernetes-embedded-resource")))
    for name, below in properties.items():
        if isinstance(below, Mapping) and not (level == "root" and name in ("metadata", "apiVersion", "kind")):
            _check(below, f"{path}.properties[{name}]", causes, "field")
    if isinstance(rest, Mapping):
        _check(rest, f"{path}.additionalProperties", causes, "field")
    if isinstance(schema.get("items"), Mapping):
        _check(schema["items"], f"{path}.items", causes, "items")
    if not schema.get("x-kubernetes-int-or-string"):
        _check_nested(schema, path, causes)


def _check_pattern(schema: _Schema, path: str, causes: list[Cause]) -> None:
    pattern = schema.get("pattern")
    if not pattern:
        return
    try:
        re.compile(pattern)
    except re.error as e:
        why = f"missing closing ]: `{pattern[e.pos or 0 :]}`" if "unterminated character set" in e.msg else e.msg
        text = f"must be a valid regular expression, but isn't: error parsing regexp: {why}"
        causes.append(errors.invalid(f"{path}.pattern", pattern, text))


def _check_extensions(schema: _Schema, path: str, causes: list[Cause]) -> None:
    kind, map_type, list_type = (schema.get(f) for f in ("type", "x-kubernetes-map-type", "x-kubernetes-list-type"))
    preserving = "x-kubernetes-preserve-unknown-fields"
    if schema.get(preserving) is False:
        causes.append(errors.invalid(f"{path}.{preserving}", False, "must be true or undefined"))
    for given, field, wanted, values in (
        (map_type, "x-kubernetes-map-type", "object", ("atomic", "granular")),
        (list_type, "x-kubernetes-list-type", "array", ("atomic", "set", "map")),
    ):
        if given is None:
            continue
        text = f"must be {wanted} if {field} is specified"
        if not kind:
            causes.append(errors.required(f"{path}.type", text))
        elif kind != wanted:
            causes.append(errors.invalid(f"{path}.type", kind, text))
        if given not in values:
            causes.append(errors.not_supported(f"{path}.{field}", given, values))
    if schema.get("x-kubernetes-int-or-string"):
        for field in (preserving, "x-kubernetes-embedded-resource"):
            if schema.get(field):
                text = "must be false if x-kubernetes-int-or-string is true"
                causes.append(errors.invalid(f"{path}.{field}", True, text))


def _check_list(schema: _Schema, path: str, causes: list[Cause]) -> None:
    """Lists that are maps have keys, which every item has."""
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    at = f"{path}.x-kubernetes-list-map-keys"
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        where = f"{path}.x-kubernetes-list-type"
        causes.append(errors.required(where, text) if list_type is None else errors.invalid(where, list_type, text))
    items = schema.get("items")
    if list_type in ("set", "map") and isinstance(items, Mapping) and items.get("nullable"):
        text = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        causes.append(errors.forbidden(f"{path}.items.nullable", text))
    if list_type != "map":
        return
    if not keys:
        causes.append(errors.required(at, "must not be empty if x-kubernetes-list-type is map"))
    if not isinstance(items, Mapping):
        causes.append(errors.required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map"))
        return
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        causes.append(errors.invalid(f"{path}.items.type", items.get("type", ""), text))
        return
    properties = items.get("properties") or {}
    for index, key in enumerate(keys):
        below, inner = properties.get(key), f"{path}.items.properties[{key}]"
        if key in keys[:index]:
            causes.append(errors.invalid(at, keys, "must not contain duplicate entries"))
        if below is None:
            causes.append(errors.invalid(at, keys, "entries must all be names of item properties"))
            continue
        if below.get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            causes.append(errors.invalid(f"{inner}.type", items["type"], text))
        because = "this property is in x-kubernetes-list-map-keys, so it"
        if key not in (items.get("required") or ()) and below.get("default") is None:
            causes.append(errors.required(f"{inner}.default", f"{because} must have a default or be a required property"))
        if below.get("nullable"):
            causes.append(errors.forbidden(f"{inner}.nullable", f"{because} cannot be nullable"))


def _check_type(schema: _Schema, path: str, causes: list[Cause], level: str) -> None:
    """Every value has a type, or says why it has none."""
    kind = schema.get("type") or ""
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    embedded = schema.get("x-kubernetes-embedded-resource")
    if embedded and kind != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        causes.append(errors.invalid(f"{path}.type", kind, text) if kind else errors.required(f"{path}.type", text))
    elif not kind and not free:
        causes.append(errors.required(f"{path}.type", f"must not be empty {_LEVELS[level]}"))
    if level == "root" and kind and kind != "object":
        causes.append(errors.invalid(f"{path}.type", kind, "must be object at the root"))
    if kind == "array" and schema.get("items") is None:
        causes.append(errors.required(f"{path}.items", "must be specified"))
    if embedded and not schema.get("x-kubernetes-preserve-unknown-fields") and not schema.get("properties"):
        text = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        causes.append(errors.required(f"{path}.properties", text))
    if embedded and schema.get("additionalProperties") is not None:
        text = "must not be used if x-kubernetes-embedded-resource is set"
        causes.append(errors.forbidden(f"{path}.additionalProperties", text))


def _check_metadata(schema: _Schema, path: str, causes: list[Cause], is_resource: bool) -> None:
    """Of an object's own metadata only the name can be restricted."""
    properties = schema.get("properties") or {}
    if not is_resource:
        return
    for field in ("kind", "apiVersion"):
        below = properties.get(field)
        if isinstance(below, Mapping) and below.get("type") != "string":
            at = f"{path}.properties[{field}].type"
            causes.append(errors.invalid(at, below.get("type", ""), "must be string"))
    below = properties.get("metadata")
    if not isinstance(below, Mapping):
        return
    at = f"{path}.properties[metadata]"
    if below.get("type") != "object":
        causes.append(errors.invalid(f"{at}.type", below.get("type", ""), "must be object"))
    allowed = {"type", "description", "properties"}
    if set(below) - allowed or set(below.get("properties") or ()) - {"name", "generateName"}:
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        causes.append(errors.forbidden(at, text))


def _check_nested(schema: _Schema, path: str, causes: list[Cause]) -> None:
    """The schemas in allOf, anyOf, oneOf and not state rules of values only."""
    below = [(f"{path}.{f}[{i}]", item) for f in _NESTED for i, item in enumerate(schema.get(f) or ())]
    if schema.get("not"):
        below.append((f"{path}.not", schema["not"]))
    for at, nested in below:
        if isinstance(nested, Mapping):
            _check_inside(nested, at, causes)


def _check_inside(schema: _Schema, path: str, causes: list[Cause]) -> None:
    said = [(field, text) for field, text in _NOT_NESTED if schema.get(field) not in (None, "", False, [])]
    causes += [errors.forbidden(f"{path}.{field}", text) for field, text in said]
    for name, below in (schema.get("properties") or {}).items():
        if isinstance(below, Mapping):
            _check_inside(below, f"{path}.properties[{name}]", causes)
    if isinstance(schema.get("items"), Mapping):
        _check_inside(schema["items"], f"{path}.items", causes)
    _check_nested(schema, path, causes)


def _check_rules(schema: _Schema, path: str, causes: list[Cause]) -> None:
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        at = f"{path}.x-kubernetes-validations[{index}]"
        source, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
        if source and message and not message.strip():
            causes.append(errors.invalid(f"{at}.message", message, "must be non-empty if specified"))
        elif source and "\n" in message.strip():
            causes.append(errors.invalid(f"{at}.message", message, "must not contain line breaks"))
        elif "\n" in source and not message:
            text = "message must be specified if rule contains line breaks"
            causes.append(errors.required(f"{at}.message", text))
        reason = rule.get("reason")
        if reason is not None and reason not in _REASONS:
            causes.append(errors.not_supported(f"{at}.reason", reason, _REASONS))
    rules.check_rules(schema, path, causes)


def _check_defaults(schema: _Schema, path: str, causes: list[Cause]) -> None:
    """Defaults are values of their own schema, without fields that would be pruned."""
    if schema.get("default") is not None:
        found: list[Cause] = []
        custom.check_value(schema, schema["default"], f"{path}.default", found)
        causes += found
        if not found and _has_unknown(schema, schema["default"]):
            causes.append(errors.invalid(f"{path}.default", schema["default"], "must not have unknown fields"))
    for name, below in (schema.get("properties") or {}).items():
        if isinstance(below, Mapping):
            _check_defaults(below, f"{path}.properties[{name}]", causes)
    for field in ("items", "additionalProperties"):
        if isinstance(schema.get(field), Mapping):
            _check_defaults(schema[field], f"{path}.{field}", causes)


def _has_unknown(schema: _Schema, value: Any) -> bool:
    if isinstance(value, list):
        items = schema.get("items")
        return isinstance(items, Mapping) and any(_has_unknown(items, item) for item in value)
    if not isinstance(value, Mapping) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return False
    properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, item in value.items():
        below = properties.get(name, rest)
        if below is None or below is False or (isinstance(below, Mapping) and _has_unknown(below, item)):
            return True
    return False
