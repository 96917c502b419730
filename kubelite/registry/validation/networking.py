"""Checks of ingresses, network policies, endpoints and endpoint slices.

Source: kubernetes pkg/apis/{networking,discovery,core}/validation, v1.34.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR_TEXT = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_SUFFIXES = ("/..", "/.")
MAX_ENDPOINTS, MAX_ADDRESSES, MAX_PORTS = 1000, 100, 20000


def check_ingress(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    rules, default = spec.get("rules") or (), spec.get("defaultBackend")
    causes: list[Cause] = []
    if not rules and default is None:
        text = "either `defaultBackend` or `rules` must be specified"
        causes.append(errors.invalid("spec", spec.get("rules"), text))
    if default is not None:
        causes += _check_backend(default, "spec.defaultBackend")
    for index, rule in enumerate(rules):
        causes += _check_ingress_rule(rule, f"spec.rules[{index}]")
    for index, tls in enumerate(spec.get("tls") or ()):
        path = f"spec.tls[{index}]"
        for position, host in enumerate(tls.get("hosts") or ()):
            causes += _check_host(host, f"{path}.hosts[{position}]")
        if tls.get("secretName"):
            causes += fields.named(tls["secretName"], f"{path}.secretName", names.dns1123_subdomain)
    if spec.get("ingressClassName"):
        causes += fields.named(spec["ingressClassName"], "spec.ingressClassName", names.dns1123_subdomain)
    return causes


def _check_host(host: str, path: str) -> list[Cause]:
    check = names.wildcard_dns1123_subdomain if "*" in host else names.dns1123_subdomain
    return fields.invalid_if(check(host), path, host)


def _check_ingress_rule(rule: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    host = rule.get("host")
    if host:
        if _is_ip(host):
            causes.append(errors.invalid(f"{path}.host", host, "must be a DNS name, not an IP address"))
        causes += _check_host(host, f"{path}.host")
    http = rule.get("http")
    if http is None:
        return causes
    if not http.get("paths"):
        causes.append(errors.required(f"{path}.http.paths"))
    for index, item in enumerate(http.get("paths") or ()):
        causes += _check_path(item, f"{path}.http.paths[{index}]")
    return causes


def _check_path(item: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    kind, value = item.get("pathType"), item.get("path", "")
    if kind is None:
        return [errors.required(f"{path}.pathType", "pathType must be specified")]
    if kind in ("Exact", "Prefix"):
        if not value.startswith("/"):
            causes.append(errors.invalid(f"{path}.path", value, "must be an absolute path"))
        causes += [errors.invalid(f"{path}.path", value, f"must not contain '{bad}'") for bad in _BAD_SEQUENCES if bad in value]
        causes += [
            errors.invalid(f"{path}.path", value, f"cannot end with '{bad}'") for bad in _BAD_SUFFIXES if value.endswith(bad)
        ]
    elif kind == "ImplementationSpecific":
        if value and not value.startswith("/"):
            causes.append(errors.invalid(f"{path}.path", value, "must be an absolute path"))
    else:
        allowed = ("Exact", "ImplementationSpecific", "Prefix")
        causes.append(errors.not_supported(f"{path}.pathType", kind, allowed))
    return causes + _check_backend(item.get("backend") or {}, f"{path}.backend")


def _check_backend(backend: Obj, path: str) -> list[Cause]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [errors.invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return [errors.required(f"{path}.resource.{name}") for name in ("kind", "name") if not resource.get(name)]
    if service is None:
        return [errors.invalid(path, "", "resource or service backend is required")]
    causes: list[Cause] = []
    name, port = service.get("name", ""), service.get("port") or {}
    if not name:
        causes.append(errors.required(f"{path}.service.name"))
    else:
        causes += fields.named(name, f"{path}.service.name", names.dns1035_label)
    if port.get("name") and port.get("number"):
        causes.append(errors.invalid(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        causes += fields.named(port["name"], f"{path}.service.port.name", names.port_name)
    elif port.get("number"):
        number = port["number"]
        causes += fields.invalid_if(names.port_number(number), f"{path}.service.port.number", number)
    else:
        causes.append(errors.required(path, "port name or number is required"))
    return causes


def check_ingress_class(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    controller = spec.get("controller", "")
    domain, slash, path = controller.partition("/")
    if not controller:
        return [errors.required("spec.controller")]
    if not slash or not path:
        return [errors.invalid("spec.controller", controller, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    causes = fields.named(domain, "spec.controller", names.dns1123_subdomain)
    return causes + _check_parameters(spec.get("parameters"), "spec.parameters")


def _check_parameters(parameters: Obj | None, path: str) -> list[Cause]:
    """What a class says to its controller: an object of the cluster or of a namespace."""
    if parameters is None:
        return []
    causes: list[Cause] = []
    if parameters.get("apiGroup"):
        group = parameters["apiGroup"]
        causes += fields.invalid_if(names.dns1123_subdomain(group), f"{path}.apiGroup", group)
    for field in ("kind", "name"):
        value = parameters.get(field, "")
        if not value:
            causes.append(errors.required(f"{path}.{field}"))
        causes += fields.invalid_if(names.path_segment(value), f"{path}.{field}", value)
    scope, namespace, at = parameters.get("scope"), parameters.get("namespace"), f"{path}.namespace"
    if scope is None:
        causes.append(errors.required(f"{path}.scope"))
    elif scope not in ("Cluster", "Namespace"):
        causes.append(errors.not_supported(f"{path}.scope", scope, ("Cluster", "Namespace")))
    elif scope == "Namespace" and namespace is None:
        causes.append(errors.required(at, "`parameters.scope` is set to 'Namespace'"))
    elif scope == "Namespace":
        causes += fields.named(namespace or "", at)
    elif namespace is not None:
        causes.append(errors.forbidden(at, "`parameters.scope` is set to 'Cluster'"))
    return causes


def check_network_policy(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = fields.label_selector(spec.get("podSelector"), "spec.podSelector")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{index}]"
            for position, port in enumerate(rule.get("ports") or ()):
                causes += _check_policy_port(port, f"{path}.ports[{position}]")
            for position, peer in enumerate(rule.get(peers) or ()):
                causes += _check_peer(peer, f"{path}.{peers}[{position}]")
    types = spec.get("policyTypes") or ()
    if len(types) > 2:
        causes.append(errors.invalid("spec.policyTypes", list(types), "may not specify more than two policyTypes"))
        return causes
    for index, kind in enumerate(types):
        if kind not in ("Ingress", "Egress"):
            text = f'Unsupported value: "{kind}": supported values: "Ingress", "Egress"'
            causes.append(Cause(f"spec.policyTypes[{index}]", "FieldValueNotSupported", text))
    return causes


def _check_policy_port(port: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in ("TCP", "UDP", "SCTP"):
        text = f'Unsupported value: "{protocol}": supported values: "TCP", "UDP", "SCTP"'
        causes.append(Cause(f"{path}.protocol", "FieldValueNotSupported", text))
    if number is None:
        if end is not None:
            text = "may not be specified when `port` is not specified"
            causes.append(errors.invalid(f"{path}.endPort", end, text))
        return causes
    causes += fields.port_or_name(number, f"{path}.port")
    if end is not None:
        if isinstance(number, str):
            text = "may not be specified when `port` is non-numeric"
            causes.append(errors.invalid(f"{path}.endPort", end, text))
        else:
            if end < number:
                causes.append(errors.invalid(f"{path}.endPort", number, "must be greater than or equal to `port`"))
            causes += fields.invalid_if(names.port_number(end), f"{path}.endPort", end)
    return causes


def _check_peer(peer: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("podSelector", "namespaceSelector"):
        causes += fields.label_selector(peer.get(name), f"{path}.{name}")
    block = peer.get("ipBlock")
    if block is not None:
        causes += _check_block(block, f"{path}.ipBlock")
    given = [name for name in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(name) is not None]
    if not given:
        causes.append(errors.required(path, "must specify a peer"))
    elif len(given) > 1 and block is not None:
        causes.append(errors.forbidden(path, "may not specify both ipBlock and another peer"))
    return causes


def _check_block(block: Obj, path: str) -> list[Cause]:
    cidr = block.get("cidr", "")
    if not cidr:
        return [errors.required(f"{path}.cidr")]
    network = _network(cidr)
    if network is None:
        return [errors.invalid(f"{path}.cidr", cidr, CIDR_TEXT)]
    causes: list[Cause] = []
    for index, text in enumerate(block.get("except") or ()):
        at = f"{path}.except[{index}]"
        inner = _network(text)
        if inner is None:
            causes.append(errors.invalid(at, text, CIDR_TEXT))
        elif inner.version != network.version or inner == network or not inner.subnet_of(network):  # type: ignore[arg-type]
            causes.append(errors.invalid(at, text, "must be a strict subset of `cidr`"))
    return causes


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_endpoints(obj: Obj) -> list[Cause]:
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
            causes += _check_endpoint_port(port, len(ports) > 1, f"{path}.ports[{position}]")
    return causes


def _check_address(address: Obj, path: str) -> list[Cause]:
    causes = check_endpoint_ip(address.get("ip", ""), f"{path}.ip")
    if address.get("hostname"):
        causes += fields.named(address["hostname"], f"{path}.hostname")
    if address.get("nodeName") is not None:
        causes += fields.named(address["nodeName"], f"{path}.nodeName", names.dns1123_subdomain)
    return causes


def _check_endpoint_port(port: Obj, named: bool, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if port.get("name"):
        causes += fields.named(port["name"], f"{path}.name")
    elif named:
        causes.append(errors.required(f"{path}.name"))
    number, protocol = port.get("port", 0), port.get("protocol", "")
    causes += fields.invalid_if(names.port_number(number), f"{path}.port", number)
    if protocol not in ("TCP", "UDP", "SCTP"):
        causes.append(errors.not_supported(f"{path}.protocol", protocol, ("SCTP", "TCP", "UDP")))
    return causes


def check_endpoint_ip(text: str, path: str) -> list[Cause]:
    """An address that may stand behind a service: no special one, or traffic could be led to a node's own ports."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return [errors.invalid(path, text, IP_TEXT)]
    if ip.is_unspecified:
        return [errors.invalid(path, text, f"may not be unspecified ({text})")]
    if ip.is_loopback:
        return [errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if ip.is_link_local:
        return [errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if ip.is_multicast and ((ip.version == 4 and int(ip) >> 8 == 0xE00000) or text.lower().startswith("ff02")):
        return [errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    return []


def check_endpoint_slice(obj: Obj) -> list[Cause]:
    kind = obj.get("addressType", "")
    causes: list[Cause] = []
    if kind and kind not in ("IPv4", "IPv6", "FQDN"):
        causes.append(errors.not_supported("addressType", kind, ("FQDN", "IPv4", "IPv6")))
    ports: Sequence[Obj] = obj.get("ports") or ()
    if len(ports) > MAX_PORTS:
        causes.append(errors.too_many("ports", len(ports), MAX_PORTS))
    else:
        causes += _check_slice_ports(ports)
    endpoints = obj.get("endpoints") or ()
    if len(endpoints) > MAX_ENDPOINTS:
        return [*causes, errors.too_many("endpoints", len(endpoints), MAX_ENDPOINTS)]
    for index, endpoint in enumerate(endpoints):
        causes += _check_endpoint(endpoint, kind, f"endpoints[{index}]")
    return causes


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
        if protocol is not None and protocol not in ("TCP", "UDP", "SCTP"):
            causes.append(errors.not_supported(f"{path}.protocol", protocol, ("SCTP", "TCP", "UDP")))
        if port.get("appProtocol") is not None:
            application = port["appProtocol"]
            causes += fields.invalid_if(names.qualified_name(application), f"{path}.appProtocol", application)
    return causes


def _check_endpoint(endpoint: Mapping[str, Any], kind: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    addresses = endpoint.get("addresses") or ()
    if not addresses:
        causes.append(errors.required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > MAX_ADDRESSES:
        causes.append(errors.too_many(f"{path}.addresses", len(addresses), MAX_ADDRESSES))
    for index, address in enumerate(addresses):
        at = f"{path}.addresses[{index}]"
        if kind == "FQDN":
            causes += fields.named(address.removesuffix("."), at, names.dns1123_subdomain)
            continue
        if kind in ("IPv4", "IPv6") and _is_ip(address) and f"IPv{ipaddress.ip_address(address).version}" != kind:
            causes.append(errors.invalid(f"{path}.addresses", address, f"must be an {kind} address"))
        causes += check_endpoint_ip(address, at)
    if endpoint.get("nodeName") is not None:
        causes += fields.named(endpoint["nodeName"], f"{path}.nodeName", names.dns1123_subdomain)
    if endpoint.get("hostname") is not None:
        causes += fields.named(endpoint["hostname"], f"{path}.hostname")
    hints = endpoint.get("hints") or {}
    for field in ("forZones", "forNodes"):
        seen: set[str] = set()
        for index, hint in enumerate(hints.get(field) or ()):
            at, name = f"{path}.hints.{field}[{index}].name", hint.get("name", "")
            if name in seen:
                causes.append(errors.duplicate(at, name))
            seen.add(name)
            check = names.label_value if field == "forZones" else names.dns1123_subdomain
            causes += fields.invalid_if(check(name), at, name)
    return causes


def check_ranges(obj: Obj) -> list[Cause]:
    """A ServiceCIDR: one network of a family, at most."""
    cidrs = (obj.get("spec") or {}).get("cidrs") or []
    if not cidrs:
        return [errors.required("spec.cidrs", "at least one CIDR required")]
    if len(cidrs) > 2:
        return [errors.invalid("spec.cidrs", obj.get("spec"), "may only hold up to 2 values")]
    causes: list[Cause] = []
    families = set()
    for index, cidr in enumerate(cidrs):
        try:
            families.add(ipaddress.ip_network(cidr, strict=False).version)
        except ValueError:
            causes.append(errors.invalid(f"spec.cidrs[{index}]", cidr, CIDR_TEXT))
            continue
        if "/" not in cidr:
            causes.append(errors.invalid(f"spec.cidrs[{index}]", cidr, CIDR_TEXT))
        elif _has_host_bits(cidr):
            text = "must not have bits set beyond the prefix length"
            causes.append(errors.invalid(f"spec.cidrs[{index}]", cidr, text))
    if not causes and len(families) < len(cidrs):
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        causes.append(errors.invalid("spec.cidrs", cidrs, text))
    return causes


def _has_host_bits(cidr: str) -> bool:
    try:
        ipaddress.ip_network(cidr)
    except ValueError:
        return True
    return False


def check_ranges_update(new: Obj, old: Obj) -> list[Cause]:
    """Of a ServiceCIDR's networks none changes; one of the other family may come."""
    now, was = (new.get("spec") or {}).get("cidrs") or [], (old.get("spec") or {}).get("cidrs") or []
    if len(now) < len(was) or len(now) > 2:
        return [errors.invalid("spec.cidrs", now, fields.IMMUTABLE)]
    changed = [i for i, cidr in enumerate(was) if now[i] != cidr]
    if changed:
        return [errors.invalid(f"spec.cidrs[{i}]", now[i], fields.IMMUTABLE) for i in changed]
    return check_ranges(new) if now != was else []


def address_faults(text: str) -> list[str]:
    """What is wrong with an address that has to be in its one canonical form."""
    try:
        canonical = str(ipaddress.ip_address(text))
    except ValueError:
        plain = ".".join(part.lstrip("0") or "0" for part in text.split("."))
        return ["must not have leading 0s"] if plain != text and _is_ip(plain) else [IP_TEXT]
    return [] if canonical == text else [f'must be in canonical form ("{canonical}")']
