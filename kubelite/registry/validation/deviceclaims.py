"""Checks of claims of devices, their templates and their allocation.

Source: kubernetes pkg/apis/resource/validation/validation.go, v1.34.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from kubelite.meta import addresses, errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import devices, fields, metadata, placement, statuses, volumesources

MAX_CONSTRAINTS, MAX_FIRST_AVAILABLE = 32, 8
_MODES = ("All", "ExactCount")
_NEITHER = "exactly one of `exactly` or `firstAvailable` is required"
_REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
MAX_RESERVED, MAX_RESULTS, MAX_CONDITIONS = 256, 32, 8
_MAX_INTERFACE, _MAX_HARDWARE, _MAX_ADDRESSES = 256, 128, 16


def check_claim(obj: Obj) -> Iterator[Cause]:
    return _check_spec(obj.get("spec") or {}, "spec")


def check_template(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    metadata.validate_template(spec.get("metadata") or {}, "spec.metadata", causes)
    return [*causes, *_check_spec(spec.get("spec") or {}, "spec.spec")]


def _check_spec(spec: Obj, path: str) -> Iterator[Cause]:
    asked, at = spec.get("devices") or {}, f"{path}.devices"
    requests, known = asked.get("requests") or [], _request_names(spec)
    yield from devices.check_size(requests, devices.MAX_REQUESTS, f"{at}.requests")
    for index, request in enumerate(requests):
        yield from _check_request(request, f"{at}.requests[{index}]")
    yield from devices.check_once(requests, f"{at}.requests", "name")
    constraints = asked.get("constraints") or []
    yield from devices.check_size(constraints, MAX_CONSTRAINTS, f"{at}.constraints")
    for index, constraint in enumerate(constraints):
        yield from _check_constraint(constraint, known, f"{at}.constraints[{index}]")
    configs = asked.get("config") or []
    yield from devices.check_size(configs, devices.MAX_CONFIGS, f"{at}.config")
    for index, config in enumerate(configs):
        yield from _check_references(config.get("requests") or (), known, f"{at}.config[{index}].requests")
        yield from devices.check_config(config, f"{at}.config[{index}]")


def _request_names(spec: Obj) -> set[str]:
    """The names of a claim's requests, and those of their alternatives below them."""
    known: set[str] = set()
    for request in (spec.get("devices") or {}).get("requests") or ():
        name = request.get("name", "")
        known |= {name, *(f"{name}/{sub.get('name', '')}" for sub in request.get("firstAvailable") or ())}
    return known


def _check_constraint(constraint: Obj, known: Collection[str], path: str) -> Iterator[Cause]:
    yield from _check_references(constraint.get("requests") or (), known, f"{path}.requests")
    for field in ("matchAttribute", "distinctAttribute"):
        if constraint.get(field) is not None:
            yield from devices.check_name(constraint[field], f"{path}.{field}", full=True)
            return
    yield errors.required(f"{path}.matchAttribute")


def _check_references(requests: Sequence[str], known: Collection[str], path: str) -> Iterator[Cause]:
    yield from devices.check_size(requests, devices.MAX_REQUESTS, path)
    for index, name in enumerate(requests):
        yield from _check_reference(name, known, f"{path}[{index}]")
    yield from devices.check_once(requests, path)


def _check_reference(name: str, known: Collection[str], path: str) -> Iterator[Cause]:
    if name.count("/") < 2:
        for part in name.split("/"):
            yield from fields.invalid_if(names.dns1123_label(part), path, part)
    if name not in known:
        yield errors.invalid(path, name, _REFERENCE)


def _check_request(request: Obj, path: str) -> Iterator[Cause]:
    name, exactly, first = request.get("name", ""), request.get("exactly"), request.get("firstAvailable") or []
    yield from fields.invalid_if(names.dns1123_label(name), f"{path}.name", name)
    yield from devices.check_size(first, MAX_FIRST_AVAILABLE, f"{path}.firstAvailable")
    for index, sub in enumerate(first):
        at, sub_name = f"{path}.firstAvailable[{index}]", sub.get("name", "")
        yield from fields.invalid_if(names.dns1123_label(sub_name), f"{at}.name", sub_name)
        yield from _check_asked(sub, at)
    yield from devices.check_once(first, f"{path}.firstAvailable", "name")
    if exactly is not None:
        yield from _check_asked(exactly, f"{path}.exactly")
    if exactly is not None and first:
        yield errors.invalid(path, None, f"{_NEITHER}, but multiple fields are set")
    elif exactly is None and not first:
        yield errors.required(path, _NEITHER)


def _check_asked(asked: Obj, path: str) -> Iterator[Cause]:
    """Of which class how many devices are wanted."""
    mode, count = asked.get("allocationMode", ""), asked.get("count", 0)
    yield from fields.named(asked.get("deviceClassName", ""), f"{path}.deviceClassName", names.dns1123_subdomain)
    yield from devices.check_selectors(asked.get("selectors") or (), f"{path}.selectors")
    yield from fields.optional_one_of(mode, f"{path}.allocationMode", _MODES)
    if mode == "All" and count:
        yield errors.invalid(f"{path}.count", count, "must not be specified when allocationMode is 'All'")
    elif mode == "ExactCount":
        yield from fields.positive(count, f"{path}.count")
    for index, toleration in enumerate(asked.get("tolerations") or ()):
        yield from devices.check_toleration(toleration, f"{path}.tolerations[{index}]")


def check_status(new: Obj, old: Obj) -> Iterator[Cause]:
    """What a scheduler, controllers and drivers write: the allocation, who uses it, and the state of the devices."""
    status, was, path = new.get("status") or {}, old.get("status") or {}, "status.reservedFor"
    reserved, allocation = status.get("reservedFor") or [], status.get("allocation")
    yield from devices.check_size(reserved, MAX_RESERVED, path)
    for index, consumer in enumerate(reserved):
        missing = (field for field in ("resource", "name", "uid") if not consumer.get(field))
        yield from (errors.required(f"{path}[{index}].{field}") for field in missing)
    yield from devices.check_once(reserved, path, "uid")
    yield from _check_devices(status.get("devices") or (), allocation)
    if reserved and allocation is None:
        yield errors.forbidden(path, "may not be specified when `allocated` is not set")
    elif new["metadata"].get("deletionTimestamp") and any(item not in (was.get("reservedFor") or ()) for item in reserved):
        text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        yield errors.forbidden(path, text)
    if allocation is not None:
        if was.get("allocation") is not None:
            yield from fields.immutable(allocation, was["allocation"], "status.allocation")
        else:
            yield from _check_allocation(allocation, _request_names(new.get("spec") or {}), "status.allocation")


def device_id(device: Mapping[str, Any]) -> tuple[str, str, str]:
    """What names a device: its driver, its pool, and its name there."""
    return device.get("driver", ""), device.get("pool", ""), device.get("device", "")


def allocated(status: Obj) -> list[Obj]:
    results: list[Obj] = ((status.get("allocation") or {}).get("devices") or {}).get("results") or []
    return results


def _check_allocation(allocation: Obj, known: Collection[str], path: str) -> Iterator[Cause]:
    given, at = allocation.get("devices") or {}, f"{path}.devices"
    results, configs = given.get("results") or (), given.get("config") or ()
    yield from devices.check_size(results, MAX_RESULTS, f"{at}.results")
    for index, result in enumerate(results):
        yield from _check_reference(result.get("request", ""), known, f"{at}.results[{index}].request")
        yield from _check_device(result, f"{at}.results[{index}]")
    yield from devices.check_size(configs, 2 * devices.MAX_CONFIGS, f"{at}.config")
    for index, config in enumerate(configs):
        below = f"{at}.config[{index}]"
        yield from fields.one_of(config.get("source"), f"{below}.source", ("FromClaim", "FromClass"))
        yield from _check_references(config.get("requests") or (), known, f"{below}.requests")
        yield from devices.check_config(config, below)
    if allocation.get("nodeSelector") is not None:
        yield from placement.check_node_selector(allocation["nodeSelector"], f"{path}.nodeSelector")


def _check_device(device: Mapping[str, Any], path: str) -> Iterator[Cause]:
    driver, pool, name = device_id(device)
    yield from volumesources.driver_name(driver, f"{path}.driver")
    yield from devices.check_pool_name(pool, f"{path}.pool")
    yield from fields.invalid_if(names.dns1123_label(name), f"{path}.device", name)


def _check_devices(states: Sequence[Obj], allocation: Obj | None) -> Iterator[Cause]:
    """The states of devices: each of an allocated one."""
    known = {device_id(result) for result in allocated({"allocation": allocation})}
    seen: set[tuple[str, str, str]] = set()
    for index, state in enumerate(states):
        path, key, conditions = f"status.devices[{index}]", device_id(state), state.get("conditions") or ()
        yield from _check_device(state, path)
        shown = {field: state.get(field, "") for field in ("driver", "pool", "device")}
        if key not in known:
            yield errors.invalid(path, shown, "must be an allocated device in the claim")
        if key in seen:
            yield errors.duplicate(f"{path}.deviceID", shown)
        seen.add(key)
        yield from devices.check_size(conditions, MAX_CONDITIONS, f"{path}.conditions")
        yield from statuses.check_conditions(conditions, f"{path}.conditions")
        if state.get("data") is not None:
            yield from devices.check_raw(state["data"], f"{path}.data")
        yield from _check_network(state.get("networkData") or {}, f"{path}.networkData")


def _check_network(data: Obj, path: str) -> Iterator[Cause]:
    for field, limit in (("interfaceName", _MAX_INTERFACE), ("hardwareAddress", _MAX_HARDWARE)):
        if len(data.get(field, "").encode()) > limit:
            yield errors.too_long(f"{path}.{field}", limit)
    ips = data.get("ips") or ()
    yield from devices.check_size(ips, _MAX_ADDRESSES, f"{path}.ips")
    for index, text in enumerate(ips):
        yield from fields.invalid_if(addresses.interface_faults(text), f"{path}.ips[{index}]", text)
    yield from devices.check_once(ips, f"{path}.ips")
