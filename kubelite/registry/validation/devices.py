"""Checks that the kinds of dynamic resource allocation share, and of device classes.

Source: kubernetes pkg/apis/resource/validation/validation.go, v1.34.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import admissionrules, fields, volumesources

MAX_REQUESTS = MAX_CONFIGS = MAX_SELECTORS = 32
MAX_PARAMETERS = MAX_EXPRESSION = 10 * 1024
_MAX_POOL, _MAX_IDENTIFIER = 253, 32
_EFFECTS = ("NoExecute", "NoSchedule")
_OMITTED = "<value omitted>"


def check_class(obj: Obj) -> Iterator[Cause]:
    """A DeviceClass."""
    spec = obj.get("spec") or {}
    yield from check_selectors(spec.get("selectors") or (), "spec.selectors")
    configs = spec.get("config") or ()
    yield from check_size(configs, MAX_CONFIGS, "spec.config")
    for index, config in enumerate(configs):
        yield from check_config(config, f"spec.config[{index}]")


def check_size(items: Sequence[Any], limit: int, path: str) -> list[Cause]:
    return [errors.too_many(path, len(items), limit)] if len(items) > limit else []


def check_once(items: Sequence[Any], path: str, field: str = "") -> Iterator[Cause]:
    """No item is there twice, by one of its fields where `field` names it."""
    seen = set()
    for index, item in enumerate(items):
        key = item.get(field, "") if field else item
        if key in seen:
            yield errors.duplicate(f"{path}[{index}].{field}" if field else f"{path}[{index}]", key)
        seen.add(key)


def check_selectors(selectors: Sequence[Obj], path: str) -> Iterator[Cause]:
    """Expressions over a device."""
    yield from check_size(selectors, MAX_SELECTORS, path)
    for index, selector in enumerate(selectors):
        at, cel = f"{path}[{index}].cel", selector.get("cel")
        source = (cel or {}).get("expression", "")
        if cel is None:
            yield errors.required(at)
        elif len(source.encode()) > MAX_EXPRESSION:
            yield errors.too_long(f"{at}.expression", MAX_EXPRESSION)
        else:
            yield from admissionrules.compile_faults(source, f"{at}.expression", ("device",))


def check_config(config: Obj, path: str) -> Iterator[Cause]:
    """What a driver is told."""
    opaque = config.get("opaque")
    if opaque is None:
        yield errors.required(f"{path}.opaque")
        return
    yield from volumesources.driver_name(opaque.get("driver", ""), f"{path}.opaque.driver")
    yield from check_raw(opaque.get("parameters"), f"{path}.opaque.parameters")


def check_raw(value: Any, path: str) -> list[Cause]:
    """A value that only a driver understands."""
    if value is None:
        return [errors.required(path)]
    if len(orjson.dumps(value)) > MAX_PARAMETERS:
        return [errors.too_long(path, MAX_PARAMETERS)]
    return [] if isinstance(value, dict) else [errors.invalid(path, _OMITTED, "must be a valid JSON object")]


def check_pool_name(name: str, path: str) -> list[Cause]:
    if not name:
        return [errors.required(path)]
    causes = [errors.too_long(path, _MAX_POOL)] if len(name) > _MAX_POOL else []
    return causes + [c for part in name.split("/") for c in fields.invalid_if(names.dns1123_subdomain(part), path, part)]


def check_name(name: str, path: str, full: bool = False) -> Iterator[Cause]:
    """The name of an attribute or a capacity, `[domain/]identifier`; `full`: with its domain."""
    if not name:
        yield errors.required(path, "name required")
        return
    domain, slash, identifier = name.rpartition("/")
    if slash and not domain:
        yield errors.required(path, "the domain must not be empty")
    elif "/" in domain:
        return
    elif domain:
        yield from volumesources.driver_name(domain, path)
    if slash and not identifier:
        yield errors.required(path, "the name must not be empty")
    else:
        if len(identifier) > _MAX_IDENTIFIER:
            yield errors.too_long(path, _MAX_IDENTIFIER)
        yield from fields.invalid_if(names.c_identifier(identifier), path, identifier)
    if full and not slash:
        yield errors.invalid(path, name, "must include a domain")


def check_toleration(toleration: Mapping[str, str], path: str) -> Iterator[Cause]:
    """Which taints of devices a request takes."""
    key, operator, value = toleration.get("key", ""), toleration.get("operator"), toleration.get("value", "")
    if key:
        yield from fields.invalid_if(names.qualified_name(key), f"{path}.key", key)
    yield from fields.one_of(operator, f"{path}.operator", ("Equal", "Exists"))
    if operator == "Exists" and value:
        yield errors.invalid(f"{path}.value", value, "must be empty for operator `Exists`")
    elif operator == "Equal":
        yield from fields.invalid_if(names.label_value(value), f"{path}.value", value)
    yield from fields.optional_one_of(toleration.get("effect") or None, f"{path}.effect", _EFFECTS)
