"""The decision: which node a pod of a template goes to, or why to none. A pure function of the snapshot.

Nodes that are being cleared for other pods (nominees) are judged twice, with those pods there and without, and must do both
times: they may come or not.

Source: pkg/scheduler/schedule_one.go, framework/runtime (RunFilterPluginsWithNominatedPods) and framework/types.go (FitError:
the texts), v1.34.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kubelite.scheduler.framework import ALL, Filter, Framework, Memory, Refusal, Scope, State
from kubelite.scheduler.snapshot import Floats, Mask, PodInfo, Snapshot
from kubelite.scheduler.templates import Template

#: What the plugins that run before preemption say when they can't help; its place is in every failure's text.
NO_CLAIMS = "no new claims to deallocate"
NO_NODES = "no nodes available to schedule pods"
NOT_HELPFUL = "Preemption is not helpful for scheduling"

#: The pods that wait for a node, by its name: those that a pod must leave room for.
Nominees = Mapping[str, Sequence[PodInfo]]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a pod fits no node."""

    nodes: int
    #: How many nodes failed for each reason.
    reasons: dict[str, int]
    #: The plugins that refused nodes.
    plugins: frozenset[str]
    #: A refusal that is not about nodes, in place of reasons.
    refusal: str = ""
    #: Rows where removing pods might help.
    resolvable: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))

    @property
    def may_preempt(self) -> bool:
        """Whether preemption is reached: not after a refusal, but for that of the last plugin."""
        return bool(self.nodes) and (not self.refusal or "DynamicResources" in self.plugins)

    def message(self, preemption: str = "") -> str:
        """The text of the event and the condition."""
        if not self.nodes:
            return NO_NODES
        text = fit_error(self.nodes, self.refusal or listed(self.reasons))
        if self.refusal and not preemption:
            # What preemption says then is that it has no state of the plugins that were not reached; odd, but it is the text.
            return f"{text} not found"
        return f"{text} {NO_CLAIMS}, preemption: {preemption}" if preemption else text


@dataclass(frozen=True, slots=True)
class Decision:
    """A node, or a diagnosis."""

    node: str = ""
    feasible: int = 0
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one node won't do: the reasons of the first plugin that says no."""

    plugin: str
    reasons: tuple[str, ...]
    unresolvable: bool


def fit_error(nodes: int, detail: str) -> str:
    return f"0/{nodes} nodes are available: {detail}." if detail else f"0/{nodes} nodes are available:"


def listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))


def decide(
    snapshot: Snapshot, framework: Framework, template: Template, *, nominees: Nominees | None = None, nominated: str = ""
) -> Decision:
    """`nominated` is the node that is kept for the pod itself: if it will do, no other is looked at."""
    try:
        state = framework.state(snapshot, template)
    except Refusal as e:
        refused = Diagnosis(snapshot.node_count, {}, frozenset((e.plugin,)), e.message, np.zeros(snapshot.size, np.bool_))
        return Decision(diagnosis=refused)
    feasible = _feasible(snapshot, framework, template, state)
    if nominees:
        _leave_room(snapshot, framework, template, state.memory, nominees, feasible)
    count = int(np.count_nonzero(feasible))
    if not count:
        return Decision(diagnosis=diagnose(snapshot, framework, template, nominees=nominees))
    if nominated in snapshot.rows and feasible[snapshot.rows[nominated]]:
        return Decision(nominated, 1)
    if count == 1:
        return Decision(snapshot.names[int(feasible.argmax())], 1)
    scores: Floats = np.where(feasible, state.row_scores, -1.0)
    for score, vector in state.node_scores:
        scores += score.weight * score.normalize(vector, feasible)
    state.memory.feasible = feasible
    for score in framework.cluster_scores:
        if score.applies(snapshot, template, state.memory):
            vector = score.score(snapshot, template, ALL, state.memory)
            scores += score.weight * score.normalize(vector, feasible)
    scores[~feasible] = -1.0
    return Decision(snapshot.names[int(scores.argmax())], count)


def _feasible(snapshot: Snapshot, framework: Framework, template: Template, state: State) -> Mask:
    feasible: Mask = state.nodes_pass & state.rows_pass
    for plugin in framework.cluster_filters:
        if plugin.applies(snapshot, template, state.memory):
            for failure in plugin.filter(snapshot, template, ALL, state.memory):
                feasible &= ~failure.mask
    return feasible


def _leave_room(
    snapshot: Snapshot, framework: Framework, template: Template, memory: Memory, nominees: Nominees, feasible: Mask
) -> None:
    """Takes out the nodes that won't do once their nominees are there. They count on their own node alone: where plugins look at
    pods anywhere, one node after the other is tried, else all together."""
    plugins = [plugin for plugin in framework.active(snapshot, template, memory) if plugin.scope is not Scope.NODES]
    kept = {node: infos for node, infos in nominees.items() if node in snapshot.rows and feasible[snapshot.rows[node]]}
    apart = any(plugin.scope is Scope.CLUSTER for plugin in plugins)
    for trial in ({node: infos} for node, infos in kept.items()) if apart else (kept,):
        rows = np.array([snapshot.rows[node] for node in trial], np.int64)
        with snapshot.with_pods(trial):
            for plugin in plugins:
                everywhere = plugin.scope is Scope.CLUSTER
                for failure in plugin.filter(snapshot, template, ALL if everywhere else rows, memory):
                    feasible[rows[failure.mask[rows] if everywhere else failure.mask]] = False


def diagnose(snapshot: Snapshot, framework: Framework, template: Template, *, nominees: Nominees | None = None) -> Diagnosis:
    """Runs the filters one after the other and counts for each node what the first one to refuse it said. Raises Refusal."""
    memory = framework.state(snapshot, template).memory
    active = framework.active(snapshot, template, memory)
    remaining = snapshot.alive.copy()
    unresolvable = np.zeros(snapshot.size, np.bool_)
    reasons: Counter[str] = Counter()
    plugins = set()
    for node, infos in (nominees or {}).items():
        row = snapshot.rows.get(node)
        if row is not None:
            found = rejection_with(snapshot, active, template, memory, row, infos)
            if found is not None:
                remaining[row] = False
                reasons.update(found.reasons)
                plugins.add(found.plugin)
                unresolvable[row] = found.unresolvable
    for plugin in active:
        refused = np.zeros(snapshot.size, np.bool_)
        for failure in plugin.filter(snapshot, template, ALL, memory):
            mask = failure.mask & remaining
            count = int(np.count_nonzero(mask))
            if count:
                reasons[failure.reason] += count
                plugins.add(plugin.name)
                refused |= mask
                unresolvable |= mask & failure.unresolvable
        remaining &= ~refused
    return Diagnosis(snapshot.node_count, dict(reasons), frozenset(plugins), resolvable=snapshot.alive & ~unresolvable)


def rejection(snapshot: Snapshot, plugins: Sequence[Filter], template: Template, memory: Memory, row: int) -> Rejection | None:
    """What the first of the plugins that refuses a node says of it, as the snapshot is now; None where it will do. For trials,
    with pods taken out or put in."""
    rows = slice(row, row + 1)
    for plugin in plugins:
        everywhere = plugin.scope is Scope.CLUSTER
        at = row if everywhere else 0
        failures = [f for f in plugin.filter(snapshot, template, ALL if everywhere else rows, memory) if f.mask[at]]
        if failures:
            unresolvable = any(f.unresolvable if isinstance(f.unresolvable, bool) else f.unresolvable[at] for f in failures)
            return Rejection(plugin.name, tuple(f.reason for f in failures), bool(unresolvable))
    return None


def rejection_with(
    snapshot: Snapshot, plugins: Sequence[Filter], template: Template, memory: Memory, row: int, nominees: Sequence[PodInfo]
) -> Rejection | None:
    """The same of a node that has to do with its nominees there and without them."""
    if nominees:
        with snapshot.with_pods({snapshot.names[row]: nominees}):
            found = rejection(snapshot, plugins, template, memory, row)
        if found is not None:
            return found
    return rejection(snapshot, plugins, template, memory, row)


def explain(
    snapshot: Snapshot, framework: Framework, template: Template, *, nominees: Nominees | None = None
) -> dict[str, dict[str, int]]:
    """What each score plugin gives each node that will do: {plugin: {node: weighted score}}; nothing where there is no choice."""
    try:
        state = framework.state(snapshot, template)
    except Refusal:
        return {}
    feasible = _feasible(snapshot, framework, template, state)
    _leave_room(snapshot, framework, template, state.memory, nominees or {}, feasible)
    rows = np.flatnonzero(feasible)
    found: dict[str, dict[str, int]] = {}
    state.memory.feasible = feasible
    for score in framework.scores if len(rows) > 1 else ():
        if score.applies(snapshot, template, state.memory):
            vector = score.normalize(score.score(snapshot, template, ALL, state.memory), feasible)
            found[score.name] = {snapshot.names[row]: int(score.weight * np.floor(vector[row])) for row in rows}
    return found
