"""Checks of services.

Source: kubernetes pkg/apis/core/validation (validateService and what it calls), v1.34.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

_EXTERNAL_TYPES = ("NodePort", "LoadBalancer")
_IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
MAX_AFFINITY_S = 86400

_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")


def is_externally_accessible(spec: Obj) -> bool:
    """Whether anything outside the cluster can reach the service, so that its external traffic policy matters."""
    kind = spec.get("type", "ClusterIP")
    return kind in _EXTERNAL_TYPES or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def check_service(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    kind = spec.get("type", "")
    ips = spec.get("clusterIPs") or []
    headless = ips[:1] == ["None"]
    ports: Sequence[Obj] = spec.get("ports") or ()
    causes: list[Cause] = []
    if not ports and not headless and kind != "ExternalName":
        causes.append(errors.required("spec.ports"))
    if kind in _EXTERNAL_TYPES and headless:
        causes.append(errors.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        causes += _check_external_name(spec)
    causes += _check_ports(ports, kind)
    causes += fields.label_map(spec.get("selector"), "spec.selector")
    causes += _check_affinity(spec)
    causes += _check_ips(spec)
    if kind not in ("ClusterIP", "ExternalName", *_EXTERNAL_TYPES):
        causes.append(errors.not_supported("spec.type", kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")))
    causes += _check_load_balancer(spec, kind)
    causes += _check_traffic(spec, kind)
    return causes


def _check_external_name(spec: Obj) -> list[Cause]:
    causes = [
        errors.forbidden(f"spec.{field}", "may not be set for ExternalName services")
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(field)
    ]
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        return [*causes, errors.required("spec.externalName")]
    return causes + fields.named(name, "spec.externalName", names.dns1123_subdomain)


def _check_ports(ports: Sequence[Obj], kind: str) -> list[Cause]:
    causes: list[Cause] = []
    seen_names: set[str] = set()
    seen: set[tuple[Any, Any]] = set()
    seen_node: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        name, protocol, node_port = port.get("name", ""), port.get("protocol", ""), port.get("nodePort")
        if name:
            causes += fields.named(name, f"{at}.name")
            if name in seen_names:
                causes.append(errors.duplicate(f"{at}.name", name))
            seen_names.add(name)
        elif len(ports) > 1:
            causes.append(errors.required(f"{at}.name"))
        number = port.get("port", 0)
        causes += fields.invalid_if(names.port_number(number), f"{at}.port", number)
        if protocol not in ("TCP", "UDP", "SCTP"):
            causes.append(errors.not_supported(f"{at}.protocol", protocol, ("SCTP", "TCP", "UDP")))
        causes += fields.port_or_name(port.get("targetPort"), f"{at}.targetPort")
        if port.get("appProtocol"):
            causes += fields.named(port["appProtocol"], f"{at}.appProtocol", names.qualified_name)
        if node_port:
            if kind == "ClusterIP":
                causes.append(errors.forbidden(f"{at}.nodePort", "may not be used when `type` is 'ClusterIP'"))
            if (protocol, node_port) in seen_node:
                causes.append(errors.duplicate(f"{at}.nodePort", node_port))
            seen_node.add((protocol, node_port))
        if (protocol, number) in seen:
            causes.append(errors.duplicate(at, {"protocol": protocol, "port": number}))
        seen.add((protocol, number))
    return causes


def _check_affinity(spec: Obj) -> list[Cause]:
    affinity, config = spec.get("sessionAffinity", ""), spec.get("sessionAffinityConfig")
    if affinity not in ("ClientIP", "None"):
        return [errors.not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None"))]
    path = "spec.sessionAffinityConfig"
    if affinity == "None":
        text = "must not be set when session affinity is None"
        return [errors.forbidden(path, text)] if config is not None else []
    timeout = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is None:
        return [errors.required(path, "when session affinity type is ClientIP")]
    if not 0 < timeout <= MAX_AFFINITY_S:
        text = f"must be greater than 0 and less than {MAX_AFFINITY_S}"
        return [errors.invalid(f"{path}.clientIP.timeoutSeconds", timeout, text)]
    return []


def _check_ips(spec: Obj) -> list[Cause]:
    causes: list[Cause] = []
    for index, ip in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{index}]"
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            causes.append(errors.invalid(path, ip, _IP_TEXT))
            continue
        if address.is_unspecified:
            causes.append(errors.invalid(path, ip, f"may not be unspecified ({ip})"))
        elif address.is_loopback:
            causes.append(errors.invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
        elif address.is_link_local:
            causes.append(errors.invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    return causes


def _check_load_balancer(spec: Obj, kind: str) -> list[Cause]:
    text = "may only be used when `type` is 'LoadBalancer'"
    causes = []
    ranges = spec.get("loadBalancerSourceRanges") or ()
    if ranges and kind != "LoadBalancer":
        causes.append(errors.forbidden("spec.LoadBalancerSourceRanges", text))
    for index, cidr in enumerate(ranges):
        try:
            if "/" not in cidr:
                raise ValueError("an address, not a network")
            ipaddress.ip_network(cidr.strip(), strict=False)
        except ValueError:
            example = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            causes.append(errors.invalid(f"spec.LoadBalancerSourceRanges[{index}]", cidr, example))
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        causes.append(errors.forbidden("spec.allocateLoadBalancerNodePorts", text))
    if spec.get("loadBalancerClass") is not None and kind != "LoadBalancer":
        causes.append(errors.forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'"))
    elif spec.get("loadBalancerClass") is not None:
        name = spec["loadBalancerClass"]
        causes += fields.invalid_if(names.qualified_name(name), "spec.loadBalancerClass", name)
    return causes


def _check_traffic(spec: Obj, kind: str) -> list[Cause]:
    causes = []
    policy, port = spec.get("externalTrafficPolicy", ""), spec.get("healthCheckNodePort", 0)
    if not is_externally_accessible(spec):
        if policy:
            text = "may only be set for externally-accessible services"
            causes.append(errors.invalid("spec.externalTrafficPolicy", policy, text))
    elif policy not in ("Cluster", "Local"):
        causes.append(errors.not_supported("spec.externalTrafficPolicy", policy, ("Cluster", "Local")))
    if not (kind == "LoadBalancer" and policy == "Local") and port:
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes.append(errors.invalid("spec.healthCheckNodePort", port, text))
    internal = spec.get("internalTrafficPolicy")
    if internal is not None and internal not in ("Cluster", "Local"):
        causes.append(errors.not_supported("spec.internalTrafficPolicy", internal, ("Cluster", "Local")))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        causes.append(errors.not_supported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))
    return causes
