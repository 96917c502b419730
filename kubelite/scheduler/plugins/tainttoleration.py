"""TaintToleration: taints that a pod doesn't tolerate keep it away (NoSchedule, NoExecute) or make a node worse
(PreferNoSchedule).

Source: plugins/tainttoleration, component-helpers ToleratesTaint, v1.34.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from kubelite.meta.types import Obj
from kubelite.scheduler.framework import MAX_SCORE, Change, ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.snapshot import Floats, Mask, Snapshot, Taint, taints_of
from kubelite.scheduler.templates import Template


def tolerates(tolerations: Sequence[Obj], taint: Taint) -> bool:
    key, value, effect = taint
    for toleration in tolerations:
        if toleration.get("effect") and toleration["effect"] != effect:
            continue
        if toleration.get("key") and toleration["key"] != key:
            continue
        operator = toleration.get("operator") or "Equal"
        if operator == "Exists" or (operator == "Equal" and toleration.get("key") and (toleration.get("value") or "") == value):
            return True
    return False


def _tolerates_set(tolerations: Sequence[Obj], taints: Iterable[Taint]) -> bool:
    return all(taint[2] == "PreferNoSchedule" or tolerates(tolerations, taint) for taint in taints)


def _tolerates_all(tolerations: Sequence[Obj], node: Obj) -> bool:
    return _tolerates_set(tolerations, taints_of(node))


def tolerated(snapshot: Snapshot, tolerations: Sequence[Obj]) -> Mask:
    """The nodes whose NoSchedule and NoExecute taints are all tolerated. Decided once for each set of taints that nodes have."""
    passing = [_tolerates_set(tolerations, taints) for taints in snapshot.taint_sets]
    result: Mask = np.array(passing, np.bool_)[snapshot.taint_ids]
    return result


class TaintToleration:
    name: ClassVar = "TaintToleration"
    scope: ClassVar = Scope.NODES
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_TAINTS))
    weight: ClassVar = 3.0

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return len(snapshot.taint_sets) > 1

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        mask = ~tolerated(snapshot, template.tolerations)
        return [Failure("node(s) had untolerated taint(s)", mask[rows], unresolvable=True)]

    def helps(self, change: Change, template: Template) -> bool:
        tolerations = template.tolerations
        was = change.old is not None and _tolerates_all(tolerations, change.old)
        return not was and _tolerates_all(tolerations, change.new)

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        """The number of PreferNoSchedule taints that are not tolerated."""
        soft = [t for t in template.tolerations if t.get("effect") in (None, "", "PreferNoSchedule")]
        counts = [
            sum(taint[2] == "PreferNoSchedule" and not tolerates(soft, taint) for taint in taints)
            for taints in snapshot.taint_sets
        ]
        result: Floats = np.array(counts, np.float64)[snapshot.taint_ids][rows]
        return result

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        most = scores[feasible].max()
        return MAX_SCORE - np.floor(MAX_SCORE * scores / most) if most else np.full_like(scores, MAX_SCORE)
