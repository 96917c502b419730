"""DefaultPreemption: which pods of lower priority would have to go for a pod to fit, and from which node.

Works on the snapshot by trial: takes pods out, asks the filters, puts them back, and leaves the snapshot as it was. On each
node the victims are as few and as unimportant as possible; of the nodes the one is taken whose victims matter least.

Source: plugins/defaultpreemption, framework/preemption (order of the criteria, texts), v1.34.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kubelite.meta import selectors
from kubelite.meta.types import Obj
from kubelite.scheduler.decide import NOT_HELPFUL, Diagnosis, fit_error, fits, listed
from kubelite.scheduler.framework import Framework
from kubelite.scheduler.snapshot import PodInfo, Snapshot

NO_VICTIMS = "No preemption victims found for incoming pod"
#: No more candidates are looked for than this, or a tenth of the nodes.
MIN_CANDIDATES = 100
#: Nor once the filters were asked so often and there is one: nothing else is scheduled meanwhile.
MAX_TRIALS = 400


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node and the pods that would have to go, the most important first."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A candidate, or the text that says why there is none."""

    candidate: Candidate | None
    message: str = ""


def start_time(pod: Obj) -> str:
    return (pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp") or ""


def preempt(
    snapshot: Snapshot, framework: Framework, pod: PodInfo, diagnosis: Diagnosis, budgets: Mapping[str, Sequence[Obj]]
) -> Outcome:
    """`budgets` are the PodDisruptionBudgets by namespace."""
    if pod.obj["spec"].get("preemptionPolicy") == "Never":
        return Outcome(None, "not eligible due to preemptionPolicy=Never.")
    nominated = (pod.obj.get("status") or {}).get("nominatedNodeName")
    row = snapshot.rows.get(nominated) if nominated else None
    if row is not None and diagnosis.resolvable.size and diagnosis.resolvable[row] and _waits_for_victims(snapshot, row, pod):
        return Outcome(None, "not eligible due to a terminating pod on the nominated node.")
    rows = np.flatnonzero(diagnosis.resolvable)
    reasons: Counter[str] = Counter()
    unhelpful = snapshot.node_count - len(rows)
    if unhelpful:
        reasons[NOT_HELPFUL] = unhelpful
    wanted = max(MIN_CANDIDATES, len(rows) // 10)
    candidates: list[Candidate] = []
    trials = 0
    # From another node on for each pod, so that not all look at the same few.
    first = zlib.crc32(pod.uid.encode()) % len(rows) if len(rows) else 0
    for number in np.roll(rows, -first):
        if trials >= MAX_TRIALS and candidates:
            break
        found = _try_node(snapshot, framework, pod, int(number), budgets)
        if isinstance(found, Candidate):
            trials += len(snapshot.pods[int(number)]) + 1
            candidates.append(found)
            if len(candidates) >= wanted and any(not c.violations for c in candidates):
                break
        else:
            reasons.update(found)
    if not candidates:
        return Outcome(None, fit_error(snapshot.node_count, listed(reasons)))
    return Outcome(best(candidates))


def _waits_for_victims(snapshot: Snapshot, row: int, pod: PodInfo) -> bool:
    return any(
        info.terminating
        and info.priority < pod.priority
        and any(
            c.get("type") == "DisruptionTarget" and c.get("reason") == "PreemptionByScheduler"
            for c in (info.obj.get("status") or {}).get("conditions") or ()
        )
        for info in snapshot.pods[row].values()
    )


def _try_node(
    snapshot: Snapshot, framework: Framework, pod: PodInfo, row: int, budgets: Mapping[str, Sequence[Obj]]
) -> Candidate | dict[str, int]:
    """The victims on one node, or why there it can't be."""
    node = snapshot.names[row]
    possible = [info for info in snapshot.pods[row].values() if info.priority < pod.priority]
    if not possible:
        return {NO_VICTIMS: 1}
    removed: dict[str, PodInfo] = {}

    def remove(info: PodInfo) -> None:
        snapshot.remove_pod(info.uid)
        removed[info.uid] = info

    def put_back(info: PodInfo) -> None:
        snapshot.add_pod(node, info)
        del removed[info.uid]

    try:
        for info in possible:
            remove(info)
        reasons = fits(snapshot, framework, pod.template, row)
        if reasons:
            return reasons
        possible.sort(key=lambda info: (-info.priority, start_time(info.obj)))
        violating, harmless = _split_by_budgets(possible, budgets)
        victims, violations = [], 0
        for info in [*violating, *harmless]:
            put_back(info)
            if fits(snapshot, framework, pod.template, row):
                remove(info)
                victims.append(info)
                violations += info in violating
    finally:
        for info in list(removed.values()):
            put_back(info)
    if not victims:  # it fits as it is: the next attempt will see that
        return {}
    victims.sort(key=lambda info: (-info.priority, start_time(info.obj)))
    return Candidate(node, tuple(victims), violations)


def _split_by_budgets(infos: Sequence[PodInfo], budgets: Mapping[str, Sequence[Obj]]) -> tuple[list[PodInfo], list[PodInfo]]:
    """Pods whose eviction would break a disruption budget, and the others."""
    allowed: dict[tuple[str, str], int] = {}
    violating: list[PodInfo] = []
    harmless: list[PodInfo] = []
    for info in infos:
        broken = False
        for budget in budgets.get(info.namespace, ()) if info.template.labels else ():
            try:
                selector = selectors.from_object((budget.get("spec") or {}).get("selector"))
            except ValueError:
                continue  # an unreadable selector selects nothing
            status = budget.get("status") or {}
            if selector.is_everything or not selector.matches(info.template.labels):
                continue
            if info.name in (status.get("disruptedPods") or {}):
                continue
            key = info.namespace, budget["metadata"]["name"]
            allowed[key] = allowed.get(key, status.get("disruptionsAllowed", 0)) - 1
            broken = broken or allowed[key] < 0
        (violating if broken else harmless).append(info)
    return violating, harmless


def best(candidates: Sequence[Candidate]) -> Candidate:
    """Fewest broken budgets, then the least important first victim, the smallest sum of priorities, the fewest victims, and
    the latest start of the most important ones."""

    def badness(candidate: Candidate) -> tuple[int, int, int, int]:
        victims = candidate.victims
        total = sum(info.priority + 2**31 for info in victims)
        return candidate.violations, victims[0].priority if victims else -(2**31), total, len(victims)

    least = min(map(badness, candidates))
    equal = [candidate for candidate in candidates if badness(candidate) == least]

    def earliest_start(candidate: Candidate) -> str:
        highest = candidate.victims[0].priority if candidate.victims else 0
        return min((start_time(info.obj) for info in candidate.victims if info.priority == highest), default="")

    return max(equal, key=earliest_start)
