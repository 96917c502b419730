"""Keeps the snapshot, the queue and what plugins look at current with the informers' events.

Everything here is a synchronous handler. It decides whose pods are ours, what of a change counts, and which waiting pods it
makes worth another try.
"""

from collections.abc import Callable, Iterable
from functools import partial

from kubelite.client.informers import Informers
from kubelite.meta.types import Obj
from kubelite.scheduler.framework import ClusterEvent, Framework
from kubelite.scheduler.owners import KINDS, Owners
from kubelite.scheduler.queue import Queue
from kubelite.scheduler.snapshot import PodInfo, Snapshot
from kubelite.scheduler.templates import DEFAULT_SCHEDULER, Templates
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
        #: Pods that wait for their victims to leave a node, which is kept free for them.
        self.nominated: dict[str, tuple[str, PodInfo]] = {}

    def subscribe(self, informers: Informers) -> list[Callable[[], None]]:
        """Follows all that matters; returns what ends each subscription. Nodes come before pods, so that pods find theirs."""
        handlers: list[tuple[str, Callable[[Obj | None, Obj | None], None]]] = [
            ("namespaces", self.namespace_changed),
            ("nodes", self.node_changed),
            ("services", self.owners.service_changed),
            *((resource, partial(self.owners.controller_changed, resource)) for resource in KINDS),
            ("persistentvolumeclaims", self._volume_handler(self.volumes.claim_changed)),
            ("persistentvolumes", self._volume_handler(self.volumes.volume_changed)),
            ("storageclasses.storage.k8s.io", self._volume_handler(self.volumes.class_changed)),
            ("pods", self.pod_changed),
        ]
        return [informers.of(resource).subscribe(handler) for resource, handler in handlers]

    def info(self, pod: Obj) -> PodInfo:
        meta, spec = pod["metadata"], pod["spec"]
        template = self.templates.of(pod)
        return PodInfo(uid_of(pod), meta["name"], template, spec.get("priority") or 0, bool(meta.get("deletionTimestamp")), pod)

    def happened(self, *events: ClusterEvent) -> None:
        for event in events:
            self.queue.moved(self.framework.interested(event))

    # Handlers

    def node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            if old is not None:
                self.snapshot.remove_node(old["metadata"]["name"])
            return
        changes = self.snapshot.put_node(new)
        if "added" in changes:
            self.queue.move_all()
        else:
            self.happened(*(NODE_EVENTS[change] for change in changes))

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
        if self.snapshot.remove_pod(uid) is not None or nominated is not None:
            self.happened(ClusterEvent.POD_REMOVED)

    def _pod_on_node(self, pod: Obj) -> None:
        uid, node = uid_of(pod), pod["spec"]["nodeName"]
        self.queue.delete(uid)
        self.nominated.pop(uid, None)
        confirmed = uid in self.assumed
        self.assumed.discard(uid)
        known = self.snapshot.pod(uid)
        if known is None or self.snapshot.node_of(uid) != node:
            self.snapshot.add_pod(node, self.info(pod))
            self.happened(ClusterEvent.POD_ASSIGNED)
            return
        if looks_alike(known.obj, pod):
            known.obj = pod
        else:
            self.snapshot.add_pod(node, self.info(pod))
            self.happened(ClusterEvent.POD_CHANGED)
        if confirmed:
            self.happened(ClusterEvent.POD_ASSIGNED)

    def _pod_waiting(self, old: Obj | None, pod: Obj) -> None:
        uid = uid_of(pod)
        if pod["spec"].get("schedulerName", DEFAULT_SCHEDULER) != self.scheduler_name or uid in self.assumed:
            return
        if pod["metadata"].get("deletionTimestamp"):
            self._pod_gone(uid)
            return
        info = self.info(pod)
        queued = self.queue.get(uid)
        if queued is not None and queued.pod.template is info.template and queued.pod.priority == info.priority:
            gates = bool(pod["spec"].get("schedulingGates"))
            if gates == bool(queued.pod.obj["spec"].get("schedulingGates")):
                queued.pod.obj = pod  # only its status changed, by ourselves mostly: no reason to try again
                return
        node = (pod.get("status") or {}).get("nominatedNodeName")
        if node and queued is None:  # by a process before this one
            self.nominated[uid] = node, info
        self.queue.add(info)

    def namespace_changed(self, old: Obj | None, new: Obj | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        labels = None if new is None else new["metadata"].get("labels") or {}
        if self.snapshot.put_namespace(name, labels):
            self.happened(ClusterEvent.NAMESPACE)

    def _volume_handler(self, handler: Callable[[Obj | None, Obj | None], None]) -> Callable[[Obj | None, Obj | None], None]:
        def changed(old: Obj | None, new: Obj | None) -> None:
            handler(old, new)
            self.framework.forget()
            self.happened(ClusterEvent.VOLUMES)

        return changed

    # Choices

    def assume(self, pod: PodInfo, node: str) -> None:
        """Counts a pod into the node that was chosen for it, before it is bound."""
        self.assumed.add(pod.uid)
        self.snapshot.add_pod(node, pod)

    def forget(self, pod: PodInfo) -> None:
        """Takes an assumed pod back, as its binding failed."""
        if pod.uid in self.assumed:
            self.assumed.discard(pod.uid)
            self.snapshot.remove_pod(pod.uid)
            self.happened(ClusterEvent.POD_REMOVED)

    def nominees_before(self, pod: PodInfo) -> Iterable[tuple[str, PodInfo]]:
        """The pods whose nominated room `pod` must not take: those of at least its priority."""
        for uid, (node, info) in self.nominated.items():
            if uid != pod.uid and info.priority >= pod.priority and self.snapshot.pod(uid) is None:
                yield node, info


def looks_alike(old: Obj, new: Obj) -> bool:
    """Whether nothing of a bound pod changed that counts: its labels, its requests, whether it is being deleted."""
    before, after = old["metadata"], new["metadata"]
    return (
        bool(before.get("deletionTimestamp")) == bool(after.get("deletionTimestamp"))
        and before.get("labels") == after.get("labels")
        and (old["spec"]["containers"] == new["spec"]["containers"])
    )
