"""ReplicaSets and ReplicationControllers: as many pods of a template as asked for.

One reconciler serves both: they differ in names and in the form of their selector.

Source: kubernetes pkg/controller/replicaset, v1.34.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from kubelite.client.expectations import Expectations
from kubelite.controllers import conditions, owners, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.podcontrol import PodControl, slow_start
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.meta import selectors, times
from kubelite.meta.errors import ApiError
from kubelite.meta.types import Obj

#: No more pods are created or deleted in one go.
BURST = 500


@dataclass(frozen=True, slots=True)
class Flavor:
    """Which of the two kinds is meant."""

    resource: str
    api_version: str
    kind: str
    component: str


REPLICA_SETS = Flavor("replicasets.apps", "apps/v1", "ReplicaSet", "replicaset-controller")
REPLICATION_CONTROLLERS = Flavor("replicationcontrollers", "v1", "ReplicationController", "replication-controller")


class ReplicaSets(Controller):
    """Keeps the number of pods; writes the status."""

    name: ClassVar[str] = "replicaset-controller"
    workers: ClassVar[int] = 5
    flavor: ClassVar[Flavor] = REPLICA_SETS

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._expectations = Expectations()
        self._control = PodControl(self.client, self.events)
        self._claims = owners.Claims(self.client, "pods", self.flavor.resource, self.flavor.api_version, self.flavor.kind)
        self._sets = self.informer(self.flavor.resource)
        self._pods = self.informer("pods")
        owners.index_by_controller(self._pods)
        owners.index_by_controller(self._sets)
        self.follow(self._sets)
        self._pods.subscribe(self._pod_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        pod = new or old
        assert pod is not None
        for state in (old, new):
            reference = None if state is None else owners.controller_of(state)
            if reference is not None and reference["kind"] == self.flavor.kind:
                key = f"{pod['metadata']['namespace']}/{reference['name']}"
                if old is None:
                    self._expectations.creation_observed(key)
                if new is None or pods.is_terminating(new):
                    self._expectations.deletion_observed(key, pod["metadata"]["uid"])
                self.add_paced(key)
        if new is not None and owners.controller_of(new) is None and not pods.is_terminating(new):
            before = None if old is None else (old["metadata"].get("labels"), owners.controller_of(old))
            if before != (new["metadata"].get("labels"), None):
                for key in self._matching(new):
                    self.queue.add(key)

    def _matching(self, pod: Obj) -> Iterable[str]:
        """The keys of those who may want to adopt an orphan."""
        labels = pod["metadata"].get("labels") or {}
        if labels:
            for owner in self._sets.list(pod["metadata"]["namespace"]):
                if self._selector(owner).matches(labels):
                    yield key_of(owner)

    def _selector(self, owner: Obj) -> selectors.LabelSelector:
        selector = owner["spec"].get("selector") or {}
        if self.flavor is REPLICATION_CONTROLLERS:
            selector = {"matchLabels": selector}
        return selectors.from_object(selector)

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        owner = self._sets.get(name, namespace)
        if owner is None:
            self._expectations.forget(key)
            self.set_size(key, 0)
            return
        may_change = self._expectations.is_satisfied(key)
        candidates = [p for p in owners.owned(self._pods, owner) + owners.orphans(self._pods, namespace) if pods.is_active(p)]
        active = await self._claims.claim(owner, self._selector(owner), candidates)
        self.set_size(key, len(active))
        failure = None
        if may_change and "deletionTimestamp" not in owner["metadata"]:
            failure = await self._scale(key, owner, active)
        now = self.env.now()
        status = status_of(owner, active, failure, now)
        if status != owner.get("status"):
            await self.client.update(
                self.flavor.resource, {**owner, "metadata": {**owner["metadata"]}, "status": status}, subresource="status"
            )
        if failure is not None:
            raise failure
        min_ready_s = owner["spec"].get("minReadySeconds", 0)
        if min_ready_s and status.get("readyReplicas", 0) != status.get("availableReplicas", 0):
            self.queue.add_after(key, pods.next_available_in(active, min_ready_s, now) or min_ready_s)

    async def _scale(self, key: str, owner: Obj, active: list[Obj]) -> ApiError | None:
        meta, spec = owner["metadata"], owner["spec"]
        missing = spec.get("replicas", 1) - len(active)
        if missing > 0:
            missing = min(missing, BURST)
            reference = owners.reference_to(owner, self.flavor.api_version, self.flavor.kind)
            prefix = pods.name_prefix(meta["name"])
            self._expectations.expect_creations(key, missing)

            async def create(_: int) -> None:
                pod = pods.from_template(spec["template"], reference, namespace=meta["namespace"], prefix=prefix)
                if await self._control.create(pod, owner) is None:
                    self._expectations.creation_observed(key)

            created, failure = await slow_start(missing, create)
            for _ in range(missing - created):
                self._expectations.creation_observed(key)
            return failure
        if missing < 0:
            surplus = pods.deletion_order(active, self._ranks(owner), self.env.now())[: min(-missing, BURST)]
            self._expectations.expect_deletions(key, [pod["metadata"]["uid"] for pod in surplus])
            try:
                for pod in await self._control.delete_all(surplus, owner):
                    self._expectations.deletion_observed(key, pod["metadata"]["uid"])
            except ApiError as e:
                self._expectations.forget(key)
                return e
        return None

    def _ranks(self, owner: Obj) -> dict[str, int]:
        """How many pods of this set and of those with the same owner (a Deployment's other sets) each node runs. A set that
        nobody owns is alone, and its pods are of one rank.
        """
        reference = owners.controller_of(owner)
        sets = [] if reference is None else self._sets.by_index(owners.BY_CONTROLLER, reference["uid"])
        related = [p for other in sets for p in owners.owned(self._pods, other) if pods.is_active(p)]
        ranks: dict[str, int] = {}
        for pod in related:
            node = pod["spec"].get("nodeName", "")
            ranks[node] = ranks.get(node, 0) + 1
        return ranks


class ReplicationControllers(ReplicaSets):
    """The same for the older kind."""

    name: ClassVar[str] = "replication-controller"
    flavor: ClassVar[Flavor] = REPLICATION_CONTROLLERS


def status_of(owner: Obj, active: list[Obj], failure: ApiError | None, now: float) -> Obj:
    """The status that an owner with these active pods should have."""
    spec, old = owner["spec"], owner.get("status") or {}
    wanted_labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    min_ready_s = spec.get("minReadySeconds", 0)
    labeled = sum(wanted_labels.items() <= (p["metadata"].get("labels") or {}).items() for p in active)
    ready = [p for p in active if pods.is_ready(p)]
    available = sum(pods.is_available(p, min_ready_s, now) for p in ready)
    status: Obj = {"replicas": len(active)}
    for field, count in (("fullyLabeledReplicas", labeled), ("readyReplicas", len(ready)), ("availableReplicas", available)):
        if count:
            status[field] = count
    status["observedGeneration"] = owner["metadata"].get("generation", 0)
    listed = old.get("conditions") or []
    if failure is None:
        listed = conditions.without(listed, "ReplicaFailure")
    elif conditions.find(listed, "ReplicaFailure") is None:
        reason = "FailedCreate" if len(active) < spec.get("replicas", 1) else "FailedDelete"
        listed = [*listed, conditions.make("ReplicaFailure", "True", times.format_time(now), reason, failure.message)]
    if listed:
        status["conditions"] = listed
    return status
