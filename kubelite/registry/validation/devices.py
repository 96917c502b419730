"""Checks of the resource group (dynamic resource allocation): classes, claims, templates and slices.

Source: kubernetes pkg/apis/resource/validation/validation.go, v1.34.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, metadata, placement
from kubelite.schema import expressions

MAX_REQUESTS = MAX_CONSTRAINTS = MAX_CONFIGS = MAX_SELECTORS = 32
MAX_FIRST_AVAILABLE, MAX_DEVICES = 8, 128
MAX_DRIVER, MAX_DOMAIN, MAX_IDENTIFIER = 63, 63, 32
_MODES = ("All", "ExactCount")
_WHERE = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_VALUES = ("bool", "int", "string", "version")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def check_class(obj: Obj) -> list[Cause]:
    """A DeviceClass."""
    spec = obj.get("spec") or {}
    causes = _check_selectors(spec.get("selectors") or (), "spec.selectors")
    for index, config in enumerate(spec.get("config") or ()):
        causes += _check_config(config, f"spec.config[{index}]")
    return causes


def check_claim(obj: Obj) -> list[Cause]:
    return _check_claim_spec(obj.get("spec") or {}, "spec")


def check_claim_template(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    meta = spec.get("metadata") or {}
    causes: list[Cause] = []
    metadata.validate_labels(meta.get("labels") or {}, "spec.metadata.labels", causes)
    for key in meta.get("annotations") or ():
        causes += fields.invalid_if(names.qualified_name(key.lower()), "spec.metadata.annotations", key)
    return causes + _check_claim_spec(spec.get("spec") or {}, "spec.spec")


def check_spec_update(new: Obj, old: Obj) -> list[Cause]:
    """What a claim or a template asks for never changes."""
    return fields.immutable(new.get("spec"), old.get("spec"), "spec")


def _check_claim_spec(spec: Obj, path: str) -> list[Cause]:
    devices = spec.get("devices") or {}
    at = f"{path}.devices"
    requests = devices.get("requests") or []
    causes = _check_size(requests, MAX_REQUESTS, f"{at}.requests")
    known: set[str] = set()
    for index, request in enumerate(requests):
        below, name = f"{at}.requests[{index}]", request.get("name", "")
        causes += _check_request(request, below)
        if name in known:
            causes.append(errors.duplicate(f"{below}.name", name))
        known.add(name)
    for request in requests:
        known |= {f"{request.get('name', '')}/{sub.get('name', '')}" for sub in request.get("firstAvailable") or ()}
    constraints = devices.get("constraints") or []
    causes += _check_size(constraints, MAX_CONSTRAINTS, f"{at}.constraints")
    for index, constraint in enumerate(constraints):
        below = f"{at}.constraints[{index}]"
        causes += _check_references(constraint.get("requests") or (), known, f"{below}.requests")
        attribute = constraint.get("matchAttribute")
        if attribute is None:
            if constraint.get("distinctAttribute") is None:
                causes.append(errors.required(below, "one of `matchAttribute` or `distinctAttribute` is required"))
        else:
            causes += _check_full_name(attribute, f"{below}.matchAttribute")
    configs = devices.get("config") or []
    causes += _check_size(configs, MAX_CONFIGS, f"{at}.config")
    for index, config in enumerate(configs):
        below = f"{at}.config[{index}]"
        causes += _check_references(config.get("requests") or (), known, f"{below}.requests")
        causes += _check_config(config, below)
    return causes


def _check_size(items: Sequence[Any], limit: int, path: str) -> list[Cause]:
    return [errors.too_many(path, len(items), limit)] if len(items) > limit else []


def _check_references(requests: Sequence[str], known: set[str], path: str) -> list[Cause]:
    text = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
    return [errors.invalid(f"{path}[{i}]", name, text) for i, name in enumerate(requests) if name not in known]


def _check_request(request: Obj, path: str) -> list[Cause]:
    name, exactly, first = request.get("name", ""), request.get("exactly"), request.get("firstAvailable") or []
    causes = fields.invalid_if(names.dns1123_label(name), f"{path}.name", name)
    if exactly is not None and first:
        text = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
        causes.append(errors.invalid(path, request, text))
    elif exactly is None and not first:
        causes.append(errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"))
    if exactly is not None:
        causes += _check_asked(exactly, f"{path}.exactly")
    causes += _check_size(first, MAX_FIRST_AVAILABLE, f"{path}.firstAvailable")
    for index, sub in enumerate(first):
        below, sub_name = f"{path}.firstAvailable[{index}]", sub.get("name", "")
        causes += fields.invalid_if(names.dns1123_label(sub_name), f"{below}.name", sub_name)
        if any(other.get("name", "") == sub_name for other in first[:index]):
            causes.append(errors.duplicate(f"{below}.name", sub_name))
        causes += _check_asked(sub, below)
    return causes


def _check_asked(asked: Obj, path: str) -> list[Cause]:
    """Of which class how many devices are wanted."""
    name, mode, count = asked.get("deviceClassName") or "", asked.get("allocationMode"), asked.get("count", 0)
    causes = fields.named(name, f"{path}.deviceClassName", names.dns1123_subdomain)
    causes += _check_selectors(asked.get("selectors") or (), f"{path}.selectors")
    if mode == "All":
        if count:
            causes.append(errors.invalid(f"{path}.count", count, "must not be specified when allocationMode is 'All'"))
    elif mode in (None, "", "ExactCount"):
        if count <= 0 and (mode or "count" in asked):
            causes.append(errors.invalid(f"{path}.count", count, "must be greater than zero"))
    else:
        causes.append(errors.not_supported(f"{path}.allocationMode", mode, _MODES))
    return causes


def _check_selectors(selectors: Sequence[Obj], path: str) -> list[Cause]:
    causes = _check_size(selectors, MAX_SELECTORS, path)
    for index, selector in enumerate(selectors):
        cel = selector.get("cel")
        if cel is None:
            causes.append(errors.required(f"{path}[{index}].cel"))
            continue
        try:
            expressions.compile(cel.get("expression", ""))
        except expressions.ExpressionError as e:
            at = f"{path}[{index}].cel.expression"
            causes.append(errors.invalid(at, cel.get("expression", ""), str(e)))
    return causes


def _check_config(config: Obj, path: str) -> list[Cause]:
    opaque = config.get("opaque")
    if opaque is None:
        return [errors.required(f"{path}.opaque")]
    causes = check_driver(opaque.get("driver", ""), f"{path}.opaque.driver")
    if not opaque.get("parameters"):
        causes.append(errors.required(f"{path}.opaque.parameters"))
    return causes


def check_driver(name: str, path: str) -> list[Cause]:
    causes = [] if name else [errors.required(path)]
    if len(name) > MAX_DRIVER:
        causes.append(errors.too_long(path, MAX_DRIVER))
    return causes + fields.invalid_if(names.dns1123_subdomain(name.lower()), path, name)


def _check_full_name(name: str, path: str) -> list[Cause]:
    """An attribute's name with its domain."""
    domain, slash, identifier = name.rpartition("/")
    if not slash:
        causes = [errors.invalid(path, name, "must include a domain")]
        return causes + _check_identifier(identifier, path)
    if not domain:
        return [errors.required(path, "the domain must not be empty"), *_check_identifier(identifier, path)]
    causes = [errors.too_long(path, MAX_DOMAIN)] if len(domain) > MAX_DOMAIN else []
    return causes + fields.invalid_if(names.dns1123_subdomain(domain), path, domain) + _check_identifier(identifier, path)


def _check_identifier(name: str, path: str) -> list[Cause]:
    if not name:
        return [errors.required(path, "the name must not be empty")]
    causes = [errors.too_long(path, MAX_IDENTIFIER)] if len(name) > MAX_IDENTIFIER else []
    return causes + fields.invalid_if(names.c_identifier(name), path, name)


def check_slice(obj: Obj) -> list[Cause]:
    """A ResourceSlice."""
    spec = obj.get("spec") or {}
    given = [field for field in _WHERE if spec.get(field) not in (None, "", False)]
    causes: list[Cause] = []
    if spec.get("nodeName"):
        causes += fields.invalid_if(names.dns1123_subdomain(spec["nodeName"]), "spec.nodeName", spec["nodeName"])
    if spec.get("nodeSelector") is not None:
        causes += placement.check_node_selector(spec["nodeSelector"], "spec.nodeSelector")
    listed = ", ".join(f"`{field}`" for field in _WHERE)
    if not given:
        causes.append(errors.required("spec", f"exactly one of {listed} is required"))
    elif len(given) > 1:
        shown = "{" + ", ".join(f"`{field}`" for field in given) + "}"
        text = f"exactly one of {listed} is required, but multiple fields are set"
        causes.append(errors.invalid("spec", shown, text))
    causes += check_driver(spec.get("driver", ""), "spec.driver")
    causes += _check_pool(spec.get("pool") or {}, "spec.pool")
    devices = spec.get("devices") or []
    causes += _check_size(devices, MAX_DEVICES, "spec.devices")
    for index, device in enumerate(devices):
        at, name = f"spec.devices[{index}]", device.get("name", "")
        causes += fields.invalid_if(names.dns1123_label(name), f"{at}.name", name)
        if any(other.get("name", "") == name for other in devices[:index]):
            causes.append(errors.duplicate(f"{at}.name", name))
        for attribute, value in (device.get("attributes") or {}).items():
            causes += _check_attribute(attribute, value, f"{at}.attributes")
    return causes


def _check_pool(pool: Obj, path: str) -> list[Cause]:
    name, count, generation = pool.get("name", ""), pool.get("resourceSliceCount", 0), pool.get("generation", 0)
    causes: list[Cause] = []
    if not name:
        causes.append(errors.required(f"{path}.name"))
    else:
        for part in name.split("/"):
            causes += fields.invalid_if(names.dns1123_subdomain(part), f"{path}.name", part)
    if count <= 0:
        causes.append(errors.invalid(f"{path}.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        causes.append(errors.invalid(f"{path}.generation", generation, fields.NON_NEGATIVE))
    return causes


def _check_attribute(name: str, value: Mapping[str, Any], path: str) -> list[Cause]:
    at = f"{path}[{name}]"
    causes = _check_full_name(name, at) if "/" in name else _check_identifier(name, at)
    given = [field for field in _VALUES if value.get(field) is not None]
    if not given:
        causes.append(errors.required(at, "exactly one value must be specified"))
    elif len(given) > 1:
        causes.append(errors.invalid(at, value, "exactly one value must be specified"))
    elif given == ["version"] and not _SEMVER.fullmatch(value["version"]):
        causes.append(errors.invalid(f"{at}.version", value["version"], "must be a string compatible with semver.org spec 2.0.0"))
    return causes


def check_slice_update(new: Obj, old: Obj) -> list[Cause]:
    now, was = new["spec"], old["spec"]
    causes: list[Cause] = []
    for field in ("driver", "nodeName", "nodeSelector", "allNodes"):
        causes += fields.immutable(now.get(field), was.get(field), f"spec.{field}")
    return causes + fields.immutable((now.get("pool") or {}).get("name"), (was.get("pool") or {}).get("name"), "spec.pool.name")
