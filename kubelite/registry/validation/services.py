"""Checks of services.

Source: kubernetes pkg/apis/core/validation (validateService, ValidateServiceUpdate, what they call) and pkg/api/service, v1.34.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from kubelite.meta import addresses, errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import endpoints, fields

_EXTERNAL_TYPES = ("NodePort", "LoadBalancer")
_TYPES = ("ClusterIP", "ExternalName", *_EXTERNAL_TYPES)
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
TRAFFIC_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
MAX_AFFINITY_S = 86400
_ONLY_BALANCERS = "may only be used when `type` is 'LoadBalancer'"
_SET_ONCE = "may not change once set"

_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
_TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"


def is_externally_accessible(spec: Obj) -> bool:
    """Whether anything outside the cluster can reach the service, so that its external traffic policy matters."""
    kind = spec.get("type", "ClusterIP")
    return kind in _EXTERNAL_TYPES or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def is_headless(spec: Obj) -> bool:
    return (spec.get("clusterIPs") or [])[:1] == ["None"]


def needs_health_port(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def check_service(obj: Obj, old: Obj | None = None) -> list[Cause]:
    """The faults of a service; what the stored one (`old`) has already, it may keep."""
    spec, was, kind = obj["spec"], (old or {}).get("spec") or {}, obj["spec"].get("type", "")
    ports: Sequence[Obj] = spec.get("ports") or ()
    causes = [*_check_annotations(obj, old)]
    if not ports and not is_headless(spec) and kind != "ExternalName":
        causes.append(errors.required("spec.ports"))
    if kind in _EXTERNAL_TYPES and is_headless(spec):
        causes.append(errors.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        causes += _check_external_name(spec)
    causes += _check_ports(ports, kind)
    causes += fields.label_map(spec.get("selector"), "spec.selector")
    causes += _check_affinity(spec)
    causes += check_cluster_ips(spec, was)
    for index, ip in enumerate(spec.get("externalIPs") or ()):
        path, fault = f"spec.externalIPs[{index}]", addresses.loose_fault(ip)
        if fault and ip not in (was.get("externalIPs") or ()):
            causes.append(errors.invalid(path, ip, fault))
        else:
            causes += endpoints.check_endpoint_ip(ip, path)
    causes += fields.one_of(kind, "spec.type", _TYPES)
    causes += _check_load_balancer(obj, old or {})
    causes += _check_traffic(spec)
    return causes


def check_update(new: Obj, old: Obj) -> list[Cause]:
    """The faults of a change: what a service once got it keeps, but for the second of two families."""
    spec, was = new["spec"], old["spec"]
    causes: list[Cause] = []
    if "ExternalName" not in (spec.get("type"), was.get("type")) and not (is_headless(spec) and is_headless(was)):
        causes += _check_kept(spec, was, "clusterIPs", "clusterIP")
        if is_headless(spec) == is_headless(was):
            causes += _check_kept(spec, was, "ipFamilies", "ipFamily")
    if spec.get("type") == was.get("type") == "LoadBalancer":
        balancer = spec.get("loadBalancerClass")
        if balancer != was.get("loadBalancerClass"):
            causes.append(errors.invalid("spec.loadBalancerClass", balancer, _SET_ONCE))
    changed = spec.get("healthCheckNodePort", 0) != was.get("healthCheckNodePort", 0)
    if changed and needs_health_port(spec) and needs_health_port(was):
        causes.append(errors.forbidden("spec.healthCheckNodePort", "field is immutable"))
    return causes + check_service(new, old)


def _check_kept(spec: Obj, was: Obj, field: str, noun: str) -> Iterator[Cause]:
    now, before = spec.get(field) or [], was.get(field) or []
    path = f"spec.{field}"
    if len(now) == len(before):
        for index in range(len(before)):
            if now[index] != before[index]:
                yield errors.invalid(f"{path}[{index if field == 'clusterIPs' else 0}]", now, _SET_ONCE)
        return
    if len(now) < len(before) and not spec.get("clusterIPs"):
        yield errors.invalid(f"{path}[0]", now, f"primary {noun} can not be unset")
    if before and now and now[0] != before[0]:
        yield errors.invalid(f"{path}[0]", spec.get("clusterIPs"), _SET_ONCE)
    policy = spec.get("ipFamilyPolicy")
    if len(now) == 1 and len(before) > 1 and policy != "SingleStack":
        yield errors.invalid("spec.ipFamilyPolicy", policy, f"must be set to 'SingleStack' when releasing the secondary {noun}")


def _check_annotations(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    annotations = obj["metadata"].get("annotations") or {}
    if not annotations:
        return
    mode, hints = annotations.get(_TOPOLOGY_MODE), annotations.get(_TOPOLOGY_HINTS)
    if mode is not None and hints is not None and mode != hints:
        text = f"must match annotations[{_TOPOLOGY_HINTS}] when both are specified"
        yield errors.invalid(f"metadata.annotations[{_TOPOLOGY_MODE}]", mode, text)
    ranges = annotations.get(_SOURCE_RANGES)
    if ranges is None or obj["spec"].get("loadBalancerSourceRanges"):
        return
    path = f"metadata.annotations[{_SOURCE_RANGES}]"
    if obj["spec"].get("type") != "LoadBalancer":
        yield errors.forbidden(path, _ONLY_BALANCERS)
    before = (old["metadata"].get("annotations") or {}).get(_SOURCE_RANGES) if old is not None else None
    if ranges.strip() and ranges != before:
        for cidr in ranges.strip().split(","):
            yield from fields.invalid_if(filter(None, [addresses.loose_cidr_fault(cidr.strip())]), path, cidr.strip())


def _check_external_name(spec: Obj) -> Iterator[Cause]:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field) or (field == "ipFamilyPolicy" and field in spec):
            yield errors.forbidden(f"spec.{field}", "may not be set for ExternalName services")
    name = (spec.get("externalName") or "").removesuffix(".")
    yield from fields.named(name, "spec.externalName", names.dns1123_subdomain)


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
        causes += fields.one_of(protocol, f"{at}.protocol", _PROTOCOLS)
        causes += fields.port_or_name(port.get("targetPort"), f"{at}.targetPort")
        if port.get("appProtocol") is not None:
            causes += fields.invalid_if(names.qualified_name(port["appProtocol"]), f"{at}.appProtocol", port["appProtocol"])
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
    path = "spec.sessionAffinityConfig"
    if affinity == "None":
        text = "must not be set when session affinity is None"
        return [errors.forbidden(path, text)] if config is not None else []
    if affinity != "ClientIP":
        return fields.one_of(affinity, "spec.sessionAffinity", ("ClientIP", "None"))
    timeout_s = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout_s is None:
        return [errors.required(path, "when session affinity type is ClientIP")]
    if not 0 < timeout_s <= MAX_AFFINITY_S:
        text = f"must be greater than 0 and less than {MAX_AFFINITY_S}"
        return [errors.invalid(f"{path}.clientIP.timeoutSeconds", timeout_s, text)]
    return []


def check_cluster_ips(spec: Obj, was: Obj) -> list[Cause]:
    """The faults of addresses and families among each other; addresses that the service had may be of any form."""
    if spec.get("type") == "ExternalName":
        return []
    ips, ip, families = spec.get("clusterIPs") or [], spec.get("clusterIP") or "", spec.get("ipFamilies") or []
    path, causes = "spec.clusterIPs", list[Cause]()
    if ip and not ips:
        causes.append(errors.required(path))
    elif ip and ips[0] != ip:
        causes.append(errors.invalid(path, ips, "first value must match `clusterIP`"))
    elif ips and not ip:
        causes.append(errors.invalid(path, ips, "must be empty when `clusterIP` is not specified"))
    for index, family in enumerate(families):
        if family not in _FAMILIES:
            causes.append(errors.not_supported(f"spec.ipFamilies[{index}]", family, _FAMILIES))
        if family in families[:index]:
            causes.append(errors.duplicate(f"spec.ipFamilies[{index}]", family))
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _FAMILY_POLICIES:
        causes.append(errors.not_supported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES))
    of_ips = [*_check_each(ips, was.get("clusterIPs") or ())]
    causes += of_ips
    if len(ips) > 2:
        causes.append(errors.invalid(path, ips, "may only hold up to 2 values"))
    if of_ips:
        return causes
    found = [addresses.family_of(text) for text in ips]
    if len(ips) > 1 and not {"IPv4", "IPv6"} <= set(found):
        causes.append(errors.invalid(path, ips, "may specify no more than one IP for each IP family"))
    if not is_headless(spec):
        for index, (family, wanted) in enumerate(zip(found, families, strict=False)):
            if wanted in _FAMILIES and family != wanted:
                text = f"expected an {wanted} value as indicated by `ipFamilies[{index}]`"
                causes.append(errors.invalid(f"{path}[{index}]", ips[index], text))
    return causes


def _check_each(ips: Sequence[str], known: Sequence[str]) -> Iterator[Cause]:
    for index, ip in enumerate(ips):
        if index == 0 and ip == "None":
            if len(ips) > 1:
                yield errors.invalid("spec.clusterIPs", ips, "'None' must be the first and only value")
        elif ip not in known:
            yield from fields.address(ip, f"spec.clusterIPs[{index}]")


def _check_load_balancer(obj: Obj, old: Obj) -> Iterator[Cause]:
    spec, kind = obj["spec"], obj["spec"].get("type", "")
    ranges, path = spec.get("loadBalancerSourceRanges") or (), "spec.LoadBalancerSourceRanges"
    if ranges and kind != "LoadBalancer":
        yield errors.forbidden(path, _ONLY_BALANCERS)
    known = [cidr.strip() for cidr in (old.get("spec") or {}).get("loadBalancerSourceRanges") or ()]
    for index, cidr in enumerate(ranges):
        text = cidr.strip()
        if text not in known and addresses.loose_cidr_fault(text):
            yield errors.invalid(f"{path}[{index}]", text, addresses.CIDR_TEXT)
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        yield errors.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_BALANCERS)
    name = spec.get("loadBalancerClass")
    if name is not None and kind != "LoadBalancer":
        yield errors.forbidden("spec.loadBalancerClass", _ONLY_BALANCERS)
    elif name is not None:
        yield from fields.invalid_if(names.qualified_name(name), "spec.loadBalancerClass", name)


def _check_traffic(spec: Obj) -> Iterator[Cause]:
    policy, port = spec.get("externalTrafficPolicy", ""), spec.get("healthCheckNodePort", 0)
    if is_externally_accessible(spec):
        yield from fields.one_of(policy, "spec.externalTrafficPolicy", TRAFFIC_POLICIES)
    elif policy:
        text = "may only be set for externally-accessible services"
        yield errors.invalid("spec.externalTrafficPolicy", policy, text)
    if needs_health_port(spec):
        yield from fields.invalid_if(names.port_number(port), "spec.healthCheckNodePort", port)
    elif port:
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield errors.invalid("spec.healthCheckNodePort", port, text)
    for field, allowed in (("internalTrafficPolicy", TRAFFIC_POLICIES), ("trafficDistribution", _DISTRIBUTIONS)):
        yield from fields.optional_one_of(spec.get(field), f"spec.{field}", allowed)


def warnings(obj: Obj) -> list[str]:
    """What of a service means nothing, or is written in an unusual form."""
    spec, found = obj["spec"], list[str]()
    headless, kind = spec.get("type") == "ClusterIP" and spec.get("clusterIP") == "None", spec.get("type")
    external = spec.get("externalIPs") or ()
    if _TOPOLOGY_HINTS in (obj["metadata"].get("annotations") or ()):
        found.append(f"annotation {_TOPOLOGY_HINTS} is deprecated, please use {_TOPOLOGY_MODE} instead")
    for index, ip in enumerate(spec.get("clusterIPs") or ()):
        found += addresses.warnings(ip, f"spec.clusterIPs[{index}]")
    if headless:
        if spec.get("loadBalancerIP"):
            found.append("spec.loadBalancerIP is ignored for headless services")
        if external:
            found.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            found.append("spec.SessionAffinity is ignored for headless services")
    for index, ip in enumerate(external):
        found += addresses.warnings(ip, f"spec.externalIPs[{index}]")
    if spec.get("loadBalancerIP"):
        found += addresses.warnings(spec["loadBalancerIP"], "spec.loadBalancerIP")
    for index, cidr in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        found += addresses.cidr_warnings(cidr, f"spec.loadBalancerSourceRanges[{index}]")
    if kind == "ExternalName" and external:
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    return found
