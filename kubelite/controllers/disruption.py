"""Pod disruption budgets: how many pods of each may be evicted now.

Source: kubernetes pkg/controller/disruption, v1.34.
"""

import contextlib
from collections.abc import Iterable, Sequence
from typing import ClassVar

from kubelite.controllers import conditions, owners, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.controllers.rollouts import scaled
from kubelite.meta import selectors, times
from kubelite.meta.errors import ApiError, Conflict, NotFound
from kubelite.meta.types import Obj, OwnerReference

RESOURCE = "poddisruptionbudgets.policy"
#: An eviction that was allowed must have begun after this, or it does not count any more.
DELETION_TIMEOUT_S = 120.0
SETS = "replicasets.apps"
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the "
    "PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set "
    '".spec.minAvailable" field of the PDB to an integer value.'
)


class Unscalable(Exception):
    """The number of pods that there should be can't be found out."""


class Disruptions(Controller):
    """Writes the status of budgets."""

    name: ClassVar[str] = "disruption-controller"
    component: ClassVar[str] = "controllermanager"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._budgets = self.informer(RESOURCE)
        self._pods = self.informer("pods")
        self._sets = self.informer(SETS)
        self.follow(self._budgets)
        self._pods.subscribe(self._pod_changed)
        # A change of scale changes no pod at first.
        for resource in ("replicationcontrollers", SETS, "deployments.apps", "statefulsets.apps"):
            self.informer(resource).subscribe(self._scale_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None and _relevant(old) == _relevant(new):
            return
        for state in (old, new):
            if state is not None:
                for budget in self._matching(state):
                    self.add_paced(key_of(budget))

    def _scale_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or old["spec"].get("replicas") == new["spec"].get("replicas"):
            return
        for budget in self._budgets.list(new["metadata"]["namespace"]):
            self.queue.add(key_of(budget))

    def _matching(self, pod: Obj) -> Iterable[Obj]:
        labels = pod["metadata"].get("labels") or {}
        for budget in self._budgets.list(pod["metadata"]["namespace"]):
            if selectors.from_object(budget["spec"].get("selector")).matches(labels):
                yield budget

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        budget = self._budgets.get(name, namespace)
        if budget is None:
            self.set_size(key, 0)
            return
        selector = selectors.from_object(budget["spec"].get("selector"))
        selected = [p for p in self._pods.list(namespace) if selector.matches(p["metadata"].get("labels") or {})]
        self.set_size(key, len(selected))
        if not selected:
            self.events.event(budget, "Normal", "NoPods", "No matching pods found")
        now = self.env.now()
        try:
            expected, wanted = await self._expected(budget, selected)
        except (Unscalable, ApiError) as e:
            if isinstance(e, Conflict):
                raise
            text = f"Failed to calculate the number of expected pods: {e}"
            self.events.event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
            status = {**(budget.get("status") or {}), "disruptionsAllowed": 0}
            status["conditions"] = _conditions(budget, "False", "SyncFailed", str(e))
            if status != budget.get("status"):
                await self._write(budget, status)
            return
        disrupted, recheck_s = self._disrupted(budget, selected, now)
        healthy = sum(
            pods.is_ready(p) and not pods.is_terminating(p) and p["metadata"]["name"] not in disrupted for p in selected
        )
        allowed = max(healthy - wanted, 0) if expected > 0 else 0
        reason = "SufficientPods" if allowed else "InsufficientPods"
        status = {
            "currentHealthy": healthy,
            "desiredHealthy": wanted,
            "expectedPods": expected,
            "disruptionsAllowed": allowed,
            "observedGeneration": budget["metadata"].get("generation", 0),
            "conditions": _conditions(budget, "True" if allowed else "False", reason, ""),
        }
        if disrupted:
            status["disruptedPods"] = disrupted
        if status != budget.get("status"):
            await self._write(budget, status)
        if recheck_s is not None:
            self.queue.add_after(key, recheck_s)

    async def _expected(self, budget: Obj, selected: Sequence[Obj]) -> tuple[int, int]:
        """(how many pods there should be, how many of them must be healthy)."""
        spec = budget["spec"]
        unavailable, available = spec.get("maxUnavailable"), spec.get("minAvailable")
        if unavailable is not None:
            count = await self._scale(budget, selected)
            return count, max(count - scaled(unavailable, count, up=True), 0)
        if isinstance(available, str):
            count = await self._scale(budget, selected)
            return count, scaled(available, count, up=True)
        return len(selected), int(available or 0)

    async def _scale(self, budget: Obj, selected: Sequence[Obj]) -> int:
        """The replicas that the pods' controllers ask for, each controller once."""
        scales: dict[str, int] = {}
        unmanaged = False
        for pod in selected:
            reference = owners.controller_of(pod)
            if reference is None:
                unmanaged = True
                continue
            if reference["uid"] not in scales:
                uid, count = await self._scale_of(reference, pod)
                scales[reference["uid"]] = 0
                scales[uid] = count
        if unmanaged:
            text = UNMANAGED.format(selector=_shown(budget["spec"]["selector"]))
            self.events.event(budget, "Warning", "UnmanagedPods", text)
        return sum(scales.values())

    async def _scale_of(self, reference: OwnerReference, pod: Obj) -> tuple[str, int]:
        """(uid, replicas) of what controls the pod in the end: of a Deployment's set, the Deployment."""
        namespace = pod["metadata"]["namespace"]
        if reference["kind"] == "ReplicaSet":
            found = self._sets.get(reference["name"], namespace)
            parent = None if found is None else owners.controller_of(found)
            if parent is not None and parent["kind"] == "Deployment":
                reference = parent
        kind = self.env.kinds.of_kind(reference["apiVersion"], reference["kind"])
        if kind is None:
            raise Unscalable(f'no matches for kind "{reference["kind"]}" in version "{reference["apiVersion"]}"')
        if "scale" not in kind.subresources:
            raise Unscalable(f"{kind.group_resource} does not implement the scale subresource")
        scale: Obj = {}
        with contextlib.suppress(NotFound):
            scale = await self.client.get(kind.group_resource, reference["name"], namespace, subresource="scale")
        if scale.get("metadata", {}).get("uid") != reference["uid"]:
            raise Unscalable(f'found no controllers for pod "{pod["metadata"]["name"]}"')
        return reference["uid"], int((scale.get("spec") or {}).get("replicas", 0))

    def _disrupted(self, budget: Obj, selected: Sequence[Obj], now: float) -> tuple[dict[str, str], float | None]:
        """The pods whose eviction was allowed and has not begun, and when to look at them again."""
        listed = (budget.get("status") or {}).get("disruptedPods") or {}
        left: dict[str, str] = {}
        soonest: float | None = None
        for pod in selected if listed else ():
            name = pod["metadata"]["name"]
            if name not in listed or pods.is_terminating(pod):
                continue
            wait_s = times.parse_seconds(listed[name]) + DELETION_TIMEOUT_S - now
            if wait_s < 0:
                text = f"Pod was expected by PDB {key_of(budget)} to be deleted but it wasn't"
                self.events.event(pod, "Warning", "NotDeleted", text)
                continue
            left[name] = listed[name]
            soonest = wait_s if soonest is None else min(soonest, wait_s)
        return left, soonest

    async def _write(self, budget: Obj, status: Obj) -> None:
        changed = {**budget, "metadata": {**budget["metadata"]}, "status": status}
        await self.client.update(RESOURCE, changed, subresource="status")


def _shown(selector: Obj) -> str:
    """A selector as Go prints its structure, which is how Kubernetes tells of it."""
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{e['key']},Operator:{e['operator']},Values:[{' '.join(e.get('values') or ())}],}},"
        for e in selector.get("matchExpressions") or ()
    )
    parts = f"MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},"
    return f"&LabelSelector{{{parts}}}"


def _conditions(budget: Obj, status: str, reason: str, message: str) -> list[Obj]:
    listed = (budget.get("status") or {}).get("conditions") or []
    old = conditions.find(listed, "DisruptionAllowed")
    generation = budget["metadata"].get("generation", 0)
    new: Obj = {
        "type": "DisruptionAllowed",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": times.now(),
    }
    if old is not None and old["status"] == status:
        new["lastTransitionTime"] = old["lastTransitionTime"]
    return conditions.put(listed, new, moved=("status", "reason", "message", "observedGeneration"))


def _relevant(pod: Obj) -> tuple[object, ...]:
    return pod["metadata"].get("labels"), pods.is_ready(pod), pods.is_terminating(pod)
