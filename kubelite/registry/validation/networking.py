"""Checks of ingresses and their classes, network policies, ranges of services' addresses.

Source: kubernetes pkg/apis/networking/validation, v1.34.
"""

from collections.abc import Iterator

from kubelite.meta import addresses, errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_SUFFIXES = ("/..", "/.")
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_PROTOCOLS = ("SCTP", "TCP", "UDP")
MAX_CONTROLLER_BYTES = 250


def check_ingress(obj: Obj, old: Obj | None = None) -> list[Cause]:
    spec = obj["spec"]
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
    name = spec.get("ingressClassName")
    if name is not None:
        causes += fields.invalid_if(names.dns1123_subdomain(name), "spec.ingressClassName", name)
    annotated = (obj["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
    if old is None and None not in (name, annotated) and name != annotated:
        text = "must match `ingressClassName` when both are specified"
        causes.append(errors.invalid(f"annotations.{_CLASS_ANNOTATION}", annotated, text))
    return causes


def ingress_warnings(obj: Obj) -> list[str]:
    """What a new ingress says in an old way."""
    annotated = _CLASS_ANNOTATION in (obj["metadata"].get("annotations") or ())
    if not annotated or obj["spec"].get("ingressClassName") is not None:
        return []
    return [f"annotation \"{_CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"]


def _check_host(host: str, path: str) -> list[Cause]:
    check = names.wildcard_dns1123_subdomain if "*" in host else names.dns1123_subdomain
    return fields.invalid_if(check(host), path, host)


def _check_ingress_rule(rule: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    host = rule.get("host")
    if host:
        if addresses.family_of(host):
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
        faults = [f"must not contain '{bad}'" for bad in _BAD_SEQUENCES if bad in value]
        faults += [f"cannot end with '{bad}'" for bad in _BAD_SUFFIXES if value.endswith(bad)]
        causes += fields.invalid_if(faults, f"{path}.path", value)
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
        return _check_reference(resource, f"{path}.resource")
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


def _check_reference(reference: Obj, path: str) -> list[Cause]:
    """An object named by its kind, of the same namespace."""
    group = reference.get("apiGroup")
    causes = fields.invalid_if(names.dns1123_subdomain(group), f"{path}.apiGroup", group) if group is not None else []
    for field in ("kind", "name"):
        causes += fields.named(reference.get(field, ""), f"{path}.{field}", names.path_segment)
    return causes


def check_ingress_class(obj: Obj) -> list[Cause]:
    controller = obj["spec"].get("controller", "")
    causes = [errors.too_long("spec.controller", MAX_CONTROLLER_BYTES)] if len(controller) > MAX_CONTROLLER_BYTES else []
    causes += fields.domain_path(controller, "spec.controller")
    return causes + _check_parameters(obj["spec"].get("parameters"), "spec.parameters")


def _check_parameters(parameters: Obj | None, path: str) -> list[Cause]:
    """What a class says to its controller: an object of the cluster or of a namespace."""
    if parameters is None:
        return []
    causes = _check_reference(parameters, path)
    scope, namespace, at = parameters.get("scope"), parameters.get("namespace"), f"{path}.namespace"
    if scope is None:
        causes.append(errors.required(f"{path}.scope"))
    elif scope not in ("Cluster", "Namespace"):
        causes.append(errors.not_supported(f"{path}.scope", scope, ("Cluster", "Namespace")))
    elif scope == "Namespace" and namespace is None:
        causes.append(errors.required(at, "`parameters.scope` is set to 'Namespace'"))
    elif scope == "Namespace":
        causes += fields.invalid_if(names.dns1123_label(namespace or ""), at, namespace)
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
            causes.append(errors.not_supported(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress")))
    return causes


def _check_policy_port(port: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        causes.append(errors.not_supported(f"{path}.protocol", protocol, _PROTOCOLS))
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
    if addresses.loose_cidr_fault(cidr):
        return [errors.invalid(f"{path}.cidr", cidr, addresses.CIDR_TEXT)]
    _, network = addresses.parse_cidr(cidr)
    causes: list[Cause] = []
    for index, text in enumerate(block.get("except") or ()):
        at = f"{path}.except[{index}]"
        if addresses.loose_cidr_fault(text):
            causes.append(errors.invalid(at, text, addresses.CIDR_TEXT))
            continue
        _, inner = addresses.parse_cidr(text)
        if inner.network_address not in network or network.prefixlen >= inner.prefixlen:
            causes.append(errors.invalid(at, text, "must be a strict subset of `cidr`"))
    return causes


def policy_warnings(obj: Obj) -> list[str]:
    """Blocks of addresses that are written in an unusual form."""
    found = []
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(obj["spec"].get(direction) or ()):
            for position, peer in enumerate(rule.get(peers) or ()):
                block, path = peer.get("ipBlock") or {}, f"spec.{direction}[{index}].{peers}[{position}].ipBlock"
                found += addresses.cidr_warnings(block.get("cidr", ""), f"{path}.cidr")
                for number, text in enumerate(block.get("except") or ()):
                    found += addresses.cidr_warnings(text, f"{path}.except[{number}]")
    return found


def check_ranges(obj: Obj) -> list[Cause]:
    """A ServiceCIDR: one network of a family, at most."""
    cidrs = obj["spec"].get("cidrs") or []
    if not cidrs:
        return [errors.required("spec.cidrs", "at least one CIDR required")]
    if len(cidrs) > 2:
        return [errors.invalid("spec.cidrs", obj["spec"], "may only hold up to 2 values")]
    causes: list[Cause] = []
    for index, cidr in enumerate(cidrs):
        causes += fields.invalid_if(addresses.strict_cidr_faults(cidr), f"spec.cidrs[{index}]", cidr)
    families = [addresses.family_of(cidr.partition("/")[0]) for cidr in cidrs if not addresses.loose_cidr_fault(cidr)]
    if len(families) > len(set(families)):
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        causes.append(errors.invalid("spec.cidrs", cidrs, text))
    return causes


def check_ranges_update(new: Obj, old: Obj) -> list[Cause]:
    """Of a ServiceCIDR's networks none changes; one of the other family may come."""
    now, was = new["spec"].get("cidrs") or [], old["spec"].get("cidrs") or []
    if len(now) != len(was) and (len(was), len(now)) != (1, 2):
        return [errors.invalid("spec.cidrs", now or None, fields.IMMUTABLE)]
    changed = [index for index, cidr in enumerate(was) if now[index] != cidr]
    causes = [errors.invalid(f"spec.cidrs[{index}]", now[index], fields.IMMUTABLE) for index in changed]
    return causes + (check_ranges(new) if len(now) > len(was) else [])


def check_address(obj: Obj) -> Iterator[Cause]:
    """An IPAddress: whose it is."""
    parent = obj["spec"].get("parentRef")
    if parent is None:
        yield errors.required("spec.parentRef")
        return
    group, namespace = parent.get("group", ""), parent.get("namespace", "")
    if group:
        yield from fields.invalid_if(names.dns1123_subdomain(group), "spec.parentRef.group", group)
    for field in ("resource", "name"):
        yield from fields.named(parent.get(field, ""), f"spec.parentRef.{field}", names.path_segment)
    if namespace:
        yield from fields.invalid_if(names.path_segment(namespace), "spec.parentRef.namespace", namespace)
