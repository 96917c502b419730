"""EndpointSlices of Endpoints that somebody else writes, for services without a selector.

Source: kubernetes pkg/controller/endpointslicemirroring, v1.34.
"""

import contextlib
import ipaddress
from typing import ClassVar

import orjson

from kubelite.controllers import backends, owners
from kubelite.controllers.endpoints import LEADER
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, split_key
from kubelite.controllers.sliceplan import BY_SERVICE, MANAGER_LABEL, RESOURCE, SERVICE_LABEL, Part, managed_by, service_key_of
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj

MANAGER = "endpointslicemirroring-controller.k8s.io"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
PER_SUBSET = 1000

#: (family, its ports as JSON): what one slice holds.
_Key = tuple[str, bytes]


class EndpointSliceMirroring(Controller):
    """Keeps a copy of foreign Endpoints as slices."""

    name: ClassVar[str] = "endpointslice-mirroring-controller"
    component: ClassVar[str] = "endpoint-slice-mirroring-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._services = self.informer("services")
        self._endpoints = self.informer("endpoints")
        self._slices = self.informer(RESOURCE)
        self._slices.add_index(BY_SERVICE, service_key_of)
        self.follow(self._services)
        self.follow(self._endpoints)
        self.follow(self._slices, lambda s: service_key_of(s) if managed_by(s) == MANAGER else ())

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        endpoints = self._endpoints.get(name, namespace)
        service = self._services.get(name, namespace)
        existing = [s for s in self._slices.by_index(BY_SERVICE, key) if managed_by(s) == MANAGER]
        wanted: dict[_Key, Obj] = {}
        if endpoints is not None and service is not None and is_mirrored(endpoints, service):
            wanted, left_out = slices_of(endpoints)
            if left_out:
                text = f"A max of {PER_SUBSET} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                text += f"{left_out} addresses were skipped"
                self.events.event(endpoints, "Warning", "TooManyAddressesToMirror", text)
        try:
            for part in plan_of(wanted, existing):
                await self._write(part)
        except ApiError as e:
            if not is_namespace_terminating(e):
                raise

    async def _write(self, part: Part) -> None:
        part.reuse()
        for each in part.create:
            await self.client.create(RESOURCE, each)
        for each in part.update:
            await self.client.update(RESOURCE, each)
        for each in part.delete:
            meta = each["metadata"]
            with contextlib.suppress(NotFound):
                await self.client.delete(RESOURCE, meta["name"], meta["namespace"], precondition_uid=meta["uid"])


def _key(slice_: Obj) -> _Key:
    ports = [{"name": "", "protocol": "TCP", **port} for port in slice_.get("ports") or ()]
    return slice_["addressType"], orjson.dumps(sorted(ports, key=orjson.dumps), option=orjson.OPT_SORT_KEYS)


def plan_of(wanted: dict[_Key, Obj], existing: list[Obj]) -> list[Part]:
    """What to write of each family so that there is one slice of each key, reusing slices; only what differs."""
    parts = {family: Part(family) for family in [key[0] for key in wanted] + [s["addressType"] for s in existing]}
    left = dict(wanted)
    for old in existing:
        part, new = parts[old["addressType"]], left.pop(_key(old), None)
        if new is None:
            part.delete.append(old)
        elif not _is_same(old, new):
            meta = {**new["metadata"], **{key: old["metadata"][key] for key in ("name", "uid", "resourceVersion")}}
            part.update.append({**new, "metadata": meta})
    for (family, _), new in left.items():
        parts[family].create.append(new)
    return list(parts.values())


def _is_same(old: Obj, new: Obj) -> bool:
    names = ("labels", "annotations", "ownerReferences")
    if any((old["metadata"].get(name) or {}) != (new["metadata"].get(name) or {}) for name in names):
        return False
    ordered = (sorted(orjson.dumps(e, option=orjson.OPT_SORT_KEYS) for e in s.get("endpoints") or ()) for s in (old, new))
    return next(ordered) == next(ordered)


def is_mirrored(endpoints: Obj, service: Obj) -> bool:
    """Nobody else makes slices for these Endpoints, and nobody asked for none."""
    meta = endpoints["metadata"]
    if (meta.get("labels") or {}).get(backends.SKIP_MIRROR) == "true" or LEADER in (meta.get("annotations") or {}):
        return False
    return not service["spec"].get("selector")


def slices_of(endpoints: Obj) -> tuple[dict[_Key, Obj], int]:
    """The slices that say what the Endpoints say, and how many addresses are too many for them."""
    made: dict[_Key, Obj] = {}
    left_out = 0
    for subset in backends.repacked(endpoints.get("subsets") or ()):
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()]
        listed = [(address, True) for address in subset.get("addresses") or ()]
        listed += [(address, False) for address in subset.get("notReadyAddresses") or ()]
        left_out += max(len(listed) - PER_SUBSET, 0)
        for address, ready in listed[:PER_SUBSET]:
            ip = str(ipaddress.ip_address(address["ip"]))
            endpoint: Obj = {"addresses": [ip], "conditions": {"ready": ready}}
            endpoint |= {key: address[key] for key in ("hostname", "nodeName", "targetRef") if address.get(key)}
            new = _new(endpoints, backends.family_of(ip), ports)
            found = made.setdefault(_key(new), new)["endpoints"]
            if len(found) < PER_SUBSET:
                found.append(endpoint)
    return made, left_out


def _new(endpoints: Obj, family: str, ports: list[Obj]) -> Obj:
    meta = endpoints["metadata"]
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k not in (LAST_APPLIED, backends.LAST_CHANGE)}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": {**(meta.get("labels") or {}), SERVICE_LABEL: meta["name"], MANAGER_LABEL: MANAGER},
            "annotations": annotations,
            "ownerReferences": [owners.reference_to(endpoints, "v1", "Endpoints")],
        },
        "addressType": family,
        "endpoints": [],
        "ports": ports,
    }
