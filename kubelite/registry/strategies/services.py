"""Services: addresses, families and node ports are taken before the write and given back when it fails or the service goes.

Source: kubernetes pkg/registry/core/service/{strategy.go,storage/alloc.go,storage/storage.go}, v1.34.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from kubelite.meta import addresses, errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.allocators import Allocators, Full, Taken, Transaction, node_ports
from kubelite.registry.strategies import Finish, Request, Strategy
from kubelite.registry.validation import metadata, services, statuses

_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")


class ServiceStrategy(Strategy):
    checks_structure = True
    allow_create_on_update = True
    update_checks_names = False
    returns_deleted = True
    has_status = True
    initial_status: ClassVar[Obj | None] = {"loadBalancer": {}}

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.label_1035_faults(name, prefix)

    def begin_create(self, request: Request, obj: Obj) -> Finish | None:
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        allocation = _Allocation(request, obj)
        return allocation.run(None)

    def begin_update(self, request: Request, new: Obj, old: Obj) -> Finish | None:
        if request.subresource:
            return None
        _carry_over(new["spec"], old["spec"])
        allocation = _Allocation(request, new)
        return allocation.run(old["spec"])

    def prepare_create(self, request: Request, obj: Obj) -> None:
        super().prepare_create(request, obj)
        _drop_internal(obj["spec"])

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        super().prepare_update(request, new, old)
        if not request.subresource:
            _drop_internal(new["spec"])
            _drop_dependent(new["spec"], old["spec"])

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_service(new, old)
        if request.subresource:
            return []
        return services.check_update(new, old)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return services.check_service(obj)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return services.warnings(new) if not request.subresource else statuses.address_warnings(new)

    def committed(self, request: Request, new: Obj | None, old: Obj | None) -> None:
        if new is None and old is not None:
            spec = old.get("spec") or {}
            ips = [ip for ip in spec.get("clusterIPs") or () if ip != "None"]
            request.registry.allocators.release(ips, node_ports(spec))


def needs_cluster_ip(spec: Obj) -> bool:
    return spec.get("type") != "ExternalName"


def _carry_over(new: Obj, old: Obj) -> None:
    """What the server gave out and the client left out stays; whoever knows only one of clusterIP and clusterIPs changes both."""
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        for field in ("clusterIP", "clusterIPs"):
            if not new.get(field) and old.get(field):
                new[field] = old[field]
    if needs_node_ports(old) and needs_node_ports(new):
        before = {port.get("name", ""): port.get("nodePort") for port in old.get("ports") or ()}
        kept = {p.get("nodePort") for p in old.get("ports") or ()} & {p.get("nodePort") for p in new.get("ports") or ()}
        for port in new.get("ports") or ():
            was = before.get(port.get("name", ""))
            if not port.get("nodePort") and was and was not in kept:
                port["nodePort"] = was
    health_port = old.get("healthCheckNodePort")
    if health_port and services.needs_health_port(old) and services.needs_health_port(new):
        new["healthCheckNodePort"] = new.get("healthCheckNodePort") or health_port
    ip, was_ip = new.get("clusterIP") or "", old.get("clusterIP") or ""
    if ip != was_ip and (new.get("clusterIPs") or []) == (old.get("clusterIPs") or []):
        new["clusterIPs"] = [ip] if ip else []


def needs_node_ports(spec: Obj) -> bool:
    balances = spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    return balances or spec.get("type") == "NodePort"


def _drop_internal(spec: Obj) -> None:
    """A name has no traffic policy; one that is wrong is left for the validation."""
    if not needs_cluster_ip(spec) and spec.get("internalTrafficPolicy") in services.TRAFFIC_POLICIES:
        del spec["internalTrafficPolicy"]


def _drop_dependent(new: Obj, old: Obj) -> None:
    """A change of type takes along what only the old type had, where the client did not touch it."""
    if needs_cluster_ip(old) and not needs_cluster_ip(new):
        if all(new.get(field) == old.get(field) for field in ("clusterIP", "clusterIPs")):
            new.pop("clusterIP", None)
            new.pop("clusterIPs", None)
        for field in ("ipFamilies", "ipFamilyPolicy"):
            _drop_same(new, old, field)
    had_node_ports = old.get("type") in _WITH_NODE_PORTS and new.get("type") not in _WITH_NODE_PORTS
    if had_node_ports and _numbers(old) >= _numbers(new):
        for port in new.get("ports") or ():
            port.pop("nodePort", None)
    if services.needs_health_port(old) and not services.needs_health_port(new):
        _drop_same(new, old, "healthCheckNodePort")
    if services.is_externally_accessible(old) and not services.is_externally_accessible(new):
        _drop_same(new, old, "externalTrafficPolicy")
    if old.get("type") == "LoadBalancer" and new.get("type") != "LoadBalancer":
        _drop_same(new, old, "allocateLoadBalancerNodePorts")
        _drop_same(new, old, "loadBalancerClass")


def _drop_same(new: Obj, old: Obj, field: str) -> None:
    if new.get(field) == old.get(field):
        new.pop(field, None)


def _numbers(spec: Obj) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


class _Allocation:
    """What one create or update takes for a service."""

    def __init__(self, request: Request, obj: Obj) -> None:
        self._allocators: Allocators = request.registry.allocators
        self._name = obj["metadata"].get("name", "")
        self._spec: Obj = obj["spec"]
        self._transaction = Transaction(self._allocators, request.namespace, self._name)

    def run(self, old: Obj | None) -> Finish:
        spec = self._spec
        try:
            self._families(old)
            if needs_cluster_ip(spec):
                self._cluster_ips(old)
            elif old is not None and needs_cluster_ip(old):
                for ip in old.get("clusterIPs") or ():
                    if ip != "None":
                        self._transaction.free_ip(ip)
            self._node_ports(old)
            self._health_port(old)
        except BaseException:
            self._transaction.finish(False)
            raise
        return self._transaction.finish

    def _refuse(self, *causes: Cause) -> errors.Invalid:
        return errors.Invalid.of("", "Service", self._name, causes)

    def _families(self, old: Obj | None) -> None:
        """Works out the families that the service has, and refuses those that it can't have."""
        spec, known, was = self._spec, self._allocators.families, old or {}
        if not needs_cluster_ip(spec) or _prefers_both_as_before(spec, was):
            return
        selectorless = spec.get("clusterIP") == "None" and not spec.get("selector")
        if spec.get("ipFamilyPolicy") is None:
            spec["ipFamilyPolicy"] = was.get("ipFamilyPolicy") or ("RequireDualStack" if selectorless else "SingleStack")
        causes = services.check_cluster_ips(spec, was) or self._check_policy(was)
        if causes:
            raise self._refuse(*causes)
        policy, families = spec["ipFamilyPolicy"], list(spec.get("ipFamilies") or ())
        if selectorless:
            families = families or known[:1]
            if len(families) < 2 and policy != "SingleStack":
                families.append("IPv6" if families[0] == "IPv4" else "IPv4")
            spec["ipFamilies"] = families
            return
        if policy == "RequireDualStack" and len(known) < 2:
            text = "this cluster is not configured for dual-stack services"
            causes.append(errors.invalid("spec.ipFamilyPolicy", policy, text))
        for index, family in enumerate(families):
            if family not in known:
                causes.append(errors.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
        if causes:
            raise self._refuse(*causes)
        families = families or known[:1]
        if policy != "SingleStack" and len(families) == 1 and len(known) == 2:
            families += [family for family in known if family not in families]
        spec["ipFamilies"] = families

    def _check_policy(self, was: Obj) -> list[Cause]:
        """Whether the policy fits the addresses and families, whose number it may reduce; families follow from addresses."""
        spec, known, policy = self._spec, self._allocators.families, self._spec["ipFamilyPolicy"]
        causes = []
        for field, one, many in (("clusterIPs", "cluster IP", "cluster IPs"), ("ipFamilies", "IP family", "IP families")):
            now, before = spec.get(field) or [], was.get(field) or []
            if was and policy == "SingleStack" and now == before:
                now = spec[field] = now[:1]
            if policy != "SingleStack" and 0 < len(now) < len(before):
                text = f"must be 'SingleStack' to release the secondary {one}"
                causes.append(errors.invalid("spec.ipFamilyPolicy", policy, text))
            if policy == "SingleStack" and len(now) == 2:
                text = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {many} are specified"
                causes.append(errors.invalid("spec.ipFamilyPolicy", policy, text))
        families = list(spec.get("ipFamilies") or ())
        for index, ip in enumerate(spec.get("clusterIPs") or ()):
            family = addresses.family_of(ip)
            if ip == "None" or index < len(families):
                continue
            if family in known:
                families.append(family)
            else:
                text = f"{family} is not configured on this cluster"
                causes.append(errors.invalid(f"spec.clusterIPs[{index}]", spec["clusterIPs"], text))
        spec["ipFamilies"] = families
        return causes

    def _cluster_ips(self, old: Obj | None) -> None:
        spec = self._spec
        ips: list[str] = list(spec.get("clusterIPs") or ())
        if ips[:1] == ["None"]:
            return
        before: list[str] = list((old or {}).get("clusterIPs") or ()) if old and needs_cluster_ip(old) else []
        if before[:1] == ["None"]:
            return
        for index, family in enumerate(spec["ipFamilies"]):
            wanted = ips[index] if index < len(ips) else ""
            if index < len(before) and wanted in ("", before[index]):
                ip = before[index]
            elif index < len(before):
                continue  # changing an address is refused in validation
            else:
                ip = self._take_ip(family, wanted)
            ips[index : index + 1] = [ip]
        for ip in before[len(spec["ipFamilies"]) :]:
            self._transaction.free_ip(ip)
        spec["clusterIPs"] = ips
        spec["clusterIP"] = ips[0]

    def _take_ip(self, family: str, wanted: str) -> str:
        try:
            return self._transaction.take_ip(family, wanted)
        except Taken as e:
            ips = self._spec.get("clusterIPs") or [wanted]
            text = f"failed to allocate IP {wanted}: {e}"
            raise self._refuse(errors.invalid("spec.clusterIPs", ips, text)) from e
        except Full as e:
            raise errors.InternalError.of(f"failed to allocate a serviceIP: {e}") from e

    def _node_ports(self, old: Obj | None) -> None:
        spec, take = self._spec, self._transaction
        had = {p["nodePort"] for p in (old or {}).get("ports") or () if p.get("nodePort")}
        wants = spec.get("type") in _WITH_NODE_PORTS
        has: set[int] = set()
        by_port: dict[int, int] = {}
        if wants:
            automatic = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
            ports: list[Any] = spec.get("ports") or []
            for port in ports:
                if port.get("nodePort"):
                    by_port.setdefault(port.get("port"), port["nodePort"])
            for index, port in enumerate(ports):
                wanted = port.get("nodePort") or 0
                if not wanted:
                    if not automatic:
                        continue
                    # one number serves a port of two protocols
                    wanted = by_port.get(port.get("port"), 0) if old is None else 0
                if not wanted or (wanted not in had and wanted not in has):
                    wanted = self._take_port(wanted, f"spec.ports[{index}].nodePort")
                port["nodePort"] = wanted
                by_port.setdefault(port.get("port"), wanted)
                has.add(wanted)
        for port in had - has:
            take.free_port(port)

    def _take_port(self, wanted: int, path: str) -> int:
        try:
            return self._transaction.take_port(wanted)
        except Taken as e:
            raise self._refuse(errors.invalid(path, wanted, str(e))) from e
        except Full as e:
            raise errors.InternalError.of(f"failed to allocate a nodePort: {e}") from e

    def _health_port(self, old: Obj | None) -> None:
        spec = self._spec
        had, needs = old is not None and services.needs_health_port(old), services.needs_health_port(spec)
        if needs and not had:
            wanted = spec.get("healthCheckNodePort") or 0
            spec["healthCheckNodePort"] = self._take_port(wanted, "spec.healthCheckNodePort")
        elif had and not needs and old is not None and old.get("healthCheckNodePort"):
            self._transaction.free_port(old["healthCheckNodePort"])


def _prefers_both_as_before(new: Obj, old: Obj) -> bool:
    """Whether nothing was changed of a service that takes what families there are; it keeps those that it has."""
    alike = all(new.get(field) == old.get(field) for field in ("type", "clusterIPs", "ipFamilies"))
    return alike and new.get("ipFamilyPolicy") == old.get("ipFamilyPolicy", "PreferDualStack") == "PreferDualStack"
