"""Schemas for OpenAPI: the published definitions and those of custom kinds, in the form that each version wants.

The published file is made for validation (nulls allowed, references in its own place); what clients expect differs in a few
rules, which are all here. A document holds what its kinds refer to and nothing else.
"""

from collections.abc import Mapping
from typing import Any

from kubelite.schema import definitions
from kubelite.schema.kinds import Kind

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_SOURCE_PREFIX = "#/$defs/"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_GVK = "x-kubernetes-group-version-kind"
#: What OpenAPI v2 has no words for.
_NOT_IN_V2 = ("oneOf", "anyOf", "not", "nullable")
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


def _type_meta() -> dict[str, Any]:
    """apiVersion and kind, as every published kind has them."""
    published = definitions.read("io.k8s.api.core.v1.ConfigMap")["properties"]
    return {name: {"description": published[name].get("description", ""), "type": "string"} for name in ("apiVersion", "kind")}


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
        if name in _COMMON and isinstance(converted.get(_GVK), list):
            converted[_GVK] = converted[_GVK][:1]
        return converted

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
        raw = (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"}
        schema: dict[str, Any] = self._structural(raw) if self._v2 else dict(raw)
        free = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        if self._v2 and free:
            # A schema that takes anything says so by naming nothing: old clients reject what they don't find.
            schema = {}
        else:
            properties = {**(schema.get("properties") or {}), **_type_meta()}
            properties["metadata"] = self._wrapped(f"{META}ObjectMeta", {"description": "Standard object's metadata."})
            schema["properties"] = properties
        schema["type"] = "object"
        schema[_GVK] = [{"group": kind.group, "kind": kind.kind, "version": kind.version}]
        return schema

    def _structural(self, node: Any) -> Any:
        """A custom schema without what v2 can't say; a field that takes anything loses its type.

        Source: apiextensions-apiserver pkg/controller/openapi/v2/conversion.go.
        """
        if isinstance(node, list):
            return [self._structural(item) for item in node]
        if not isinstance(node, dict):
            return node
        result: dict[str, Any] = {}
        for key, value in node.items():
            if key in _NOT_IN_V2:
                continue
            if key == "properties":
                result[key] = {name: self._structural(item) for name, item in value.items()}
            elif key in ("default", "enum", "example"):
                result[key] = value
            else:
                result[key] = self._structural(value)
        if node.get("x-kubernetes-preserve-unknown-fields") and node.get("type") == "object":
            result.pop("items", None)
            result.pop("properties", None)
        if node.get("nullable") and "type" in result:
            del result["type"]
            result.pop("items", None)
            result.pop("properties", None)
        if node.get("x-kubernetes-int-or-string"):
            result.pop("type", None)
        return result
