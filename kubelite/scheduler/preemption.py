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
from kubelite.scheduler.decide import NOT_HELPFUL, Diagnosis, Nominees, fit_error, listed, rejection_with
from kubelite.scheduler.framework import Filter, Framework, Scope
from kubelite.scheduler.snapshot import Ints, PodInfo, Snapshot

NO_VICTIMS = "No preemption victims found for incoming pod"
#: No more candidates are looked for than this, or a tenth of the nodes.
MIN_CANDIDATES = 100
#: Nor once the filters were asked so often and there is one: nothing else is scheduled meanwhile.
MAX_TRIALS = 1000
#: Later than any time: a pod that hasn't started is the first to go.
NOT_STARTED = "~"

Budgets = Mapping[str, Sequence[Obj]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node and the pods that would have to go, the most important first."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A candidate, or the text that says why there is none. `eligible`: there is none although the pod may preempt others."""

    candidate: Candidate | None
    message: str = ""
    eligible: bool = True


def start_time(pod: Obj) -> str:
    return (pod.get("status") or {}).get("startTime") or NOT_STARTED


def importance(info: PodInfo) -> tuple[int, str]:
    """The more important of two pods comes first: by priority, then the one that runs longer."""
    return -info.priority, start_time(info.obj)


def preempt(
    snapshot: Snapshot,
    framework: Framework,
    pod: PodInfo,
    diagnosis: Diagnosis,
    budgets: Budgets,
    nominees: Nominees | None = None,
) -> Outcome:
    """`budgets` are the PodDisruptionBudgets by namespace."""
    if pod.obj["spec"].get("preemptionPolicy") == "Never":
        return Outcome(None, "not eligible due to preemptionPolicy=Never.", eligible=False)
    nominated = (pod.obj.get("status") or {}).get("nominatedNodeName")
    row = snapshot.rows.get(nominated) if nominated else None
    if row is not None and diagnosis.resolvable[row] and _waits_for_victims(snapshot, row, pod):
        return Outcome(None, "not eligible due to a terminating pod on the nominated node.", eligible=False)
    rows = np.flatnonzero(diagnosis.resolvable)
    reasons: Counter[str] = Counter()
    unhelpful = snapshot.node_count - len(rows)
    if unhelpful:
        reasons[NOT_HELPFUL] = unhelpful
    candidates: list[Candidate] = []
    if len(rows) and snapshot.least_priority >= pod.priority:
        reasons[NO_VICTIMS] = len(rows)
    elif len(rows):
        trial = _Trial(snapshot, framework, pod, budgets, nominees or {})
        candidates = _candidates(trial, rows, pod, reasons)
    if not candidates:
        return Outcome(None, fit_error(snapshot.node_count, listed(reasons)))
    return Outcome(best(candidates))


def _candidates(trial: "_Trial", rows: Ints, pod: PodInfo, reasons: Counter[str]) -> list[Candidate]:
    wanted = min(len(rows), max(MIN_CANDIDATES, len(rows) // 10))
    found: list[Candidate] = []
    # From another node on for each pod, so that not all look at the same few.
    for number in np.roll(rows, -(zlib.crc32(pod.uid.encode()) % len(rows))):
        outcome = trial.on(int(number))
        if isinstance(outcome, Candidate):
            found.append(outcome)
            if trial.count >= MAX_TRIALS or (len(found) >= wanted and any(not c.violations for c in found)):
                break
        else:
            reasons.update(outcome)
    return found


def _waits_for_victims(snapshot: Snapshot, row: int, pod: PodInfo) -> bool:
    return any(
        info.terminating
        and info.priority < pod.priority
        and any(
            c.get("type") == "DisruptionTarget" and c.get("reason") == "PreemptionByScheduler" and c.get("status") == "True"
            for c in (info.obj.get("status") or {}).get("conditions") or ()
        )
        for info in snapshot.pods[row].values()
    )


class _Trial:
    """What the trials on one node after the other share."""

    def __init__(self, snapshot: Snapshot, framework: Framework, pod: PodInfo, budgets: Budgets, nominees: Nominees) -> None:
        self._snapshot, self._pod, self._budgets, self._nominees = snapshot, pod, budgets, nominees
        #: How often the filters were asked.
        self.count = 0
        state = framework.state(snapshot, pod.template)
        self._memory, self._nodes_pass = state.memory, state.nodes_pass
        self._active = framework.active(snapshot, pod.template, state.memory)
        #: Those that have something else to say when pods are gone.
        self._of_pods: list[Filter] = [plugin for plugin in self._active if plugin.scope is not Scope.NODES]

    def on(self, row: int) -> Candidate | Sequence[str]:
        """The victims on one node, or the reasons why there it can't be."""
        snapshot, node = self._snapshot, self._snapshot.names[row]
        possible = [info for info in snapshot.pods[row].values() if info.priority < self._pod.priority]
        if not possible:
            return (NO_VICTIMS,)
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
            reasons = self._reasons(row)
            if reasons:
                return reasons
            violating, harmless = _split_by_budgets(sorted(possible, key=importance), self._budgets)
            victims, violations = [], 0
            for info in [*violating, *harmless]:
                put_back(info)
                if self._reasons(row):
                    remove(info)
                    victims.append(info)
                    violations += info in violating
        finally:
            for info in list(removed.values()):
                put_back(info)
        if not victims:  # it fits as it is: the next attempt will see that
            return ()
        return Candidate(node, tuple(sorted(victims, key=importance)), violations)

    def _reasons(self, row: int) -> Sequence[str]:
        self.count += 1
        nominees = self._nominees.get(self._snapshot.names[row], ())
        plugins = self._of_pods if self._nodes_pass[row] else self._active
        found = rejection_with(self._snapshot, plugins, self._pod.template, self._memory, row, nominees)
        return () if found is None else found.reasons


def _split_by_budgets(infos: Sequence[PodInfo], budgets: Budgets) -> tuple[list[PodInfo], list[PodInfo]]:
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
        return candidate.violations, victims[0].priority, total, len(victims)

    least = min(map(badness, candidates))
    equal = [candidate for candidate in candidates if badness(candidate) == least]

    def earliest_start(candidate: Candidate) -> str:
        highest = candidate.victims[0].priority
        return min(start_time(info.obj) for info in candidate.victims if info.priority == highest)

    return max(equal, key=earliest_start)
