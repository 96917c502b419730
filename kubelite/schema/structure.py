"""The structure of values: types, fields, list and map semantics, of built-in and of custom kinds in one form.

A `Structure` describes one value. Those of built-in types come from the published definitions, one shared object for each
definition; those of custom kinds from the schema of their CustomResourceDefinition. What lies below a structure is only made
when it is asked for.
"""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from kubelite.meta.types import Obj
from kubelite.schema import definitions, facts
from kubelite.schema.kinds import Kind

_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
#: Definitions whose values may hold anything.
_FREE = frozenset(
    (
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    )
)
_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
#: Definitions whose values are a schema or something else.
_SCHEMA_OR = frozenset((f"{_SCHEMA}OrArray", f"{_SCHEMA}OrBool", f"{_SCHEMA}OrStringArray"))

#: Defaults that the published schemas state and the definitions leave out; the keys of map lists need them.
#: Source: api/openapi-spec of Kubernetes v1.34.3.
DEFAULTS = {
    ("core.v1.ContainerPort", "protocol"): "TCP",
    ("core.v1.ServicePort", "protocol"): "TCP",
    ("resource.v1.DeviceToleration", "operator"): "Equal",
    ("core.v1.ReplicationControllerSpec", "replicas"): 1,
}

_NO_PROPERTIES: Mapping[str, "Structure"] = {}


class Structure:
    """What a value looks like. `type` is a JSON schema type, or empty where any is allowed."""

    __slots__ = (
        "_items",
        "_make",
        "_properties",
        "_values",
        "default",
        "definition",
        "embedded_resource",
        "enum",
        "format",
        "has_default",
        "holds_objects",
        "list_map_keys",
        "list_type",
        "map_type",
        "merge_key",
        "nullable",
        "patch_strategy",
        "preserve_unknown",
        "quantity",
        "raw",
        "required",
        "type",
        "validated",
    )

    def __init__(self) -> None:
        self.type = ""
        self.format = ""
        #: The type's name in `facts`, for the structure of a built-in type's value.
        self.definition = ""
        self.list_type = ""
        self.list_map_keys: tuple[str, ...] = ()
        self.map_type = ""
        self.merge_key = ""
        #: The parts of x-kubernetes-patch-strategy: `merge`, `retainKeys`, `replace`.
        self.patch_strategy: tuple[str, ...] = ()
        self.required: tuple[str, ...] = ()
        self.enum: tuple[Any, ...] = ()
        self.quantity = False
        self.preserve_unknown = False
        self.embedded_resource = False
        #: Whether it or something below is an embedded resource.
        self.holds_objects = False
        self.nullable = False
        self.has_default = False
        self.default: Any = None
        #: A custom kind's own schema, None for built-in types.
        self.raw: Mapping[str, Any] | None = None
        #: A place for `checking` to keep what it derived.
        self.validated: Any = None
        self._make: Callable[[Structure], None] | None = None
        self._properties = _NO_PROPERTIES
        self._items: Structure | None = None
        self._values: Structure | None = None

    def _made(self) -> None:
        if self._make is not None:
            make, self._make = self._make, None
            make(self)

    @property
    def properties(self) -> Mapping[str, "Structure"]:
        """The structures of the fields, by name."""
        self._made()
        return self._properties

    @property
    def items(self) -> "Structure | None":
        """The structure of a list's items."""
        self._made()
        return self._items

    @property
    def additional_properties(self) -> "Structure | None":
        """The structure of a map's values."""
        self._made()
        return self._values

    def child(self, name: str) -> "Structure | None":
        """The structure of the field or map value under this name; None where nothing is known of it."""
        return self.properties.get(name) or self._values

    def __repr__(self) -> str:
        return f"<Structure {self.definition or self.type or 'any'}>"


_custom: WeakKeyDictionary[Kind, Structure] = WeakKeyDictionary()


def structure_of(kind: Kind) -> Structure:
    """The structure of a kind's objects."""
    if kind.definition:
        return of_definition(kind.definition)
    found = _custom.get(kind)
    if found is None:
        found = _custom[kind] = of_custom(kind)
    return found


@cache
def of_definition(name: str) -> Structure:
    """The structure of a published definition's values."""
    structure = Structure()
    structure.definition = facts.name_of(name)
    if name == _QUANTITY:
        structure.quantity = structure.nullable = True
        return structure
    if name in _FREE:
        structure.preserve_unknown = structure.nullable = True
        # FieldsV1 and the like are replaced as a whole
        structure.type, structure.map_type = "object", "atomic"
        return structure
    if name in _SCHEMA_OR:
        structure.nullable, structure.map_type = True, "atomic"
        structure._make = _share_schema
        return structure
    _describe(structure, definitions.fragment(name))
    return structure


def _share_schema(structure: Structure) -> None:
    schema = of_definition(_SCHEMA)
    structure._properties, structure._items = schema.properties, schema


def _of_fragment(fragment: definitions.Fragment) -> Structure:
    if fragment.ref:
        target = of_definition(fragment.ref.rpartition("/")[2])
        if not (fragment.map_type or fragment.patch_strategy or fragment.merge_key):
            return target
        # a field may give its type other semantics than the type's own
        structure = Structure()
        structure._make = None
        for slot in Structure.__slots__:
            setattr(structure, slot, getattr(target, slot))
        structure._make = lambda own: _share(own, target)
        structure.map_type = fragment.map_type or target.map_type
        structure.merge_key = fragment.merge_key
        structure.patch_strategy = _split(fragment.patch_strategy)
        return structure
    structure = Structure()
    _describe(structure, fragment)
    return structure


def _share(structure: Structure, target: Structure) -> None:
    structure._properties, structure._items, structure._values = target.properties, target.items, target.additional_properties


def _split(strategy: str) -> tuple[str, ...]:
    return tuple(strategy.split(",")) if strategy else ()


def _describe(structure: Structure, fragment: definitions.Fragment) -> None:
    kinds = fragment.type if isinstance(fragment.type, list) else [fragment.type] if fragment.type else []
    structure.nullable = "null" in kinds
    structure.type = next((kind for kind in kinds if kind != "null"), "")
    if fragment.one_of:
        structure.nullable = True
    structure.format = fragment.format
    structure.list_type = fragment.list_type
    structure.list_map_keys = tuple(fragment.list_map_keys)
    structure.map_type = fragment.map_type
    structure.merge_key = fragment.merge_key
    structure.patch_strategy = _split(fragment.patch_strategy)
    structure.required = tuple(fragment.required)
    structure.enum = tuple(value for value in fragment.enum if value is not None)

    def make(own: Structure) -> None:
        if fragment.properties:
            own._properties = {name: _field(own, name, found) for name, found in fragment.properties.items()}
        if fragment.items is not None:
            own._items = _of_fragment(fragment.items)
        if isinstance(fragment.additional_properties, definitions.Fragment):
            own._values = _of_fragment(fragment.additional_properties)

    structure._make = make


def _field(owner: Structure, name: str, fragment: definitions.Fragment) -> Structure:
    structure = _of_fragment(fragment)
    default = DEFAULTS.get((owner.definition, name))
    if default is not None and not structure.definition:
        structure.default, structure.has_default = default, True
    return structure


def of_custom(kind: Kind) -> Structure:
    """The structure of a custom kind's objects, from the version entry of its CustomResourceDefinition."""
    version: Mapping[str, Any] = kind.crd_version or {}
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    structure = of_schema(schema)
    structure.type = "object"

    def make(own: Structure, inner: Callable[[Structure], None] | None = structure._make) -> None:
        if inner is not None:
            inner(own)
        own._properties = {**own._properties, **_type_meta()}

    structure._make = make
    return structure


@lru_cache(maxsize=1)
def _type_meta() -> dict[str, Structure]:
    text = Structure()
    text.type = "string"
    return {"apiVersion": text, "kind": text, "metadata": of_definition(OBJECT_META)}


def of_schema(schema: Obj | Mapping[str, Any]) -> Structure:
    """The structure of the values of a CustomResourceDefinition's schema."""
    structure = Structure()
    structure.raw = schema
    structure.type = schema.get("type", "")
    structure.format = schema.get("format", "")
    structure.nullable = bool(schema.get("nullable"))
    structure.preserve_unknown = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    structure.embedded_resource = bool(schema.get("x-kubernetes-embedded-resource"))
    structure.holds_objects = somewhere(schema, lambda part: bool(part.get("x-kubernetes-embedded-resource")))
    structure.list_type = schema.get("x-kubernetes-list-type", "")
    structure.list_map_keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    structure.map_type = schema.get("x-kubernetes-map-type", "")
    structure.required = tuple(schema.get("required") or ())
    structure.enum = tuple(schema.get("enum") or ())
    structure.has_default = "default" in schema
    structure.default = schema.get("default")
    structure._make = _make_schema
    return structure


def somewhere(schema: Mapping[str, Any], holds: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Whether it holds of a custom kind's schema, or of any within it."""
    if holds(schema):
        return True
    below = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(isinstance(part, Mapping) and somewhere(part, holds) for part in below)


def _make_schema(structure: Structure) -> None:
    schema = structure.raw or {}
    properties = {name: of_schema(found) for name, found in (schema.get("properties") or {}).items()}
    if structure.embedded_resource:
        properties.update(_type_meta())
    structure._properties = properties
    items, values = schema.get("items"), schema.get("additionalProperties")
    if isinstance(items, dict):
        structure._items = of_schema(items)
    if isinstance(values, dict):
        structure._values = of_schema(values)
    elif values is True:
        structure._values = NO_FIELDS  # any scalar; of objects nothing is known


#: A custom kind's values of which nothing is known and nothing preserved.
NO_FIELDS = of_schema({"type": "object"})
