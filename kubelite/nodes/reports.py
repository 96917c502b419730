"""Applies what a node reports, in the node's own name: its Node, its pods' statuses, its Lease, its events.

Only differences are written. Reports of different pods are written side by side, so that they share a commit; those of one pod
one after the other, the newest only. A write that fails for a passing reason is tried again while nothing newer has come.

Source: pkg/kubelet/status/status_manager.go, pkg/util/pod (the patch of a status), v1.34.
"""

import asyncio
import random

import orjson
import structlog

from kubelite.client.contract import Client
from kubelite.client.events import EventRecorder, EventType
from kubelite.meta import names, pods, times
from kubelite.meta.errors import AlreadyExists, ApiError, Forbidden, Invalid, NotFound
from kubelite.meta.types import Obj
from kubelite.nodes.desired import Desired
from kubelite.rpc import node_pb2 as pb

log = structlog.get_logger()

LEASE_NAMESPACE = "kube-node-lease"
LEASE_DURATION_S = 40
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
#: Reports that no repetition makes right.
_HOPELESS = (NotFound, Forbidden, Invalid)


class Reports:
    """One session's reports. `run` carries them out until cancelled."""

    def __init__(self, node_name: str, client: Client, desired: Desired) -> None:
        self._node_name = node_name
        self._client = client
        self._desired = desired
        self._recorder = EventRecorder(client, "kubelet", node_name)
        self._pods: dict[str, pb.PodReport] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}
        #: What was written last of each pod: the informer may not show it yet.
        self._written: dict[str, Obj] = {}
        self._node: Obj | None = None
        self._node_report: Obj | None = None
        self._node_wake = asyncio.Event()
        self._lease_wake = asyncio.Event()
        self.summary: bytes = b"{}"

    def take(self, message: pb.FromNode) -> None:
        """Queues a report. Never waits."""
        match message.WhichOneof("message"):
            case "pod":
                self._pods[message.pod.uid] = message.pod
                if message.pod.uid not in self._writing:
                    uid = message.pod.uid
                    task = asyncio.create_task(self._write_pod(uid), name=f"status of {message.pod.name}")
                    self._writing[uid] = task
            case "node":
                self._node_report = orjson.loads(message.node.node_json)
                self._node_wake.set()
            case "heartbeat":
                self._lease_wake.set()
            case "event":
                event = orjson.loads(message.event.event_json)
                kind: EventType = "Warning" if event["type"] == "Warning" else "Normal"
                self._recorder.event(event["involvedObject"], kind, event["reason"], event["message"])
            case "stats":
                self.summary = message.stats.summary_json

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._recorder.run(), name=f"events of {self._node_name}")
                group.create_task(self._write_node(), name=f"node {self._node_name}")
                group.create_task(self._write_lease(), name=f"lease of {self._node_name}")
        finally:
            # What is being written is acknowledged or not: the next session's reports say it again.
            for task in self._writing.values():
                task.cancel()

    # Pods.

    async def _write_pod(self, uid: str) -> None:
        delay_s = FIRST_RETRY_S
        try:
            while (report := self._pods.pop(uid, None)) is not None:
                try:
                    await self._apply_pod(report)
                    delay_s = FIRST_RETRY_S
                except _HOPELESS as e:
                    log.debug("pod_status_refused", pod=f"{report.namespace}/{report.name}", error=e.message)
                except ApiError as e:
                    log.info("pod_status_not_written", pod=f"{report.namespace}/{report.name}", error=e.message)
                    self._written.pop(uid, None)
                    await asyncio.sleep(delay_s * random.uniform(0.5, 1))
                    delay_s = min(delay_s * 2, LAST_RETRY_S)
                    self._pods.setdefault(uid, report)
        finally:
            del self._writing[uid]

    async def _apply_pod(self, report: pb.PodReport) -> None:
        current = self._current(report)
        if current is None:
            self._written.pop(report.uid, None)
            return
        if current["spec"].get("nodeName") != self._node_name:
            raise Forbidden(f'node "{self._node_name}" may not report pods of other nodes')
        patch = status_patch(current.get("status") or {}, orjson.loads(report.status_json))
        if patch:
            body = {"metadata": {"uid": report.uid}, "status": patch}
            self._written[report.uid] = await self._client.patch(
                "pods", report.name, report.namespace, body, form="strategic", subresource="status"
            )
        if report.terminated:
            await self._client.delete("pods", report.name, report.namespace, grace_period_s=0, precondition_uid=report.uid)
            self._written.pop(report.uid, None)

    def _current(self, report: pb.PodReport) -> Obj | None:
        """The newest of the pod that this session has seen; None where it is gone."""
        shown = self._desired.pod(report.namespace, report.name)
        if shown is None or shown["metadata"]["uid"] != report.uid:
            return None
        written = self._written.get(report.uid)
        if written is not None and _revision(written) > _revision(shown):
            return written
        return shown

    # The node.

    async def _write_node(self) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            await self._node_wake.wait()
            self._node_wake.clear()
            report = self._node_report
            if report is None:
                continue
            try:
                await self._apply_node(report)
                delay_s = FIRST_RETRY_S
            except Forbidden as e:
                log.warning("node_refused", node=self._node_name, error=e.message)
            except ApiError as e:
                log.info("node_not_written", node=self._node_name, error=e.message, again_in_s=delay_s)
                self._node = None
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, LAST_RETRY_S)
                self._node_wake.set()

    async def _apply_node(self, report: Obj) -> None:
        if report["metadata"]["name"] != self._node_name:
            raise Forbidden(f'node "{self._node_name}" may not report node "{report["metadata"]["name"]}"')
        current = self._current_node()
        if current is None:
            try:
                current = await self._client.create("nodes", {k: v for k, v in report.items() if k != "status"})
                log.info("node_registered", node=self._node_name)
            except AlreadyExists:
                current = await self._client.get("nodes", self._node_name)
        meta = {
            key: {k: v for k, v in report["metadata"].get(key, {}).items() if current["metadata"].get(key, {}).get(k) != v}
            for key in ("labels", "annotations")
        }
        if any(meta.values()):
            current = await self._client.patch("nodes", self._node_name, "", {"metadata": {k: v for k, v in meta.items() if v}})
        patch = node_status_patch(current.get("status") or {}, report["status"])
        if patch:
            current = await self._client.patch(
                "nodes", self._node_name, "", {"status": patch}, form="strategic", subresource="status"
            )
        self._node = current

    def _current_node(self) -> Obj | None:
        shown = self._desired.node(self._node_name)
        if self._node is None or shown is None:
            # Shown as gone, it was deleted (and must be made again) or is not shown yet: the create finds out.
            return shown
        return self._node if _revision(self._node) > _revision(shown) else shown

    async def _write_lease(self) -> None:
        known = False
        while True:
            await self._lease_wake.wait()
            self._lease_wake.clear()
            renewed = {"renewTime": times.micro_now()}
            try:
                if known:
                    try:
                        await self._client.patch(
                            "leases.coordination.k8s.io", self._node_name, LEASE_NAMESPACE, {"spec": renewed}
                        )
                        continue
                    except NotFound:
                        known = False
                known = await self._make_lease(renewed)
            except ApiError as e:
                log.info("lease_not_renewed", node=self._node_name, error=e.message)
                await asyncio.sleep(1)
                self._lease_wake.set()

    async def _make_lease(self, renewed: Obj) -> bool:
        """Makes the node's Lease or takes up the one that there is. Owned by its Node, so that they go together."""
        meta: Obj = {"name": self._node_name, "namespace": LEASE_NAMESPACE}
        node = self._node or self._desired.node(self._node_name)
        if node is not None:
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._node_name, "uid": node["metadata"]["uid"]}
            meta["ownerReferences"] = [owner]
        spec = {"holderIdentity": self._node_name, "leaseDurationSeconds": LEASE_DURATION_S, **renewed}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        try:
            await self._client.create("leases.coordination.k8s.io", lease, LEASE_NAMESPACE)
        except AlreadyExists:
            patch: Obj = {"spec": spec}
            if "ownerReferences" in meta:
                patch["metadata"] = {"ownerReferences": meta["ownerReferences"]}
            await self._client.patch("leases.coordination.k8s.io", self._node_name, LEASE_NAMESPACE, patch)
        return "ownerReferences" in meta


def status_patch(current: Obj, wanted: Obj) -> Obj:
    """The strategic merge patch that makes a pod's status the wanted one: what differs. Conditions of others are left alone; the
    node's own go when it no longer reports them."""
    patch: Obj = {}
    for key, value in wanted.items():
        if key == "conditions":
            olds = {c["type"]: c for c in current.get("conditions") or ()}
            changed = [_explicit(olds.get(c["type"], {}), c) for c in value if not _same(olds.get(c["type"], {}), c)]
            gone = {kind for kind in olds if kind in pods.NODE_CONDITIONS} - {c["type"] for c in value}
            changed += [{"$patch": "delete", "type": kind} for kind in olds if kind in gone]
            if changed:
                patch[key] = changed
        elif not _same(current.get(key), value):
            patch[key] = [{"$patch": "replace"}, *value] if key in ("podIPs", "hostIPs") and current.get(key) else value
    for key in ("reason", "message", "nominatedNodeName"):
        if current.get(key) and not wanted.get(key):
            patch[key] = None
    return patch


def node_status_patch(current: Obj, wanted: Obj) -> Obj:
    """The same for a node's status. Extended resources are those of who advertised them: the node lets go only of what nobody
    does."""
    patch: Obj = {}
    for key, value in wanted.items():
        old = current.get(key)
        if key == "conditions":
            olds = {c["type"]: c for c in old or ()}
            if changed := [c for c in value if olds.get(c["type"]) != c]:
                patch[key] = changed
        elif isinstance(value, dict) and isinstance(old, dict):
            kept = _advertised(current) if key in ("capacity", "allocatable") else set()
            gone = old.keys() - value.keys() - kept
            if gone or any(old.get(name) != part for name, part in value.items()):
                patch[key] = {**value, **dict.fromkeys(gone)}
        elif old != value:
            patch[key] = [{"$patch": "replace"}, *value] if key == "addresses" and old else value
    return patch


def _advertised(status: Obj) -> set[str]:
    return {name for name in status.get("capacity") or {} if names.is_extended_resource(name)}


def _explicit(old: Obj, new: Obj) -> Obj:
    """A condition that also takes away what the old one had and the new one has not."""
    return {**{k: None for k in old if k not in new}, **new}


def _same(a: object, b: object) -> bool:
    """Whether two values are equal, a null being the same as an absent field."""
    return a == b or _without_nulls(a) == _without_nulls(b)


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


def _revision(obj: Obj) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)
