"""Whether the schemas of custom kinds are structural: every value has one type, said in one place, and what allOf, anyOf, oneOf
and not say are rules about values only.

Source: apiextensions-apiserver pkg/apiserver/schema (convert.go, validation.go, complete.go), v0.34; KEP-1111.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.schema import patterns

_Schema = Mapping[str, Any]

_AT_ROOT, _OF_ITEMS, _OF_FIELDS = "at the root", "for specified array items", "for specified object fields"
#: What anyOf says of an integer or a text.
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
#: What a schema in allOf, anyOf, oneOf or not can't say, and how it must be instead.
_NOT_NESTED = {
    "type": "empty",
    "additionalProperties": "undefined",
    "default": "undefined",
    "title": "empty",
    "description": "empty",
    "nullable": "false",
    "x-kubernetes-preserve-unknown-fields": "false",
    "x-kubernetes-embedded-resource": "false",
    "x-kubernetes-int-or-string": "false",
    "x-kubernetes-list-map-keys": "empty",
    "x-kubernetes-list-type": "undefined",
    "x-kubernetes-map-type": "undefined",
    "x-kubernetes-validations": "empty",
}
#: Keywords that structural schemas don't have, by the names in the text.
_UNSUPPORTED = {
    "id": "id",
    "$schema": "schema",
    "$ref": "$ref",
    "patternProperties": "patternProperties",
    "dependencies": "dependencies",
    "additionalItems": "additionalItems",
    "definitions": "definitions",
}


def nested(schema: _Schema) -> Iterator[tuple[_Schema, str]]:
    """The schemas that a value has to fit besides, or must not, and where they stand."""
    if isinstance(schema.get("not"), Mapping):
        yield schema["not"], "not"
    for field in ("allOf", "anyOf", "oneOf"):
        for index, below in enumerate(schema.get(field) or ()):
            yield below, f"{field}[{index}]"


def all_in(schema: _Schema) -> Iterator[_Schema]:
    """A schema and every one within."""
    yield schema
    below: list[Any] = [inner for inner, _ in nested(schema)]
    for field in ("properties", "patternProperties", "definitions", "dependencies"):
        below += (schema.get(field) or {}).values()
    for field in ("items", "additionalProperties", "additionalItems"):
        found = schema.get(field)
        below += found if isinstance(found, list) else [found]
    for inner in below:
        if isinstance(inner, Mapping):
            yield from all_in(inner)


def unsupported(schema: _Schema) -> str:
    """Why a schema can't be taken for a structural one at all, an empty text where it can."""
    for field, name in _UNSUPPORTED.items():
        if schema.get(field) or (field == "additionalItems" and field in schema):
            return f"OpenAPIV3Schema '{name}' is not supported"
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        return "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined"
    if isinstance(schema.get("items"), list):
        return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    below: list[_Schema] = [inner for inner, _ in nested(schema)] + [*(schema.get("properties") or {}).values()]
    below += [schema[field] for field in ("items", "additionalProperties") if isinstance(schema.get(field), Mapping)]
    return next(filter(None, map(unsupported, below)), "")


def check(schema: _Schema, path: str) -> list[Cause]:
    """The faults of the schema of a whole object."""
    return [*_check(schema, path, _AT_ROOT), *_incomplete(schema, schema, path, path)]


def _check(schema: _Schema, path: str, level: str) -> Iterator[Cause]:
    items, values, properties = schema.get("items"), schema.get("additionalProperties"), schema.get("properties") or {}
    if schema.get("type") == "array" and items is None:
        yield errors.required(f"{path}.items", "must be specified")
    if items is not None:
        yield from _check(items, f"{path}.items", _OF_ITEMS)
    for name, below in properties.items():
        yield from _check(below, f"{path}.properties[{name}]", _OF_FIELDS)
    if values is not None and level == _AT_ROOT:
        yield errors.forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if isinstance(values, Mapping):
        yield from _check(values, f"{path}.additionalProperties", _OF_FIELDS)
    yield from _int_or_string(schema, path)
    first: _Schema = next(iter(schema.get("allOf") or ()), {})
    yield from _values(schema, path, schema.get("anyOf") == _INT_OR_STRING, first.get("anyOf") == _INT_OR_STRING)
    yield from _type(schema, path, level)
    is_resource = level == _AT_ROOT or bool(schema.get("x-kubernetes-embedded-resource"))
    for name in ("kind", "apiVersion") if is_resource else ():
        if name in properties and properties[name].get("type") != "string":
            yield errors.invalid(f"{path}.properties[{name}].type", properties[name].get("type", ""), "must be string")
    if "metadata" in properties:
        yield from _metadata(properties["metadata"], f"{path}.properties[metadata]", is_resource, level)


def _int_or_string(schema: _Schema, path: str) -> Iterator[Cause]:
    if not schema.get("x-kubernetes-int-or-string"):
        return
    for field in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
        if schema.get(field):
            yield errors.invalid(f"{path}.{field}", True, "must be false if x-kubernetes-int-or-string is true")


def _type(schema: _Schema, path: str, level: str) -> Iterator[Cause]:
    """Every value has a type, or says why it has none."""
    kind = schema.get("type") or ""
    embedded = schema.get("x-kubernetes-embedded-resource")
    preserving = schema.get("x-kubernetes-preserve-unknown-fields")
    if embedded and kind != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        yield errors.invalid(f"{path}.type", kind, text) if kind else errors.required(f"{path}.type", text)
    elif not kind and not preserving and not schema.get("x-kubernetes-int-or-string"):
        yield errors.required(f"{path}.type", f"must not be empty {level}")
    if embedded and schema.get("additionalProperties") is not None:
        text = "must not be used if x-kubernetes-embedded-resource is set"
        yield errors.forbidden(f"{path}.additionalProperties", text)
    if level == _AT_ROOT and kind not in ("", "object"):
        yield errors.invalid(f"{path}.type", kind, "must be object at the root")
    if embedded and not preserving and not schema.get("properties"):
        text = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        yield errors.required(f"{path}.properties", text)


def _metadata(schema: _Schema, path: str, is_resource: bool, level: str) -> Iterator[Cause]:
    """Of an object's own metadata only the names can be restricted."""
    if is_resource and schema.get("type") != "object":
        yield errors.invalid(f"{path}.type", schema.get("type", ""), "must be object")
    if level != _AT_ROOT:
        return
    allowed = {"type", "default", "externalDocs", "example"}
    if set(schema.get("properties") or ()) <= {"name", "generateName"}:
        allowed.add("properties")
    if schema.keys() - allowed:
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        yield errors.forbidden(path, text)


def _values(schema: _Schema, path: str, skip_any: bool = False, skip_first: bool = False) -> Iterator[Cause]:
    """The rules about values that a schema states, without anyOf, or without anyOf in the first of allOf."""
    for below, at in nested(schema):
        if not (skip_any and at.startswith("anyOf")):
            yield from _nested(below, f"{path}.{at}", skip_any=skip_first and at == "allOf[0]")
    pattern = schema.get("pattern")
    fault = patterns.fault(pattern) if pattern else ""
    if fault:
        text = f"must be a valid regular expression, but isn't: error parsing regexp: {fault}"
        yield errors.invalid(f"{path}.pattern", pattern, text)


def _nested(schema: _Schema, path: str, skip_any: bool = False) -> Iterator[Cause]:
    """A schema below allOf, anyOf, oneOf or not."""
    yield from _values(schema, path, skip_any)
    if isinstance(schema.get("items"), Mapping):
        yield from _nested(schema["items"], f"{path}.items")
    for name, below in (schema.get("properties") or {}).items():
        yield from _nested(below, f"{path}.properties[{name}]")
        if name == "metadata":
            yield errors.forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")
    for field, wanted in _NOT_NESTED.items():
        if schema.get(field) or (wanted == "undefined" and schema.get(field, False) is not False):
            yield errors.forbidden(f"{path}.{field}", f"must be {wanted} to be structural")


def _incomplete(schema: _Schema, spine: _Schema | None, path: str, at: str) -> Iterator[Cause]:
    """What schemas in allOf, anyOf, oneOf and not (and below, `at`) speak of and the schema's spine (`path`) doesn't have."""
    if spine is None:
        yield errors.required(path, f"because it is defined in {at}")
        return
    for below, step in nested(schema):
        yield from _incomplete_nested(below, spine, path, f"{at}.{step}")


def _incomplete_nested(schema: _Schema, spine: _Schema | None, path: str, at: str) -> Iterator[Cause]:
    yield from _incomplete(schema, spine, path, at)
    if spine is None:
        return
    if isinstance(schema.get("items"), Mapping):
        yield from _incomplete_nested(schema["items"], spine.get("items"), f"{path}.items", f"{at}.items")
    known = spine.get("properties") or {}
    for name, below in (schema.get("properties") or {}).items():
        step = f"properties[{name}]"
        yield from _incomplete_nested(below, known.get(name), f"{path}.{step}", f"{at}.{step}")
