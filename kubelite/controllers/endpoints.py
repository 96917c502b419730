"""Endpoints: the older form of what stands behind a service, one object for each service with a selector.

Source: kubernetes pkg/controller/endpoint, v1.34.
"""

import contextlib
import math
from collections.abc import Sequence
from typing import ClassVar

from kubelite.controllers import backends, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, key_of, split_key
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj

LIMIT = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
#: Endpoints that are a lock of components of old.
LEADER = "control-plane.alpha.kubernetes.io/leader"


class EndpointsController(Controller):
    """Writes the Endpoints of services, and deletes those of services that are gone, whoever wrote them."""

    name: ClassVar[str] = "endpoint-controller"
    workers: ClassVar[int] = 5

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._triggers = backends.TriggerTimes()
        self._services = self.informer("services")
        self._pods = self.informer("pods")
        self._endpoints = self.informer("endpoints")
        self.follow(self._services)
        self._endpoints.subscribe(self._endpoints_changed)
        backends.follow_pods(self._pods, self._services, self.add_paced)

    def _endpoints_changed(self, old: Obj | None, new: Obj | None) -> None:
        """Endpoints may come before their service; but those of before a start, whose service is gone, are left over."""
        found = new or old
        assert found is not None
        meta = found["metadata"]
        left_over = not self._endpoints.synced.is_set() and LEADER not in (meta.get("annotations") or {})
        if new is None or left_over or self._services.get(meta["name"], meta["namespace"]) is not None:
            self.queue.add(key_of(found))

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        if service is None:
            self.set_size(key, 0)
            self._triggers.forget(key)
            with contextlib.suppress(NotFound):
                await self.client.delete("endpoints", name, namespace)
            return
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return
        selected = backends.selected(service, self._pods)
        self.set_size(key, len(selected))
        changed = self._triggers.changed(key, service, selected)
        await self._write(service, self._endpoints.get(name, namespace), subsets_of(service, selected), changed)

    async def _write(self, service: Obj, found: Obj | None, subsets: list[Obj], changed: str) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        kept, truncated = fitted(subsets)
        labels = _labels(service)
        new: Obj = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "namespace": namespace}}
        meta = (found or new)["metadata"]
        annotations = dict(meta.get("annotations") or {})
        told = (OVER_CAPACITY in annotations) == truncated
        if found is not None and told and (meta.get("labels") or {}) == labels and (found.get("subsets") or []) == kept:
            return
        for key, value in ((backends.LAST_CHANGE, changed), (OVER_CAPACITY, "truncated" if truncated else "")):
            annotations.pop(key, None)
            if value:
                annotations[key] = value
        wanted = {**(found or new), "metadata": {**meta, "labels": labels, "annotations": annotations}, "subsets": kept}
        try:
            await (self.client.create("endpoints", wanted) if found is None else self.client.update("endpoints", wanted))
        except ApiError as e:
            if found is None and is_namespace_terminating(e):
                return
            if e.code not in (404, 409):
                verb = "create" if found is None else "update"
                text = f"Failed to create endpoint for service {namespace}/{name}: {e.message}"
                text = text if found is None else f"Failed to update endpoint {namespace}/{name}: {e.message}"
                self.events.event(wanted, "Warning", f"FailedTo{verb.title()}Endpoint", text)
            raise


def _labels(service: Obj) -> dict[str, str]:
    labels = {k: v for k, v in (service["metadata"].get("labels") or {}).items() if k != backends.HEADLESS_LABEL}
    if backends.is_headless(service):
        labels[backends.HEADLESS_LABEL] = ""
    return {**labels, MANAGED_BY: "endpoint-controller"}


def subsets_of(service: Obj, selected: Sequence[Obj]) -> list[Obj]:
    """The subsets of a service with these pods."""
    unready_too = backends.publishes_unready(service)
    family = backends.families(service)[0]
    single = []
    for pod in selected:
        ips = backends.addresses(pod, family) if backends.has_backends(pod, terminating=unready_too) else []
        if not ips:
            continue
        address: Obj = {"ip": ips[0], "targetRef": backends.pod_reference(pod)}
        if pod["spec"].get("nodeName"):
            address["nodeName"] = pod["spec"]["nodeName"]
        if name := backends.hostname(service, pod):
            address["hostname"] = name
        field = "addresses" if unready_too or pods.is_ready(pod) else "notReadyAddresses"
        ports = [{k: v for k, v in port.items() if v != ""} for port in backends.ports(service, pod)]
        single += [{field: [address], "ports": [port]} for port in ports]
        if not service["spec"].get("ports") and backends.is_headless(service):
            single.append({field: [address]})
    return backends.repacked(single)


def fitted(subsets: list[Obj]) -> tuple[list[Obj], bool]:
    """The subsets with no more addresses than the limit, the ready ones first and each subset its share; whether any were cut."""
    ready, other = (sum(len(s.get(field) or ()) for s in subsets) for field in ("addresses", "notReadyAddresses"))
    if ready + other <= LIMIT:
        return subsets, False
    field, total, most = ("addresses", ready, LIMIT) if ready > LIMIT else ("notReadyAddresses", other, LIMIT - ready)
    room, made = most, []
    for subset in subsets:
        listed = subset.get(field) or []
        share = listed[: min(math.ceil(len(listed) / total * most), room)]
        room -= len(share)
        cut = {**subset, field: share}
        if ready > LIMIT:
            cut.pop("notReadyAddresses", None)
        made.append({name: value for name, value in cut.items() if value})
    return made, True
