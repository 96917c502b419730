"""pods/eviction: a delete that asks the pod's disruption budget first.

Source: kubernetes pkg/registry/core/pod/storage/eviction.go, v1.34.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kubelite.meta import errors, selectors, times
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry import deletes, updates, writes
from kubelite.registry.contract import Attributes, DeleteOptions, Target, WriteOptions
from kubelite.registry.subresources.bindings import with_condition
from kubelite.store.contract import Entry

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

#: More evictions than this may not wait for the budget's controller to notice them.
MAX_DISRUPTED_PODS = 2000
#: A conflict with another writer of the pod is tried again so often.
ATTEMPTS = 20


async def evict(registry: "Registry", target: Target, eviction: Obj, options: WriteOptions) -> Entry:
    """Deletes the pod if its disruption budget allows.

    Raises:
        TooManyRequests: the budget does not allow it now. NotFound; Conflict: a precondition does not hold.
    """
    from kubelite.registry.subresources import success

    meta = dict(eviction.get("metadata") or {})
    if meta.get("name", "") != target.name:
        raise errors.BadRequest("name in URL does not match name in Eviction object")
    writes.match_namespace(target, meta)
    eviction = {**eviction, "metadata": meta}
    wanted, dry_run = _delete_options(eviction.get("deleteOptions") or {})
    options = replace(options, dry_run=options.dry_run or dry_run)
    attributes = Attributes(
        "CREATE",
        target,
        eviction,
        None,
        options.user,
        options.dry_run,
        {},
        ("policy", "v1", "Eviction"),
        options.warnings,
    )
    await registry.admission.mutate(attributes)
    await registry.admission.validate(attributes)
    pod_target = Target(target.kind, target.namespace, target.name)
    for attempt in range(ATTEMPTS):
        pod = registry.parsed(await registry.get(pod_target))
        try:
            await _evict_once(registry, pod_target, pod, wanted, options)
            break
        except errors.Conflict:
            if wanted.precondition_resource_version or wanted.precondition_uid or attempt == ATTEMPTS - 1:
                raise
    return success()


def _delete_options(given: Obj) -> tuple[DeleteOptions, bool]:
    preconditions = given.get("preconditions") or {}
    wanted = DeleteOptions(
        grace_period_s=given.get("gracePeriodSeconds"),
        propagation_policy=given.get("propagationPolicy"),
        precondition_uid=preconditions.get("uid") or "",
        precondition_resource_version=preconditions.get("resourceVersion") or "",
    )
    return wanted, bool(given.get("dryRun"))


async def _evict_once(registry: "Registry", target: Target, pod: Obj, wanted: DeleteOptions, options: WriteOptions) -> None:
    phase = (pod.get("status") or {}).get("phase")
    ended = phase in ("Succeeded", "Failed") or bool(pod["metadata"].get("deletionTimestamp"))
    version = pod["metadata"]["resourceVersion"]
    if ended or phase == "Pending":
        pinned = wanted if ended or wanted.precondition_resource_version else _pinned(wanted, version)
        await _mark_and_delete(registry, target, pinned, options)
        return
    budgets = _budgets(registry, pod)
    if len(budgets) > 1:
        raise errors.ApiError(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            reason="",
            code=500,
        )
    if not budgets:
        await _mark_and_delete(registry, target, wanted, options)
        return
    budget = budgets[0]
    if not _is_ready(pod) and _unready_may_go(budget):
        # as the decision rests on the pod not being ready, it must still be this pod
        pinned = wanted if wanted.precondition_resource_version else _pinned(wanted, version)
        try:
            await _mark_and_delete(registry, target, pinned, options)
        except errors.Conflict as e:
            if wanted.precondition_resource_version:
                raise
            raise _busy(budget["metadata"]["name"]) from e
        return
    await _take_from(registry, budget, pod["metadata"]["name"], options)
    await _mark_and_delete(registry, target, wanted, options)


def _pinned(wanted: DeleteOptions, version: str) -> DeleteOptions:
    return replace(wanted, precondition_resource_version=version)


def _is_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _unready_may_go(budget: Obj) -> bool:
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    wanted = status.get("desiredHealthy", 0)
    return bool(wanted > 0 and status.get("currentHealthy", 0) >= wanted)


def _budgets(registry: "Registry", pod: Obj) -> list[Obj]:
    """The disruption budgets that select the pod."""
    kind = registry.kinds.preferred("poddisruptionbudgets.policy")
    labels = pod["metadata"].get("labels") or {}
    found = []
    for entry in registry.store.scan(kind.namespace_prefix(pod["metadata"]["namespace"])):
        budget = registry.parsed(entry)
        try:
            selector = selectors.from_object((budget.get("spec") or {}).get("selector"))
        except ValueError:
            continue  # a selector that cannot be read selects nothing
        if selector.matches(labels):
            found.append(budget)
    return found


async def _take_from(registry: "Registry", budget: Obj, pod_name: str, options: WriteOptions) -> None:
    """Takes one disruption from the budget and notes the pod in it."""
    kind = registry.kinds.preferred("poddisruptionbudgets.policy")
    meta = budget["metadata"]

    def make(current: Obj) -> Obj:
        status: dict[str, Any] = dict(current.get("status") or {})
        name = current["metadata"]["name"]
        if status.get("observedGeneration", 0) < current["metadata"].get("generation", 0):
            raise _busy(name)
        allowed = status.get("disruptionsAllowed", 0)
        disrupted = status.get("disruptedPods") or {}
        if allowed < 0:
            raise errors.Forbidden(f'poddisruptionbudget.policy "{name}" is forbidden: pdb disruptions allowed is negative')
        if len(disrupted) > MAX_DISRUPTED_PODS:
            raise errors.Forbidden(
                f'poddisruptionbudget.policy "{name}" is forbidden: DisruptedPods map too big - '
                "too many evictions not confirmed by PDB controller"
            )
        if allowed == 0:
            text = (
                f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods "
                f"and has {status.get('currentHealthy', 0)} currently"
            )
            raise errors.TooManyRequests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                causes=[Cause("", "DisruptionBudget", text)],
            )
        status["disruptionsAllowed"] = allowed - 1
        status["disruptedPods"] = {**disrupted, pod_name: times.now()}
        if allowed == 1:
            condition = {
                "type": "DisruptionAllowed",
                "status": "False",
                "reason": "InsufficientPods",
                "message": "",
                "observedGeneration": status.get("observedGeneration", 0),
            }
            changed = with_condition(status.get("conditions") or [], condition)
            status["conditions"] = [{k: v for k, v in c.items() if k != "lastProbeTime"} for c in changed]
        return {**current, "metadata": dict(current["metadata"]), "status": status}

    await updates.modify(registry, Target(kind, meta["namespace"], meta["name"]), make, dry_run=options.dry_run)


def _busy(budget: str) -> errors.TooManyRequests:
    return errors.TooManyRequests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        causes=[Cause("", "DisruptionBudget", f"The disruption budget {budget} is still being processed by the server.")],
        retry_after_s=10,
    )


async def _mark_and_delete(registry: "Registry", target: Target, wanted: DeleteOptions, options: WriteOptions) -> None:
    """Notes in the pod's conditions why it goes, then deletes it."""
    if not options.dry_run:

        def make(pod: Obj) -> Obj:
            deletes.check_preconditions(target, wanted, pod)
            status = dict(pod.get("status") or {})
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            }
            status["conditions"] = with_condition(status.get("conditions") or [], condition)
            return {**pod, "metadata": dict(pod["metadata"]), "status": status}

        entry = await updates.modify(registry, target, make)
        if wanted.precondition_resource_version:
            wanted = _pinned(wanted, str(entry.revision))
    await deletes.delete(registry, target, wanted, options, admit=False)
