"""Nodes: whether they are heard of, what their conditions mean for scheduling, and which pod network each has.

Source: kubernetes pkg/controller/nodelifecycle and pkg/controller/nodeipam, v1.34.
"""

import ipaddress
import time
from collections.abc import Sequence
from typing import ClassVar

import structlog

from kubelite.client.informers import Informer
from kubelite.controllers import conditions
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller
from kubelite.meta import times
from kubelite.meta.errors import NotFound
from kubelite.meta.types import Obj

log = structlog.get_logger(__name__)

LEASES = "leases.coordination.k8s.io"
LEASE_NAMESPACE = "kube-node-lease"
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
#: (condition type, status) -> the taint that it means.
TAINTS = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
#: The conditions that nobody but the node itself knows.
REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
BY_NODE = "node"


def index_by_node(pods: Informer) -> None:
    """Keeps the pods by the node that they are bound to."""
    pods.add_index(BY_NODE, lambda pod: [name] if (name := pod["spec"].get("nodeName")) else ())


def silent_conditions(node: Obj, now: str) -> list[Obj]:
    """The conditions of a node that is not heard of: what it used to report is Unknown."""
    listed: list[Obj] = (node.get("status") or {}).get("conditions") or []
    for type_ in REPORTED:
        old = conditions.find(listed, type_)
        if old is None:
            created = node["metadata"].get("creationTimestamp", now)
            text = "Kubelet never posted node status."
            new = conditions.make(type_, "Unknown", now, "NodeStatusNeverUpdated", text, lastHeartbeatTime=created)
            listed = [*listed, new]
        elif old["status"] != "Unknown":
            change = {"status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
            listed = conditions.put(listed, {**old, **change, "lastTransitionTime": now})
    return listed


def wanted_taints(node: Obj, *, evicting: bool, now: str) -> list[Obj]:
    """The node's taints as its conditions want them; others' taints stay. `evicting`: also those that drive pods away."""
    listed = (node.get("status") or {}).get("conditions") or []
    keys = {key for c in listed if (key := TAINTS.get((c["type"], c["status"])))}
    wanted = {(key, "NoSchedule") for key in keys}
    if node["spec"].get("unschedulable"):
        wanted.add((UNSCHEDULABLE, "NoSchedule"))
    if evicting:
        wanted |= {(key, "NoExecute") for key in keys if key in (NOT_READY, UNREACHABLE)}
    ours = {(key, "NoSchedule") for key in [*TAINTS.values(), UNSCHEDULABLE]}
    ours |= {(NOT_READY, "NoExecute"), (UNREACHABLE, "NoExecute")}
    result = []
    for taint in node["spec"].get("taints") or ():
        identity = taint["key"], taint["effect"]
        if identity not in ours or identity in wanted:
            result.append(taint)
            wanted.discard(identity)
    return result + [{"key": key, "effect": effect, "timeAdded": now} for key, effect in sorted(wanted)]


class NodeLifecycle(Controller):
    """Marks nodes that are not heard of, and keeps taints in step with conditions.

    A node is heard of when its lease is renewed or its status changes. Times are measured here, since the nodes' clocks may
    differ.
    """

    name: ClassVar[str] = "node-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._heard: dict[str, float] = {}
        self._known: dict[str, str] = {}
        self._all_down = False
        self._ready: set[str] = set()
        self._nodes = self.informer("nodes")
        self._pods = self.informer("pods")
        index_by_node(self._pods)
        self._nodes.subscribe(self._node_changed)
        self.informer(LEASES).subscribe(self._lease_changed)

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            assert old is not None
            name = old["metadata"]["name"]
            self._heard.pop(name, None)
            self._ready.discard(name)
            if self._known.pop(name, None) is not None:
                self._tell(old, "Normal", "RemovingNode", f"Node {name} event: Removing Node {name} from Controller")
            self._check_all_down()
            return
        name = new["metadata"]["name"]
        if conditions.is_true(new, "Ready"):
            self._ready.add(name)
        else:
            self._ready.discard(name)
        if old is None or _heartbeat(old) != _heartbeat(new):
            self._heard[name] = time.monotonic()
        if self._known.get(name) != new["metadata"]["uid"]:
            self._known[name] = new["metadata"]["uid"]
            self._tell(new, "Normal", "RegisteredNode", f"Node {name} event: Registered Node {name} in Controller")
        self._check_all_down()
        self.queue.add(name)

    def _lease_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is not None and new["metadata"]["namespace"] == LEASE_NAMESPACE:
            renewed = new["spec"].get("renewTime")
            if old is None or old["spec"].get("renewTime") != renewed:
                name = new["metadata"]["name"]
                was_silent = time.monotonic() - self._heard.get(name, 0.0) > self.env.settings.node_grace_s
                self._heard[name] = time.monotonic()
                if was_silent:
                    self.queue.add(name)

    def _check_all_down(self) -> None:
        """When no node at all is ready the fault is more likely here than there: nothing is driven away then."""
        if (not self._ready) != self._all_down:
            self._all_down = not self._ready
            for node in self._nodes.list():
                self.queue.add(node["metadata"]["name"])

    def _tell(self, node: Obj, type_: str, reason: str, message: str) -> None:
        about = {"kind": "Node", "apiVersion": "v1", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"]}
        self.events.event(about, "Warning" if type_ == "Warning" else "Normal", reason, message)

    async def reconcile(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None:
            return
        settings = self.env.settings
        ready = conditions.find((node.get("status") or {}).get("conditions"), "Ready")
        grace_s = settings.node_startup_grace_s if ready is None else settings.node_grace_s
        left_s = self._heard.setdefault(key, time.monotonic()) + grace_s - time.monotonic()
        if left_s > 0:
            self.queue.add_after(key, left_s + 0.01)
        else:
            node = await self._mark_silent(node)
            self.queue.add_after(key, grace_s)
        await self._taint(node)
        if not conditions.is_true(node, "Ready"):
            await self._mark_pods(node)

    async def _mark_silent(self, node: Obj) -> Obj:
        listed = silent_conditions(node, times.now())
        if listed == (node.get("status") or {}).get("conditions"):
            return node
        was_ready = conditions.is_true(node, "Ready")
        status = {**(node.get("status") or {}), "conditions": listed}
        changed = {**node, "metadata": {**node["metadata"]}, "status": status}
        changed = await self.client.update("nodes", changed, subresource="status")
        if was_ready:
            name = node["metadata"]["name"]
            self._tell(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return changed

    async def _taint(self, node: Obj) -> None:
        taints = wanted_taints(node, evicting=not self._all_down, now=times.now())
        labels = node["metadata"].get("labels") or {}
        beta = {
            f"beta.{key}": labels[key]
            for key in ("kubernetes.io/os", "kubernetes.io/arch")
            if labels.get(key) and labels.get(f"beta.{key}") != labels[key]
        }
        change: Obj = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}}
        if taints != (node["spec"].get("taints") or []):
            change["spec"] = {"taints": taints}
        if beta:
            change["metadata"]["labels"] = beta
        if beta or "spec" in change:
            await self.client.patch("nodes", node["metadata"]["name"], "", change)

    async def _mark_pods(self, node: Obj) -> None:
        """Pods of a node that is not ready are not ready either: services must not send them anything."""
        ready = conditions.find((node.get("status") or {}).get("conditions"), "Ready")
        if ready is None or ready["status"] != "Unknown":
            return  # a node that answers reports on its pods itself
        for pod in self._pods.by_index(BY_NODE, node["metadata"]["name"]):
            old = conditions.find((pod.get("status") or {}).get("conditions"), "Ready")
            if old is None or old["status"] != "True":
                continue
            meta = pod["metadata"]
            change = {"type": "Ready", "status": "False", "lastTransitionTime": times.now()}
            patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [change]}}
            try:
                await self.client.patch("pods", meta["name"], meta["namespace"], patch, form="strategic", subresource="status")
            except NotFound:
                continue
            self.events.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _heartbeat(node: Obj) -> str:
    ready = conditions.find((node.get("status") or {}).get("conditions"), "Ready")
    return "" if ready is None else f"{ready['status']} {ready.get('lastHeartbeatTime', '')}"


class NodeNetworks(Controller):
    """Gives each node a range of pod addresses of its own."""

    name: ClassVar[str] = "node-ipam-controller"
    workers: ClassVar[int] = 1  # allocations follow each other

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        settings = env.settings
        self._networks = Networks(settings.cluster_cidr, settings.node_cidr_bits) if settings.cluster_cidr else None
        self._nodes = self.informer("nodes")
        self._nodes.subscribe(self._changed)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        networks = self._networks
        if networks is None:
            return
        if new is None:
            assert old is not None
            networks.release(old["metadata"]["name"])
            # There is room again for those that got none.
            for node in self._nodes.list():
                if not node["spec"].get("podCIDR"):
                    self.queue.add(node["metadata"]["name"])
        elif cidrs := _cidrs(new):
            networks.take(new["metadata"]["name"], cidrs)
        else:
            self.queue.add(new["metadata"]["name"])

    async def reconcile(self, key: str) -> None:
        node = self._nodes.get(key)
        if self._networks is None or node is None or node["spec"].get("podCIDR"):
            return
        free = self._networks.give(key)
        if free is None:
            about = {"kind": "Node", "apiVersion": "v1", "name": key, "uid": node["metadata"]["uid"]}
            self.events.event(about, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
            log.warning("no_network_left", cluster_cidr=self.env.settings.cluster_cidr, node=key)
            return  # it comes back when another node goes
        await self.client.patch("nodes", key, "", {"spec": {"podCIDR": free, "podCIDRs": [free]}}, form="strategic")


def _cidrs(node: Obj) -> Sequence[str]:
    spec = node["spec"]
    found: Sequence[str] = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else ())
    return found


class Networks:
    """The networks of one size in a larger one, and who has which. The lowest free one is given; what a holder got is given
    to it again."""

    def __init__(self, whole: str, bits: int) -> None:
        """Raises ValueError for what is no network or a size that does not fit into it."""
        self._whole = ipaddress.ip_network(whole)
        if not self._whole.prefixlen <= bits <= self._whole.max_prefixlen:
            raise ValueError(f"networks of /{bits} do not fit into {whole}")
        self._bits = bits
        self._step = 1 << (self._whole.max_prefixlen - bits)
        self._count = 1 << (bits - self._whole.prefixlen)
        self._held: dict[str, set[int]] = {}
        self._users = [0] * self._count
        self._lowest = 0

    def take(self, holder: str, cidrs: Sequence[str]) -> None:
        """Notes that the holder has these, wherever it got them from."""
        indexes: set[int] = set()
        for cidr in cidrs:
            network = ipaddress.ip_network(cidr, strict=False)
            if network.version == self._whole.version:
                first = (int(network.network_address) - int(self._whole.network_address)) // self._step
                last = (int(network.broadcast_address) - int(self._whole.network_address)) // self._step
                indexes.update(range(max(first, 0), min(last, self._count - 1) + 1))
        if self._held.get(holder) != indexes:
            self.release(holder)
            self._hold(holder, indexes)

    def give(self, holder: str) -> str | None:
        """A free network for the holder; None where there is none."""
        held = self._held.get(holder)
        if not held:
            while self._lowest < self._count and self._users[self._lowest]:
                self._lowest += 1
            if self._lowest == self._count:
                return None
            held = {self._lowest}
            self._hold(holder, held)
        first = int(self._whole.network_address) + min(held) * self._step
        return f"{ipaddress.ip_address(first)}/{self._bits}"

    def release(self, holder: str) -> None:
        """The holder is gone."""
        for index in self._held.pop(holder, ()):
            self._users[index] -= 1
            if not self._users[index]:
                self._lowest = min(self._lowest, index)

    def _hold(self, holder: str, indexes: set[int]) -> None:
        self._held[holder] = indexes
        for index in indexes:
            self._users[index] += 1
