"""Pods that nobody would ever end: on nodes that are gone, deleted before they were placed, or long finished.

Source: kubernetes pkg/controller/podgc, v1.34.
"""

from typing import ClassVar

from kubelite.controllers import conditions, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.eviction import disrupt
from kubelite.controllers.nodes import BY_NODE, index_by_node
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.meta.errors import NotFound
from kubelite.meta.types import Obj

#: A node that is missing may only be registering anew.
QUARANTINE_S = 40.0
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
#: A key that is no pod's: the check of how many finished pods there are.
FINISHED = "finished"


class PodCollector(Controller):
    """Deletes pods without waiting for a node to say that they ended."""

    name: ClassVar[str] = "pod-garbage-collector"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._missing_since: dict[str, float] = {}
        self._finished = 0
        self._pods = self.informer("pods")
        self._nodes = self.informer("nodes")
        index_by_node(self._pods)
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        self._finished += (new is not None and pods.is_finished(new)) - (old is not None and pods.is_finished(old))
        if self._finished > self.env.settings.terminated_pods_kept:
            self.queue.add(FINISHED)
        if new is None:
            return
        node = new["spec"].get("nodeName")
        if (not node and pods.is_terminating(new)) or (node and self._nodes.synced.is_set() and self._nodes.get(node) is None):
            self.queue.add(key_of(new))

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        node = new or old
        assert node is not None
        name = node["metadata"]["name"]
        if new is not None:
            self._missing_since.pop(name, None)
        if new is None or any(taint["key"] == OUT_OF_SERVICE for taint in new["spec"].get("taints") or ()):
            for pod in self._pods.by_index(BY_NODE, name):
                self.queue.add(key_of(pod))

    async def run(self) -> None:
        await self._nodes.synced.wait()
        for pod in self._pods.list():
            self._pod_changed(pod, pod)
        await super().run()

    async def reconcile(self, key: str) -> None:
        if key == FINISHED:
            await self._trim()
            return
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None:
            return
        placed = pod["spec"].get("nodeName")
        if not placed:
            if pods.is_terminating(pod):
                await self._delete(pod)
            return
        node = self._nodes.get(placed)
        if node is not None:
            out = any(taint["key"] == OUT_OF_SERVICE for taint in node["spec"].get("taints") or ())
            if out and pods.is_terminating(pod) and not conditions.is_true(node, "Ready"):
                text = "PodGC: node out-of-service taint is present"
                await self._fail(pod, text)
            return
        now = self.env.now()
        left_s = self._missing_since.setdefault(placed, now) + QUARANTINE_S - now
        if left_s > 0:
            self.queue.add_after(key, left_s)
            return
        try:
            await self.client.get("nodes", placed)
        except NotFound:
            await self._fail(pod, "PodGC: node no longer exists")

    async def _fail(self, pod: Obj, message: str) -> None:
        if not pods.is_finished(pod):
            try:
                await disrupt(self, pod, "DeletionByPodGC", message, failed=True)
            except NotFound:
                return
        await self._delete(pod)

    async def _trim(self) -> None:
        """The longest finished go first."""
        finished = [pod for pod in self._pods.list() if pods.is_finished(pod)]
        surplus = len(finished) - self.env.settings.terminated_pods_kept
        finished.sort(key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]))
        for pod in finished[: max(surplus, 0)]:
            await self._delete(pod)

    async def _delete(self, pod: Obj) -> None:
        meta = pod["metadata"]
        try:
            await self.client.delete("pods", meta["name"], meta["namespace"], grace_period_s=0, precondition_uid=meta["uid"])
        except NotFound:
            return
