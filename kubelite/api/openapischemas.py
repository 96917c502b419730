"""Schemas for OpenAPI: the published definitions and those of custom kinds, in the form that each version wants.

The published file is made for validation (nulls allowed, references in its own place); what clients expect differs in a few
rules, which are all here. A document holds what its kinds refer to and nothing else.
"""

from collections.abc import Mapping
from typing import Any

from kubelite.schema import definitions, enums, facts, structure
from kubelite.schema.kinds import Kind

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_SOURCE_PREFIX = "#/$defs/"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_GVK = "x-kubernetes-group-version-kind"
#: What OpenAPI v2 has no words for.
_NOT_IN_V2 = ("allOf", "oneOf", "anyOf", "not", "nullable")
#: Definitions of bodies that exist in every group: which groups they are valid in is not repeated for a document's readers.
_COMMON = (f"{META}DeleteOptions", f"{META}Status", f"{META}Patch")


def schema_name(kind: Kind) -> str:
    """`io.k8s.api.apps.v1.Deployment`; for a custom kind its group reversed: `com.example.stable.v1.CronTab`."""
    if kind.definition:
        return kind.definition
    reversed_group = ".".join(reversed(kind.group.split(".")))
    return f"{reversed_group}.{kind.version}.{kind.kind}"


def list_name(kind: Kind) -> str:
    base, _, _ = schema_name(kind).rpartition(".")
    return f"{base}.{kind.list_kind or kind.kind + 'List'}"


def _described(name: str) -> str:
    """What the published kinds say of a field that all have."""
    text: str = definitions.read("io.k8s.api.core.v1.ConfigMap")["properties"][name].get("description", "")
    return text


def _type_meta() -> dict[str, Any]:
    return {name: {"description": _described(name), "type": "string"} for name in ("apiVersion", "kind")}


class Schemas:
    """Collects schemas with everything they refer to. `prefix` is where references point to."""

    def __init__(self, prefix: str, *, v2: bool = False) -> None:
        self._prefix = prefix
        self._v2 = v2
        self._schemas: dict[str, Any] = {}
        self._wanted: list[str] = []

    def reference(self, name: str) -> dict[str, Any]:
        """A reference to a schema, which is then part of the document."""
        if name not in self._schemas:
            self._wanted.append(name)
        return {"$ref": self._prefix + name}

    def add_kind(self, kind: Kind) -> None:
        name = schema_name(kind)
        if not kind.custom:
            self._wanted.append(name)
            if "list" in kind.verbs and definitions.has(list_name(kind)):
                self._wanted.append(list_name(kind))
            return
        self._schemas[name] = self._custom(kind)
        self._schemas[list_name(kind)] = {
            "description": f"{kind.kind}List is a list of {kind.kind}",
            "type": "object",
            "required": ["items"],
            "properties": {
                **_type_meta(),
                "items": {
                    "description": f"List of {kind.plural}.",
                    "type": "array",
                    "items": self._wrapped(name, {}),
                },
                "metadata": self._wrapped(f"{META}ListMeta", {"description": "Standard list metadata."}),
            },
            _GVK: [{"group": kind.group, "kind": kind.list_kind or f"{kind.kind}List", "version": kind.version}],
        }

    def collected(self) -> dict[str, Any]:
        """All schemas, by name."""
        while self._wanted:
            name = self._wanted.pop()
            if name not in self._schemas and definitions.has(name):
                self._schemas[name] = {}  # stands in, so that a schema that refers to itself ends
                self._schemas[name] = self._published(name)
        return dict(sorted(self._schemas.items()))

    def _published(self, name: str) -> dict[str, Any]:
        source = definitions.read(name)
        if name == _QUANTITY:
            found: dict[str, Any] = {"description": source.get("description") or "A fixed-point number: 100m, 1.5, 2Gi."}
            return found | ({"type": "string"} if self._v2 else {"oneOf": [{"type": "string"}, {"type": "number"}]})
        if name == _INT_OR_STRING:
            found = {"description": source.get("description") or "A number or a string.", "format": "int-or-string"}
            return found | ({"type": "string"} if self._v2 else {"oneOf": [{"type": "integer"}, {"type": "string"}]})
        for field in ("apiVersion", "kind"):
            # Fixed values are of use to validators of files, not to clients of an API that fills them in.
            (source.get("properties") or {}).get(field, {}).pop("enum", None)
        converted: dict[str, Any] = self._converted(source)
        self._tell_more(facts.name_of(name), converted.get("properties") or {})
        if name in _COMMON and isinstance(converted.get(_GVK), list):
            converted[_GVK] = converted[_GVK][:1]
        return converted

    def _tell_more(self, kind: str, properties: dict[str, Any]) -> None:
        """Adds to the fields of a type the enums and defaults that its published definition leaves out."""
        for name, schema in properties.items():
            if values := enums.TOLD.get((kind, name)):
                schema["enum"] = values
            if values := enums.TOLD.get((kind, f"{name}[]")):
                (schema.get("items") or schema["additionalProperties"])["enum"] = values
            if (kind, name) in structure.DEFAULTS and not self._v2:
                schema["default"] = structure.DEFAULTS[kind, name]

    def _wrapped(self, name: str, siblings: dict[str, Any]) -> dict[str, Any]:
        """A reference with text beside it, which v3 allows only around it."""
        reference = self.reference(name)
        if self._v2:
            return {**siblings, **reference}
        return {**siblings, "allOf": [reference]}

    def _converted(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._converted(item) for item in node]
        if not isinstance(node, dict):
            return node
        result: dict[str, Any] = {}
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                continue
            if key == "type" and isinstance(value, list):
                result[key] = next((t for t in value if t != "null"), "string")
            elif key == "properties" and isinstance(value, dict):
                result[key] = {name: self._converted(item) for name, item in value.items()}
            elif key == "enum" and isinstance(value, list):
                result[key] = [item for item in value if item is not None]
            elif key in ("default", _GVK):
                result[key] = value
            elif key.startswith("$"):
                continue
            else:
                result[key] = self._converted(value)
        reference = node.get("$ref")
        if isinstance(reference, str):
            return (
                self._wrapped(reference.removeprefix(_SOURCE_PREFIX), result)
                if result
                else self.reference(reference.removeprefix(_SOURCE_PREFIX))
            )
        return result

    def _custom(self, kind: Kind) -> dict[str, Any]:
        version: Mapping[str, Any] = kind.crd_version or {}
        raw = (version.get("schema") or {}).get("openAPIV3Schema")
        schema: dict[str, Any] = {}
        # A schema that takes anything says so in v2 by naming nothing: old clients reject what they don't find.
        if raw is not None and not (self._v2 and raw.get("x-kubernetes-preserve-unknown-fields")):
            schema = self._structural(raw)
            schema["properties"] = {**(schema.get("properties") or {}), **self._object_properties()}
        schema["type"] = "object"
        schema[_GVK] = [{"group": kind.group, "kind": kind.kind, "version": kind.version}]
        if fields := version.get("selectableFields"):
            schema["x-kubernetes-selectable-fields"] = [{"fieldPath": field["jsonPath"].removeprefix(".")} for field in fields]
        return schema

    def _object_properties(self) -> dict[str, Any]:
        return {**_type_meta(), "metadata": self._wrapped(f"{META}ObjectMeta", {"description": _described("metadata")})}

    def _structural(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """A custom schema with what its extensions mean written out, and for v2 without what v2 can't say.

        Source: apiextensions-apiserver pkg/controller/openapi/v2/conversion.go and openapi/builder/builder.go.
        """
        result = _for_v2(node) if self._v2 else dict(node)
        for name in ("items", "additionalProperties"):
            if isinstance(result.get(name), dict):
                result[name] = self._structural(result[name])
        if result.get("properties"):
            result["properties"] = {name: self._structural(below) for name, below in result["properties"].items()}
        if node.get("x-kubernetes-int-or-string") and not self._v2 and "anyOf" not in node and "allOf" not in node:
            result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        if node.get("x-kubernetes-embedded-resource") and not (self._v2 and node.get("x-kubernetes-preserve-unknown-fields")):
            result["properties"] = {**(result.get("properties") or {}), **self._object_properties()}
            result["required"] = list(dict.fromkeys((*(node.get("required") or ()), "kind", "apiVersion")))
        return result


def _for_v2(node: Mapping[str, Any]) -> dict[str, Any]:
    """One level of a custom schema in v2: what may be null or anything has neither type nor fields there."""
    result = {key: value for key, value in node.items() if key not in _NOT_IN_V2}
    nullable, free = node.get("nullable"), node.get("x-kubernetes-preserve-unknown-fields")
    if required := node.get("required"):
        properties = node.get("properties") or {}
        result["required"] = [name for name in required if not (properties.get(name) or {}).get("nullable")]
    if nullable or free:
        result.pop("items", None)
        result.pop("properties", None)
    if nullable or (free and node.get("type") == "object") or (node.get("type") == "array" and "items" not in result):
        result.pop("type", None)
    return result
