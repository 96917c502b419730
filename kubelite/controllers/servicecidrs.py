"""ServiceCIDRs: ready as long as they are there, and kept while addresses in them are in use.

Source: kubernetes pkg/controller/servicecidrs, v1.34.
"""

import ipaddress
from typing import ClassVar

from kubelite.controllers import conditions
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller
from kubelite.meta import times
from kubelite.meta.types import Obj

RESOURCE = "servicecidrs.networking.k8s.io"
ADDRESSES = "ipaddresses.networking.k8s.io"
FINALIZER = "networking.k8s.io/service-cidr-finalizer"


class ServiceCidrs(Controller):
    """Writes the Ready condition and guards the deletion."""

    name: ClassVar[str] = "service-cidr-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._ranges = self.informer(RESOURCE)
        self._addresses = self.informer(ADDRESSES)
        self.follow(self._ranges)
        self._addresses.subscribe(self._address_changed)

    def _address_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            for each in self._ranges.list():
                if "deletionTimestamp" in each["metadata"]:
                    self.queue.add(each["metadata"]["name"])

    async def reconcile(self, key: str) -> None:
        found = self._ranges.get(key)
        if found is None:
            return
        meta = found["metadata"]
        finalizers = meta.get("finalizers") or []
        if "deletionTimestamp" in meta:
            if FINALIZER not in finalizers:
                return
            if self._is_needed(found):
                text = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
                await self._set_ready(found, "False", "Terminating", text)
                return
            left = [f for f in finalizers if f != FINALIZER]
            await self.client.update(RESOURCE, {**found, "metadata": {**meta, "finalizers": left}})
            return
        if FINALIZER not in finalizers:
            found = await self.client.update(RESOURCE, {**found, "metadata": {**meta, "finalizers": [*finalizers, FINALIZER]}})
        await self._set_ready(found, "True", "", "Kubernetes Service CIDR is ready")

    def _is_needed(self, found: Obj) -> bool:
        """Some address lies in this range and in no other that stays."""
        own = [ipaddress.ip_network(cidr) for cidr in found["spec"].get("cidrs") or ()]
        others = [
            ipaddress.ip_network(cidr)
            for each in self._ranges.list()
            if each["metadata"]["name"] != found["metadata"]["name"] and "deletionTimestamp" not in each["metadata"]
            for cidr in each["spec"].get("cidrs") or ()
        ]
        for address in self._addresses.list():
            ip = ipaddress.ip_address(address["metadata"]["name"])
            if any(ip in network for network in own) and not any(ip in network for network in others):
                return True
        return False

    async def _set_ready(self, found: Obj, status: str, reason: str, message: str) -> None:
        listed = (found.get("status") or {}).get("conditions") or []
        new: Obj = {"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": times.now()}
        changed = conditions.put(listed, new)
        if changed != listed:
            wanted = {**(found.get("status") or {}), "conditions": changed}
            obj = {**found, "metadata": {**found["metadata"]}, "status": wanted}
            await self.client.update(RESOURCE, obj, subresource="status")
