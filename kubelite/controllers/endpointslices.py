"""EndpointSlices of services with a selector: each family's endpoints, in slices of a bounded size.

Slices that exist are changed as little as can be: each change goes to every node.

Source: kubernetes staging endpointslice/reconciler.go, v1.34.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from kubelite.client.informers import Informer
from kubelite.controllers import backends, owners, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, split_key
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj

RESOURCE = "endpointslices.discovery.k8s.io"
SERVICE_LABEL = "kubernetes.io/service-name"
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
ZONE_LABEL = "topology.kubernetes.io/zone"
RESERVED_LABELS = (SERVICE_LABEL, MANAGER_LABEL, backends.HEADLESS_LABEL)
PER_SLICE = 100
BY_SERVICE = "service"


@dataclass(slots=True)
class Plan:
    """What to write so that the slices are as they should be."""

    create: list[Obj] = field(default_factory=list)
    update: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)


def service_key_of(slice_: Obj) -> tuple[str, ...]:
    meta = slice_["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_LABEL)
    return (f"{meta['namespace']}/{name}",) if name else ()


def managed_by(slice_: Obj) -> str:
    found: str = (slice_["metadata"].get("labels") or {}).get(MANAGER_LABEL, "")
    return found


class EndpointSlices(Controller):
    """Writes the EndpointSlices of services."""

    name: ClassVar[str] = "endpointslice-controller"
    workers: ClassVar[int] = 5

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._services = self.informer("services")
        self._pods = self.informer("pods")
        self._nodes = self.informer("nodes")
        self._slices = self.informer(RESOURCE)
        self._slices.add_index(BY_SERVICE, service_key_of)
        self.follow(self._services)
        self.follow(self._slices, lambda s: service_key_of(s) if managed_by(s) == MANAGER else ())
        backends.follow_pods(self._pods, self._services, self.add_paced)

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        existing = [s for s in self._slices.by_index(BY_SERVICE, key) if managed_by(s) == MANAGER]
        if service is None:
            self.set_size(key, 0)
            for each in existing:
                await self._delete(each)
            return
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return
        selected = backends.selected(service, self._pods)
        self.set_size(key, len(selected))
        plan = plan_of(service, selected, existing, self._nodes)
        try:
            for each in plan.create:
                await self.client.create(RESOURCE, each)
            for each in plan.update:
                await self.client.update(RESOURCE, each)
            for each in plan.delete:
                await self._delete(each)
        except ApiError as e:
            if is_namespace_terminating(e):
                return
            if e.code not in (404, 409):
                text = f"Error updating Endpoint Slices for Service {key}: {e.message}"
                self.events.event(service, "Warning", "FailedToUpdateEndpointSlices", text)
            raise

    async def _delete(self, slice_: Obj) -> None:
        meta = slice_["metadata"]
        try:
            await self.client.delete(RESOURCE, meta["name"], meta["namespace"], precondition_uid=meta["uid"])
        except NotFound:
            return


def endpoint_of(service: Obj, pod: Obj, ips: list[str], zone: str) -> Obj:
    """One pod as an endpoint."""
    ready, terminating = pods.is_ready(pod), pods.is_terminating(pod)
    endpoint: Obj = {
        "addresses": ips,
        "conditions": {
            # A terminating pod is never ready, so that those who know only `ready` send it nothing.
            "ready": backends.publishes_unready(service) or (ready and not terminating),
            "serving": ready,
            "terminating": terminating,
        },
        "targetRef": backends.pod_reference(pod),
    }
    if name := backends.hostname(service, pod):
        endpoint["hostname"] = name
    if pod["spec"].get("nodeName"):
        endpoint["nodeName"] = pod["spec"]["nodeName"]
    if zone:
        endpoint["zone"] = zone
    if hints := _hints(service, endpoint):
        endpoint["hints"] = hints
    return endpoint


def _hints(service: Obj, endpoint: Obj) -> Obj:
    """Who should use a ready endpoint, where the service wants its traffic kept close: its own zone, or its node too."""
    wish = service["spec"].get("trafficDistribution")
    if wish not in ("PreferClose", "PreferSameZone", "PreferSameNode") or not endpoint["conditions"]["ready"]:
        return {}
    hints: Obj = {}
    if "zone" in endpoint:
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if wish == "PreferSameNode" and "nodeName" in endpoint:
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints


def plan_of(service: Obj, selected: Sequence[Obj], existing: Sequence[Obj], nodes: Informer) -> Plan:
    """What to write for a service with these pods, given the slices that exist."""
    plan = Plan()
    wanted_families = backends.families(service)
    plan.delete += [s for s in existing if s["addressType"] not in wanted_families]
    usable = [pod for pod in selected if backends.has_backends(pod, terminating=True)]
    changed = backends.trigger_time(service, usable)
    for family in wanted_families:
        groups: dict[bytes, tuple[list[Obj], dict[str, Obj]]] = {}
        for pod in usable:
            ips = backends.addresses(pod, family)
            if not ips:
                continue
            port_list = [] if backends.is_headless(service) and not service["spec"].get("ports") else backends.ports(service, pod)
            node = nodes.get(pod["spec"].get("nodeName", ""))
            zone = "" if node is None else (node["metadata"].get("labels") or {}).get(ZONE_LABEL, "")
            _, endpoints = groups.setdefault(_port_key(port_list), (port_list, {}))
            endpoints[pod["metadata"]["uid"]] = endpoint_of(service, pod, ips, zone)
        of_family = [s for s in existing if s["addressType"] == family]
        _plan_family(plan, service, family, groups, of_family, changed)
    return plan


def _port_key(port_list: Sequence[Obj]) -> bytes:
    return orjson.dumps(sorted(orjson.dumps(p, option=orjson.OPT_SORT_KEYS).decode() for p in port_list))


def _plan_family(
    plan: Plan,
    service: Obj,
    family: str,
    groups: dict[bytes, tuple[list[Obj], dict[str, Obj]]],
    existing: Sequence[Obj],
    changed: str,
) -> None:
    created, deleted = len(plan.create), len(plan.delete)
    by_ports: dict[bytes, list[Obj]] = {}
    for each in existing:
        by_ports.setdefault(_port_key([_with_name(p) for p in each.get("ports") or ()]), []).append(each)
    for key, slices in by_ports.items():
        if key not in groups:
            plan.delete += slices
    for key, (port_list, endpoints) in groups.items():
        _plan_group(plan, service, family, port_list, dict(endpoints), by_ports.get(key, []), changed)
    # A service without endpoints still has a slice of each family: it says "none" rather than "not known".
    if len(existing) == len(plan.delete) - deleted and len(plan.create) == created:
        placeholder = _new_slice(service, family, [], [], "")
        going = plan.delete[deleted:]
        if len(going) == 1 and not going[0].get("ports") and not going[0].get("endpoints") and _labels_fit(service, going[0]):
            del plan.delete[deleted:]
        else:
            plan.create.append(placeholder)


def _with_name(port: Obj) -> Obj:
    """A stored slice's port with the name that empty ones may have lost on the way."""
    return {"name": "", "protocol": "TCP", **port}


def _plan_group(
    plan: Plan,
    service: Obj,
    family: str,
    port_list: list[Obj],
    wanted: dict[str, Obj],
    existing: Sequence[Obj],
    changed: str,
) -> None:
    """Fills the slices of one set of ports: keeps each endpoint where it is, then fills what has room, then makes new ones."""
    contents: list[tuple[Obj, list[Obj], bool]] = []
    for each in existing:
        kept, differs = [], not _labels_fit(service, each)
        for endpoint in each.get("endpoints") or ():
            now = wanted.pop((endpoint.get("targetRef") or {}).get("uid", ""), None)
            differs = differs or now is None or now != endpoint
            if now is not None:
                kept.append(now)
        contents.append((each, kept, differs))
    rest = list(wanted.values())
    # Slices that change anyway take new endpoints first, the fuller ones before the emptier, so that few change.
    order = sorted(range(len(contents)), key=lambda i: (not contents[i][2], -len(contents[i][1])))
    for index in order:
        each, kept, _ = contents[index]
        if rest and len(kept) < PER_SLICE:
            room = PER_SLICE - len(kept)
            kept += rest[:room]
            rest = rest[room:]
            contents[index] = (each, kept, True)
    while rest:
        plan.create.append(_new_slice(service, family, port_list, rest[:PER_SLICE], changed))
        rest = rest[PER_SLICE:]
    for each, kept, differs in contents:
        if not kept:
            plan.delete.append(each)
        elif differs:
            meta = {**each["metadata"], "labels": _labels(service)}
            if changed:
                meta["annotations"] = {**(meta.get("annotations") or {}), backends.LAST_CHANGE: changed}
            plan.update.append({**each, "metadata": meta, "endpoints": kept})


def _labels(service: Obj) -> dict[str, str]:
    labels = {k: v for k, v in (service["metadata"].get("labels") or {}).items() if k not in RESERVED_LABELS}
    if backends.is_headless(service):
        labels[backends.HEADLESS_LABEL] = ""
    return {**labels, SERVICE_LABEL: service["metadata"]["name"], MANAGER_LABEL: MANAGER}


def _labels_fit(service: Obj, slice_: Obj) -> bool:
    return bool((slice_["metadata"].get("labels") or {}) == _labels(service))


def slice_prefix(name: str) -> str:
    """The prefix of the names of a service's slices."""
    return f"{name}-" if len(name) < 58 else name


def _new_slice(service: Obj, family: str, port_list: list[Obj], endpoints: list[Obj], changed: str) -> Obj:
    meta: dict[str, Any] = {
        "generateName": slice_prefix(service["metadata"]["name"]),
        "namespace": service["metadata"]["namespace"],
        "labels": _labels(service),
        "ownerReferences": [owners.reference_to(service, "v1", "Service")],
    }
    if changed:
        meta["annotations"] = {backends.LAST_CHANGE: changed}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": family,
        "endpoints": endpoints,
        "ports": port_list,
    }
