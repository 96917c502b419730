"""Services: addresses, families and node ports are taken before the write and given back when it fails or the service goes.

Source: kubernetes pkg/registry/core/service/{strategy.go,storage/alloc.go,storage/storage.go}, v1.34.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, ClassVar

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.allocators import Allocators, Full, Taken, Transaction, node_ports
from kubelite.registry.strategies import Finish, Request, Strategy
from kubelite.registry.validation import metadata, services, statuses

_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")


class ServiceStrategy(Strategy):
    allow_create_on_update = True
    update_checks_names = False
    returns_deleted = True
    has_status = True
    initial_status: ClassVar[Obj | None] = {"loadBalancer": {}}

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.label_1035_faults(name, prefix)

    def begin_create(self, request: Request, obj: Obj) -> Finish | None:
        spec = obj.setdefault("spec", {})
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        elif spec.get("clusterIPs") and not spec.get("clusterIP"):
            spec["clusterIP"] = spec["clusterIPs"][0]
        allocation = _Allocation(request, obj)
        return allocation.run(None)

    def begin_update(self, request: Request, new: Obj, old: Obj) -> Finish | None:
        if request.subresource:
            return None
        _carry_over(new.setdefault("spec", {}), old["spec"])
        allocation = _Allocation(request, new)
        return allocation.run(old["spec"])

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        super().prepare_update(request, new, old)
        if not request.subresource:
            _drop_dependent(new["spec"], old["spec"])

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_service(new)
        if request.subresource:
            return []
        return _check_cluster_ips(new["spec"], old["spec"]) + self.validate(request, new)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return services.check_service(obj)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        spec = new["spec"]
        if request.subresource:
            return ()
        found = []
        if spec.get("externalName") and spec.get("type") != "ExternalName":
            found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
        if spec.get("clusterIP") == "None" and spec.get("loadBalancerIP"):
            found.append("spec.loadBalancerIP is ignored for headless services")
        if spec.get("clusterIP") == "None" and spec.get("sessionAffinity") not in (None, "None"):
            found.append("spec.SessionAffinity is ignored for headless services")
        return found

    def committed(self, request: Request, new: Obj | None, old: Obj | None) -> None:
        if new is None and old is not None:
            spec = old.get("spec") or {}
            ips = [ip for ip in spec.get("clusterIPs") or () if ip != "None"]
            request.registry.allocators.release(ips, node_ports(spec))


def needs_cluster_ip(spec: Obj) -> bool:
    return spec.get("type") != "ExternalName"


def needs_health_port(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _carry_over(new: Obj, old: Obj) -> None:
    """What the server gave out and the client left out stays."""
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        if not new.get("clusterIP") and not new.get("clusterIPs"):
            if old.get("clusterIP"):
                new["clusterIP"] = old["clusterIP"]
            if old.get("clusterIPs"):
                new["clusterIPs"] = list(old["clusterIPs"])
        elif not new.get("clusterIP"):
            new["clusterIP"] = new["clusterIPs"][0]
        elif not new.get("clusterIPs"):
            same = new["clusterIP"] == old.get("clusterIP")
            new["clusterIPs"] = list(old.get("clusterIPs") or [new["clusterIP"]]) if same else [new["clusterIP"]]
        elif new["clusterIP"] != old.get("clusterIP") and new["clusterIPs"] == old.get("clusterIPs"):
            new["clusterIPs"] = [new["clusterIP"]]
    if old.get("type") in _WITH_NODE_PORTS and new.get("type") in _WITH_NODE_PORTS:
        before = {port.get("name", ""): port.get("nodePort") for port in old.get("ports") or ()}
        kept = {p.get("nodePort") for p in old.get("ports") or ()} & {p.get("nodePort") for p in new.get("ports") or ()}
        for port in new.get("ports") or ():
            was = before.get(port.get("name", ""))
            if not port.get("nodePort") and was and was not in kept:
                port["nodePort"] = was
    health_port = old.get("healthCheckNodePort")
    if health_port and needs_health_port(old) and needs_health_port(new) and not new.get("healthCheckNodePort"):
        new["healthCheckNodePort"] = health_port


def _drop_dependent(new: Obj, old: Obj) -> None:
    """A change of type takes along what only the old type had, where the client did not touch it."""
    if not needs_cluster_ip(new):
        new.pop("internalTrafficPolicy", None)
    if needs_cluster_ip(old) and not needs_cluster_ip(new):
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if new.get(field) == old.get(field):
                new.pop(field, None)
    had_node_ports = old.get("type") in _WITH_NODE_PORTS and new.get("type") not in _WITH_NODE_PORTS
    if had_node_ports and _numbers(old) == _numbers(new):
        for port in new.get("ports") or ():
            port.pop("nodePort", None)
    had_health_port = needs_health_port(old) and not needs_health_port(new)
    if had_health_port and new.get("healthCheckNodePort") == old.get("healthCheckNodePort"):
        new.pop("healthCheckNodePort", None)
    was_external = services.is_externally_accessible(old) and not services.is_externally_accessible(new)
    if was_external and new.get("externalTrafficPolicy") == old.get("externalTrafficPolicy"):
        new.pop("externalTrafficPolicy", None)
    if old.get("type") == "LoadBalancer" and new.get("type") != "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if new.get(field) == old.get(field):
                new.pop(field, None)


def _numbers(spec: Obj) -> list[int | None]:
    return [port.get("nodePort") for port in spec.get("ports") or ()]


def _check_cluster_ips(new: Obj, old: Obj) -> list[Cause]:
    """A service keeps its first cluster IP as long as it has one."""
    if not (needs_cluster_ip(old) and needs_cluster_ip(new)):
        return []
    before, after = old.get("clusterIPs") or [], new.get("clusterIPs") or []
    if before and before[0] and before[:1] != after[:1]:
        return [errors.invalid("spec.clusterIPs[0]", after, "may not change once set")]
    if len(before) == 2 and len(after) == 2 and before[1] != after[1]:
        return [errors.invalid("spec.clusterIPs[1]", after, "may not change once set")]
    return []


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
        spec, known = self._spec, self._allocators.families
        if not needs_cluster_ip(spec):
            return
        headless = spec.get("clusterIP") == "None"
        selectorless = headless and not spec.get("selector")
        policy = spec.get("ipFamilyPolicy")
        if policy is None:
            policy = (old or {}).get("ipFamilyPolicy") or ("RequireDualStack" if selectorless else "SingleStack")
            spec["ipFamilyPolicy"] = policy
        ips, families = list(spec.get("clusterIPs") or ()), list(spec.get("ipFamilies") or ())
        if old is not None and policy == "SingleStack":
            if ips == old.get("clusterIPs"):
                ips = ips[:1]
            if families == old.get("ipFamilies"):
                families = families[:1]
        causes = []
        must = "must be 'RequireDualStack' or 'PreferDualStack' when multiple"
        if policy == "SingleStack" and len(ips) == 2:
            causes.append(errors.invalid("spec.ipFamilyPolicy", policy, f"{must} cluster IPs are specified"))
        if policy == "SingleStack" and len(families) == 2:
            causes.append(errors.invalid("spec.ipFamilyPolicy", policy, f"{must} IP families are specified"))
        for index, ip in enumerate(ips):
            if ip == "None":
                break
            family = _family_of(ip)
            if family is None:
                text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                causes.append(errors.invalid(f"spec.clusterIPs[{index}]", ip, text))
            elif index >= len(families):
                if family in known:
                    families.append(family)
                else:
                    text = f"{family} is not configured on this cluster"
                    causes.append(errors.invalid(f"spec.clusterIPs[{index}]", ips, text))
        if causes:
            raise self._refuse(*causes)
        if selectorless:
            families = families or known[:1]
            if len(families) < 2 and policy != "SingleStack":
                families.append("IPv6" if families[0] == "IPv4" else "IPv4")
        else:
            if policy == "RequireDualStack" and len(known) < 2:
                text = "this cluster is not configured for dual-stack services"
                causes.append(errors.invalid("spec.ipFamilyPolicy", policy, text))
            for index, family in enumerate(families):
                if family not in known:
                    path = f"spec.ipFamilies[{index}]"
                    causes.append(errors.invalid(path, family, "not configured on this cluster"))
            if causes:
                raise self._refuse(*causes)
            families = families or known[:1]
            if policy != "SingleStack" and len(families) == 1 and len(known) == 2:
                families += [family for family in known if family not in families]
        spec["ipFamilies"] = families
        if ips:
            spec["clusterIPs"] = ips

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
        had = old is not None and needs_health_port(old)
        if needs_health_port(spec) and not had:
            wanted = spec.get("healthCheckNodePort") or 0
            spec["healthCheckNodePort"] = self._take_port(wanted, "spec.healthCheckNodePort")
        elif had and not needs_health_port(spec) and old is not None and old.get("healthCheckNodePort"):
            self._transaction.free_port(old["healthCheckNodePort"])


def _family_of(ip: str) -> str | None:
    try:
        return f"IPv{ipaddress.ip_address(ip).version}"
    except ValueError:
        return None
