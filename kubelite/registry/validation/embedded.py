"""Objects within objects: values of `x-kubernetes-embedded-resource`, whose version, kind and metadata are those of an object.

Source: apiextensions-apiserver pkg/apiserver/schema/objectmeta, v0.34.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.registry.validation import fields, metadata, schemavalues
from kubelite.schema import coercion

_Schema = Mapping[str, Any]


def check(schema: _Schema | None, value: Any, path: str = "", is_object: bool = False) -> Iterator[Cause]:
    """The faults of the objects within a value; `is_object`: it is one itself, whatever its schema says."""
    if schema is None:
        return
    if isinstance(value, dict) and (is_object or schema.get("x-kubernetes-embedded-resource")):
        yield from _check_object(value, f"{path}." if path else "")
    for below, item, at in schemavalues.within(schema, value, path):
        yield from check(below, item, at)


def _check_object(value: Mapping[str, Any], dot: str) -> Iterator[Cause]:
    version, kind = value.get("apiVersion"), value.get("kind")
    for name, given in (("apiVersion", version), ("kind", kind)):
        if name not in value:
            yield errors.required(f"{dot}{name}")
        elif not isinstance(given, str):
            yield errors.invalid(f"{dot}{name}", given, "must be a string")
        elif not given:
            yield errors.invalid(f"{dot}{name}", given, "must not be empty")
    if isinstance(version, str) and version.count("/") > 1:
        yield errors.invalid(f"{dot}apiVersion", version, f"unexpected GroupVersion string: {version}")
    if isinstance(kind, str) and kind:
        faults = [f"may have mixed case, but should otherwise match: {fault}" for fault in names.dns1035_label(kind.lower())]
        yield from fields.invalid_if(faults, f"{dot}kind", kind)
    if "metadata" in value:
        yield from _check_metadata(value["metadata"], f"{dot}metadata")


def _check_metadata(value: Any, path: str) -> Iterator[Cause]:
    fault = coercion.metadata_fault({} if value is None else value)
    if fault:
        yield errors.invalid(path, value, fault)
        return
    meta = {"name": "fakename", **{name: item for name, item in (value or {}).items() if item}}
    for cause in metadata.validate(meta, bool(meta.get("namespace")), metadata.path_segment_faults, qualified=False):
        yield Cause(path + cause.field.removeprefix("metadata"), cause.reason, cause.message)
