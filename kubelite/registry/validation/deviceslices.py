"""Checks of resource slices, in which drivers say what devices there are.

Source: kubernetes pkg/apis/resource/validation/validation.go, v1.34.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import devices, fields, placement, volumesources

MAX_DEVICES, MAX_PROPERTIES, MAX_VALUE = 128, 32, 64
_MAX_KEY = 63 + 1 + 32
_PLACES = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_ONE_VALUE = "exactly one value must be specified"
_NUMBER, _BUILD = r"(?:0|[1-9][0-9]*)", r"[0-9a-zA-Z-]+"
_BEFORE = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_BEFORE}(?:\.{_BEFORE})*)?(?:\+{_BUILD}(?:\.{_BUILD})*)?",
)


def check_slice(obj: Obj, old: Obj | None = None) -> Iterator[Cause]:
    """A ResourceSlice."""
    spec, was = obj.get("spec") or {}, (old or {}).get("spec") or {}
    pool, found = spec.get("pool") or {}, spec.get("devices") or []
    yield from volumesources.driver_name(spec.get("driver", ""), "spec.driver")
    yield from _check_pool(pool, "spec.pool")
    if old is not None:
        yield from fields.immutable(pool.get("name", ""), (was.get("pool") or {}).get("name", ""), "spec.pool.name")
        yield from fields.immutable(spec.get("driver", ""), was.get("driver", ""), "spec.driver")
        yield from fields.immutable(spec.get("nodeName"), was.get("nodeName"), "spec.nodeName")
    yield from _check_place(spec)
    yield from devices.check_size(found, MAX_DEVICES, "spec.devices")
    for index, device in enumerate(found):
        yield from _check_device(device, f"spec.devices[{index}]")
    yield from devices.check_once(found, "spec.devices", "name")


def _check_place(spec: Obj) -> Iterator[Cause]:
    """Which nodes the devices are of."""
    name, selector, everywhere = spec.get("nodeName"), spec.get("nodeSelector"), spec.get("allNodes")
    if name == "":
        yield errors.invalid("spec.nodeName", name, "must be either unset or set to a non-empty string")
    elif name is not None:
        yield from fields.invalid_if(names.dns1123_subdomain(name), "spec.nodeName", name)
    if selector is not None:
        yield from placement.check_node_selector(selector, "spec.nodeSelector")
        terms = selector.get("nodeSelectorTerms") or ()
        if len(terms) != 1:
            text = "must have exactly one node selector term"
            yield errors.invalid("spec.nodeSelector.nodeSelectorTerms", terms or None, text)
    if everywhere is False:
        yield errors.invalid("spec.allNodes", everywhere, "must be either unset or set to true")
    given = {"nodeName": name, "nodeSelector": selector is not None, "allNodes": everywhere}
    chosen = [f"`{field}`" for field, value in given.items() if value]
    if not chosen:
        yield errors.required("spec", _PLACES)
    elif len(chosen) > 1:
        yield errors.invalid("spec", f"{{{', '.join(chosen)}}}", f"{_PLACES}, but multiple fields are set")


def _check_pool(pool: Obj, path: str) -> Iterator[Cause]:
    yield from devices.check_pool_name(pool.get("name", ""), f"{path}.name")
    yield from fields.positive(pool.get("resourceSliceCount", 0), f"{path}.resourceSliceCount")
    if pool.get("generation", 0) < 0:
        yield errors.invalid(f"{path}.generation", pool["generation"], "must be greater than or equal to zero")


def _check_device(device: Obj, path: str) -> Iterator[Cause]:
    name, attributes, capacity = device.get("name", ""), device.get("attributes") or {}, device.get("capacity") or {}
    yield from fields.invalid_if(names.dns1123_label(name), f"{path}.name", name)
    if len(attributes) + len(capacity) > MAX_PROPERTIES:
        text = f"the total number of attributes and capacities must not exceed {MAX_PROPERTIES}"
        yield errors.invalid(path, len(attributes) + len(capacity), text)
    for key, value in attributes.items():
        at = f"{path}.attributes[{_shortened(key)}]"
        yield from devices.check_name(key, at)
        yield from _check_attribute(value, at)
    for key in capacity:
        yield from devices.check_name(key, f"{path}.capacity[{_shortened(key)}]")


def _shortened(key: str) -> str:
    """A key as paths name it: without its middle where it is longer than it may be."""
    kept = _MAX_KEY - 3
    return key if len(key) <= _MAX_KEY else f"{key[: (kept + 1) // 2]}...{key[len(key) - kept // 2 :]}"


def _check_attribute(value: Mapping[str, Any], path: str) -> Iterator[Cause]:
    given = [field for field in ("bool", "int", "string", "version") if value.get(field) is not None]
    for field in ("string", "version"):
        text = value.get(field)
        if field == "version" and text is not None and not _VERSION.fullmatch(text):
            yield errors.invalid(f"{path}.version", text, "must be a string compatible with semver.org spec 2.0.0")
        if text is not None and len(text.encode()) > MAX_VALUE:
            yield errors.too_long(f"{path}.{field}", MAX_VALUE)
    if not given:
        yield errors.required(path, _ONE_VALUE)
    elif len(given) > 1:
        yield errors.invalid(path, value, _ONE_VALUE)
