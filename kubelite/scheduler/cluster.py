"""Keeps the snapshot, the queue and what plugins look at current with the informers' events.

Everything here is a synchronous handler. It decides whose pods are ours, what of a change counts, and which event that is for
the pods that wait.
"""

from collections.abc import Callable
from functools import partial

from kubelite.client.informers import Handler, Informers
from kubelite.meta.types import Obj
from kubelite.scheduler import resources
from kubelite.scheduler.decide import Nominees
from kubelite.scheduler.framework import Change, ClusterEvent, Framework
from kubelite.scheduler.owners import KINDS, Owners
from kubelite.scheduler.queue import Queue
from kubelite.scheduler.snapshot import PodInfo, Snapshot
from kubelite.scheduler.templates import DEFAULT_SCHEDULER, Template, Templates
from kubelite.scheduler.volumes import Volumes

NODE_EVENTS = {
    "added": ClusterEvent.NODE_ADDED,
    "labels": ClusterEvent.NODE_LABELS,
    "taints": ClusterEvent.NODE_TAINTS,
    "allocatable": ClusterEvent.NODE_ALLOCATABLE,
}


def is_finished(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def uid_of(pod: Obj) -> str:
    meta = pod["metadata"]
    return meta.get("uid") or f"{meta.get('namespace', '')}/{meta['name']}"


def nominated_node(pod: Obj | None) -> str:
    return ((pod or {}).get("status") or {}).get("nominatedNodeName") or ""


class Cluster:
    """`snapshot` has bound and assumed pods, `queue` those without a node that `scheduler_name` is to place."""

    def __init__(
        self, framework: Framework, owners: Owners, volumes: Volumes, queue: Queue, scheduler_name: str = DEFAULT_SCHEDULER
    ) -> None:
        self.snapshot = Snapshot()
        self.templates = Templates()
        self.framework = framework
        self.owners = owners
        self.volumes = volumes
        self.queue = queue
        self.scheduler_name = scheduler_name
        #: Pods that we chose a node for and whose binding the informer has not shown yet.
        self.assumed: set[str] = set()
        #: Pods that wait for a node, which is kept free for them, mostly until their victims have left it.
        self.nominated: dict[str, tuple[str, PodInfo]] = {}

    def subscribe(self, informers: Informers) -> list[Callable[[], None]]:
        """Follows all that matters; returns what ends each subscription. Nodes come before pods, so that pods find theirs."""
        volumes, of_volumes = self.volumes, self._volume_handler
        handlers: list[tuple[str, Handler]] = [
            ("namespaces", self.namespace_changed),
            ("nodes", self.node_changed),
            ("services", self.owners.service_changed),
            *((resource, partial(self.owners.controller_changed, resource)) for resource in KINDS),
            ("persistentvolumeclaims", of_volumes(volumes.claim_changed, ClusterEvent.CLAIM)),
            ("persistentvolumes", of_volumes(volumes.volume_changed, ClusterEvent.VOLUME)),
            ("storageclasses.storage.k8s.io", of_volumes(volumes.class_changed, ClusterEvent.STORAGE_CLASS)),
            ("csinodes.storage.k8s.io", of_volumes(volumes.csi_node_changed, ClusterEvent.CSI_NODE)),
            ("csidrivers.storage.k8s.io", of_volumes(volumes.driver_changed, ClusterEvent.CSI_DRIVER)),
            ("csistoragecapacities.storage.k8s.io", of_volumes(volumes.capacity_changed, ClusterEvent.CSI_CAPACITY)),
            ("volumeattachments.storage.k8s.io", of_volumes(volumes.attachment_changed, ClusterEvent.VOLUME_DETACHED)),
            ("pods", self.pod_changed),
        ]
        return [informers.of(resource).subscribe(handler) for resource, handler in handlers]

    def info(self, pod: Obj) -> PodInfo:
        meta, spec = pod["metadata"], pod["spec"]
        template = self.templates.of(pod)
        return PodInfo(uid_of(pod), meta["name"], template, spec.get("priority") or 0, bool(meta.get("deletionTimestamp")), pod)

    def happened(self, event: ClusterEvent, old: object, new: object, most_priority: int | None = None) -> None:
        """Tries pods again that the event may help, of `most_priority` at most."""
        self.queue.moved(Change(event, old, new), self.framework.interested(event), most_priority)

    # Handlers

    def node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            if old is not None:
                self.snapshot.remove_node(old["metadata"]["name"])
                self.happened(ClusterEvent.NODE_REMOVED, old, None)
            return
        changes = self.snapshot.put_node(new)
        if "added" in changes:
            self.happened(ClusterEvent.NODE_ADDED, None, new)
        else:
            for change in changes:
                self.happened(NODE_EVENTS[change], old, new)

    def pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None or is_finished(new):
            gone = new or old
            if gone is not None:
                self._pod_gone(uid_of(gone))
        elif new["spec"].get("nodeName"):
            self._pod_on_node(new)
        else:
            self._pod_waiting(old, new)

    def _pod_gone(self, uid: str) -> None:
        self.queue.delete(uid)
        self.assumed.discard(uid)
        nominated = self.nominated.pop(uid, None)
        removed = self.snapshot.remove_pod(uid)
        if removed is not None:
            self.happened(ClusterEvent.POD_REMOVED, removed, None)
        elif nominated is not None:  # who is less important left room for it
            self.happened(ClusterEvent.POD_REMOVED, nominated[1], None, nominated[1].priority)

    def _pod_on_node(self, pod: Obj) -> None:
        uid, node = uid_of(pod), pod["spec"]["nodeName"]
        self.queue.delete(uid)
        self.nominated.pop(uid, None)
        confirmed = uid in self.assumed
        self.assumed.discard(uid)
        known = self.snapshot.pod(uid)
        if known is None or self.snapshot.node_of(uid) != node:
            info = self.info(pod)
            self.snapshot.add_pod(node, info)
            self.happened(ClusterEvent.POD_ASSIGNED, None, info)
            return
        if looks_alike(known.obj, pod):
            known.obj = pod
        else:
            info = self.info(pod)
            self.snapshot.add_pod(node, info)
            self.happened(ClusterEvent.POD_CHANGED, known, info)
            known = info
        if confirmed:
            self.happened(ClusterEvent.POD_ASSIGNED, None, known)

    def _pod_waiting(self, old: Obj | None, pod: Obj) -> None:
        uid = uid_of(pod)
        if pod["spec"].get("schedulerName", DEFAULT_SCHEDULER) != self.scheduler_name or uid in self.assumed:
            return
        if pod["metadata"].get("deletionTimestamp"):
            self._pod_gone(uid)
            return
        info = self.info(pod)
        self._nomination_changed(old, info)
        queued = self.queue.get(uid)
        if queued is not None and queued.pod.template is info.template and queued.pod.priority == info.priority:
            gates = bool(pod["spec"].get("schedulingGates"))
            if gates == bool(queued.pod.obj["spec"].get("schedulingGates")):
                queued.pod.obj = pod  # only its status changed, by ourselves mostly: no reason to try again
                return
        self.queue.add(info)

    def _nomination_changed(self, old: Obj | None, info: PodInfo) -> None:
        """Follows what a pod's status says of a node that is kept for it. Says neither version anything, it stays as we know."""
        was, now = nominated_node(old), nominated_node(info.obj)
        if now:
            self.nominated[info.uid] = now, info
        elif was:
            self.nominated.pop(info.uid, None)
        elif info.uid in self.nominated:
            self.nominated[info.uid] = self.nominated[info.uid][0], info
        if was and was != now:  # as if it had left that node
            self.happened(ClusterEvent.POD_REMOVED, info, None, info.priority)

    def namespace_changed(self, old: Obj | None, new: Obj | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        labels = None if new is None else new["metadata"].get("labels") or {}
        if self.snapshot.put_namespace(name, labels):
            self.happened(ClusterEvent.NAMESPACE, old, new)

    def _volume_handler(self, handler: Handler, event: ClusterEvent) -> Handler:
        def changed(old: Obj | None, new: Obj | None) -> None:
            handler(old, new)
            self.framework.forget(_has_claims)
            if event is not ClusterEvent.VOLUME_DETACHED or new is None:
                self.happened(event, old, new)

        return changed

    # Choices

    def assume(self, pod: PodInfo, node: str) -> None:
        """Counts a pod into the node that was chosen for it, before it is bound."""
        self.nominated.pop(pod.uid, None)
        self.assumed.add(pod.uid)
        self.snapshot.add_pod(node, pod)

    def forget(self, pod: PodInfo) -> None:
        """Takes an assumed pod back, as its binding failed."""
        if pod.uid in self.assumed:
            self.assumed.discard(pod.uid)
            self.snapshot.remove_pod(pod.uid)
            self.happened(ClusterEvent.POD_REMOVED, pod, None)

    def nominees_before(self, pod: PodInfo) -> Nominees:
        """The pods whose nodes `pod` must leave room on: those of at least its priority."""
        found: dict[str, list[PodInfo]] = {}
        for uid, (node, info) in self.nominated.items():
            if uid != pod.uid and info.priority >= pod.priority:
                found.setdefault(node, []).append(info)
        return found


def _has_claims(template: Template) -> bool:
    return bool(template.claims)


def looks_alike(old: Obj, new: Obj) -> bool:
    """Whether nothing of a bound pod changed that counts: its labels, what it requests and has, whether it is being deleted."""
    before, after = old["metadata"], new["metadata"]
    return (
        bool(before.get("deletionTimestamp")) == bool(after.get("deletionTimestamp"))
        and before.get("labels") == after.get("labels")
        and (old["spec"]["containers"] == new["spec"]["containers"])
        and resources.resized(old) == resources.resized(new)
    )
