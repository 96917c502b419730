"""Pods that a NoExecute taint drives from their node, at once or when their toleration ends.

Source: kubernetes pkg/controller/tainteviction, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.controllers import conditions, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.nodes import BY_NODE, index_by_node
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.meta import nodefit, times
from kubelite.meta.errors import NotFound
from kubelite.meta.types import Obj


def evicting_taints(node: Obj) -> list[Obj]:
    return [taint for taint in node["spec"].get("taints") or () if taint["effect"] == "NoExecute"]


def tolerated_for(taints: Sequence[Obj], tolerations: Sequence[Obj]) -> float | None:
    """How many seconds a pod with these tolerations may stay: 0 for not at all, None for ever."""
    seconds: list[float] = []
    for taint in taints:
        matching = [t for t in tolerations if nodefit.tolerates(t, taint)]
        if not matching:
            return 0.0
        seconds += [max(t["tolerationSeconds"], 0) for t in matching if t.get("tolerationSeconds") is not None]
    return min(seconds, default=None)


class TaintEviction(Controller):
    """Deletes pods whose node's taints they don't tolerate."""

    name: ClassVar[str] = "taint-eviction-controller"
    workers: ClassVar[int] = 8

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        #: key -> since when the pod is to go.
        self._since: dict[str, float] = {}
        self._pods = self.informer("pods")
        self._nodes = self.informer("nodes")
        index_by_node(self._pods)
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            assert old is not None
            self._since.pop(key_of(old), None)
            return
        placed = new["spec"].get("nodeName")
        if placed and (old is None or _scheduling(old) != _scheduling(new)):
            node = self._nodes.get(placed)
            if key_of(new) in self._since or (node is not None and evicting_taints(node)):
                self.queue.add(key_of(new))

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        before = [] if old is None else evicting_taints(old)
        after = [] if new is None else evicting_taints(new)
        if new is not None and before != after:
            for pod in self._pods.by_index(BY_NODE, new["metadata"]["name"]):
                self.queue.add(key_of(pod))

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None or pods.is_terminating(pod):
            self._since.pop(key, None)
            return
        node = self._nodes.get(pod["spec"].get("nodeName", ""))
        taints = [] if node is None else evicting_taints(node)
        allowed_s = tolerated_for(taints, pod["spec"].get("tolerations") or ()) if taints else None
        if allowed_s is None:
            if self._since.pop(key, None) is not None:
                self._tell(pod, f"Cancelling deletion of Pod {key}")
            return
        now = self.env.now()
        left_s = self._since.setdefault(key, now) + allowed_s - now
        if left_s > 0:
            self.queue.add_after(key, left_s)
            return
        self._tell(pod, f"Marking for deletion Pod {key}")
        await self._evict(pod)

    def _tell(self, pod: Obj, message: str) -> None:
        self.events.event(pod, "Normal", "TaintManagerEviction", message)

    async def _evict(self, pod: Obj) -> None:
        meta = pod["metadata"]
        text = "Taint manager: deleting due to NoExecute taint"
        try:
            await disrupt(self, pod, "DeletionByTaintManager", text)
            await self.client.delete("pods", meta["name"], meta["namespace"], precondition_uid=meta["uid"])
        except NotFound:
            return


async def disrupt(controller: Controller, pod: Obj, reason: str, message: str, *, failed: bool = False) -> None:
    """Notes in the pod's status why the cluster is about to delete it; with `failed`, also that it ends here."""
    meta = pod["metadata"]
    condition = conditions.make("DisruptionTarget", "True", times.now(), reason, message)
    if "generation" in meta:
        condition["observedGeneration"] = meta["generation"]
    status: Obj = {"conditions": [condition]}
    if failed:
        status["phase"] = "Failed"
    patch = {"metadata": {"uid": meta["uid"]}, "status": status}
    await controller.client.patch("pods", meta["name"], meta["namespace"], patch, form="strategic", subresource="status")


def _scheduling(pod: Obj) -> tuple[object, object]:
    return pod["spec"].get("nodeName"), pod["spec"].get("tolerations")
