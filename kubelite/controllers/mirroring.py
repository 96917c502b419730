"""EndpointSlices of Endpoints that somebody else writes, for services without a selector.

Source: kubernetes pkg/controller/endpointslicemirroring, v1.34.
"""

from collections.abc import Iterable
from typing import ClassVar

from kubelite.controllers import backends, owners
from kubelite.controllers.endpointslices import (
    BY_SERVICE,
    MANAGER_LABEL,
    RESOURCE,
    SERVICE_LABEL,
    managed_by,
    service_key_of,
    slice_prefix,
)
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, split_key
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj

MANAGER = "endpointslicemirroring-controller.k8s.io"
LEADER = "control-plane.alpha.kubernetes.io/leader"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
PER_SUBSET = 1000


class EndpointSliceMirroring(Controller):
    """Keeps a copy of foreign Endpoints as slices."""

    name: ClassVar[str] = "endpointslice-mirroring-controller"

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
        wanted: list[Obj] = []
        if endpoints is not None and service is not None and is_mirrored(endpoints, service):
            wanted = slices_of(endpoints)
        try:
            await self._write(existing, wanted)
        except ApiError as e:
            if not is_namespace_terminating(e):
                raise

    async def _write(self, existing: list[Obj], wanted: list[Obj]) -> None:
        """Reuses slices of the same family and ports, in any order; writes only what differs."""
        left = list(existing)
        for new in wanted:
            old = next((s for s in left if _key(s) == _key(new)), None)
            if old is None:
                await self.client.create(RESOURCE, new)
                continue
            left.remove(old)
            meta = {**old["metadata"], "labels": new["metadata"]["labels"]}
            meta["annotations"] = new["metadata"]["annotations"]
            changed = {**old, "metadata": meta, "endpoints": new["endpoints"]}
            if changed != old and not (_meta_same(old, new) and (old.get("endpoints") or []) == new["endpoints"]):
                await self.client.update(RESOURCE, changed)
        for old in left:
            meta = old["metadata"]
            try:
                await self.client.delete(RESOURCE, meta["name"], meta["namespace"], precondition_uid=meta["uid"])
            except NotFound:
                continue


def _key(slice_: Obj) -> tuple[str, str]:
    ports = sorted((p.get("name", ""), p.get("protocol", "TCP"), str(p.get("port"))) for p in slice_.get("ports") or ())
    return slice_["addressType"], str(ports)


def _meta_same(old: Obj, new: Obj) -> bool:
    return all((old["metadata"].get(key) or {}) == (new["metadata"].get(key) or {}) for key in ("labels", "annotations"))


def is_mirrored(endpoints: Obj, service: Obj) -> bool:
    """Nobody else makes slices for these Endpoints, and nobody asked for none."""
    meta = endpoints["metadata"]
    if (meta.get("labels") or {}).get(backends.SKIP_MIRROR) == "true" or LEADER in (meta.get("annotations") or {}):
        return False
    return not service["spec"].get("selector")


def _endpoints_of(addresses: Iterable[Obj], family: str, ready: bool) -> list[Obj]:
    found = []
    for address in addresses:
        if backends.family_of(address["ip"]) == family:
            endpoint: Obj = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
            endpoint |= {key: address[key] for key in ("hostname", "nodeName", "targetRef") if address.get(key)}
            found.append(endpoint)
    return found


def slices_of(endpoints: Obj) -> list[Obj]:
    """The slices that say what the Endpoints say."""
    meta = endpoints["metadata"]
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k not in (SERVICE_LABEL, MANAGER_LABEL)}
    labels |= {SERVICE_LABEL: meta["name"], MANAGER_LABEL: MANAGER}
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k != LAST_APPLIED}
    made = []
    for subset in endpoints.get("subsets") or ():
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()]
        for family in ("IPv4", "IPv6"):
            ready = _endpoints_of((subset.get("addresses") or ())[:PER_SUBSET], family, True)
            other = _endpoints_of((subset.get("notReadyAddresses") or ())[:PER_SUBSET], family, False)
            if ready or other:
                made.append(
                    {
                        "apiVersion": "discovery.k8s.io/v1",
                        "kind": "EndpointSlice",
                        "metadata": {
                            "generateName": slice_prefix(meta["name"]),
                            "namespace": meta["namespace"],
                            "labels": labels,
                            "annotations": annotations,
                            "ownerReferences": [owners.reference_to(endpoints, "v1", "Endpoints")],
                        },
                        "addressType": family,
                        "endpoints": ready + other,
                        "ports": ports,
                    }
                )
    return made
