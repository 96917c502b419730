"""PodTopologySpread: pods that match a selector spread over the values of a label (zones, hosts), as a must or a wish.

Where a pod has no constraints of its own, it spreads over hosts and zones by the selectors of its services and its owner.
Source: plugins/podtopologyspread (filtering.go, scoring.go), v1.34.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kubelite.meta.types import Obj
from kubelite.scheduler.framework import MAX_SCORE, Change, ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.owners import Owners
from kubelite.scheduler.plugins import nodeaffinity
from kubelite.scheduler.plugins.tainttoleration import tolerated
from kubelite.scheduler.snapshot import Counter, Floats, Ints, LabelColumn, Mask, Snapshot
from kubelite.scheduler.templates import SpreadConstraint, Template
from kubelite.scheduler.terms import in_namespace

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
NOT_MATCHED = "node(s) didn't match pod topology spread constraints"
NO_LABEL = f"{NOT_MATCHED} (missing required label)"


class PodTopologySpread:
    name: ClassVar = "PodTopologySpread"
    scope: ClassVar = Scope.CLUSTER
    events: ClassVar = frozenset(
        (
            ClusterEvent.NODE_ADDED,
            ClusterEvent.NODE_REMOVED,
            ClusterEvent.NODE_LABELS,
            ClusterEvent.NODE_TAINTS,
            ClusterEvent.POD_ASSIGNED,
            ClusterEvent.POD_CHANGED,
            ClusterEvent.POD_REMOVED,
        )
    )
    weight: ClassVar = 2.0

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.spread) or bool(self._wishes(template, memory))

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        musts = [c for c in template.spread if c.required]
        if not musts:
            return []
        undecided = np.ones(snapshot.size, np.bool_)
        unlabeled, uneven = np.zeros(snapshot.size, np.bool_), np.zeros(snapshot.size, np.bool_)
        for constraint in musts:  # the first that a node fails says why
            column = snapshot.column(constraint.topology_key)
            counted = self._counted(snapshot, template, musts, constraint, memory)
            totals = column.totals(self._counter(snapshot, template, constraint).counts, counted)
            present = column.present(counted)
            enough = np.count_nonzero(present) >= constraint.min_domains
            fewest = int(totals[present].min()) if enough else 0
            own = int(constraint.selector.matches(template.labels))
            unlabeled |= undecided & (column.ids < 0)
            undecided &= ~unlabeled
            uneven |= undecided & (totals[column.ids] + own - fewest > constraint.max_skew)
            undecided &= ~uneven
        failures = [Failure(NO_LABEL, unlabeled[rows], unresolvable=True), Failure(NOT_MATCHED, uneven[rows])]
        return [failure for failure in failures if failure.mask.any()]

    def helps(self, change: Change, template: Template) -> bool:
        musts = [c for c in template.spread if c.required]
        match change.event:
            case ClusterEvent.POD_ASSIGNED | ClusterEvent.POD_REMOVED:
                return _counts(musts, (change.new or change.old).template, template)
            case ClusterEvent.POD_CHANGED:
                before, after = change.old.template.labels, change.new.template.labels
                ours = change.new.namespace == template.namespace
                return ours and any(c.selector.matches(before) != c.selector.matches(after) for c in musts)
            case _:
                return _has_labels(musts, change.old) or _has_labels(musts, change.new)

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        """How many matching pods there are in the node's domains, weighed by the number of domains; NaN for nodes that don't
        take part."""
        wishes = self._wishes(template, memory)
        feasible = memory.feasible
        taking_part = feasible
        needed = wishes if template.spread else ()  # the defaults make do with the labels that there are
        for constraint in needed:
            taking_part = taking_part & (snapshot.column(constraint.topology_key).ids >= 0)
        total = np.zeros(snapshot.size, np.float64)
        for constraint in wishes:
            column = snapshot.column(constraint.topology_key)
            counts = self._counter(snapshot, template, constraint).counts
            if constraint.topology_key == HOSTNAME:
                per_node: Ints = counts
                domains = int(np.count_nonzero(taking_part))
            else:
                counted = self._counted(snapshot, template, needed, constraint, memory)
                per_node = column.totals(counts, counted)[column.ids]
                domains = _distinct(column, taking_part)
            total += np.where(column.ids >= 0, per_node * math.log(domains + 2) + (constraint.max_skew - 1), 0.0)
        total = np.floor(total + 0.5)
        if taking_part is not feasible:
            total[~taking_part] = np.nan
        return total[rows]

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        found = scores[feasible]
        apart = np.isnan(found).any()
        if apart:
            found = found[~np.isnan(found)]
            if not found.size:
                return np.zeros_like(scores)
        most, fewest = found.max(), found.min()
        result: Floats = np.full_like(scores, MAX_SCORE) if most == 0 else np.floor(MAX_SCORE * (most + fewest - scores) / most)
        if apart:
            result[np.isnan(scores)] = 0.0
        return result

    def _wishes(self, template: Template, memory: Memory) -> Sequence[SpreadConstraint]:
        if template.spread:
            return [c for c in template.spread if not c.required]
        found: tuple[int, Sequence[SpreadConstraint]] | None = memory.get(self.name)
        if found is None or found[0] != self._owners.version:
            selector = self._owners.selector_of(template)
            defaults = (
                []
                if selector is None
                else [
                    SpreadConstraint(HOSTNAME, max_skew=3, required=False, selector=selector),
                    SpreadConstraint(ZONE, max_skew=5, required=False, selector=selector),
                ]
            )
            found = memory[self.name] = self._owners.version, defaults
        return found[1]

    def _counter(self, snapshot: Snapshot, template: Template, constraint: SpreadConstraint) -> Counter:
        # An empty selector counts no pods here, although it matches all.
        if constraint.selector.is_everything:
            return Counter(snapshot.size)
        return snapshot.counter(in_namespace(template.namespace, constraint.selector, living_only=True))

    def _counted(
        self,
        snapshot: Snapshot,
        template: Template,
        needed: Sequence[SpreadConstraint],
        constraint: SpreadConstraint,
        memory: Memory,
    ) -> Mask:
        """The nodes whose pods count: those in a domain of each of `needed`, as the constraint's inclusion policies have it;
        remembered until a node changes."""
        key = self.name, *(c.topology_key for c in needed), constraint.honor_affinity, constraint.honor_taints
        found: tuple[int, Mask] | None = memory.get(key)
        if found is None or found[0] != snapshot.nodes_version:
            mask = snapshot.alive.copy()
            for other in needed:
                mask &= snapshot.column(other.topology_key).ids >= 0
            if constraint.honor_affinity:
                mask &= nodeaffinity.required(snapshot, template)
            if constraint.honor_taints:
                mask &= tolerated(snapshot, template.tolerations)
            found = memory[key] = snapshot.nodes_version, mask
        return found[1]


def _counts(constraints: Sequence[SpreadConstraint], other: Template, template: Template) -> bool:
    return other.namespace == template.namespace and any(c.selector.matches(other.labels) for c in constraints)


def _has_labels(constraints: Sequence[SpreadConstraint], node: Obj | None) -> bool:
    labels = ((node or {}).get("metadata") or {}).get("labels") or {}
    return node is not None and all(c.topology_key in labels for c in constraints)


def _distinct(column: LabelColumn, where: Mask) -> int:
    """How many values there are, no value counting as one."""
    return int(np.count_nonzero(column.present(where))) + bool((where & (column.ids < 0)).any())
