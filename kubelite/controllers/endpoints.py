"""Endpoints: the older form of what stands behind a service, one object for each service with a selector.

Source: kubernetes pkg/controller/endpoint and pkg/api/v1/endpoints, v1.34.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from kubelite.controllers import backends, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, split_key
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj

LIMIT = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"


class EndpointsController(Controller):
    """Writes the Endpoints of services."""

    name: ClassVar[str] = "endpoint-controller"
    workers: ClassVar[int] = 5

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._services = self.informer("services")
        self._pods = self.informer("pods")
        self._endpoints = self.informer("endpoints")
        self.follow(self._services)
        self.follow(self._endpoints)
        backends.follow_pods(self._pods, self._services, self.add_paced)

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        found = self._endpoints.get(name, namespace)
        if service is None:
            self.set_size(key, 0)
            # Only what this controller made: Endpoints may be anybody's.
            if found is not None and _is_ours(found):
                await self._delete(found)
            return
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return
        selected = backends.selected(service, self._pods)
        self.set_size(key, len(selected))
        wanted = endpoints_of(service, selected)
        if found is not None and _same(found, wanted):
            return
        try:
            if found is None:
                await self.client.create("endpoints", wanted)
            else:
                old = found["metadata"]
                annotations = {k: v for k, v in (old.get("annotations") or {}).items() if k != OVER_CAPACITY}
                meta = {**old, "labels": wanted["metadata"]["labels"]}
                meta["annotations"] = {**annotations, **wanted["metadata"]["annotations"]}
                await self.client.update("endpoints", {**found, "metadata": meta, "subsets": wanted["subsets"]})
        except ApiError as e:
            if is_namespace_terminating(e):
                return
            verb = "create" if found is None else "update"
            about = {"kind": "Endpoints", "apiVersion": "v1", "namespace": namespace, "name": name}
            if e.code not in (404, 409):
                text = f"Failed to {verb} endpoint {key}: {e.message}"
                self.events.event(found or about, "Warning", f"FailedTo{verb.title()}Endpoint", text)
            raise

    async def _delete(self, found: Obj) -> None:
        meta = found["metadata"]
        try:
            await self.client.delete("endpoints", meta["name"], meta["namespace"], precondition_uid=meta["uid"])
        except NotFound:
            return


def _is_ours(endpoints: Obj) -> bool:
    return bool((endpoints["metadata"].get("labels") or {}).get(MANAGED_BY) == "endpoint-controller")


def _same(found: Obj, wanted: Obj) -> bool:
    old, new = found["metadata"], wanted["metadata"]
    if (found.get("subsets") or []) != wanted["subsets"] or (old.get("labels") or {}) != new["labels"]:
        return False
    return (OVER_CAPACITY in (old.get("annotations") or {})) == (OVER_CAPACITY in new["annotations"])


def endpoints_of(service: Obj, selected: Sequence[Obj]) -> Obj:
    """The Endpoints object of a service with these pods."""
    unready_too = backends.publishes_unready(service)
    usable = [pod for pod in selected if backends.has_backends(pod, terminating=unready_too)]
    family = backends.families(service)[0]
    # ports as JSON -> (ports, ready addresses, other addresses): pods that name their ports alike share a subset.
    subsets: dict[bytes, tuple[list[Obj], list[Obj], list[Obj]]] = {}
    headless = backends.is_headless(service)
    for pod in usable:
        ips = backends.addresses(pod, family)
        port_list = [{k: v for k, v in port.items() if v != ""} for port in backends.ports(service, pod)]
        if not ips or (not port_list and not headless) or (not port_list and service["spec"].get("ports")):
            continue
        address: Obj = {"ip": ips[0], "targetRef": backends.pod_reference(pod)}
        if pod["spec"].get("nodeName"):
            address["nodeName"] = pod["spec"]["nodeName"]
        if name := backends.hostname(service, pod):
            address["hostname"] = name
        port_list.sort(key=lambda port: (port.get("name", ""), port["protocol"], port["port"]))
        _, ready, other = subsets.setdefault(orjson.dumps(port_list), (port_list, [], []))
        (ready if unready_too or pods.is_ready(pod) else other).append(address)
    annotations = {backends.LAST_CHANGE: backends.trigger_time(service, usable)}
    ordered = [subsets[key] for key in sorted(subsets)]
    count = sum(len(ready) + len(other) for _, ready, other in ordered)
    if count > LIMIT:
        annotations[OVER_CAPACITY] = "truncated"
        ordered = _truncated(ordered)
    labels = dict(service["metadata"].get("labels") or {})
    labels.pop(backends.HEADLESS_LABEL, None)
    labels[MANAGED_BY] = "endpoint-controller"
    if headless:
        labels[backends.HEADLESS_LABEL] = ""
    meta = service["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "labels": labels, "annotations": annotations},
        "subsets": [_subset(*parts) for parts in ordered],
    }


def _subset(port_list: list[Obj], ready: list[Obj], other: list[Obj]) -> Obj:
    subset: Obj = {}
    if ready:
        subset["addresses"] = sorted(ready, key=_by_address)
    if other:
        subset["notReadyAddresses"] = sorted(other, key=_by_address)
    if port_list:
        subset["ports"] = port_list
    return subset


def _by_address(address: Obj) -> Any:
    return backends.sort_key(address["ip"])


def _truncated(subsets: list[tuple[list[Obj], list[Obj], list[Obj]]]) -> list[tuple[list[Obj], list[Obj], list[Obj]]]:
    """No more than the limit: ready addresses are kept before others."""
    result = []
    left = LIMIT
    ready_left = LIMIT
    kept_ready = []
    for _, ready, _ in subsets:
        kept_ready.append(ready[:ready_left])
        ready_left -= len(kept_ready[-1])
    left = ready_left
    for (port_list, _, other), ready in zip(subsets, kept_ready, strict=True):
        result.append((port_list, ready, other[:left]))
        left -= len(result[-1][2])
    return [parts for parts in result if parts[1] or parts[2]]
