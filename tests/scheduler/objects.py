"""Nodes, pods and a client over dicts for the scheduler's tests."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

from kubelite.client.contract import Listing, WatchEvent
from kubelite.meta.errors import Conflict, NotFound
from kubelite.meta.types import Obj
from kubelite.scheduler import profile
from kubelite.scheduler.decide import Decision, decide
from kubelite.scheduler.framework import Framework
from kubelite.scheduler.owners import Owners
from kubelite.scheduler.snapshot import PodInfo, Snapshot
from kubelite.scheduler.templates import Templates
from kubelite.scheduler.volumes import Volumes

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def node(
    name: str, *, cpu: str = "4", memory: str = "8Gi", pods: str = "110", labels: dict[str, str] | None = None, **spec: Any
) -> Obj:
    status = {"allocatable": {"cpu": cpu, "memory": memory, "pods": pods}}
    return {"metadata": {"name": name, "labels": {HOST: name, **(labels or {})}}, "spec": spec, "status": status}


def pod(
    name: str,
    *,
    cpu: str = "",
    memory: str = "",
    requests: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    namespace: str = "default",
    container: Obj | None = None,
    metadata: Obj | None = None,
    **spec: Any,
) -> Obj:
    wanted = {k: v for k, v in {"cpu": cpu, "memory": memory, **(requests or {})}.items() if v}
    first = {"name": "main", "image": "web:1", "resources": {"requests": wanted} if wanted else {}, **(container or {})}
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "labels": labels or {}, **(metadata or {})}
    return {"metadata": meta, "spec": {"containers": [first], "schedulerName": "default-scheduler", **spec}}


def anti_affinity(key: str = HOST, *, preferred: int = 0, kind: str = "podAntiAffinity", **labels: str) -> Obj:
    term: Obj = {"topologyKey": key, "labelSelector": {"matchLabels": labels}}
    if preferred:
        return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": preferred, "podAffinityTerm": term}]}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def spread(key: str, max_skew: int = 1, when: str = "DoNotSchedule", labels: dict[str, str] | None = None, **more: Any) -> Obj:
    selector = {"matchLabels": labels or {"app": "web"}}
    return {"maxSkew": max_skew, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector, **more}


class World:
    """A snapshot and a framework without anything asynchronous; `place` decides and counts the pod in."""

    def __init__(self, *nodes: Obj) -> None:
        self.snapshot = Snapshot(size=4)
        self.templates = Templates()
        self.owners = Owners()
        self.volumes = Volumes()
        self.framework: Framework = profile.default(self.owners, self.volumes)
        for each in nodes:
            self.snapshot.put_node(each)

    def info(self, obj: Obj) -> PodInfo:
        meta = obj["metadata"]
        priority, terminating = obj["spec"].get("priority", 0), "deletionTimestamp" in meta
        return PodInfo(meta["uid"], meta["name"], self.templates.of(obj), priority, terminating, obj)

    def put(self, obj: Obj, node_name: str) -> PodInfo:
        info = self.info(obj)
        self.snapshot.add_pod(node_name, info)
        return info

    def decide(self, obj: Obj) -> Decision:
        return decide(self.snapshot, self.framework, self.templates.of(obj))

    def place(self, obj: Obj) -> str:
        """The node, or the message that says why there is none."""
        decision = self.decide(obj)
        if decision.node:
            self.put(obj, decision.node)
            return decision.node
        assert decision.diagnosis is not None
        return decision.diagnosis.message()

    def possible(self, obj: Obj) -> set[str]:
        """All nodes that a pod could go to, found by asking for each alone."""
        return {name for name in self.snapshot.rows if self._only(obj, name)}

    def _only(self, obj: Obj, name: str) -> bool:
        selected = {**obj, "spec": {**obj["spec"], "nodeName": name}}
        return self.decide(selected).node == name


class Cluster:
    """A client over dicts, with what the API server does for the scheduler: bindings, status patches, deletions."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], Obj]] = {}
        self.events: list[Obj] = []
        self.bindings: list[tuple[str, str]] = []
        self.binding_failures: list[Exception] = []
        self._numbers = itertools.count(1)
        self._log: list[tuple[int, str, WatchEvent]] = []
        self._changed: set[asyncio.Future[None]] = set()
        self.revision = 0

    def put(self, resource: str, obj: Obj) -> Obj:
        meta = obj["metadata"]
        key = meta.get("namespace", ""), meta["name"]
        self.revision = next(self._numbers)
        new = {**obj, "metadata": {**meta, "resourceVersion": str(self.revision)}}
        kept = self.objects.setdefault(resource, {})
        kind = "MODIFIED" if key in kept else "ADDED"
        kept[key] = new
        self._publish(resource, WatchEvent(kind, new))  # type: ignore[arg-type]
        return new

    def remove(self, resource: str, name: str, namespace: str = "") -> None:
        obj = self.objects[resource].pop((namespace, name))
        self.revision = next(self._numbers)
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision)}}
        self._publish(resource, WatchEvent("DELETED", obj))

    def _publish(self, resource: str, event: WatchEvent) -> None:
        self._log.append((self.revision, resource, event))
        for future in self._changed:
            if not future.done():
                future.set_result(None)
        self._changed.clear()

    async def changed(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._changed.add(future)
        await future

    def node_of(self, name: str, namespace: str = "default") -> str:
        return self.objects["pods"][namespace, name]["spec"].get("nodeName", "")

    async def wait_for(self, condition: Any, timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await self.changed()

    # The client's verbs

    async def get(self, resource: str, name: str, namespace: str = "", **_: Any) -> Obj:
        try:
            return self.objects[resource][namespace, name]
        except KeyError:
            raise NotFound.of("", resource, name) from None

    async def list(self, resource: str, namespace: str = "", **_: Any) -> Listing:
        return Listing(list(self.objects.get(resource, {}).values()), str(self.revision))

    async def watch(
        self, resource: str, namespace: str = "", *, resource_version: str = "", **_: Any
    ) -> AsyncIterator[WatchEvent]:
        position = 0
        after = int(resource_version or 0)
        while True:
            while position < len(self._log):
                revision, of, event = self._log[position]
                position += 1
                if of == resource and revision > after:
                    yield event
            await self.changed()

    async def create(self, resource: str, obj: Obj, namespace: str = "", *, name: str = "", subresource: str = "") -> Obj:
        if resource == "events":
            self.events.append(obj)
            self.put("events", obj)
            return obj
        if subresource != "binding":
            return self.put(resource, obj)
        if self.binding_failures:
            raise self.binding_failures.pop(0)
        pod = await self.get(resource, name, namespace)
        if pod["spec"].get("nodeName"):
            raise Conflict.of("", "pods/binding", name, f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"')
        target = obj["target"]["name"]
        self.bindings.append((name, target))
        self.put("pods", {**pod, "spec": {**pod["spec"], "nodeName": target}})
        return {}

    async def patch(self, resource: str, name: str, namespace: str, patch: Any, **_: Any) -> Obj:
        obj = await self.get(resource, name, namespace)
        changed = {**obj}
        for part, content in patch.items():
            changed[part] = {**(obj.get(part) or {}), **content}
        return self.put(resource, changed)

    async def delete(self, resource: str, name: str, namespace: str = "", **_: Any) -> Obj:
        obj = await self.get(resource, name, namespace)
        self.remove(resource, name, namespace)
        return obj
