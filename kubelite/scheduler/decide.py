"""The decision: which node a pod of a template goes to, or why to none. A pure function of the snapshot.

Source: pkg/scheduler/schedule_one.go and framework/types.go (FitError: the texts), v1.34.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from kubelite.scheduler.framework import ALL, Framework, Refusal, Scope
from kubelite.scheduler.snapshot import Floats, Mask, Snapshot
from kubelite.scheduler.templates import Template

#: What the plugins that run before preemption say when they can't help; its place is in every failure's text.
NO_CLAIMS = "no new claims to deallocate"
NO_NODES = "no nodes available to schedule pods"
NOT_HELPFUL = "Preemption is not helpful for scheduling"


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

    def message(self, preemption: str = "") -> str:
        """The text of the event and the condition."""
        if not self.nodes:
            return NO_NODES
        if self.refusal:
            # What preemption says then is that it has no state of the plugins that were not reached; odd, but it is the text.
            return f"{fit_error(self.nodes, self.refusal)} not found"
        text = fit_error(self.nodes, listed(self.reasons))
        return f"{text} {NO_CLAIMS}, preemption: {preemption}" if preemption else text


@dataclass(frozen=True, slots=True)
class Decision:
    """A node, or a diagnosis."""

    node: str = ""
    feasible: int = 0
    diagnosis: Diagnosis | None = None


def fit_error(nodes: int, detail: str) -> str:
    return f"0/{nodes} nodes are available: {detail}." if detail else f"0/{nodes} nodes are available:"


def listed(reasons: dict[str, int]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))


def decide(snapshot: Snapshot, framework: Framework, template: Template) -> Decision:
    try:
        state = framework.state(snapshot, template)
        feasible = state.nodes_pass & state.rows_pass
        for plugin in framework.cluster_filters:
            if plugin.applies(snapshot, template, state.memory):
                for failure in plugin.filter(snapshot, template, ALL, state.memory):
                    feasible &= ~failure.mask
    except Refusal as e:
        refused = Diagnosis(snapshot.node_count, {}, frozenset((e.plugin,)), e.message, np.zeros(snapshot.size, np.bool_))
        return Decision(diagnosis=refused)
    count = int(np.count_nonzero(feasible))
    if not count:
        return Decision(diagnosis=diagnose(snapshot, framework, template))
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


def diagnose(snapshot: Snapshot, framework: Framework, template: Template) -> Diagnosis:
    """Runs the filters one after the other and counts for each node what the first one to refuse it said."""
    memory = framework.state(snapshot, template).memory
    remaining = snapshot.alive.copy()
    unresolvable = np.zeros(snapshot.size, np.bool_)
    reasons: Counter[str] = Counter()
    plugins = set()
    for plugin in framework.filters:
        if not plugin.applies(snapshot, template, memory):
            continue
        refused = np.zeros(snapshot.size, np.bool_)
        for failure in plugin.filter(snapshot, template, ALL, memory):
            mask = failure.mask & remaining
            found = int(np.count_nonzero(mask))
            if found:
                reasons[failure.reason] += found
                plugins.add(plugin.name)
                refused |= mask
                unresolvable |= mask & failure.unresolvable
        remaining &= ~refused
    return Diagnosis(snapshot.node_count, dict(reasons), frozenset(plugins), resolvable=snapshot.alive & ~unresolvable)


def fits(snapshot: Snapshot, framework: Framework, template: Template, row: int) -> dict[str, int]:
    """What speaks against one node as the snapshot is now: reasons, none where it fits. For trials, with pods taken out."""
    state = framework.state(snapshot, template)
    if not state.nodes_pass[row]:
        return {"node": 1}
    found: dict[str, int] = {}
    rows = np.array([row], np.int64)
    for plugin in framework.filters:
        if plugin.scope is Scope.NODES or not plugin.applies(snapshot, template, state.memory):
            continue
        where = rows if plugin.scope is Scope.ROW else ALL
        at = 0 if plugin.scope is Scope.ROW else row
        for failure in plugin.filter(snapshot, template, where, state.memory):
            if failure.mask[at]:
                found[failure.reason] = 1
        if found:
            break
    return found
