"""Checks of endpoints and endpoint slices.

Source: kubernetes pkg/apis/{core,discovery}/validation and pkg/registry/{core/endpoint,discovery/endpointslice}, v1.34.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubelite.meta import addresses, errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

MAX_ENDPOINTS, MAX_ADDRESSES, MAX_PORTS, MAX_HINTS = 1000, 100, 20000, 8
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
#: Who writes addresses that need no second look: label, the values of the controllers.
_MANAGED_BY = {
    "Endpoints": ("endpoints.kubernetes.io/managed-by", ("endpoint-controller",)),
    "EndpointSlice": (
        "endpointslice.kubernetes.io/managed-by",
        ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"),
    ),
}


def check_endpoints(obj: Obj, old: Obj | None = None) -> list[Cause]:
    """The faults of Endpoints; subsets that are as they were may be of any form."""
    causes: list[Cause] = []
    for index, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.append(errors.required(path, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(subset.get(field) or ()):
                causes += _check_address(address, f"{path}.{field}[{position}]")
        ports = subset.get("ports") or ()
        for position, port in enumerate(ports):
            causes += _check_port(port, len(ports) > 1, f"{path}.ports[{position}]")
    return causes if causes and (old is None or obj.get("subsets") != old.get("subsets")) else []


def _check_address(address: Obj, path: str) -> Iterator[Cause]:
    ip = address.get("ip", "")
    yield from fields.address(ip, f"{path}.ip")
    yield from check_endpoint_ip(ip, f"{path}.ip")
    if address.get("hostname"):
        yield from fields.named(address["hostname"], f"{path}.hostname")
    if address.get("nodeName") is not None:
        yield from fields.invalid_if(names.dns1123_subdomain(address["nodeName"]), f"{path}.nodeName", address["nodeName"])


def _check_port(port: Obj, named: bool, path: str) -> Iterator[Cause]:
    if port.get("name"):
        yield from fields.named(port["name"], f"{path}.name")
    elif named:
        yield errors.required(f"{path}.name")
    number, application = port.get("port", 0), port.get("appProtocol")
    yield from fields.invalid_if(names.port_number(number), f"{path}.port", number)
    yield from fields.one_of(port.get("protocol"), f"{path}.protocol", _PROTOCOLS)
    if application is not None:
        yield from fields.invalid_if(names.qualified_name(application), f"{path}.appProtocol", application)


def check_endpoint_ip(text: str, path: str) -> list[Cause]:
    """An address that may stand behind a service: no special one, or traffic could be led to a node's own ports."""
    try:
        ip = addresses.parse(text)
    except ValueError:
        return [errors.invalid(path, text, "must be a valid IP address")]
    if ip.is_unspecified:
        return [errors.invalid(path, text, f"may not be unspecified ({text})")]
    if ip.is_loopback:
        return [errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if ip.is_link_local:
        return [errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if ip.is_multicast and (int(ip) >> 8 == 0xE00000 if ip.version == 4 else int(ip) >> 112 & 0xFF0F == 0xFF02):
        return [errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    return []


def check_slice(obj: Obj, old: Obj | None = None) -> list[Cause]:
    """The faults of an EndpointSlice; endpoints that are as they were may be of any form."""
    kind = obj.get("addressType", "")
    causes = fields.one_of(kind, "addressType", _ADDRESS_TYPES)
    ports: Sequence[Obj] = obj.get("ports") or ()
    if len(ports) > MAX_PORTS:
        causes.append(errors.too_many("ports", len(ports), MAX_PORTS))
    else:
        causes += _check_slice_ports(ports)
    if old is not None:
        causes += fields.immutable(kind, old.get("addressType", ""), "addressType")
    endpoints = obj.get("endpoints") or ()
    found: list[Cause] = []
    if len(endpoints) > MAX_ENDPOINTS:
        found.append(errors.too_many("endpoints", len(endpoints), MAX_ENDPOINTS))
    else:
        for index, endpoint in enumerate(endpoints):
            found += _check_endpoint(endpoint, kind, f"endpoints[{index}]")
    return causes + (found if found and (old is None or endpoints != (old.get("endpoints") or ())) else [])


def _check_slice_ports(ports: Sequence[Obj]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"ports[{index}]", port.get("name") or ""
        if name:
            causes += fields.named(name, f"{path}.name")
        if name in seen:
            causes.append(errors.duplicate(f"{path}.name", name))
        seen.add(name)
        protocol = port.get("protocol")
        if protocol not in _PROTOCOLS:
            causes.append(errors.not_supported(f"{path}.protocol", protocol, _PROTOCOLS))
        if port.get("appProtocol") is not None:
            application = port["appProtocol"]
            causes += fields.invalid_if(names.qualified_name(application), f"{path}.appProtocol", application)
    return causes


def _check_endpoint(endpoint: Mapping[str, Any], kind: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    given = endpoint.get("addresses") or ()
    if not given:
        causes.append(errors.required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(given) > MAX_ADDRESSES:
        causes.append(errors.too_many(f"{path}.addresses", len(given), MAX_ADDRESSES))
    for index, address in enumerate(given):
        at = f"{path}.addresses[{index}]"
        if kind == "FQDN":
            causes += fields.domain_name(address, at, segments=2)
        elif kind in ("IPv4", "IPv6"):
            faults = addresses.strict_faults(address) if kind == "IPv6" else filter(None, [addresses.loose_fault(address)])
            causes += fields.invalid_if(faults, at, address) or _check_ip(address, kind, path, at)
    if endpoint.get("nodeName") is not None:
        causes += fields.invalid_if(names.dns1123_subdomain(endpoint["nodeName"]), f"{path}.nodeName", endpoint["nodeName"])
    if endpoint.get("hostname") is not None:
        causes += fields.invalid_if(names.dns1123_label(endpoint["hostname"]), f"{path}.hostname", endpoint["hostname"])
    return causes + _check_hints(endpoint.get("hints") or {}, f"{path}.hints")


def _check_ip(address: str, kind: str, path: str, at: str) -> list[Cause]:
    fits = addresses.family_of(address) == kind
    causes = [] if fits else [errors.invalid(f"{path}.addresses", address, f"must be an {kind} address")]
    return causes + check_endpoint_ip(address, at)


def _check_hints(hints: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for field, check in (("forZones", names.label_value), ("forNodes", names.dns1123_subdomain)):
        given = hints.get(field) or ()
        if len(given) > MAX_HINTS:
            return [*causes, errors.too_many(f"{path}.{field}", len(given), MAX_HINTS)]
        seen: set[str] = set()
        for index, hint in enumerate(given):
            at, name = f"{path}.{field}[{index}].name", hint.get("name", "")
            if name in seen:
                causes.append(errors.duplicate(at, name))
            seen.add(name)
            causes += fields.invalid_if(check(name), at, name)
    return causes


def warnings(obj: Obj) -> list[str]:
    """Addresses in an unusual form, unless a controller wrote them."""
    label, controllers = _MANAGED_BY[obj["kind"]]
    if (obj["metadata"].get("labels") or {}).get(label) in controllers:
        return []
    found = []
    for index, subset in enumerate(obj.get("subsets") or ()):
        for field in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(subset.get(field) or ()):
                found += addresses.warnings(address.get("ip", ""), f"subsets[{index}].{field}[{position}].ip")
    for index, endpoint in enumerate(obj.get("endpoints") or ()):
        for position, address in enumerate(endpoint.get("addresses") or ()):
            found += addresses.warnings(address, f"endpoints[{index}].addresses[{position}]")
    return found
