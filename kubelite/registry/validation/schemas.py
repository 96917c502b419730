"""The schemas of custom kinds: what their keywords may say.

Whether a schema is structural, so that values can be pruned and defaulted, says `shapes`; whether its defaults fit,
`schemadefaults`; whether its rules are rules, `rules`.

Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go
(ValidateCustomResourceDefinitionOpenAPISchema and what it calls), v0.34.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.registry.validation import rules, schemadefaults, shapes

_Schema = Mapping[str, Any]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_METADATA = frozenset(("metadata", "kind", "apiVersion"))
#: Keywords that the real server has fields for and refuses.
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_UNIQUE_ITEMS = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
#: What the root may say where its status is validated alone, by the names of the real server's fields.
_AT_ROOT = (
    "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems "
    "MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations"
)
_KEYWORDS_AT_ROOT = {name[0].lower() + name[1:] for name in _AT_ROOT.split()} | {
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in an object's schema a schema stands."""

    path: str
    #: Its rules are looked at: it is on the spine of the schema, and that is structural.
    has_rules: bool
    #: It describes an object's apiVersion, kind or metadata, or a part of it.
    in_metadata: bool = False
    #: Why it can't have a default.
    no_default: str = ""
    #: The list around it whose items can't be told apart, so that its rules have no old value.
    uncorrelated: str = ""

    def at(self, step: str) -> "_Place":
        return replace(self, path=f"{self.path}.{step}")


def check(schema: _Schema, path: str, has_status: bool) -> list[Cause]:
    """The faults of a version's schema; `has_status`: its kind has the status subresource."""
    causes = _check_root(schema, path) if has_status else []
    if schema.get("nullable"):
        causes.append(errors.forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    unsupported = shapes.unsupported(schema)
    structure = [] if unsupported else shapes.check(schema, path) or schemadefaults.check(schema, path)
    of_rules: list[Cause] = []
    _check(schema, _Place(path, has_rules=not unsupported and not structure), causes, of_rules, is_root=True)
    causes += structure + of_rules
    return causes or ([errors.invalid(path, "", unsupported)] if unsupported else [])


def _check_root(schema: _Schema, path: str) -> list[Cause]:
    """The status alone is validated by what `properties` says of it, so the root says little else."""
    kind = schema.get("type", "object")
    if kind != "object":
        text = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
        return [errors.invalid(f"{path}.type", kind, text)]
    if schema.keys() - _KEYWORDS_AT_ROOT:
        text = f"only [{_AT_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
        return [errors.invalid(path, schema, text)]
    return []


def _check(schema: _Schema, place: _Place, causes: list[Cause], of_rules: list[Cause], is_root: bool = False) -> None:
    """Adds the faults of a schema and all below; those of its rules only where it has none else."""
    before = len(causes)
    causes += _keywords(schema, place)
    for below, inner in _below(schema, place, is_root):
        _check(below, inner, causes, of_rules)
    causes += _extensions(schema, place.path)
    causes += _list_map(schema, place.path)
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        causes += rules.check(rule, schema, f"{place.path}.x-kubernetes-validations[{index}]")
    if len(causes) == before and place.has_rules:
        of_rules += rules.check_expressions(schema, place.path, place.uncorrelated, is_root)


def _keywords(schema: _Schema, place: _Place) -> Iterator[Cause]:
    path, kind = place.path, schema.get("type")
    if kind and kind not in _TYPES:
        yield errors.not_supported(f"{path}.type", kind, _TYPES)
    if kind == "null":
        yield errors.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if "default" in schema and place.no_default:
        yield errors.forbidden(f"{path}.default", f"must not be set {place.no_default}")
    for field in _UNSUPPORTED:
        if field in schema:
            yield errors.forbidden(f"{path}.{field}", f"{field} is not supported")
    if isinstance(schema.get("items"), list):
        yield errors.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if place.in_metadata and schema.get("x-kubernetes-embedded-resource"):
        yield errors.forbidden(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta")
    if schema.get("uniqueItems"):
        yield errors.forbidden(f"{path}.uniqueItems", _UNIQUE_ITEMS)
    if schema.get("properties") and schema.get("additionalProperties", True) is not True:
        yield errors.forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")


def _below(schema: _Schema, place: _Place, is_root: bool) -> Iterator[tuple[_Schema, _Place]]:
    """The schemas within one."""
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        inner = place.at("additionalProperties")
        if place.in_metadata:
            inner = replace(inner, no_default="inside additionalProperties applying to object metadata")
        yield values, inner
    for name, below in (schema.get("properties") or {}).items():
        inner = place.at(f"properties[{name}]")
        if name in _METADATA and (is_root or schema.get("x-kubernetes-embedded-resource")):
            inner = replace(inner, in_metadata=True, no_default=f"in top-level {name}" if is_root else place.no_default)
        yield below, inner
    for below, at in shapes.nested(schema):
        yield below, replace(place.at(at), has_rules=False)
    for field in ("definitions", "dependencies"):
        for name, below in (schema.get(field) or {}).items():
            if isinstance(below, Mapping):
                yield below, replace(place.at(f"{field}[{name}]"), has_rules=False)
    items = schema.get("items")
    inner = place.at("items")
    if schema.get("x-kubernetes-list-type") != "map":
        inner = replace(inner, uncorrelated=place.uncorrelated or place.path)
    if isinstance(items, Mapping):
        yield items, inner
    for index, below in enumerate(items if isinstance(items, list) else ()):
        yield below, replace(inner, path=f"{inner.path}[{index}]")


def _extensions(schema: _Schema, path: str) -> Iterator[Cause]:
    kind = schema.get("type") or ""
    preserving = f"{path}.x-kubernetes-preserve-unknown-fields"
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        yield errors.invalid(preserving, False, "must be true or undefined")
    for field, wanted, values in (
        ("x-kubernetes-map-type", "object", ("atomic", "granular")),
        ("x-kubernetes-list-type", "array", ("atomic", "set", "map")),
    ):
        if field not in schema:
            continue
        text = f"must be {wanted} if {field} is specified"
        if not kind:
            yield errors.required(f"{path}.type", text)
        elif kind != wanted:
            yield errors.invalid(f"{path}.type", kind, text)
        if schema[field] not in values:
            yield errors.not_supported(f"{path}.{field}", schema[field], values)
    items = schema.get("items")
    if kind == "array" and schema.get("x-kubernetes-list-type") == "set" and isinstance(items, Mapping):
        field = {"array": "x-kubernetes-list-type", "object": "x-kubernetes-map-type"}.get(items.get("type", ""), "")
        if field and items.get(field, "atomic" if items["type"] == "array" else "granular") != "atomic":
            text = "must be atomic as item of a list with x-kubernetes-list-type=set"
            yield errors.invalid(f"{path}.items.{field}", items.get("x-kubernetes-list-type"), text)


def _list_map(schema: _Schema, path: str) -> Iterator[Cause]:
    """Lists that are maps have keys, which every item has."""
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        at = f"{path}.x-kubernetes-list-type"
        yield errors.required(at, text) if list_type is None else errors.invalid(at, list_type, text)
    items = schema.get("items")
    if list_type in ("set", "map") and isinstance(items, Mapping) and items.get("nullable"):
        yield errors.forbidden(f"{path}.items.nullable", f"cannot be nullable when x-kubernetes-list-type is {list_type}")
    if list_type != "map":
        return
    if not keys:
        yield errors.required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    if "items" not in schema:
        yield errors.required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
    elif not isinstance(items, Mapping):
        yield errors.invalid(f"{path}.items", items, "must only have a single schema if x-kubernetes-list-type is map")
    else:
        yield from _map_items(items, keys, path)


def _map_items(items: _Schema, keys: list[str], path: str) -> Iterator[Cause]:
    is_object = items.get("type") == "object"
    if not is_object:
        text = "must be object if parent array's x-kubernetes-list-type is map"
        yield errors.invalid(f"{path}.items.type", items.get("type", ""), text)
    properties, required = items.get("properties") or {}, items.get("required") or ()
    at, because = f"{path}.x-kubernetes-list-map-keys", "this property is in x-kubernetes-list-map-keys, so it"
    for index, key in enumerate(keys):
        below, inner = properties.get(key), f"{path}.items.properties[{key}]"
        if is_object and key in keys[:index]:
            yield errors.invalid(at, keys, "must not contain duplicate entries")
        if below is None:
            if is_object:
                yield errors.invalid(at, keys, "entries must all be names of item properties")
            continue
        if is_object and below.get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield errors.invalid(f"{inner}.type", "object", text)
        if key not in required and "default" not in below:
            yield errors.required(f"{inner}.default", f"{because} must have a default or be a required property")
        if below.get("nullable"):
            yield errors.forbidden(f"{inner}.nullable", f"{because} cannot be nullable")
