"""DaemonSets: one pod on each node that fits. What belongs where is decided in `daemonplan`.

Source: kubernetes pkg/controller/daemon, v1.34.
"""

from collections.abc import Iterable
from typing import ClassVar

from kubelite.client.expectations import Expectations
from kubelite.controllers import daemonplan, owners, pods, revisions
from kubelite.controllers.daemonplan import Plan
from kubelite.controllers.environment import Environment
from kubelite.controllers.podcontrol import PodControl, slow_start
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.meta import selectors
from kubelite.meta.errors import ApiError
from kubelite.meta.types import Obj

RESOURCE = "daemonsets.apps"
BURST = 250
FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 900.0


class DaemonSets(Controller):
    """Keeps a pod on each node; rolls templates out; writes the status."""

    name: ClassVar[str] = "daemonset-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._expectations = Expectations()
        self._control = PodControl(self.client, self.events)
        self._pod_claims = owners.Claims(self.client, "pods", RESOURCE, "apps/v1", "DaemonSet")
        self._revision_claims = owners.Claims(self.client, revisions.RESOURCE, RESOURCE, "apps/v1", "DaemonSet")
        self._revisions = revisions.Revisions(self.client, "apps/v1", "DaemonSet", daemonplan.HASH_LABEL)
        #: (set's uid, generation, node) -> (when the last failed pod was deleted, how long to wait for the next).
        self._failures: dict[tuple[str, int, str], tuple[float, float]] = {}
        self._sets = self.informer(RESOURCE)
        self._nodes = self.informer("nodes")
        self._pods = self.informer("pods")
        self._history = self.informer(revisions.RESOURCE)
        owners.index_by_controller(self._pods)
        owners.index_by_controller(self._history)
        self.follow(self._sets)
        self.follow(self._history, self._owners_of)
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    def _owners_of(self, obj: Obj) -> Iterable[str]:
        namespace = obj["metadata"]["namespace"]
        reference = owners.controller_of(obj)
        if reference is not None:
            if reference["kind"] == "DaemonSet":
                yield f"{namespace}/{reference['name']}"
            return
        labels = obj["metadata"].get("labels") or {}
        for owner in self._sets.list(namespace) if labels else ():
            if selectors.from_object(owner["spec"]["selector"]).matches(labels):
                yield key_of(owner)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        for state in (new, old):
            if state is None:
                continue
            for key in self._owners_of(state):
                if owners.controller_of(state) is not None:
                    if old is None:
                        self._expectations.creation_observed(key)
                    if new is None or pods.is_terminating(new):
                        self._expectations.deletion_observed(key, state["metadata"]["uid"])
                self.add_paced(key)

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None and _placing(old) == _placing(new):
            return
        for owner in self._sets.list():
            before = old is not None and daemonplan.should_run(old, owner)
            after = new is not None and daemonplan.should_run(new, owner)
            if before != after:
                self.queue.add(key_of(owner))

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        owner = self._sets.get(name, namespace)
        if owner is None:
            self._expectations.forget(key)
            self.set_size(key, 0)
            return
        self.set_size(key, len(self._nodes))
        selector = owner["spec"]["selector"]
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            text = "This daemon set is selecting all pods. A non-empty selector is required."
            self.events.event(owner, "Warning", "SelectingAll", text)
            return
        if "deletionTimestamp" in owner["metadata"]:
            return
        compiled = selectors.from_object(selector)
        known = await self._revision_claims.claim(
            owner, compiled, owners.owned(self._history, owner) + owners.orphans(self._history, namespace)
        )
        known = await self._revisions.merge(owner, known, owners.owned(self._pods, owner))
        try:
            current, others = await self._revisions.current(owner, known, (owner.get("status") or {}).get("collisionCount"))
        except revisions.Collision:
            status = owner.get("status") or {}
            await self._write_status(owner, {**status, "collisionCount": status.get("collisionCount", 0) + 1})
            return
        hash_ = self._revisions.hash_of(current)
        candidates = owners.owned(self._pods, owner) + owners.orphans(self._pods, namespace)
        claimed = await self._pod_claims.claim(owner, compiled, candidates)
        failure = None
        if settled := self._expectations.is_satisfied(key):
            failure = await self._manage(key, owner, claimed, hash_)
            if failure is None:
                used = {r["metadata"]["name"] for r in others for p in claimed if _hash(p) == self._revisions.hash_of(r)}
                await self._revisions.trim(others, owner["spec"].get("revisionHistoryLimit", 10), used)
        await self._sync_status(key, owner, claimed, hash_, settled=settled)
        if failure is not None:
            raise failure

    async def _manage(self, key: str, owner: Obj, claimed: list[Obj], hash_: str) -> ApiError | None:
        now, nodes = self.env.now(), self._nodes.list()
        placed = daemonplan.by_node(claimed)
        plan = daemonplan.placement(owner, nodes, placed, hash_, now)
        self._delete_failed(key, owner, plan, now)
        failure = await self._carry_out(key, owner, plan, hash_)
        rolling = (owner["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
        if failure is not None or not rolling or not self._expectations.is_satisfied(key):
            return failure
        return await self._carry_out(key, owner, daemonplan.rolling_update(owner, nodes, placed, hash_, now), hash_)

    def _delete_failed(self, key: str, owner: Obj, plan: Plan, now: float) -> None:
        """Failed pods go too, but slower and slower where they fail again and again (a node that rejects them)."""
        meta = owner["metadata"]
        for node, pod in plan.failed:
            place = meta["uid"], (owner.get("status") or {}).get("observedGeneration", 0), node
            last, wait_s = self._failures.get(place, (0.0, 0.0))
            if now < last + wait_s:
                self.queue.add_after(key, last + wait_s - now)
                continue
            if now - last > 2 * LAST_BACKOFF_S:
                wait_s = 0.0
            self._failures[place] = now, min(max(wait_s * 2, FIRST_BACKOFF_S), LAST_BACKOFF_S)
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            text = f"Found failed daemon pod {name} on node {node}, will try to kill it"
            self.events.event(owner, "Warning", "FailedDaemonPod", text)
            plan.delete.append(pod)
        if len(self._failures) > 10_000:
            self._failures = {place: entry for place, entry in self._failures.items() if entry[0] + entry[1] > now}

    async def _carry_out(self, key: str, owner: Obj, plan: Plan, hash_: str) -> ApiError | None:
        for type_, reason, message in plan.events:
            self.events.event(owner, "Warning" if type_ == "Warning" else "Normal", reason, message)
        create, delete = plan.create[:BURST], plan.delete[:BURST]
        if not create and not delete:
            return None
        self._expectations.expect(key, len(create), [pod["metadata"]["uid"] for pod in delete])
        reference = owners.reference_to(owner, "apps/v1", "DaemonSet")
        meta = owner["metadata"]

        async def make(index: int) -> None:
            template = daemonplan.template_for(owner, create[index], hash_)
            prefix = pods.name_prefix(meta["name"])
            pod = pods.from_template(template, reference, namespace=meta["namespace"], prefix=prefix)
            if await self._control.create(pod, owner) is None:
                self._expectations.creation_observed(key)

        created, failure = await slow_start(len(create), make)
        for _ in range(len(create) - created):
            self._expectations.creation_observed(key)
        try:
            for pod in await self._control.delete_all(delete, owner):
                self._expectations.deletion_observed(key, pod["metadata"]["uid"])
        except ApiError as e:
            self._expectations.forget(key)
            return e
        return failure

    async def _sync_status(self, key: str, owner: Obj, claimed: list[Obj], hash_: str, *, settled: bool) -> None:
        now = self.env.now()
        status = daemonplan.status_of(owner, self._nodes.list(), daemonplan.by_node(claimed), hash_, now)
        if not settled:
            # What this generation asks for has not been looked at yet.
            status.pop("observedGeneration", None)
            if observed := (owner.get("status") or {}).get("observedGeneration"):
                status["observedGeneration"] = observed
        if status != owner.get("status"):
            await self._write_status(owner, status)
        min_ready_s = owner["spec"].get("minReadySeconds", 0)
        if min_ready_s and status["numberReady"] != status.get("numberAvailable", 0):
            self.queue.add_after(key, pods.next_available_in(claimed, min_ready_s, now) or min_ready_s)

    async def _write_status(self, owner: Obj, status: Obj) -> None:
        changed = {**owner, "metadata": {**owner["metadata"]}, "status": status}
        await self.client.update(RESOURCE, changed, subresource="status")


def _hash(pod: Obj) -> str:
    return str((pod["metadata"].get("labels") or {}).get(daemonplan.HASH_LABEL, ""))


def _placing(node: Obj) -> tuple[object, object]:
    return node["metadata"].get("labels"), node["spec"].get("taints")
