"""What the EndpointSlices of a service should be: each family's endpoints, in slices of a bounded size. Pure.

Slices that exist are changed as little as can be: each change goes to every node.

Source: kubernetes staging endpointslice/reconciler.go, v1.34.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubelite.client.informers import Informer
from kubelite.controllers import backends, owners, pods
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
class Part:
    """What to write for one family of addresses. `create` and `update` hold objects of their own, `same` those of a cache."""

    family: str
    create: list[Obj] = field(default_factory=list)
    update: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    same: list[Obj] = field(default_factory=list)

    def reuse(self) -> None:
        """Lets new slices take the names of those of the same owner that would go: a change is cheaper to follow than two."""
        for old in [*self.delete]:
            if not self.create:
                break
            if not _has_owner(old, self.create[-1]["metadata"]["ownerReferences"][0]["uid"]):
                continue
            self.delete.remove(old)
            new = self.create.pop()
            meta = {key: value for key, value in new["metadata"].items() if key != "generateName"}
            kept = {
                key: old["metadata"][key] for key in ("name", "uid", "resourceVersion", "generateName") if key in old["metadata"]
            }
            self.update.append({**new, "metadata": {**meta, **kept}})


@dataclass(slots=True)
class Plan:
    """What to write for a service. `delete`: slices of families that it has no more. `skipped`: why pods were left out."""

    parts: list[Part] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def _has_owner(slice_: Obj, uid: str) -> bool:
    return any(reference["uid"] == uid for reference in slice_["metadata"].get("ownerReferences") or ())


def service_key_of(slice_: Obj) -> tuple[str, ...]:
    meta = slice_["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_LABEL)
    return (f"{meta['namespace']}/{name}",) if name else ()


def managed_by(slice_: Obj) -> str:
    found: str = (slice_["metadata"].get("labels") or {}).get(MANAGER_LABEL, "")
    return found


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
    return endpoint


@dataclass(slots=True)
class _Group:
    """The endpoints that have the same ports, by their pods' uids."""

    ports: list[Obj]
    endpoints: dict[str, Obj] = field(default_factory=dict)


def of(service: Obj, selected: Sequence[Obj], existing: Sequence[Obj], nodes: Informer) -> Plan:
    """What to write for a service with these pods, given the slices that exist."""
    plan = Plan()
    wanted = backends.families(service)
    plan.delete += [s for s in existing if s["addressType"] not in wanted]
    usable = []
    for pod in selected:
        name = pod["spec"].get("nodeName", "")
        if not backends.has_backends(pod, terminating=True):
            continue
        if nodes.get(name) is None and not backends.publishes_unready(service):
            meta = service["metadata"]
            about = f"Pod {pod['metadata']['name']} for Service {meta['namespace']}/{meta['name']}"
            plan.skipped.append(f"skipping {about}: Node {name} Not Found")
            continue
        usable.append(pod)
    for family in wanted:
        groups: dict[bytes, _Group] = {}
        for pod in usable:
            port_list = [] if backends.is_headless(service) and not service["spec"].get("ports") else backends.ports(service, pod)
            group = groups.setdefault(_port_key(port_list), _Group(port_list))
            node = nodes.get(pod["spec"].get("nodeName", ""))
            zone = "" if node is None else (node["metadata"].get("labels") or {}).get(ZONE_LABEL, "")
            if ips := backends.addresses(pod, family):
                group.endpoints[pod["metadata"]["uid"]] = endpoint_of(service, pod, ips, zone)
        plan.parts.append(_part(service, family, groups, [s for s in existing if s["addressType"] == family]))
    return plan


def _port_key(port_list: Sequence[Obj]) -> bytes:
    return orjson.dumps(sorted(orjson.dumps(p, option=orjson.OPT_SORT_KEYS).decode() for p in port_list))


def _part(service: Obj, family: str, groups: Mapping[bytes, _Group], existing: Sequence[Obj]) -> Part:
    part = Part(family)
    by_ports: dict[bytes, list[Obj]] = {}
    for each in sorted(existing, key=lambda s: str(s["metadata"]["name"])):
        if not _has_owner(each, service["metadata"]["uid"]):
            part.delete.append(each)  # of an earlier service of this name
            continue
        by_ports.setdefault(_port_key([_with_name(p) for p in each.get("ports") or ()]), []).append(each)
    for key, group in groups.items():
        _fill(part, service, group, by_ports.get(key, []))
    part.delete += [each for key, slices in by_ports.items() if key not in groups for each in slices]
    # A service without endpoints still has a slice of each family: it says "none" rather than "not known".
    if len(part.delete) == len(existing) and not part.create:
        only = part.delete[0] if len(part.delete) == 1 else None
        if only is not None and not only.get("ports") and not only.get("endpoints") and _labels_fit(service, only):
            part.delete = []
            part.same.append(only)
        else:
            part.create.append(_new(service, family, [], []))
    return part


def _with_name(port: Obj) -> Obj:
    """A stored slice's port with the name that empty ones may have lost on the way."""
    return {"name": "", "protocol": "TCP", **port}


def is_same(one: Obj, other: Obj) -> bool:
    """The endpoints are the same; who should use them is decided later."""
    return all(one.get(key) == other.get(key) for key in one.keys() | other.keys() if key != "hints")


def _fill(part: Part, service: Obj, group: _Group, existing: Sequence[Obj]) -> None:
    """Distributes endpoints of the same ports: each stays where it is, the others go where something changes anyway, then into
    the one slice that they fill best, then into new ones.
    """
    wanted = dict(group.endpoints)
    changing: list[tuple[Obj, list[Obj]]] = []
    staying: list[Obj] = []
    for each in existing:
        before, kept, differs = each.get("endpoints") or (), [], not _labels_fit(service, each)
        for endpoint in before:
            now = wanted.pop((endpoint.get("targetRef") or {}).get("uid", ""), None)
            if now is not None:
                kept.append(now)
                differs = differs or not is_same(now, endpoint)
        if len(kept) < len(before) and not kept:
            part.delete.append(each)
        elif differs or len(kept) < len(before):
            changing.append((each, kept))
        else:
            staying.append(each)
    rest = list(wanted.values())
    for _, kept in sorted(changing, key=lambda row: -len(row[1])):
        room = PER_SLICE - len(kept)
        kept += rest[:room]
        rest = rest[room:]
    while rest:
        fitting = [s for s in staying if len(s.get("endpoints") or ()) + len(rest) <= PER_SLICE]
        if len(rest) < PER_SLICE and fitting:
            best = max(fitting, key=lambda s: len(s.get("endpoints") or ()))
            staying.remove(best)
            changing.append((best, [*map(dict, best.get("endpoints") or ()), *rest]))
            rest = []
        else:
            part.create.append(_new(service, part.family, group.ports, rest[:PER_SLICE]))
            rest = rest[PER_SLICE:]
    part.update += [
        {**each, "metadata": {**each["metadata"], "labels": _labels(service)}, "endpoints": k} for each, k in changing
    ]
    part.same += staying


def _labels(service: Obj) -> dict[str, str]:
    labels = {k: v for k, v in (service["metadata"].get("labels") or {}).items() if k not in RESERVED_LABELS}
    if backends.is_headless(service):
        labels[backends.HEADLESS_LABEL] = ""
    return {**labels, SERVICE_LABEL: service["metadata"]["name"], MANAGER_LABEL: MANAGER}


def _labels_fit(service: Obj, slice_: Obj) -> bool:
    return bool((slice_["metadata"].get("labels") or {}) == _labels(service))


def stamped(slice_: Obj, changed: str) -> Obj:
    """The slice with the time that the change began, without one where nothing is known to have changed."""
    meta = slice_["metadata"]
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k != backends.LAST_CHANGE}
    if changed:
        annotations[backends.LAST_CHANGE] = changed
    return {**slice_, "metadata": {**meta, "annotations": annotations}}


def _new(service: Obj, family: str, port_list: list[Obj], endpoints: list[Obj]) -> Obj:
    meta: dict[str, Any] = {
        "generateName": f"{service['metadata']['name']}-",
        "namespace": service["metadata"]["namespace"],
        "labels": _labels(service),
        "ownerReferences": [owners.reference_to(service, "v1", "Service")],
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": family,
        "endpoints": endpoints,
        "ports": port_list,
    }
